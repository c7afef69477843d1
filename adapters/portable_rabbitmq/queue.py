"""Queues on RabbitMQ: quorum queues, so that the server counts deliveries, with leases and delays by the driver.

Vendor pages: https://www.rabbitmq.com/docs/quorum-queues, https://www.rabbitmq.com/docs/confirms
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any

from portable import bridges
from portable.bindings import Binding
from portable.capabilities import QueueCapabilities
from portable.changes import Change
from portable.contracts import QueueContract
from portable.dead_letters import NEVER
from portable.errors import (
    ConfigError,
    LeaseLost,
    LimitExceeded,
    PermissionDenied,
    PortableError,
    ResourceNotFound,
    Unavailable,
)
from portable.messages import Delivery, Outgoing, QueueStats
from portable.wire import dead_letter_name
from portable_rabbitmq import wire
from portable_rabbitmq.connection import Connection, Reply, answered, lines
from portable_rabbitmq.declaring import Declarer, quorum
from portable_rabbitmq.delays import LONGEST_DELAY, Delays
from portable_rabbitmq.leases import Held
from portable_rabbitmq.options import RabbitOptions
from portable_rabbitmq.publishing import Entry, Publisher, may_publish
from portable_rabbitmq.reading import Readers
from portable_rabbitmq.renewing import Renewer

__all__ = ["MOST_AT_ONCE", "RabbitQueue"]

MOST_AT_ONCE = 1000
"""How many messages one call sends or receives: enough that the round trips do not count."""

LONGEST_NAME = 240
"""Bytes; names that are made from it have to fit 255."""


class RabbitQueue:
    """Satisfies `portable.drivers.WaitingQueueDriver`.

    What a connection had received goes back to the queue when the connection is lost, whatever is left of the lease:
    `exclusive_lease` is not declared. Nor is `exact_count`: what the server sent to a receive that ended in the same
    millisecond comes back, and counts.
    """

    Options = RabbitOptions
    # The server itself is waited on.
    arrivals = None
    buries = False
    # The messages of one call are on their way all at once.
    send_concurrency = 1

    def __init__(self, binding: Binding[Any]) -> None:
        if len(binding.name.encode()) > LONGEST_NAME:
            raise LimitExceeded(f"the name {binding.name!r:.80} has more than {LONGEST_NAME} bytes; RabbitMQ takes 255")
        contract: Any = binding.contract
        options: RabbitOptions = binding.options
        self.binding = binding
        self._contract: QueueContract = contract
        self._lines = lines(binding)
        self._declarer = Declarer(self._lines.receiving)
        self._publisher = Publisher(self._lines.sending, mandatory=True)
        self._delays = Delays(self._lines, self._declarer, binding.name)
        self._readers = Readers(self._lines.receiving, binding.name)
        self._renewer = Renewer(self._lines, self._declarer, binding.name, float(options.consumer_timeout))
        self.capabilities = QueueCapabilities(
            durability="power",
            delay=True,
            nack_delay=True,
            lease_per_receive=True,
            max_body_bytes=int(options.max_message_size),
            max_batch=MOST_AT_ONCE,
            max_receive=MOST_AT_ONCE,
            max_delay=LONGEST_DELAY,
            max_visibility=self._renewer.longest,
        )
        if float(self._contract.visibility_timeout) > self._renewer.longest:
            raise ConfigError(
                f"visibility_timeout is more than the {self._renewer.longest:g} s that RabbitMQ leaves a message with "
                "its receiver; raise the server's consumer_timeout, and consumer_timeout= with it"
            )

    @property
    def native(self) -> Any:
        """The connection of pika that receives; only its own thread may use it (`ioloop.add_callback_threadsafe`)."""
        return self._lines.receiving.connection(monotonic() + float(self._contract.timeout)).native

    def open(self) -> None:
        """Connect, and find the queue, or make it where the binding says so."""
        if self.binding.create:
            self.create()
            return
        missing = self.plan()
        if missing:
            change = missing[0]
            raise ResourceNotFound(
                f"the server has no {change.what} {change.name!r}; make it with `portable resources create`"
            )

    def close(self) -> None:
        """Let go of the channels; what is held goes back to the queue."""
        self._readers.close()
        self._renewer.close()
        self._publisher.close()
        self._delays.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Look the queue up; with `write`, see whether we may send to it."""
        deadline = monotonic() + timeout
        self._declarer.count(self.binding.name, deadline)
        if write:
            may_publish(self._lines.sending, "", self.binding.name, deadline)

    def plan(self) -> list[Change]:
        """Say what would be made."""
        deadline = self._deadline()
        return [
            Change("create", what, name)
            for what, name in self._queues()
            if not self._declarer.has_queue(name, deadline)
        ]

    def create(self) -> None:
        """Make the queue and its dead-letter queue."""
        deadline = self._deadline()
        for _, name in self._queues():
            self._make(name, deadline)

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Send messages; the server confirms each once it is on its disk."""
        deadline = monotonic() + timeout
        answers: list[str | PortableError] = [""] * len(messages)
        entries: dict[int, Entry] = {}
        for index, message in enumerate(messages):
            try:
                properties = wire.outgoing(message)
            except LimitExceeded as error:
                answers[index] = error
            else:
                entries[index] = Entry("", self.binding.name, message.body, properties)
        later = [index for index in entries if messages[index].delay]
        now = [index for index in entries if not messages[index].delay] if later else list(entries)
        outcomes: list[PortableError | None] = []
        if now:
            outcomes += self._publisher.publish([entries[index] for index in now], deadline - monotonic())
        if later:
            delayed = [(messages[index].delay, entries[index].body, entries[index].properties) for index in later]
            outcomes += self._delays.send(delayed, deadline - monotonic())
        for index, outcome in zip((*now, *later), outcomes, strict=True):
            answers[index] = str(entries[index].properties.message_id) if outcome is None else outcome
        return answers

    def _give_back(self, deliveries: list[Delivery]) -> None:
        """Make undone what nobody got: it is not to count as a delivery."""
        with contextlib.suppress(PortableError):
            self._send_again(deliveries, 0.0, float(self._contract.timeout), undone=True)

    @bridges.undone_by(_give_back)
    def receive(self, max_messages: int, *, visibility: float, timeout: float) -> list[Delivery]:
        """Lease what is ready."""
        return self._receive(max_messages, visibility, 0.0, timeout)

    @bridges.undone_by(_give_back)
    def wait_receive(self, max_messages: int, *, visibility: float, wait: float, timeout: float) -> list[Delivery]:
        """Lease what is ready; when nothing is, have the server send the first that comes within `wait` seconds."""
        return self._receive(max_messages, visibility, wait, timeout)

    def next_due(self, *, timeout: float) -> float | None:
        """Say whether a message can be received; nobody asks, for the server is waited on."""
        return 0.0 if self._declarer.count(self.binding.name, monotonic() + timeout) else None

    def ack(self, deliveries: Sequence[Delivery], *, timeout: float) -> list[PortableError | None]:  # noqa: ARG002 (the protocol has it)
        """Remove messages; AMQP does not answer to that, so that nobody waits for it."""
        claimed = [delivery.receipt.claim() for delivery in deliveries]
        mine: dict[Connection, list[Held]] = {}
        for delivery, is_mine in zip(deliveries, claimed, strict=True):
            if is_mine:
                mine.setdefault(delivery.receipt.connection, []).append(delivery.receipt)
        for connection, held in mine.items():
            connection.post(functools.partial(_remove, held))
        return _answers(deliveries, claimed)

    def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:
        """Give messages back: to the queue itself or, with a delay, as copies that come later."""
        if delay:
            self._send_again(deliveries, delay, timeout)
        else:
            self._each(deliveries, Held.give_back, timeout)

    def extend(self, deliveries: Sequence[Delivery], *, seconds: float, timeout: float) -> list[PortableError | None]:
        """Hold messages for longer."""
        if seconds > self._renewer.longest:
            raise LimitExceeded(f"extend({seconds:g}); this backend takes at most {self._renewer.longest:g} s")
        deadline = monotonic() + timeout
        for delivery in deliveries:
            self._renewer.renew(delivery, seconds, deadline)
        held = self._each(deliveries, lambda one: one.hold(seconds), deadline - monotonic())
        return _answers(deliveries, held)

    def stats(self, *, timeout: float) -> QueueStats:
        """Count what is ready; AMQP tells no more."""
        return QueueStats(ready=self._declarer.count(self.binding.name, monotonic() + timeout))

    def purge(self, *, timeout: float) -> None:
        """Never called: what is held or delayed cannot be removed."""
        raise NotImplementedError

    def peek(self, max_messages: int, *, timeout: float) -> list[Delivery]:
        """Never called: to look at a message is to receive it."""
        raise NotImplementedError

    def _receive(self, max_messages: int, visibility: float, wait: float, timeout: float) -> list[Delivery]:
        found = self._readers.receive(max_messages, visibility=visibility, wait=wait, timeout=timeout)
        return [wire.delivery(held) for held in found]

    def _send_again(
        self, deliveries: Sequence[Delivery], delay: float, timeout: float, *, undone: bool = False
    ) -> None:
        """Send copies of what is held, and remove it: there is always one at least."""
        deadline = monotonic() + timeout
        if delay > LONGEST_DELAY:
            raise LimitExceeded(f"a delay of {delay:g} s; this backend takes at most {LONGEST_DELAY:g} s")
        # Nothing is to come back by itself meanwhile.
        holds = self._each(deliveries, lambda held: held.hold(timeout), timeout)
        mine = [delivery for delivery, is_held in zip(deliveries, holds, strict=True) if is_held]
        if not mine:
            return
        copies = [
            (delay, one.body, wire.copied(one.receipt.properties, one.id, one.count - 1 if undone else one.count))
            for one in mine
        ]
        if delay:
            outcomes = self._delays.send(copies, deadline - monotonic())
        else:
            entries = [Entry("", self.binding.name, body, properties) for _, body, properties in copies]
            outcomes = self._publisher.publish(entries, deadline - monotonic())
        done = [one for one, outcome in zip(mine, outcomes, strict=True) if outcome is None]
        self._each(done, Held.ack, deadline - monotonic())
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    def _each(self, deliveries: Sequence[Delivery], do: Callable[[Held], Any], timeout: float) -> list[Any]:
        """Do something with each delivery on its connection's thread; None where that connection is gone."""
        by_connection: dict[Connection, list[int]] = {}
        for index, delivery in enumerate(deliveries):
            by_connection.setdefault(delivery.receipt.connection, []).append(index)
        answers: list[Any] = [None] * len(deliveries)
        for connection, indexes in by_connection.items():
            held = [deliveries[index].receipt for index in indexes]
            try:
                found = connection.ask(functools.partial(_done, do, held), timeout)
            except Unavailable:
                # With it went the leases.
                continue
            for index, answer in zip(indexes, found, strict=True):
                answers[index] = answer
        return answers

    def _queues(self) -> Iterable[tuple[str, str]]:
        yield self.binding.kind, self.binding.name
        if self._contract.dead_letter is None and self._contract.max_deliveries < NEVER:
            yield "dead-letter queue", dead_letter_name(self.binding.name)

    def _make(self, name: str, deadline: float) -> None:
        try:
            self._declarer.queue(name, quorum(), deadline)
        except (ConfigError, PermissionDenied) as error:
            # One that was made with further arguments serves as well, as long as it counts deliveries.
            if "x-queue-type" in str(error) or not self._declarer.has_queue(name, deadline):
                raise

    def _deadline(self) -> float:
        return monotonic() + float(self._contract.timeout)


def _done(do: Callable[[Held], Any], held: Sequence[Held], reply: Reply) -> None:
    answered(reply, [do(one) for one in held])


def _remove(held: Sequence[Held]) -> None:
    for one in held:
        one.remove()


def _answers(deliveries: Sequence[Delivery], done: Sequence[Any]) -> list[PortableError | None]:
    return [
        None if is_done else LeaseLost(f"the lease of message {delivery.id} ran out, or its connection was lost")
        for delivery, is_done in zip(deliveries, done, strict=True)
    ]
