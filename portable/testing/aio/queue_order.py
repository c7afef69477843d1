"""What an ordered queue must do, and what one that is not must refuse."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from portable import errors
from portable.messages import Outgoing
from portable.testing.aio._concurrency import race
from portable.testing.aio.queue_cases import QueueCases
from portable.testing.aio.suite import lacks, needs

__all__ = ["QueueOrderCases"]


class QueueOrderCases(QueueCases):
    """Ordering keys."""

    @needs("ordered")
    async def test_one_of_a_key_at_a_time(self) -> None:
        """The next message of a key comes when the one before it is done; other keys do not wait."""
        queue = self.open(ordered=True, visibility_timeout=600)
        for body in ("a1", "a2", "b1", "a3"):
            await queue.send(body, ordering_key=body[0])
        first = await self.received(queue, 2, ack=False)
        assert sorted(message.body for message in first) == [b"a1", b"b1"]
        assert {message.ordering_key for message in first} == {"a", "b"}
        assert await queue.receive(10, wait=0.2 * self.lease) == []
        await queue.ack_many(first)
        assert [message.body for message in await self.received(queue)] == [b"a2"]
        assert [message.body for message in await self.received(queue)] == [b"a3"]

    @needs("ordered")
    async def test_order_under_concurrency(self) -> None:
        """However many receive at once, the messages of a key are handled in the order in which they were sent."""
        queue = self.open(ordered=True, visibility_timeout=600)
        keys = [f"key {number}" for number in range(4)]
        await queue.send_many([Outgoing(str(number), ordering_key=key) for number in range(12) for key in keys])
        handled: dict[str, list[int]] = {key: [] for key in keys}

        async def handle(receiver: Any) -> None:
            while sum(map(len, handled.values())) < 12 * len(keys):
                for message in await receiver.receive(3, wait=0.2 * self.lease):
                    handled[message.ordering_key].append(int(message.body))
                    await message.ack()

        outcomes = await race(
            [functools.partial(handle, self.open(ordered=True, visibility_timeout=600)) for _ in range(5)]
        )
        assert outcomes == [None] * 5
        assert handled == {key: list(range(12)) for key in keys}

    @needs("ordered")
    async def test_nack_blocks_its_key(self) -> None:
        """A message that was given back comes again before those behind it."""
        queue = self.open(ordered=True, visibility_timeout=600)
        for body in ("a1", "a2"):
            await queue.send(body, ordering_key="a")
        (message,) = await self.received(queue, ack=False)
        await message.nack()
        (again,) = await self.received(queue, ack=False)
        assert (again.id, again.body) == (message.id, b"a1")
        if queue.capabilities.nack_delay:
            await again.nack(delay=self.lease)
            (again,) = await self.received(queue, ack=False)
            assert again.body == b"a1"
        await again.ack()
        assert [message.body for message in await self.received(queue)] == [b"a2"]

    @needs("ordered")
    async def test_expired_lease_keeps_the_order(self) -> None:
        """A message whose lease ran out comes again before those behind it."""
        queue = self.open(ordered=True, visibility_timeout=self.lease)
        for body in ("a1", "a2"):
            await queue.send(body, ordering_key="a")
        for _ in range(2):
            (message,) = await self.received(queue, ack=False)
            assert message.body == b"a1"

    @needs("ordered")
    async def test_dead_letter_frees_its_key(self) -> None:
        """Those behind a dead letter come next."""
        queue = self.open(ordered=True, max_deliveries=1, visibility_timeout=600)
        for body in ("a1", "a2", "a3"):
            await queue.send(body, ordering_key="a")
        (message,) = await self.received(queue, ack=False)
        await message.reject("bad")
        (message,) = await self.received(queue, ack=False)
        assert message.body == b"a2"
        await message.nack()
        assert [message.body for message in await self.received(queue)] == [b"a3"]
        letters = await self.received(queue.dead_letters, 2)
        assert sorted(letter.body for letter in letters) == [b"a1", b"a2"]
        assert {letter.ordering_key for letter in letters} == {"a"}

    @needs("ordered")
    async def test_rest_of_a_key_is_not_sent(self) -> None:
        """After a failure in a batch the rest of its key is not sent, and other keys are."""
        queue = self.open(ordered=True)
        entries = [
            Outgoing(b"a1", ordering_key="a"),
            Outgoing(object(), ordering_key="a"),
            Outgoing(b"a3", ordering_key="a"),
            Outgoing(b"b1", ordering_key="b"),
        ]
        result = await queue.send_many(entries, return_errors=True)
        assert sorted(result.failed) == [1, 2]
        assert result.failed[2].retryable
        assert sorted(message.body for message in await self.received(queue, 2)) == [b"a1", b"b1"]
        assert await queue.receive(wait=0.2 * self.lease) == []

    @needs("ordered")
    async def test_ordered_needs_a_key(self) -> None:
        """An ordered queue takes no message without a key, and none with a delay."""
        queue = self.open(ordered=True)
        with pytest.raises(errors.InvalidArgument):
            await queue.send(b"body")
        with pytest.raises(errors.InvalidArgument):
            await queue.send(b"body", ordering_key="")
        with pytest.raises((errors.InvalidArgument, errors.Unsupported)):
            await queue.send(b"body", ordering_key="a", delay=1)
        assert await queue.receive(wait=0) == []

    @needs("ordered")
    async def test_unordered_takes_no_key(self) -> None:
        """A queue that keeps no order takes no key, which would promise one."""
        with pytest.raises(errors.InvalidArgument):
            await self.open().send(b"body", ordering_key="a")

    @needs("ordered")
    async def test_hostile_keys(self) -> None:
        """An ordering key is any UTF-8."""
        queue = self.open(ordered=True)
        keys = ["../up", "'quote\"", " ", "🚲", "tab\t", "k" * 40]
        await queue.send_many([Outgoing(b"body", ordering_key=key) for key in keys])
        assert {message.ordering_key for message in await self.received(queue, len(keys))} == set(keys)

    @lacks("ordered")
    async def test_no_order(self) -> None:
        """An ordering key is refused where it does nothing, and so is a contract that asks for order."""
        with pytest.raises(errors.Unsupported):
            await self.open().send(b"body", ordering_key="a")
        with pytest.raises(errors.ConfigError):
            await self.open("ordered", ordered=True).receive(wait=0, timeout=self.patience)
