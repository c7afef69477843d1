"""Streams that each break one promise; `tests/conformance/test_broken_stream.py` proves that the suite notices."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from portable.errors import PortableError
from portable.group_state import GroupState
from portable.partition_member import PartitionMember
from portable.records import START, Edge, NewRecord, Position, Record
from portable.registry import Adapter, register
from portable.testing.stream import StreamSuite
from portable_embedded.memory_stream import Log, MemoryGroups, MemoryStream

_unique = itertools.count()


class ReordersAKey(MemoryStream):
    """Appends a batch back to front."""

    def append(self, records: Sequence[NewRecord], *, timeout: float) -> list[Position | PortableError]:
        return super().append(records[::-1], timeout=timeout)[::-1]


class ScattersAKey(MemoryStream):
    """Takes no notice of keys when it chooses a partition."""

    def append(self, records: Sequence[NewRecord], *, timeout: float) -> list[Position | PortableError]:
        positions = super().append([NewRecord(one.data, None, one.attributes) for one in records], timeout=timeout)
        for record, position in zip(records, positions, strict=True):
            assert isinstance(position, Position)
            partition = self._partition(position.partition)
            at = int(position.value) - partition.first
            partition.records[at] = msgspec.structs.replace(partition.records[at], key=record.key)
        return positions


class LosesOnRestart(MemoryStream):
    """Keeps what was appended only as long as its own handle lives."""

    def close(self) -> None:
        for partition in self._log.partitions:
            partition.records.clear()


class PositionsDoNotCompare(MemoryStream):
    """Gives positions whose text does not sort as their numbers do."""

    def append(self, records: Sequence[NewRecord], *, timeout: float) -> list[Position | PortableError]:
        positions = super().append(records, timeout=timeout)
        return [_unpadded(one) if isinstance(one, Position) else one for one in positions]

    def read(
        self, partition: str, after: Edge | Position | datetime, limit: int, *, timeout: float
    ) -> list[Record[bytes]]:
        if isinstance(after, Position):
            after = Position(after.partition, after.value.zfill(20))
        records = super().read(partition, after, limit, timeout=timeout)
        return [msgspec.structs.replace(one, position=_unpadded(one.position)) for one in records]


class TrimsWhatWasCommitted(MemoryStream):
    """Takes a commit for leave to forget."""

    def join(self, group: str, start: Edge, *, timeout: float) -> PartitionMember:
        member = super().join(group, start, timeout=timeout)
        commit = member.commit

        def trim(positions: Any, *, timeout: float) -> set[str]:
            for name, position in positions.items():
                partition = self._partition(name)
                gone = max(0, int(position.value) - partition.first + 1)
                del partition.records[:gone]
                partition.first += gone
            return commit(positions, timeout=timeout)

        member.commit = trim  # type: ignore[method-assign]  # broken by design
        return member


class _OwnStates(MemoryGroups):
    """Keeps each member's state apart, but for the positions."""

    def __init__(self, log: Log) -> None:
        super().__init__(log)
        self._mine: dict[str, GroupState] = {}

    def read(self, group: str, *, timeout: float) -> GroupState:
        return self._mine.get(group) or super().read(group, timeout=timeout)

    def update(
        self, group: str, change: Callable[[GroupState], object], *, quiet: bool = False, timeout: float
    ) -> GroupState:
        state = self.read(group, timeout=timeout)
        change(state)
        self._mine[group] = state
        self._log.news.changed()
        return state


class ShowsAPartitionToTwo(MemoryStream):
    """Lets every member believe that it is the only one."""

    def join(self, group: str, start: Edge, *, timeout: float) -> PartitionMember:
        member = super().join(group, start, timeout=timeout)
        member._ledger = _OwnStates(self._log)
        return member


class ForgetsCommits(MemoryStream):
    """Says that a commit was kept, and does not keep it."""

    def join(self, group: str, start: Edge, *, timeout: float) -> PartitionMember:
        member = super().join(group, start, timeout=timeout)
        member.commit = lambda positions, *, timeout: set()  # type: ignore[method-assign]  # broken by design
        return member


class CommitsWhatWasFetched(MemoryStream):
    """Commits as far as it has fetched, though the application was given less."""

    def join(self, group: str, start: Edge, *, timeout: float) -> PartitionMember:
        member = super().join(group, start, timeout=timeout)
        commit = member.commit

        def too_far(positions: Any, *, timeout: float) -> set[str]:
            return commit({name: self.end(name, timeout=timeout) for name in positions}, timeout=timeout)

        member.commit = too_far  # type: ignore[method-assign]  # broken by design
        return member


class StartsAtTheStart(MemoryStream):
    """Starts every group at the oldest record, whatever it is asked."""

    def join(self, group: str, start: Edge, *, timeout: float) -> PartitionMember:
        return super().join(group, START, timeout=timeout)


class ReadsARecordTwice(MemoryStream):
    """Takes `after` for `from`."""

    def read(
        self, partition: str, after: Edge | Position | datetime, limit: int, *, timeout: float
    ) -> list[Record[bytes]]:
        if isinstance(after, Position):
            after = Position(after.partition, f"{int(after.value) - 1:020d}")
        return super().read(partition, after, limit, timeout=timeout)


class DropsAttributes(MemoryStream):
    """Keeps data and key only."""

    def append(self, records: Sequence[NewRecord], *, timeout: float) -> list[Position | PortableError]:
        return super().append([NewRecord(one.data, one.key) for one in records], timeout=timeout)


class LosesTheEndOfABatch(MemoryStream):
    """Gives a position for the last record of a batch without keeping it."""

    def append(self, records: Sequence[NewRecord], *, timeout: float) -> list[Position | PortableError]:
        positions = super().append(records, timeout=timeout)
        if len(records) > 1:
            last = positions[-1]
            assert isinstance(last, Position)
            self._partition(last.partition).records.pop()
        return positions


class RepartitionsOnOpen(MemoryStream):
    """Takes the number of partitions from whoever opened it last."""

    def __init__(self, binding: Any) -> None:
        super().__init__(binding)
        self._count = binding.contract.partitions

    def partitions(self, *, timeout: float) -> list[str]:
        return [str(number) for number in range(self._count)]


def _unpadded(position: Position) -> Position:
    return Position(position.partition, position.value.lstrip("0"))


def _suite(driver: type[MemoryStream]) -> type[StreamSuite]:
    scheme = f"broken-stream-{next(_unique)}"
    register(Adapter(schemes={scheme: {"stream": f"{__name__}:{driver.__name__}"}}, extra="embedded"))
    return type(f"Test{driver.__name__}", (StreamSuite,), {"url": f"{scheme}:conformance", "patience": 1.0})


TestReordersAKey = _suite(ReordersAKey)
TestScattersAKey = _suite(ScattersAKey)
TestLosesOnRestart = _suite(LosesOnRestart)
TestPositionsDoNotCompare = _suite(PositionsDoNotCompare)
TestTrimsWhatWasCommitted = _suite(TrimsWhatWasCommitted)
TestShowsAPartitionToTwo = _suite(ShowsAPartitionToTwo)
TestForgetsCommits = _suite(ForgetsCommits)
TestCommitsWhatWasFetched = _suite(CommitsWhatWasFetched)
TestStartsAtTheStart = _suite(StartsAtTheStart)
TestReadsARecordTwice = _suite(ReadsARecordTwice)
TestDropsAttributes = _suite(DropsAttributes)
TestLosesTheEndOfABatch = _suite(LosesTheEndOfABatch)
TestRepartitionsOnOpen = _suite(RepartitionsOnOpen)


class TestWorking(StreamSuite):
    """The memory driver as it is."""

    url = "memory:conformance"
