# Generated from portable/aio/deliveries.py by tools/generate_sync.py; change that file, not this one.
"""What a queue does below its types: deliveries become messages, are settled, buried, sent again, or given back."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from portable import wire
from portable._concurrency import wait_for_arrival
from portable.arrivals import Arrivals
from portable.composing import BodyCodec
from portable.dead_letters import NEVER
from portable.deadlines import Deadline
from portable.drivers import QueueDriver
from portable.errors import IntegrityError, LeaseLost, PortableError
from portable.message import Message
from portable.messages import Delivery, Outgoing
from portable.offload import Offload

if TYPE_CHECKING:
    from portable.queue import Queue

__all__ = ["Deliveries"]

T = TypeVar("T")

_REDRIVEN_AT_ONCE = 100
_LONGEST_DELAY = 900.0


class Deliveries(Generic[T]):
    """The deliveries of one queue.

    Args:
        queue: whose they are.
        codec: how bodies become values.
        offload: where large bodies are, if anywhere.
        visibility: seconds that a lease has.
        max_deliveries: after so many a message is dead.
        buries: whether the driver moves dead messages itself.
    """

    def __init__(
        self,
        queue: Queue[T],
        codec: BodyCodec,
        offload: Offload | None,
        *,
        visibility: float,
        max_deliveries: int,
        buries: bool,
    ) -> None:
        self._queue = queue
        self._decode = codec.decode
        self._offload = offload
        self.visibility = visibility
        self.max_deliveries = max_deliveries
        self._buries = buries
        # Nothing stands between a delivery and its message.
        self._direct = codec.plain and offload is None

    @property
    def driver(self) -> QueueDriver:
        """The driver, which a forked child has another of."""
        return self._queue._driver  # noqa: SLF001 (this is the inner half of the queue)

    def open(self) -> None:
        """Open the queue, for those who come by another way than its operations."""
        if not self._queue._opened:  # noqa: SLF001 (this is the inner half of the queue)
            self._queue._open()  # noqa: SLF001 (the same)

    def receive(self, count: int, *, wait: float, visibility: float, limit: float) -> list[Message[T]]:
        """Receive messages, waiting for the first where none is ready."""
        driver = self.driver
        arrivals = driver.arrivals
        if arrivals is None:
            return self._receive_remotely(driver, count, wait, visibility, limit)
        deadline: float | None = None
        while True:
            leased = driver.receive(count, visibility=visibility, timeout=limit)
            messages = self.messages(leased, limit) if leased else []
            if messages or not wait:
                return messages
            if deadline is None:
                deadline = monotonic() + wait
            if not self._wait_until_due(arrivals, deadline, limit):
                return []

    def _wait_until_due(self, arrivals: Arrivals, deadline: float, limit: float) -> bool:
        """Wait until a message can be received (True), or until the deadline (False)."""
        while True:
            version = arrivals.version()
            due = self.driver.next_due(timeout=limit)
            left = deadline - monotonic()
            if due is not None and due <= 0:
                return left > 0
            if left <= 0:
                return False
            wait_for_arrival(arrivals, version, left if due is None else min(left, due))

    def _receive_remotely(
        self, driver: Any, count: int, wait: float, visibility: float, limit: float
    ) -> list[Message[T]]:
        deadline = monotonic() + wait
        while True:
            left = deadline - monotonic()
            if left > 0:
                # A call that waits takes as long as it waits, and then what an answer takes.
                leased = driver.wait_receive(count, visibility=visibility, wait=left, timeout=limit + left)
            else:
                leased = driver.receive(count, visibility=visibility, timeout=limit)
            messages = self.messages(leased, limit) if leased else []
            if messages or deadline <= monotonic():
                return messages

    def messages(self, leased: list[Delivery], limit: float) -> list[Message[T]]:
        """Make messages of deliveries, but for those that cannot be, which are postponed or buried."""
        if self._direct and (self._buries or all(one.count <= self.max_deliveries for one in leased)):
            return [Message(self._queue, delivery, delivery.body) for delivery in leased]  # type: ignore[arg-type]  # T is bytes
        messages: list[Message[T]] = []
        done = 0
        try:
            for delivery in leased:
                message = self._message(delivery, limit)
                if message is not None:
                    messages.append(message)
                done += 1
        except BaseException:
            # Nobody will get these, so nobody else can give them back.
            self.give_back([*(one.delivery for one in messages), *leased[done:]])
            raise
        return messages

    def _message(self, delivery: Delivery, limit: float) -> Message[T] | None:
        if delivery.count > self.max_deliveries and not self._buries:
            self._bury_unless_lost(delivery, self.exhausted(), limit)
            return None
        try:
            return Message(self._queue, delivery, self.value(delivery, limit))
        except (ValueError, RecursionError) as error:
            self._postpone(delivery, f"the body does not fit the type: {error}", limit)
        except IntegrityError as error:
            self._postpone(delivery, error.message, limit)
        return None

    def value(self, delivery: Delivery, limit: float) -> T:
        """Fetch and decode the body of a delivery.

        Raises:
            ValueError: it does not fit the type.
            IntegrityError: it was offloaded, and its object is gone.
        """
        body = delivery.body
        if self._offload is not None and wire.OFFLOADED in delivery.attributes:
            body = self._offload.get(delivery, timeout=limit)
        value: T = self._decode(body)
        return value

    def _postpone(self, delivery: Delivery, reason: str, limit: float) -> None:
        """Leave a message to a later release, as long as it has deliveries left."""
        if delivery.count >= self.max_deliveries:
            self._bury_unless_lost(delivery, reason, limit)
        elif self.driver.capabilities.nack_delay:
            delay = min(self.visibility * delivery.count, _LONGEST_DELAY)
            self.driver.nack([delivery], delay=delay, timeout=limit)
        # Without delayed nacks the lease is the delay: at its end the message comes back by itself.

    def ack(self, deliveries: Sequence[Delivery], limit: float) -> list[PortableError | None]:
        """Remove messages, and then their offloaded bodies."""
        answers = self.driver.ack(deliveries, timeout=limit)
        if self._offload is not None:
            for delivery, answer in zip(deliveries, answers, strict=True):
                if answer is None and wire.OFFLOADED in delivery.attributes:
                    self._offload.drop(delivery.attributes[wire.OFFLOADED], timeout=limit)
        return answers

    def nack(self, delivery: Delivery, delay: float, limit: float, *, reason: str | None = None) -> None:
        """Give a message back, or bury it when it has no delivery left; `reason` is why its handler failed."""
        if delivery.count >= self.max_deliveries and (reason is not None or not self._buries):
            self.bury(delivery, reason or self.exhausted(), limit)
        else:
            self.driver.nack([delivery], delay=delay, timeout=limit)

    def give_back(self, deliveries: Sequence[Delivery]) -> None:
        """Give messages back at once."""
        size = self.driver.capabilities.max_batch
        for start in range(0, len(deliveries), size):
            self.driver.nack(deliveries[start : start + size], delay=0.0, timeout=self._step)

    def hold(self, deliveries: Sequence[Delivery]) -> list[PortableError | None]:
        """Extend leases by the queue's own length."""
        answers: list[PortableError | None] = []
        size = self.driver.capabilities.max_batch
        for start in range(0, len(deliveries), size):
            chunk = deliveries[start : start + size]
            answers += self.driver.extend(chunk, seconds=self.visibility, timeout=self._step)
        return answers

    def bury(self, delivery: Delivery, reason: str, limit: float) -> None:
        """Move a message to the dead-letter queue: in one step where the backend can, else there first, then away."""
        driver: Any = self.driver
        if self._buries:
            (answer,) = driver.bury([delivery], reason=reason, timeout=limit)
        else:
            name = self._queue.name
            attributes = wire.dead_letter_attributes(delivery.attributes, queue=name, id=delivery.id, reason=reason)
            letter = Outgoing(delivery.body, attributes, 0.0, delivery.ordering_key)
            self._dead.take(letter, limit)
            (answer,) = driver.ack([delivery], timeout=limit)
        if answer is not None:
            raise answer

    def _bury_unless_lost(self, delivery: Delivery, reason: str, limit: float) -> None:
        # Whoever has it by now buries it in turn; this receiver goes on with what it has.
        with contextlib.suppress(LeaseLost):
            self.bury(delivery, reason, limit)

    def redrive(self, max_messages: int | None, limit: Deadline) -> int:
        """Send dead letters of this queue to it again; give how many."""
        dead = self._dead
        # What dies again meanwhile is left to the next time.
        there = dead.count(limit.left())
        unseen = NEVER if there is None else there
        wanted = NEVER if max_messages is None else max_messages
        name = self._queue.name
        # A dead-letter queue that several queues name holds letters of all of them.
        shared = self._queue._contract.dead_letter is not None  # noqa: SLF001 (this is the inner half of the queue)
        size = min(_REDRIVEN_AT_ONCE, self.driver.capabilities.max_batch)
        moved = 0
        others: list[Delivery] = []
        try:
            while moved < wanted and unseen > 0:
                letters = dead.lease(min(wanted - moved, unseen, size), limit.left())
                if not letters:
                    break
                unseen -= len(letters)
                mine: list[Delivery] = []
                for one in letters:
                    foreign = shared and one.attributes.get(wire.DEAD_QUEUE, name) != name
                    (others if foreign else mine).append(one)
                self._resend(dead, mine, limit)
                moved += len(mine)
        finally:
            dead.give_back(others)
        return moved

    def _resend(self, dead: Deliveries[bytes], letters: list[Delivery], limit: Deadline) -> None:
        if not letters:
            return
        try:
            answers = self.driver.send([_as_first_sent(letter) for letter in letters], timeout=limit.left())
        except BaseException:
            dead.give_back(letters)
            raise
        sent = [letter for letter, answer in zip(letters, answers, strict=True) if isinstance(answer, str)]
        # From here on both queues have them: what is cut short is a duplicate, and never a loss.
        dead.driver.ack(sent, timeout=self._step)
        failed = [answer for answer in answers if not isinstance(answer, str)]
        if failed:
            dead.give_back([letter for letter in letters if letter not in sent])
            raise failed[0]

    def take(self, outgoing: Outgoing, limit: float) -> None:
        """Send a message as it is."""
        self.open()
        (answer,) = self.driver.send([outgoing], timeout=limit)
        if not isinstance(answer, str):
            raise answer

    def lease(self, count: int, limit: float) -> list[Delivery]:
        """Receive deliveries as they are."""
        self.open()
        driver: Any = self.driver
        count = min(count, driver.capabilities.max_receive)
        leased: list[Delivery]
        if driver.arrivals is None:
            leased = driver.wait_receive(count, visibility=self.visibility, wait=1.0, timeout=limit)
        else:
            leased = driver.receive(count, visibility=self.visibility, timeout=limit)
        return leased

    def count(self, limit: float) -> int | None:
        """Say how many messages there are, in whatever state, where that is known."""
        self.open()
        counted = self.driver.stats(timeout=limit)
        known = [count for count in (counted.ready, counted.leased, counted.delayed) if count is not None]
        return sum(known) if known else None

    def exhausted(self) -> str:
        """Say why a message is dead that nobody acknowledged."""
        return f"delivered {self.max_deliveries} times without an ack"

    @property
    def _dead(self) -> Deliveries[bytes]:
        return self._queue.dead_letters._deliveries  # noqa: SLF001 (a queue, too)

    @property
    def _step(self) -> float:
        return self._queue._timeout  # noqa: SLF001 (this is the inner half of the queue)


def _as_first_sent(letter: Delivery) -> Outgoing:
    ours = (wire.DEAD_ID, wire.DEAD_QUEUE, wire.DEAD_REASON)
    attributes = {name: value for name, value in letter.attributes.items() if name not in ours}
    return Outgoing(letter.body, attributes or None, 0.0, letter.ordering_key)
