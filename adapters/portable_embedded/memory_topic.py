"""Topics and their subscriptions in the memory of this process."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import msgspec

from portable.bindings import Binding
from portable.capabilities import TopicCapabilities
from portable.changes import Change
from portable.contracts import SubscriptionContract
from portable.drivers import Options as DriverOptions
from portable.errors import PortableError, ResourceNotFound
from portable.messages import Outgoing
from portable_embedded.backlog import Backlog, backlogs
from portable_embedded.memory import Space, space
from portable_embedded.memory_queue import MemoryQueue

__all__ = ["MemorySubscription", "MemoryTopic", "TopicOptions"]


class TopicOptions(DriverOptions, frozen=True, kw_only=True):
    """`memory:` keeps a topic as long as its cloud is open; `memory:NAME` one that all clouds of the process share."""


class _Subscribed(msgspec.Struct, frozen=True):
    filter: tuple[tuple[str, str], ...]
    backlog: Backlog

    def wants(self, attributes: dict[str, str]) -> bool:
        return all(attributes.get(name) == value for name, value in self.filter)


class _Fanout:
    """One topic: who gets a copy, by the name of the subscription."""

    def __init__(self) -> None:
        self.numbers = count(1)
        self.subscriptions: dict[str, _Subscribed] = {}


def _fanouts(space: Space) -> dict[str, _Fanout]:
    found: dict[str, _Fanout] = space.get("topics", dict)
    return found


class MemoryTopic:
    """A topic in memory."""

    Options = TopicOptions
    blocking = False
    capabilities = TopicCapabilities(durability="none", ordered=True, max_batch=1000)
    send_concurrency = 1

    def __init__(self, binding: Binding[Any]) -> None:
        self._binding = binding
        self._name = binding.name
        self._clock = binding.clock
        self._space = space(binding)
        self._fanout = _Fanout()

    @property
    def native(self) -> Space:
        """The space that holds it; there is no client."""
        return self._space

    def open(self) -> None:
        """Find it, or make it and the subscriptions that the config declares for it."""
        if self._binding.create:
            self.create()
        self._fanout = self._find()

    def close(self) -> None:
        """Let go of nothing: the subscriptions belong to the space."""

    def check(self, *, write: bool, timeout: float) -> None:  # noqa: ARG002 (memory is reachable and writable)
        """Raise `ResourceNotFound` when it is not there."""
        self._find()

    def plan(self) -> list[Change]:
        """Say what would be made."""
        with self._space.lock:
            missing = self._name not in _fanouts(self._space)
        changes = [Change("create", "topic", self._name)] if missing else []
        return changes + [change for one in self._subscriptions() for change in one.plan()]

    def create(self) -> None:
        """Make the topic and its declared subscriptions."""
        with self._space.lock:
            _fanouts(self._space).setdefault(self._name, _Fanout())
        for subscription in self._subscriptions():
            subscription.create()

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:  # noqa: ARG002 (memory does not wait)
        """Give every subscription that wants it a copy of each message."""
        now = self._clock()
        ids: list[str | PortableError] = []
        with self._space.lock:
            subscriptions = self._fanout.subscriptions.values()
            for message in messages:
                id = f"{self._name}-{next(self._fanout.numbers)}"  # noqa: A001 (the field's own word)
                for subscription in subscriptions:
                    if subscription.wants(message.attributes or {}):
                        subscription.backlog.add(message, now, id)
                ids.append(id)
            for subscription in subscriptions:
                subscription.backlog.news.changed()
        return ids

    def _subscriptions(self) -> list[MemorySubscription]:
        # One that is bound elsewhere is made by its own driver.
        here = (one for one in self._binding.subscriptions if one.url == self._binding.url)
        return [MemorySubscription(one, topic=self._name) for one in here]

    def _find(self) -> _Fanout:
        with self._space.lock:
            found = _fanouts(self._space).get(self._name)
        if found is None:
            raise ResourceNotFound(f"no topic {self._name!r} in this memory; make it with `portable resources create`")
        return found


class MemorySubscription(MemoryQueue):
    """A queue in memory that a topic feeds."""

    def __init__(self, binding: Binding[Any], topic: str | None = None) -> None:
        super().__init__(binding)
        contract: Any = binding.contract
        declared: SubscriptionContract = contract
        self._filter = tuple(sorted(declared.filter.items()))
        self._topic = topic or (binding.topic.name if binding.topic is not None else declared.topic)

    def open(self) -> None:
        """Find it, or make it."""
        super().open()
        with self._lock:
            if not self._is_subscribed():
                raise ResourceNotFound(
                    f"the topic {self._topic!r} does not feed {self._name!r}; make it with `portable resources create`"
                )

    def plan(self) -> list[Change]:
        """Say which queues would be made, and what the topic would feed."""
        changes = super().plan()
        with self._lock:
            if not changes and not self._is_subscribed():
                changes.append(
                    Change("change", "subscription", self._name, f"fed by {self._topic!r}, filter as declared")
                )
        return changes

    def create(self) -> None:
        """Make the queue, its dead-letter queue and, where it is missing, the topic, and have the topic feed it."""
        super().create()
        with self._lock:
            there = _fanouts(self._space)
            for name, fanout in there.items():
                if name != self._topic:
                    fanout.subscriptions.pop(self._name, None)
            fanout = there.setdefault(self._topic, _Fanout())
            fanout.subscriptions[self._name] = _Subscribed(self._filter, backlogs(self._space)[self._name])

    def _is_subscribed(self) -> bool:
        fanout = _fanouts(self._space).get(self._topic)
        subscribed = fanout.subscriptions.get(self._name) if fanout is not None else None
        return subscribed is not None and subscribed.filter == self._filter
