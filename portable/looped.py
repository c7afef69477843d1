"""Async-only drivers under sync code: they run on one loop thread per `Cloud`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from portable.errors import Closed

__all__ = ["LoopThread", "Looped"]

T = TypeVar("T")
_END = object()
_UNWIND_WITHIN = 5.0


class LoopThread:
    """One thread with an event loop, started by its first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, and wait for its result.

        Raises:
            Closed: the loop is closed, or was while the coroutine ran.
        """
        with self._lock:
            if self._closed:
                coroutine.close()
                raise Closed("the cloud is closed; connect again")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="portable-loop", daemon=True)
                self._thread.start()
            # Handed over under the lock, so that `close` finds every call.
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except CancelledError:
            if not self._closed:
                raise
            raise Closed("the cloud was closed while the call was under way", maybe_applied=True) from None
        except BaseException:
            future.cancel()
            raise

    def forget(self) -> None:
        """Drop the thread of a parent process, after a fork."""
        self._lock = threading.Lock()
        self._loop = self._thread = None

    def close(self) -> None:
        """Cancel the calls under way, and stop the loop and its thread."""
        with self._lock:
            self._closed = True
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            asyncio.run_coroutine_threadsafe(_wind_up(loop), loop).result()
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
            # A closed loop has closed its generators.
            with contextlib.suppress(Closed):
                self._loop.run(_close(steps))


async def _wind_up(loop: asyncio.AbstractEventLoop) -> None:
    running = asyncio.all_tasks(loop) - {asyncio.current_task(loop)}
    for task in running:
        task.cancel()
    if running:
        # Bounded, because a task may refuse to be cancelled.
        await asyncio.wait(running, timeout=_UNWIND_WITHIN)
    await loop.shutdown_asyncgens()


async def _next(steps: AsyncIterator[Any]) -> Any:
    return await anext(steps, _END)


async def _close(steps: Any) -> None:
    await steps.aclose()
