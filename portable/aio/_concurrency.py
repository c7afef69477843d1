"""The few places where the two faces really differ; its sync twin is written by hand too."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import threading
from asyncio import Lock, sleep
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

from portable.deadlines import check_timeout
from portable.errors import DeadlineExceeded, PortableError
from portable.hooks import begun, end_all
from portable.threaded import Threaded
from portable.threads import Pool, in_own_thread

if TYPE_CHECKING:
    from portable.aio.resource import Resource
    from portable.arrivals import Arrivals
    from portable.batches import Page
    from portable.hooks import Running

__all__ = [
    "BinaryFile",
    "Host",
    "Lock",
    "Stop",
    "called",
    "chunks",
    "gather",
    "in_thread",
    "items_of",
    "iteration",
    "kept",
    "limit",
    "long_operation",
    "obtaining",
    "operation",
    "pause",
    "sleep",
    "wait_for_arrival",
    "work_together",
]

Stop = asyncio.Event
"""What tells a consumer or relay to end: the face's own event."""

_LOOK_EVERY = 0.1
_UNWIND_WITHIN = 5.0

_END: Any = object()

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound="Resource[Any]")
C = TypeVar("C", bound=contextlib.AbstractAsyncContextManager[Any])

IS_ASYNC = True
"""Which face this is, for what an application hands over: coroutine functions here, plain ones there."""


@contextlib.asynccontextmanager
async def limit(seconds: float | None) -> AsyncIterator[None]:
    """Bound the block: after so many seconds it ends with `DeadlineExceeded`; None is no limit."""
    scope = asyncio.timeout(seconds)
    try:
        async with scope:
            yield
    except TimeoutError as error:
        # One that did not come from here is the application's own, or says more than we could.
        if scope.expired() and not isinstance(error, PortableError):
            raise _expired() from error
        raise


class Host:
    """Where the drivers of one cloud run: the pool of threads that serves sync drivers."""

    def __init__(self) -> None:
        self.pool = Pool()

    def face(self, driver: Any) -> Any:
        """Give a driver the async face: its own where it has one."""
        if getattr(driver, "is_async", False):
            return driver
        twin = getattr(driver, "async_twin", None)
        return Threaded(driver, self.pool) if twin is None else twin()

    def forget(self) -> None:
        """Drop the threads of a parent process, after a fork."""
        self.pool.forget()

    async def close(self) -> None:
        """Stop every thread, once the calls under way are done."""
        loop, closed = asyncio.get_running_loop(), asyncio.Event()

        def close() -> None:
            try:
                self.pool.close()
            finally:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(closed.set)

        # In a thread, because what is under way may need the loop to come to its end.
        thread = threading.Thread(target=close, name="portable-close", daemon=True)
        thread.start()
        await closed.wait()
        thread.join()


def operation(
    method: Callable[Concatenate[R, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[R, P], Coroutine[Any, Any, T]]:
    """Make a method an operation: it opens the resource, keeps to `timeout`, and says in errors where it was."""
    return _around(method, bounded=True)


def long_operation(
    method: Callable[Concatenate[R, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[R, P], Coroutine[Any, Any, T]]:
    """Make a method an operation that bounds its own calls, because it waits or works as long as it is told."""
    return _around(method, bounded=False)


def _around(
    method: Callable[Concatenate[R, P], Coroutine[Any, Any, T]], *, bounded: bool
) -> Callable[Concatenate[R, P], Coroutine[Any, Any, T]]:
    name = method.__name__.lstrip("_")

    @functools.wraps(method)
    async def call(self: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        scope: asyncio.Timeout | None = None
        try:
            if "timeout" in kwargs:
                check_timeout(kwargs["timeout"])
            if not self._opened:
                await self._open()
            if self._hooks:
                return await _hooked(self, name, bounded, method, *args, **kwargs)
            if not bounded or self._instant:
                return await method(self, *args, **kwargs)
            # What `limit` does, without what its generator costs on every call.
            async with asyncio.timeout(_limit(self, kwargs)) as scope:
                return await method(self, *args, **kwargs)
        except PortableError as error:
            raise self._placed(error, name)  # noqa: B904 (the same error, which keeps its cause)
        except TimeoutError as error:
            if scope is None or not scope.expired():
                raise
            raise self._placed(_expired(), name) from error

    return call


def _limit(self: Resource[Any], kwargs: Mapping[str, Any]) -> float:
    asked: float | None = kwargs.get("timeout")
    return self._timeout if asked is None else asked


def _expired() -> DeadlineExceeded:
    return DeadlineExceeded("the timeout ran out before the answer came", maybe_applied=True)


async def _hooked(
    self: R,
    name: str,
    bounded: bool,  # noqa: FBT001 (what follows is the method's own)
    method: Callable[Concatenate[R, P], Coroutine[Any, Any, T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    running = begun(self._hooks, self.name, self.kind, self._provider, name)
    error: BaseException | None = None
    try:
        await _delayed(running, kwargs.get("timeout"), self._timeout)
        async with limit(_limit(self, kwargs) if bounded else None):
            return await method(self, *args, **kwargs)
    except BaseException as raised:
        error = raised
        raise
    finally:
        end_all(running, error)


async def _delayed(running: list[Running], asked: Any, usual: float) -> None:
    """Wait as long as the hooks want, within the time of the call."""
    limit = usual if asked is None else float(asked)
    for one in running:
        if one.delay:
            await sleep(min(one.delay, limit))
            limit -= one.delay
            if limit <= 0:
                raise DeadlineExceeded("the timeout ran out before anything was sent")


class Obtaining(Generic[C]):
    """A call that obtains something to hold: `await` gives it, and `async with` also gives it back at its end."""

    __slots__ = ("_call", "_held")

    def __init__(self, call: Coroutine[Any, Any, C]) -> None:
        self._call = call

    def __await__(self) -> Generator[Any, Any, C]:
        return self._call.__await__()

    async def __aenter__(self) -> C:
        self._held = await self._call
        await self._held.__aenter__()
        return self._held

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._held.__aexit__(kind, error, trace)


def obtaining(
    method: Callable[Concatenate[R, P], Coroutine[Any, Any, C]],
) -> Callable[Concatenate[R, P], Obtaining[C]]:
    """Let what a method obtains be held by `async with resource.method(…)`, without an `await` inside."""

    @functools.wraps(method)
    def call(self: R, /, *args: P.args, **kwargs: P.kwargs) -> Obtaining[C]:
        return Obtaining(method(self, *args, **kwargs))

    return call


def iteration(method: Callable[Concatenate[R, P], AsyncIterator[T]]) -> Callable[Concatenate[R, P], AsyncIterator[T]]:
    """Make a method that iterates an operation: it opens the resource, and says in errors where it was."""
    name = method.__name__.lstrip("_")

    @functools.wraps(method)
    async def steps(self: R, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        try:
            if "timeout" in kwargs:
                check_timeout(kwargs["timeout"])
            if not self._opened:
                await self._open()
            async with contextlib.aclosing(method(self, *args, **kwargs)) as source:  # type: ignore[type-var]  # generator functions alone come here
                if self._hooks:
                    # The operation that hooks see is the first step; the later ones are the caller's pace.
                    step = await _hooked(self, name, False, _first, source, timeout=kwargs.get("timeout"))
                    if step is _END:
                        return
                    yield step
                async for step in source:
                    yield step
        except PortableError as error:
            raise self._placed(error, name)  # noqa: B904 (the same error, which keeps its cause)

    return steps


async def _first(_: Resource[Any], source: AsyncIterator[T], *, timeout: Any) -> Any:  # noqa: ARG001 (the step keeps to it itself)
    return await anext(source, _END)


async def gather(calls: Iterable[Callable[[], Awaitable[T]]], *, concurrency: int, host: Host) -> list[T]:  # noqa: ARG001 (the sync twin needs the host)
    """Run calls side by side, `concurrency` at a time, and give their results in order; the first error ends all."""
    gate = asyncio.Semaphore(concurrency)

    async def one(call: Callable[[], Awaitable[T]]) -> T:
        async with gate:
            return await call()

    tasks = [asyncio.ensure_future(one(call)) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise


@contextlib.asynccontextmanager
async def kept(every: float, call: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """While the block runs, repeat `call` every so many seconds; an error of it ends the repeating, not the block."""

    async def repeat() -> None:
        while True:
            await sleep(every)
            try:
                await call()
            except PortableError:
                return

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def wait_for_arrival(arrivals: Arrivals, version: int, timeout: float) -> None:
    """Wait until something arrived since `version`, or `timeout` seconds are over."""
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()

    def wake() -> None:
        # The loop may be closed between the arrival and this call; then nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(arrived.set)

    subscription = arrivals.subscribe(wake)
    try:
        if arrivals.version() == version:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await arrived.wait()
    finally:
        subscription.close()


async def pause(stop: Stop | None, seconds: float) -> None:
    """Wait so many seconds, or until `stop` is set."""
    if stop is None:
        await sleep(seconds)
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


class BinaryFile:
    """What the readers and writers of objects are: the sync face's are files of the `io` module."""

    def __del__(self) -> None:
        """Write nothing: what was not closed is not committed."""


async def in_thread(host: Host, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call that blocks shortly, such as the reading of a local file, without holding up the loop."""
    return await asyncio.wrap_future(host.pool.submit(call, *args, **kwargs))


async def items_of(pages: AsyncIterator[Page[T]]) -> AsyncIterator[T]:
    """Give the items of one page after the other; the pages are closed with it."""
    async with contextlib.aclosing(pages) as source:  # type: ignore[type-var]  # a generator by every driver
        async for page in source:
            for item in page.items:
                yield item


async def chunks(source: Any, size: int, host: Host) -> AsyncIterator[Any]:
    """Give what a file or an iterable holds, sync or async; a file is read `size` bytes at a time."""
    read = getattr(source, "read", None)
    if read is None and hasattr(source, "__aiter__"):
        async for chunk in source:
            yield chunk
    elif read is None:
        steps = iter(source)
        while (chunk := await in_thread(host, next, steps, _END)) is not _END:
            yield chunk
    else:
        is_async = inspect.iscoroutinefunction(read)
        while chunk := await (read(size) if is_async else in_thread(host, read, size)):
            yield chunk


async def called(handler: Callable[[Any], Any], argument: Any) -> None:
    """Call an application's handler: a coroutine function here, any other in a thread of its own."""
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__):
        await handler(argument)
        return
    outcome = await asyncio.wrap_future(in_own_thread(handler, argument))
    if inspect.isawaitable(outcome):
        await outcome


async def work_together(work: Callable[[], Awaitable[None]], count: int, is_overdue: Callable[[], bool]) -> None:
    """Run `work` so many times side by side, until all have ended or `is_overdue()`; then what still runs is cancelled.

    The first error ends all. `is_overdue` is asked a few times a second.
    """
    tasks = [asyncio.ensure_future(work()) for _ in range(count)]
    running = set(tasks)
    try:
        while running and not is_overdue():
            done, running = await asyncio.wait(running, timeout=_LOOK_EVERY, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
    finally:
        for task in running:
            task.cancel()
        if running:
            # Bounded, because a handler may refuse to be cancelled.
            await asyncio.wait(running, timeout=_UNWIND_WITHIN)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()
