"""Streams on Redis: each partition is a Redis Stream; `docs/wire-formats/redis.md` names keys and fields."""

from __future__ import annotations

import itertools
import math
import random
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import msgspec

from portable.aio.partition_member import PartitionMember
from portable.bindings import Binding
from portable.bridges import stays_sync
from portable.capabilities import StreamCapabilities
from portable.changes import Change
from portable.contracts import StreamContract
from portable.errors import PortableError, ResourceNotFound
from portable.partitioning import partition_of
from portable.records import START, Edge, NewRecord, Position, Record
from portable_redis.aio._concurrency import IS_ASYNC, async_twin
from portable_redis.aio.groups import RedisGroups
from portable_redis.aio.server import Server
from portable_redis.keys import stream_base
from portable_redis.options import RedisStreamOptions
from portable_redis.positions import id_of, partition_named, position
from portable_redis.scripts import Script

__all__ = ["RedisMember", "RedisStream"]

LARGEST = 500_000_000

_APPEND = Script("append", after="stream")
_READ = Script("read", after="stream")
_LAST = Script("last", after="stream")
_BACKLOG = Script("backlog", after="stream")

DATA, KEY, ATTRIBUTE = b"data", b"key", b"@"
"""The names of a record's fields; those of attributes have theirs behind the `@`."""


class RedisStream:
    """Satisfies `portable.drivers.StreamDriver`."""

    Options = RedisStreamOptions
    is_async = IS_ASYNC
    async_twin = async_twin
    # The server itself is waited on.
    arrivals = None

    def __init__(self, binding: Binding[RedisStreamOptions]) -> None:
        contract = binding.contract
        assert isinstance(contract, StreamContract)  # noqa: S101 (the config gives a stream its own contract)
        self.binding = binding
        self._contract = contract
        self._server = Server(binding)
        self._base = stream_base(binding.name)
        self._retention = math.ceil(contract.retention * 1000)
        # Keyless records go around; each process starts somewhere else.
        self._turns = itertools.count(random.randrange(1 << 16))  # noqa: S311 (spreads load, hides nothing)
        self._count = 0
        self.capabilities = StreamCapabilities(
            durability=self._server.durability, groups=True, max_batch=1000, max_record_bytes=LARGEST
        )

    @property
    def native(self) -> Any:
        """The client of redis-py."""
        return self._server.client

    async def open(self) -> None:
        """Connect, and find the stream, or make it where the binding says so."""
        await self._server.open()
        self.capabilities = msgspec.structs.replace(self.capabilities, durability=self._server.durability)
        if self.binding.create:
            await self._make()
        self._count = await self._made()
        if not self._count:
            raise ResourceNotFound(
                f"the server has no stream {self.binding.name!r}; make it with `portable resources create`"
            )

    async def close(self) -> None:
        """Let go of the connections."""
        await self._server.close()

    async def check(self, *, write: bool, timeout: float) -> None:
        """Look the stream up; with `write`, write something that is gone at once."""
        await self._server.call("HGET", self._base, "partitions", timeout=timeout, again=True)
        if write:
            await self._server.call("SET", f"{self._base}:check", "1", "PX", 1, timeout=timeout, again=True)

    async def plan(self) -> list[Change]:
        """Say whether the stream is missing, or has another number of partitions than the contract."""
        await self._server.open()
        name, asked, found = self.binding.name, self._contract.partitions, await self._made()
        if not found:
            return [Change("create", "stream", name, f"with {asked} partitions")]
        if found != asked:
            detail = f"it has {found} partitions, the contract asks for {asked}; the number stands once it is made"
            return [Change("differs", "stream", name, detail)]
        return []

    async def create(self) -> None:
        """Make the stream where it is missing."""
        await self._server.open()
        await self._make()

    async def partitions(self, *, timeout: float) -> list[str]:  # noqa: ARG002 (known since it was opened)
        """Give the names of the partitions."""
        return [str(number) for number in range(self._count)]

    async def append(self, records: Sequence[NewRecord], *, timeout: float) -> list[Position | PortableError]:
        """Append records, all of them or none."""
        count = self._count
        arguments: list[Any] = [self._retention]
        names: list[str] = []
        for record in records:
            number = next(self._turns) % count if record.key is None else partition_of(record.key, count)
            names.append(str(number))
            fields: list[Any] = [DATA, record.data]
            if record.key is not None:
                fields += (KEY, record.key)
            for name, value in (record.attributes or {}).items():
                fields += (f"@{name}", value)
            arguments += (number, len(fields), *fields)
        ids = await self._server.run(_APPEND, (self._base,), *arguments, timeout=timeout)
        return [position(name, known) for name, known in zip(names, ids, strict=True)]

    async def read(
        self, partition: str, after: Edge | Position | datetime, limit: int, *, timeout: float
    ) -> list[Record[bytes]]:
        """Give records of a partition."""
        name = partition_named(partition, self._count)
        if isinstance(after, Position):
            start, known = "after", id_of(after.value)
        elif isinstance(after, datetime):
            start, known = "from", f"{max(0, math.ceil(after.timestamp() * 1000))}-0"
        elif after is START:
            start, known = "from", "0-0"
        else:
            return []
        entries = await self._server.run(
            _READ, (self._base,), name, self._retention, limit, start, known, timeout=timeout, again=True
        )
        return [_record(name, entry) for entry in entries]

    async def end(self, partition: str, *, timeout: float) -> Position:
        """Give the position after which the next record will be."""
        name = partition_named(partition, self._count)
        last = await self._server.run(_LAST, (self._base,), name, timeout=timeout, again=True)
        return position(name, last[0])

    async def backlog(self, partition: str, after: str, *, timeout: float) -> int | None:
        """Count the records after a position; approximate where another program appends too."""
        name = partition_named(partition, self._count)
        known = id_of(after) if after else ""
        found: int = await self._server.run(
            _BACKLOG, (self._base,), name, self._retention, known, timeout=timeout, again=True
        )
        return found

    async def join(self, group: str, start: Edge, *, timeout: float) -> RedisMember:
        """Become a member of a group."""
        member = PartitionMember(
            self,
            RedisGroups(self._server, self._base),
            group=group,
            member=uuid.uuid4().hex,
            lease=float(self.binding.options.session_timeout),
            clock=self._server.now,
            blocking=True,
        )
        await member.join(start, timeout=timeout)
        return RedisMember(self, member)

    async def latest(self, *, timeout: float) -> tuple[dict[str, str], str]:
        """Give the id of the last record of each partition, and that of the last news of the groups."""
        names = await self.partitions(timeout=timeout)
        *ids, news = await self._server.run(_LAST, (self._base,), *names, timeout=timeout, again=True)
        return {name: known.decode() for name, known in zip(names, ids, strict=True)}, news.decode()

    async def wait_for(self, partitions: Mapping[str, str], news: str, wait: float) -> None:
        """Wait until a partition has a record after an id, or there are news of the groups."""
        seen = {f"{self._base}:{name}": known for name, known in partitions.items()}
        await self._server.any_news(seen | {f"{self._base}:news": news}, wait)

    async def _make(self) -> None:
        timeout = float(self._contract.timeout)
        await self._server.call(
            "HSETNX", self._base, "partitions", self._contract.partitions, timeout=timeout, again=True
        )

    async def _made(self) -> int:
        timeout = float(self._contract.timeout)
        return int(await self._server.call("HGET", self._base, "partitions", timeout=timeout, again=True) or 0)


class RedisMember:
    """Satisfies `portable.drivers.StreamMember`: the portable one, that waits at the server."""

    is_async = IS_ASYNC

    def __init__(self, stream: RedisStream, member: PartitionMember) -> None:
        self._stream = stream
        self._member = member
        self.heartbeat_every = member.heartbeat_every
        self.fetch = member.fetch
        self.heartbeat = member.heartbeat
        self.commit = member.commit
        self.lag = member.lag
        self.close = member.close

    async def wait_fetch(self, max_records: int, *, timeout: float) -> list[Record[bytes]]:
        """As `fetch`, but block at the server until there is a record for it, or it has to fetch again."""
        limit = float(self._stream.binding.contract.timeout)
        deadline = monotonic() + timeout
        records = await self._member.fetch(max_records, timeout=limit)
        while not records and monotonic() < deadline:
            latest, news = await self._stream.latest(timeout=limit)
            records = await self._member.fetch(max_records, timeout=limit)
            left = deadline - monotonic()
            if not records and left > 0:
                mine = {name: known for name, known in latest.items() if self._member.holds(name)}
                await self._stream.wait_for(mine, news, min(left, self._member.due()))
                records = await self._member.fetch(max_records, timeout=limit)
        return records

    @stays_sync
    def took(self, records: Sequence[Record[bytes]]) -> None:
        """Learn that the consumer has what a fetch gave."""
        self._member.took(records)

    @stays_sync
    def seek(self, position: Position) -> bool:
        """Fetch what follows a position next; False where the partition is not this member's."""
        return self._member.seek(position)

    @stays_sync
    def holds(self, partition: str) -> bool:
        """Whether a partition is this member's for sure."""
        return self._member.holds(partition)

    @stays_sync
    def lost(self) -> set[str]:
        """Give, once, the partitions that went before it had committed what it was given of them."""
        return self._member.lost()

    @stays_sync
    def due(self) -> float:
        """Seconds until it has to look again though nothing arrives."""
        return self._member.due()


def _record(partition: str, entry: Sequence[Any]) -> Record[bytes]:
    known, fields = entry
    data, key, attributes = b"", None, {}
    for name, value in zip(fields[::2], fields[1::2], strict=True):
        if name == DATA:
            data = value
        elif name == KEY:
            key = value.decode(errors="replace")
        else:
            # Another program has no reason to write the mark.
            attributes[name.removeprefix(ATTRIBUTE).decode(errors="replace")] = value.decode(errors="replace")
    taken = datetime.fromtimestamp(int(known.partition(b"-")[0]) / 1000, UTC)
    return Record(data, key, attributes, partition, position(partition, known), taken)
