"""Racing calls, for the suites of the async face; its sync twin is written by hand too."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

__all__ = ["race"]

T = TypeVar("T")


async def race(calls: Iterable[Callable[[], Awaitable[T]]]) -> list[T | BaseException]:
    """Start all calls at once; give each one's value or what it raised, in order."""

    async def run(call: Callable[[], Awaitable[T]]) -> T:
        return await call()

    return await asyncio.gather(*(run(call) for call in calls), return_exceptions=True)
