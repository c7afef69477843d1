"""The few places where the two faces really differ; its async twin is written by hand too."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import inspect
import io
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from threading import Lock
from time import sleep
from typing import TYPE_CHECKING, Any, BinaryIO, Concatenate, ParamSpec, TypeVar

from portable.deadlines import check_timeout
from portable.errors import DeadlineExceeded, InvalidArgument, PortableError
from portable.hooks import begun, end_all
from portable.threads import in_own_thread

if TYPE_CHECKING:
    from portable.arrivals import Arrivals
    from portable.batches import Page
    from portable.hooks import Running
    from portable.looped import LoopThread
    from portable.resource import Resource

__all__ = [
    "IS_ASYNC",
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

Stop = threading.Event
"""What tells a consumer or relay to end: the face's own event."""

_LOOK_EVERY = 0.1

_END: Any = object()

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R", bound="Resource[Any]")

IS_ASYNC = False
"""Which face this is, for what an application hands over: plain functions here, coroutine functions there."""


@contextlib.contextmanager
def limit(seconds: float | None) -> Iterator[None]:  # noqa: ARG001 (the async twin's signature)
    """Bound nothing: the sync face leaves every time limit to the driver."""
    yield


class Host:
    """Where the drivers of one cloud run: the loop thread that serves async-only drivers."""

    def __init__(self) -> None:
        self._loop: LoopThread | None = None
        self._lock = Lock()

    def face(self, driver: Any) -> Any:
        """Give a driver the sync face."""
        if not getattr(driver, "is_async", False):
            return driver
        from portable.looped import Looped, LoopThread  # noqa: PLC0415 (asyncio is for those who need it)

        with self._lock:
            if self._loop is None:
                self._loop = LoopThread()
        return Looped(driver, self._loop)

    def forget(self) -> None:
        """Drop the thread of a parent process, after a fork."""
        self._lock = Lock()
        if self._loop is not None:
            self._loop.forget()

    def close(self) -> None:
        """Stop every thread."""
        if self._loop is not None:
            self._loop.close()


def operation(method: Callable[Concatenate[R, P], T]) -> Callable[Concatenate[R, P], T]:
    """Make a method an operation: it opens the resource, and says in errors where it was."""
    name = method.__name__.lstrip("_")

    @functools.wraps(method)
    def call(self: R, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            if "timeout" in kwargs:
                check_timeout(kwargs["timeout"])
            if not self._opened:
                self._open()
            if self._hooks:
                return _hooked(self, name, method, *args, **kwargs)
            return method(self, *args, **kwargs)
        except PortableError as error:
            raise self._placed(error, name)  # noqa: B904 (the same error, which keeps its cause)

    return call


long_operation = operation
"""An operation that bounds its own calls; the sync face leaves every time limit to the driver."""


def _hooked(self: R, name: str, method: Callable[Concatenate[R, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    running = begun(self._hooks, self.name, self.kind, self._provider, name)
    error: BaseException | None = None
    try:
        _delayed(running, kwargs.get("timeout"), self._timeout)
        return method(self, *args, **kwargs)
    except BaseException as raised:
        error = raised
        raise
    finally:
        end_all(running, error)


def _delayed(running: list[Running], asked: Any, usual: float) -> None:
    """Wait as long as the hooks want, within the time of the call."""
    limit = usual if asked is None else float(asked)
    for one in running:
        if one.delay:
            sleep(min(one.delay, limit))
            limit -= one.delay
            if limit <= 0:
                raise DeadlineExceeded("the timeout ran out before anything was sent")


def obtaining(method: Callable[P, T]) -> Callable[P, T]:
    """Change nothing: what a plain method obtains can be held by `with` as it is."""
    return method


def iteration(method: Callable[Concatenate[R, P], Iterator[T]]) -> Callable[Concatenate[R, P], Iterator[T]]:
    """Make a method that iterates an operation: it opens the resource, and says in errors where it was."""
    name = method.__name__.lstrip("_")

    @functools.wraps(method)
    def steps(self: R, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        try:
            if "timeout" in kwargs:
                check_timeout(kwargs["timeout"])
            if not self._opened:
                self._open()
            with contextlib.closing(method(self, *args, **kwargs)) as source:  # type: ignore[type-var]  # generator functions alone come here
                if self._hooks:
                    # The operation that hooks see is the first step; the later ones are the caller's pace.
                    step = _hooked(self, name, _first, source, timeout=kwargs.get("timeout"))
                    if step is _END:
                        return
                    yield step
                yield from source
        except PortableError as error:
            raise self._placed(error, name)  # noqa: B904 (the same error, which keeps its cause)

    return steps


def _first(_: Resource[Any], source: Iterator[T], *, timeout: Any) -> Any:  # noqa: ARG001 (the step keeps to it itself)
    return next(source, _END)


def gather(calls: Iterable[Callable[[], T]], *, concurrency: int, host: Host) -> list[T]:  # noqa: ARG001 (the async twin's signature)
    """Run calls side by side, `concurrency` at a time, and give their results in order; the first error ends all."""
    todo = list(calls)
    if concurrency == 1 or len(todo) <= 1:
        return [call() for call in todo]
    with ThreadPoolExecutor(min(concurrency, len(todo)), thread_name_prefix="portable") as threads:
        futures = [threads.submit(contextvars.copy_context().run, call) for call in todo]
        try:
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            for future in futures:
                future.cancel()
        for future in futures:
            if not future.cancelled() and (error := future.exception()) is not None:
                raise error
        return [future.result() for future in futures]


@contextlib.contextmanager
def kept(every: float, call: Callable[[], object]) -> Iterator[None]:
    """While the block runs, repeat `call` every so many seconds; an error of it ends the repeating, not the block."""
    done = threading.Event()

    def repeat() -> None:
        while not done.wait(every):
            try:
                call()
            except PortableError:
                return

    # As a task of the async face would, it runs in the context of the caller: its calls belong to the same trace.
    run = functools.partial(contextvars.copy_context().run, repeat)
    thread = threading.Thread(target=run, name="portable-keep", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def wait_for_arrival(arrivals: Arrivals, version: int, timeout: float) -> None:
    """Wait until something arrived since `version`, or `timeout` seconds are over."""
    arrivals.wait(version, timeout)


def pause(stop: Stop | None, seconds: float) -> None:
    """Wait so many seconds, or until `stop` is set."""
    if stop is None:
        sleep(seconds)
    else:
        stop.wait(seconds)


class BinaryFile(io.BufferedIOBase, BinaryIO):
    """What the readers and writers of objects are: files of the `io` module."""

    def __del__(self) -> None:
        """Write nothing: what was not closed is not committed."""


def in_thread(host: Host, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:  # noqa: ARG001 (the async twin's signature)
    """Run a call that blocks shortly, such as the reading of a local file."""
    return call(*args, **kwargs)


def items_of(pages: Iterator[Page[T]]) -> Iterator[T]:
    """Give the items of one page after the other; the pages are closed with it."""
    with contextlib.closing(pages) as source:  # type: ignore[type-var]  # a generator by every driver
        for page in source:
            yield from page.items


def chunks(source: Any, size: int, host: Host) -> Iterator[Any]:  # noqa: ARG001 (the async twin's signature)
    """Give what a file or an iterable holds; a file is read `size` bytes at a time."""
    read = getattr(source, "read", None)
    if read is None:
        yield from source
    else:
        while chunk := read(size):
            yield chunk


def called(handler: Callable[[Any], Any], argument: Any) -> None:
    """Call an application's handler.

    Raises:
        InvalidArgument: it gave something to await, so nothing was done.
    """
    outcome = handler(argument)
    if inspect.isawaitable(outcome):
        if inspect.iscoroutine(outcome):
            outcome.close()
        raise InvalidArgument("the handler is asynchronous, and nothing awaits it here; use portable.aio")


def work_together(work: Callable[[], None], count: int, is_overdue: Callable[[], bool]) -> None:
    """Run `work` so many times side by side, until all have ended or `is_overdue()`; what still runs is left alone.

    The first error ends all. `is_overdue` is asked a few times a second.
    """
    running: set[Future[None]] = {in_own_thread(work) for _ in range(count)}
    while running and not is_overdue():
        done, running = wait(running, timeout=_LOOK_EVERY, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
