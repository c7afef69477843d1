"""One connection to PostgreSQL, by psycopg: each statement commits by itself, unless it stands in a transaction."""

from __future__ import annotations

import select
from collections.abc import Generator, Sequence
from time import monotonic
from typing import Any

import psycopg
from psycopg import pq, waiting
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

__all__ = ["PostgresqlConnection"]

OLDEST = 130_000
LOOKS_AFTER_CLIENTS = 140_000
LOOK_EVERY = 0.1
FOREVER = float("inf")


class _Bounded(psycopg.Connection[Any]):
    """Waits for no answer beyond its `deadline`."""

    deadline = FOREVER

    def wait(self, gen: Any, interval: float = LOOK_EVERY, **how: Any) -> Any:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # releases of psycopg differ in what follows
        """Operate the connection until there is an answer; the time of a call is all that bounds it."""
        if self.deadline == FOREVER:
            return super().wait(gen, interval, **how)
        interval = max(0.001, min(interval, self.deadline - monotonic()))
        try:
            return waiting.wait(_until(self.deadline, gen), self.pgconn.socket, interval)
        except BaseException as error:
            if isinstance(error, TimeoutError) or not isinstance(error, Exception):
                # Whatever comes now is the answer to something that nobody waits for.
                self.pgconn.finish()
            raise


def _until(deadline: float, steps: Any) -> Generator[Any, Any, Any]:
    """Go through the steps of an operation, and no further when the time is over and nothing comes."""
    try:
        step = next(steps)
        while True:
            ready = yield step
            if not ready and monotonic() >= deadline:
                raise TimeoutError
            step = steps.send(ready)
    except StopIteration as end:
        return end.value


class PostgresqlConnection:
    """Satisfies `portable_sql.servers.Connection`."""

    FAILURES: tuple[type[Exception], ...] = (psycopg.Error, OSError)

    def __init__(self, arguments: dict[str, Any], deadline: float) -> None:
        left = max(1, round(deadline - monotonic()))
        self.raw = _Bounded.connect(autocommit=True, connect_timeout=left, **arguments)
        # A number is always of 64 bits, so that a statement is prepared once and not for each size of number.
        self.raw.adapters.register_dumper(int, Int8Dumper)
        self.raw.adapters.register_dumper(int, Int8BinaryDumper)
        # What psycopg takes as a statement is text that is known before; ours is put together from such.
        self._cursor: Any = self.raw.cursor(binary=True)
        self._poll = select.poll()
        self._poll.register(self.raw.fileno(), select.POLLIN)
        self.version = self.raw.info.server_version
        self.is_new_enough = self.version >= OLDEST
        self.begin_call(deadline)
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def _set_up(self) -> None:
        # A plan that was made while a table was small is kept while it grows, so it had better use an index.
        settings = "SET enable_seqscan = off; SET enable_bitmapscan = off"
        if self.version >= LOOKS_AFTER_CLIENTS:
            # What nobody waits for any more ends, instead of holding locks.
            settings += "; SET client_connection_check_interval = '5s'"
        self.raw.execute(settings)

    def begin_call(self, deadline: float) -> None:
        """Let what follows take until a moment of the monotonic clock."""
        self.raw.deadline = deadline

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Run a statement, and give its rows."""
        rows: list[Any] = self._cursor.execute(sql, parameters).fetchall()
        return rows

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement, and say how many rows it changed."""
        return int(self._cursor.execute(sql, parameters).rowcount)

    def begin(self) -> None:
        """Begin a transaction: each of its statements sees what was committed before it."""
        self._cursor.execute("BEGIN ISOLATION LEVEL READ COMMITTED")

    def commit(self) -> None:
        """Commit it."""
        self._cursor.execute("COMMIT")

    def rollback(self) -> None:
        """Roll back."""
        self._cursor.execute("ROLLBACK")

    @property
    def is_usable(self) -> bool:
        """Whether it is open, and in no transaction."""
        return self.raw.pgconn.transaction_status == pq.TransactionStatus.IDLE

    def is_alive(self) -> bool:
        """Whether the server has said nothing since, such as that it ends."""
        return self.is_usable and not self._poll.poll(0)

    def close(self) -> None:
        """Close it, without waiting."""
        self.raw.close()
