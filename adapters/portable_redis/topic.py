# Generated from adapters/portable_redis/aio/topic.py by tools/generate_sync.py; change that file, not this one.
"""Topics and their subscriptions on Redis: publishing adds a copy to the queue of every subscription that wants it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from portable.bindings import Binding
from portable.capabilities import TopicCapabilities
from portable.changes import Change
from portable.contracts import SubscriptionContract
from portable.errors import PortableError, ResourceNotFound
from portable.messages import Outgoing
from portable_redis._concurrency import IS_ASYNC, async_twin
from portable_redis.keys import queue_base, topic_base
from portable_redis.options import RedisOptions
from portable_redis.queue import LARGEST, LARGEST_BATCH, RedisQueue, outgoing, send_script
from portable_redis.scripts import Script
from portable_redis.server import Server

__all__ = ["RedisSubscription", "RedisTopic"]

_PUBLISH = Script("publish", after="queue")
_SUBSCRIPTIONS = Script("subscriptions")

_encode = msgspec.json.Encoder(order="sorted").encode
_decode = msgspec.json.Decoder(dict[str, str]).decode


class RedisTopic:
    """Satisfies `portable.drivers.TopicDriver`."""

    Options = RedisOptions
    is_async = IS_ASYNC
    async_twin = async_twin
    # Scripts run one after the other.
    send_concurrency = 1

    def __init__(self, binding: Binding[Any]) -> None:
        self.binding = binding
        self._server = Server(binding)
        self._base = topic_base(binding.name)
        self._subscribed = f"{self._base}:subscriptions"
        self.capabilities = TopicCapabilities(
            durability=self._server.durability, ordered=True, max_body_bytes=LARGEST, max_batch=LARGEST_BATCH
        )

    @property
    def native(self) -> Any:
        """The client of redis-py."""
        return self._server.client

    def open(self) -> None:
        """Connect, and find the topic, or make it and its declared subscriptions where the binding says so."""
        self._server.open()
        self.capabilities = msgspec.structs.replace(self.capabilities, durability=self._server.durability)
        if self.binding.create:
            self.create()
        else:
            self._find(float(self.binding.contract.timeout))

    def close(self) -> None:
        """Let go of the connections."""
        self._server.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Look the topic up; with `write`, write something that is gone at once."""
        self._find(timeout)
        if write:
            self._server.call("SET", f"{self._base}:check", "1", "PX", 1, timeout=timeout, again=True)

    def plan(self) -> list[Change]:
        """Say what would be made."""
        self._server.open()
        changes: list[Change] = []
        if not self._is_there(float(self.binding.contract.timeout)):
            changes.append(Change("create", "topic", self.binding.name))
        for binding in self._declared():
            subscription = RedisSubscription(binding, topic=self.binding.name)
            try:
                changes += subscription.plan()
            finally:
                subscription.close()
        return changes

    def create(self) -> None:
        """Make the topic and its declared subscriptions."""
        self._server.open()
        timeout = float(self.binding.contract.timeout)
        self._server.call("HSETNX", self._base, "name", self.binding.name, timeout=timeout, again=True)
        for binding in self._declared():
            subscription = RedisSubscription(binding, topic=self.binding.name)
            try:
                subscription.create()
            finally:
                subscription.close()

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Give every subscription a copy: in one step, but for a cluster, where it is one for each subscription."""
        entries = [outgoing(message) for message in messages]
        if self._server.is_cluster:
            self._spread(messages, entries, timeout)
        else:
            arguments = [part for entry in entries for part in entry]
            self._server.run(_PUBLISH, (self._subscribed,), *arguments, timeout=timeout, again=True)
        return [entry[0] for entry in entries]

    def _spread(self, messages: Sequence[Outgoing], entries: Sequence[Any], timeout: float) -> None:
        found = self._server.run(_SUBSCRIPTIONS, (self._subscribed,), timeout=timeout, again=True)
        for name, wanted in zip(found[::2], found[1::2], strict=True):
            filtered = _decode(wanted).items()
            arguments: list[Any] = []
            for message, entry in zip(messages, entries, strict=True):
                attributes = message.attributes or {}
                if all(attributes.get(field) == value for field, value in filtered):
                    arguments += (*entry, 0, "")
            if arguments:
                base = queue_base(name.decode())
                self._server.run(send_script, (base,), *arguments, timeout=timeout, again=True)

    def _declared(self) -> list[Binding[Any]]:
        # One that is bound elsewhere is made by its own driver.
        url, options = self.binding.url, self.binding.options
        return [
            one
            for one in self.binding.subscriptions
            if (one.url.scheme, one.url.hosts) == (url.scheme, url.hosts) and one.options == options
        ]

    def _is_there(self, timeout: float) -> bool:
        return bool(self._server.call("EXISTS", self._base, timeout=timeout, again=True))

    def _find(self, timeout: float) -> None:
        if not self._is_there(timeout):
            raise ResourceNotFound(
                f"the server has no topic {self.binding.name!r}; make it with `portable resources create`"
            )


class RedisSubscription(RedisQueue):
    """A queue on Redis that a topic feeds."""

    def __init__(self, binding: Binding[Any], topic: str | None = None) -> None:
        super().__init__(binding)
        contract: Any = binding.contract
        declared: SubscriptionContract = contract
        self._filter = _encode(declared.filter).decode()
        self._topic = topic or (binding.topic.name if binding.topic is not None else declared.topic)

    def _feed(self) -> tuple[str, str]:
        return self._topic, self._filter

    def create(self) -> None:
        """Make the queue, its dead-letter queue and, where it is missing, the topic, and have the topic feed it."""
        self._server.open()
        timeout = float(self._contract.timeout)
        before = self._server.call("HGET", self._base, "topic", timeout=timeout, again=True)
        super().create()
        name = self.binding.name
        if before is not None and before.decode() != self._topic:
            there = f"{topic_base(before.decode())}:subscriptions"
            self._server.call("HDEL", there, name, timeout=timeout, again=True)
        base = topic_base(self._topic)
        self._server.call("HSETNX", base, "name", self._topic, timeout=timeout, again=True)
        self._server.call("HSET", f"{base}:subscriptions", name, self._filter, timeout=timeout, again=True)
