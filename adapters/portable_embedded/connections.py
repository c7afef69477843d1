"""Connections to one SQLite file: how one is opened, and the pool that readers share.

Threads borrow a connection for one call, so a thousand threads need a handful, and none is left behind by a thread
that ended. A connection is never carried over a fork: `ReadPool.freeze` calls them all in, `drain` closes them.
"""

from __future__ import annotations

import ctypes
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, Literal
from urllib.parse import quote

from portable import errors

__all__ = [
    "Durability",
    "Live",
    "ReadPool",
    "close_cursors",
    "connect",
    "forked_inside",
    "is_orphan",
    "orphan",
    "working",
]

Durability = Literal["power", "process"]

READERS = 8
# SQLite's own checkpoints keep the log near 4 MiB unless some reader is always in it, or one commit is larger.
LOG_LIMIT = 16 * 1024 * 1024

# By thread that is inside a `work` just now: who lent the connection, the connection, and the work around that one.
Holding = tuple[object, sqlite3.Connection, "Holding | None"]
working: dict[int, Any] = {}


def forked_inside() -> errors.Closed:
    """The error of a process that was forked in the middle of a call."""
    return errors.Closed(
        "this process was forked in the middle of a call on the file, which belongs to its parent; "
        "fork outside of it, or start a new process",
        provider="sqlite",
    )


class Live(sqlite3.Connection):
    """A connection of this process."""

    __slots__ = ()


class _Orphan(sqlite3.Connection):
    """A connection that a fork in the middle of a transaction left in the child; to touch it would harm the parent."""

    __slots__ = ()

    def cursor(self, *_: object, **__: object) -> sqlite3.Cursor:  # type: ignore[override]  # refuses whatever it is given
        raise forked_inside()

    execute = executemany = executescript = commit = rollback = close = backup = cursor  # type: ignore[assignment]


def orphan(connection: sqlite3.Connection) -> None:
    """Make a connection inherited from the parent unusable here, and never close it.

    Closing would roll the parent's transaction back in the memory that both processes share.
    """
    connection.__class__ = _Orphan
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def is_orphan(connection: sqlite3.Connection) -> bool:
    """Whether a fork took the connection away from this process."""
    return type(connection) is _Orphan


def close_cursors(error: BaseException) -> None:
    """Close the cursors that the frames of an error keep alive: while one lives, SQLite keeps its connection open."""
    step = error.__traceback__
    while step is not None:
        for value in step.tb_frame.f_locals.values():
            if isinstance(value, sqlite3.Cursor):
                value.close()
        step = step.tb_next


def connect(path: Path, *, durability: Durability) -> sqlite3.Connection:
    """Open the existing file at `path` in autocommit mode, for any thread, without waiting for locks."""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        timeout=0.0,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=256,
        factory=Live,
    )
    try:
        if durability == "power":
            connection.execute("PRAGMA synchronous = FULL")
            # Only macOS has a sync that stops short of the disk.
            connection.execute("PRAGMA fullfsync = ON")
        else:
            connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_LIMIT}")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA trusted_schema = OFF")
    except BaseException:
        connection.close()
        raise
    return connection


class ReadPool:
    """At most `READERS` connections that may only read, lent for one call each.

    Args:
        open_connection: opens one more.
    """

    def __init__(self, open_connection: Callable[[], sqlite3.Connection]) -> None:
        self._open_connection = open_connection
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Start over without any connection: what there was belongs to the parent process."""
        self._condition = threading.Condition(threading.Lock())
        self._idle: list[sqlite3.Connection] = []
        self._kept: list[sqlite3.Connection] = []
        self._opened = 0
        self._waiting = 0
        self._frozen = False
        # One flag for the fast path of `give`: somebody waits for a connection, or for all of them.
        self._watched = False

    def take(self, timeout: float) -> sqlite3.Connection:
        """Borrow a connection; `give` it back.

        Raises:
            Closed: the pool is closed.
            DeadlineExceeded: none came free within `timeout` seconds.
        """
        try:
            # Atomic under the interpreter's own lock: a lock of ours would cost as much as the read.
            return self._idle.pop()
        except IndexError:
            return self._take_slowly(timeout)

    def give(self, connection: sqlite3.Connection) -> None:
        """Give a borrowed connection back."""
        self._idle.append(connection)
        if self._watched:
            with self._condition:
                if self._frozen:
                    self._keep()
                self._condition.notify_all()

    def _keep(self) -> None:
        while self._idle:
            self._kept.append(self._idle.pop())

    def _take_slowly(self, timeout: float) -> sqlite3.Connection:
        nested = threading.get_ident() in working
        deadline = monotonic() + timeout
        with self._condition:
            self._waiting += 1
            self._watched = True
            try:
                while True:
                    if self._closed:
                        raise errors.Closed("the store is closed", provider="sqlite")
                    if self._idle:
                        return self._idle.pop()
                    # A thread inside a work is let through, or whoever waits for that work would wait for ever.
                    if nested or (not self._frozen and self._opened < READERS):
                        self._opened += 1
                        break
                    left = deadline - monotonic()
                    if left <= 0:
                        raise errors.DeadlineExceeded(
                            f"no free connection within {timeout:g} s: all {READERS} are reading", provider="sqlite"
                        )
                    self._condition.wait(left)
            finally:
                self._waiting -= 1
                self._watched = self._frozen or self._waiting > 0
        try:
            return self._open_connection()
        except BaseException:
            with self._condition:
                self._opened -= 1
                self._condition.notify_all()
            raise

    def freeze(self) -> None:
        """Lend no more, but to threads that are inside a work and have to finish it."""
        with self._condition:
            self._frozen = self._watched = True
            self._keep()

    def drain(self, mine: int) -> bool:
        """Wait until all but `mine` connections are back, and close those.

        Returns:
            Whether there were any, so that a caller with several pools goes around until there are none.
        """
        with self._condition:
            self._condition.wait_for(lambda: len(self._kept) + mine >= self._opened)
            closing, self._kept = self._kept, []
            self._opened -= len(closing)
        for connection in closing:
            connection.close()
        return bool(closing)

    def thaw(self) -> None:
        """Lend again."""
        with self._condition:
            self._frozen = False
            self._watched = self._waiting > 0
            self._condition.notify_all()

    def close(self) -> None:
        """Close every connection, waiting for the borrowed ones, and lend no more."""
        self._closed = True
        self.freeze()
        self.drain(0)
