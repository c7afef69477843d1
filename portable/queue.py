# Generated from portable/aio/queue.py by tools/generate_sync.py; change that file, not this one.
"""Queues: messages that are each handled by one receiver, at least once; and subscriptions, queues fed by a topic."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import msgspec

from portable import telemetry, wire
from portable._concurrency import Stop, long_operation, operation
from portable.batches import BatchResult
from portable.batching import send_in_batches
from portable.bindings import Binding
from portable.capabilities import QueueCapabilities
from portable.composing import BodyCodec, Composer, at_least_one, seconds, several
from portable.consumer import Consumer, Handler
from portable.contracts import QueueContract
from portable.dead_letters import dead_letter_binding
from portable.deadlines import Deadline
from portable.deliveries import Deliveries
from portable.drivers import QueueDriver
from portable.errors import (
    BatchError,
    ConfigError,
    IntegrityError,
    InvalidArgument,
    LeaseLost,
    LimitExceeded,
    PortableError,
)
from portable.events import handle_pushed
from portable.message import Message
from portable.messages import Outgoing, QueueStats
from portable.offload import Offload
from portable.registry import provider
from portable.resource import Resource

if TYPE_CHECKING:
    from portable.limits import Guard

__all__ = ["Message", "Outgoing", "Queue", "QueueStats", "Subscription"]

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def _as(name: str) -> Callable[[F], F]:
    """Give an operation the name that its errors and spans show."""

    def rename(method: F) -> F:
        method.__name__ = name
        return method

    return rename


def _waiting(wait: float, timeout: float | None) -> float:
    """Give how long to wait: only a `timeout` that the caller asked for cuts it short."""
    checked = seconds(wait, "wait") if wait else 0.0
    return checked if timeout is None else min(checked, timeout)


class Queue(Resource[QueueDriver], Generic[T]):
    """A queue. Bodies are bytes, or JSON of the type that it was opened with.

    What was sent is delivered at least once, and is never lost once `send` returned. A received message is hidden
    from others until it is settled or its lease of `visibility_timeout` runs out; then it comes back. After
    `max_deliveries` it goes to the dead-letter queue with its body, attributes, the reason and its original id.
    """

    kind: ClassVar[str] = "queue"
    needs_cloud: ClassVar[bool] = True

    def __init__(self, binding: Binding[Any], make: Callable[[], QueueDriver], *, type: Any = None, **how: Any) -> None:
        """Bind the queue to a driver; `Cloud` calls this.

        Args:
            binding: what the config says.
            make: makes the driver, without any I/O.
            type: what bodies are; bytes when left out.
            how: as for every resource.
        """
        super().__init__(binding, make, **how)
        contract = self._contract
        if contract.max_deliveries < 1:
            raise ConfigError(f"max_deliveries = {contract.max_deliveries} in [resources.{self.name}] is less than 1")
        if contract.ordered and self.capabilities.ordered:
            # `ordered = true` implies the need.
            self._features |= {"ordered"}
        self._visibility = float(contract.visibility_timeout)
        self._codec = BodyCodec(type)
        self._traced = any(isinstance(hook, telemetry.Telemetry) for hook in self._hooks)
        self._guard = self._make_guard()
        self._composer = self._make_composer(contract)
        self._offload = Offload(self._offload_bucket, self.name) if contract.offload else None
        self._deliveries: Deliveries[T] = Deliveries(
            self,
            self._codec,
            self._offload,
            visibility=self._visibility,
            max_deliveries=contract.max_deliveries,
            buries=self._driver.buries,
        )
        self._dead: Queue[bytes] | None = None
        # Never held while anything waits, so that it serves both faces.
        self._making = threading.Lock()
        # Of a dead-letter queue: what is said of dead letters that the backend itself moved there.
        self._default_reason: str | None = None

    @property
    def capabilities(self) -> QueueCapabilities:
        """What the driver can do: features, as booleans, and limits, as numbers."""
        return self._driver.capabilities

    @property
    def _contract(self) -> QueueContract:
        contract: Any = self._binding.contract
        declared: QueueContract = contract
        return declared

    @operation
    def send(
        self,
        body: T | bytes | str,
        *,
        attributes: Mapping[str, str] | None = None,
        delay: float = 0.0,
        ordering_key: str | None = None,
        dedup_id: str | None = None,
        timeout: float | None = None,
    ) -> str:
        """Send one message; once this returns, the backend has it for good.

        Args:
            body: bytes or str (sent as UTF-8); with a `type`, a value of it.
            attributes: names to values, any UTF-8; names that start with `portable-` are reserved.
            delay: seconds before it can be received (`delay` capability).
            ordering_key: messages of one key are delivered in order, one at a time (`ordered` capability and contract).
            dedup_id: a repeat within five minutes is dropped (`dedup` capability).
            timeout: seconds.

        Returns:
            The message's id; for a dropped repeat, the id of the first.

        Raises:
            InvalidArgument: an argument that no backend would take.
            LimitExceeded: it is larger or later than the backend, or a cloud named in `guard.limits`, takes.
            Unsupported: it needs a capability that is lacking or not declared.
        """
        if self._offload is None and not self._traced:
            outgoing = self._composer.compose(body, attributes, delay, ordering_key, dedup_id)
        else:
            outgoing = self._specially(Outgoing(body, attributes, delay, ordering_key, dedup_id))  # type: ignore[arg-type]  # any mapping is made a dict when it is checked
        (answer,) = self._driver.send([outgoing], timeout=self._timeout if timeout is None else timeout)
        if isinstance(answer, str):
            return answer
        raise answer

    @long_operation
    def send_many(
        self, messages: Iterable[Any], *, return_errors: bool = False, timeout: float | None = None
    ) -> BatchResult[str]:
        """Send any number of messages: in order within an ordering key, side by side across keys.

        Args:
            messages: bodies, or `Outgoing` for those that need more.
            return_errors: return failures in the result instead of raising them.
            timeout: seconds for the whole batch; the contract's `timeout` for each call to the backend, when left out.

        Returns:
            Each message's id, or its error, in input order. After a failure the rest of that ordering key is not sent.

        Raises:
            BatchError: some were not sent; `.result` says which, why, and what was.
        """
        limit = Deadline(timeout, self._timeout)

        def send(chunk: list[Outgoing]) -> list[str | PortableError]:
            return self._driver.send(chunk, timeout=limit.left())

        return send_in_batches(
            messages,
            self._composer,
            send,
            special=None if self._offload is None and not self._traced else self._specially,
            max_batch=self.capabilities.max_batch,
            concurrency=self._driver.send_concurrency,
            host=self._host,
            return_errors=return_errors,
        )

    @long_operation
    def receive(
        self,
        max_messages: int = 1,
        *,
        wait: float = 1.0,
        visibility_timeout: float | None = None,
        timeout: float | None = None,
    ) -> list[Message[T]]:
        """Receive messages, each hidden from others until it is settled or its lease runs out.

        Args:
            max_messages: at most so many; there may be fewer although more are ready.
            wait: seconds to wait for the first when none is ready; 0 only looks.
            visibility_timeout: seconds until the lease runs out, instead of the contract's (`lease_per_receive`).
            timeout: seconds that the whole call may take, the wait included.

        Returns:
            The messages; an empty list does not mean that the queue is drained. A message whose body does not fit the
            queue's type is not among them: it is given back with a growing delay, so that a newer release can take it,
            and after its last delivery it goes to the dead-letter queue.

        Raises:
            Unsupported: a `visibility_timeout` that is lacking or not declared.
        """
        visibility = self._visibility
        if visibility_timeout is not None:
            visibility = self._checked_visibility(visibility_timeout)
        return self._deliveries.receive(
            min(at_least_one(max_messages, "max_messages"), self.capabilities.max_receive),
            wait=_waiting(wait, timeout),
            visibility=visibility,
            limit=self._timeout if timeout is None else timeout,
        )

    def consume(
        self,
        handler: Handler[T],
        *,
        concurrency: int = 1,
        stop: Stop | None = None,
        max_messages: int | None = None,
        idle_timeout: float | None = None,
        drain_timeout: float = 30.0,
    ) -> int:
        """Handle messages until told to stop.

        A message is acknowledged when its handler returns, given back with a growing delay when it raises (after the
        last delivery it goes to the dead-letter queue, with the exception as the reason), and its lease is extended
        while its handler runs. A handler may settle its message itself.

        Args:
            handler: called with each message.
            concurrency: how many handlers run at once.
            stop: set it to stop: handlers under way are finished, up to `drain_timeout`.
            max_messages: return after so many were handled.
            idle_timeout: return when nothing arrived for so many seconds.
            drain_timeout: seconds that handlers have to finish once `stop` is set; what is still running then is given
                back, or no longer held, to be handled by somebody else.

        Returns:
            How many messages were handled, those whose handler failed included.

        Raises:
            PortableError: the queue can no longer be received from; passing troubles are waited out.
        """
        try:
            return Consumer(
                self,
                handler,
                concurrency=concurrency,
                stop=stop,
                max_messages=max_messages,
                idle_timeout=idle_timeout,
                drain_timeout=drain_timeout,
            ).run()
        except PortableError as error:
            raise self._placed(error, "consume")  # noqa: B904 (the same error, which keeps its cause)

    @long_operation
    def handle_event(self, event: Any, handler: Handler[T]) -> dict[str, Any]:
        """Handle the messages of one event that a function service pushes.

        Args:
            event: what the service called the function with.
            handler: called with each message, one after the other; after a failure the rest of its ordering key is
                left to the next delivery.

        Returns:
            The service's partial-failure answer: it delivers again what failed, and nothing else.

        Raises:
            Unsupported: no function service pushes messages of this backend.
        """
        return handle_pushed(self, self._deliveries, event, handler, self._timeout)

    @long_operation
    def ack_many(self, messages: Iterable[Message[T]], *, timeout: float | None = None) -> None:
        """Remove messages for good; those acknowledged before are no error.

        Args:
            messages: received from this queue.
            timeout: seconds for the whole batch; the contract's `timeout` for each call to the backend, when left out.

        Raises:
            BatchError: some were not removed; `.result` says which and why.
        """
        limit = Deadline(timeout, self._timeout)
        given = list(several(messages, "messages"))
        for message in given:
            if not isinstance(message, Message):
                raise InvalidArgument(f"a {type(message).__name__} is no message; acknowledge what was received")
        results: list[PortableError | None] = [None] * len(given)
        todo: list[int] = []
        for index, message in enumerate(given):
            if not message.state:
                todo.append(index)
            elif message.state != "acked":
                results[index] = LeaseLost(f"the message {message.id} was settled otherwise before")
        size = self.capabilities.max_batch
        for start in range(0, len(todo), size):
            chunk = todo[start : start + size]
            try:
                answers = self._deliveries.ack([given[index].delivery for index in chunk], limit.left())
            except PortableError as error:
                answers = [error] * len(chunk)
            for index, answer in zip(chunk, answers, strict=True):
                results[index] = answer
                if answer is None:
                    given[index].state = "acked"
        result: BatchResult[None] = BatchResult(results)
        if failed := result.failed:
            raise BatchError(f"{len(failed)} of {len(given)} messages were not acknowledged", result=result)

    @operation
    @_as("ack")
    def _ack(self, message: Message[T], *, timeout: float | None) -> None:
        (answer,) = self._deliveries.ack((message.delivery,), self._timeout if timeout is None else timeout)
        if answer is not None:
            raise answer

    @operation
    @_as("nack")
    def _nack(self, message: Message[T], delay: float, *, timeout: float | None) -> None:
        delay = seconds(delay, "delay")
        if delay:
            self._require("nack_delay", "nack(delay=…)")
        self._deliveries.nack(message.delivery, delay, self._timeout if timeout is None else timeout)

    @operation
    @_as("reject")
    def _reject(self, message: Message[T], reason: str, *, timeout: float | None) -> None:
        if self._default_reason is not None:
            raise InvalidArgument("the message is in the dead-letter queue already; ack it, or redrive its queue")
        limit = self._timeout if timeout is None else timeout
        self._deliveries.bury(message.delivery, reason or "rejected", limit)

    @operation
    @_as("extend")
    def _extend(self, message: Message[T], length: float, *, timeout: float | None) -> None:
        length = seconds(length, "seconds")
        limit = self._timeout if timeout is None else timeout
        (answer,) = self._driver.extend([message.delivery], seconds=length, timeout=limit)
        if answer is not None:
            raise answer

    @operation
    def stats(self, *, timeout: float | None = None) -> QueueStats:
        """Count the messages; approximate, and None where the backend cannot say.

        Args:
            timeout: seconds.
        """
        limit = self._timeout if timeout is None else timeout
        counted = self._driver.stats(timeout=limit)
        if counted.dead is not None or self._default_reason is not None:
            return counted
        dead = self.dead_letters._deliveries  # noqa: SLF001 (a queue, too)
        return msgspec.structs.replace(counted, dead=dead.count(limit))

    @operation
    def purge(self, *, timeout: float | None = None) -> None:
        """Remove every message, the leased and the delayed included; dead letters stay.

        Bodies that were offloaded stay in their bucket: let its lifecycle rules remove them.

        Args:
            timeout: seconds.

        Raises:
            Unsupported: `purge` is lacking or not declared.
        """
        self._require("purge", "purge()")
        self._driver.purge(timeout=self._timeout if timeout is None else timeout)

    @operation
    def peek(self, max_messages: int = 1, *, timeout: float | None = None) -> list[Message[T]]:
        """Look at messages that could be received, and leave them; they cannot be settled.

        Args:
            max_messages: at most so many.
            timeout: seconds.

        Returns:
            The messages, without those whose body does not fit the queue's type or is gone.

        Raises:
            Unsupported: `peek` is lacking or not declared.
        """
        self._require("peek", "peek()")
        count = min(at_least_one(max_messages, "max_messages"), self.capabilities.max_receive)
        limit = self._timeout if timeout is None else timeout
        messages: list[Message[T]] = []
        for delivery in self._driver.peek(count, timeout=limit):
            try:
                value = self._deliveries.value(delivery, limit)
                messages.append(Message(self, delivery, value, "peeked"))
            except (ValueError, RecursionError, IntegrityError):
                continue
        return messages

    @property
    def dead_letters(self) -> Queue[bytes]:
        """The queue of messages that could not be handled: the one that `dead_letter` names, or the one beside this.

        Its messages have the bytes as they were sent, whatever the type of this queue, and `.dead_reason` and
        `.original_id`.
        """
        contract = self._contract
        if contract.dead_letter is not None:
            named: Queue[bytes] = self._cloud.queue(contract.dead_letter)
            return named
        if self._default_reason is not None:
            raise InvalidArgument("a dead-letter queue has no dead-letter queue of its own")
        if self._dead is None:
            self._refuse_if_closed()
            with self._making:
                if self._dead is None:
                    self._dead = self._make_dead_letters()
        return self._dead

    @long_operation
    def redrive(self, max_messages: int | None = None, *, timeout: float | None = None) -> int:
        """Send dead letters of this queue to it again, as they were first sent; may duplicate, never loses.

        Args:
            max_messages: at most so many, from 1; all that are there when it starts, when left out.
            timeout: seconds for the whole of it; the contract's `timeout` for each call to the backend, when left out.

        Returns:
            How many were moved.
        """
        if max_messages is not None:
            max_messages = at_least_one(max_messages, "max_messages")
        return self._deliveries.redrive(max_messages, Deadline(timeout, self._timeout))

    def close(self) -> None:
        """Close it and its dead-letter queue; closing twice is no error. Operations raise `Closed` from then on."""
        if self._dead is not None:
            self._dead.close()
        super().close()

    def _forked(self) -> Any:
        abandoned = super()._forked()
        return abandoned if self._dead is None else [abandoned, self._dead._forked()]  # noqa: SLF001 (a queue, too)

    def _checked_visibility(self, asked: float) -> float:
        visibility = seconds(asked, "visibility_timeout")
        self._require("lease_per_receive", "receive(visibility_timeout=…)")
        longest = self.capabilities.max_visibility
        if longest is not None and visibility > longest:
            raise LimitExceeded(f"visibility_timeout={asked!r}; this backend takes at most {longest:g} s")
        if self._guard is not None:
            self._guard.visibility(visibility)
        return visibility

    def _make_guard(self) -> Guard | None:
        if not self._limits:
            return None
        from portable.limits import guard  # noqa: PLC0415 (the table is read only where limits are guarded)

        made = guard(self._limits, self.kind)
        if made is not None:
            made.visibility(self._visibility)
            made.deliveries(self._contract.max_deliveries)
        return made

    def _make_composer(self, contract: QueueContract) -> Composer:
        return Composer(
            self._codec,
            self._require,
            ordered=contract.ordered,
            guard=self._guard,
            max_bytes=self.capabilities.max_body_bytes,
            max_delay=self.capabilities.max_delay,
            resource=self.name,
        )

    def _make_dead_letters(self) -> Queue[bytes]:
        binding = dead_letter_binding(self._binding)
        driver_class = provider(binding.url.scheme, binding.kind).load()
        dead: Queue[bytes] = Queue(
            binding, lambda: self._host.face(driver_class(binding)), host=self._host, hooks=self._hooks
        )
        dead._cloud = self._cloud
        dead._default_reason = self._deliveries.exhausted()
        return dead

    def _offload_bucket(self) -> Any:
        return self._cloud.bucket(self._contract.offload)

    def _specially(self, entry: Any) -> Outgoing:
        """Compose what takes more than checking: the trace that goes along, a body that is kept in a bucket."""
        if not isinstance(entry, Outgoing):
            entry = Outgoing(entry)
        if self._traced:
            entry = msgspec.structs.replace(entry, attributes=telemetry.injected(entry.attributes))
        try:
            return self._composer.outgoing(entry)
        except LimitExceeded:
            if self._offload is None:
                raise
        body = self._codec.encode(entry.body)
        key = self._offload.new_key()
        pointer = self._composer.checked(
            b"", entry.attributes, entry.delay, entry.ordering_key, entry.dedup_id, ours={wire.OFFLOADED: key}
        )
        self._offload.put(key, body, timeout=self._timeout)
        return pointer


class Subscription(Queue[T]):
    """A queue that is fed by a topic: it gets its own copy of each message published after it was made.

    It has all the methods of a queue; what is sent to it directly reaches this subscription alone.
    """

    kind: ClassVar[str] = "subscription"
