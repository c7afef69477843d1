"""What every topic must do, and what every subscription must do beside being a queue."""

from __future__ import annotations

import functools
from typing import Any

import msgspec
import pytest

from portable import errors
from portable.messages import Outgoing
from portable.testing.aio._concurrency import race
from portable.testing.aio.queue import QueueSuite
from portable.testing.aio.queue_cases import HOSTILE, QueueCases
from portable.testing.aio.suite import lacks, needs

__all__ = ["SubscriptionSuite", "TopicSuite"]


class Event(msgspec.Struct):
    """A typed body."""

    name: str


class TopicSuite(QueueCases):
    """The cases of topics: `open` gives topics, `subscribe` their subscriptions."""

    kind = "topic"

    def subscribe(self, name: str, *, topic: str = "main", **contract: Any) -> Any:
        """Open a subscription of one of this test's topics."""
        return self.open(name, kind="subscription", topic=self.physical(topic), **contract)

    async def made(self, *subscriptions: Any) -> None:
        """Make subscriptions, so that they get what is published from now on."""
        for subscription in subscriptions:
            await subscription.receive(wait=0)

    async def test_every_subscription_gets_a_copy(self) -> None:
        """Each gets the message with all that it was published with, and has its own."""
        topic, one, other = self.open(), self.subscribe("one"), self.subscribe("other")
        await self.made(one, other)
        assert await topic.publish(b"\x00\xff body", attributes={"type": "order.paid", "empty": ""})
        for subscription in (one, other):
            (message,) = await self.received(subscription)
            assert message.body == b"\x00\xff body"
            assert message.attributes == {"type": "order.paid", "empty": ""}
            assert await subscription.receive(wait=0.2 * self.lease) == []

    async def test_without_subscriptions(self) -> None:
        """What nobody subscribes to is published all the same, and gone."""
        topic = self.open()
        assert await topic.publish(b"nobody hears")
        later = self.subscribe("later")
        await self.made(later)
        await topic.publish(b"heard")
        assert [message.body for message in await self.received(later)] == [b"heard"]
        assert await later.receive(wait=0.2 * self.lease) == []

    async def test_subscription_without_the_topic_open(self) -> None:
        """A subscription stays when its topic's handle comes and goes."""
        subscription = self.subscribe("one")
        await self.made(subscription)
        for body in (b"1", b"2"):
            topic = self.open()
            await topic.publish(body)
            await topic.close()
        assert sorted(message.body for message in await self.received(subscription, 2)) == [b"1", b"2"]

    async def test_topics_do_not_mix(self) -> None:
        """A subscription gets its own topic's messages only."""
        one, other = self.open("one"), self.open("other")
        subscription = self.subscribe("sub", topic="one")
        await self.made(subscription)
        await other.publish(b"for others")
        await one.publish(b"for one")
        assert [message.body for message in await self.received(subscription)] == [b"for one"]
        assert await subscription.receive(wait=0.2 * self.lease) == []

    async def test_filter(self) -> None:
        """A filter lets through what has all of its attributes, with equal values."""
        topic = self.open()
        paid = self.subscribe("paid", filter={"type": "order.paid"})
        paid_here = self.subscribe("paid-here", filter={"type": "order.paid", "country": "Österreich 🏔"})
        everything = self.subscribe("everything")
        await self.made(paid, paid_here, everything)
        published: list[dict[str, str]] = [
            {},
            {"type": "order.paid"},
            {"type": "order.paid2"},
            {"type": "order.paid", "country": "Österreich 🏔", "more": "x"},
            {"country": "Österreich 🏔"},
        ]
        for number, attributes in enumerate(published):
            await topic.publish(str(number), attributes=attributes)
        assert sorted(one.body for one in await self.received(everything, 5)) == [b"0", b"1", b"2", b"3", b"4"]
        assert sorted(one.body for one in await self.received(paid, 2)) == [b"1", b"3"]
        assert [one.body for one in await self.received(paid_here)] == [b"3"]
        for subscription in (paid, paid_here):
            assert await subscription.receive(wait=0.2 * self.lease) == []

    async def test_changed_filter(self) -> None:
        """A filter that the contract changes holds for what is published from then on."""
        topic, before = self.open(), self.subscribe("sub", filter={"a": "1"})
        await self.made(before)
        await before.close()
        after = self.subscribe("sub", filter={"a": "2"})
        await self.made(after)
        await topic.publish(b"old", attributes={"a": "1"})
        await topic.publish(b"new", attributes={"a": "2"})
        assert [message.body for message in await self.received(after)] == [b"new"]
        assert await after.receive(wait=0.2 * self.lease) == []

    async def test_publish_many(self) -> None:
        """A batch takes bodies and `Outgoing`, any number, and gives an id for each."""
        topic, subscription = self.open(), self.subscribe("sub")
        await self.made(subscription)
        bodies = [f"message {number}".encode() for number in range(33)]
        result = await topic.publish_many([*bodies[:-1], Outgoing(bodies[-1], {"last": "yes"})])
        assert result.failed == {}
        assert len(set(result.results)) == 33
        messages = await self.received(subscription, 33)
        assert sorted(message.body for message in messages) == sorted(bodies)
        assert [message.attributes for message in messages if message.body == bodies[-1]] == [{"last": "yes"}]

    async def test_poisoned_batch(self) -> None:
        """One entry that cannot be published does not hold up the others."""
        topic, subscription = self.open(), self.subscribe("sub")
        await self.made(subscription)
        entries = [b"first", Outgoing(b"bad", {"portable-x": "1"}), Outgoing(b"later", delay=5), object(), b"last"]
        with pytest.raises(errors.BatchError) as caught:
            await topic.publish_many(entries)
        assert sorted(caught.value.result.failed) == [1, 2, 3]
        assert sorted(message.body for message in await self.received(subscription, 2)) == [b"first", b"last"]
        assert sorted((await topic.publish_many(entries, return_errors=True)).failed) == [1, 2, 3]

    async def test_typed_bodies(self) -> None:
        """With a type, bodies are values of it."""
        topic, subscription = self.open(type=Event), self.subscribe("sub", type=Event)
        await self.made(subscription)
        await topic.publish(Event("paid"))
        assert [message.body for message in await self.received(subscription)] == [Event("paid")]
        with pytest.raises(errors.InvalidArgument):
            await self.open().publish({"name": "paid"})

    async def test_hostile_attributes(self) -> None:
        """The value of an attribute is any UTF-8."""
        topic, subscription = self.open(), self.subscribe("sub")
        await self.made(subscription)
        for value in HOSTILE:
            await topic.publish(b"body", attributes={"name": value})
        messages = await self.received(subscription, len(HOSTILE))
        assert sorted(message.attributes["name"] for message in messages) == sorted(HOSTILE)

    async def test_publishers_race(self) -> None:
        """However many publish at once, every subscription gets all of it, once."""
        one, other = self.subscribe("one"), self.subscribe("other")
        await self.made(one, other)
        topics = [self.open() for _ in range(8)]
        calls = [functools.partial(topic.publish, str(number)) for number, topic in enumerate(topics * 4)]
        assert not [outcome for outcome in await race(calls) if isinstance(outcome, BaseException)]
        wanted = sorted(str(number).encode() for number in range(len(calls)))
        for subscription in (one, other):
            assert sorted(message.body for message in await self.received(subscription, len(calls))) == wanted

    @needs("ordered")
    async def test_order(self) -> None:
        """An ordered subscription delivers a key's messages in order, one at a time; others take them as they come."""
        topic = self.open()
        ordered = self.subscribe("ordered", ordered=True, visibility_timeout=600)
        unordered = self.subscribe("unordered", visibility_timeout=600)
        await self.made(ordered, unordered)
        await topic.publish_many([Outgoing(f"{key}{number}", ordering_key=key) for number in range(3) for key in "ab"])
        for number in range(3):
            messages = await self.received(ordered, 2, ack=False)
            assert sorted(message.body for message in messages) == [b"a%d" % number, b"b%d" % number]
            assert await ordered.receive(wait=0) == []
            await ordered.ack_many(messages)
        messages = await self.received(unordered, 6)
        assert sorted(message.ordering_key for message in messages) == ["a", "a", "a", "b", "b", "b"]

    @lacks("ordered")
    async def test_no_order(self) -> None:
        """An ordering key is refused where it does nothing."""
        with pytest.raises(errors.Unsupported):
            await self.open().publish(b"body", ordering_key="a")

    async def test_check(self) -> None:
        """A probe of what is there finds nothing wrong and leaves nothing behind."""
        topic, subscription = self.open(), self.subscribe("sub")
        await self.made(subscription)
        await topic.publish(b"body", timeout=self.patience)
        await topic.check(write=True, timeout=self.patience)
        assert len(await self.received(subscription)) == 1
        assert await subscription.receive(wait=0) == []


class SubscriptionSuite(QueueSuite):
    """The cases of queues, for a subscription that is sent to directly."""

    kind = "subscription"

    def open(self, name: str = "main", *, kind: str | None = None, type: Any = None, **contract: Any) -> Any:
        """Open a subscription of a topic that all of this test's subscriptions have."""
        if kind is None:
            contract.setdefault("topic", self.physical("topic"))
        return super().open(name, kind=kind, type=type, **contract)

    async def test_what_is_sent_stays_here(self) -> None:
        """What is sent to a subscription, or redriven into it, reaches no other one of its topic."""
        one, other = self.open("one", max_deliveries=1), self.open("other")
        for subscription in (one, other):
            await subscription.receive(wait=0)
        topic = self.open("topic", kind="topic")
        await topic.publish(b"published")
        await self.received(other)
        (message,) = await self.received(one, ack=False)
        await message.reject("once more")
        assert await one.redrive() == 1
        await one.send(b"sent")
        assert sorted(message.body for message in await self.received(one, 2)) == [b"published", b"sent"]
        assert await other.receive(wait=0.3 * self.lease) == []
