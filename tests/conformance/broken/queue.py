"""Queues, topics and subscriptions that each break one promise; `test_broken_queue.py` names the case for each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from portable.errors import PortableError
from portable.messages import Delivery, Outgoing
from portable.registry import Adapter, register
from portable.testing.queue import QueueSuite
from portable.testing.topic import SubscriptionSuite, TopicSuite
from portable_embedded.memory_queue import MemoryQueue
from portable_embedded.memory_topic import MemorySubscription, MemoryTopic
from tests.conformance.leases import LEASE


class LosesOnRestart(MemoryQueue):
    """Keeps messages only as long as its own handle lives."""

    def close(self) -> None:
        self._backlog.clear()


class DeliversTwice(MemoryQueue):
    """Gives a message to another receiver although it is leased."""

    def receive(self, max_messages: int, *, visibility: float, timeout: float) -> list[Delivery]:
        return super().receive(max_messages, visibility=0.0, timeout=timeout)


class LeasesForEver(MemoryQueue):
    """Never gives a message back that nobody settles."""

    def receive(self, max_messages: int, *, visibility: float, timeout: float) -> list[Delivery]:
        return super().receive(max_messages, visibility=1e9, timeout=timeout)


class IgnoresAck(MemoryQueue):
    """Says that it removed a message, and did not."""

    def ack(self, deliveries: Sequence[Delivery], *, timeout: float) -> list[PortableError | None]:
        return [None] * len(deliveries)


class IgnoresNack(MemoryQueue):
    """Does not give back what it was given."""

    def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:
        pass


class LosesOnNack(MemoryQueue):
    """Removes what was given back."""

    def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:
        self.ack(deliveries, timeout=timeout)


class IgnoresExtend(MemoryQueue):
    """Says that it extended a lease, and did not."""

    def extend(self, deliveries: Sequence[Delivery], *, seconds: float, timeout: float) -> list[PortableError | None]:
        return [None] * len(deliveries)


class IgnoresDelay(MemoryQueue):
    """Delivers at once what was sent for later."""

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        return super().send([msgspec.structs.replace(one, delay=0.0) for one in messages], timeout=timeout)


class IgnoresNackDelay(MemoryQueue):
    """Delivers at once what was given back for later."""

    def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:
        super().nack(deliveries, delay=0.0, timeout=timeout)


class ForgetsRepeats(MemoryQueue):
    """Takes a repeat for something new."""

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        return super().send([msgspec.structs.replace(one, dedup_id=None) for one in messages], timeout=timeout)


class ForgetsRepeatsOnceHandled(MemoryQueue):
    """Knows repeats only of what it still holds."""

    def ack(self, deliveries: Sequence[Delivery], *, timeout: float) -> list[PortableError | None]:
        self._backlog._sent.clear()
        return super().ack(deliveries, timeout=timeout)


class ReordersAKey(MemoryQueue):
    """Puts a batch in back to front."""

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        return super().send(messages[::-1], timeout=timeout)[::-1]


class ShowsAKeyToMany(MemoryQueue):
    """Delivers the next message of a key before the one in front of it is done."""

    def open(self) -> None:
        super().open()
        self._backlog.ordered = False


class NackFreesTheKey(MemoryQueue):
    """Puts a message that was given back behind the others of its key."""

    def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:
        for one in deliveries:
            self.ack([one], timeout=timeout)
            self.send([Outgoing(one.body, one.attributes, 0.0, one.ordering_key)], timeout=timeout)


class DropsAttributes(MemoryQueue):
    """Carries bodies only."""

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        return super().send([msgspec.structs.replace(one, attributes=None) for one in messages], timeout=timeout)


class TakesBodiesForText(MemoryQueue):
    """Carries text, and what is no text comes out as something else."""

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        as_text = [msgspec.structs.replace(one, body=one.body.decode("utf-8", "replace").encode()) for one in messages]
        return super().send(as_text, timeout=timeout)


class LosesTheEndOfABatch(MemoryQueue):
    """Takes ten messages, and says that it took all."""

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        return [*super().send(messages[:10], timeout=timeout), *("lost" for _ in messages[10:])]


class NeverBuries(MemoryQueue):
    """Delivers what cannot be handled again and again."""

    def __init__(self, binding: Any) -> None:
        super().__init__(binding)
        self._max_deliveries = 1 << 40

    def _wanted(self) -> dict[str, str]:
        return {self._name: "queue"}


class DropsDeadLetters(MemoryQueue):
    """Removes what cannot be handled."""

    def _bury(self, delivery: Delivery, reason: str, now: float) -> PortableError | None:
        return self._backlog.remove(delivery, now)


class BuriesTooEarly(MemoryQueue):
    """Counts one delivery too many."""

    def __init__(self, binding: Any) -> None:
        super().__init__(binding)
        self._max_deliveries -= 1


class ForgetsTheReason(MemoryQueue):
    """Buries without saying why."""

    def _bury(self, delivery: Delivery, reason: str, now: float) -> PortableError | None:
        return super()._bury(delivery, "dead", now)


class MixesQueues(MemoryQueue):
    """Has one queue for all names."""

    def __init__(self, binding: Any) -> None:
        super().__init__(binding)
        self._name = "all"


class PurgesWhatIsReady(MemoryQueue):
    """Leaves what is leased when it is purged."""

    def purge(self, *, timeout: float) -> None:
        self.ack(self.receive(1000, visibility=60.0, timeout=timeout), timeout=timeout)
        for number, entry in list(self._backlog._entries.items()):
            entry.leased = False
            self._backlog._move(number, entry, self._clock())


class PeeksByReceiving(MemoryQueue):
    """Hides what was only looked at."""

    def peek(self, max_messages: int, *, timeout: float) -> list[Delivery]:
        return self.receive(max_messages, visibility=30.0, timeout=timeout)


class ForgetsWhatIsDue(MemoryQueue):
    """Does not know that a delayed message is on its way."""

    def next_due(self, *, timeout: float) -> float | None:
        due = super().next_due(timeout=timeout)
        return due if due == 0 else None


class FeedsOneSubscription(MemoryTopic):
    """Gives each message to the first subscription that wants it."""

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        subscriptions = self._fanout.subscriptions
        kept = dict(subscriptions)
        for name in list(subscriptions)[1:]:
            del subscriptions[name]
        ids = super().publish(messages, timeout=timeout)
        subscriptions.update(kept)
        return ids


class IgnoresFilters(MemoryTopic):
    """Gives every subscription everything."""

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        subscriptions = self._fanout.subscriptions
        for name, one in list(subscriptions.items()):
            subscriptions[name] = msgspec.structs.replace(one, filter=())
        return super().publish(messages, timeout=timeout)


class FiltersByOneAttribute(MemoryTopic):
    """Looks at the first attribute of a filter only."""

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        subscriptions = self._fanout.subscriptions
        for name, one in list(subscriptions.items()):
            subscriptions[name] = msgspec.structs.replace(one, filter=one.filter[-1:])
        return super().publish(messages, timeout=timeout)


class PublishesTheStartOfABatch(MemoryTopic):
    """Publishes ten messages, and says that it published all."""

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        return [*super().publish(messages[:10], timeout=timeout), *(f"lost {n}" for n in range(len(messages) - 10))]


class PublishesTwice(MemoryTopic):
    """Gives every subscription two copies."""

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        super().publish(messages, timeout=timeout)
        return super().publish(messages, timeout=timeout)


class Replays(MemoryTopic):
    """Gives a new subscription what was published before it was made."""

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        history: list[Outgoing] = self._space.get(("history", self._name), list)
        if not self._fanout.subscriptions:
            history.extend(messages)
            return [str(number) for number, _ in enumerate(messages)]
        return super().publish([*history, *messages], timeout=timeout)[len(history) :]


class ReordersATopic(MemoryTopic):
    """Publishes a batch back to front."""

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        return super().publish(messages[::-1], timeout=timeout)[::-1]


class SendsToEverySubscription(MemorySubscription):
    """Gives what is sent to one subscription to all of its topic."""

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        assert self._binding.topic is not None
        topic = MemoryTopic(self._binding.topic)
        topic.open()
        return topic.publish(messages, timeout=timeout)


DRIVERS: dict[type[Any], tuple[str, type[Any]]] = {
    MemoryQueue: ("queue", QueueSuite),
    MemoryTopic: ("topic", TopicSuite),
    MemorySubscription: ("subscription", SubscriptionSuite),
}


def _register() -> None:
    sound = {kind: f"{driver.__module__}:{driver.__name__}" for driver, (kind, _) in DRIVERS.items()}
    defects = [one for one in globals().values() if isinstance(one, type) and one.__module__ == __name__]
    for defect in defects:
        kind, suite = DRIVERS[defect.__bases__[0]]
        scheme = f"broken-{defect.__name__.lower()}"
        broken = {**sound, kind: f"{__name__}:{defect.__name__}"}
        register(Adapter(schemes={scheme: broken}, extra="tests"))
        name = f"Test{defect.__name__}"
        # What never comes need not be waited for as long as what is late.
        members = {"url": f"{scheme}:broken", "patience": 1.0, "lease": LEASE, "__module__": __name__}
        globals()[name] = type(name, (suite,), members)


_register()


class TestSoundQueue(QueueSuite):
    url = "memory:sound"
    lease = LEASE


class TestSoundTopic(TopicSuite):
    url = "memory:sound"
    lease = LEASE


class TestSoundSubscription(SubscriptionSuite):
    url = "memory:sound"
    lease = LEASE
