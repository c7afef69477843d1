"""A consumer of a Kafka stream's group whose partitions go in the middle of what it does."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from portable.errors import LeaseLost, PortableError
from portable.records import Position, Record
from portable_kafka.engine import Place, Rebalancing
from portable_kafka.member import KafkaMember

TOPIC = "clicks"


class Group:
    """A group as its broker would have it: a member of two partitions, and a rebalance whenever the test wants one."""

    def __init__(self, *, while_revoked: PortableError | None = None, lost: bool = False) -> None:
        self.kept: dict[Place, tuple[int, str]] = {}
        self.rebalancing = False
        self.revoked = 0
        self.coming: list[int] = []
        self.polls = 0
        self._revoking = False
        self._while_revoked = while_revoked
        self._how = "lost" if lost else "revoked"
        self._told: dict[str, Callable[[list[Place]], None]] = {}

    def subscribe(self, topics: Any, **told: Callable[[list[Place]], None]) -> None:
        self._told = told

    def poll(self, count: int, timeout: float, make: Callable[..., Any]) -> list[Any]:
        self.polls += 1
        if self.polls == 1:
            self._told["assigned"]([(TOPIC, 0), (TOPIC, 1)])
            return [make(number) for number in (0, 1)]
        if self.rebalancing:
            self.rebalancing = False
            self._revoking = True
            self._told[self._how]([(TOPIC, self.revoked)])
            self._revoking = False
            return [make(number) for number in self.coming]
        return []

    def commit(self, offsets: Mapping[Place, tuple[int, str]], *, timeout: float) -> None:
        if self.rebalancing:
            raise Rebalancing("the group comes together anew")
        if self._revoking and self._while_revoked is not None:
            raise self._while_revoked
        self.kept.update(offsets)

    def close(self) -> None:
        pass


def _record(partition: int) -> Record[bytes]:
    name = str(partition)
    return Record(b"data", None, {}, name, Position(name, f"{0:020}"), dt.datetime.now(dt.UTC))


def _member(group: Any) -> tuple[KafkaMember, dict[str, Position]]:
    member = KafkaMember(None, group, TOPIC, 2, make=_record, grace=60.0)  # type: ignore[arg-type]
    records = member.fetch(10, timeout=5.0)
    member.took(records)
    return member, {one.partition: one.position for one in records}


def test_a_commit_in_the_middle_of_a_rebalance_is_made_before_the_partition_goes() -> None:
    group = Group()
    member, positions = _member(group)
    group.rebalancing = True
    assert member.commit(positions, timeout=5.0) == set()
    assert group.kept == {(TOPIC, 0): (0, ""), (TOPIC, 1): (0, "")}
    assert member.lost() == set()
    assert not member.holds("0")


@pytest.mark.parametrize(
    "how", [{"lost": True}, {"while_revoked": LeaseLost("it has left")}], ids=["lost", "not committed"]
)
def test_a_partition_that_goes_without_a_commit_is_told(how: dict[str, Any]) -> None:
    group = Group(**how)
    member, positions = _member(group)
    group.rebalancing = True
    assert member.commit(positions, timeout=5.0) == {"0"}
    assert group.kept == {(TOPIC, 1): (0, "")}
    assert member.lost() == set()


def test_a_heartbeat_takes_part_in_no_rebalance_while_records_are_with_the_application() -> None:
    """The partition would be another's before the application has committed."""
    group = Group()
    member, positions = _member(group)
    group.rebalancing = True
    member.heartbeat(timeout=1.0)
    assert (group.polls, group.rebalancing) == (1, True)
    group.rebalancing = False
    assert member.commit(positions, timeout=5.0) == set()
    group.rebalancing = True
    member.heartbeat(timeout=1.0)
    assert (group.polls, group.rebalancing) == (2, False)


def test_a_heartbeat_takes_part_in_no_rebalance_while_records_are_on_their_way() -> None:
    """They are handed out, and not yet with the application."""
    group = Group()
    member = KafkaMember(None, group, TOPIC, 2, make=_record, grace=60.0)  # type: ignore[arg-type]
    records = member.fetch(10, timeout=5.0)
    group.rebalancing = True
    member.heartbeat(timeout=1.0)
    assert (len(records), group.polls, group.rebalancing) == (2, 1, True)


@pytest.mark.parametrize("gone", [0, 1])
def test_what_came_while_records_were_handed_out_is_given_next(gone: int) -> None:
    """Another thread's commit takes part in a rebalance meanwhile: one partition goes, the other has more."""
    group = Group()
    group.revoked, group.coming = gone, [1 - gone]
    member = KafkaMember(None, group, TOPIC, 2, make=_record, grace=60.0)  # type: ignore[arg-type]
    handed = member.fetch(10, timeout=5.0)
    group.rebalancing = True
    member.commit({str(gone): Position(str(gone), f"{0:020}")}, timeout=5.0)
    member.took(handed)
    (found,) = member.fetch(10, timeout=5.0)
    assert found.partition == str(1 - gone)
    assert all(found is not one for one in handed)
