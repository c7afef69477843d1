"""Sync drivers under async code.

They run in one bounded pool of threads per `Cloud`; a call that waits (its name starts with `wait_`) gets a thread of
its own, so that waiting never holds one of the pool. A driver whose calls never block (`blocking = False`) is called
in place.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

from portable.threads import Pool, in_own_thread

__all__ = ["Threaded"]

T = TypeVar("T")
_END = object()


class Threaded:
    """A sync driver with the face of an async one."""

    def __init__(self, driver: Any, pool: Pool) -> None:
        self._driver = driver
        self._pool = pool
        self._inline = not getattr(driver, "blocking", True)

    def __getattr__(self, name: str) -> Any:
        """Give the driver's attribute; a method comes back as a coroutine function (or async iterator)."""
        member = getattr(self._driver, name)
        if not inspect.ismethod(member) or name.startswith("_") or hasattr(member, "stays_sync"):
            return member
        call: Callable[..., Any]
        if inspect.isgeneratorfunction(member):
            call = functools.partial(self._iterate, member)
        elif self._inline and not name.startswith("wait_"):
            call = functools.partial(_inline, member)
        else:
            start = in_own_thread if name.startswith("wait_") else self._pool.submit
            call = functools.partial(_awaited, start, member)
        # The next look-up of the same name finds the finished function.
        self.__dict__[name] = call
        return call

    async def _iterate(self, member: Callable[..., Iterator[Any]], *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        steps = member(*args, **kwargs)
        future: Future[Any] | None = None
        try:
            while True:
                future = self._pool.submit(next, steps, _END)
                step = await asyncio.wrap_future(future)
                if step is _END:
                    return
                yield step
        finally:
            # A cancelled step may still run in its thread, and only it can end before the generator is closed.
            if future is not None:
                future.add_done_callback(lambda _: steps.close())  # type: ignore[attr-defined]  # generator functions alone come here


async def _inline(member: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    return member(*args, **kwargs)


async def _awaited(start: Callable[..., Future[T]], member: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    future = start(member, *args, **kwargs)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        # The thread cannot be stopped; what it obtained for nobody is given back.
        undo = getattr(member, "undo", None)
        if undo is not None:
            future.add_done_callback(functools.partial(_give_back, undo, member))
        raise


def _give_back(undo: Callable[[Any, Any], None], member: Any, future: Future[Any]) -> None:
    if not future.cancelled() and future.exception() is None:
        undo(member.__self__, future.result())
