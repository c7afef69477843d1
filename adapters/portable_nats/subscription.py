"""Subscriptions on JetStream: consumers of their topic's stream, with what is sent to them alone."""

from __future__ import annotations

from typing import Any

import msgspec

from portable.bindings import Binding
from portable.contracts import SubscriptionContract
from portable.messages import Delivery
from portable_nats.jetstream import JetStream
from portable_nats.options import NatsOptions, checked_name
from portable_nats.queue import NatsQueue, consumer_config, stream_config

__all__ = ["NatsSubscription", "TopicSubjects", "make_topic"]

KEEPER = "keeper"
"""The consumer that nobody asks for messages: without it the stream would not keep what is for later."""


class TopicSubjects(msgspec.Struct, frozen=True):
    """What belongs to a topic.

    Attributes:
        name: the topic's.
    """

    name: str

    @property
    def stream(self) -> str:
        """The name of its stream."""
        return f"portable-topic-{self.name}"

    @property
    def published(self) -> str:
        """The subject of what is published."""
        return f"portable.topic.{self.name}"

    @property
    def sent(self) -> str:
        """What the subjects of what is sent to one subscription start with."""
        return f"{self.published}.to"

    @property
    def later(self) -> str:
        """What the subjects of what is sent to one subscription with a delay start with."""
        return f"{self.published}.later"

    @property
    def seen(self) -> str:
        """What the subjects of the notes on what must not be repeated start with."""
        return f"{self.published}.seen"


async def make_topic(js: JetStream, subjects: TopicSubjects, options: NatsOptions, *, timeout: float) -> None:
    """Make the stream of a topic, where there is none."""
    kept = [f"{subjects.later}.*.*", f"{subjects.seen}.*.*"]
    config = stream_config(subjects.stream, [subjects.published, f"{subjects.sent}.*", *kept], "interest", options)
    await js.make_stream(config, timeout=timeout)
    await js.make_consumer(subjects.stream, consumer_config(KEEPER, kept, "all", 30.0), timeout=timeout)


class NatsSubscription(NatsQueue):
    """A queue on JetStream that a topic feeds."""

    def __init__(self, binding: Binding[Any], topic: str | None = None) -> None:
        super().__init__(binding)
        contract: Any = binding.contract
        declared: SubscriptionContract = contract
        self._filter = declared.filter.items()
        feed = topic or (binding.topic.name if binding.topic is not None else declared.topic)
        self._topic = TopicSubjects(checked_name(feed))
        name = binding.name
        self._stream = self._topic.stream
        self._consumer = f"subscription-{name}"
        self._ready = f"{self._topic.sent}.{name}"
        self._later = f"{self._topic.later}.{name}"
        self._seen = f"{self._topic.seen}.{name}"
        # A message is there once for all subscriptions, so that one of them cannot remove it.
        self.capabilities = msgspec.structs.replace(self.capabilities, purge=False)

    def _wants(self, given: Delivery) -> bool:
        return all(given.attributes.get(name) == value for name, value in self._filter)

    async def _make(self) -> None:
        await make_topic(self._js, self._topic, self.binding.options, timeout=self._usual)
        subjects = [self._topic.published, self._ready]
        consumer = consumer_config(self._consumer, subjects, "new", float(self._contract.visibility_timeout))
        await self._js.make_consumer(self._stream, consumer, timeout=self._usual)
