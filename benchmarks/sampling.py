"""Measuring side by side: contenders take turns in short slices, so that what disturbs one disturbs all."""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Literal

__all__ = ["Clock", "Contender", "Figure", "Plan", "Samples", "compare", "interleave", "peak_mib"]

Clock = Literal["cpu", "wall"]
"""What a call costs: the processor's time where it waits for nothing (other programs do not count then), else time."""

_MOST_CALLS = 1_000_000


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        quick: whether this only proves that the benchmarks work.
    """

    quick: bool = False

    @property
    def rounds(self) -> int:
        """How often each contender has its turn."""
        return 3 if self.quick else 15

    def slice(self, seconds: float) -> float:
        """How long one turn takes, in seconds."""
        return seconds / 10 if self.quick else seconds

    def size(self, full: int, quick: int) -> int:
        """How many there are of something."""
        return quick if self.quick else full


@dataclass(frozen=True)
class Contender:
    """One who takes part.

    Attributes:
        run: makes so many calls; this is timed.
        prepare: makes ready for so many calls; this is not.
        calls: how many calls a turn has; None finds out.
    """

    run: Callable[[int], object]
    prepare: Callable[[int], object] | None = None
    calls: int | None = None


@dataclass(frozen=True)
class Samples:
    """What was measured of each contender: seconds a call, one for each round, by both clocks."""

    cpu: dict[str, list[float]]
    wall: dict[str, list[float]]

    def of(self, name: str, clock: Clock) -> list[float]:
        """The seconds a call of one contender."""
        return (self.cpu if clock == "cpu" else self.wall)[name]

    def median(self, name: str, clock: Clock) -> float:
        """The median of them."""
        return median(self.of(name, clock))


@dataclass(frozen=True)
class Figure:
    """One number of the report.

    Attributes:
        name: by which `targets.toml` knows it.
        value: a ratio, or an amount.
        unit: of the value: `"times"` theirs, `"µs"`, `"MiB"` …
        ours: seconds a call; None where that is not what was measured.
        theirs: the same of whom we are compared with.
        samples: what the value is the middle of.
    """

    name: str
    value: float
    unit: str = "times"
    ours: float | None = None
    theirs: float | None = None
    samples: list[float] = field(default_factory=list)


def peak_mib() -> float:
    """The most memory that this process ever had, in MiB."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except FileNotFoundError:
        # In KiB, or on macOS in bytes; on Linux it would count what the process was forked from, too.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) / 1024


def interleave(contenders: Mapping[str, Contender], *, rounds: int, seconds: float) -> Samples:
    """Let contenders take turns, each round beginning with another one.

    Args:
        contenders: who takes part, by name.
        rounds: how many turns each has.
        seconds: how long a turn is, about.
    """
    calls = {name: one.calls or _calls(one, seconds) for name, one in contenders.items()}
    samples = Samples({name: [] for name in contenders}, {name: [] for name in contenders})
    gc.collect()
    gc.freeze()
    try:
        order = list(contenders.items())
        for _ in range(rounds):
            # Nobody always comes behind the same one, who may leave the disk busy.
            order.append(order.pop(0))
            for name, one in order:
                cpu, wall = _turn(one, calls[name])
                samples.cpu[name].append(cpu / calls[name])
                samples.wall[name].append(wall / calls[name])
    finally:
        gc.unfreeze()
    return samples


def _turn(one: Contender, calls: int) -> tuple[float, float]:
    if one.prepare is not None:
        one.prepare(calls)
    wall, cpu = time.perf_counter(), time.process_time()
    one.run(calls)
    return time.process_time() - cpu, time.perf_counter() - wall


def _calls(one: Contender, seconds: float) -> int:
    """Find out how many calls fill a turn, and warm up; the best of some, because what disturbs comes in bursts."""
    _turn(one, 1)
    calls = 1
    while True:
        taken = min(_turn(one, calls)[1] for _ in range(3))
        if taken >= seconds / 4 or calls >= _MOST_CALLS:
            return max(1, min(_MOST_CALLS, round(calls * seconds / max(taken, 1e-9))))
        calls *= 4


def compare(
    samples: Samples, prefix: str, *, ours: str = "portable", others: Sequence[str] | None = None, clock: Clock = "cpu"
) -> list[Figure]:
    """Set one contender against others: the median of the ratios within each round.

    Args:
        samples: of a measurement.
        prefix: the figures are called `PREFIX / OTHER`.
        ours: who is compared.
        others: with whom; all the others when left out.
        clock: by which time.
    """
    found = []
    mine = samples.of(ours, clock)
    for other in others if others is not None else [name for name in samples.cpu if name != ours]:
        ratios = [a / b for a, b in zip(mine, samples.of(other, clock), strict=True)]
        found.append(
            Figure(
                f"{prefix} / {other}",
                median(ratios),
                ours=median(mine),
                theirs=samples.median(other, clock),
                samples=ratios,
            )
        )
    return found
