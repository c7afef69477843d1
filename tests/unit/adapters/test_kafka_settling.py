"""What a member of a group on Kafka commits and writes anew, for many threads at once, whatever stands in the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from portable.errors import LeaseLost, LimitExceeded, PortableError, Unavailable
from portable_kafka.committing import Commits
from portable_kafka.engine import Outbound, Place
from portable_kafka.lanes import Lanes, Message
from portable_kafka.progress import Progress
from portable_kafka.replacing import Replacements

PLACE = ("jobs", 0)
OTHER = ("jobs", 1)
PATIENCE = 30.0


class Cluster:
    """Takes commits and transactions as a cluster would; `refuses` says what is wrong with one, if anything."""

    def __init__(self, refuses: Callable[[Sequence[Outbound]], PortableError | None] = lambda _: None) -> None:
        self.refuses = refuses
        self.commits: list[dict[Place, tuple[int, str]]] = []
        self.written: list[list[bytes]] = []

    def commit(self, offsets: Mapping[Place, tuple[int, str]], *, timeout: float) -> None:
        error = self.refuses([])
        if error is not None:
            raise error
        self.commits.append(dict(offsets))

    def write(
        self, messages: Sequence[Outbound], offsets: Mapping[Place, tuple[int, str]], member: Any, *, timeout: float
    ) -> None:
        error = self.refuses(messages)
        if error is not None:
            raise error
        self.written.append([one[3] for one in messages])
        self.commits.append(dict(offsets))

    def close(self) -> None:
        pass


class Member:
    """A member that holds four messages of one partition, and two of another."""

    def __init__(self, cluster: Any) -> None:
        self.cluster = cluster
        self.changed = threading.Condition()
        self.progress = {PLACE: Progress(0), OTHER: Progress(0)}
        self.lanes = Lanes(ordered=False, clock=monotonic)
        for place, offset in [(PLACE, 0), (PLACE, 1), (PLACE, 2), (PLACE, 3), (OTHER, 0), (OTHER, 1)]:
            message = Message(place, offset, 0, None, b"%d" % offset, None, 0)
            message.progress = self.progress[place]
            self.progress[place].see(offset)
            self.lanes.add(message)
        self.messages = [message for message, _ in self.lanes.lease(6, 60.0)]
        self.commits = Commits(self.changed, self.progress)
        self.replacements = Replacements(
            self.changed, self.progress, self.lanes, self.commits, transactions=lambda: self.cluster
        )
        self.replacements.begin(self.cluster)

    def replace(self, *messages: Message, patient: bool = True) -> None:
        with self.changed:
            for message in messages:
                message.busy = True
        outbound: list[Outbound] = [("jobs", 0, None, one.value, None) for one in messages]
        self.replacements.replace(messages, outbound, timeout=PATIENCE, patient=patient)


def test_what_is_replaced_is_done() -> None:
    member = Member(Cluster())
    member.replace(member.messages[0], member.messages[2])
    assert member.cluster.written == [[b"0", b"2"]]
    position, text = member.cluster.commits[0][PLACE]
    after = Progress(position, text)
    assert [offset for offset in range(position, 4) if after.see(offset)] == [1, 3]
    assert member.lanes.held == 4


def test_a_member_of_the_generation_before_tries_again() -> None:
    """Its thread has still to learn of the rebalance; until then the cluster knows no such member."""
    refusals = [LeaseLost("the generation is another"), LeaseLost("the generation is another"), None]
    member = Member(Cluster(lambda _: refusals.pop(0)))
    member.replace(member.messages[0])
    assert member.cluster.written == [[b"0"]]
    assert not refusals


def test_the_thread_that_has_to_learn_of_a_rebalance_does_not_wait_for_it() -> None:
    member = Member(Cluster(lambda _: LeaseLost("the generation is another")))
    with pytest.raises(LeaseLost):
        member.replace(member.messages[0], patient=False)
    assert member.lanes.holds((member.messages[0], 1))


def test_what_went_to_another_consumer_is_that_ones() -> None:
    """Of what is replaced together, the rest is replaced all the same."""
    member = Member(Cluster())
    with member.changed:
        member.commits.lose([OTHER])
        member.lanes.lose({OTHER})
        del member.progress[OTHER]
    member.replace(member.messages[0], member.messages[4])
    assert member.messages[4].lost
    assert member.cluster.written == [[b"0"]]
    member.replace(member.messages[5])
    assert member.cluster.written == [[b"0"]]


def test_a_member_that_loses_its_partition_meanwhile_stops_trying() -> None:
    member = Member(Cluster())

    def refuse(_: Sequence[Outbound]) -> PortableError:
        with member.changed:
            member.lanes.lose({PLACE})
            member.progress.pop(PLACE, None)
        return LeaseLost("it is no member any more")

    member.cluster.refuses = refuse
    member.replace(member.messages[0])
    assert member.messages[0].lost
    assert member.cluster.written == []


def test_one_that_is_refused_does_not_hold_up_those_written_with_it() -> None:
    """Several threads come while a transaction is under way, and share the next."""
    under_way, go_on = threading.Event(), threading.Event()

    def refuse(messages: Sequence[Outbound]) -> PortableError | None:
        if messages[0][3] == b"0":
            under_way.set()
            assert go_on.wait(PATIENCE)
        return LimitExceeded("too large") if any(one[3] == b"2" for one in messages) else None

    member = Member(Cluster(refuse))
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(member.replace, member.messages[0])
        assert under_way.wait(PATIENCE)
        others = [threads.submit(member.replace, one) for one in member.messages[1:4]]
        deadline, nothing = monotonic() + PATIENCE, threading.Event()
        while len(member.replacements._orders) < 4 and monotonic() < deadline:
            nothing.wait(0.01)
        go_on.set()
        first.result(PATIENCE)
        others[0].result(PATIENCE)
        others[2].result(PATIENCE)
        with pytest.raises(LimitExceeded):
            others[1].result(PATIENCE)
    assert sorted(body for one in member.cluster.written for body in one) == [b"0", b"1", b"3"]
    assert member.lanes.holds((member.messages[2], 1))


def test_an_outcome_that_is_not_known_is_not_tried_again() -> None:
    member = Member(Cluster(lambda _: Unavailable("the answer was lost", maybe_applied=True)))
    with pytest.raises(Unavailable):
        member.replace(member.messages[0])
    assert member.lanes.holds((member.messages[0], 1))


def test_a_commit_that_failed_is_told_and_made_up_for() -> None:
    refusals: list[PortableError | None] = [Unavailable("nobody answers"), None]
    member = Member(Cluster(lambda _: refusals.pop(0)))
    with member.changed:
        member.progress[PLACE].finish(0)
        mark = member.commits.mark([PLACE])
    member.commits.commit(member.cluster, PATIENCE)
    with member.changed, pytest.raises(Unavailable):
        member.commits.wait(mark, monotonic() + PATIENCE)
    with member.changed:
        mark = member.commits.mark([])
    member.commits.commit(member.cluster, PATIENCE)
    with member.changed:
        member.commits.wait(mark, monotonic() + PATIENCE)
    assert member.cluster.commits == [{PLACE: (1, "")}]


def test_what_is_lost_before_it_was_committed_is_known_apart() -> None:
    """What was committed before, and what is of other partitions, is done."""
    member = Member(Cluster())
    with member.changed:
        member.progress[PLACE].finish(0)
        first = member.commits.mark([PLACE])
    member.commits.commit(member.cluster, PATIENCE)
    lost, kept = member.progress[PLACE], member.progress[OTHER]
    with member.changed:
        lost.finish(1)
        kept.finish(0)
        second = member.commits.mark([PLACE, OTHER])
        member.commits.lose([PLACE])
        del member.progress[PLACE]
    member.commits.commit(member.cluster, PATIENCE)
    with member.changed:
        member.commits.wait(second, monotonic() + PATIENCE)
    assert first <= lost.kept_to < second <= kept.kept_to
    assert member.cluster.commits[-1] == {OTHER: (1, "")}


def test_long_leases_that_are_over_keep_nothing() -> None:
    lanes = Lanes(ordered=False, clock=monotonic)
    for offset in range(20_000):
        lanes.add(Message(PLACE, offset, 0, None, b"", None, 0))
        ((message, _),) = lanes.lease(1, 3600.0)
        lanes.finish([message])
    assert sum(len(one[2]) for one in lanes._ends) < 5_000
    assert lanes.held == 0


def test_what_is_given_back_of_a_partition_that_is_about_to_go_is_for_the_next() -> None:
    lanes = Lanes(ordered=True, clock=monotonic)
    for offset in range(2):
        lanes.add(Message(PLACE, offset, 0, b"k", b"", None, 0))
    ((message, _),) = lanes.lease(1, 60.0)
    lanes.drop({PLACE})
    lanes.give_back(message)
    assert lanes.lease(1, 60.0) == []
    assert (lanes.held, lanes.leases) == (0, 0)
