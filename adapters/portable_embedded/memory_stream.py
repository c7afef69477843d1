"""Streams in the memory of this process."""

from __future__ import annotations

import itertools
import uuid
from bisect import bisect_left
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from portable.bindings import Binding
from portable.capabilities import StreamCapabilities
from portable.changes import Change
from portable.contracts import StreamContract
from portable.drivers import Options
from portable.errors import PortableError
from portable.group_state import GroupState
from portable.partition_member import PartitionMember
from portable.partitioning import partition_of
from portable.quantities import Duration
from portable.records import START, Edge, NewRecord, Position, Record
from portable_embedded.memory import News, Space, space
from portable_embedded.offsets import offset_of, partition_number, position

__all__ = ["MemoryStream", "MemoryStreamOptions"]


class MemoryStreamOptions(Options, frozen=True, kw_only=True):
    """`memory:` keeps a stream as long as its cloud is open; `memory:NAME` one that all clouds of the process share.

    Attributes:
        session_timeout: after so long without a sign of life a consumer's partitions go to others, such as `10s`.
    """

    session_timeout: Duration = Duration(10)


class Partition:
    """The records of one partition that are kept.

    Attributes:
        records: oldest first.
        first: the offset of the oldest; from 1.
    """

    def __init__(self) -> None:
        self.records: list[Record[bytes]] = []
        self.first = 1

    @property
    def end(self) -> int:
        """The offset of the newest record there ever was; 0 where there was none."""
        return self.first + len(self.records) - 1

    def trim(self, oldest: datetime) -> None:
        """Forget the records that were taken before a moment."""
        if self.records and self.records[0].timestamp < oldest:
            gone = bisect_left(self.records, oldest, key=_timestamp)
            del self.records[:gone]
            self.first += gone


class Log:
    """One stream."""

    def __init__(self, space: Space, partitions: int) -> None:
        self.space = space
        self.partitions = [Partition() for _ in range(partitions)]
        self.groups: dict[str, bytes] = {}
        self.news = News()
        self.turns = itertools.count()


class MemoryGroups:
    """The groups of a stream; satisfies `portable.partition_member.GroupLedger`."""

    def __init__(self, log: Log) -> None:
        self._log = log

    def read(self, group: str, *, timeout: float) -> GroupState:  # noqa: ARG002 (memory does not wait)
        """Give a group's state."""
        stored = self._log.groups.get(group)
        return GroupState() if stored is None else _decode(stored)

    def update(
        self, group: str, change: Callable[[GroupState], object], *, quiet: bool = False, timeout: float
    ) -> GroupState:
        """Change a group's state."""
        with self._log.space.lock:
            state = self.read(group, timeout=timeout)
            change(state)
            self._log.groups[group] = msgspec.json.encode(state)
        if not quiet:
            self._log.news.changed()
        return state


class MemoryStream:
    """Satisfies `portable.drivers.StreamDriver`."""

    Options = MemoryStreamOptions
    blocking = False
    capabilities = StreamCapabilities(durability="none", groups=True, max_batch=10_000)

    def __init__(self, binding: Binding[MemoryStreamOptions]) -> None:
        contract = binding.contract
        assert isinstance(contract, StreamContract)  # noqa: S101 (the config gives a stream its own contract)
        place = space(binding)
        self._log = place.get(("stream", binding.name), lambda: Log(place, contract.partitions))
        self._lock = place.lock
        self._retention = timedelta(seconds=contract.retention)
        self._session_timeout = float(binding.options.session_timeout)
        self._clock = binding.clock
        if binding.on_clock_moved is not None:
            binding.on_clock_moved(self._log.news.changed)

    @property
    def native(self) -> list[Partition]:
        """The partitions themselves."""
        return self._log.partitions

    @property
    def arrivals(self) -> News:
        """News of records and of groups."""
        return self._log.news

    def open(self) -> None:
        """Do nothing: memory is there."""

    def close(self) -> None:
        """Do nothing: the space belongs to the cloud or the process."""

    def check(self, *, write: bool, timeout: float) -> None:
        """Do nothing: memory is there."""

    def plan(self) -> list[Change]:
        """There is nothing to make."""
        return []

    def create(self) -> None:
        """There is nothing to make."""

    def partitions(self, *, timeout: float) -> list[str]:  # noqa: ARG002 (memory does not wait)
        """Give the names of the partitions."""
        return [str(number) for number in range(len(self._log.partitions))]

    def append(self, records: Sequence[NewRecord], *, timeout: float) -> list[Position | PortableError]:  # noqa: ARG002 (memory does not wait)
        """Append records."""
        log = self._log
        positions: list[Position | PortableError] = []
        with self._lock:
            now = datetime.fromtimestamp(self._clock(), UTC)
            for record in records:
                if record.key is None:
                    number = next(log.turns) % len(log.partitions)
                else:
                    number = partition_of(record.key, len(log.partitions))
                partition = log.partitions[number]
                place = position(str(number), partition.end + 1)
                # A clock that was set back must not bring the order of the timestamps into disorder.
                taken = max(now, partition.records[-1].timestamp) if partition.records else now
                partition.records.append(
                    Record(record.data, record.key, record.attributes or {}, str(number), place, taken)
                )
                positions.append(place)
            self._trim(now)
        log.news.changed()
        return positions

    def read(
        self,
        partition: str,
        after: Edge | Position | datetime,
        limit: int,
        *,
        timeout: float,  # noqa: ARG002 (memory does not wait)
    ) -> list[Record[bytes]]:
        """Give records of a partition."""
        with self._lock:
            found = self._partition(partition)
            self._trim(datetime.fromtimestamp(self._clock(), UTC))
            if isinstance(after, Position):
                start = max(0, offset_of(after.value) + 1 - found.first)
            elif isinstance(after, datetime):
                start = bisect_left(found.records, after, key=_timestamp)
            else:
                start = 0 if after is START else len(found.records)
            # The application may change the attributes that it gets.
            return [
                Record(one.data, one.key, dict(one.attributes), one.partition, one.position, one.timestamp)
                for one in found.records[start : start + limit]
            ]

    def end(self, partition: str, *, timeout: float) -> Position:  # noqa: ARG002 (memory does not wait)
        """Give the position after which the next record will be."""
        return position(partition, self._partition(partition).end)

    def backlog(self, partition: str, after: str, *, timeout: float) -> int:  # noqa: ARG002 (memory does not wait)
        """Count the records after a position."""
        with self._lock:
            self._trim(datetime.fromtimestamp(self._clock(), UTC))
            found = self._partition(partition)
            return min(len(found.records), max(0, found.end - offset_of(after)))

    def join(self, group: str, start: Edge, *, timeout: float) -> PartitionMember:
        """Become a member of a group."""
        member = PartitionMember(
            self,
            MemoryGroups(self._log),
            group=group,
            member=uuid.uuid4().hex,
            lease=self._session_timeout,
            clock=self._clock,
            blocking=False,
        )
        member.join(start, timeout=timeout)
        return member

    def _partition(self, name: str) -> Partition:
        partitions = self._log.partitions
        return partitions[partition_number(name, len(partitions))]

    def _trim(self, now: datetime) -> None:
        for partition in self._log.partitions:
            partition.trim(now - self._retention)


def _timestamp(record: Record[Any]) -> datetime:
    return record.timestamp


_decode = msgspec.json.Decoder(GroupState).decode
