"""The loop of a worker: receive, handle, acknowledge; hold the leases meanwhile, and stop without losing anything."""

from __future__ import annotations

import contextlib
import inspect
import logging
import random
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from portable import telemetry
from portable.aio._concurrency import IS_ASYNC, Lock, Stop, called, kept, pause, work_together
from portable.composing import at_least_one, seconds
from portable.errors import BatchError, InvalidArgument, PortableError
from portable.messages import Delivery

if TYPE_CHECKING:
    from portable.aio.message import Message
    from portable.aio.queue import Queue

__all__ = ["Consumer", "Handler", "log_failure"]

T = TypeVar("T")

Handler = Callable[["Message[T]"], Awaitable[object]]

_log = logging.getLogger("portable")

# `stop` is looked at between waits; one for a backend that is asked over the network and may bill for it is longer.
_LOCAL_WAIT = 0.25
_REMOTE_WAIT = 5.0
_LONGEST_RETRY = 300.0
_AHEAD = 0.5
"""Seconds that what is fetched ahead should last at most, so that nobody else could have handled it sooner."""
_LONGEST_TROUBLE = 30.0


def log_failure(resource: str, delivery: Delivery, error: Exception) -> None:
    """Say that a handler failed, and what it raised."""
    _log.warning(
        "%s: the handler of message %s failed (delivery %d)", resource, delivery.id, delivery.count, exc_info=error
    )


def _growing(attempt: int, longest: float) -> float:
    """Give seconds that double with each attempt, spread so that many do not come back at once."""
    return min(2.0 ** min(attempt - 1, 30), longest) * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, hides nothing)


class Consumer(Generic[T]):
    """One run of `Queue.consume`, whose arguments it takes.

    Each of its workers takes a message and handles it; whoever finds none ready fetches for all that are idle.
    """

    def __init__(
        self,
        queue: Queue[T],
        handler: Handler[T],
        *,
        concurrency: int,
        stop: Stop | None,
        max_messages: int | None,
        idle_timeout: float | None,
        drain_timeout: float,
    ) -> None:
        if not IS_ASYNC and inspect.iscoroutinefunction(handler):
            raise InvalidArgument("the handler is a coroutine function, which only a queue of the async face awaits")
        if max_messages:
            at_least_one(max_messages, "max_messages")
        self._queue = queue
        self._deliveries = queue._deliveries  # noqa: SLF001 (a consumer is a part of its queue)
        self._handler = handler
        self._concurrency = at_least_one(concurrency, "concurrency")
        self._stop = stop
        self._unclaimed = max_messages
        self._idle_timeout = None if idle_timeout is None else seconds(idle_timeout, "idle_timeout")
        self._drain_timeout = seconds(drain_timeout, "drain_timeout")
        self._fetching = Lock()
        # Never held while anything waits, so that it serves both faces.
        self._counting = threading.Lock()
        self._idle = 0
        self._busy = 0
        self._handled = 0
        self._troubles = 0
        self._ready: deque[Message[T]] = deque()
        # Where the backend gives and acknowledges many in a call: how many it gives, and how many are asked for.
        self._most_ahead: int = getattr(self._deliveries.driver, "consume_ahead", 0)
        self._ahead = self._concurrency
        self._fetched_at = 0.0
        self._fetched_all = False
        # Handled, and not yet acknowledged; one worker does it for all.
        self._unacked: dict[int, Message[T]] = {}
        self._acking = False
        self._held: dict[int, Message[T]] = {}
        self._missed: set[int] = set()
        self._last_seen = monotonic()
        self._halted_at: float | None = None
        self._error: PortableError | None = None
        # Nobody waits for the workers any more; one that could not be ended takes nothing new.
        self._over = False

    async def run(self) -> int:
        """Handle messages until there is a reason to stop; give how many were handled."""
        await self._deliveries.open()
        try:
            async with kept(max(self._deliveries.visibility / 3, 0.05), self._hold):
                await work_together(self._work, self._concurrency, self._is_overdue)
        finally:
            self._halt()
            self._over = True
            await self._give_back([message for message in list(self._held.values()) if not message.state])
        if self._error is not None:
            raise self._error
        return self._handled

    async def _work(self) -> None:
        while True:
            self._count(idle=1)
            try:
                message = await self._next()
            finally:
                self._count(idle=-1)
            if message is None:
                return
            await self._handle(message)

    async def _next(self) -> Message[T] | None:
        async with self._fetching:
            while True:
                # What was received is handled even when told to stop: to give it back would count as a delivery.
                if self._ready and not self._over:
                    return self._ready.popleft()
                wanted = self._wanted()
                if wanted < 1 or self._is_halted():
                    return None
                await self._fetch(wanted)
                if not self._ready and self._is_idle_for_long():
                    return None

    def _wanted(self) -> int:
        """Say how many to fetch: one for each that is idle, or, where it may be ahead, what is handled in a moment."""
        wanted = self._idle
        if self._most_ahead and wanted:
            lasted = monotonic() - self._fetched_at
            if lasted > _AHEAD:
                self._ahead = self._concurrency
            elif self._fetched_all:
                self._ahead = min(2 * self._ahead, max(self._most_ahead, self._concurrency))
            wanted = max(wanted, self._ahead)
        return wanted if self._unclaimed is None else min(wanted, self._unclaimed)

    async def _fetch(self, wanted: int) -> None:
        wait = _REMOTE_WAIT if self._deliveries.driver.arrivals is None else _LOCAL_WAIT
        if self._idle_timeout is not None:
            wait = min(wait, max(0.01, self._last_seen + self._idle_timeout - monotonic()))
        try:
            messages = await self._queue.receive(wanted, wait=wait)
        except PortableError as error:
            await self._wait_out(error)
            return
        self._troubles = 0
        self._fetched_at = monotonic()
        self._fetched_all = len(messages) == wanted
        if messages:
            self._last_seen = monotonic()
            self._held.update((id(message), message) for message in messages)
            self._ready.extend(messages)
            if self._unclaimed is not None:
                self._unclaimed -= len(messages)
            if self._over:
                # They came too late to be given back with the others.
                await self._give_back([message for message in messages if not message.state])

    async def _wait_out(self, error: PortableError) -> None:
        if not error.retryable:
            self._error = error
            self._halt()
            return
        self._troubles += 1
        delay = _growing(self._troubles, _LONGEST_TROUBLE)
        _log.warning("%s: cannot receive, trying again in %.1f s: %s", self._queue.name, delay, error)
        await pause(self._stop, delay)

    async def _handle(self, message: Message[T]) -> None:
        self._count(busy=1)
        try:
            try:
                with self._tracing(message):
                    await called(self._handler, message)
            except Exception as error:  # noqa: BLE001 (whatever the application raises)
                await self._failed(message, error)
            else:
                await self._done(message)
        except BaseException:
            # The process is about to end, or this call of consume is: somebody else shall have the message soon.
            self._halt()
            if not message.state:
                await self._give_back([message])
            raise
        finally:
            if id(message) not in self._unacked:
                self._held.pop(id(message), None)
            self._count(busy=-1, handled=1)
            self._last_seen = monotonic()

    async def _done(self, message: Message[T]) -> None:
        if message.state:
            return
        if self._most_ahead:
            await self._acknowledge(message)
            return
        try:
            await message.ack()
        except PortableError as error:
            self._say_unacked(message, error)

    async def _acknowledge(self, message: Message[T]) -> None:
        """Acknowledge a message with all that are handled meanwhile, or leave it to the worker that is at it."""
        with self._counting:
            self._unacked[id(message)] = message
            if self._acking:
                return
            self._acking = True
        try:
            while messages := self._next_unacked():
                try:
                    await self._queue.ack_many(messages)
                except PortableError as error:
                    whole = dict.fromkeys(range(len(messages)), error)
                    for index, one in (error.result.failed if isinstance(error, BatchError) else whole).items():
                        self._say_unacked(messages[index], one)
                for done in messages:
                    self._held.pop(id(done), None)
        except BaseException:
            self._acking = False
            raise

    def _next_unacked(self) -> list[Message[T]]:
        with self._counting:
            messages = list(self._unacked.values())
            self._unacked.clear()
            self._acking = bool(messages)
            return messages

    def _say_unacked(self, message: Message[T], error: PortableError) -> None:
        _log.warning("%s: message %s was handled and may come again: %s", self._queue.name, message.id, error)

    async def _failed(self, message: Message[T], error: Exception) -> None:
        log_failure(self._queue.name, message.delivery, error)
        if message.state:
            return
        delays = self._queue.capabilities.nack_delay
        delay = _growing(message.delivery_count, _LONGEST_RETRY) if delays else 0.0
        reason = f"{type(error).__name__}: {error}"
        try:
            await self._deliveries.nack(message.delivery, delay, self._queue._timeout, reason=reason)  # noqa: SLF001 (a consumer is a part of its queue)
            message.state = "nacked"
        except PortableError as trouble:
            _log.warning("%s: message %s comes back with its lease: %s", self._queue.name, message.id, trouble)

    async def _hold(self) -> None:
        """Extend the lease of every message in hand, unless its handler has had all the time there is."""
        if self._is_overdue():
            return
        held = [message for message in list(self._held.values()) if not message.state]
        try:
            answers = await self._deliveries.hold([message.delivery for message in held])
        except PortableError as error:
            _log.warning("%s: the leases of %d messages were not extended: %s", self._queue.name, len(held), error)
            return
        missed: set[int] = set()
        for message, answer in zip(held, answers, strict=True):
            # One that was settled meanwhile has no lease to lose.
            if answer is None or message.state:
                continue
            # One that is being settled looks the same: the next look tells.
            if id(message) not in self._missed:
                missed.add(id(message))
                continue
            self._held.pop(id(message), None)
            _log.warning("%s: the lease of message %s is lost; it may come again", self._queue.name, message.id)
        self._missed = missed

    async def _give_back(self, messages: list[Message[T]]) -> None:
        if not messages:
            return
        for message in messages:
            message.state = "nacked"
        # What cannot be given back comes back when its lease ends.
        with contextlib.suppress(PortableError):
            await self._deliveries.give_back([message.delivery for message in messages])

    def _tracing(self, message: Message[T]) -> AbstractContextManager[Any]:
        queue = self._queue
        if not queue._traced:  # noqa: SLF001 (a consumer is a part of its queue)
            return contextlib.nullcontext()
        return telemetry.handling(queue.name, queue._provider, message.attributes)  # noqa: SLF001 (the same)

    def _count(self, *, idle: int = 0, busy: int = 0, handled: int = 0) -> None:
        with self._counting:
            self._idle += idle
            self._busy += busy
            self._handled += handled

    def _halt(self) -> None:
        if self._halted_at is None:
            self._halted_at = monotonic()

    def _is_halted(self) -> bool:
        if self._stop is not None and self._stop.is_set():
            self._halt()
        return self._halted_at is not None

    def _is_overdue(self) -> bool:
        return self._is_halted() and monotonic() >= (self._halted_at or 0.0) + self._drain_timeout

    def _is_idle_for_long(self) -> bool:
        if self._idle_timeout is None or self._busy or monotonic() < self._last_seen + self._idle_timeout:
            return False
        self._halt()
        return True
