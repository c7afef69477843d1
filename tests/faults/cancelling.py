"""Callers that are cancelled at every moment of a call."""

from __future__ import annotations

import asyncio
from typing import Any

from portable.aio import open_cache, open_queue
from tests.patience import PATIENCE

__all__ = ["cancelled_locks_are_free", "cancelled_receives_give_back"]


def cancelled_receives_give_back(
    url: str, name: str, *, total: int, turns: int, wait: float = 0, counted: bool = True, **contract: Any
) -> None:
    """Cancel receives after more and more steps, and check that each message can still be had, once.

    Args:
        url: the server's URL.
        name: the queue's name, or that of what a test has for itself.
        total: how many messages there are.
        turns: how many receives are cancelled.
        wait: how long every other receive waits, in seconds.
        counted: whether a delivery that was taken back is not counted, which not every server can do.
        **contract: what else the queue is opened with.
    """

    async def main() -> None:
        how: dict[str, Any] = {"visibility_timeout": "10m", "create": "if_missing", **contract}
        async with open_queue(url, name=name, **how) as jobs:
            sent = set((await jobs.send_many([str(number) for number in range(total)])).succeeded)
            taken: list[str] = []
            for turn in range(turns):
                receiving = asyncio.create_task(jobs.receive(3, wait=wait if turn % 2 else 0))
                for _ in range(turn % 25):
                    await asyncio.sleep(0)
                receiving.cancel()
                try:
                    messages = await receiving
                except asyncio.CancelledError:
                    continue
                taken += [message.id for message in messages]
            while len(taken) < len(sent):
                messages = await jobs.receive(100, wait=PATIENCE)
                assert messages
                # A receive that was cancelled does not count as a delivery.
                assert not counted or all(message.delivery_count == 1 for message in messages)
                taken += [message.id for message in messages]
            assert sorted(taken) == sorted(sent)

    asyncio.run(main())


def cancelled_locks_are_free(url: str, name: str) -> None:
    """Cancel who asks for a lock after more and more steps, and check that nobody holds it."""

    async def main() -> None:
        async with open_cache(url, name=name, create="if_missing") as cache:
            await cache.set("k", 1)

            async def lock() -> Any:
                return await cache.lock("l", ttl=600)

            for turn in range(40):
                obtaining = asyncio.ensure_future(lock())
                for _ in range(turn % 20):
                    await asyncio.sleep(0)
                obtaining.cancel()
                outcome = (await asyncio.gather(obtaining, return_exceptions=True))[0]
                if not isinstance(outcome, BaseException):
                    await outcome.release()
            await (await cache.lock("l", ttl=600, wait=PATIENCE)).release()

    asyncio.run(main())
