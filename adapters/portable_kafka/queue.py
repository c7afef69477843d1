"""Queues on Kafka: a topic that one consumer group reads, each message done in its own time.

`docs/wire-formats/kafka.md` says what lies where. Kafka has no leases: the process that reads a partition keeps them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from time import monotonic
from typing import Any

from portable.bindings import Binding
from portable.bridges import undone_by
from portable.capabilities import QueueCapabilities
from portable.changes import Change
from portable.contracts import QueueContract
from portable.dead_letters import NEVER
from portable.errors import Closed, LeaseLost, PortableError
from portable.messages import Delivery, Outgoing, QueueStats
from portable.wire import dead_letter_attributes, dead_letter_name
from portable_kafka.cluster import Cluster
from portable_kafka.engine import Headers, NewTopic, Outbound
from portable_kafka.envelopes import (
    LEVELS,
    Spread,
    copy,
    delayed,
    deliveries,
    identity,
    later_name,
    letter,
    level_of,
)
from portable_kafka.groups import Group
from portable_kafka.holding import Holding
from portable_kafka.lanes import Message
from portable_kafka.options import KafkaOptions
from portable_kafka.tokens import Tokens

__all__ = ["PARTITIONS", "KafkaQueue"]

PARTITIONS = 4
"""How many partitions a topic is made with where nobody says."""

LARGEST_BATCH = 10_000
LARGEST_RECEIVE = 500
LONGEST_DELAY = 30 * 86400.0


def _undo(driver: KafkaQueue, deliveries: list[Delivery]) -> None:
    driver.undo(deliveries)


class KafkaQueue:
    """Satisfies `portable.drivers.WaitingQueueDriver` and `BuryingQueueDriver`.

    Args:
        binding: what the config says.
        tokens: what gives tokens, where another adapter knows how to get them.
    """

    Options = KafkaOptions
    # A member of the group is waited on.
    arrivals = None
    # The client packs what is under way.
    send_concurrency = 1

    def __init__(self, binding: Binding[Any], tokens: Tokens | None = None) -> None:
        contract: Any = binding.contract
        self._contract: QueueContract = contract
        self.binding = binding
        self._usual = float(contract.timeout)
        self._name = binding.name
        self._later = later_name(binding.name)
        self._dead = dead_letter_name(binding.name)
        self._cluster = Cluster(binding, tokens)
        self._spread = Spread(1)
        self._dead_partitions = 1
        self._holding: Holding | None = None
        # A dead-letter queue that the contract names may live elsewhere.
        self.buries = self._contract.dead_letter is None
        self._max_deliveries = self._contract.max_deliveries if self.buries else NEVER
        self._exhausted = f"delivered {self._max_deliveries} times without an ack"
        self.capabilities = QueueCapabilities(
            durability="replicated",
            delay=True,
            nack_delay=True,
            lease_per_receive=True,
            ordered=True,
            max_body_bytes=int(binding.options.max_message_bytes),
            max_batch=LARGEST_BATCH,
            max_receive=LARGEST_RECEIVE,
            max_delay=LONGEST_DELAY,
        )

    @property
    def native(self) -> Any:
        """The producer of the client library."""
        return self._cluster.producer.native

    def open(self) -> None:
        """Find the topics, or make them where the binding says so."""
        if self.binding.create:
            self.create()
        found = self._cluster.find(self._topics())
        self._spread = Spread(found[self._name])
        self._dead_partitions = found.get(self._dead, 1)
        group = Group(
            name=self._name,
            queue=self._name,
            topics=self._read(),
            later=self._later,
            spread=self._spread,
            ordered=self._contract.ordered,
            wanted=self._wanted,
            patience=float(self.binding.options.max_poll_interval),
            clock=self.binding.clock,
        )
        self._holding = Holding(self._cluster, group, expired=self._returned, timeout=self._usual)

    def close(self) -> None:
        """Leave the group, and let go of the connections."""
        holding, self._holding = self._holding, None
        if holding is not None:
            holding.close()
        self._cluster.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Look the topics up; with `write`, have the producer reach the brokers too."""
        self._cluster.check(self._topics(), write=write, timeout=timeout)

    def plan(self) -> list[Change]:
        """Say what would be made."""
        return self._cluster.missing(self._topics())

    def create(self) -> None:
        """Make the topics: the queue's, that of its delayed messages, and that of its dead letters."""
        self._cluster.make(self._topics())

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Send messages; when this returns, the brokers have them."""
        now = self.binding.clock()
        outbound = [
            delayed(self._later, message, now) if message.delay else self._spread.outbound(self._name, message)
            for message in messages
        ]
        answers = self._cluster.send(outbound, timeout=timeout)
        return [
            identity(one[0], one[1], answer, self._name) if answer.__class__ is int else answer
            for one, answer in zip(outbound, answers, strict=True)
        ]

    @undone_by(_undo)
    def receive(self, max_messages: int, *, visibility: float, timeout: float) -> list[Delivery]:
        """Lease what is at hand; waits only for the group to come together."""
        return self._receive(max_messages, visibility, 0.0, timeout)

    @undone_by(_undo)
    def wait_receive(self, max_messages: int, *, visibility: float, wait: float, timeout: float) -> list[Delivery]:
        """Lease what is at hand; when nothing is, wait for the first."""
        return self._receive(max_messages, visibility, wait, timeout)

    def next_due(self, *, timeout: float) -> float | None:  # noqa: ARG002 (the protocol's)
        """Say when a message can be received; nobody asks, for the group is waited on."""
        return None

    def ack(self, deliveries: Sequence[Delivery], *, timeout: float) -> list[PortableError | None]:
        """Count messages as done."""
        return self._open_holding.ack([one.receipt for one in deliveries], timeout=timeout)

    def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:
        """Give messages back, or bury those that have used up their deliveries."""
        taken = self._open_holding.taken([one.receipt for one in deliveries])
        self._give_back([one for one in taken if one is not None], delay, timeout)

    def extend(
        self,
        deliveries: Sequence[Delivery],
        *,
        seconds: float,
        timeout: float,  # noqa: ARG002 (leases are kept here)
    ) -> list[PortableError | None]:
        """Hold messages for longer."""
        return self._open_holding.extend([one.receipt for one in deliveries], seconds)

    def bury(self, deliveries: Sequence[Delivery], *, reason: str, timeout: float) -> list[PortableError | None]:
        """Move messages to the dead-letter queue."""
        taken = self._open_holding.taken([one.receipt for one in deliveries])
        self._bury([one for one in taken if one is not None], reason, timeout)
        return [
            _gone(delivery) if one is None or one.lost else None
            for one, delivery in zip(taken, deliveries, strict=True)
        ]

    def stats(self, *, timeout: float) -> QueueStats:  # noqa: ARG002 (nothing is asked)
        """Say nothing: what others hold is known to them alone, and offsets count more than messages."""
        return QueueStats()

    def undo(self, deliveries: Sequence[Delivery]) -> None:
        """Make undone what nobody got: it does not count as a delivery."""
        holding = self._holding
        if holding is not None:
            holding.undo([one.receipt for one in deliveries])

    def _receive(self, count: int, visibility: float, wait: float, timeout: float) -> list[Delivery]:
        deadline = monotonic() + wait
        holding = self._open_holding
        while True:
            left = max(0.0, deadline - monotonic())
            receipts = holding.receive(count, visibility, wait=left, timeout=timeout)
            # A consumer that died with one left it to the others to say that it is dead.
            over = [one for one in receipts if one[0].count >= self._max_deliveries]
            if not over:
                return deliveries(receipts, self._name)
            taken = [one for one in holding.taken(over) if one is not None]
            self._bury(taken, self._exhausted, timeout)
            if len(over) < len(receipts):
                return deliveries([one for one in receipts if one not in over], self._name)

    def _returned(self, messages: list[Message]) -> None:
        self._give_back(messages, 0.0, self._usual)

    def _give_back(self, messages: Sequence[Message], delay: float, timeout: float) -> None:
        """Give back messages that were taken from their holders."""
        again = [one for one in messages if one.count + 1 < self._max_deliveries]
        if self._contract.ordered:
            self._open_holding.give_back(again, delay)
        elif again:
            now = self.binding.clock()
            self._open_holding.replace(again, [self._again(one, delay, now) for one in again], timeout=timeout)
        self._bury([one for one in messages if one.count + 1 >= self._max_deliveries], self._exhausted, timeout)

    def _again(self, message: Message, delay: float, now: float) -> Outbound:
        count = message.count + 1
        if delay > 0:
            level, due = level_of(delay), now + delay
            return copy(message, self._later, level, self._name, count=count, due=due)
        key = None if message.key is None else message.key.decode(errors="replace")
        return copy(message, self._name, self._spread.of(key), self._name, count=count)

    def _bury(self, messages: Sequence[Message], reason: str, timeout: float) -> None:
        if not messages:
            return
        letters = []
        for message in messages:
            (known,) = [one.id for one in deliveries([(message, message.turn)], self._name)]
            more = dead_letter_attributes({}, queue=self.binding.resource, id=known, reason=reason)
            partition = random.randrange(self._dead_partitions)  # noqa: S311 (spreads load, hides nothing)
            letters.append(letter(message, self._dead, partition, more))
        self._open_holding.replace(messages, letters, timeout=timeout)

    @property
    def _open_holding(self) -> Holding:
        if self._holding is None:
            raise _closed()
        return self._holding

    @property
    def _has_dead(self) -> bool:
        return self.buries and self._max_deliveries < NEVER

    def _partitions(self) -> int:
        """Give how many partitions the queue's own topic is made with."""
        partitions: int | None = self.binding.options.partitions
        return partitions or PARTITIONS

    def _topics(self) -> list[tuple[str, NewTopic]]:
        """Give the topics that the queue consists of."""
        topic, count = self._cluster.topic, self._partitions()
        # What is done is removed by whoever has done it; nothing else may go.
        topics = [
            (self.binding.kind, topic(self._name, count, kept=None)),
            ("delayed messages", topic(self._later, len(LEVELS), kept=None)),
        ]
        if self._has_dead:
            topics.append(("dead-letter queue", topic(self._dead, count, kept=None)))
        return topics

    def _read(self) -> tuple[str, ...]:
        """Give the topics that are read."""
        return (self._name,)

    def _wanted(self, headers: Headers | None) -> bool:  # noqa: ARG002 (a subscription looks)
        return True


def _gone(delivery: Delivery) -> PortableError:
    return LeaseLost(f"the lease of message {delivery.id} ran out, and the message went on without it")


def _closed() -> PortableError:
    return Closed("the queue is closed")
