"""Topics in Amazon SNS: https://docs.aws.amazon.com/sns/latest/api."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from portable.bindings import Binding
from portable.capabilities import TopicCapabilities
from portable.changes import Change
from portable.errors import InvalidArgument, PortableError, ResourceNotFound
from portable.messages import Outgoing
from portable_aws.regional import Regional
from portable_aws.service_errors import FAILURES, translated, translating
from portable_aws.sns_places import TopicPlace
from portable_aws.sns_subscription import SnsSubscription
from portable_aws.sqs_batches import BATCH, send_all
from portable_aws.sqs_messages import Entry, packed
from portable_aws.sqs_options import SnsOptions

__all__ = ["SnsTopic"]

MOST_BYTES = 256 * 1024
"""Of a message, and of a batch: https://docs.aws.amazon.com/sns/latest/api/API_PublishBatch.html."""

LARGEST = 190_000
"""Bytes of a body that fit whatever they are, with room for what attributes cost beside their text."""

_STANDARD = TopicCapabilities(max_body_bytes=LARGEST, max_batch=BATCH)
_FIFO = msgspec.structs.replace(_STANDARD, ordered=True)


class SnsTopic:
    """Satisfies `portable.drivers.TopicDriver`."""

    Options = SnsOptions
    send_concurrency = 8

    def __init__(self, binding: Binding[SnsOptions]) -> None:
        self._binding = binding
        self._fifo = binding.options.fifo
        self.capabilities = _FIFO if self._fifo else _STANDARD
        self._regional = Regional(binding)
        self._place = TopicPlace(self._regional, binding, binding.name)

    @property
    def native(self) -> Any:
        """boto3's client of SNS."""
        return self._client

    def open(self) -> None:
        """Connect, and find the topic, or make it and its declared subscriptions where the binding says so."""
        if self._binding.create:
            if self.plan():
                self.create()
            return
        with translating():
            found = self._place.is_there()
        if not found:
            raise ResourceNotFound(f"there is no topic {self._place.name!r}; make it with `portable resources create`")

    def close(self) -> None:
        """Let go of the connections."""
        self._regional.close()

    def check(self, *, write: bool, timeout: float) -> None:  # noqa: ARG002 (the client bounds its calls)
        """Ask for the topic; with `write`, publish a batch of nothing, which is refused only to those who may."""
        with translating():
            self._client.get_topic_attributes(TopicArn=self._place.arn())
        if write:
            try:
                self._client.publish_batch(TopicArn=self._place.arn(), PublishBatchRequestEntries=[])
            except FAILURES as error:
                found = translated(error)
                if not isinstance(found, InvalidArgument):
                    raise found from error

    def plan(self) -> list[Change]:
        """Say what would be made or changed."""
        with translating():
            changes = [] if self._place.is_there() else [Change("create", "topic", self._place.name)]
        for subscription in self._declared():
            try:
                changes += [one for one in subscription.plan() if one.what != "topic"]
            finally:
                subscription.close()
        return changes

    def create(self) -> None:
        """Make the topic and its declared subscriptions."""
        with translating():
            self._place.make()
        for subscription in self._declared():
            try:
                subscription.create()
            finally:
                subscription.close()

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:  # noqa: ARG002 (the client bounds its calls)
        """Publish messages, each for itself, together."""

        def call(batch: list[tuple[str, Entry]]) -> Any:
            entries = [entry.fields(id_, "Message") for id_, entry in batch]
            return self._client.publish_batch(TopicArn=self._place.arn(), PublishBatchRequestEntries=entries)

        keys = [one.ordering_key if self._fifo else None for one in messages]
        return send_all([self._packed(one) for one in messages], keys, call, most_bytes=MOST_BYTES)

    def _packed(self, message: Outgoing) -> Entry | PortableError:
        try:
            # A standard queue that subscribes to a FIFO topic sees no groups.
            return packed(message, fifo=self._fifo, keyed=True, most_bytes=MOST_BYTES)
        except PortableError as error:
            return error

    def _declared(self) -> list[SnsSubscription]:
        return [
            SnsSubscription(one, topic=self._binding)
            for one in self._binding.subscriptions
            if one.url.scheme in {"sns", "sqs"}
        ]

    @property
    def _client(self) -> Any:
        return self._regional.client("sns")
