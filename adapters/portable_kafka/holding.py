"""One queue's member of its consumer group: it fetches, holds leases, commits, and gives partitions up when it may.

A thread runs as long as somebody receives or holds a message, and a moment longer: then it leaves the group, so that
its partitions are with those who want messages.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, sleep
from typing import NamedTuple

from portable.errors import Closed, DeadlineExceeded, LeaseLost, PortableError
from portable_kafka.cluster import Cluster
from portable_kafka.engine import Consumer, Headers, Outbound, Place, Transactions
from portable_kafka.envelopes import LEVELS, Spread, count_of
from portable_kafka.lanes import Lanes, Message, Receipt
from portable_kafka.later import Later
from portable_kafka.progress import Progress

__all__ = ["Group", "Holding"]

SLICE = 0.2
"""Seconds that the thread waits for messages before it looks at leases and delays."""

QUICK = 0.002
"""Seconds between two looks for messages while others are held, whose acknowledgement must not wait."""

IDLE = 1.0
"""Seconds after the last receive when a member that holds nothing leaves its group."""

COMING_TOGETHER = 5.0
"""Seconds that a receive which need not wait gives a group to come together, so that `none` means something."""

FETCHED_AT_ONCE = 500
HELD = 2000
"""How many messages are held at most."""

TIDY_EVERY = 5.0
TRIMMED_FROM = 1000
"""How many messages of a partition have to be done before they are removed from the log."""

PAUSE = 0.05
"""Seconds before a transaction that met a rebalance is tried again."""

SHARE_OF_PATIENCE = 0.8
"""How much of the time that a rebalance waits for a member this one uses to have its leases end."""


class Group(NamedTuple):
    """What a queue reads.

    Attributes:
        name: of the consumer group.
        queue: the queue's own topic.
        topics: what is read: the queue's topic, and that of a subscription.
        later: the topic of delayed messages.
        spread: chooses partitions of the queue's topic.
        ordered: whether messages of a key are given one at a time.
        wanted: whether a message of another topic than the queue's own is wanted.
        patience: seconds that a rebalance waits for a member.
        clock: the wall clock.
    """

    name: str
    queue: str
    topics: tuple[str, ...]
    later: str
    spread: Spread
    ordered: bool
    wanted: Callable[[Headers | None], bool]
    patience: float
    clock: Callable[[], float]


class Holding:
    """The messages that this process has of a queue, and the membership by which it gets them.

    Args:
        cluster: the clients.
        group: what is read.
        expired: does with messages whose lease ended what has to be done: `give_back` or `replace`, quickly.
        timeout: seconds that a step of the thread may take.
    """

    def __init__(
        self, cluster: Cluster, group: Group, *, expired: Callable[[list[Message]], None], timeout: float
    ) -> None:
        self._cluster = cluster
        self._group = group
        self._expired = expired
        self._timeout = timeout
        self._changed = threading.Condition()
        self._lanes = Lanes(ordered=group.ordered, clock=monotonic)
        self._progress: dict[Place, Progress] = {}
        self._unseen: set[Place] = set()
        self._paused: set[Place] = set()
        self._joined = self._closing = self._ending = False
        self._thread: threading.Thread | None = None
        self._consumer: Consumer | None = None
        self._later: Later | None = None
        self._fault: PortableError | None = None
        self._receivers = self._settling = 0
        self._used = self._tidied = monotonic()
        # Held while offsets are committed, alone or in a transaction.
        self._committing = threading.Lock()
        self._transactions: Transactions | None = None
        self._dirty: set[Place] = set()
        # How often there was something to commit; up to which of these it was, or could not be.
        self._marked = self._covered = self._failed = 0
        self._failure: PortableError | None = None

    # What the queue does.

    def receive(self, count: int, visibility: float, *, wait: float, timeout: float) -> list[Receipt]:
        """Lease messages; wait for the first."""
        started = monotonic()
        deadline = started + wait
        patience = max(deadline, started + min(COMING_TOGETHER, timeout))
        with self._changed:
            self._receivers += 1
            self._begin_anew()
            waited = False
            try:
                while True:
                    self._begin()
                    receipts = self._lanes.lease(count, visibility)
                    if receipts:
                        return receipts
                    if not waited:
                        # The thread looks for messages more closely while somebody waits for them.
                        waited = True
                        self._changed.notify_all()
                    now = monotonic()
                    fault = self._fault
                    if fault is not None and (not fault.retryable or now >= patience):
                        raise fault
                    ends = deadline if self._joined and not self._unseen else patience
                    if now >= ends:
                        return []
                    change = self._lanes.next_change()
                    self._changed.wait(ends - now if change is None else max(0.001, min(ends - now, change)))
            finally:
                self._receivers -= 1
                self._used = monotonic()

    def undo(self, receipts: Sequence[Receipt]) -> None:
        """Make leases undone that nobody got."""
        with self._changed:
            for receipt in receipts:
                if self._lanes.holds(receipt):
                    receipt.message.turn += 1
                    self._lanes.give_back(receipt.message, first=True)
            self._changed.notify_all()

    def ack(self, receipts: Sequence[Receipt], *, timeout: float) -> list[PortableError | None]:
        """Count messages as done, and commit."""
        answers: list[PortableError | None] = []
        with self._changed:
            self._settling += 1
            for receipt in receipts:
                message = receipt.message
                if self._lanes.holds(receipt):
                    message.acked = True
                    self._lanes.finish(message)
                    self._progress[message.place].finish(message.offset)
                    self._dirty.add(message.place)
                elif not (message.acked and message.turn == receipt.turn):
                    answers.append(_lost(message))
                    continue
                answers.append(None)
            mark = self._mark()
            try:
                self._await_commit(mark, monotonic() + timeout)
            except LeaseLost as error:
                answers = [error if answer is None else answer for answer in answers]
            finally:
                self._settling -= 1
                self._used = monotonic()
        return answers

    def extend(self, receipts: Sequence[Receipt], seconds: float) -> list[PortableError | None]:
        """Let leases end so many seconds from now."""
        with self._changed:
            answers: list[PortableError | None] = []
            for one in receipts:
                answers.append(None if self._lanes.extend(one, seconds) else _lost(one.message))  # noqa: PERF401 (typed)
            self._changed.notify_all()
        return answers

    def taken(self, receipts: Sequence[Receipt]) -> list[Message | None]:
        """Take messages from their holders, for `give_back` or `replace`; None for what they do not hold any more."""
        with self._changed:
            found: list[Message | None] = []
            for receipt in receipts:
                holds = self._lanes.holds(receipt)
                receipt.message.busy |= holds
                found.append(receipt.message if holds else None)
        return found

    def give_back(self, messages: Sequence[Message], delay: float) -> None:
        """Have messages that were taken delivered again from where they are, each before those behind it."""
        with self._changed:
            for message in messages:
                progress = self._progress.get(message.place)
                if progress is None or message.lost:
                    continue
                message.count += 1
                message.turn += 1
                progress.tries[message.offset] = progress.tries.get(message.offset, 0) + 1
                self._lanes.give_back(message, delay)
                self._dirty.add(message.place)
            # Nobody waits: what may be lost is how often they were delivered.
            self._mark()

    def replace(self, messages: Sequence[Message], outbound: Sequence[Outbound], *, timeout: float) -> None:
        """Write what takes the place of messages that were taken, and count them as done, in one step.

        Raises:
            LeaseLost: the messages went to another consumer.
        """
        deadline = monotonic() + timeout
        with self._changed:
            self._settling += 1
        try:
            while True:
                try:
                    self._write(messages, outbound, timeout=max(1.0, deadline - monotonic()))
                except PortableError as error:
                    passes = isinstance(error, LeaseLost) or (error.retryable and not error.maybe_applied)
                    if not passes or monotonic() >= deadline or threading.current_thread() is self._thread:
                        raise
                    sleep(PAUSE)
                else:
                    return
        except BaseException:
            with self._changed:
                for message in messages:
                    self._lanes.hold_again(message)
            raise
        finally:
            with self._changed:
                self._settling -= 1
                self._used = monotonic()
                self._changed.notify_all()

    def close(self) -> None:
        """Leave the group; messages that are held come to others."""
        with self._changed:
            self._closing = True
            thread = self._thread
            self._changed.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        if self._transactions is not None:
            self._transactions.close()

    # Committing.

    def _mark(self) -> int:
        """Have the thread commit what is done by now; it alone speaks to the consumer, which serves one thread."""
        self._marked += 1
        self._changed.notify_all()
        return self._marked

    def _await_commit(self, mark: int, deadline: float) -> None:
        while self._covered < mark:
            if self._failed >= mark and self._failure is not None:
                raise self._failure
            left = deadline - monotonic()
            if left <= 0:
                raise DeadlineExceeded("the cluster did not take the commit in time", maybe_applied=True)
            self._changed.wait(left)

    def _commit(self, consumer: Consumer, timeout: float) -> None:
        """Commit what is done by now; whoever waits for it learns how that went."""
        with self._changed:
            if max(self._covered, self._failed) >= self._marked:
                return
        failure: PortableError | None = None
        with self._committing:
            with self._changed:
                mark = self._marked
                dirty, self._dirty = self._dirty, set()
                states = {place: self._progress[place].state() for place in dirty if place in self._progress}
            try:
                if states:
                    consumer.commit(states, timeout=timeout)
                    self._committed(states)
            except PortableError as error:
                failure = error
        with self._changed:
            if failure is None:
                self._covered = mark
            else:
                self._dirty |= dirty & set(self._progress)
                self._failed, self._failure = mark, failure
            self._changed.notify_all()

    def _committed(self, states: Mapping[Place, tuple[int, str]]) -> None:
        with self._changed:
            for place, (offset, _) in states.items():
                progress = self._progress.get(place)
                if progress is not None:
                    progress.committed = offset

    def _write(self, messages: Sequence[Message], outbound: Sequence[Outbound], *, timeout: float) -> None:
        with self._committing:
            with self._changed:
                consumer = self._consumer
                done: dict[Place, set[int]] = {}
                for message in messages:
                    done.setdefault(message.place, set()).add(message.offset)
                if consumer is None or any(one.lost or one.place not in self._progress for one in messages):
                    raise _lost(messages[0])
                states = {place: self._progress[place].state(offsets) for place, offsets in done.items()}
            self._transaction().write(outbound, states, consumer, timeout=timeout)
            with self._changed:
                for message in messages:
                    progress = self._progress.get(message.place)
                    if progress is not None and not message.lost:
                        progress.finish(message.offset)
                        self._lanes.finish(message)
                self._changed.notify_all()
            self._committed(states)

    def _transaction(self) -> Transactions:
        if self._transactions is None:
            self._transactions = self._cluster.engine.transactions(f"portable-{self._group.queue}-{uuid.uuid4().hex}")
        return self._transactions

    # The thread.

    def _begin_anew(self) -> None:
        self._fault = None

    def _begin(self) -> None:
        if self._closing:
            raise Closed("the queue is closed")
        if self._thread is None:
            self._used = monotonic()
            self._thread = threading.Thread(target=self._keep, name="portable-kafka", daemon=True)
            self._thread.start()

    def _keep(self) -> None:
        consumer: Consumer | None = None
        try:
            consumer = self._cluster.engine.consumer(self._group.name)
            with self._changed:
                self._consumer = consumer
            consumer.subscribe(
                self._group.topics, assigned=self._assigned, revoked=self._revoked, lost=self._lost_places
            )
            while self._is_needed():
                self._step(consumer)
        except PortableError as error:
            with self._changed:
                self._fault = error
        finally:
            self._end(consumer)

    def _is_needed(self) -> bool:
        with self._changed:
            busy = self._receivers or self._settling or self._lanes.leases
            return not self._closing and bool(busy or monotonic() - self._used < IDLE)

    def _end(self, consumer: Consumer | None) -> None:
        self._ending = True
        if consumer is not None:
            self._tidy(consumer)
            consumer.close()
        self._stop_later()
        with self._changed:
            self._lanes.lose(set(self._progress))
            self._lanes = Lanes(ordered=self._group.ordered, clock=monotonic)
            self._progress = {}
            self._unseen, self._paused, self._dirty = set(), set(), set()
            self._joined = self._ending = False
            self._consumer = self._thread = None
            self._failed, self._failure = (
                self._marked,
                LeaseLost("the consumer left its group before this was committed"),
            )
            self._changed.notify_all()

    def _step(self, consumer: Consumer) -> None:
        self._pace(consumer)
        wait = self._slice()
        with self._changed:
            if self._lanes.held > 0 or self._settling > 0:
                # Nothing wakes the client itself, so what is acknowledged is waited for outside of it.
                idle = not self._receivers and max(self._covered, self._failed) >= self._marked
                if idle:
                    self._changed.wait(min(wait, SLICE / 4))
                wait = 0.0 if idle else min(wait, QUICK)
        self._commit(consumer, self._timeout)
        for message in consumer.poll(FETCHED_AT_ONCE, wait, _message):
            self._take(message)
        with self._changed:
            for place, offset in consumer.ends().items():
                self._unseen.discard(place)
                if place in self._progress:
                    self._progress[place].reach(offset)
            self._changed.notify_all()
        self._look_after(consumer)
        if monotonic() - self._tidied > TIDY_EVERY:
            self._tidy(consumer)

    def _take(self, message: Message) -> None:
        place, offset = message.place, message.offset
        with self._changed:
            progress = self._progress.get(place)
            if progress is None or offset < progress.following or not progress.see(offset):
                return
            self._unseen.discard(place)
            if place[0] != self._group.queue and not self._group.wanted(message.headers):
                progress.finish(offset)
                return
            message.count += progress.tries.get(offset, 0)
            self._lanes.add(message)

    def _slice(self) -> float:
        with self._changed:
            change = self._lanes.next_change()
        due = self._later.due() if self._later is not None else None
        return max(0.002, min(one for one in (SLICE, change, due) if one is not None))

    def _pace(self, consumer: Consumer) -> None:
        """Hold no more than some messages; polling goes on, for it shows that this member lives."""
        with self._changed:
            held, places = self._lanes.held, set(self._progress)
        if held >= HELD and places - self._paused:
            consumer.pause(list(places - self._paused))
            self._paused |= places
        elif held < HELD // 2 and self._paused:
            consumer.resume(list(self._paused & places))
            self._paused = set()

    def _look_after(self, consumer: Consumer) -> None:
        with self._changed:
            over = list(self._lanes.expired())
            for message in over:
                message.busy = True
                message.turn += 1
        if over:
            # What cannot be given back now is looked at again a moment later.
            with contextlib.suppress(PortableError):
                self._expired(over)
        self._move_delayed(consumer)

    def _move_delayed(self, consumer: Consumer) -> None:
        group = self._group
        if self._later is None:
            with self._changed:
                leads = (group.queue, 0) in self._progress and not self._ending
            if not leads:
                return
            places = [(group.later, level) for level in range(len(LEVELS))]
            known = consumer.committed(places, timeout=self._timeout)
            self._later = Later(
                self._cluster.engine.consumer(None),
                group.later,
                {place: known.get(place, (0, "")) for place in places},
                queue=group.queue,
                spread=group.spread,
                clock=group.clock,
            )
        later = self._later
        later.fetch()
        while later.due() == 0:
            messages, outbound, states = later.take()
            try:
                with self._committing:
                    self._transaction().write(outbound, states, consumer, timeout=self._timeout)
            except PortableError:
                later.put_back(messages)
                sleep(PAUSE)
                return
            later.finish(messages)

    def _stop_later(self) -> None:
        later, self._later = self._later, None
        if later is not None:
            later.close()

    def _tidy(self, consumer: Consumer) -> None:
        """Commit what was passed over, and remove from the logs what is done."""
        self._tidied = monotonic()
        with self._changed:
            passed = {place for place, one in self._progress.items() if one.position > one.committed}
            self._dirty |= passed
            self._marked += bool(passed)
        self._commit(consumer, self._timeout)
        with contextlib.suppress(PortableError):
            mine = {place: one for place, one in self._progress.items() if place[0] == self._group.queue}
            done = {place: one for place, one in mine.items() if one.committed - one.trimmed >= TRIMMED_FROM}
            if done:
                self._cluster.admin.trim({place: one.committed for place, one in done.items()}, timeout=self._timeout)
            for one in done.values():
                one.trimmed = one.committed

    # The client calls these within `poll` and `close`, in the thread.

    def _assigned(self, places: list[Place]) -> None:
        consumer = self._consumer
        known = consumer.committed(places, timeout=self._timeout) if consumer is not None and places else {}
        with self._changed:
            for place in places:
                self._progress[place] = Progress(*known.get(place, (0, "")))
            self._unseen |= set(places)
            self._joined = True
            self._changed.notify_all()

    def _revoked(self, places: list[Place]) -> None:
        """Give partitions up once nobody holds a message of them; no longer than the others wait."""
        gone = set(places)
        deadline = monotonic() + self._group.patience * SHARE_OF_PATIENCE
        with self._changed:
            self._lanes.drop(gone)
        while not self._is_free(gone) and monotonic() < deadline:
            wait = self._slice()
            with self._changed:
                if max(self._covered, self._failed) >= self._marked:
                    self._changed.wait(wait)
            if self._consumer is not None:
                self._commit(self._consumer, self._timeout)
                self._look_after(self._consumer)
        if (self._group.queue, 0) in gone:
            self._stop_later()
        if self._consumer is not None and not self._ending:
            self._tidy(self._consumer)
        self._lost_places(places)

    def _is_free(self, places: set[Place]) -> bool:
        with self._changed:
            return self._closing or self._ending or not (self._lanes.leases_of(places) or self._settling)

    def _lost_places(self, places: list[Place]) -> None:
        gone = set(places)
        if (self._group.queue, 0) in gone:
            self._stop_later()
        with self._changed:
            if self._dirty & gone:
                self._failed = self._marked
                self._failure = LeaseLost("the partitions went to another consumer before this was committed")
            self._lanes.lose(gone)
            self._dirty -= gone
            for place in gone:
                self._progress.pop(place, None)
            self._unseen -= gone
            self._paused -= gone
            self._changed.notify_all()


def _lost(message: Message) -> LeaseLost:
    return LeaseLost(
        f"the lease of the message at {message.place[0]}-{message.place[1]}-{message.offset} ran out, "
        "and the message went on without it"
    )


def _message(  # noqa: PLR0917 (called for each message)
    topic: str,
    partition: int,
    offset: int,
    timestamp: int,
    key: bytes | None,
    value: bytes | None,
    headers: Headers | None,
) -> Message:
    return Message((topic, partition), offset, timestamp, key, value or b"", headers, count_of(headers))
