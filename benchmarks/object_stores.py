"""Buckets on object stores: small objects and large files, against the vendor's client and obstore on one server."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import portable
from benchmarks.sampling import Clock, Contender, Figure, Plan, Samples, compare, interleave, peak_mib
from benchmarks.servers import serving

__all__ = ["MIB", "THREADS", "Vendor", "measured", "moved", "options_of"]

SMALL = 4096
THREADS = 16
TURN = 0.3
MIB = 1024 * 1024

_PORTABLE, _OBSTORE = "portable", "obstore"


class Vendor(Protocol):
    """What is compared with at one vendor's store. A file of this package shows one, and is run to move a file."""

    group: str
    """What the figures are called by."""

    module: str
    """The file's module, which calls `moved` where it is run."""

    service: str
    """The service that stands for the vendor's."""

    sdk: str
    """The vendor's client."""

    obstore_writes: bool
    """Whether the service takes what obstore writes."""

    def client(self, url: str, name: str) -> Any:
        """Give the vendor's client of a bucket."""
        ...

    def put(self, client: Any, name: str, key: str, data: bytes) -> object:
        """Write an object by it."""
        ...

    def get(self, client: Any, name: str, key: str) -> bytes:
        """Read an object by it."""
        ...

    def upload(self, client: Any, name: str, key: str, source: Path) -> object:
        """Write a file by it, its fastest way."""
        ...

    def download(self, client: Any, name: str, key: str, target: Path) -> object:
        """Read a file by it, its fastest way."""
        ...

    def store(self, url: str, name: str) -> Any:
        """Give the store of obstore for a bucket."""
        ...


def options_of(url: str) -> dict[str, str]:
    """Give what a URL says behind its question mark."""
    return dict(parse_qsl(urlsplit(url).query))


def measured(vendor: Vendor, plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure all of it on one server."""
    with serving(vendor.service, folder) as url:
        name = f"benchmark-{uuid.uuid4().hex[:8]}"
        with portable.open_bucket(url, name=name, create="if_missing") as bucket:
            yield from _small(vendor, plan, bucket, url, name)
        yield from _large(vendor, plan, url, name, folder)


def _small(vendor: Vendor, plan: Plan, ours: Any, url: str, name: str) -> Iterator[Figure]:
    import obstore

    data = bytes(SMALL)
    store, client = vendor.store(url, name), vendor.client(url, name)
    ours.put("a/obstore.bin", data)
    puts: dict[str, Callable[[], object]] = {
        _PORTABLE: partial(ours.put, "a/portable.bin", data),
        vendor.sdk: partial(vendor.put, client, name, "a/sdk.bin", data),
    }
    if vendor.obstore_writes:
        puts[_OBSTORE] = partial(obstore.put, store, "a/obstore.bin", data, use_multipart=False)
    gets: dict[str, Callable[[], object]] = {
        _PORTABLE: partial(ours.get, "a/portable.bin"),
        vendor.sdk: partial(vendor.get, client, name, "a/sdk.bin"),
        _OBSTORE: lambda: obstore.get(store, "a/obstore.bin").bytes().to_bytes(),
    }
    turn = THREADS * plan.size(8, 1)
    with ThreadPoolExecutor(THREADS) as pool:
        for what, calls in {"put": puts, "get": gets}.items():
            one = {way: Contender(_repeated(call)) for way, call in calls.items()}
            samples = interleave(one, rounds=plan.rounds, seconds=plan.slice(TURN))
            yield from _both(samples, f"{vendor.group} 4 KiB: {what}")
            many = {way: Contender(_at_once(pool, call), calls=turn) for way, call in calls.items()}
            samples = interleave(many, rounds=plan.rounds, seconds=plan.slice(TURN))
            yield from _both(samples, f"{vendor.group} 4 KiB: {what}, {THREADS} threads")
    client.close()


def _both(samples: Samples, what: str) -> Iterator[Figure]:
    clocks: dict[str, Clock] = {"time": "wall", "CPU": "cpu"}
    for word, clock in clocks.items():
        yield from compare(samples, f"{what}, {word}", clock=clock)


def _repeated(call: Callable[[], object]) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for _ in range(calls):
            call()

    return run


def _at_once(pool: ThreadPoolExecutor, call: Callable[[], object]) -> Callable[[int], None]:
    def run(calls: int) -> None:
        share = -(-calls // THREADS)
        for done in [pool.submit(_repeated(call), share) for _ in range(THREADS)]:
            done.result()

    return run


def _large(vendor: Vendor, plan: Plan, url: str, name: str, folder: Path) -> Iterator[Figure]:
    """Move one file up and down, each way in a process of its own, whose memory is looked at."""
    size = plan.size(1024, 16)
    source = folder / "source"
    with source.open("wb") as file:
        for number in range(size):
            file.write(bytes([number % 251]) * MIB)
    peaks: list[float] = []
    for what in ("upload", "download"):
        others = [vendor.sdk, *([_OBSTORE] * (vendor.obstore_writes or what == "download"))]
        ways = [_PORTABLE, *others]
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(plan.size(3, 1)):
            turn = number % len(ways)
            for way in ways[turn:] + ways[:turn]:
                elapsed, peak = _moved_apart(vendor, what, way, (url, name), source)
                seconds[way].append(elapsed)
                if way == _PORTABLE:
                    peaks.append(peak)
        best = [min(round_) for round_ in zip(*(seconds[way] for way in others), strict=True)]
        ratios = [mine / other for mine, other in zip(seconds[_PORTABLE], best, strict=True)]
        yield Figure(
            f"{vendor.group} {size} MiB: {what} / {'the best of ' * (len(others) > 1)}{' and '.join(others)}",
            median(ratios),
            ours=median(seconds[_PORTABLE]),
            theirs=median(best),
            samples=ratios,
        )
    yield Figure(f"{vendor.group} {size} MiB: memory", max(peaks), unit="MiB")


def _moved_apart(vendor: Vendor, what: str, way: str, place: tuple[str, str], source: Path) -> tuple[float, float]:
    url, name = place
    command = [sys.executable, "-m", vendor.module, what, way, name, str(source)]
    # The URL holds a secret, which the list of processes would show.
    answer = subprocess.run(command, input=url, check=True, capture_output=True, text=True).stdout.split()  # noqa: S603 (ourselves)
    return float(answer[0]), float(answer[1])


def moved(vendor: Vendor) -> None:
    """Move the file that the command line names, and print the seconds and the MiB that it took."""
    what, way, name, path = sys.argv[1:]
    url, source = sys.stdin.read(), Path(path)
    # Where obstore does not write, it reads what we did.
    key = f"large/{way if way != _OBSTORE or vendor.obstore_writes else _PORTABLE}.bin"
    target = source.with_name(f"{way}.out")
    if way == _PORTABLE:
        with portable.open_bucket(url, name=name) as bucket:
            # The first request takes longer.
            bucket.exists(key)
            elapsed = _by_us(what, bucket, key, source, target)
    elif way == vendor.sdk:
        client = vendor.client(url, name)
        vendor.put(client, name, "large/first", b"")
        begun = time.perf_counter()
        if what == "upload":
            vendor.upload(client, name, key, source)
        else:
            vendor.download(client, name, key, target)
        elapsed = time.perf_counter() - begun
    else:
        elapsed = _by_obstore(what, vendor.store(url, name), key, source, target)
    if what == "download":
        assert target.stat().st_size == source.stat().st_size
        target.unlink()
    print(elapsed, peak_mib())


def _by_us(what: str, bucket: Any, key: str, source: Path, target: Path) -> float:
    begun = time.perf_counter()
    if what == "upload":
        bucket.upload(source, key)
    else:
        bucket.download(key, target)
    return time.perf_counter() - begun


def _by_obstore(what: str, store: Any, key: str, source: Path, target: Path) -> float:
    import obstore

    begun = time.perf_counter()
    if what == "upload":
        obstore.put(store, key, source, chunk_size=8 * MIB, max_concurrency=4)
    else:
        with target.open("wb") as file:
            for chunk in obstore.get(store, key).stream(min_chunk_size=8 * MIB):
                file.write(chunk)
    return time.perf_counter() - begun
