"""The async face of streams, where the suite does not come by: limits, errors of the backend, checkpoints, members."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from portable.aio import open_stream
from portable.aio.cloud import Cloud
from portable.capabilities import StreamCapabilities
from portable.config import Config, Profile
from portable.errors import (
    BatchError,
    Closed,
    ConfigError,
    DeadlineExceeded,
    LeaseLost,
    LimitExceeded,
    PreconditionFailed,
    Throttled,
    Unavailable,
    Unsupported,
)
from portable.messages import Outgoing
from portable.records import NewRecord, Position
from portable.registry import Adapter, register
from portable.testing.clock import Clock
from portable_embedded.memory_stream import MemoryStream

_names = itertools.count()


class Moody(MemoryStream):
    """Keeps no groups, takes two records at a time, and answers with errors when it is told to."""

    capabilities = StreamCapabilities(durability="none", groups=False, max_batch=2)

    def append(self, records: Sequence[NewRecord], *, timeout: float) -> Any:
        if any(record.data == b"down" for record in records):
            raise Unavailable("the backend is down")
        if any(record.data == b"busy" for record in records):
            return [Throttled("too busy") for _ in records]
        return super().append(records, timeout=timeout)

    def backlog(self, partition: str, after: str, *, timeout: float) -> Any:
        return None if partition == "1" else super().backlog(partition, after, timeout=timeout)


register(Adapter(schemes={"moody": {"stream": f"{__name__}:Moody"}}, extra="embedded"))


def _cloud(scheme: str, guard: dict[str, Any] | None = None, **stream: Any) -> Cloud:
    config = {
        "resources": {"clicks": {"kind": "stream", **stream}, "positions": {"kind": "collection", "partition": "at"}},
        "profiles": {"local": {"default": "memory:", "bind": {"clicks": f"{scheme}:"}, "guard": guard or {}}},
    }
    return Cloud(Config.from_dict(config, Path.cwd()).profile("local"))


def test_limits_of_a_cloud() -> None:
    async def use() -> None:
        async with _cloud("memory", guard={"limits": ["aws"]}) as cloud:
            with pytest.raises(LimitExceeded, match="max_record_key_bytes"):
                await cloud.stream("clicks").append(b"x", key="k" * 300)

    asyncio.run(use())


def test_errors_of_the_backend() -> None:
    async def use() -> None:
        async with open_stream("moody:") as stream:
            with pytest.raises(Throttled):
                await stream.append(b"busy")
            batch = [
                b"0",
                b"1",
                Outgoing(b"busy", ordering_key="k"),
                b"3",
                Outgoing(b"4", ordering_key="k"),
                b"down",
                b"6",
            ]
            result = await stream.append_many(batch, return_errors=True)
            assert [type(result.failed[index]) for index in (2, 3, 4, 5, 6)] == [
                Throttled,
                Throttled,
                PreconditionFailed,
                Unavailable,
                Unavailable,
            ]
            assert set(result.failed) == {2, 3, 4, 5, 6}
            with pytest.raises(BatchError, match="3 of 3"):
                await stream.append_many([b"down", b"1", b"2"])

    asyncio.run(use())


def test_checkpoints() -> None:
    async def use() -> None:
        async with _cloud("moody", partitions=2) as cloud:
            stream = cloud.stream("clicks")
            await stream.append_many([b"0", b"1"])
            with pytest.raises(Unsupported):
                await stream.consumer("g")
            with pytest.raises(ConfigError):
                await stream.consumer("g", checkpoint="nowhere")
            async with stream.consumer("g", checkpoint="positions") as consumer:
                assert len(await consumer.poll(timeout=5)) == 2
                await consumer.commit()
                assert await consumer.lag() is None
            document = await cloud.collection("positions").get(("portable-stream-groups", "clicks/g"))
            assert set(document.data["partitions"]) == {"0", "1"}

    asyncio.run(use())


def test_a_document_that_others_change_all_the_time() -> None:
    async def use() -> None:
        async with _cloud("moody", checkpoint="positions") as cloud:
            collection = cloud.collection("positions")
            stream = cloud.stream("clicks")
            consumer: Any = await stream.consumer("g")
            put = collection.put

            async def late(data: Any, **how: Any) -> Any:
                raise PreconditionFailed("somebody was faster")

            collection.put = late  # type: ignore[method-assign]  # the others
            with pytest.raises(DeadlineExceeded, match="changed by others"):
                await consumer._member._ledger.update("g", lambda state: state.members.update(x=1.0), timeout=0.05)
            collection.put = put  # type: ignore[method-assign]  # no others any more
            assert await consumer.poll(timeout=0) == []

    asyncio.run(use())


class World:
    """Consumers of one group on one clock, whose state is kept in a collection."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.clock.stop()
        self._name = f"stream-{next(_names)}"
        self._clouds: list[Any] = []

    async def consumer(self) -> Any:
        from portable.aio import open_collection

        options = {"name": self._name, "create": "if_missing", "partitions": 2, "session_timeout": "10s"}
        profile = Profile.single("stream", "moody:aio", options)
        cloud = Cloud(profile, clock=self.clock.now, on_clock_moved=self.clock.on_moved)
        positions = open_collection("memory:aio", name=f"{self._name}-positions")
        self._clouds += [cloud, positions]
        self.stream: Any = cloud.stream(self._name)
        return await self.stream.consumer("g", checkpoint=positions)

    async def fill(self, count: int) -> None:
        await self.stream.append_many([Outgoing(str(number), ordering_key=str(number)) for number in range(count)])


def _in_a_world(test: Callable[[World], Awaitable[None]]) -> None:
    async def run() -> None:
        world = World()
        try:
            await test(world)
        finally:
            for one in world._clouds:
                await one.close()

    asyncio.run(run())


async def _poll_all(consumer: Any) -> list[str]:
    found: list[str] = []
    while records := await consumer.poll(timeout=0):
        found += [record.data.decode() for record in records]
    return found


def test_a_silent_members_partitions_are_taken_over() -> None:
    async def use(world: World) -> None:
        silent, other = await world.consumer(), await world.consumer()
        await world.fill(10)
        assert len(await _poll_all(silent)) == 10
        await silent._keeper.aclose()
        world.clock.advance(11.0)
        assert len(await _poll_all(other)) == 10
        with pytest.raises(LeaseLost):
            await silent.commit()
        await other.commit()
        await other._heartbeat()
        await silent._heartbeat()

    _in_a_world(use)


def test_a_partition_goes_on_once_its_records_are_committed() -> None:
    async def use(world: World) -> None:
        first, second = await world.consumer(), await world.consumer()
        await world.fill(10)
        assert len(await _poll_all(first)) == 10
        assert await _poll_all(second) == []
        await world.fill(10)
        more = await _poll_all(first)
        await first.commit()
        rest = await _poll_all(second)
        assert sorted([*more, *rest]) == sorted(str(number) for number in range(10))
        (held,) = {"0", "1"} - set(second._member._held)
        with pytest.raises(PreconditionFailed):
            await second.seek(Position(held, ""))
        await first.seek(Position(held, ""))
        assert len(await _poll_all(first)) > len(more)

    _in_a_world(use)


def test_a_partition_is_given_up_after_a_grace_time() -> None:
    async def use(world: World) -> None:
        first, second = await world.consumer(), await world.consumer()
        await world.fill(10)
        assert len(await _poll_all(first)) == 10
        assert await _poll_all(second) == []
        again: list[str] = []
        while not again:
            assert await _poll_all(first) == []
            world.clock.advance(3.0)
            await second._heartbeat()
            again = await _poll_all(second)
        assert len(again) < 10
        with pytest.raises(LeaseLost):
            await first.commit()

    _in_a_world(use)


def test_what_was_fetched_ahead_of_a_lost_partition_is_not_given() -> None:
    async def use(world: World) -> None:
        late, other = await world.consumer(), await world.consumer()
        await world.fill(10)
        await anext(late)
        await late._keeper.aclose()
        world.clock.advance(11.0)
        assert len(await _poll_all(other)) == 10
        await other.commit()
        assert await late.poll(timeout=0) == []
        with pytest.raises(LeaseLost):
            await late.commit()

    _in_a_world(use)


def test_a_backend_that_does_not_answer_a_heartbeat_is_asked_again() -> None:
    async def use(world: World) -> None:
        consumer = await world.consumer()
        assert await consumer.poll(timeout=0) == []

        async def unavailable(*, timeout: float) -> None:
            raise Unavailable("not now")

        async def refused(*, timeout: float) -> None:
            raise ConfigError("never")

        consumer._member.heartbeat = unavailable
        await consumer._heartbeat()
        consumer._member.heartbeat = refused
        with pytest.raises(ConfigError):
            await consumer._heartbeat()

    _in_a_world(use)


def test_a_forked_child_has_no_consumer() -> None:
    async def use() -> None:
        async with open_stream("memory:") as stream:
            await stream.append(b"x")
            consumer: Any = await stream.consumer("g")
            stream._forked()
            for call in (consumer.poll, consumer.commit, consumer.__anext__):
                with pytest.raises(Closed, match="forked"):
                    await call()
            await consumer.close()
            assert len(await (await stream.consumer("g")).poll(timeout=5)) == 1

    asyncio.run(use())
