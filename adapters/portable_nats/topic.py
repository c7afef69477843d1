"""Topics on JetStream: a stream that keeps a message for as long as a subscription has not settled it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portable.bindings import Binding
from portable.capabilities import TopicCapabilities
from portable.changes import Change
from portable.errors import PortableError, ResourceNotFound
from portable.messages import Outgoing
from portable_nats.escaping import written_attributes
from portable_nats.jetstream import JetStream, Message
from portable_nats.options import NatsOptions, checked_name
from portable_nats.queue import LARGEST_BATCH, OVERHEAD
from portable_nats.subscription import NatsSubscription, TopicSubjects, make_topic

__all__ = ["NatsTopic"]


class NatsTopic:
    """Satisfies `portable.aio.drivers.TopicDriver`."""

    Options = NatsOptions
    is_async = True
    send_concurrency = 4

    def __init__(self, binding: Binding[Any]) -> None:
        self.binding = binding
        self._js = JetStream(binding)
        self._subjects = TopicSubjects(checked_name(binding.name))
        self.capabilities = TopicCapabilities(
            durability="replicated" if binding.options.replicas > 1 else "process",
            max_body_bytes=binding.options.max_payload - OVERHEAD,
            max_batch=LARGEST_BATCH,
        )

    @property
    def native(self) -> Any:
        """The client of nats-py."""
        return self._js.client

    async def open(self) -> None:
        """Connect, and find the topic, or make it and its declared subscriptions where the binding says so."""
        await self._js.open()
        if self.binding.create:
            await self.create()
        else:
            await self._find(self._usual)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._js.close()

    async def check(self, *, write: bool, timeout: float) -> None:
        """Look the topic up; with `write`, write something that is gone in a second."""
        await self._find(timeout)
        if write:
            check = Message(f"{self._subjects.seen}.check.check", b"", {"Nats-TTL": "1s"})
            await self._js.publish_each(self._subjects.stream, [check], timeout=timeout)

    async def plan(self) -> list[Change]:
        """Say what would be made."""
        await self._js.open()
        changes: list[Change] = []
        if await self._js.stream(self._subjects.stream, timeout=self._usual) is None:
            changes.append(Change("create", "topic", self.binding.name))
        for binding in self._declared():
            subscription = NatsSubscription(binding, topic=self.binding.name)
            try:
                changes += await subscription.plan()
            finally:
                await subscription.close()
        return changes

    async def create(self) -> None:
        """Make the topic and its declared subscriptions."""
        await self._js.open()
        await make_topic(self._js, self._subjects, self.binding.options, timeout=self._usual)
        for binding in self._declared():
            subscription = NatsSubscription(binding, topic=self.binding.name)
            try:
                await subscription.create()
            finally:
                await subscription.close()

    async def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Store messages, each once for all subscriptions."""
        answers: list[str | PortableError] = [""] * len(messages)
        batch: list[tuple[int, Message]] = []
        for index, outgoing in enumerate(messages):
            message = Message(self._subjects.published, outgoing.body, written_attributes(outgoing.attributes))
            if (error := self._js.refuse_larger(message)) is not None:
                answers[index] = error
            else:
                batch.append((index, message))
        if batch:
            composed = [message for _, message in batch]
            stored = await self._js.publish_each(self._subjects.stream, composed, timeout=timeout)
            for (index, _), answer in zip(batch, stored, strict=True):
                answers[index] = answer if isinstance(answer, PortableError) else str(answer)
        return answers

    @property
    def _usual(self) -> float:
        return float(self.binding.contract.timeout)

    def _declared(self) -> list[Binding[Any]]:
        # One that is bound elsewhere is made by its own driver.
        url, options = self.binding.url, self.binding.options
        return [
            one
            for one in self.binding.subscriptions
            if (one.url.scheme, one.url.hosts) == (url.scheme, url.hosts) and one.options == options
        ]

    async def _find(self, timeout: float) -> None:
        if await self._js.stream(self._subjects.stream, timeout=timeout) is None:
            raise ResourceNotFound(
                f"the server has no topic {self.binding.name!r}; make it with `portable resources create`"
            )
