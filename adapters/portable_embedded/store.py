"""One SQLite file, shared by every `sqlite:` driver of this process but the database kind.

Reads go through a pool, writes through one connection whose transactions concurrent threads share, and both are closed
before a fork and opened again after it, on both sides: SQLite keeps locks by process, and a copy of them is a lie.
"""

from __future__ import annotations

import errno
import os
import random
import sqlite3
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep
from typing import Any, TypeVar, cast

from portable import errors
from portable.news import News
from portable_embedded import schemas
from portable_embedded.commits import Commits, Parameters
from portable_embedded.connections import (
    Durability,
    ReadPool,
    close_cursors,
    connect,
    forked_inside,
    is_orphan,
    orphan,
    working,
)
from portable_embedded.errors import blamed, is_busy
from portable_embedded.looking import LINGER, Looking
from portable_embedded.schemas import Schema

__all__ = ["Durability", "Schema", "Store"]

T = TypeVar("T")

TIMEOUT = 60.0
# A reader meets a lock only while another process recovers the log or turns a new file into one with a log.
LONGEST_READ_PAUSE = 0.002
SMALLEST_PAGE = 512
# Of each reading connection, and taken only as it is filled: SQLite's own 2 MiB make most reads of a table of a few
# ten thousand rows a system call.
READ_CACHE_KIB = 32 * 1024

_Key = tuple[int, int, Durability]


class Store:
    """One SQLite file in this process: its connections, its write transactions, and the news of changes.

    Safe with any number of threads, with other processes on the same file, and across forks: a fork waits for the calls
    under way, and both sides open new connections at their next call.

    A `work` is a function of the connection it is given. It may be called again when the transaction that it shared was
    lost through no fault of its own; it calls no method of a store that writes, ends no transaction, and keeps neither
    the connection nor a cursor. It may run in the thread of another caller.

    Attributes:
        path: the file, absolute.
        durability: `"power"` when a commit is synced to the disk, `"process"` when it outlives the process only.
        news: who waits for a change of what.
    """

    def __init__(self, path: Path, key: _Key) -> None:
        self.path = path
        self.durability: Durability = key[2]
        self._key = key
        self._references = 0
        self._closed = False
        self._commits = Commits(path, self._connect_writer, self._notify, syncs=self.durability == "power")
        self._readers = ReadPool(self._connect_reader)
        self.news = News(Looking(self._commits.changed_elsewhere), linger=LINGER)

    def _notify(self, channel: str) -> None:
        self.news.notify(channel)

    @classmethod
    def open(cls, path: Path, *, durability: Durability, schema: Schema, create: bool) -> Store:
        """The store of the file at `path`, one a process and durability; each `open` needs one `close`.

        Args:
            path: the file; with `create` it is made when missing, as are its folders, for its owner only.
            durability: `"power"`: what is committed is on the disk; `"process"`: it is with the operating system.
            schema: the tables that the caller needs, made or migrated in one transaction.
            create: whether what is missing is made.

        Raises:
            ResourceNotFound: the file or the tables are missing, and `create` is false.
            ConfigError: the path is no file, or holds tables of a newer release; it is untouched.
            IntegrityError: the file is not an SQLite database, or damaged; it is untouched.
            PermissionDenied: the file or its folder may not be read or written.
            Unavailable: the disk is full or failing.
            DeadlineExceeded: others keep the file locked.
        """
        path = Path(os.path.abspath(path))  # noqa: PTH100 (Path.resolve would follow the link that the user named)
        with _opening:
            key = (*_identity(path, create=create), durability)
            store = _stores.get(key)
            if store is None:
                store = cls(path, key)
                try:
                    store._prepare(schema, create=create)
                except BaseException:
                    store._shut()
                    raise
                _stores[key] = store
            else:
                store._prepare(schema, create=create)
            store._references += 1
        return store

    def close(self) -> None:
        """Give back one `open`; the last one closes the connections, ends the threads, and waits for calls under way.

        Whoever waits for a change wakes, and calls after the last `close` raise `Closed`.
        """
        with _opening:
            self._references -= 1
            if self._references == 0:
                _stores.pop(self._key, None)
                self._shut()

    def _shut(self) -> None:
        self._closed = True
        self.news.close()
        self._commits.freeze()
        self._commits.stop()
        self._readers.close()
        self._commits.thaw()

    def _prepare(self, schema: Schema, *, create: bool) -> None:
        # The version is read before anything is written, so that a file that is not for us stays as it was.
        version = self.read(lambda connection: schemas.current(connection, schema, self.path))
        if version == 0 and not create:
            raise _missing(f"{self.path} has no {schema.name} tables")
        if version < schema.version:
            self.write(lambda connection: schemas.apply(connection, schema, self.path))

    def _connect(self) -> sqlite3.Connection:
        if self._closed:
            raise errors.Closed(f"the store {self.path} is closed", provider="sqlite")
        if self._key[:2] in _forsaken:
            raise forked_inside()
        return connect(self.path, durability=self.durability)

    def _connect_reader(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("PRAGMA query_only = ON")
        connection.execute(f"PRAGMA cache_size = -{READ_CACHE_KIB}")
        return connection

    def _connect_writer(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            self._keep_log(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _keep_log(self, connection: sqlite3.Connection) -> None:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise errors.ConfigError(
                f"{self.path} is on a file system without shared memory, which SQLite needs to serve several "
                f"processes (journal mode {mode!r}); name a file on a local disk",
                provider="sqlite",
            )

    def fetch(self, sql: str, params: Parameters = (), *, timeout: float = TIMEOUT) -> list[Any]:
        """The rows of one `SELECT`, of everything committed before the call.

        Raises:
            Closed: the store is closed.
            DeadlineExceeded: it could not begin within `timeout` seconds.
        """
        try:
            connection = self._readers.take(timeout)
            try:
                return connection.execute(sql, params).fetchall()
            finally:
                self._readers.give(connection)
        except sqlite3.Error as error:
            if not is_busy(error):
                raise blamed(error, self.path) from error.__cause__
        return self.read(lambda connection: connection.execute(sql, params).fetchall(), timeout=timeout)

    def read(self, work: Callable[[sqlite3.Connection], T], *, timeout: float = TIMEOUT, snapshot: bool = False) -> T:
        """What `work` returns, on a connection that cannot write.

        Args:
            work: reads; called again when it met a lock.
            timeout: how long to wait for a connection and for locks, in seconds.
            snapshot: whether all statements of `work` see the same moment; else each sees its own.

        Raises:
            Closed: the store is closed.
            DeadlineExceeded: the locks were not free within `timeout` seconds.
        """
        deadline = monotonic() + timeout
        while True:
            try:
                return self._read_once(work, deadline, snapshot=snapshot)
            except sqlite3.Error as error:
                close_cursors(error)
                if not is_busy(error):
                    raise blamed(error, self.path) from error.__cause__
                left = deadline - monotonic()
                if left <= 0:
                    raise errors.DeadlineExceeded(
                        f"{self.path} was kept locked by others for {timeout:g} s; try again", provider="sqlite"
                    ) from error
            except BaseException as error:
                close_cursors(error)
                raise
            sleep(min(left, random.uniform(0, LONGEST_READ_PAUSE)))  # noqa: S311 (spreads load, hides nothing)

    def _read_once(self, work: Callable[[sqlite3.Connection], T], deadline: float, *, snapshot: bool) -> T:
        connection = self._readers.take(deadline - monotonic())
        thread = threading.get_ident()
        outer = working.get(thread)
        working[thread] = (self._readers, connection, outer)
        try:
            if snapshot:
                connection.execute("BEGIN")
            result = work(connection)
        finally:
            if outer is None:
                del working[thread]
            else:
                working[thread] = outer
            # The child of a fork inside `work` comes by here, too, where the connection is not ours to end.
            if not is_orphan(connection):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._readers.give(connection)
        if is_orphan(connection):
            raise forked_inside()
        return result

    def execute(
        self,
        sql: str,
        params: Parameters = (),
        *,
        notify: str | None = None,
        timeout: float = TIMEOUT,
        synced: bool = True,
    ) -> list[Any]:
        """Run one `INSERT`, `UPDATE` or `DELETE` as a transaction, or as part of one that threads share.

        Args:
            sql: the statement; it must leave nothing behind when it fails, so no `OR FAIL`, and no `OR ROLLBACK`.
            params: its parameters.
            notify: the channel whose waiters wake once it is committed.
            timeout: how long to wait for other writers, in seconds.
            synced: False for what a power cut may undo at any durability, as when it ends whom it was done for, too.

        Returns:
            What `RETURNING` gives, else nothing; committed at the declared durability, unless `synced` is false.

        Raises:
            Closed: the store is closed.
            DeadlineExceeded: other writers did not let it in; `maybe_applied` where it had begun.
            sqlite3.IntegrityError: a constraint does not hold; nothing is changed.
        """
        return self._commits.execute(sql, params, notify, timeout, synced=synced)

    def write(
        self, work: Callable[[sqlite3.Connection], T], *, notify: str | None = None, timeout: float = TIMEOUT
    ) -> T:
        """Run `work` in a transaction that nobody else writes in between, or as part of one that threads share.

        Args:
            work: reads and writes; what it raises undoes what it did, and only that, and is raised here.
            notify: the channel whose waiters wake once it is committed.
            timeout: how long to wait for other writers, in seconds.

        Returns:
            What `work` returned, once it is committed at the declared durability.

        Raises:
            Closed: the store is closed.
            DeadlineExceeded: other writers did not let it in; `maybe_applied` where it had begun.
        """
        return cast("T", self._commits.write(work, notify, timeout))

    def freeze(self) -> None:
        """Before a fork: let no call begin."""
        self._commits.freeze()
        self._readers.freeze()

    def stop_writing(self) -> None:
        """Before a fork: wait for the transaction under way, and close its connection."""
        if not _held_by_me(self._commits):
            self._commits.stop()

    def stop_reading(self) -> bool:
        """Before a fork: wait for the reads under way, and close their connections; whether there were any."""
        return self._readers.drain(_held_by_me(self._readers))

    def thaw(self) -> None:
        """After a fork, in the parent: go on."""
        self._readers.thaw()
        self._commits.thaw()

    def reset(self) -> None:
        """After a fork, in the child: start anew, without the parent's threads and connections."""
        if _held_by_me(self._commits) or _held_by_me(self._readers):
            _forsaken.add(self._key[:2])
        self._commits.reset()
        self._readers.reset()
        self.news.reset()


_stores: dict[_Key, Store] = {}
# Files that this process cannot open because it was forked in the middle of a call on them.
_forsaken: set[tuple[int, int]] = set()
# Held over a fork, too, so that no store comes or goes meanwhile.
_opening = threading.RLock()


def _held_by_me(owner: object) -> int:
    held = working.get(threading.get_ident())
    count = 0
    while held is not None:
        count += held[0] is owner
        held = held[2]
    return count


def _before_fork() -> None:
    _opening.acquire()
    stores = list(_stores.values())
    for store in stores:
        store.freeze()
    for store in stores:
        store.stop_writing()
    # A read inside another store's read is let through, so only a round that found nothing to close is the last.
    while sum(store.stop_reading() for store in stores):
        pass


def _after_fork_in_parent() -> None:
    for store in _stores.values():
        store.thaw()
    _opening.release()


def _after_fork_in_child() -> None:
    me = threading.get_ident()
    for store in _stores.values():
        store.reset()
    held = working.get(me)
    while held is not None:
        orphan(held[1])
        held = held[2]
    for thread in [thread for thread in working if thread != me]:
        del working[thread]
    _opening.release()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def _missing(what: str) -> errors.ResourceNotFound:
    return errors.ResourceNotFound(f"{what}; make it with `portable resources create`", provider="sqlite")


def _identity(path: Path, *, create: bool) -> tuple[int, int]:
    """Which file it is, whatever its names are."""
    try:
        try:
            found = path.stat()
        except FileNotFoundError:
            if not create:
                raise _missing(f"there is no file {path}") from None
            _make(path)
            found = path.stat()
    except OSError as error:
        raise _unusable(path, error) from error
    if not stat.S_ISREG(found.st_mode):
        raise errors.ConfigError(f"{path} is not a file; name one, such as {path / 'app.db'}", provider="sqlite")
    # SQLite takes what is shorter than its smallest page for an empty file, and would write over it.
    if 0 < found.st_size < SMALLEST_PAGE:
        raise errors.IntegrityError(f"{path} is not an SQLite database; name another file", provider="sqlite")
    return found.st_dev, found.st_ino


def _make(path: Path) -> None:
    folder = path.parent
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(new.parent)
    # SQLite gives its log the permissions of the file, but would make the file itself readable by everybody.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unusable(path: Path, error: OSError) -> errors.PortableError:
    if error.errno in {errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EISDIR}:
        return errors.ConfigError(f"{path} cannot be a file: {error.strerror}; name another one", provider="sqlite")
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
        return errors.PermissionDenied(
            f"{path} cannot be opened: {error.strerror}; make the file and its folder writable", provider="sqlite"
        )
    return errors.Unavailable(f"{path} cannot be made: {error.strerror}; free some space", provider="sqlite")
