"""A million of each: listing objects, receiving messages, iterating documents, each in a process of its own.

A process fills, another one reads, so that the memory is that of reading. What is compared is the time for each of a
million with that for each of a hundred thousand, which are read before and after.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import rmtree

import portable
from benchmarks.collection import document
from benchmarks.sampling import Figure, Plan, peak_mib

__all__ = ["measure"]

IN_A_FOLDER = 1000
AT_ONCE = 1000


# What is read of each filling, and whether reading leaves it there.
_READINGS: dict[str, tuple[tuple[str, ...], bool]] = {
    "objects": (("objects",), True),
    "objects in one folder": (("objects in one folder",), True),
    "messages": (("messages",), False),
    "documents": (("documents", "documents by an index"), True),
}


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure each, the smaller number around the larger one."""
    large, small = plan.size(1_000_000, 10_000), plan.size(100_000, 5_000)
    for filling, (readings, stays) in _READINGS.items():
        places = {size: folder / f"{filling} {size}" for size in (small, large)}
        for size, place in places.items():
            place.mkdir()
            _child("fill", filling, place, size)
        for what in readings:
            taken: list[tuple[float, float]] = []
            for size in (small, large, small):
                taken.append(_child("read", what, places[size], size))
                if size == small and not stays:
                    _child("fill", filling, places[size], size)
            (before, _), (seconds, mib), (after, _) = taken
            each, theirs = seconds / large, (before + after) / 2 / small
            yield Figure(f"scale: {what}", each / theirs, ours=each, theirs=theirs)
            yield Figure(f"scale: memory of {what}", mib, unit="MiB")
        for place in places.values():
            rmtree(place)


def _child(step: str, what: str, place: Path, size: int) -> tuple[float, float]:
    """The processor's seconds, and the most memory in MiB."""
    command = [sys.executable, "-m", "benchmarks.scale", step, what, str(place), str(size)]
    answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()  # noqa: S603 (ourselves)
    return float(answer[0]), float(answer[1])


def _objects(place: Path) -> portable.Bucket:
    return portable.open_bucket(f"file:{place}/bucket", durability="process")


def _fill_objects(what: str, place: Path, size: int) -> None:
    """As another program would, which is faster: each is a plain file."""
    with _objects(place) as bucket:
        bucket.check(write=True)
    in_a_folder = size if what.endswith("one folder") else IN_A_FOLDER
    for number in range(size):
        folder = place / "bucket" / f"{number // in_a_folder:04}"
        if number % in_a_folder == 0:
            folder.mkdir()
        os.close(os.open(f"{folder}/{number:07}.txt", os.O_CREAT | os.O_WRONLY))


def _read_objects(_: str, place: Path) -> Iterator[int]:
    with _objects(place) as bucket:
        for _one in bucket.list():
            yield 1


def _queue(place: Path) -> portable.Queue[bytes]:
    return portable.open_queue(f"sqlite:{place}/jobs.db", durability="process")


def _fill_messages(_: str, place: Path, size: int) -> None:
    with _queue(place) as queue:
        for _start in range(0, size, AT_ONCE):
            queue.send_many([b"x" * 200] * AT_ONCE)


def _read_messages(_: str, place: Path) -> Iterator[int]:
    with _queue(place) as queue:
        while messages := queue.receive(AT_ONCE, wait=0):
            queue.ack_many(messages)
            yield len(messages)


def _users(place: Path) -> portable.Collection[dict[str, object]]:
    return portable.open_collection(f"sqlite:{place}/users.db", durability="process", indexes=["city"])


def _fill_documents(_: str, place: Path, size: int) -> None:
    with _users(place) as users:
        for start in range(0, size, AT_ONCE):
            users.write_many(portable.Put(document(number, 5000)) for number in range(start, start + AT_ONCE))


def _read_documents(what: str, place: Path) -> Iterator[int]:
    with _users(place) as users:
        query = users.order_by("city") if what.endswith("index") else users.query(allow_scan=True)
        for _one in query:
            yield 1


_FILLS: dict[str, Callable[[str, Path, int], None]] = {
    "objects": _fill_objects,
    "messages": _fill_messages,
    "documents": _fill_documents,
}
_READS: dict[str, Callable[[str, Path], Iterator[int]]] = {
    "objects": _read_objects,
    "messages": _read_messages,
    "documents": _read_documents,
}


def _work(step: str, what: str, place: str, size: str) -> None:
    kind = what.split(maxsplit=1)[0]
    begun = time.process_time()
    if step == "fill":
        _FILLS[kind](what, Path(place), int(size))
    else:
        steps = _READS[kind](what, Path(place))
        # What is imported and opened for the first of them is no part of the others.
        found = next(steps)
        begun = time.process_time()
        found += sum(steps)
        assert found == int(size), f"{found} of {size} came"
    print(time.process_time() - begun, peak_mib())


if __name__ == "__main__":
    _work(*sys.argv[1:])
