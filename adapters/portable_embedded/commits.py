"""Write transactions: one at a time in a process, shared by the threads that come while one is under way.

The first thread to come leads: it begins a transaction, runs what the others brought meanwhile, commits once for all,
and hands the lead to the first that came since. So concurrent writers share one sync, and nobody waits for company.
"""

from __future__ import annotations

import logging
import random
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from portable import errors
from portable_embedded.connections import LOG_LIMIT, close_cursors, forked_inside, is_orphan, working
from portable_embedded.errors import blamed, is_busy

__all__ = ["Commits", "Parameters", "Work"]

Parameters = Sequence[Any] | Mapping[str, Any]
Work = Callable[[sqlite3.Connection], Any]

# Between attempts at a lock of another process: short, because a free lock is free for microseconds, and random,
# because SQLite's own growing waits starve whoever lost a few times.
SHORTEST_PAUSE = 0.0002
LONGEST_PAUSE = 0.003
# How often to see whether the log outgrew its limit because there was always some reader in it.
CHECK_LOG_EVERY = 32
LOG_PATIENCE_MS = 200
# How long the watching thread waits for a busy writer, in seconds.
SHORTEST_LOOK = 0.02

_log = logging.getLogger("portable")


class _Request:
    """What one thread wants committed, and what became of it.

    `abandoned`, `claimed`, `decided`, `leads` and `following` change under the mutex of `Commits`, the rest is the
    leader's until the request is decided.
    """

    # Defaults of the class: a request is made for each call that meets another one, and most never need them.
    alone = False
    abandoned = False
    claimed = False
    decided = False
    finished = False
    leads = False
    result: Any = None
    error: BaseException | None = None
    following: _Request | None = None

    def __init__(self, work: Work | None, sql: str, parameters: Parameters, channel: str | None) -> None:
        self.work = work
        self.sql = sql
        self.parameters = parameters
        self.channel = channel
        self.wake = threading.Lock()
        self.wake.acquire()

    def signal(self) -> None:
        """Wake the thread that asked, from whichever thread knows that it is decided or leads."""
        if self.wake.locked():
            self.wake.release()


class Commits:
    """The one writing connection of a store, and the queue of those who want to write.

    Args:
        path: the file.
        open_connection: opens the connection, at first use and after a fork.
        notify: told the channel of each change once it is committed.
        syncs: whether the connection syncs each commit to the disk, unless it is told not to.
    """

    def __init__(
        self,
        path: Path,
        open_connection: Callable[[], sqlite3.Connection],
        notify: Callable[[str], None],
        *,
        syncs: bool,
    ) -> None:
        self._path = path
        self._syncs = syncs
        self._log = path.with_name(path.name + "-wal")
        self._open_connection = open_connection
        self._notify = notify
        self._count = 0
        self.reset()

    def reset(self) -> None:
        """Start over without a connection and without anybody waiting: both belong to the parent process."""
        # Whoever holds it may use the connection; a leader hands it on locked.
        self._lead = threading.Lock()
        self._mutex = threading.Lock()
        self._pending: deque[_Request] = deque()
        self._connection: sqlite3.Connection | None = None
        # What the connection does just now; a commit that needs no sync leaves it so for the next one.
        self._syncing = self._syncs
        self._seen: tuple[sqlite3.Connection, int] | None = None
        # The first of those whose transaction is committed, while the next leader has not begun to sync its own.
        self._unwoken: _Request | None = None
        self._frozen = False
        self._stopped = False

    # The two ways in: alone when nobody else writes, else by the queue.

    def execute(
        self, sql: str, parameters: Parameters, channel: str | None, timeout: float, *, synced: bool
    ) -> list[Any]:
        """Run one writing statement as a transaction; shared with others it is synced as theirs are."""
        if threading.get_ident() in working:
            raise _nested()
        rows: list[Any] | None = None
        if not self._frozen and self._lead.acquire(blocking=False):
            try:
                connection = self._connection or self._open()
                if synced is not self._syncing and self._syncs:
                    self._switch(connection, syncing=synced)
                rows = connection.execute(sql, parameters).fetchall()
                self._count_commit()
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise blamed(error, self._path) from error
            finally:
                self._release(self._lead)
        if rows is None:
            answer: list[Any] = self._queue(_Request(None, sql, parameters, channel), timeout)
            return answer
        if channel is not None:
            self._notify(channel)
        return rows

    def write(self, work: Work, channel: str | None, timeout: float) -> Any:
        """Run `work` in a transaction."""
        if threading.get_ident() in working:
            raise _nested()
        connection = None
        result = None
        lead = self._lead
        if not self._frozen and lead.acquire(blocking=False):
            try:
                connection = self._begin(monotonic() + timeout, timeout)
                if connection is not None:
                    result = self._run(connection, work)
                    connection.execute("COMMIT")
                    self._count_commit()
            except BaseException as error:
                self._undo(connection)
                if isinstance(error, sqlite3.Error):
                    raise blamed(error, self._path) from error
                raise
            finally:
                self._release(lead)
        if connection is None:
            return self._queue(_Request(work, "", (), channel), timeout)
        if channel is not None:
            self._notify(channel)
        return result

    def _queue(self, request: _Request, timeout: float) -> Any:
        deadline = monotonic() + timeout
        with self._mutex:
            self._pending.append(request)
            request.leads = not self._frozen and self._lead.acquire(blocking=False)
        try:
            while not request.decided:
                if request.leads:
                    request.leads = False
                    self._lead_until_decided(request, deadline, timeout)
                elif not request.wake.acquire(timeout=max(0.0, min(deadline - monotonic(), threading.TIMEOUT_MAX))):
                    self._give_up(request, timeout)
        except BaseException:
            self._withdraw(request)
            raise
        finally:
            if request.following is not None:
                request.following.signal()
        if request.error is not None:
            raise request.error
        return request.result

    def _give_up(self, request: _Request, timeout: float) -> None:
        with self._mutex:
            if request.decided or request.leads:
                return
            request.abandoned = True
            claimed = request.claimed
        raise self._too_late(timeout, maybe_applied=claimed)

    def _withdraw(self, request: _Request) -> None:
        with self._mutex:
            request.abandoned = True
            if request in self._pending:
                self._pending.remove(request)
            leads, request.leads = request.leads, False
        if leads:
            self._release(self._lead)

    def _too_late(self, timeout: float, *, maybe_applied: bool = False) -> errors.DeadlineExceeded:
        return errors.DeadlineExceeded(
            f"{self._path} was kept locked by other writers for {timeout:g} s; try again",
            provider="sqlite",
            maybe_applied=maybe_applied,
        )

    # Leading: whoever calls these holds the lead.

    def _lead_until_decided(self, request: _Request, deadline: float, timeout: float) -> None:
        lead = self._lead
        news: set[str] = set()
        try:
            while not request.decided:
                batch = self._take()
                try:
                    connection = self._begin(deadline, timeout)
                    if connection is None:
                        return
                    self._commit_together(connection, batch)
                finally:
                    self._settle(lead, request, batch, news)
        except BaseException as error:
            # Before the lead goes on, or it could come back to a thread that is leaving.
            self._withdraw(request)
            if isinstance(error, sqlite3.Error):
                raise blamed(error, self._path) from error
            raise
        finally:
            self._release(lead)
            for channel in news:
                self._notify(channel)

    def _take(self) -> list[_Request]:
        with self._mutex:
            batch = [self._pending.popleft()]
            while self._pending and not batch[0].alone and not self._pending[0].alone:
                batch.append(self._pending.popleft())
            for request in batch:
                request.claimed = True
        return batch

    def _begin(self, deadline: float, timeout: float) -> sqlite3.Connection | None:
        """Begin a transaction; None when a fork is waiting, which must not wait for a lock of another process."""
        while True:
            try:
                connection = self._connection or self._open()
                if self._syncs and not self._syncing:
                    self._switch(connection, syncing=True)
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise
            else:
                return connection
            self._wake_committed()
            if self._frozen:
                return None
            left = deadline - monotonic()
            if left <= 0:
                raise self._too_late(timeout)
            sleep(min(left, random.uniform(SHORTEST_PAUSE, LONGEST_PAUSE)))  # noqa: S311 (spreads load, hides nothing)

    def _commit_together(self, connection: sqlite3.Connection, batch: list[_Request]) -> None:
        shared = len(batch) > 1
        committing = False
        try:
            for request in batch:
                self._attempt(connection, request, shared=shared)
            if not shared and batch[0].error is not None:
                self._undo(connection)
            else:
                # The sync is when others can use the interpreter, and not before: each statement would stand in line.
                self._wake_committed()
                committing = True
                connection.execute("COMMIT")
        except (sqlite3.Error, _TransactionLost) as error:
            self._undo(connection)
            if shared:
                # Each gets a transaction of its own, so that only the one at fault fails.
                for request in batch:
                    request.alone = True
                return
            if batch[0].error is None:
                batch[0].error = blamed(error, self._path)
        except BaseException:
            if not committing or connection.in_transaction:
                self._undo(connection)
            else:
                for request in batch:
                    request.finished = True
            raise
        for request in batch:
            request.finished = True
        self._count_commit()

    def _attempt(self, connection: sqlite3.Connection, request: _Request, *, shared: bool) -> None:
        try:
            if request.work is None:
                # One statement undoes itself when it fails; anything longer needs a savepoint.
                request.result = connection.execute(request.sql, request.parameters).fetchall()
            elif shared:
                connection.execute("SAVEPOINT portable")
                request.result = self._run(connection, request.work)
                connection.execute("RELEASE portable")
            else:
                request.result = self._run(connection, request.work)
        except Exception as error:
            if is_orphan(connection):
                raise
            # It is raised again in the thread that asked.
            request.error = blamed(error, self._path)
            if shared and not connection.in_transaction:
                # SQLite rolled back for all, as it does for a full disk.
                raise _TransactionLost from error
            if shared and request.work is not None:
                connection.execute("ROLLBACK TO portable")
                connection.execute("RELEASE portable")

    def _settle(self, lead: threading.Lock, mine: _Request, batch: list[_Request], news: set[str]) -> None:
        if lead is not self._lead:
            return
        chain: _Request | None = None
        with self._mutex:
            for request in reversed(batch):
                if request.finished:
                    request.decided = True
                    if request.error is None and request.channel is not None:
                        news.add(request.channel)
                    # Each wakes the next, so that they do not all fight for the interpreter at once.
                    if request is not mine and not request.abandoned:
                        request.following, chain = chain, request
                elif not request.abandoned:
                    request.claimed = False
                    request.result = request.error = None
                    self._pending.appendleft(request)
        self._wake_committed()
        self._unwoken = chain

    def _wake_committed(self) -> None:
        if self._unwoken is not None:
            # Not only a leader comes here, but also one that found nobody to lead after it.
            with self._mutex:
                unwoken, self._unwoken = self._unwoken, None
                if unwoken is not None:
                    unwoken.signal()

    def _run(self, connection: sqlite3.Connection, work: Work) -> Any:
        thread = threading.get_ident()
        working[thread] = (self, connection, None)
        try:
            result = work(connection)
        except BaseException as error:
            close_cursors(error)
            raise
        finally:
            del working[thread]
        if is_orphan(connection):
            raise forked_inside()
        return result

    def _undo(self, connection: sqlite3.Connection | None) -> None:
        if connection is not None and not is_orphan(connection) and connection.in_transaction:
            connection.execute("ROLLBACK")

    def _count_commit(self) -> None:
        self._count += 1
        if self._count % CHECK_LOG_EVERY == 0:
            self._bound_log()

    def _bound_log(self) -> None:
        """Empty a log that outgrew its limit, for which SQLite's own checkpoints need a moment without readers.

        What goes wrong here is no failure of the commit before it, and the next one meets it again.
        """
        connection = self._connection
        try:
            if connection is not None and self._log.stat().st_size > LOG_LIMIT:
                connection.execute(f"PRAGMA busy_timeout = {LOG_PATIENCE_MS}")
                try:
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                finally:
                    connection.execute("PRAGMA busy_timeout = 0")
        except (OSError, sqlite3.Error):
            _log.debug("the log of %s could not be emptied", self._path, exc_info=True)

    def _open(self) -> sqlite3.Connection:
        self._connection = self._open_connection()
        self._syncing = self._syncs
        return self._connection

    def _switch(self, connection: sqlite3.Connection, *, syncing: bool) -> None:
        """Sync the commits from now on, or leave them to the next one that is: the log is synced as a whole."""
        connection.execute(f"PRAGMA synchronous = {'FULL' if syncing else 'NORMAL'}")
        self._syncing = syncing

    def _release(self, lead: threading.Lock) -> None:
        """Let go of the lead, and give it to whoever waited longest. The child of a fork has a new one."""
        if lead is not self._lead:
            return
        lead.release()
        if self._pending:
            with self._mutex:
                if self._pending and not self._frozen and lead.acquire(blocking=False):
                    head = self._pending[0]
                    head.leads = True
                    head.signal()
                    return
        self._wake_committed()

    # Standing still, for a look, a fork or the end.

    def changed_elsewhere(self) -> bool:
        """Whether another process, or another store on the same file, committed since the last look.

        Looks through the writing connection, because SQLite tells a connection of every commit but its own. A writer
        that is busy for longer than a look may wait is taken for news.
        """
        lead = self._lead
        if not lead.acquire(timeout=SHORTEST_LOOK):
            return True
        try:
            connection = self._connection or self._open()
            seen = (connection, int(connection.execute("PRAGMA data_version").fetchone()[0]))
        finally:
            self._release(lead)
        changed = seen != self._seen
        self._seen = seen
        return changed

    def freeze(self) -> None:
        """Begin no more transactions."""
        self._frozen = True

    def stop(self) -> None:
        """Wait for the transaction under way, close the connection, and keep the lead until `thaw`."""
        self._lead.acquire()
        self._stopped = True
        connection, self._connection, self._seen = self._connection, None, None
        if connection is not None:
            connection.close()

    def thaw(self) -> None:
        """Go on after `freeze`, and after `stop` where the caller did not hold the lead itself."""
        self._frozen = False
        if self._stopped:
            self._stopped = False
            self._release(self._lead)


class _TransactionLost(Exception):  # noqa: N818 (it never leaves this module)
    """SQLite rolled the whole transaction back because of one of its statements."""


def _nested() -> RuntimeError:
    return RuntimeError("a work may use only the connection it is given: a write inside of it would wait for itself")
