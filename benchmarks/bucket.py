"""The file bucket against plain Python (4 KiB) and against `cp` (1 GiB)."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from shutil import rmtree

import portable
from benchmarks.sampling import Clock, Contender, Figure, Plan, compare, interleave, peak_mib

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
    source, bucket = folder / "source", folder / "large"
    with source.open("wb") as file:
        for _ in range(size):
            file.write(os.urandom(MIB))
        os.fsync(file.fileno())
    rounds = 1 if plan.quick else 5
    peaks: list[float] = []
    # The system slows down who writes while much is not on the disk yet: nothing is left there by the turn before.
    yield from _best(f"{size} MiB", ("upload", "put"), source, bucket, rounds=rounds, peaks=peaks)
    _copied("put", source, folder / "out", bucket)
    with (bucket / "large").open("rb") as file:
        os.fsync(file.fileno())
    yield from _best(f"{size} MiB", ("get",), source, bucket, rounds=rounds, peaks=peaks)
    yield Figure(f"bucket: memory at {size} MiB", max(peaks), unit="MiB")


def _best(
    size: str, what: tuple[str, ...], source: Path, bucket: Path, *, rounds: int, peaks: list[float]
) -> Iterator[Figure]:
    out = source.with_name("out")
    taken: dict[str, list[float]] = {one: [] for one in ("cp", *what)}
    for _ in range(rounds):
        for one, seconds in taken.items():
            elapsed, peak = _copied(one, source, out, bucket)
            seconds.append(elapsed)
            peaks.append(peak)
            out.unlink(missing_ok=True)
            if one in {"put", "upload"}:
                rmtree(bucket)
    best = {one: min(seconds) for one, seconds in taken.items()}
    for one in what:
        yield Figure(f"bucket: {one} {size} / cp", best[one] / best["cp"], ours=best[one], theirs=best["cp"])


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
        print(time.perf_counter() - begun, peak_mib())


if __name__ == "__main__":
    _copy(*sys.argv[1:])
