"""What is committed of a partition of Kafka, and what a consumer holds of it, whatever the order of things."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from portable_kafka.envelopes import LEVELS, level_of
from portable_kafka.lanes import Lanes, Message
from portable_kafka.progress import Progress


@given(
    offsets=some.lists(some.integers(0, 200), unique=True, min_size=1).map(sorted),
    done=some.lists(some.integers(0, 200)),
    start=some.integers(0, 0),
)
def test_the_commit_never_passes_what_is_open(offsets: list[int], done: list[int], start: int) -> None:
    progress = Progress(start)
    for offset in offsets:
        assert progress.see(offset)
    finished = set()
    for offset in done:
        progress.finish(offset)
        finished |= {offset} & set(offsets)
        position, text = progress.state()
        still = [one for one in offsets if one not in finished]
        assert position <= min(still, default=offsets[-1] + 1)
        # The next consumer gets what is open, and nothing else.
        after = Progress(position, text)
        assert [one for one in offsets if one >= position and after.see(one)] == still


@given(
    offsets=some.lists(some.integers(0, 60), unique=True, min_size=2).map(sorted),
    first=some.sets(some.integers(0, 60)),
    second=some.sets(some.integers(0, 60)),
    seen=some.integers(0, 60),
)
def test_what_is_done_outlives_a_second_consumer(
    offsets: list[int], first: set[int], second: set[int], seen: int
) -> None:
    one = Progress(0)
    for offset in offsets:
        one.see(offset)
    for offset in first:
        one.finish(offset)
    position, text = one.state()
    two = Progress(position, text)
    # It sees only some of them again before it goes, too.
    again = [offset for offset in offsets if offset >= position][:seen]
    taken = {offset for offset in again if two.see(offset)}
    for offset in second & taken:
        two.finish(offset)
    position, text = two.state()
    three = Progress(position, text)
    left = {offset for offset in offsets if offset >= position and three.see(offset)}
    assert left == set(offsets) - first - (second & taken)


def test_what_does_not_fit_beside_an_offset_is_given_again() -> None:
    progress = Progress(0)
    for offset in range(20_000):
        progress.see(offset)
    for offset in range(1, 20_000, 2):
        progress.finish(offset)
    position, text = progress.state()
    assert position == 0
    assert len(text) <= 3500
    after = Progress(position, text)
    given_again = {offset for offset in range(20_000) if after.see(offset)}
    assert given_again >= set(range(0, 20_000, 2))
    assert len(given_again) < 20_000


def test_what_another_program_committed_is_no_text_of_ours() -> None:
    assert Progress(7, "hello").state() == (7, "")
    assert Progress(7, '{"open": "x"}').see(7)


def test_given_back_in_place_is_counted_beside_the_offset() -> None:
    progress = Progress(3)
    progress.see(3)
    progress.tries[3] = 2
    assert Progress(*progress.state()).tries == {3: 2}
    progress.finish(3)
    assert progress.state() == (4, "")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def message(offset: int, key: bytes | None = None, partition: int = 0) -> Message:
    return Message(("jobs", partition), offset, 0, key, b"", None, 0)


def test_a_key_waits_and_others_do_not() -> None:
    lanes = Lanes(ordered=True, clock=Clock())
    for offset, key in enumerate((b"a", b"a", b"b", b"a")):
        lanes.add(message(offset, key))
    first = lanes.lease(10, 30)
    assert [one.offset for one, _ in first] == [0, 2]
    lanes.finish([first[0][0]])
    ((second, _),) = lanes.lease(10, 30)
    assert second.offset == 1
    lanes.give_back(second)
    ((second, turn),) = lanes.lease(10, 30)
    assert (second.offset, turn) == (1, 2)
    assert lanes.held == 3


def test_leases_end_and_what_was_given_back_is_due() -> None:
    clock = Clock()
    lanes = Lanes(ordered=False, clock=clock)
    lanes.add(message(0))
    (receipt,) = lanes.lease(1, 5)
    assert lanes.extend(receipt, 20)
    clock.now += 10
    assert list(lanes.expired()) == []
    clock.now += 11
    assert list(lanes.expired()) == [receipt[0]]
    lanes.give_back(receipt[0], 3)
    assert lanes.lease(1, 5) == []
    assert lanes.next_change() == 3
    clock.now += 3
    assert len(lanes.lease(1, 5)) == 1


def test_partitions_that_go_take_along_what_nobody_holds() -> None:
    lanes = Lanes(ordered=True, clock=Clock())
    for partition in (0, 1):
        for offset in range(3):
            lanes.add(message(offset, b"k", partition))
    held = lanes.lease(1, 30)[0]
    gone = {held[0].place}
    lanes.drop(gone)
    assert lanes.holds(held)
    assert lanes.held == 4
    lanes.lose(gone)
    assert not lanes.holds(held)
    assert lanes.leases == 0
    assert [one.place[1] for one, _ in lanes.lease(9, 30)] == [1]


def test_where_delayed_messages_wait() -> None:
    assert [level_of(seconds) for seconds in (-1, 0, 7.9, 8, 600, 10**7)] == [0, 0, 0, 1, 3, len(LEVELS) - 1]
