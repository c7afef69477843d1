"""Queues in Google Pub/Sub: a topic and the one subscription of it that has the same name.

https://cloud.google.com/pubsub/docs/reference/rpc/google.pubsub.v1
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from google.api_core import exceptions as theirs
from google.api_core import grpc_helpers
from google.api_core.gapic_v1 import routing_header
from google.protobuf import duration_pb2, field_mask_pb2
from google.pubsub_v1 import types
from google.pubsub_v1.services.publisher import PublisherClient
from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport
from google.pubsub_v1.services.subscriber import SubscriberClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from portable.bindings import Binding
from portable.bridges import undone_by
from portable.capabilities import QueueCapabilities
from portable.changes import Change
from portable.contracts import QueueContract
from portable.dead_letters import NEVER
from portable.errors import Closed, ConfigError, PortableError, ResourceNotFound
from portable.messages import Delivery, Outgoing, QueueStats
from portable.wire import dead_letter_name
from portable_gcp.attempts import retrying
from portable_gcp.errors import FAILURES, is_late, translated, translating
from portable_gcp.options import PubSubOptions, client_arguments, project
from portable_gcp.pubsub_messages import LARGEST, packed, unpacked

__all__ = ["BATCH", "PubSubQueue", "publish", "publisher"]

BATCH = 1000
SHORTEST_DEADLINE, LONGEST_DEADLINE = 10, 600
"""Seconds of a subscription's own lease; that of a message can be shorter."""

MOST_ATTEMPTS = 100
"""How often Pub/Sub delivers before it moves a message itself: never before we do, for we count as it counts."""


def publisher(binding: Binding[PubSubOptions]) -> PublisherClient:
    """Make the client that publishes and makes topics."""
    return PublisherClient(**client_arguments(binding, PublisherGrpcTransport))


def publish(
    client: PublisherClient, topic: str, messages: Sequence[Outgoing], timeout: float
) -> list[str | PortableError]:
    """Publish messages in one call, which takes all of them or none."""
    request: Any = {"topic": topic, "messages": [packed(one) for one in messages]}
    with translating():
        answer = client.publish(request, timeout=timeout, retry=retrying(timeout))
    return list(answer.message_ids)


def _give_back(driver: PubSubQueue, deliveries: Any) -> None:
    driver.nack(deliveries, delay=0.0, timeout=driver.usual)


class PubSubQueue:
    """Satisfies `portable.drivers.WaitingQueueDriver`."""

    Options = PubSubOptions
    capabilities = QueueCapabilities(
        durability="power",
        lease_per_receive=True,
        purge=True,
        max_body_bytes=LARGEST,
        max_batch=BATCH,
        max_receive=BATCH,
        max_visibility=LONGEST_DEADLINE,
    )
    # The service itself is waited on.
    arrivals = None
    buries = False
    send_concurrency = 4
    consume_ahead = BATCH

    def __init__(self, binding: Binding[PubSubOptions]) -> None:
        contract: Any = binding.contract
        self._contract: QueueContract = contract
        self._binding = binding
        self._project = project(binding)
        self.usual = float(contract.timeout)
        self._visibility = math.ceil(float(contract.visibility_timeout))
        if self._visibility > LONGEST_DEADLINE:
            raise ConfigError(
                f"visibility_timeout is {self._visibility} s; Pub/Sub holds a message for at most "
                f"{LONGEST_DEADLINE} s, and `consume` extends that while a handler runs"
            )
        self._deadline = max(SHORTEST_DEADLINE, self._visibility)
        self._path = self._path_of("subscriptions", binding.name)
        self._routing = [routing_header.to_grpc_metadata((("subscription", self._path),))]
        self._subscriber: SubscriberClient | None = None
        self._publisher: PublisherClient | None = None
        self._closed = False

    @property
    def native(self) -> SubscriberClient:
        """The vendor's client of subscriptions."""
        return self._client

    def open(self) -> None:
        """Connect, and find the queue, or make it where the binding says so."""
        missing = self.plan()
        if missing and self._binding.create:
            self.create()
        elif missing:
            raise ResourceNotFound(
                f"the project {self._project} has no {missing[0].what} {missing[0].name!r} as declared; "
                "make it with `portable resources create`"
            )

    def close(self) -> None:
        """Let go of the connections; whoever waits hears of it."""
        self._closed = True
        for client in (self._subscriber, self._publisher):
            if client is not None:
                client.transport.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Ask for the subscription and its topic; with `write`, ask whether publishing is allowed."""
        with translating():
            self._client.get_subscription(subscription=self._path, timeout=timeout, retry=retrying(timeout))
            topic = self._topics.get_topic(topic=self._topic, timeout=timeout, retry=retrying(timeout))
            if write and self._binding.options.endpoint is None:
                wanted = {"resource": topic.name, "permissions": ["pubsub.topics.publish"]}
                if not self._topics.test_iam_permissions(wanted, timeout=timeout).permissions:
                    raise theirs.Forbidden("publish")

    def plan(self) -> list[Change]:
        """Say what would be made or changed."""
        name = self._binding.name
        changes = [
            Change("create", "topic", one)
            for one in self._topic_names()
            if self._found(self._topics.get_topic, topic=self._path_of("topics", one)) is None
        ]
        found = self._found(self._client.get_subscription, subscription=self._path)
        wanted = self._wanted()
        if found is None:
            changes.append(Change("create", "subscription", name))
        elif (found.topic, found.filter) != (wanted.topic, wanted.filter):
            changes.append(Change("change", "subscription", name, "made anew: neither topic nor filter can change"))
        elif found.ack_deadline_seconds != wanted.ack_deadline_seconds:
            changes.append(Change("change", "subscription", name, f"a lease of {self._deadline} s"))
        return changes

    def create(self) -> None:
        """Make the topics and subscriptions, or bring them to what is declared."""
        with translating():
            for name in self._topic_names():
                self._make(self._topics.create_topic, name=self._path_of("topics", name))
            self._subscribe(self._wanted())
            for name in self._dead_names():
                path = self._path_of("subscriptions", name)
                dead = types.Subscription(
                    name=path, topic=self._path_of("topics", name), expiration_policy=types.ExpirationPolicy()
                )
                self._make(self._client.create_subscription, request=dead)

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Publish messages, all of them or none."""
        return publish(self._topics, self._topic, messages, timeout)

    @undone_by(_give_back)
    def receive(self, max_messages: int, *, visibility: float, timeout: float) -> list[Delivery]:
        """Lease what is at hand."""
        return self._pull(max_messages, visibility, timeout, at_once=True)

    @undone_by(_give_back)
    def wait_receive(self, max_messages: int, *, visibility: float, wait: float, timeout: float) -> list[Delivery]:  # noqa: ARG002 (the pull is bounded by `wait`)
        """Lease what is ready; when nothing is, the service waits for the first."""
        deadline = monotonic() + wait
        while True:
            left = deadline - monotonic()
            if left <= 0:
                return []
            try:
                found = self._pull(max_messages, visibility, left, at_once=False)
            except PortableError as error:
                if is_late(error) and monotonic() >= deadline - 0.1:
                    return []
                raise
            if found:
                return found

    def next_due(self, *, timeout: float) -> float | None:  # noqa: ARG002 (the protocol's signature)
        """Say when a message can be received; nobody asks, for there are no arrivals."""
        return None

    def ack(self, deliveries: Sequence[Delivery], *, timeout: float) -> list[PortableError | None]:
        """Remove messages. Whether the lease had run out before, the service does not tell."""
        with translating():
            self._client.acknowledge(
                subscription=self._path, ack_ids=_receipts(deliveries), timeout=timeout, retry=retrying(timeout)
            )
        return [None] * len(deliveries)

    def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:  # noqa: ARG002 (not declared)
        """Give messages back."""
        self._hold(deliveries, 0, timeout)

    def extend(self, deliveries: Sequence[Delivery], *, seconds: float, timeout: float) -> list[PortableError | None]:
        """Hold messages for longer, as long as the service holds any."""
        self._hold(deliveries, min(math.ceil(seconds), LONGEST_DEADLINE), timeout)
        return [None] * len(deliveries)

    def stats(self, *, timeout: float) -> QueueStats:  # noqa: ARG002 (the protocol's signature)
        """Count nothing: Cloud Monitoring alone knows, minutes later."""
        return QueueStats()

    def purge(self, *, timeout: float) -> None:
        """Have every message that was published until now count as acknowledged."""
        now = dt.datetime.now(dt.UTC)
        with translating():
            self._client.seek({"subscription": self._path, "time": now}, timeout=timeout, retry=retrying(timeout))

    def peek(self, max_messages: int, *, timeout: float) -> list[Delivery]:
        """Not declared."""
        raise NotImplementedError

    def _pull(self, count: int, visibility: float, timeout: float, *, at_once: bool) -> list[Delivery]:
        request = types.PullRequest(subscription=self._path, max_messages=count, return_immediately=at_once)
        with translating():
            # The client's own method warns of `return_immediately`, and knows no other way to only look.
            pull = retrying(timeout)(grpc_helpers.wrap_errors(self._client.transport.pull))
            answer: Any = pull(request, timeout=timeout, metadata=self._routing)
        found: list[Delivery] = []
        others: list[Delivery] = []
        for one in map(_delivery, answer.received_messages):
            (found if self._concerns(one.attributes) else others).append(one)
        if others:
            self.ack(others, timeout=self.usual)
        seconds = max(1, math.ceil(visibility))
        if found and seconds != self._deadline:
            self._hold(found, seconds, self.usual)
        return found

    def _hold(self, deliveries: Sequence[Delivery], seconds: int, timeout: float) -> None:
        with translating():
            self._client.modify_ack_deadline(
                subscription=self._path,
                ack_ids=_receipts(deliveries),
                ack_deadline_seconds=seconds,
                timeout=timeout,
                retry=retrying(timeout),
            )

    @property
    def _client(self) -> SubscriberClient:
        if self._closed:
            raise Closed("the resource is closed")
        if self._subscriber is None:
            with translating():
                self._subscriber = SubscriberClient(**client_arguments(self._binding, SubscriberGrpcTransport))
        return self._subscriber

    @property
    def _topics(self) -> PublisherClient:
        if self._closed:
            raise Closed("the resource is closed")
        if self._publisher is None:
            with translating():
                self._publisher = publisher(self._binding)
        return self._publisher

    @property
    def _topic(self) -> str:
        return self._path_of("topics", self._topic_name())

    def _topic_name(self) -> str:
        return self._binding.name

    def _filter(self) -> str:
        return ""

    def _concerns(self, attributes: Mapping[str, str]) -> bool:  # noqa: ARG002 (for subscriptions)
        """Whether a message is for this queue; a service that filters itself sends no other."""
        return True

    def _topic_names(self) -> list[str]:
        return [self._topic_name(), *self._dead_names()]

    def _dead_names(self) -> list[str]:
        # Pub/Sub counts the deliveries only of a subscription that has a dead-letter topic.
        return [dead_letter_name(self._binding.name)] if self._contract.max_deliveries < NEVER else []

    def _path_of(self, what: str, name: str) -> str:
        return f"projects/{self._project}/{what}/{name}"

    def _wanted(self) -> types.Subscription:
        policies = [
            types.DeadLetterPolicy(dead_letter_topic=self._path_of("topics", name), max_delivery_attempts=MOST_ATTEMPTS)
            for name in self._dead_names()
        ]
        return types.Subscription(
            name=self._path,
            topic=self._topic,
            filter=self._filter(),
            ack_deadline_seconds=self._deadline,
            message_retention_duration=duration_pb2.Duration(seconds=7 * 86400),
            # Without this it would go after 31 days that nobody asked.
            expiration_policy=types.ExpirationPolicy(),
            dead_letter_policy=policies[0] if policies else None,
        )

    def _subscribe(self, wanted: types.Subscription) -> None:
        found = self._found(self._client.get_subscription, subscription=self._path)
        if found is not None and (found.topic, found.filter) != (wanted.topic, wanted.filter):
            self._client.delete_subscription(subscription=self._path, timeout=self.usual)
            found = None
        if found is None:
            self._make(self._client.create_subscription, request=wanted)
        elif found.ack_deadline_seconds != wanted.ack_deadline_seconds:
            mask = field_mask_pb2.FieldMask(paths=["ack_deadline_seconds"])
            self._client.update_subscription(subscription=wanted, update_mask=mask, timeout=self.usual)

    def _found(self, ask: Any, **how: Any) -> Any:
        try:
            return ask(**how, timeout=self.usual, retry=retrying(self.usual))
        except theirs.NotFound:
            return None
        except FAILURES as error:
            raise translated(error) from error

    def _make(self, make: Any, **how: Any) -> None:
        with contextlib.suppress(theirs.AlreadyExists):
            make(**how, timeout=self.usual, retry=retrying(self.usual))


def _receipts(deliveries: Sequence[Delivery]) -> list[str]:
    return [one.receipt for one in deliveries]


def _delivery(received: types.ReceivedMessage) -> Delivery:
    message = received.message
    # The client's own type, a `datetime`, not that of the protocol.
    published: Any = message.publish_time
    body, attributes = unpacked(message.data, message.attributes)
    return Delivery(
        id=message.message_id,
        receipt=received.ack_id,
        body=body,
        attributes=attributes,
        # Where it does not count, each delivery may be the first.
        count=received.delivery_attempt or 1,
        sent_at=published.timestamp(),
        ordering_key=message.ordering_key or None,
    )
