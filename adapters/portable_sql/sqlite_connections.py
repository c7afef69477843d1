"""SQLite connections that never reach a forked child.

SQLite must not be carried over a fork (https://www.sqlite.org/howtocorrupt.html#_carrying_an_open_database_across_a_fork_):
the child would inherit its locks and its mutexes as they stand. So every call into SQLite holds the lock of its
connection, and a fork first takes all of those locks: then no thread is inside SQLite. Idle connections are closed
before the fork; where one is in use, as in another thread's transaction, the child cannot open that file any more and
gets a clear error.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from typing import Any, NoReturn

from portable.errors import Closed

__all__ = ["Connection", "watch"]


class Cursor(sqlite3.Cursor):
    """A cursor whose calls hold the lock of its connection."""

    connection: Connection  # pyright: ignore[reportIncompatibleMethodOverride]  # it is ours, as made by `Connection.cursor`

    def execute(self, *args: Any) -> Cursor:
        """Run a statement."""
        with self.connection.calling:
            return super().execute(*args)

    def executemany(self, *args: Any) -> Cursor:
        """Run a statement for many parameters."""
        with self.connection.calling:
            return super().executemany(*args)

    def executescript(self, *args: Any) -> Cursor:
        """Run statements."""
        with self.connection.calling:
            super().executescript(*args)
            return self

    def __next__(self) -> Any:
        """Give the next row."""
        with self.connection.calling:
            return super().__next__()

    def fetchone(self) -> Any:
        """Give the next row."""
        with self.connection.calling:
            return super().fetchone()

    def fetchmany(self, size: int | None = 1) -> list[Any]:
        """Give the next rows."""
        with self.connection.calling:
            return super().fetchmany(size)

    def fetchall(self) -> list[Any]:
        """Give the rows that are left."""
        with self.connection.calling:
            return super().fetchall()

    def close(self) -> None:
        """Let go of the statement."""
        with self.connection.calling:
            super().close()


class Connection(sqlite3.Connection):
    """A connection whose calls hold its lock, `calling`.

    Raises:
        Closed: the process was forked while the file was in use, so it cannot be opened here.
    """

    def __init__(self, database: str, *args: Any, **kwargs: Any) -> None:
        self.database = database
        self.calling: Any = threading.RLock()
        with _registry:
            if database in _lost:
                _refuse(database)
            super().__init__(database, *args, **kwargs)
            _open.add(self)

    def cursor(self, *_: Any) -> Cursor:  # type: ignore[override]  # ours is the only cursor
        """Give a cursor."""
        return super().cursor(Cursor)

    def execute(self, *args: Any) -> Cursor:
        """Run a statement on a new cursor."""
        return self.cursor().execute(*args)

    def commit(self) -> None:
        """Commit."""
        with self.calling:
            super().commit()

    def rollback(self) -> None:
        """Roll back."""
        with self.calling:
            super().rollback()

    def close(self) -> None:
        """Close it."""
        with self.calling:
            super().close()
        with _registry:
            _open.discard(self)


class _Lost:
    """Stands for the lock of a connection that a fork has carried into this process."""

    def __init__(self, database: str) -> None:
        self._database = database

    def __enter__(self) -> NoReturn:
        _refuse(self._database)

    def __exit__(self, *_: object) -> None:
        pass


def _refuse(database: str) -> NoReturn:
    raise Closed(
        f"this process was forked while a transaction on {database} was open; fork when none is open, "
        "or start the child with the spawn method"
    )


# Held while connections are made, and by a fork: guards the three below.
_registry = threading.RLock()
_open: weakref.WeakSet[Connection] = weakref.WeakSet()
_idle_closers: weakref.WeakSet[Any] = weakref.WeakSet()
_lost: set[str] = set()
_held: list[Connection] = []
# A connection must not even be finalised in a forked child: that would close the parent's.
_inherited: list[Connection] = []


def watch(pool_owner: Any) -> None:
    """Call `pool_owner.close_idle()` before each fork."""
    with _registry:
        _idle_closers.add(pool_owner)


def _before_fork() -> None:
    _registry.acquire()
    for owner in list(_idle_closers):
        owner.close_idle()
    for connection in list(_open):
        connection.calling.acquire()
        _held.append(connection)


def _in_parent() -> None:
    while _held:
        _held.pop().calling.release()
    _registry.release()


def _in_child() -> None:
    while _held:
        connection = _held.pop()
        connection.calling = _Lost(connection.database)
        _lost.add(connection.database)
        _inherited.append(connection)
    _open.clear()
    _registry.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
