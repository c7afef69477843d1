"""Redis: the cache against redis-py, many calls at once on one loop against threads, the queue against rq and kombu."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import portable
import portable.aio
from benchmarks.sampling import Contender, Figure, Plan, compare, interleave
from benchmarks.servers import serving

__all__ = ["measure"]

VALUE = b"\xff" * 200
AT_ONCE = 200
BATCH = 100
TURN = 0.2


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure all of it on one server."""
    with serving("redis", folder) as url:
        yield from _cache(plan, url)
        yield from _at_once(plan, url)
        yield from _queue(plan, url)


def _cache(plan: Plan, url: str) -> Iterator[Figure]:
    import redis

    with portable.open_cache(url, name="benchmark") as ours, redis.Redis.from_url(url) as theirs:
        batch = {f"key{number}": VALUE for number in range(BATCH)}
        ours.set_many(batch)
        theirs.mset(dict(batch))
        names = list(batch)
        calls: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "get": (lambda: ours.get("key1"), lambda: theirs.get("key1")),
            "set": (lambda: ours.set("key1", VALUE, ttl=600), lambda: theirs.set("key1", VALUE, ex=600)),
            f"get_many of {BATCH}": (lambda: ours.get_many(names), lambda: theirs.mget(names)),
        }
        assert ours.get("key1") == theirs.get("key1") == VALUE
        for name, (mine, other) in calls.items():
            contenders = {"portable": _repeated(mine), "redis-py": _repeated(other)}
            samples = interleave(contenders, rounds=plan.rounds, seconds=plan.slice(TURN))
            yield from compare(samples, f"redis cache: {name}", clock="wall")


def _at_once(plan: Plan, url: str) -> Iterator[Figure]:
    """Measure calls made at once on one loop: by the native driver, and by the sync one in a pool of threads."""
    with asyncio.Runner() as runner, ThreadPoolExecutor() as pool, portable.open_cache(url, name="benchmark") as sync:
        native = runner.run(_opened(url))

        async def natively() -> None:
            await asyncio.gather(*(native.get("key1") for _ in range(AT_ONCE)))

        async def in_threads() -> None:
            loop = asyncio.get_running_loop()
            await asyncio.gather(*(loop.run_in_executor(pool, sync.get, "key1") for _ in range(AT_ONCE)))

        contenders = {
            "portable": _repeated(lambda: runner.run(natively())),
            "threads": _repeated(lambda: runner.run(in_threads())),
        }
        samples = interleave(contenders, rounds=plan.rounds, seconds=plan.slice(TURN))
        yield from compare(samples, f"redis cache: {AT_ONCE} gets at once", clock="wall")
        runner.run(native.close())


async def _opened(url: str) -> Any:
    cache = portable.aio.open_cache(url, name="benchmark")
    await cache.set("key1", VALUE)
    return cache


def _queue(plan: Plan, url: str) -> Iterator[Figure]:
    """Measure a message's way through: sent, received and acknowledged; rq's is a job, kombu's is Celery's broker."""
    import kombu
    import redis
    import rq

    name = f"benchmark-{uuid.uuid4().hex[:8]}"
    with (
        portable.open_queue(url, name=name, create="if_missing") as ours,
        redis.Redis.from_url(url) as client,
        kombu.Connection(url) as connection,  # pyright: ignore[reportPrivateImportUsage] # it is documented
        connection.SimpleQueue(f"{name}-kombu") as theirs,
    ):
        jobs = rq.Queue(f"{name}-rq", connection=client)

        def through_ours() -> None:
            ours.send(VALUE)
            (message,) = ours.receive(wait=5)
            message.ack()

        def through_rq() -> None:
            jobs.enqueue("benchmarks.redis.nothing", VALUE)
            found: Any = rq.Queue.dequeue_any([jobs], timeout=5, connection=client)
            found[0].delete()

        def through_kombu() -> None:
            theirs.put(VALUE)
            theirs.get(timeout=5).ack()

        contenders = {
            "portable": _repeated(through_ours),
            "rq": _repeated(through_rq),
            "kombu": _repeated(through_kombu),
        }
        samples = interleave(contenders, rounds=plan.rounds, seconds=plan.slice(TURN))
        yield from compare(samples, "redis queue: send, receive and ack", clock="wall")


def nothing(_: bytes) -> None:
    """Do the work of a job of rq."""


def _repeated(call: Callable[[], object]) -> Contender:
    def run(calls: int) -> None:
        for _ in range(calls):
            call()

    return Contender(run)
