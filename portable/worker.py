"""A worker process: handles the messages of a queue until it is asked to end, and loses none of them."""

from __future__ import annotations

import _thread
import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from portable.aio.message import Message as AioMessage
    from portable.aio.queue import Queue as AioQueue
    from portable.message import Message
    from portable.queue import Queue

__all__ = ["run", "run_async", "stopping"]

T = TypeVar("T")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def run(
    queue: Queue[T],
    handler: Callable[[Message[T]], object],
    *,
    concurrency: int = 1,
    max_messages: int | None = None,
    idle_timeout: float | None = None,
    drain_timeout: float = 30.0,
) -> int:
    """Consume a queue until SIGTERM or SIGINT, and then finish what is under way.

    A second signal does what it did before: SIGINT raises `KeyboardInterrupt`, so that what is under way is given back,
    and SIGTERM ends the process, so that it comes back with its lease. Called from another thread than the main one,
    signals are left alone.

    Args:
        queue: where messages come from.
        handler: called with each message; see `Queue.consume`.
        concurrency: how many handlers run at once, each in a thread when there are several.
        max_messages: return after so many.
        idle_timeout: return when nothing arrived for so many seconds.
        drain_timeout: seconds that handlers have to finish once the process is asked to end.

    Returns:
        How many messages were handled.

    Raises:
        PortableError: the queue can no longer be received from.
        KeyboardInterrupt: SIGINT came twice.
    """
    with stopping() as stop:
        return queue.consume(
            handler,
            concurrency=concurrency,
            stop=stop,
            max_messages=max_messages,
            idle_timeout=idle_timeout,
            drain_timeout=drain_timeout,
        )


async def run_async(
    queue: AioQueue[T],
    handler: Callable[[AioMessage[T]], Awaitable[object]],
    *,
    concurrency: int = 1,
    max_messages: int | None = None,
    idle_timeout: float | None = None,
    drain_timeout: float = 30.0,
) -> int:
    """Consume a queue of `portable.aio` until SIGTERM or SIGINT; arguments and the rest as for `run`."""
    stop = asyncio.Event()
    with _stopping_loop(stop):
        return await queue.consume(
            handler,
            concurrency=concurrency,
            stop=stop,
            max_messages=max_messages,
            idle_timeout=idle_timeout,
            drain_timeout=drain_timeout,
        )


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """Set an event on the first SIGTERM or SIGINT while the block runs; the next one does what it did before."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before: dict[signal.Signals, Any] = {}

    def restore() -> None:
        for one, handler in before.items():
            signal.signal(one, handler)

    def ask(_: int, __: FrameType | None) -> None:
        restore()
        # The signal may have come while this very thread holds the event's lock, or one of `threading`'s own.
        _thread.start_new_thread(stop.set, ())

    before.update((one, signal.signal(one, ask)) for one in _SIGNALS)
    try:
        yield stop
    finally:
        restore()


@contextmanager
def _stopping_loop(stop: asyncio.Event) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    loop = asyncio.get_running_loop()

    def ask() -> None:
        for one in _SIGNALS:
            loop.remove_signal_handler(one)
        stop.set()

    for one in _SIGNALS:
        loop.add_signal_handler(one, ask)
    try:
        yield
    finally:
        for one in _SIGNALS:
            loop.remove_signal_handler(one)
