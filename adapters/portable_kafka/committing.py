"""Committing: many threads say what they have done, and one at a time commits it for all of them."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from time import monotonic

from portable.errors import DeadlineExceeded, PortableError
from portable_kafka.engine import Consumer, Place, Rebalancing
from portable_kafka.progress import Progress

__all__ = ["Commits"]


class Commits:
    """What is done, and how much of it is committed.

    A mark is the number of a moment: whoever did something takes one, and what was done before is committed once
    `covered` has come to it, or is lost with its partition (`Progress.kept_to`).

    Args:
        changed: the lock of all that a member has, and what tells of changes.
        progress: how far it has come in each partition.
    """

    def __init__(self, changed: threading.Condition, progress: Mapping[Place, Progress]) -> None:
        self._changed = changed
        self._progress = progress
        self.lock = threading.Lock()
        """Held while offsets are committed, alone or in a transaction; never taken with `changed` in hand."""
        self._dirty: set[Place] = set()
        self._marked = self._failed = 0
        self._failure: PortableError | None = None
        self.covered = 0

    @property
    def due(self) -> bool:
        """Whether there is something to commit that was not tried yet."""
        return max(self.covered, self._failed) < self._marked

    # With `changed` in hand.

    def mark(self, places: Collection[Place]) -> int:
        """Say that what is done of partitions has to be committed; whoever does that has to be woken besides."""
        self._dirty.update(places)
        self._marked += 1
        return self._marked

    def wait(self, mark: int, deadline: float) -> None:
        """Wait until all before a mark is committed, or lost.

        Raises:
            PortableError: it could not be committed; the next commit tries it again.
            DeadlineExceeded: it takes too long.
        """
        while self.covered < mark:
            if self._failed >= mark and self._failure is not None:
                raise self._failure
            left = deadline - monotonic()
            if left <= 0:
                raise DeadlineExceeded("the cluster did not take the commit in time", maybe_applied=True)
            self._changed.wait(left)

    def lose(self, places: Collection[Place]) -> None:
        """Learn that partitions went to another consumer."""
        for place in self._dirty.intersection(places):
            self._progress[place].kept_to = self.covered
        self._dirty.difference_update(places)

    def end(self) -> None:
        """Learn that the consumer has left its group, and has lost all of its partitions."""
        self.lose(set(self._dirty))
        self.covered = self._marked
        self._changed.notify_all()

    # Without it, by whoever may use the consumer.

    def commit(self, consumer: Consumer, timeout: float) -> bool:
        """Commit what is done by now; whoever waits for it learns how that went.

        Returns:
            False where a rebalance stands in the way: to be tried again after a poll.
        """
        with self._changed:
            if not self.due:
                return True
        failure: PortableError | None = None
        with self.lock:
            with self._changed:
                mark = self._marked
                dirty, self._dirty = self._dirty, set()
                states = {place: self._progress[place].state() for place in dirty if place in self._progress}
            try:
                if states:
                    consumer.commit(states, timeout=timeout)
            except PortableError as error:
                failure = error
        with self._changed:
            if failure is None:
                self.covered = mark
                self.note(states)
            else:
                self._dirty |= dirty & set(self._progress)
                if isinstance(failure, Rebalancing):
                    return False
                self._failed, self._failure = mark, failure
            self._changed.notify_all()
            return True

    def note(self, states: Mapping[Place, tuple[int, str]]) -> None:
        """Take down what was committed; with `changed` in hand."""
        for place, (offset, _) in states.items():
            progress = self._progress.get(place)
            if progress is not None:
                progress.committed = offset
