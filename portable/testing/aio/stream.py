"""What every stream must do."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from portable import errors
from portable.messages import Outgoing
from portable.records import END, START, Position
from portable.testing.aio._concurrency import race
from portable.testing.aio.stream_groups import StreamGroupSuite

__all__ = ["StreamSuite"]

HOSTILE = [
    "../up",
    "a//b",
    "back\\slash",
    "'quotes\"",
    " spaces ",
    "tab\tand\nnewline",
    "nul\x00inside",
    "emoji 🚲",
    "Grüße, 世界",
    "".join(chr(code) for code in range(1, 128) if not chr(code).isalnum()),
    "k" * 200,
]
"""Keys, attribute names and values that something on the way may trip over."""


class Click(msgspec.Struct):
    """A typed record."""

    page: str
    count: int = 0


class StreamSuite(StreamGroupSuite):
    """The cases of streams: of records here, of groups in `StreamGroupSuite`."""

    async def test_append_then_read(self) -> None:
        """A record is read with all that it was appended with."""
        stream = self.open()
        before = datetime.now(UTC) - timedelta(minutes=5)
        position = await stream.append(b"\x00\xff data", key="user-1", attributes={"type": "order.paid", "empty": ""})
        (record,) = await stream.read(position.partition)
        assert record.data == b"\x00\xff data"
        assert record.key == "user-1"
        assert record.attributes == {"type": "order.paid", "empty": ""}
        assert record.partition == position.partition
        assert record.position == position
        assert record.timestamp.utcoffset() == timedelta(0)
        assert before < record.timestamp < datetime.now(UTC) + timedelta(minutes=5)

    @pytest.mark.parametrize(
        ("data", "stored"),
        [
            (b"", b""),
            (b"x", b"x"),
            ("text é", "text é".encode()),
            (bytearray(b"array"), b"array"),
            (bytes(range(256)), None),
        ],
        ids=["empty", "one-byte", "str", "bytearray", "every-byte"],
    )
    async def test_data_is_any_bytes(self, data: Any, stored: bytes | None) -> None:
        """Data is any bytes, and a str is its UTF-8."""
        stream = self.open()
        position = await stream.append(data)
        (record,) = await stream.read(position.partition)
        assert record.data == (data if stored is None else stored)
        assert record.key is None
        assert record.attributes == {}

    async def test_large_record(self) -> None:
        """A record of 100 KB comes back as it was."""
        stream = self.open()
        data = bytes(range(256)) * 400
        position = await stream.append(data)
        (record,) = await stream.read(position.partition)
        assert record.data == data

    @pytest.mark.parametrize("text", HOSTILE)
    async def test_hostile_keys_and_attributes(self, text: str) -> None:
        """Keys, and names and values of attributes, are any UTF-8."""
        stream = self.open()
        position = await stream.append(b"x", key=text, attributes={text: text, "other": text})
        (record,) = await stream.read(position.partition)
        assert record.key == text
        assert record.attributes == {text: text, "other": text}

    @pytest.mark.parametrize(
        "how",
        [
            {"data": 5},
            {"data": None},
            {"data": "\ud800"},
            {"data": b"", "key": ""},
            {"data": b"", "key": b"bytes"},
            {"data": b"", "key": "\ud800"},
            {"data": b"", "attributes": {"a": 1}},
            {"data": b"", "attributes": {1: "a"}},
            {"data": b"", "attributes": {"a": "\ud800"}},
            {"data": b"", "attributes": {"portable-x": "a"}},
        ],
        ids=str,
    )
    async def test_what_no_backend_takes_is_refused(self, how: dict[str, Any]) -> None:
        """What cannot be a record is refused before anything is appended."""
        stream = self.open()
        with pytest.raises(errors.InvalidArgument):
            await stream.append(**how)
        assert await self.everything(stream) == []

    async def test_typed_records(self) -> None:
        """With a type, records are values of it, in batches and for consumers too."""
        stream = self.open(type=Click)
        position = await stream.append(Click("home", 3), key="a")
        (record,) = await stream.read(position.partition)
        assert record.data == Click("home", 3)
        await stream.append_many([Click("away"), Outgoing(Click("out"), ordering_key="b")])
        async with await self.consumer(stream) as consumer:
            assert {one.data.page for one in await self.take(consumer, 3)} == {"home", "away", "out"}

    async def test_record_that_does_not_fit_the_type(self) -> None:
        """It is an error that says where it is, and one can go past it."""
        raw, typed = self.open(), self.open(type=Click)
        first = await raw.append(b'{"page": "good"}', key="k")
        bad = await raw.append(b"not json", key="k")
        await raw.append(b'{"page": "better"}', key="k")
        (record,) = await typed.read(first.partition)
        assert record.data.page == "good"
        with pytest.raises(errors.IntegrityError, match=str(bad.value)):
            await typed.read(first.partition, after=first)
        (record,) = await typed.read(first.partition, after=bad)
        assert record.data.page == "better"
        async with await self.consumer(typed) as consumer:
            assert [one.data.page for one in await self.take(consumer, 1)] == ["good"]
            for _ in range(2):
                with pytest.raises(errors.IntegrityError, match=str(bad.value)):
                    await consumer.poll(timeout=self.patience)
            await consumer.seek(bad)
            assert [one.data.page for one in await self.take(consumer, 1)] == ["better"]

    # Order, keys and partitions.

    async def test_a_key_keeps_its_order(self) -> None:
        """Records of a key are in one partition, in the order in which they were appended."""
        stream = self.open()
        keys = ["a", "b", "c", "d", "e"]
        for number in range(4):
            for key in keys:
                await stream.append(f"{key}{number}", key=key)
        later = [Outgoing(f"{key}{number}", ordering_key=key) for number in range(4, 8) for key in keys]
        await stream.append_many(later)
        found = await self.everything(stream)
        for key in keys:
            mine = [record for record in found if record.key == key]
            assert len({record.partition for record in mine}) == 1
            assert [record.data for record in mine] == [f"{key}{number}".encode() for number in range(8)]

    async def test_a_key_has_one_partition_for_every_writer(self) -> None:
        """Another handle on the stream sends a key to the same partition."""
        first, second = self.open(), self.open()
        for key in map(str, range(20)):
            assert (await first.append(b"", key=key)).partition == (await second.append(b"", key=key)).partition

    async def test_keys_and_keyless_records_are_spread(self) -> None:
        """Many keys use every partition, and so do many records without one."""
        stream = self.open(partitions=4)
        keyed = [(await stream.append(b"", key=f"key-{number}")).partition for number in range(100)]
        assert set(keyed) == set(await stream.partitions())
        loose = await stream.append_many([b""] * 100)
        assert len({position.partition for position in loose.succeeded}) > 1 or stream.capabilities.max_batch > 1

    async def test_number_of_partitions(self) -> None:
        """A stream has the partitions that it was made with, whatever a later contract says."""
        stream = self.open(partitions=3)
        names = await stream.partitions()
        assert len(names) == 3
        assert len(set(names)) == 3
        assert await self.open(partitions=5).partitions() == names

    async def test_unknown_partition(self) -> None:
        """Reading a partition that is not there is `NotFound`."""
        stream = self.open()
        for name in ("no-such", "99", "", "-1", "0 "):
            with pytest.raises(errors.NotFound):
                await stream.read(name)

    async def test_writers_at_once(self) -> None:
        """Twenty that append at once all succeed, at places of their own, each in its own order."""
        stream = self.open()

        async def write(writer: int) -> list[Position]:
            return [await stream.append(f"{writer}.{number}", key="one") for number in range(5)]

        results = await race(functools.partial(write, writer) for writer in range(20))
        written: list[Position] = []
        for positions in results:
            assert isinstance(positions, list), positions
            assert positions == sorted(positions)
            written += positions
        assert len(set(written)) == 100
        found = await self.everything(stream)
        assert [record.position for record in found] == sorted(written)
        for writer in range(20):
            mine = [record.data.decode() for record in found if record.data.decode().startswith(f"{writer}.")]
            assert mine == [f"{writer}.{number}" for number in range(5)]

    # Batches.

    async def test_append_many(self) -> None:
        """A batch larger than any call takes is appended whole; positions are in the order of the input."""
        stream = self.open()
        batch = [
            Outgoing(str(number), ordering_key=str(number % 7), attributes={"n": str(number)}) for number in range(2500)
        ]
        result = await stream.append_many(batch)
        assert result.failed == {}
        found = {record.position: record for record in await self.everything(stream)}
        assert len(found) == 2500
        for number, position in enumerate(result.succeeded):
            assert found[position].data == str(number).encode()
            assert found[position].attributes == {"n": str(number)}
            assert found[position].key == str(number % 7)
        for key in range(7):
            mine = result.succeeded[key::7]
            assert mine == sorted(mine)

    async def test_append_many_takes_any_iterable(self) -> None:
        """A batch is an iterable; none at all is no error; records read elsewhere can be appended as they are."""
        stream, copy = self.open(), self.open("copy")
        assert (await stream.append_many([])).results == []
        entries = (b"a", "b", Outgoing(b"c", ordering_key="k", attributes={"x": "y"}))
        result = await stream.append_many(entry for entry in entries)
        assert len(result.succeeded) == 3
        await copy.append_many(await self.everything(stream))
        copied = {(record.data, record.key, record.attributes.get("x")) for record in await self.everything(copy)}
        assert copied == {(b"a", None, None), (b"b", None, None), (b"c", "k", "y")}

    async def test_append_many_with_a_poisoned_entry(self) -> None:
        """An entry that is refused holds back the rest of its key, and nothing else."""
        stream = self.open()
        batch = [
            Outgoing(b"a0", ordering_key="a"),
            Outgoing(b"b0", ordering_key="b"),
            Outgoing(b"a1", ordering_key="a", attributes={"bad": 1}),  # type: ignore[dict-item]  # what is tested
            Outgoing(b"a2", ordering_key="a"),
            Outgoing(b"b1", ordering_key="b"),
            b"loose",
        ]
        with pytest.raises(errors.BatchError) as caught:
            await stream.append_many(batch)
        failed = caught.value.result.failed
        assert set(failed) == {2, 3}
        assert isinstance(failed[2], errors.InvalidArgument)
        assert isinstance(failed[3], errors.PreconditionFailed)
        assert {record.data for record in await self.everything(stream)} == {b"a0", b"b0", b"b1", b"loose"}
        result = await stream.append_many(batch, return_errors=True)
        assert set(result.failed) == {2, 3}
        assert len(result.succeeded) == 4

    async def test_a_record_has_no_delay(self) -> None:
        """What only messages have is refused."""
        stream = self.open()
        for entry in (Outgoing(b"x", delay=1.0), Outgoing(b"x", dedup_id="1")):
            with pytest.raises(errors.BatchError):
                await stream.append_many([entry])
        assert await self.everything(stream) == []

    # Positions and reading.

    async def test_positions_compare(self) -> None:
        """Positions of a partition sort as its records do, and print so that they can be read back."""
        stream = self.open()
        positions = [await stream.append(b"", key="k") for _ in range(120)]
        assert positions == sorted(positions)
        assert len(set(positions)) == 120
        assert [Position.parse(str(position)) for position in positions] == positions
        records = await stream.read(positions[0].partition)
        assert [record.position for record in records] == positions

    async def test_read_after_a_position(self) -> None:
        """Reading goes on after a position, that of the last record included."""
        stream = self.open()
        positions = [await stream.append(str(number), key="k") for number in range(12)]
        partition = positions[0].partition
        for number, position in enumerate(positions):
            records = await stream.read(partition, after=position)
            assert [record.data for record in records] == [str(later).encode() for later in range(number + 1, 12)]
        parsed = Position.parse(str(positions[5]))
        assert [record.position for record in await stream.read(partition, after=parsed)] == positions[6:]

    @pytest.mark.parametrize("limit", [1, 2, 3])
    async def test_read_page_by_page(self, limit: int) -> None:
        """Pages of any size, with appends between them, give every record once."""
        stream = self.open(partitions=1)
        for number in range(5):
            await stream.append(str(number))
        (partition,) = await stream.partitions()
        found: list[bytes] = []
        after: Any = START
        later = [5, 6, 7]
        while records := await stream.read(partition, after=after, limit=limit):
            assert len(records) <= limit
            found += [record.data for record in records]
            after = records[-1].position
            if later:
                await stream.append(str(later.pop(0)))
        assert found == [str(number).encode() for number in range(8)]

    async def test_read_the_ends(self) -> None:
        """`START` is the default; after `END` there is nothing; an empty partition is empty either way."""
        stream = self.open(partitions=1)
        (partition,) = await stream.partitions()
        assert await stream.read(partition) == []
        assert await stream.read(partition, after=END) == []
        await stream.append(b"x")
        assert [record.data for record in await stream.read(partition)] == [b"x"]
        assert [record.data for record in await stream.read(partition, after=START)] == [b"x"]
        assert await stream.read(partition, after=END) == []

    async def test_read_from_a_moment(self) -> None:
        """Reading after a moment gives what was taken then or later."""
        stream = self.open(partitions=1)
        (partition,) = await stream.partitions()
        await stream.append_many([str(number) for number in range(10)])
        records = await stream.read(partition)
        for moment in {record.timestamp for record in records}:
            expected = [record for record in records if record.timestamp >= moment]
            assert await stream.read(partition, after=moment) == expected
        assert await stream.read(partition, after=records[0].timestamp - timedelta(hours=1)) == records
        assert await stream.read(partition, after=records[-1].timestamp + timedelta(hours=1)) == []

    async def test_read_refuses_what_makes_no_sense(self) -> None:
        """A place that is none is refused, and so is a limit."""
        stream = self.open(partitions=2)
        position = await stream.append(b"x")
        (other,) = set(await stream.partitions()) - {position.partition}
        for partition, how in (
            (other, {"after": position}),
            (position.partition, {"after": datetime.now()}),  # noqa: DTZ005 (what is tested)
            (position.partition, {"after": "start"}),
            (position.partition, {"after": Position(position.partition, "no such place")}),
            (position.partition, {"limit": 0}),
            (position.partition, {"limit": True}),
        ):
            with pytest.raises(errors.InvalidArgument):
                await stream.read(partition, **how)

    async def test_what_is_read_is_the_readers_own(self) -> None:
        """Changing the attributes that one was given changes nothing for others."""
        stream = self.open()
        given = {"a": "1"}
        position = await stream.append(b"x", attributes=given)
        given["a"] = "2"
        (record,) = await stream.read(position.partition)
        record.attributes["a"] = "3"
        (again,) = await stream.read(position.partition)
        assert again.attributes == {"a": "1"}

    async def test_streams_are_apart(self) -> None:
        """Two streams, and the groups of two streams, have nothing to do with each other."""
        first, second = self.open(), self.open("second")
        await first.append(b"first", key="k")
        await second.append(b"second", key="k")
        assert [record.data for record in await self.everything(first)] == [b"first"]
        assert [record.data for record in await self.everything(second)] == [b"second"]
        async with await self.consumer(first) as one, await self.consumer(second) as two:
            assert [record.data for record in await self.take(one, 1)] == [b"first"]
            await one.commit()
            assert [record.data for record in await self.take(two, 1)] == [b"second"]

    async def test_records_survive_a_restart(self) -> None:
        """What was appended is there for the next process, at the same positions, and appending goes on behind it."""
        stream = self.open()
        positions = [await stream.append(str(number), key="k") for number in range(3)]
        await stream.close()
        again = self.open()
        later = await again.append(b"3", key="k")
        assert later > positions[-1]
        records = await again.read(positions[0].partition)
        assert [record.data for record in records] == [b"0", b"1", b"2", b"3"]
        assert [record.position for record in records] == [*positions, later]
        assert [record.data for record in await again.read(later.partition, after=positions[1])] == [b"2", b"3"]

    async def test_records_stay_though_they_were_read(self) -> None:
        """A record stays until its retention ends, whoever has read and committed it."""
        stream = self.open(retention="1h")
        await stream.append_many([str(number) for number in range(10)])
        for group in ("one", "two"):
            async with await self.consumer(stream, group) as consumer:
                assert len(await self.take(consumer, 10)) == 10
                await consumer.commit()
        await stream.append(b"10")
        assert len(await self.everything(stream)) == 11

    async def test_check(self) -> None:
        """A stream that is there passes its check, reading and writing, and the check leaves nothing behind."""
        stream = self.open()
        await stream.append(b"x")
        await stream.check()
        await stream.check(write=True)
        assert len(await self.everything(stream)) == 1
