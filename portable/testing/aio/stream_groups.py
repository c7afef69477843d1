"""What the consumer groups of every stream must do."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import pytest

from portable import errors
from portable.aio import cloud
from portable.messages import Outgoing
from portable.records import END, START, Position, Record
from portable.testing.aio._concurrency import race
from portable.testing.aio.suite import Suite, lacks, needs

__all__ = ["StreamGroupSuite"]


class StreamGroupSuite(Suite):
    """The cases of consumers, and what all cases of streams use.

    Attributes:
        checkpoint_url: where the collection is that keeps positions for drivers that keep none themselves.
        patience: seconds that a poll waits for what is certain to come; slow backends need some to deal out partitions.
    """

    kind: ClassVar[str] = "stream"
    checkpoint_url: ClassVar[str] = "memory:conformance"
    patience: ClassVar[float] = 20.0

    async def consumer(self, stream: Any, group: str = "group", **how: Any) -> Any:
        """Make a consumer, with a checkpoint where the driver needs one."""
        if not stream.capabilities.groups:
            positions = cloud.open_collection(self.checkpoint_url, name=self.physical("positions"))
            self._open_ones.append(positions)
            how["checkpoint"] = positions
        return await stream.consumer(group, **how)

    async def everything(self, stream: Any, limit: int = 1000) -> list[Record[Any]]:
        """Read all partitions from their start to their end."""
        found: list[Record[Any]] = []
        for partition in await stream.partitions():
            after: Any = START
            while records := await stream.read(partition, after=after, limit=limit):
                found += records
                after = records[-1].position
        return found

    async def take(self, consumer: Any, count: int) -> list[Record[Any]]:
        """Poll until there are so many records."""
        found: list[Record[Any]] = []
        while len(found) < count:
            records = await consumer.poll(timeout=self.patience, max_records=count - len(found))
            assert records, f"{len(found)} of {count} records came"
            found += records
        return found

    async def test_a_group_reads_everything(self) -> None:
        """A group that is new starts at the oldest record, and reads each partition in order."""
        stream = self.open()
        await stream.append_many([Outgoing(str(number), ordering_key=str(number % 10)) for number in range(100)])
        async with await self.consumer(stream) as consumer:
            records = await self.take(consumer, 100)
            assert {record.data for record in records} == {str(number).encode() for number in range(100)}
            for partition in await stream.partitions():
                positions = [record.position for record in records if record.partition == partition]
                assert positions == sorted(positions)
            assert await consumer.poll(timeout=0) == []

    async def test_poll_gives_at_most_what_is_asked(self) -> None:
        """`max_records` bounds what a poll gives."""
        stream = self.open()
        await stream.append_many([b"x"] * 10)
        async with await self.consumer(stream) as consumer:
            assert len(await consumer.poll(timeout=self.patience, max_records=1)) == 1
            assert 1 <= len(await consumer.poll(timeout=self.patience, max_records=3)) <= 3
            for wrong in ({"max_records": 0}, {"max_records": None}, {"timeout": -1}, {"timeout": "soon"}):
                with pytest.raises(errors.InvalidArgument):
                    await consumer.poll(**wrong)

    async def test_a_waiting_poll_wakes(self) -> None:
        """A poll that waits gives a record that is appended meanwhile."""
        stream, other = self.open(), self.open()
        async with await self.consumer(stream) as consumer:
            assert await consumer.poll(timeout=0) == []

            async def later() -> list[Record[bytes]]:
                await other.append(b"now")
                return []

            async def wait() -> list[Record[bytes]]:
                found: list[Record[bytes]] = await consumer.poll(timeout=self.patience)
                return found

            polled, _ = await race([wait, later])
            assert isinstance(polled, list), polled
            assert [record.data for record in polled] == [b"now"]

    async def test_iterating(self) -> None:
        """A consumer is an iterator that waits for more, and commits what it has given."""
        stream = self.open()
        await stream.append_many([Outgoing(str(number), ordering_key="k") for number in range(5)])
        async with await self.consumer(stream) as consumer:
            seen: list[bytes] = []
            async for record in consumer:
                seen.append(record.data)
                if len(seen) == 3:
                    await consumer.commit()
                    break
            assert seen == [b"0", b"1", b"2"]
        async with await self.consumer(stream) as consumer:
            async for record in consumer:
                seen.append(record.data)
                if len(seen) == 5:
                    break
        assert seen == [b"0", b"1", b"2", b"3", b"4"]

    async def test_iterating_ends_when_the_consumer_is_closed(self) -> None:
        """Closing a consumer that waits for more ends its iteration."""
        stream = self.open()
        await stream.append(b"first")
        consumer = await self.consumer(stream)
        seen: list[bytes] = []

        async def iterate() -> None:
            seen.extend([record.data async for record in consumer])

        async def close() -> None:
            await consumer.close()

        assert [record.data async for record in _first(consumer, 1)] == [b"first"]
        assert await race([iterate, close]) == [None, None]
        assert seen == []

    async def test_resumes_where_it_committed(self) -> None:
        """The next member of a group goes on after what was committed; what was not is given again."""
        stream = self.open(partitions=1)
        await stream.append_many([str(number) for number in range(10)])
        async with await self.consumer(stream) as consumer:
            await self.take(consumer, 4)
            await consumer.commit()
            await self.take(consumer, 3)
        async with await self.consumer(self.open(partitions=1)) as consumer:
            records = await self.take(consumer, 6)
            assert [record.data for record in records] == [str(number).encode() for number in range(4, 10)]
            await consumer.commit()
        async with await self.consumer(stream) as consumer:
            assert await consumer.poll(timeout=0) == []
            await stream.append(b"10")
            assert [record.data for record in await self.take(consumer, 1)] == [b"10"]

    @needs("groups")
    async def test_the_backend_keeps_the_positions_of_a_group(self) -> None:
        """Without any `checkpoint`, a group goes on where it committed, on whichever handle."""
        stream = self.open(partitions=1)
        await stream.append_many(["0", "1", "2"])
        async with await stream.consumer("kept") as consumer:
            assert [record.data for record in await self.take(consumer, 2)] == [b"0", b"1"]
            await consumer.commit()
        async with await self.open(partitions=1).consumer("kept") as consumer:
            assert [record.data for record in await self.take(consumer, 1)] == [b"2"]

    async def test_commit_counts_what_was_given(self) -> None:
        """A commit covers the records that were given, not those that were only fetched."""
        stream = self.open(partitions=1)
        await stream.append_many([str(number) for number in range(10)])
        async with await self.consumer(stream) as consumer:
            await consumer.commit()
            assert [record.data for record in await consumer.poll(timeout=self.patience, max_records=2)] == [b"0", b"1"]
            await consumer.commit()
            await consumer.commit()
        async with await self.consumer(stream) as consumer:
            assert [record.data for record in await self.take(consumer, 1)] == [b"2"]

    async def test_groups_are_apart(self) -> None:
        """Every group reads all records, whatever their names are."""
        stream = self.open()
        await stream.append(b"x")
        for group in ("one", "two", "Grüße / 世界", "a'b\"c", "../up"):
            async with await self.consumer(stream, group) as consumer:
                assert [record.data for record in await self.take(consumer, 1)] == [b"x"], group
                await consumer.commit()

    async def test_start_at_the_end(self) -> None:
        """A group that starts at `END` gets what is appended from then on; a group that has been goes on as ever."""
        stream = self.open()
        await stream.append_many([b"before"] * 8)
        async with await self.consumer(stream, start=END) as consumer:
            # From here on, though it has not polled yet.
            await stream.append_many([b"after"] * 8)
            assert {record.data for record in await self.take(consumer, 8)} == {b"after"}
        async with await self.consumer(stream, start=END) as consumer:
            assert len(await self.take(consumer, 8)) == 8

    async def test_members_share_the_partitions(self) -> None:
        """Each record goes to one member; one that joins gets its share of the partitions, one that leaves gives it."""
        stream = self.open(partitions=4)
        numbers = itertools.count()
        sent: list[bytes] = []

        async def append() -> None:
            batch = [str(next(numbers)).encode() for _ in range(40)]
            sent.extend(batch)
            await stream.append_many([Outgoing(data, ordering_key=data.decode()) for data in batch])

        async def drain(*consumers: Any) -> list[set[str]]:
            """Poll in turn, committing, until all that was sent has come; give each one's partitions of this time."""
            partitions: list[set[str]] = [set() for _ in consumers]
            while len(got) < len(sent):
                for consumer, mine in zip(consumers, partitions, strict=True):
                    records = await consumer.poll(timeout=0.05)
                    got.extend(record.data for record in records)
                    mine.update(record.partition for record in records)
                    await consumer.commit()
            return partitions

        got: list[bytes] = []
        await append()
        first = await self.consumer(stream)
        assert await drain(first) == [set(await stream.partitions())]
        second = await self.consumer(self.open(partitions=4))
        for _ in range(100):
            await append()
            one, two = await drain(first, second)
            # A partition that goes over in the middle of this has given records to both, none of them twice.
            if len(one) == len(two) == 2 and not one & two:
                break
        else:
            raise AssertionError("the second member never got its share")
        await first.close()
        await append()
        assert await drain(second) == [set(await stream.partitions())]
        assert sorted(got) == sorted(sent)

    async def test_more_members_than_partitions(self) -> None:
        """Members beyond the number of partitions get nothing, and take over when another leaves."""
        stream = self.open(partitions=1)
        await stream.append(b"first")
        first, second = await self.consumer(stream), await self.consumer(stream)
        assert [record.data for record in await self.take(first, 1)] == [b"first"]
        assert await second.poll(timeout=0) == []
        await first.commit()
        await first.close()
        await stream.append(b"second")
        assert [record.data for record in await self.take(second, 1)] == [b"second"]

    async def test_seek(self) -> None:
        """Seeking goes back and forth within a partition, and a commit after it counts from there."""
        stream = self.open(partitions=1)
        await stream.append_many([str(number) for number in range(6)])
        async with await self.consumer(stream) as consumer:
            records = await self.take(consumer, 6)
            await consumer.commit()
            await consumer.seek(records[1].position)
            assert [record.data for record in await self.take(consumer, 1)] == [b"2"]
            await consumer.seek(records[4].position)
            assert [record.data for record in await self.take(consumer, 1)] == [b"5"]
            await consumer.seek(Position.parse(str(records[2].position)))
            await consumer.commit()
        async with await self.consumer(stream) as consumer:
            assert [record.data for record in await self.take(consumer, 3)] == [b"3", b"4", b"5"]
            for wrong in (START, "0", None):
                with pytest.raises(errors.InvalidArgument):
                    await consumer.seek(wrong)

    async def test_lag(self) -> None:
        """The lag is what the group has not committed, or None where the backend cannot say."""
        stream = self.open()
        await stream.append_many([b"x"] * 10)
        async with await self.consumer(stream) as consumer:
            if await consumer.lag() is None:
                pytest.skip("the backend cannot say")
            assert await consumer.lag() == 10
            await self.take(consumer, 4)
            await consumer.commit()
            assert await consumer.lag() == 6
            await self.take(consumer, 6)
            await consumer.commit()
            assert await consumer.lag() == 0

    async def test_consumer_refuses_what_makes_no_sense(self) -> None:
        """A group needs a name, and starts at one of the two ends."""
        stream = self.open()
        for group, how in (("", {}), (5, {}), ("\ud800", {}), ("g", {"start": "end"}), ("g", {"start": None})):
            with pytest.raises(errors.InvalidArgument):
                await self.consumer(stream, group, **how)  # type: ignore[arg-type]  # what is tested

    @lacks("groups")
    async def test_groups_need_a_checkpoint(self) -> None:
        """A backend that keeps no groups refuses a consumer that names no checkpoint."""
        with pytest.raises(errors.Unsupported, match="checkpoint"):
            await self.open().consumer("group")

    async def test_closed(self) -> None:
        """A closed consumer, and a closed stream with its consumers, refuse to go on; closing twice is no error."""
        stream = self.open()
        position = await stream.append(b"x")
        consumer, other = await self.consumer(stream), await self.consumer(stream, "other")
        await consumer.close()
        await consumer.close()
        with pytest.raises(errors.Closed):
            await consumer.poll(timeout=0)
        with pytest.raises(errors.Closed):
            await consumer.commit()
        with pytest.raises(errors.Closed):
            await consumer.seek(position)
        with pytest.raises(errors.Closed):
            await consumer.lag()
        await stream.close()
        await stream.close()
        with pytest.raises(errors.Closed):
            await other.poll(timeout=0)
        with pytest.raises(errors.Closed) as caught:
            await stream.append(b"x")
        assert caught.value.operation == "append"


async def _first(consumer: Any, count: int) -> AsyncIterator[Any]:
    """Iterate over so many records."""
    for _ in range(count):
        yield await anext(consumer)
