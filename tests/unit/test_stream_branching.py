"""Partitions that end, and are continued by others: what a group may read, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from portable.errors import NotFound, ResourceNotFound
from portable.group_state import FINISHED, GroupState
from portable.partition_member import PartitionMember
from portable.records import END, START, Edge, Position, Record

EPOCH: Any = None


class Source:
    """Partitions in memory, with those that each continues."""

    look_every = 0.01

    def __init__(self, **parents: tuple[str, ...]) -> None:
        self.parents = dict(parents)
        self.records: dict[str, list[bytes]] = {name: [] for name in parents}
        self.missing: type[NotFound] | None = None

    def put(self, name: str, *data: bytes) -> None:
        self.records[name] += data

    def branch(self, *names: str, after: tuple[str, ...]) -> None:
        for name in names:
            self.parents[name] = after
            self.records[name] = []

    def forget(self, name: str) -> None:
        del self.parents[name], self.records[name]

    def lineage(self, *, timeout: float) -> dict[str, tuple[str, ...]]:
        assert timeout > 0
        return dict(self.parents)

    def partitions(self, *, timeout: float) -> list[str]:
        return list(self.lineage(timeout=timeout))

    def ended(self, partition: str, position: str) -> bool:
        closed = any(partition in parents for parents in self.parents.values())
        return closed and int(position or 0) >= len(self.records.get(partition, ()))

    def read(self, partition: str, after: Edge | Position, limit: int, *, timeout: float) -> list[Record[bytes]]:
        assert timeout >= 0
        if self.missing is not None:
            raise self.missing(partition)
        if partition not in self.records:
            raise NotFound(partition)
        start = int(after.value) if isinstance(after, Position) else 0
        return [
            Record(data, None, {}, partition, Position(partition, f"{number:020d}"), EPOCH)
            for number, data in enumerate(self.records[partition][start : start + limit], start + 1)
        ]

    def end(self, partition: str, *, timeout: float) -> Position:
        assert timeout > 0
        return Position(partition, f"{len(self.records[partition]):020d}")

    def backlog(self, partition: str, after: str, *, timeout: float) -> int | None:
        assert timeout > 0
        return len(self.records[partition]) - int(after or 0)


class Ledger:
    """One group's state, as it would be stored."""

    def __init__(self) -> None:
        self.stored = msgspec.json.encode(GroupState())

    def read(self, group: str, *, timeout: float) -> GroupState:
        assert group
        assert timeout > 0
        return msgspec.json.decode(self.stored, type=GroupState)

    def update(
        self, group: str, change: Callable[[GroupState], object], *, quiet: bool = False, timeout: float
    ) -> GroupState:
        assert quiet in {True, False}
        state = self.read(group, timeout=timeout)
        change(state)
        self.stored = msgspec.json.encode(state)
        return state


def joined(source: Source, ledger: Ledger, name: str = "one", start: Edge = START) -> PartitionMember:
    member = PartitionMember(source, ledger, group="group", member=name, lease=1000.0, clock=lambda: 1000.0)
    member.join(start, timeout=1.0)
    return member


def taken(member: PartitionMember) -> list[bytes]:
    records = member.fetch(100, timeout=1.0)
    member.took(records)
    return [record.data for record in records]


def committed(member: PartitionMember, partition: str, offset: int) -> None:
    assert member.commit({partition: Position(partition, f"{offset:020d}")}, timeout=1.0) == set()


def test_what_continues_a_partition_begins_when_that_is_committed() -> None:
    source, ledger = Source(a=()), Ledger()
    member = joined(source, ledger)
    source.put("a", b"1", b"2")
    assert taken(member) == [b"1", b"2"]
    source.branch("b", "c", after=("a",))
    source.put("b", b"3")
    source.put("c", b"4")
    assert taken(member) == []
    committed(member, "a", 1)
    assert taken(member) == []
    committed(member, "a", 2)
    assert sorted(taken(member)) == [b"3", b"4"]
    assert ledger.read("group", timeout=1.0).partitions["a"].position == FINISHED


def test_a_merged_partition_begins_when_both_are_finished() -> None:
    source, ledger = Source(a=(), b=()), Ledger()
    member = joined(source, ledger)
    source.put("a", b"1")
    source.put("b", b"2")
    assert sorted(taken(member)) == [b"1", b"2"]
    source.branch("c", after=("a", "b"))
    source.put("c", b"3")
    committed(member, "a", 1)
    assert taken(member) == []
    committed(member, "b", 1)
    assert taken(member) == [b"3"]


def test_empty_partitions_are_finished_without_a_commit() -> None:
    source, ledger = Source(a=()), Ledger()
    member = joined(source, ledger)
    source.branch("b", "c", after=("a",))
    source.branch("d", after=("b", "c"))
    source.put("d", b"1")
    # All in one fetch.
    assert taken(member) == [b"1"]


def test_another_member_gets_what_continues_only_then() -> None:
    source, ledger = Source(a=()), Ledger()
    first = joined(source, ledger)
    source.put("a", b"1")
    assert taken(first) == [b"1"]
    second = joined(source, ledger, "two")
    source.branch("b", "c", after=("a",))
    source.put("b", b"2")
    source.put("c", b"3")
    assert taken(second) == []
    committed(first, "a", 1)
    found = taken(first) + taken(second) + taken(first)
    assert sorted(found) == [b"2", b"3"]
    assert first.holds("b") != second.holds("b")
    assert first.holds("c") != second.holds("c")


def test_a_new_group_starts_at_the_roots_or_at_the_open_ends() -> None:
    source = Source(a=("gone",), b=("a",), c=("a",))
    source.put("a", b"1")
    source.put("b", b"2")
    member = joined(source, Ledger())
    assert taken(member) == [b"1"]
    late = joined(source, Ledger(), start=END)
    assert taken(late) == []
    source.put("b", b"3")
    assert taken(late) == [b"3"]
    # Who joins a group that has been starts where it is, whatever it asks for.
    ledger = Ledger()
    joined(source, ledger).close(timeout=1.0)
    assert taken(joined(source, ledger, "two", END)) == [b"1"]


def test_what_is_kept_no_longer_is_forgotten() -> None:
    source, ledger = Source(a=()), Ledger()
    member = joined(source, ledger)
    source.put("a", b"1")
    assert taken(member) == [b"1"]
    source.branch("b", after=("a",))
    source.put("b", b"2")
    source.forget("a")
    assert taken(member) == []
    assert taken(member) == [b"2"]
    assert list(ledger.read("group", timeout=1.0).partitions) == ["b"]
    assert member.lost() == {"a"}


def test_a_stream_that_is_gone_is_an_error() -> None:
    source = Source(a=())
    member = joined(source, Ledger())
    source.missing = ResourceNotFound
    with pytest.raises(ResourceNotFound):
        member.fetch(1, timeout=1.0)


def test_what_is_finished_has_no_lag() -> None:
    source, ledger = Source(a=()), Ledger()
    member = joined(source, ledger)
    source.put("a", b"1")
    assert taken(member) == [b"1"]
    committed(member, "a", 1)
    source.branch("b", after=("a",))
    source.put("b", b"2", b"3")
    assert taken(member) == [b"2", b"3"]
    assert member.lag(timeout=1.0) == 2


def test_waiting_looks_as_often_as_the_source_allows() -> None:
    source, ledger = Source(a=()), Ledger()
    member = joined(source, ledger)
    assert member.wait_fetch(1, timeout=0.05) == []
    source.put("a", b"1")
    assert [record.data for record in member.wait_fetch(1, timeout=5.0)] == [b"1"]


def test_only_its_owner_finishes_a_partition() -> None:
    state = GroupState()
    state.add({"a": "", "b": ""})
    state.renew("one", 0.0, 10.0)
    state.claim("one")
    state.finish("two", ["a", "missing"])
    assert state.held("one") == ["a", "b"]
    state.finish("one", ["a"])
    assert state.partitions["a"].position == FINISHED
    assert state.free() == []
    assert state.target("one") == 1
    assert state.held("one") == ["b"]
