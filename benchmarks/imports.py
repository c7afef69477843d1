"""What it costs to import, and to run the command; and that nothing of a vendor's comes along."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.sampling import Contender, Figure, Plan, Samples, compare, interleave

__all__ = ["measure"]

# What an import costs without the interpreter's own start.
_TIMED = "import time; begun = time.process_time(); {}; print(time.process_time() - begun)"
_IMPORTS = {
    "portable": "import portable",
    "boto3": "import boto3",
    "portable, one queue open": "import portable; portable.open_queue('memory:')",
}
_FOREIGN = (
    "boto3 botocore google azure obstore sqlalchemy alembic redis confluent_kafka kafka click rich asyncio "
    "concurrent.futures opentelemetry"
).split()
_LOADED = """
import sys, portable
with portable.open_queue('sqlite:{folder}/jobs.db') as queue, portable.open_cache('memory:') as cache:
    queue.send(b'1')
    cache.set('a', 1)
print(*sorted(set(sys.argv[1:]) & set(sys.modules)))
"""


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure in new interpreters, which take turns."""
    rounds = 3 if plan.quick else 15
    imports = {name: [] for name in _IMPORTS} | {}
    samples = Samples(imports, imports)
    for _ in range(rounds):
        for name, code in _IMPORTS.items():
            imports[name].append(float(_python("-c", _TIMED.format(code))))
    yield from compare(samples, "import", others=["boto3"])
    yield from compare(samples, "import", ours="portable, one queue open", others=["boto3"], name="import and open")
    commands = {
        "portable": Contender(lambda _: _cost("-m", "portable.cli", "--help"), calls=1),
        "import click": Contender(lambda _: _cost("-c", "import click"), calls=1),
    }
    del commands, interleave
    foreign = _python("-c", _LOADED.format(folder=folder), *_FOREIGN).split()
    yield Figure("import: modules of vendors loaded", float(len(foreign)), unit=", ".join(foreign) or "modules")
