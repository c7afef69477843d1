"""Waiting for what many threads send through one client, which reports to whichever thread asks it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

from portable_kafka.engine import Outbound

__all__ = ["Delivering", "Parcel", "Streamed"]


class _Done(Exception):  # noqa: N818 (no error: it ends a call of the client that has nothing left to wait for)
    pass


class Streamed:
    """A `portable_kafka.engine.Batch` that is made as it is sent, while what came before is on its way.

    Args:
        messages: makes them.
        count: how many it will make.
    """

    def __init__(self, messages: Iterator[Outbound], count: int) -> None:
        self._messages = messages
        self._count = count

    def __iter__(self) -> Iterator[Outbound]:
        """Give them in order, once."""
        return self._messages

    def __len__(self) -> int:
        """Say how many they are."""
        return self._count


class Parcel:
    """What one call sends.

    Attributes:
        answers: for each message, in order: its offset, the error that it met, or None while neither is known.
        done: whether all is known.
        failed: whether one of the answers is an error.
        waiter: held by whoever waits, and let go to wake it.
    """

    __slots__ = ("_count", "_delivering", "_known", "answers", "done", "failed", "waiter")

    def __init__(self, delivering: Delivering, count: int) -> None:
        self.answers: list[Any] = [None] * count
        self.done = not count
        self.failed = False
        self.waiter: threading.Lock | None = None
        self._count = count
        # Reports come in several threads, and this counts in one step.
        self._known = itertools.count(1)
        self._delivering = delivering

    def delivered(self, index: int, error: Any, message: Any) -> None:
        """Learn what became of a message: the client's report."""
        if error is None:
            self.answers[index] = message.offset()
        else:
            self.answers[index] = error
            self.failed = True
        if next(self._known) == self._count:
            self._delivering.finished(self)

    def fail(self, index: int, error: Any) -> None:
        """Note that a message was not taken at all."""
        self.answers[index] = error
        self.failed = True
        if next(self._known) == self._count:
            self.done = True


class Delivering:
    """One of the waiting threads serves the client's reports, for all; when it has its own it lets another.

    So a lone sender waits in the client itself, without a thread in between.

    Args:
        serve: has the client report, for so many seconds at most, until nothing is under way or a report raises.
    """

    def __init__(self, serve: Callable[[float], None]) -> None:
        self._serve = serve
        self._lock = threading.Lock()
        self._leader: Parcel | None = None
        self._leading = 0
        self._waiting: list[Parcel] = []
        self._parcels: set[Parcel] = set()

    def parcel(self, count: int) -> Parcel:
        """Begin to send so many messages; `wait` ends it."""
        parcel = Parcel(self, count)
        self._parcels.add(parcel)
        return parcel

    def wait(self, parcel: Parcel, deadline: float) -> None:
        """Wait until all of a parcel is known, or the deadline."""
        try:
            while not parcel.done and (left := deadline - monotonic()) > 0:
                waiter = self._enlist(parcel)
                if waiter is None:
                    self._lead(parcel, deadline)
                else:
                    # Woken when it is done, or has to lead.
                    waiter.acquire(timeout=left)
        finally:
            self._leave(parcel)

    def finished(self, parcel: Parcel) -> None:
        """Wake whoever waits for a parcel; called within `serve`, mostly."""
        with self._lock:
            parcel.done = True
            if parcel.waiter is not None and parcel in self._waiting:
                self._waiting.remove(parcel)
                parcel.waiter.release()
            leads = parcel is self._leader and threading.get_ident() == self._leading
        # Alone, the client has nothing left to wait for either, and an error takes its time.
        if leads and len(self._parcels) > 1:
            raise _Done

    def _enlist(self, parcel: Parcel) -> threading.Lock | None:
        """Make a parcel's thread the leader (None), or give what it waits on."""
        with self._lock:
            if self._leader is None:
                self._leader, self._leading = parcel, threading.get_ident()
                return None
            waiter = threading.Lock()
            waiter.acquire()
            if parcel.done:
                waiter.release()
            else:
                parcel.waiter = waiter
                if parcel not in self._waiting:
                    self._waiting.append(parcel)
            return waiter

    def _lead(self, parcel: Parcel, deadline: float) -> None:
        try:
            while not parcel.done and (left := deadline - monotonic()) > 0:
                self._serve(left)
        except _Done:
            pass

    def _leave(self, parcel: Parcel) -> None:
        """Let another lead, if nobody does."""
        self._parcels.discard(parcel)
        with self._lock:
            if self._leader is parcel:
                self._leader = None
            if parcel in self._waiting:
                self._waiting.remove(parcel)
            if self._leader is None and self._waiting:
                waiter = self._waiting.pop(0).waiter
                if waiter is not None:
                    waiter.release()
