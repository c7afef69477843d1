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

from portable.errors import Closed, LeaseLost, PortableError
from portable_kafka.cluster import Cluster
from portable_kafka.committing import Commits
from portable_kafka.engine import Consumer, Outbound, Place, Transactions
from portable_kafka.envelopes import LEVELS, message_of
from portable_kafka.groups import Group
from portable_kafka.lanes import Lanes, Message, Receipt
from portable_kafka.later import Later
from portable_kafka.progress import Progress
from portable_kafka.replacing import Replacements

__all__ = ["Holding"]

SLICE = 0.2
"""Seconds that the thread waits for messages before it looks at leases and delays."""

QUICK = 0.002
"""Seconds between two looks for messages while others are held, whose acknowledgement must not wait."""

IDLE = 1.0
"""Seconds after the last receive when a member that holds nothing leaves its group."""

COMING_TOGETHER = 5.0
"""Seconds that a receive which need not wait gives a group to come together, so that `none` means something."""

FETCHED_AT_ONCE = 500
AHEAD = 1000
"""How many messages are held, and no more are fetched while others wait for the thread."""

HELD = 2000
"""How many messages are held at most, and those that come at once."""

FULL_FOR = 1.0
"""Seconds that a member goes without a look for messages where it holds as many as it may."""

TIDY_EVERY = 5.0
TRIMMED_FROM = 1000
"""How many messages of a partition have to be done before they are removed from the log."""

PAUSE = 0.05
"""Seconds before delayed messages that could not be moved are looked at again."""

SHARE_OF_PATIENCE = 0.8
"""How much of the time that a rebalance waits for a member this one uses to have its leases end."""


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
        # The consumer is free while the thread rests; whether another has it; whether there is more to fetch.
        self._resting = self._borrowed = self._more = False
        self._receivers = self._settling = 0
        self._used = self._tidied = self._full_since = monotonic()
        self._commits = Commits(self._changed, self._progress)
        self._replacements = Replacements(
            self._changed, self._progress, self._lanes, self._commits, transactions=self._transactions
        )

    # What the queue does.

    def receive(self, count: int, visibility: float, *, wait: float, timeout: float) -> list[Receipt]:
        """Lease messages; wait for the first."""
        started = monotonic()
        deadline = started + wait
        patience = max(deadline, started + min(COMING_TOGETHER, timeout))
        with self._changed:
            self._receivers += 1
            self._forget_fault()
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
                    receipt[0].turn += 1
                    self._lanes.give_back(receipt[0], first=True)
            self._changed.notify_all()

    def ack(self, receipts: Sequence[Receipt], *, timeout: float) -> list[PortableError | None]:
        """Count messages as done, and commit."""
        deadline = monotonic() + timeout
        with self._changed:
            self._settling += 1
            try:
                mark = self._done(receipts)
                if mark:
                    self._have_committed(timeout)
                    self._commits.wait(mark, deadline)
                return [None if _is_done(message, turn) else _lost(message) for message, turn in receipts]
            finally:
                self._settling -= 1
                self._used = monotonic()

    def extend(self, receipts: Sequence[Receipt], seconds: float) -> list[PortableError | None]:
        """Let leases end so many seconds from now."""
        with self._changed:
            answers: list[PortableError | None] = []
            for one in receipts:
                answers.append(None if self._lanes.extend(one, seconds) else _lost(one[0]))  # noqa: PERF401 (typed)
            self._changed.notify_all()
        return answers

    def taken(self, receipts: Sequence[Receipt]) -> list[Message | None]:
        """Take messages from their holders, for `give_back` or `replace`; None for what they do not hold any more."""
        with self._changed:
            found: list[Message | None] = []
            for receipt in receipts:
                holds = self._lanes.holds(receipt)
                receipt[0].busy |= holds
                found.append(receipt[0] if holds else None)
        return found

    def give_back(self, messages: Sequence[Message], delay: float) -> None:
        """Have messages that were taken delivered again from where they are, each before those behind it."""
        places: set[Place] = set()
        with self._changed:
            for message in messages:
                progress = self._progress.get(message.place)
                if progress is None or message.lost:
                    continue
                message.count += 1
                message.turn += 1
                progress.tries[message.offset] = progress.tries.get(message.offset, 0) + 1
                self._lanes.give_back(message, delay)
                places.add(message.place)
            # Nobody waits: what may be lost is how often they were delivered.
            self._commits.mark(places)
            self._changed.notify_all()

    def replace(self, messages: Sequence[Message], outbound: Sequence[Outbound], *, timeout: float) -> None:
        """Write what takes the place of messages that were taken, and count them as done, in one step.

        Those of partitions that went to another consumer are that one's (`Message.lost`).
        """
        with self._changed:
            self._settling += 1
        try:
            patient = threading.current_thread() is not self._thread
            self._replacements.replace(messages, outbound, timeout=timeout, patient=patient)
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
        self._replacements.close()

    def _done(self, receipts: Sequence[Receipt]) -> int:
        """Count messages as done; give the mark at which all of them are committed, 0 where they are already."""
        commits = self._commits
        held = [one[0] for one in receipts if self._lanes.holds(one)]
        places: dict[Place, Progress] = {}
        for message in held:
            progress = places.get(message.place)
            if progress is None:
                progress = places[message.place] = self._progress[message.place]
            progress.finish(message.offset)
        self._lanes.finish(held)
        again = {
            one.place
            for one, turn in receipts
            if one.acked > commits.covered and one.turn == turn and one.progress is not None
            if self._progress.get(one.place) is one.progress
        }
        if not held and not again:
            return 0
        mark = commits.mark({*places, *again})
        for message in held:
            message.acked = mark
        return mark

    def _have_committed(self, timeout: float) -> None:
        """Commit what is marked: at once where the thread rests, which is sooner than to wake it, else by it.

        One thread at a time speaks to the consumer, for a commit would wait behind a poll.
        """
        consumer = self._consumer
        if consumer is None or not self._resting or self._borrowed:
            self._changed.notify_all()
            return
        self._borrowed = True
        self._changed.release()
        try:
            self._commits.commit(consumer, timeout)
        finally:
            self._changed.acquire()
            self._borrowed = False
            self._changed.notify_all()

    def _transactions(self) -> Transactions:
        return self._cluster.engine.transactions(f"portable-{self._group.queue}-{uuid.uuid4().hex}")

    # The thread.

    def _forget_fault(self) -> None:
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
                self._replacements.begin(consumer)
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
            self._commits.end()
            self._replacements.end()
            self._lanes.lose(set(self._progress))
            self._progress.clear()
            self._unseen, self._paused = set(), set()
            self._joined = self._ending = self._more = False
            self._consumer = self._thread = None
            self._changed.notify_all()

    def _step(self, consumer: Consumer) -> None:
        self._pace(consumer)
        wait = self._slice()
        with self._changed:
            full = self._lanes.held >= HELD and not self._paused
            if full or self._lanes.held > 0 or self._settling > 0:
                # Nothing wakes the client itself, so what is acknowledged is waited for outside of it.
                enough = not self._more or self._lanes.held >= AHEAD
                idle = not self._commits.due and (full or (enough and not self._receivers))
                if idle:
                    self._rest(min(wait, SLICE / 4))
                wait = 0.0 if idle else min(wait, QUICK)
                full = full and self._lanes.held >= HELD
        self._commits.commit(consumer, self._timeout)
        if not full:
            self._fetch(consumer, wait)
        self._look_after(consumer)
        if monotonic() - self._tidied > TIDY_EVERY:
            self._tidy(consumer)

    def _fetch(self, consumer: Consumer, wait: float) -> None:
        fetched = consumer.poll(FETCHED_AT_ONCE, wait, message_of)
        self._more = len(fetched) == FETCHED_AT_ONCE
        with self._changed:
            self._take(fetched)
            for place, offset in consumer.ends().items():
                self._unseen.discard(place)
                if place in self._progress:
                    self._progress[place].reach(offset)
            self._changed.notify_all()

    def _rest(self, seconds: float) -> None:
        """Wait for something to do, and as long as another thread has the consumer."""
        self._resting = True
        self._changed.wait(seconds)
        while self._borrowed:
            self._changed.wait()
        self._resting = False

    def _take(self, fetched: Sequence[Message]) -> None:
        queue, add = self._group.queue, self._lanes.add
        for message in fetched:
            place, offset = message.place, message.offset
            progress = self._progress.get(place)
            if progress is None or offset < progress.following or not progress.see(offset):
                continue
            if self._unseen:
                self._unseen.discard(place)
            if place[0] != queue and not self._group.wanted(message.headers):
                progress.finish(offset)
                continue
            message.progress = progress
            if progress.tries:
                message.count += progress.tries.get(offset, 0)
            add(message)

    def _slice(self) -> float:
        with self._changed:
            change = self._lanes.next_change()
        due = self._later.due() if self._later is not None else None
        return max(0.002, min(one for one in (SLICE, change, due) if one is not None))

    def _pace(self, consumer: Consumer) -> None:
        """Hold no more than some messages; polling goes on before long, for it shows that this member lives."""
        with self._changed:
            held, places = self._lanes.held, set(self._progress)
        if held < HELD:
            self._full_since = monotonic()
        if held >= HELD and places - self._paused and monotonic() - self._full_since > FULL_FOR:
            # The client throws away what it has fetched ahead, and fetches it again after.
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
        if not self._later.move(self._write):
            sleep(PAUSE)

    def _write(self, outbound: Sequence[Outbound], states: Mapping[Place, tuple[int, str]]) -> None:
        self._replacements.write(outbound, states, timeout=self._timeout)

    def _stop_later(self) -> None:
        later, self._later = self._later, None
        if later is not None:
            later.close()

    def _tidy(self, consumer: Consumer) -> None:
        """Commit what was passed over, and remove from the logs what is done."""
        self._tidied = monotonic()
        with self._changed:
            passed = {place for place, one in self._progress.items() if one.position > one.committed}
            if passed:
                self._commits.mark(passed)
        self._commits.commit(consumer, self._timeout)
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
                if not self._commits.due:
                    self._changed.wait(wait)
            if self._consumer is not None:
                if not self._commits.commit(self._consumer, self._timeout):
                    sleep(PAUSE)
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
            self._commits.lose(gone)
            self._lanes.lose(gone)
            for place in gone:
                self._progress.pop(place, None)
            self._unseen -= gone
            self._paused -= gone
            self._changed.notify_all()


def _is_done(message: Message, turn: int) -> bool:
    """Whether it was acknowledged in this lease, and the group knows, or will."""
    progress = message.progress
    return message.acked > 0 and message.turn == turn and progress is not None and message.acked <= progress.kept_to


def _lost(message: Message) -> LeaseLost:
    return LeaseLost(
        f"the lease of the message at {message.place[0]}-{message.place[1]}-{message.offset} ran out, "
        "and the message went on without it"
    )
