"""Topics and their subscriptions on RabbitMQ: an exchange that matches headers, and a queue a subscription.

Vendor pages: https://www.rabbitmq.com/docs/exchanges, https://www.rabbitmq.com/docs/e2e
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from time import monotonic
from typing import Any

import msgspec

from portable.bindings import Binding
from portable.capabilities import TopicCapabilities
from portable.changes import Change
from portable.contracts import SubscriptionContract
from portable.errors import ConfigError, LimitExceeded, PortableError, ResourceNotFound
from portable.messages import Outgoing
from portable_rabbitmq import wire
from portable_rabbitmq.connection import lines
from portable_rabbitmq.declaring import Declarer
from portable_rabbitmq.options import RabbitOptions
from portable_rabbitmq.publishing import Entry, Publisher, may_publish
from portable_rabbitmq.queue import LONGEST_NAME, MOST_AT_ONCE, RabbitQueue

__all__ = ["RabbitSubscription", "RabbitTopic"]

_encode = msgspec.json.Encoder(order="sorted").encode

TOPIC, FEED = "headers", "fanout"
"""The types of the exchanges: of a topic, and of what stands between it and a subscription's queue."""


class RabbitTopic:
    """Satisfies `portable.drivers.TopicDriver`."""

    Options = RabbitOptions
    # The messages of one call are on their way all at once.
    send_concurrency = 1

    def __init__(self, binding: Binding[Any]) -> None:
        if len(binding.name.encode()) > LONGEST_NAME:
            raise LimitExceeded(f"the name {binding.name!r:.80} has more than {LONGEST_NAME} bytes; RabbitMQ takes 255")
        options: RabbitOptions = binding.options
        self.binding = binding
        self._lines = lines(binding)
        self._declarer = Declarer(self._lines.receiving)
        # What nobody subscribes to is published all the same.
        self._publisher = Publisher(self._lines.sending, mandatory=False)
        self.capabilities = TopicCapabilities(
            durability="power", max_body_bytes=int(options.max_message_size), max_batch=MOST_AT_ONCE
        )

    @property
    def native(self) -> Any:
        """The connection of pika that sends; only its own thread may use it (`ioloop.add_callback_threadsafe`)."""
        return self._lines.sending.connection(self._deadline()).native

    def open(self) -> None:
        """Connect, and find the topic, or make it and its declared subscriptions where the binding says so."""
        if self.binding.create:
            self.create()
        elif not self._declarer.has_exchange(self.binding.name, self._deadline()):
            raise ResourceNotFound(
                f"the server has no topic {self.binding.name!r}; make it with `portable resources create`"
            )

    def close(self) -> None:
        """Let go of the channel."""
        self._publisher.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Look the topic up; with `write`, see whether we may publish."""
        deadline = monotonic() + timeout
        if not self._declarer.has_exchange(self.binding.name, deadline):
            raise ResourceNotFound(f"the server has no topic {self.binding.name!r}")
        if write:
            may_publish(self._lines.sending, self.binding.name, "", deadline)

    def plan(self) -> list[Change]:
        """Say what would be made."""
        changes: list[Change] = []
        if not self._declarer.has_exchange(self.binding.name, self._deadline()):
            changes.append(Change("create", "topic", self.binding.name))
        for binding in self._declared():
            changes += RabbitSubscription(binding, self.binding.name).plan()
        return changes

    def create(self) -> None:
        """Make the topic, and the subscriptions that the config declares for it."""
        deadline = self._deadline()
        make_topic(self._declarer, self.binding.name, deadline)
        for binding in self._declared():
            RabbitSubscription(binding, self.binding.name).create()

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Publish messages; the server confirms each once it is on the disk, in the queue of every subscription."""
        answers: list[str | PortableError] = [""] * len(messages)
        entries: dict[int, Entry] = {}
        for index, message in enumerate(messages):
            try:
                entries[index] = Entry(self.binding.name, "", message.body, wire.outgoing(message))
            except LimitExceeded as error:
                answers[index] = error
        if entries:
            outcomes = self._publisher.publish(list(entries.values()), timeout)
            for (index, entry), outcome in zip(entries.items(), outcomes, strict=True):
                answers[index] = str(entry.properties.message_id) if outcome is None else outcome
        return answers

    def _declared(self) -> list[Binding[Any]]:
        # One that is bound elsewhere is made by its own driver.
        url, options = self.binding.url, self.binding.options
        return [
            one
            for one in self.binding.subscriptions
            if (one.url.scheme, one.url.hosts) == (url.scheme, url.hosts) and one.options == options
        ]

    def _deadline(self) -> float:
        return monotonic() + float(self.binding.contract.timeout)


class RabbitSubscription(RabbitQueue):
    """A queue that a topic feeds.

    Between the two stands an exchange, the feed, because the server tells nobody with which filter a queue is bound:
    which filter a feed has is known by the alternate exchange that it names, and which is there never. There are two
    places for a feed, so that the one with a new filter is there before the one with the old filter goes.
    """

    def __init__(self, binding: Binding[Any], topic: str | None = None) -> None:
        super().__init__(binding)
        contract: Any = binding.contract
        declared: SubscriptionContract = contract
        self._topic = topic or (binding.topic.name if binding.topic is not None else declared.topic)
        self._filter = _matching(declared.filter)
        # What changes nothing of what is let through may change without a new feed.
        known = hashlib.sha256(_encode([self._topic, self._filter])).hexdigest()[:32]
        self._mark = {"alternate-exchange": f"portable.filter.{known}"}
        self._feeds = [f"{binding.name}.feed.{place}" for place in (0, 1)]

    def plan(self) -> list[Change]:
        """Say what would be made or changed."""
        deadline = self._deadline()
        changes = super().plan()
        if not self._declarer.has_exchange(self._topic, deadline):
            changes.append(Change("create", "topic", self._topic))
        if not changes and not any(self._declarer.has_exchange(feed, deadline) for feed in self._feeds):
            changes.append(Change("change", self.binding.kind, self.binding.name, f"fed by {self._topic!r}"))
        return changes

    def create(self) -> None:
        """Make the queue, its dead-letter queue and, where it is missing, the topic, and have the topic feed it."""
        super().create()
        deadline = self._deadline()
        make_topic(self._declarer, self._topic, deadline)
        feed, other = self._feeds
        if not self._is_ours(feed, deadline):
            feed, other = other, feed
            if not self._is_ours(feed, deadline):
                # Somebody was interrupted in changing the filter.
                self._declarer.remove_exchange(feed, deadline)
                self._declarer.exchange(feed, FEED, deadline, self._mark)
        self._declarer.bind(self.binding.name, feed, "", None, deadline)
        self._declarer.chain(self._topic, feed, "", self._filter, deadline)
        self._declarer.remove_exchange(other, deadline)

    def _is_ours(self, feed: str, deadline: float) -> bool:
        """Make a feed with our filter, where it is missing; False where it has another."""
        try:
            self._declarer.exchange(feed, FEED, deadline, self._mark)
        except ConfigError:
            return False
        return True


def make_topic(declarer: Declarer, name: str, deadline: float) -> None:
    """Make the exchange of a topic."""
    declarer.exchange(name, TOPIC, deadline)


def _matching(filter_: dict[str, str]) -> dict[str, str]:
    """Give the arguments of a binding that lets through what a filter does.

    Raises:
        ConfigError: it names an attribute that no header can carry.
    """
    arguments = {"x-match": "all"}
    for attribute, value in filter_.items():
        name = wire.header_name(attribute)
        if name is None:
            raise ConfigError(f"the filter's attribute {attribute!r:.80} has more than 255 bytes, which RabbitMQ takes")
        arguments[name] = value
    return arguments
