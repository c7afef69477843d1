"""Two wrappers that let each face use every driver: sync drivers under async code, and async drivers under sync code.

Sync drivers run in one bounded pool of threads per `Cloud`; a call that waits (its name starts with `wait_`) gets a
thread of its own, so that waiting never holds one of the pool. A driver whose calls never block (`blocking = False`)
is called in place. Async-only drivers run on one loop thread per `Cloud`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["LoopThread", "Looped", "Pool", "Threaded"]

T = TypeVar("T")
_END = object()


class Pool:
    """A bounded pool of threads that starts none before its first call."""

    def __init__(self, threads: int = 32) -> None:
        self._threads = threads
        self._executor: ThreadPoolExecutor | None = None
        self._lock = threading.Lock()

    def submit(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
        """Run `call` in a thread of the pool, in the context of the caller."""
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._threads, thread_name_prefix="portable")
            executor = self._executor
        return executor.submit(contextvars.copy_context().run, functools.partial(call, *args, **kwargs))

    def forget(self) -> None:
        """Drop the threads of a parent process, after a fork."""
        self._lock = threading.Lock()
        self._executor = None

    def close(self) -> None:
        """Stop every thread, once the calls under way are done."""
        with self._lock:
            executor, self._executor = self._executor, None
        if executor is not None:
            executor.shutdown(wait=True)


def in_own_thread(call: Callable[..., T], *args: Any, **kwargs: Any) -> Future[T]:
    """Run `call` in a thread made for it, for calls that wait."""
    future: Future[T] = Future()
    run = functools.partial(contextvars.copy_context().run, call, *args, **kwargs)

    def work() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(run())
        except BaseException as error:  # noqa: BLE001 (whatever it is, it belongs to whoever waits for the future)
            future.set_exception(error)

    threading.Thread(target=work, name="portable-wait", daemon=True).start()
    return future


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
        try:
            while True:
                step = await asyncio.wrap_future(self._pool.submit(next, steps, _END))
                if step is _END:
                    return
                yield step
        finally:
            steps.close()  # type: ignore[attr-defined]  # generator functions alone come here


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


def undone_by(undo: Callable[[Any, Any], None]) -> Callable[[T], T]:
    """Mark a driver's method whose result must be given back when its caller is gone: `undo(driver, result)`."""

    def mark(method: T) -> T:
        method.undo = undo  # type: ignore[attr-defined]  # functions take attributes
        return method

    return mark


def stays_sync(method: T) -> T:
    """Mark a driver's method that both faces call directly: it does not block, and returns no coroutine."""
    method.stays_sync = True  # type: ignore[attr-defined]  # functions take attributes
    return method


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
