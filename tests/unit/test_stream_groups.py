"""How the members of a group share its partitions: the rules by themselves, and a member that follows them."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from portable import open_stream
from portable.cloud import Cloud
from portable.config import Profile
from portable.errors import Closed, LeaseLost, PreconditionFailed
from portable.group_state import GroupState
from portable.messages import Outgoing
from portable.records import Position
from portable.testing.clock import Clock

_names = itertools.count()


# The rules.


def _group(partitions: int) -> GroupState:
    state = GroupState()
    state.add({str(number): "" for number in range(partitions)})
    return state


def _settle(state: GroupState) -> None:
    """Let every member act in turn until nothing changes: give up what is over, claim what is free."""
    for _ in range(100):
        before = {name: share.owner for name, share in state.partitions.items()}
        for member in list(state.members):
            held = state.held(member)
            state.release(member, held[state.target(member) :])
            state.claim(member)
        if before == {name: share.owner for name, share in state.partitions.items()}:
            return
    raise AssertionError(f"partitions still change hands: {state}")


@pytest.mark.parametrize("seed", range(20))
def test_partitions_are_shared_evenly_whoever_comes_and_goes(seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 (repeatable, not secret)
    state = _group(chance.randrange(1, 12))
    for step in range(40):
        if state.members and chance.random() < 0.4:
            state.leave(chance.choice(list(state.members)))
        else:
            state.renew(f"member-{step}", 0.0, 10.0)
        _settle(state)
        if state.members:
            holding = [len(state.held(member)) for member in state.members]
            assert sum(holding) == len(state.partitions)
            assert max(holding) - min(holding) <= 1


def test_as_few_partitions_as_possible_change_hands() -> None:
    state = _group(6)
    for member in ("a", "b"):
        state.renew(member, 0.0, 10.0)
    _settle(state)
    before = {member: set(state.held(member)) for member in "ab"}
    state.renew("c", 0.0, 10.0)
    _settle(state)
    for member in "ab":
        assert set(state.held(member)) < before[member]
        assert len(state.held(member)) == 2


def test_a_member_is_out_when_its_lease_has_ended() -> None:
    state = _group(2)
    state.renew("dead", 0.0, 10.0)
    state.claim("dead")
    state.renew("alive", 9.9, 10.0)
    assert state.held("dead") == ["0", "1"]
    state.renew("alive", 10.0, 10.0)
    state.claim("alive")
    assert state.held("alive") == ["0", "1"]
    assert list(state.members) == ["alive"]


def test_a_clock_set_back_does_not_lengthen_a_lease() -> None:
    state = _group(1)
    state.renew("dead", 10_000.0, 10.0)
    state.claim("dead")
    state.renew("alive", 5_000.0, 10.0)
    state.renew("alive", 5_010.0, 10.0)
    state.claim("alive")
    assert state.held("alive") == ["0"]


def test_a_commit_counts_only_from_the_owner() -> None:
    state = _group(2)
    state.renew("a", 0.0, 10.0)
    state.claim("a")
    state.leave("a")
    state.renew("b", 0.0, 10.0)
    state.claim("b")
    assert state.commit("a", {"0": "5", "no-such": "5"}) == {"0", "no-such"}
    assert state.partitions["0"].position == ""
    assert state.commit("b", {"0": "5"}) == set()
    assert state.partitions["0"].position == "5"


# A member.


class World:
    """Streams of one name on one clock, each handle with a cloud of its own, as processes have."""

    def __init__(self, url: str) -> None:
        self.clock = Clock()
        self.clock.stop()
        self._url = url
        self._name = f"stream-{next(_names)}"
        self._clouds: list[Cloud] = []

    def stream(self, **options: Any) -> Any:
        options = {"name": self._name, "create": "if_missing", "partitions": 2, "session_timeout": "10s", **options}
        cloud = Cloud(
            Profile.single("stream", self._url, options), clock=self.clock.now, on_clock_moved=self.clock.on_moved
        )
        self._clouds.append(cloud)
        return cloud.stream(self._name)

    def fill(self, count: int) -> None:
        """Append records so that both partitions have some."""
        self.stream().append_many([Outgoing(str(number), ordering_key=str(number)) for number in range(count)])

    def close(self) -> None:
        for cloud in self._clouds:
            cloud.close()


@pytest.fixture(params=["memory", "sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[World]:
    world = World("memory:groups" if request.param == "memory" else f"sqlite:{tmp_path / 'app.db'}?durability=process")
    yield world
    world.close()


def _poll_all(consumer: Any) -> list[str]:
    found: list[str] = []
    while records := consumer.poll(timeout=0):
        found += [record.data.decode() for record in records]
    return found


def test_a_silent_members_partitions_are_taken_over_after_its_session(world: World) -> None:
    world.fill(10)
    silent, other = world.stream().consumer("g"), world.stream().consumer("g")
    assert len(_poll_all(silent)) == 10
    # Nobody keeps it alive: its process might as well be gone.
    silent._keeper.close()
    world.clock.advance(9.0)
    assert _poll_all(other) == []
    world.clock.advance(2.0)
    assert len(_poll_all(other)) == 10
    with pytest.raises(LeaseLost, match="another member"):
        silent.commit()
    other.commit()
    assert other.lag() == 0


def test_a_member_that_was_silent_and_lost_nothing_goes_on(world: World) -> None:
    world.fill(4)
    consumer = world.stream().consumer("g")
    assert len(_poll_all(consumer)) == 4
    world.clock.advance(100.0)
    consumer.commit()
    assert consumer.lag() == 0
    assert consumer.poll(timeout=0) == []


def test_what_was_fetched_ahead_of_a_lost_partition_is_not_given(world: World) -> None:
    world.fill(10)
    late, other = world.stream().consumer("g"), world.stream().consumer("g")
    first = next(late).data.decode()
    late._keeper.close()
    world.clock.advance(11.0)
    assert len(_poll_all(other)) == 10
    other.commit()
    assert late.poll(timeout=0) == []
    with pytest.raises(LeaseLost):
        late.commit()
    # It was told once, and is a member like any other from now on.
    late.commit()
    assert first
    other.close()
    world.fill(2)
    assert len(_poll_all(late)) == 2


def test_what_was_fetched_ahead_and_never_given_is_no_loss(world: World) -> None:
    world.fill(10)
    late, other = world.stream().consumer("g"), world.stream().consumer("g")
    first = next(late).data.decode()
    late.commit()
    late._keeper.close()
    world.clock.advance(11.0)
    rest = _poll_all(other)
    assert sorted([first, *rest]) == sorted(str(number) for number in range(10))
    other.commit()
    # The first drops what was fetched ahead, the second asks its member what is lost.
    assert late.poll(timeout=0) == []
    assert late.poll(timeout=0) == []
    late.commit()


def test_a_partition_goes_on_once_its_records_are_committed(world: World) -> None:
    world.fill(10)
    first, second = world.stream().consumer("g"), world.stream().consumer("g")
    got = _poll_all(first)
    assert _poll_all(second) == []
    # The second one has joined; the first is not read from the partition that it should give up, nor gives it up yet.
    world.fill(10)
    more = _poll_all(first)
    assert 0 < len(more) < 10
    assert _poll_all(second) == []
    first.commit()
    rest = _poll_all(second)
    assert sorted([*more, *rest]) == sorted(str(number) for number in range(10))
    assert len(got) == 10
    second.commit()
    first.commit()
    assert first.lag() == 0


def test_a_partition_is_given_up_uncommitted_after_a_grace_time(world: World) -> None:
    world.fill(10)
    first, second = world.stream().consumer("g"), world.stream().consumer("g")
    assert len(_poll_all(first)) == 10
    assert _poll_all(second) == []
    assert _poll_all(first) == []
    for _ in range(4):
        world.clock.advance(3.0)
        assert _poll_all(first) == []
        again = _poll_all(second)
        if again:
            break
    assert 0 < len(again) < 10
    with pytest.raises(LeaseLost):
        first.commit()
    second.commit()
    assert first.lag() == 0


def test_seek_is_refused_where_another_member_reads(world: World) -> None:
    world.fill(10)
    first, second = world.stream().consumer("g"), world.stream().consumer("g")
    (record,) = first.poll(timeout=0, max_records=1)
    with pytest.raises(PreconditionFailed, match="not with this consumer"):
        second.seek(record.position)
    first.commit()
    first.seek(Position("0", ""))
    assert {one.partition for one in first.poll(timeout=0)} == {"0"}


def test_seek_before_the_first_poll(world: World) -> None:
    positions = world.stream().append_many([b"0", b"1", b"2", b"3"]).succeeded
    consumer = world.stream().consumer("g")
    consumer.seek(positions[0])
    assert len(_poll_all(consumer)) == 3


def test_a_consumer_takes_only_its_share_when_it_fetches(world: World) -> None:
    world.fill(10)
    joined = world.stream().consumer("g")
    reads = world.stream().consumer("g")
    assert len(_poll_all(reads)) == 10
    assert joined.poll(timeout=0) == []


def test_closing_the_stream_frees_its_consumers_partitions(world: World) -> None:
    world.fill(10)
    stream = world.stream()
    consumer = stream.consumer("g")
    assert len(_poll_all(consumer)) == 10
    stream.close()
    with pytest.raises(Closed):
        consumer.poll(timeout=0)
    assert list(consumer) == []
    assert len(_poll_all(world.stream().consumer("g"))) == 10


def test_a_stuck_consumer_gives_no_sign_of_life(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.fill(4)
    stuck, other = world.stream().consumer("g"), world.stream().consumer("g")
    assert len(_poll_all(stuck)) == 4
    world.clock.advance(9.0)
    stuck._heartbeat()
    world.clock.advance(9.0)
    assert _poll_all(other) == []
    monkeypatch.setattr("portable.stream_consumer.MAX_POLL_INTERVAL", -1.0)
    stuck._heartbeat()
    world.clock.advance(2.0)
    assert len(_poll_all(other)) == 4


def test_a_member_keeps_its_partitions_while_its_records_are_dealt_with(world: World) -> None:
    world.fill(4)
    consumer, other = world.stream().consumer("g"), world.stream().consumer("g")
    member = consumer._member
    beat, beaten = member.heartbeat, threading.Event()

    def heartbeat(*, timeout: float) -> None:
        beat(timeout=timeout)
        beaten.set()

    member.heartbeat, member.heartbeat_every = heartbeat, 0.01
    assert len(_poll_all(consumer)) == 4
    for _ in range(5):
        world.clock.advance(9.0)
        beaten.clear()
        assert beaten.wait(30)
        # One may have been under way when the clock was moved.
        beaten.clear()
        assert beaten.wait(30)
        assert _poll_all(other) == []
    consumer.commit()


def test_a_dead_members_partitions_are_noticed_while_waiting() -> None:
    """By the real clock: a poll that waits takes over by itself; nothing is appended that would wake it."""
    with (
        open_stream("memory:groups", name="dead", partitions=1, session_timeout="300ms") as stream,
        open_stream("memory:groups", name="dead", partitions=1, session_timeout="300ms") as rival,
    ):
        stream.append(b"x")
        dead, heir = stream.consumer("g"), rival.consumer("g")
        assert len(dead.poll(timeout=5)) == 1
        dead._keeper.close()
        assert len(heir.poll(timeout=30)) == 1
