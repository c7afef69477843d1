"""A consumer of a stream on JetStream, which waits for records at the server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import TYPE_CHECKING

from portable.aio._concurrency import wait_for_arrival
from portable.aio.partition_member import PartitionMember
from portable.bridges import stays_sync
from portable.news import Channel
from portable.records import Position, Record

if TYPE_CHECKING:
    from portable_nats.stream import NatsStream

__all__ = ["NatsMember"]


class NatsMember:
    """Satisfies `portable.aio.drivers.StreamMember`: the portable one, that waits at the server."""

    is_async = True

    def __init__(self, stream: NatsStream, member: PartitionMember, news: Channel, *, usual: float) -> None:
        """Wait for a member.

        Args:
            stream: what it reads.
            member: the member.
            news: tells of changes of its group.
            usual: seconds that a call to the server may take.
        """
        self._stream = stream
        self._member = member
        self._news = news
        self._usual = usual
        self.heartbeat_every = member.heartbeat_every

    async def fetch(self, max_records: int, *, timeout: float) -> list[Record[bytes]]:
        """Take its share of the partitions, and give what is there now."""
        return await self._member.fetch(max_records, timeout=timeout)

    async def wait_fetch(self, max_records: int, *, timeout: float) -> list[Record[bytes]]:
        """As `fetch`, but wait at the server until there is a record for it, or it has to fetch again."""
        deadline = monotonic() + timeout
        records = await self._member.fetch(max_records, timeout=self._usual)
        while not records and monotonic() < deadline:
            version = self._news.version()
            latest = await self._stream.latest(timeout=self._usual)
            records = await self._member.fetch(max_records, timeout=self._usual)
            left = min(deadline - monotonic(), self._member.due())
            if not records and left > 0:
                await self._wait(version, latest, left)
                records = await self._member.fetch(max_records, timeout=self._usual)
        return records

    async def _wait(self, version: int, latest: int, seconds: float) -> None:
        """Wait until there is a record after `latest`, news after `version`, or the time is over."""
        waits = [asyncio.ensure_future(wait_for_arrival(self._news, version, seconds))]
        names = await self._stream.partitions(timeout=self._usual)
        if mine := [name for name in names if self._member.holds(name)]:
            waits.append(asyncio.ensure_future(self._stream.wait_for(mine, latest, seconds)))
        try:
            done, _ = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for one in done:
                one.result()
        finally:
            for one in waits:
                one.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def heartbeat(self, *, timeout: float) -> None:
        """Extend its lease, and learn what was taken from it."""
        await self._member.heartbeat(timeout=timeout)

    async def commit(self, positions: Mapping[str, Position], *, timeout: float) -> set[str]:
        """Keep positions; gives the partitions that are not its own any more."""
        return await self._member.commit(positions, timeout=timeout)

    async def lag(self, *, timeout: float) -> int | None:
        """Count the records of all partitions after what the group committed."""
        return await self._member.lag(timeout=timeout)

    async def close(self, *, timeout: float) -> None:
        """Leave the group."""
        await self._member.close(timeout=timeout)

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
