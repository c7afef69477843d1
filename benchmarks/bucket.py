"""The file bucket against plain Python (4 KiB) and against `cp` (1 GiB)."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from shutil import rmtree

import portable
from benchmarks.sampling import Clock, Contender, Figure, Plan, compare, interleave

__all__ = ["measure"]

KEYS = [f"photos/{number}.jpg" for number in range(500)]
SMALL = os.urandom(4096)
MIB = 1 << 20


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure small objects at both durabilities, and large ones."""
    for durability in ("process", "power"):
        yield from _small(plan, folder / durability, durability)
    yield from _large(plan, folder)


def _small(plan: Plan, folder: Path, durability: str) -> Iterator[Figure]:
    plain = folder / "plain"
    (plain / "photos").mkdir(parents=True)
    bucket = portable.open_bucket(f"file:{folder / 'bucket'}", durability=durability)
    synced = durability == "power"

    def put(key: str) -> None:
        path = plain / key
        new = f"{path}.new"
        with open(new, "wb") as file:  # noqa: PTH123 (what plain Python does fastest)
            file.write(SMALL)
            if synced:
                file.flush()
                os.fsync(file.fileno())
        os.replace(new, path)  # noqa: PTH105 (the same)
        if synced:
            _sync(plain / "photos")

    def get(key: str) -> bytes:
        with open(f"{plain}/{key}", "rb") as file:  # noqa: PTH123 (the same)
            return file.read()

    clock: Clock = "wall" if synced else "cpu"
    seconds = plan.slice(0.1 if synced else 0.04)
    contenders = {"portable": _over(lambda key: bucket.put(key, SMALL)), "plain Python": _over(put)}
    samples = interleave(contenders, rounds=plan.rounds, seconds=seconds)
    yield from compare(samples, f"bucket {durability}: put 4 KiB", clock=clock)
    for key in KEYS:
        bucket.put(key, SMALL)
        put(key)
    if not synced:
        contenders = {"portable": _over(bucket.get), "plain Python": _over(get)}
        samples = interleave(contenders, rounds=plan.rounds, seconds=seconds)
        yield from compare(samples, "bucket: get 4 KiB")
    bucket.close()


def _over(call: Callable[[str], object]) -> Contender:
    def run(calls: int) -> None:
        for key in islice(cycle(KEYS), calls):
            call(key)

    return Contender(run)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _large(plan: Plan, folder: Path) -> Iterator[Figure]:
    """The best of some, because what disturbs a long copy is never in its favour."""
    size = plan.size(1024, 16)
    source = folder / "source"
    with source.open("wb") as file:
        for _ in range(size):
            file.write(os.urandom(MIB))
    bucket = folder / "large"
    out = folder / "out"
    found: dict[str, list[tuple[float, float]]] = {"cp": [], "upload": [], "put": [], "get": []}
    for _ in range(1 if plan.quick else 5):
        for what, taken in found.items():
            taken.append(_copied(what, source, out, bucket))
            # What is gone before the system has written it does not slow the next one down.
            out.unlink(missing_ok=True)
            if what != "put":
                rmtree(bucket, ignore_errors=True)
    cp = min(seconds for seconds, _ in found.pop("cp"))
    for what, taken in found.items():
        best = min(seconds for seconds, _ in taken)
        yield Figure(f"bucket: {what} {size} MiB / cp", best / cp, ours=best, theirs=cp)
    peak = max(mib for taken in found.values() for _, mib in taken)
    yield Figure(f"bucket: memory at {size} MiB", peak, unit="MiB")


def _copied(what: str, source: Path, out: Path, bucket: Path) -> tuple[float, float]:
    """Seconds, and the most memory in MiB."""
    if what == "cp":
        begun = time.perf_counter()
        subprocess.run(["cp", "--", source, out], check=True)  # noqa: S603, S607 (the system's own)
        return time.perf_counter() - begun, 0.0
    command = [sys.executable, "-m", "benchmarks.bucket", what, str(source), str(out), str(bucket)]
    seconds, mib = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()  # noqa: S603 (ourselves)
    return float(seconds), float(mib)


def _copy(what: str, source: str, out: str, folder: str) -> None:
    """In a process of its own: copy one large object, and print seconds and memory."""
    with portable.open_bucket(f"file:{folder}", durability="process") as bucket:
        begun = time.perf_counter()
        if what == "put":
            with open(source, "rb") as file:  # noqa: PTH123 (as users do)
                bucket.put("large", file)
        elif what == "upload":
            bucket.upload(source, "large")
        else:
            bucket.download("large", out)
        print(time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    _copy(*sys.argv[1:])
