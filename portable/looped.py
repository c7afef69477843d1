"""Async-only drivers under sync code: they run on one loop thread per `Cloud`."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

__all__ = ["LoopThread", "Looped"]

T = TypeVar("T")
_END = object()


class LoopThread:
    """One thread with an event loop, started by its first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and wait for its result."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="portable-loop", daemon=True)
                self._thread.start()
            loop = self._loop
        future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def forget(self) -> None:
        """Drop the thread of a parent process, after a fork."""
        self._lock = threading.Lock()
        self._loop = self._thread = None

    def close(self) -> None:
        """Stop the loop and its thread."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


class Looped:
    """An async driver with the face of a sync one."""

    def __init__(self, driver: Any, loop: LoopThread) -> None:
        self._driver = driver
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        """Give the driver's attribute; a coroutine function comes back as a plain one."""
        member = getattr(self._driver, name)
        call: Callable[..., Any]
        if inspect.isasyncgenfunction(member):
            call = functools.partial(self._iterate, member)
        elif inspect.iscoroutinefunction(member):
            call = functools.partial(self._wait, member)
        else:
            return member
        self.__dict__[name] = call
        return call

    def _wait(self, member: Callable[..., Coroutine[Any, Any, T]], /, *args: Any, **kwargs: Any) -> T:
        return self._loop.run(member(*args, **kwargs))

    def _iterate(self, member: Callable[..., AsyncIterator[T]], /, *args: Any, **kwargs: Any) -> Iterator[T]:
        steps = member(*args, **kwargs)
        try:
            while True:
                step = self._loop.run(_next(steps))
                if step is _END:
                    return
                yield step
        finally:
            self._loop.run(_close(steps))


async def _next(steps: AsyncIterator[Any]) -> Any:
    return await anext(steps, _END)


async def _close(steps: Any) -> None:
    await steps.aclose()
