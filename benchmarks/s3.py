"""S3 on SeaweedFS: small objects and large files, against boto3 and obstore on the same server."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import timedelta
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import portable
from benchmarks.sampling import Clock, Contender, Figure, Plan, Samples, compare, interleave, peak_mib
from benchmarks.servers import serving

__all__ = ["measure"]

SMALL = 4096
THREADS = 16
TURN = 0.3
MIB = 1024 * 1024
WAYS = ["portable", "boto3", "obstore"]


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure all of it on one server."""
    with serving("seaweedfs", folder) as url:
        name = f"benchmark-{uuid.uuid4().hex[:8]}"
        with portable.open_bucket(url, name=name, create="if_missing") as bucket:
            yield from _small(plan, bucket, url, name)
        yield from _large(plan, url, name, folder)


def _small(plan: Plan, ours: Any, url: str, name: str) -> Iterator[Figure]:
    import obstore

    data = bytes(SMALL)
    store = _store(url, name)
    with closing(_client(url)) as client, ThreadPoolExecutor(THREADS) as pool:
        puts: dict[str, Callable[[], object]] = {
            "portable": partial(ours.put, "a/portable.bin", data),
            "boto3": partial(client.put_object, Bucket=name, Key="a/boto3.bin", Body=data),
            "obstore": partial(obstore.put, store, "a/obstore.bin", data, use_multipart=False),
        }
        gets: dict[str, Callable[[], object]] = {
            "portable": partial(ours.get, "a/portable.bin"),
            "boto3": lambda: client.get_object(Bucket=name, Key="a/boto3.bin")["Body"].read(),  # noqa: PLW0108 (each call asks anew)
            "obstore": lambda: obstore.get(store, "a/obstore.bin").bytes().to_bytes(),
        }
        for what, calls in {"put": puts, "get": gets}.items():
            one = {way: Contender(_repeated(call)) for way, call in calls.items()}
            samples = interleave(one, rounds=plan.rounds, seconds=plan.slice(TURN))
            yield from _both(samples, f"s3 4 KiB: {what}")
            many = {way: Contender(_at_once(pool, call), calls=THREADS * 8) for way, call in calls.items()}
            samples = interleave(many, rounds=plan.rounds, seconds=plan.slice(TURN))
            yield from _both(samples, f"s3 4 KiB: {what}, {THREADS} threads")


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


def _large(plan: Plan, url: str, name: str, folder: Path) -> Iterator[Figure]:
    """Move one file up and down, each way in a process of its own, whose memory is looked at."""
    size = plan.size(1024, 16)
    source = folder / "source"
    with source.open("wb") as file:
        for number in range(size):
            file.write(bytes([number % 251]) * MIB)
    peaks: list[float] = []
    for what in ("upload", "download"):
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        for number in range(plan.size(3, 1)):
            for way in WAYS[number % 3 :] + WAYS[: number % 3]:
                elapsed, peak = _moved(what, way, url, name, source)
                seconds[way].append(elapsed)
                if way == "portable":
                    peaks.append(peak)
        best = [min(pair) for pair in zip(seconds["boto3"], seconds["obstore"], strict=True)]
        ratios = [mine / other for mine, other in zip(seconds["portable"], best, strict=True)]
        yield Figure(
            f"s3 {size} MiB: {what} / the best of boto3 and obstore",
            median(ratios),
            ours=median(seconds["portable"]),
            theirs=median(best),
            samples=ratios,
        )
    yield Figure(f"s3 {size} MiB: memory", max(peaks), unit="MiB")


def _moved(what: str, way: str, url: str, name: str, source: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.s3", what, way, name, str(source)]
    # The URL holds a secret, which the list of processes would show.
    answer = subprocess.run(command, input=url, check=True, capture_output=True, text=True).stdout.split()  # noqa: S603 (ourselves)
    return float(answer[0]), float(answer[1])


def _client(url: str) -> Any:
    import boto3
    from botocore.config import Config

    options = dict(parse_qsl(urlsplit(url).query))
    return boto3.client(
        "s3",
        endpoint_url=options["endpoint"],
        region_name=options["region"],
        aws_access_key_id=options["access_key_id"],
        aws_secret_access_key=options["secret_access_key"],
        config=Config(max_pool_connections=64),
    )


def _store(url: str, name: str) -> Any:
    from obstore.store import S3Store

    options = dict(parse_qsl(urlsplit(url).query))
    return S3Store(
        name,
        config={field: options[field] for field in ("endpoint", "region", "access_key_id", "secret_access_key")},  # type: ignore[arg-type]  # its keys
        client_options={"allow_http": True, "timeout": timedelta(minutes=10)},
    )


def _move(what: str, way: str, name: str, source: Path, url: str) -> None:
    """Move the file, and print the seconds and the MiB that it took."""
    key, target = f"large/{way}.bin", source.with_name(f"{way}.out")
    if way == "portable":
        with portable.open_bucket(url, name=name) as bucket:
            bucket.exists(key)
            begun = time.perf_counter()
            if what == "upload":
                bucket.upload(source, key)
            else:
                bucket.download(key, target)
            elapsed = time.perf_counter() - begun
    elif way == "boto3":
        client = _client(url)
        client.head_bucket(Bucket=name)
        begun = time.perf_counter()
        if what == "upload":
            client.upload_file(str(source), name, key)
        else:
            client.download_file(name, key, str(target))
        elapsed = time.perf_counter() - begun
    else:
        import obstore

        store = _store(url, name)
        begun = time.perf_counter()
        if what == "upload":
            obstore.put(store, key, source, chunk_size=8 * MIB, max_concurrency=4)
        else:
            with target.open("wb") as file:
                for chunk in obstore.get(store, key).stream(min_chunk_size=8 * MIB):
                    file.write(chunk)
        elapsed = time.perf_counter() - begun
    if what == "download":
        assert target.stat().st_size == source.stat().st_size
        target.unlink()
    print(elapsed, peak_mib())


if __name__ == "__main__":
    _move(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), sys.stdin.read())
