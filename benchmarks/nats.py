"""NATS: queue, stream and cache against nats-py itself, on one event loop and one server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import portable.aio
from benchmarks.sampling import Contender, Figure, Plan, compare, interleave
from benchmarks.servers import serving

__all__ = ["measure"]

BODY = b"\xff" * 200
BATCH = 100
TURN = 0.2

Pair = tuple[Callable[[], Awaitable[object]], Callable[[], Awaitable[object]]]


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure all of it on one server."""
    with serving("nats", folder) as url, asyncio.Runner() as runner:
        yield from runner.run(_measured(plan, url))


async def _measured(plan: Plan, url: str) -> list[Figure]:
    import nats

    name = f"benchmark-{uuid.uuid4().hex[:8]}"
    made: dict[str, Any] = {"name": name, "create": "if_missing"}
    figures: list[Figure] = []
    async with (
        await nats.connect(url) as client,
        portable.aio.open_queue(url, **made) as queue,
        portable.aio.open_stream(url, partitions=1, **made) as stream,
        portable.aio.open_cache(url, **made) as cache,
    ):
        js = client.jetstream()
        await js.add_stream(name=f"{name}-raw", subjects=[f"{name}-raw"], retention="workqueue")
        await js.add_stream(name=f"{name}-log", subjects=[f"{name}-log"])
        pull = await js.pull_subscribe(f"{name}-raw", durable="raw")
        bucket = await js.create_key_value(bucket=f"{name}-raw")
        await cache.set("key", BODY)
        await bucket.put("key", BODY)

        async def through_ours() -> None:
            await queue.send(BODY)
            (message,) = await queue.receive(wait=5)
            await message.ack()

        async def through_theirs() -> None:
            await js.publish(f"{name}-raw", BODY)
            (message,) = await pull.fetch(1, timeout=5)
            await message.ack_sync()

        async def batch_of_theirs() -> None:
            for acknowledged in [await js.publish_async(f"{name}-log", BODY) for _ in range(BATCH)]:
                await acknowledged

        calls: dict[str, Pair] = {
            "queue: send, receive and ack": (through_ours, through_theirs),
            f"stream: append {BATCH}": (lambda: stream.append_many([BODY] * BATCH), batch_of_theirs),
            "cache: get": (lambda: cache.get("key"), lambda: bucket.get("key")),
            "cache: set": (lambda: cache.set("key", BODY), lambda: bucket.put("key", BODY)),
        }
        for what, (ours, theirs) in calls.items():
            figures += await _compared(plan, f"nats {what}", ours, theirs)
    return figures


async def _compared(
    plan: Plan, name: str, ours: Callable[[], Awaitable[object]], theirs: Callable[[], Awaitable[object]]
) -> list[Figure]:
    loop = asyncio.get_running_loop()

    def repeated(call: Callable[[], Awaitable[object]]) -> Contender:
        async def many(calls: int) -> None:
            for _ in range(calls):
                await call()

        # The turns are taken in a thread, and what is measured runs on the loop.
        return Contender(lambda calls: asyncio.run_coroutine_threadsafe(many(calls), loop).result())

    contenders = {"portable": repeated(ours), "nats-py": repeated(theirs)}
    samples = await asyncio.to_thread(interleave, contenders, rounds=plan.rounds, seconds=plan.slice(TURN))
    return list(compare(samples, name, clock="wall"))
