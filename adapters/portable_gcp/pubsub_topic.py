"""Topics and subscriptions in Google Pub/Sub, filtered by the service."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from google.api_core import exceptions as theirs
from google.pubsub_v1.services.publisher import PublisherClient

from portable.bindings import Binding
from portable.capabilities import TopicCapabilities
from portable.changes import Change
from portable.contracts import SubscriptionContract
from portable.errors import Closed, ConfigError, PortableError, ResourceNotFound
from portable.messages import Outgoing
from portable_gcp.attempts import retrying
from portable_gcp.errors import FAILURES, translated, translating
from portable_gcp.options import PubSubOptions, project
from portable_gcp.pubsub_messages import LARGEST
from portable_gcp.pubsub_queue import BATCH, PubSubQueue, publish, publisher

__all__ = ["PubSubSubscription", "PubSubTopic"]

SENT_TO = "portable-to"
"""The attribute of what was sent to a subscription and not published: which one."""

LONGEST_FILTER = 256
"""Bytes: https://cloud.google.com/pubsub/docs/subscription-message-filter."""


class PubSubTopic:
    """Satisfies `portable.drivers.TopicDriver`."""

    Options = PubSubOptions
    capabilities = TopicCapabilities(durability="power", max_body_bytes=LARGEST, max_batch=BATCH)
    send_concurrency = 4

    def __init__(self, binding: Binding[PubSubOptions]) -> None:
        self._binding = binding
        self._path = f"projects/{project(binding)}/topics/{binding.name}"
        self._usual = float(binding.contract.timeout)
        self._publisher: PublisherClient | None = None
        self._closed = False

    @property
    def native(self) -> PublisherClient:
        """The vendor's client of topics."""
        return self._client

    def open(self) -> None:
        """Connect, and find the topic, or make it and its declared subscriptions where the binding says so."""
        if self._binding.create:
            self.create()
        elif not self._is_there(self._usual):
            raise ResourceNotFound(f"there is no topic {self._path}; make it with `portable resources create`")

    def close(self) -> None:
        """Let go of the connections."""
        self._closed = True
        if self._publisher is not None:
            self._publisher.transport.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Ask for the topic; with `write`, ask whether publishing is allowed."""
        with translating():
            self._client.get_topic(topic=self._path, timeout=timeout, retry=retrying(timeout))
            if write and self._binding.options.endpoint is None:
                wanted = {"resource": self._path, "permissions": ["pubsub.topics.publish"]}
                if not self._client.test_iam_permissions(wanted, timeout=timeout).permissions:
                    raise theirs.Forbidden("publish")

    def plan(self) -> list[Change]:
        """Say what would be made."""
        changes = [] if self._is_there(self._usual) else [Change("create", "topic", self._binding.name)]
        for subscription in self._declared():
            try:
                found = subscription.plan()
            finally:
                subscription.close()
            changes += [one for one in found if (one.what, one.name) != ("topic", self._binding.name)]
        return changes

    def create(self) -> None:
        """Make the topic and its declared subscriptions."""
        with translating():
            with contextlib.suppress(theirs.AlreadyExists):
                self._client.create_topic(name=self._path, timeout=self._usual, retry=retrying(self._usual))
        for subscription in self._declared():
            try:
                subscription.create()
            finally:
                subscription.close()

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Publish messages, all of them or none."""
        return publish(self._client, self._path, messages, timeout)

    @property
    def _client(self) -> PublisherClient:
        if self._closed:
            raise Closed("the resource is closed")
        if self._publisher is None:
            with translating():
                self._publisher = publisher(self._binding)
        return self._publisher

    def _is_there(self, timeout: float) -> bool:
        try:
            self._client.get_topic(topic=self._path, timeout=timeout, retry=retrying(timeout))
        except theirs.NotFound:
            return False
        except FAILURES as error:
            raise translated(error) from error
        return True

    def _declared(self) -> list[PubSubSubscription]:
        # One that is bound elsewhere is made by its own driver.
        url, options = self._binding.url, self._binding.options
        return [
            PubSubSubscription(one, topic=self._binding.name)
            for one in self._binding.subscriptions
            if (one.url.scheme, one.url.hosts) == (url.scheme, url.hosts) and one.options == options
        ]


class PubSubSubscription(PubSubQueue):
    """A queue that a topic feeds, through a filter that the service applies.

    What is sent to the subscription itself goes through the topic, too, under a mark that keeps it from the others.
    """

    def __init__(self, binding: Binding[Any], topic: str | None = None) -> None:
        super().__init__(binding)
        contract: Any = binding.contract
        declared: SubscriptionContract = contract
        self._wanted_attributes = declared.filter
        self._mark = hashlib.blake2s(binding.name.encode(), digest_size=6).hexdigest()
        self._feeding = topic or (binding.topic.name if binding.topic is not None else declared.topic)
        if len(self._filter().encode()) > LONGEST_FILTER:
            raise ConfigError(
                f"the filter is {len(self._filter().encode())} bytes as Pub/Sub writes it, and it takes "
                f"{LONGEST_FILTER}; filter by fewer or shorter attributes"
            )

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Publish messages that reach this subscription alone."""
        marked = [
            msgspec.structs.replace(one, attributes={**(one.attributes or {}), SENT_TO: self._mark}) for one in messages
        ]
        return super().send(marked, timeout=timeout)

    def _topic_name(self) -> str:
        return self._feeding

    def _filter(self) -> str:
        # https://cloud.google.com/pubsub/docs/subscription-message-filter#filtering_syntax
        wanted = [
            f"attributes.{_quoted(name)} = {_quoted(value)}" for name, value in sorted(self._wanted_attributes.items())
        ]
        wanted.append(f"NOT attributes:{_quoted(SENT_TO)}")
        return f"({' AND '.join(wanted)}) OR attributes.{_quoted(SENT_TO)} = {_quoted(self._mark)}"

    def _concerns(self, attributes: Mapping[str, str]) -> bool:
        # The emulator takes a filter and applies none.
        if SENT_TO in attributes:
            return attributes[SENT_TO] == self._mark
        return all(attributes.get(name) == value for name, value in self._wanted_attributes.items())


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
