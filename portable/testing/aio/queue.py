"""What every queue must do."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import msgspec
import pytest

from portable import errors
from portable.messages import Outgoing
from portable.testing.aio._concurrency import race
from portable.testing.aio.queue_cases import HOSTILE
from portable.testing.aio.queue_consuming import QueueConsumingCases
from portable.testing.aio.queue_leases import QueueLeaseCases
from portable.testing.aio.queue_order import QueueOrderCases
from portable.testing.aio.suite import lacks, needs

__all__ = ["QueueSuite"]


class Job(msgspec.Struct):
    """A typed body."""

    name: str
    tries: int = 0


class QueueSuite(QueueLeaseCases, QueueOrderCases, QueueConsumingCases):
    """The cases of queues: sending and receiving here, leases, order and consuming in their own."""

    async def test_send_then_receive(self) -> None:
        """A message arrives with all that it was sent with."""
        queue = self.open()
        before = datetime.now(UTC) - timedelta(minutes=5)
        sent = await queue.send(b"\x00\xff body", attributes={"type": "order.paid", "empty": ""})
        (message,) = await self.received(queue, ack=False)
        assert message.id == sent
        assert message.body == b"\x00\xff body"
        assert message.attributes == {"type": "order.paid", "empty": ""}
        assert message.ordering_key is None
        assert message.delivery_count >= 1
        assert message.sent_at.utcoffset() == timedelta(0)
        assert before < message.sent_at < datetime.now(UTC) + timedelta(minutes=5)
        assert message.dead_reason is None
        assert message.original_id is None

    @pytest.mark.parametrize(
        "body",
        [b"", b"\x00", bytes(range(256)), b"<&>]]>\r\n", b"x" * 100_000],
        ids=["empty", "nul", "all", "xml", "long"],
    )
    async def test_any_bytes(self, body: bytes) -> None:
        """A body is any bytes."""
        queue = self.open()
        # Some services take no more than a few ten thousand.
        body = body[: queue.capabilities.max_body_bytes]
        await queue.send(body)
        (message,) = await self.received(queue)
        assert message.body == body

    async def test_kinds_of_bodies(self) -> None:
        """A str is sent as UTF-8, and whatever is like bytes as bytes."""
        queue = self.open()
        await queue.send_many(["Grüße", bytearray(b"array"), memoryview(b"view")])
        assert {message.body for message in await self.received(queue, 3)} == {"Grüße".encode(), b"array", b"view"}

    async def test_other_bodies_are_refused(self) -> None:
        """What is neither bytes nor str needs a type."""
        queue = self.open()
        for body in ({"a": 1}, 7, None, "\ud800"):
            with pytest.raises(errors.InvalidArgument):
                await queue.send(body)
        assert await queue.receive(wait=0) == []

    async def test_typed_bodies(self) -> None:
        """With a type, bodies are values of it, and JSON on the way."""
        queue = self.open(type=Job)
        await queue.send(Job("paint", 2))
        (message,) = await self.received(queue, ack=False)
        assert message.body == Job("paint", 2)
        await message.nack()
        (raw,) = await self.received(self.open())
        assert msgspec.json.decode(raw.body) == {"name": "paint", "tries": 2}

    async def test_undecodable(self) -> None:
        """A body that does not fit the type holds nobody up, and is a dead letter in the end."""
        raw = self.open(visibility_timeout=self.lease, max_deliveries=2)
        sent = await raw.send(b"not JSON", attributes={"from": "elsewhere"})
        await raw.send(b'{"name": "good"}')
        typed = self.open(type=Job, visibility_timeout=self.lease, max_deliveries=2)
        (good,) = await self.received(typed)
        assert good.body == Job("good")
        letter = await self.dead_letter_of(typed)
        assert letter.body == b"not JSON"
        assert letter.attributes == {"from": "elsewhere"}
        assert letter.original_id == sent
        assert "type" in letter.dead_reason

    @pytest.mark.parametrize("value", HOSTILE, ids=range(len(HOSTILE)))
    async def test_hostile_attribute_values(self, value: str) -> None:
        """The value of an attribute is any UTF-8."""
        queue = self.open()
        await queue.send(b"body", attributes={"name": value, "other": "plain"})
        (message,) = await self.received(queue)
        assert message.attributes == {"name": value, "other": "plain"}

    async def test_hostile_attribute_names(self) -> None:
        """So is its name."""
        queue = self.open()
        for start in range(0, len(HOSTILE), 4):
            attributes = {name[:100]: str(number) for number, name in enumerate(HOSTILE[start : start + 4])}
            await queue.send(b"body", attributes=attributes)
            (message,) = await self.received(queue)
            assert message.attributes == attributes

    async def test_many_attributes(self) -> None:
        """There may be more attributes than a backend has room for."""
        queue = self.open()
        attributes = {f"name-{number}": f"value {number}" for number in range(25)}
        await queue.send(b"body", attributes=attributes)
        (message,) = await self.received(queue)
        assert message.attributes == attributes

    async def test_bad_attributes_are_refused(self) -> None:
        """Reserved names, and what is no text, are refused before anything is sent."""
        queue = self.open()
        for attributes in ({"portable-x": "1"}, {"a": 1}, {"": "x"}, {"a": "\ud800"}, {"\ud800": "a"}, {1: "a"}):
            with pytest.raises(errors.InvalidArgument):
                await queue.send(b"body", attributes=attributes)
        with pytest.raises(errors.InvalidArgument):
            await queue.send(b"body", attributes=["a"])
        assert await queue.receive(wait=0) == []

    async def test_bad_arguments_are_refused(self) -> None:
        """Numbers that mean nothing are refused before anything is sent."""
        queue = self.open()
        for delay in (-1, float("nan"), float("inf"), "soon"):
            with pytest.raises(errors.InvalidArgument):
                await queue.send(b"body", delay=delay)
        with pytest.raises(errors.InvalidArgument):
            await queue.receive(0)
        with pytest.raises(errors.InvalidArgument):
            await queue.receive(wait=-1)
        with pytest.raises(errors.InvalidArgument):
            await queue.consume(print, concurrency=0)

    async def test_receive_from_an_empty_queue(self) -> None:
        """Nothing is an empty list, at once or after the wait."""
        queue = self.open()
        assert await queue.receive(wait=0) == []
        started = monotonic()
        assert await queue.receive(5, wait=0.3) == []
        assert monotonic() - started >= 0.25

    async def test_waiting_receive_wakes(self) -> None:
        """A receive that waits gets what is sent meanwhile, through whatever handle."""
        queue, other = self.open(), self.open()
        await queue.receive(wait=0)
        started = monotonic()
        received, _ = await race(
            [functools.partial(queue.receive, wait=self.patience), functools.partial(other.send, b"now")]
        )
        assert not isinstance(received, BaseException)
        assert [message.body for message in received] == [b"now"]
        assert monotonic() - started < self.patience

    async def test_send_many(self) -> None:
        """A batch takes bodies and `Outgoing`, any number, and gives the ids in order."""
        queue = self.open()
        bodies = [f"message {number}".encode() for number in range(33)]
        result = await queue.send_many([*bodies[:-1], Outgoing(bodies[-1], {"last": "yes"})])
        assert result.failed == {}
        messages = await self.received(queue, 33)
        assert {message.id: message.body for message in messages} == dict(zip(result.results, bodies, strict=True))
        assert [message.attributes for message in messages if message.body == bodies[-1]] == [{"last": "yes"}]

    async def test_send_none(self) -> None:
        """An empty batch is none."""
        assert (await self.open().send_many([])).results == []

    async def test_poisoned_batch(self) -> None:
        """One entry that cannot be sent does not hold up the others."""
        queue = self.open()
        entries = [b"first", Outgoing(b"bad", {"portable-x": "1"}), object(), b"last"]
        with pytest.raises(errors.BatchError) as caught:
            await queue.send_many(entries)
        result = caught.value.result
        assert sorted(result.failed) == [1, 2]
        assert all(isinstance(error, errors.InvalidArgument) for error in result.failed.values())
        assert {message.body for message in await self.received(queue, 2)} == {b"first", b"last"}
        again = await queue.send_many(entries, return_errors=True)
        assert sorted(again.failed) == [1, 2]
        assert {message.id for message in await self.received(queue, 2)} == {again.results[0], again.results[3]}

    async def test_queues_do_not_mix(self) -> None:
        """A message is in its own queue only."""
        one, other = self.open("one"), self.open("other")
        await one.send(b"for one")
        assert await other.receive(wait=0.2 * self.lease) == []
        assert [message.body for message in await self.received(one)] == [b"for one"]

    async def test_messages_survive_a_restart(self) -> None:
        """What was sent is there when the sender is gone."""
        sender = self.open()
        await sender.send_many([b"1", b"2", b"3"])
        await sender.close()
        with pytest.raises(errors.Closed):
            await sender.send(b"4")
        assert sorted(message.body for message in await self.received(self.open(), 3)) == [b"1", b"2", b"3"]

    @needs("exclusive_lease")
    async def test_receivers_race(self) -> None:
        """However many receive at once, each message goes to one of them."""
        sent = set((await self.open().send_many([str(number) for number in range(40)])).results)
        receivers = [self.open() for _ in range(8)]
        calls = [functools.partial(receiver.receive, 10, wait=0.2 * self.lease) for receiver in receivers]
        found: list[str] = []
        for _ in range(50):
            for messages in await race(calls):
                assert not isinstance(messages, BaseException)
                found += [message.id for message in messages]
            if len(found) >= len(sent):
                break
        assert sorted(found) == sorted(sent)

    @needs("delay")
    async def test_delay(self) -> None:
        """A delayed message is not received before its time, and then it is."""
        queue = self.open()
        await queue.send(b"much later", delay=600)
        started = monotonic()
        await queue.send(b"later", delay=1.5 * self.lease)
        await queue.send(b"now")
        bodies: list[bytes] = []
        for _ in range(2):
            (message,) = await self.received(queue)
            assert message.body == b"now" or monotonic() - started >= 1.4 * self.lease
            bodies.append(message.body)
        assert sorted(bodies) == [b"later", b"now"]
        assert await queue.receive(wait=0) == []

    @needs("delay")
    async def test_waiting_receive_wakes_when_due(self) -> None:
        """A receive that waits gets what becomes due meanwhile."""
        queue = self.open()
        sent = await queue.send(b"later", delay=self.lease)
        assert [message.id for message in await queue.receive(wait=self.patience)] == [sent]

    @lacks("delay")
    async def test_no_delay(self) -> None:
        """A delay is refused where it cannot be kept."""
        queue = self.open()
        with pytest.raises(errors.Unsupported):
            await queue.send(b"later", delay=1)
        assert await queue.receive(wait=0) == []

    @needs("dedup")
    async def test_dedup(self) -> None:
        """A repeat is dropped, though the first has been handled already."""
        queue = self.open()
        first = await queue.send(b"first", dedup_id="a")
        assert await queue.send(b"repeat", dedup_id="a") == first
        assert [message.body for message in await self.received(queue)] == [b"first"]
        result = await queue.send_many([Outgoing(b"repeat", dedup_id="a"), Outgoing(b"second", dedup_id="b")])
        assert result.results[0] == first
        assert [message.body for message in await self.received(queue)] == [b"second"]
        assert await queue.receive(wait=0.2 * self.lease) == []

    @needs("dedup")
    async def test_dedup_races(self) -> None:
        """Of many that send the same at once, one sends it."""
        handles = [self.open() for _ in range(10)]
        ids = await race([functools.partial(handle.send, b"once", dedup_id="same") for handle in handles])
        assert len(set(ids)) == 1
        assert len(await self.received(handles[0])) == 1
        assert await handles[0].receive(wait=0.2 * self.lease) == []

    @lacks("dedup")
    async def test_no_dedup(self) -> None:
        """A dedup id is refused where it does nothing."""
        with pytest.raises(errors.Unsupported):
            await self.open().send(b"body", dedup_id="a")

    @needs("purge")
    async def test_purge(self) -> None:
        """A purged queue holds nothing, and goes on."""
        queue = self.open()
        await queue.send_many([b"1", b"2", b"3"])
        await self.received(queue, ack=False)
        await queue.purge()
        assert await queue.receive(10, wait=0.2 * self.lease) == []
        await queue.send(b"after")
        assert [message.body for message in await self.received(queue)] == [b"after"]

    @lacks("purge")
    async def test_no_purge(self) -> None:
        """Purging is refused where it cannot be done."""
        with pytest.raises(errors.Unsupported):
            await self.open().purge()

    @needs("peek")
    async def test_peek(self) -> None:
        """Looking at a message neither hides it nor counts."""
        queue = self.open()
        sent = await queue.send(b"body", attributes={"a": "b"})
        (seen,) = await queue.peek(10)
        assert (seen.id, seen.body, seen.attributes) == (sent, b"body", {"a": "b"})
        with pytest.raises(errors.InvalidArgument):
            await seen.ack()
        (message,) = await self.received(queue)
        assert message.id == sent
        assert message.delivery_count <= 1
        assert await queue.peek() == []

    @lacks("peek")
    async def test_no_peek(self) -> None:
        """Peeking is refused where it would hide what it sees."""
        with pytest.raises(errors.Unsupported):
            await self.open().peek()

    async def test_stats(self) -> None:
        """What is counted is about right."""
        queue = self.open()
        await queue.send_many([b"1", b"2", b"3"])
        await self.received(queue, ack=False)
        stats: Any = await queue.stats()
        for count in (stats.ready, stats.leased, stats.delayed, stats.dead):
            assert count is None or count >= 0
        if stats.ready is not None and stats.leased is not None:
            assert stats.ready + stats.leased == 3

    async def test_times_out_in_words_of_ours(self) -> None:
        """A call takes a time limit, and a generous one changes nothing."""
        queue = self.open()
        await queue.send(b"body", timeout=self.patience)
        (message,) = await queue.receive(wait=self.patience, timeout=self.patience)
        await message.extend(30, timeout=self.patience)
        await message.ack(timeout=self.patience)
        await queue.stats(timeout=self.patience)

    async def test_check(self) -> None:
        """A probe of what is there finds nothing wrong and leaves nothing behind."""
        queue = self.open()
        await queue.send(b"body")
        await queue.check(timeout=self.patience)
        await queue.check(write=True, timeout=self.patience)
        assert len(await self.received(queue)) == 1
        assert await queue.receive(wait=0) == []
