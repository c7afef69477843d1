"""Topics and their subscriptions on Kafka: a subscription is a consumer group that reads the topic, and a queue."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from portable.bindings import Binding
from portable.capabilities import TopicCapabilities
from portable.changes import Change
from portable.contracts import SubscriptionContract
from portable.errors import LeaseLost, PortableError, ResourceNotFound
from portable.messages import Outgoing
from portable_kafka.cluster import Cluster
from portable_kafka.engine import Headers, NewTopic, Outbound, Place, Rebalancing
from portable_kafka.envelopes import Spread
from portable_kafka.headers import attributes_of, headers_of
from portable_kafka.options import KafkaOptions
from portable_kafka.queue import LARGEST_BATCH, PARTITIONS, KafkaQueue
from portable_kafka.sending import Streamed
from portable_kafka.tokens import Tokens

__all__ = ["KafkaSubscription", "KafkaTopic"]


class KafkaTopic:
    """Satisfies `portable.drivers.TopicDriver`.

    Args:
        binding: what the config says.
        tokens: what gives tokens, where another adapter knows how to get them.
    """

    Options = KafkaOptions
    # The client packs what is under way.
    send_concurrency = 1

    def __init__(self, binding: Binding[Any], tokens: Tokens | None = None) -> None:
        self.binding = binding
        self._tokens = tokens
        self._name = binding.name
        self._cluster = Cluster(binding, tokens)
        self._topic = _made(self._cluster, binding.name, binding.options)
        self._spread = Spread(1)
        self._prefixes: list[str] = []
        self.capabilities = TopicCapabilities(
            durability="replicated",
            ordered=True,
            max_body_bytes=int(binding.options.max_message_bytes),
            max_batch=LARGEST_BATCH,
        )

    @property
    def native(self) -> Any:
        """The producer of the client library."""
        return self._cluster.producer.native

    def open(self) -> None:
        """Find the topic, or make it and its declared subscriptions where the binding says so."""
        if self.binding.create:
            self.create()
        count = self._cluster.find([self._topic])[self._name]
        self._spread = Spread(count)
        # Of the ids of its messages, as `identity` makes them.
        self._prefixes = [f"{self._name}-{number}-" for number in range(count)]

    def close(self) -> None:
        """Let go of the connections."""
        self._cluster.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Look the topic up; with `write`, have the producer reach the brokers too."""
        self._cluster.check([self._topic], write=write, timeout=timeout)

    def plan(self) -> list[Change]:
        """Say what would be made."""
        changes = self._cluster.missing([self._topic])
        for subscription in self._declared():
            try:
                changes += [one for one in subscription.plan() if one not in changes]
            finally:
                subscription.close()
        return changes

    def create(self) -> None:
        """Make the topic and its declared subscriptions."""
        self._cluster.make([self._topic])
        for subscription in self._declared():
            try:
                subscription.create()
            finally:
                subscription.close()

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Publish messages; when this returns, the brokers have them."""
        numbers: list[int] = []
        answers = self._cluster.send(Streamed(self._outbound(messages, numbers), len(messages)), timeout=timeout)
        prefixes = self._prefixes
        return [
            prefixes[number] + str(answer) if answer.__class__ is int else answer
            for number, answer in zip(numbers, answers, strict=True)
        ]

    def _outbound(self, messages: Sequence[Outgoing], numbers: list[int]) -> Iterator[Outbound]:
        """Give messages as they are sent; note each one's partition."""
        topic, place = self._name, self._spread.place
        for message in messages:
            number, key = place(message.ordering_key)
            numbers.append(number)
            yield topic, number, key, message.body, headers_of(message.attributes) if message.attributes else None

    def _declared(self) -> list[KafkaSubscription]:
        # One that is bound elsewhere is made by its own driver.
        url, options = self.binding.url, self.binding.options
        return [
            KafkaSubscription(one, self._tokens, topic=self._name)
            for one in self.binding.subscriptions
            if (one.url.scheme, one.url.hosts) == (url.scheme, url.hosts) and one.options == options
        ]


class KafkaSubscription(KafkaQueue):
    """A queue on Kafka that a topic feeds.

    Args:
        binding: what the config says.
        tokens: what gives tokens, where another adapter knows how to get them.
        topic: the physical name of the topic, where it is known.
    """

    def __init__(self, binding: Binding[Any], tokens: Tokens | None = None, topic: str | None = None) -> None:
        super().__init__(binding, tokens)
        contract: Any = binding.contract
        declared: SubscriptionContract = contract
        self._filter = declared.filter.items()
        self._fed_by = topic or (binding.topic.name if binding.topic is not None else declared.topic)

    def open(self) -> None:
        """Find the topics and the group's offsets, or make them where the binding says so."""
        super().open()
        if not self.binding.create and self._new():
            raise ResourceNotFound(
                f"the cluster has no consumer group {self._name!r} on the topic {self._fed_by!r}; make it with "
                "`portable resources create`"
            )

    def plan(self) -> list[Change]:
        """Say what would be made."""
        changes = super().plan()
        missing = any(one.name == self._fed_by and one.action == "create" for one in changes)
        if missing or self._new():
            changes.append(Change("create", "consumer group", self._name, f"on {self._fed_by}, from now on"))
        return changes

    def create(self) -> None:
        """Make the topics, and have the group start at what is published from now on."""
        super().create()
        new = self._new()
        if new:
            edges = self._cluster.admin.edges(new, timeout=self._usual)
            consumer = self._cluster.engine.consumer(self._name)
            try:
                # A group that has members has begun.
                with contextlib.suppress(LeaseLost, Rebalancing):
                    consumer.commit({place: (edges[place][1], "") for place in new}, timeout=self._usual)
            finally:
                consumer.close()

    def _new(self) -> list[Place]:
        """Give the partitions of the topic that the group has no offsets of."""
        count = self._cluster.admin.partitions([self._fed_by], timeout=self._usual).get(self._fed_by, 0)
        places = [(self._fed_by, number) for number in range(count)]
        consumer = self._cluster.engine.consumer(self._name)
        try:
            known = consumer.committed(places, timeout=self._usual)
        finally:
            consumer.close()
        return [place for place in places if place not in known]

    def _partitions(self) -> int:
        # What is sent to it alone, and what comes back. One is enough, and leaves each consumer some of the topic.
        return 1

    def _topics(self) -> list[tuple[str, NewTopic]]:
        return [_made(self._cluster, self._fed_by, self.binding.options), *super()._topics()]

    def _read(self) -> tuple[str, ...]:
        return self._name, self._fed_by

    def _wanted(self, headers: Headers | None) -> bool:
        if not self._filter:
            return True
        attributes = attributes_of(headers)
        return all(attributes.get(name) == value for name, value in self._filter)


def _made(cluster: Cluster, name: str, options: KafkaOptions) -> tuple[str, NewTopic]:
    kept = float(options.retention)
    return "topic", cluster.topic(name, options.partitions or PARTITIONS, kept=kept)
