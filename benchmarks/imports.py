"""What it costs to import, and to run the command; and that nothing of a vendor's comes along."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.sampling import Figure, Plan, Samples, compare

__all__ = ["measure"]

# What the code costs without the interpreter's own start.
_TIMED = "import time; begun = time.process_time(); {}; print(time.process_time() - begun)"
_COMMAND = "import sys; sys.argv = ['portable', '--help']; from portable.cli import main; main()"
_FOREIGN = [
    "boto3",
    "botocore",
    "google.cloud",
    "azure",
    "obstore",
    "sqlalchemy",
    "alembic",
    "redis",
    "confluent_kafka",
    "click",
    "rich",
    "asyncio",
]
_LOADED = """
import sys, portable
with portable.open_queue('sqlite:{folder}/jobs.db') as queue, portable.open_cache('memory:') as cache:
    queue.send(b'1')
    cache.set('a', 1)
print(*sorted(set(sys.argv[1:]) & set(sys.modules)))
"""


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure in new interpreters, which take turns."""
    contenders: dict[str, Callable[[], float]] = {
        "portable": partial(_imported, "import portable"),
        "boto3": partial(_imported, "import boto3"),
        "portable and a queue": partial(_imported, "import portable; portable.open_queue('memory:').stats()"),
        "portable --help": partial(_process, _COMMAND),
        "import click": partial(_process, "import click"),
    }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(4 if plan.quick else 16):
        for name, cost in contenders.items():
            seconds = cost()
            # The first turn compiles and fills the system's cache.
            if turn:
                taken[name].append(seconds)
    samples = Samples(taken, taken)
    yield from compare(samples, "import", others=["boto3"])
    yield from compare(samples, "import and open a queue", ours="portable and a queue", others=["boto3"])
    yield from compare(samples, "import command", ours="portable --help", others=["import click"])
    foreign = _output(_LOADED.format(folder=folder), *_FOREIGN).split()
    yield Figure("import: foreign modules", float(len(foreign)), unit=" ".join(foreign) or "modules")


def _output(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True, text=True)  # noqa: S603 (our own code)
    return done.stdout


def _imported(code: str) -> float:
    return float(_output(_TIMED.format(code)))


def _process(code: str) -> float:
    """The processor's time of a whole interpreter that runs this."""
    before = _children()
    _output(code)
    return _children() - before


def _children() -> float:
    times = os.times()
    return times.children_user + times.children_system
