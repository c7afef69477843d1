"""One database server, as the drivers see it: a pool of connections that all resources of a cloud share.

Statements are written for both dialects alike wherever that can be, with `%s` for parameters. What SQLAlchemy's pool
and execution cost for each statement is more than PostgreSQL takes to answer a short one, and neither knows a time
limit for a call; so connections are the clients' own, and SQLAlchemy's engine is there for applications (`native`).
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic, sleep
from typing import Any, Protocol, TypeVar

from sqlalchemy import Engine

from portable.bindings import Binding
from portable.errors import Closed, DeadlineExceeded, PortableError, Unauthenticated, Unavailable, Unsupported
from portable_sql.engines import open_engine
from portable_sql.errors import translated
from portable_sql.logins import made_logins
from portable_sql.options import ServerOptions, database_name, is_postgresql, mysql_arguments, postgresql_arguments

__all__ = ["Connection", "Server"]

T = TypeVar("T")

SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds before a failed call is repeated: spread between nothing and a bound that doubles, within these."""


class Connection(Protocol):
    """A connection of either client; each statement commits by itself, unless it stands in a transaction."""

    FAILURES: tuple[type[Exception], ...]
    raw: Any
    version: Any
    is_new_enough: bool

    def begin_call(self, deadline: float) -> None:
        """Let what follows take until a moment of the monotonic clock."""
        ...

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Run a statement, and give its rows."""
        ...

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement, and say how many rows it changed."""
        ...

    def begin(self) -> None:
        """Begin a transaction: each of its statements sees what was committed before it."""
        ...

    def commit(self) -> None:
        """Commit it."""
        ...

    def rollback(self) -> None:
        """Roll back."""
        ...

    @property
    def is_usable(self) -> bool:
        """Whether it is open, and in no transaction."""
        ...

    def is_alive(self) -> bool:
        """Whether the server has said nothing since, such as that it ends."""
        ...

    def close(self) -> None:
        """Close it, without waiting."""
        ...


class Server:
    """The connections of one cloud to one database; safe with threads, and one for each process.

    Attributes:
        is_postgresql: whether it is PostgreSQL, and not MySQL or MariaDB.
    """

    def __init__(self, binding: Binding[ServerOptions]) -> None:
        self._binding = binding
        self.is_postgresql = is_postgresql(binding)
        self._arguments = postgresql_arguments(binding) if self.is_postgresql else mysql_arguments(binding)
        self._logins = made_logins(binding)
        self._process = os.getpid()
        self._slots = threading.Semaphore(binding.options.max_connections)
        self._lock = threading.Lock()
        # Those at hand, the last used first.
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._engine: Engine | None = None
        self._closed = False
        _servers.add(self)

    @classmethod
    def of(cls, binding: Binding[ServerOptions]) -> Server:
        """Give the server of a binding: one for all resources of a cloud that have the same place and options."""
        url, options = binding.url, tuple(getattr(binding.options, name) for name in ServerOptions.__struct_fields__)
        if binding.options.credentials is not None:
            # They are a table, which is no key.
            options = (repr(options),)
        # A forked child makes its own: what a parent has is not for it to use, nor to close.
        key = ("sql", os.getpid(), cls.place(binding), url.username, url.password, options)
        server: Server = binding.shared.get(key, lambda: cls(binding))
        return server

    @staticmethod
    def place(binding: Binding[Any]) -> tuple[Any, ...]:
        """Give what two bindings of the same database have in common."""
        options, database = binding.options, database_name(binding)
        return (
            is_postgresql(binding),
            binding.url.hosts,
            database,
            getattr(options, "socket", None),
            getattr(options, "schema", None),
        )

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine on the same database, for applications; it has connections of its own."""
        with self._lock:
            if self._engine is None:
                self._engine = open_engine(self._binding)
            return self._engine

    def close(self) -> None:
        """Close every connection; those in use when they are given back."""
        if os.getpid() != self._process:
            # They are the parent's.
            return
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            engine, self._engine = self._engine, None
        for connection in idle:
            self.drop(connection)
        if engine is not None:
            engine.dispose()

    def fetch(self, sql: str, parameters: Sequence[Any] = (), *, timeout: float, again: bool = False) -> list[Any]:
        """Run one statement in a transaction of its own, and give its rows; arguments and errors as for `run`."""
        return self.run(lambda connection: connection.fetch(sql, parameters), timeout=timeout, again=again)

    def execute(self, sql: str, parameters: Sequence[Any] = (), *, timeout: float, again: bool = False) -> int:
        """Run one statement, and say how many rows it changed; arguments and errors as for `run`."""
        count: int = self.run(lambda connection: connection.execute(sql, parameters), timeout=timeout, again=again)
        return count

    def transact(self, work: Callable[[Any], T], *, timeout: float, again: bool = False) -> T:
        """Do some work in one transaction: all of it or nothing; arguments and errors as for `run`."""

        def whole(connection: Connection) -> T:
            try:
                connection.begin()
                result = work(connection)
            except connection.FAILURES as error:
                # Without a commit nothing has happened.
                raise translated(error, sent=False) from error
            connection.commit()
            return result

        return self.run(whole, timeout=timeout, again=again)

    def run(self, work: Callable[[Any], T], *, timeout: float, again: bool = False) -> T:
        """Do some work on a connection.

        It is repeated, as often as the contract's `retries` say, where it failed for a passing reason and is known to
        have changed nothing, such as that two transactions met.

        Args:
            work: gets the connection; what it raises of its own ends a transaction that it has begun.
            timeout: seconds for all of it.
            again: whether it may be repeated where it is not known to have changed nothing.

        Raises:
            PortableError: what the server or its client reports, or what `work` raises.
        """
        deadline = monotonic() + timeout
        failures = 0
        while True:
            try:
                return self._attempt(work, deadline)
            except Unavailable as error:
                pause = random.uniform(0.0, min(LONGEST_PAUSE, SHORTEST_PAUSE * 2**failures))  # noqa: S311 (jitter needs no secrecy)
                may = error.retryable and (again or not error.maybe_applied)
                if not may or failures >= self._binding.contract.retries or monotonic() + pause >= deadline:
                    raise
            failures += 1
            sleep(pause)

    def connect(self, deadline: float) -> Connection:
        """Make a connection that is the caller's own, until a moment of the monotonic clock.

        Raises:
            Unsupported: the server is too old.
            PortableError: it did not come about.
        """
        made: Connection
        if self.is_postgresql:
            from portable_sql.postgresql import PostgresqlConnection as kind  # noqa: N813, PLC0415 (each client is imported where it is used)
        else:
            from portable_sql.mysql import MysqlConnection as kind  # type: ignore[assignment]  # noqa: N813, PLC0415 (the same)
        login = {} if self._logins is None else {"password": self._logins().password}
        try:
            made = kind(self._arguments | login, deadline)
        except kind.FAILURES as error:
            raise self._refusal(error) from error
        self._all.add(made)
        if not made.is_new_enough:
            self.drop(made)
            raise Unsupported(f"the server's version is {made.version}; it is too old: see docs/wire-formats/sql.md")
        return made

    def _refusal(self, error: BaseException) -> Exception:
        ours = translated(error, sent=False)
        if self._logins is not None and isinstance(ours, Unauthenticated):
            ours.message = f"the server does not take this user by a token of auth={self._binding.options.auth}"
        return ours

    def drop(self, connection: Connection) -> None:
        """Close a connection that came from `connect`."""
        connection.close()
        self._all.discard(connection)

    def missing_tables(self, names: Sequence[str], *, timeout: float) -> list[str]:
        """Say which of these tables are not there."""
        there = self.run(lambda connection: self._tables(connection, names), timeout=timeout, again=True)
        return [name for name in names if name not in there]

    def make_tables(self, statements: Mapping[str, Sequence[str]], *, timeout: float) -> None:
        """Run the statements of each table that is missing; of several at once, one makes them.

        Args:
            statements: a table's name → what makes it, its indexes included.
            timeout: seconds.
        """
        if missing := self.missing_tables(list(statements), timeout=timeout):
            with self.alone("tables", timeout=timeout) as connection:
                # Somebody else may have made some meanwhile.
                there = self._tables(connection, missing)
                for statement in (one for name in missing if name not in there for one in statements[name]):
                    connection.execute(statement)

    @contextlib.contextmanager
    def alone(self, purpose: str, *, timeout: float) -> Iterator[Any]:
        """Give a connection while nobody else, on any machine, has one for the same purpose; errors as for `run`.

        On PostgreSQL the block is one transaction.
        """
        deadline = monotonic() + timeout
        with self._borrowed(deadline) as connection:
            connection.begin_call(deadline)
            if self.is_postgresql:
                connection.begin()
                connection.fetch("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"portable.{purpose}",))
                yield connection
                connection.commit()
                return
            # MySQL commits at each statement that defines something.
            if connection.fetch("SELECT GET_LOCK(%s, %s)", (f"portable.{purpose}", timeout))[0][0] != 1:
                raise DeadlineExceeded("another program was making tables all the time")
            try:
                yield connection
            finally:
                if connection.is_usable:
                    connection.fetch("SELECT RELEASE_LOCK(%s)", (f"portable.{purpose}",))

    def _tables(self, connection: Connection, names: Sequence[str]) -> set[str]:
        """Give those of these tables that are there."""
        if self.is_postgresql:
            # Those that the user may not read are there, too.
            return {row[0] for row in connection.fetch(_TABLES, [list(names)])}
        listed = f"table_name IN ({', '.join(['%s'] * len(names))})"
        sql = f"SELECT table_name FROM information_schema.tables WHERE table_schema = database() AND {listed}"
        return {row[0] for row in connection.fetch(sql, names)}

    def _attempt(self, work: Callable[[Any], T], deadline: float) -> T:
        with self._borrowed(deadline) as connection:
            connection.begin_call(deadline)
            return work(connection)

    @contextlib.contextmanager
    def _borrowed(self, deadline: float) -> Iterator[Connection]:
        left = deadline - monotonic()
        if not self._slots.acquire(timeout=max(0.0, left)):
            raise DeadlineExceeded("every connection was in use all the time; see max_connections")
        try:
            connection = self._at_hand() or self.connect(deadline)
            try:
                yield connection
            except PortableError:
                # It may be an OSError, too.
                raise
            except connection.FAILURES as error:
                raise translated(error, sent=True) from error
            except BaseException as error:
                if not isinstance(error, Exception):
                    # It may be in the middle of a message.
                    connection.close()
                raise
            finally:
                self._give_back(connection)
        finally:
            self._slots.release()

    def _at_hand(self) -> Connection | None:
        while True:
            if self._closed or os.getpid() != self._process:
                raise Closed("the cloud is closed")
            try:
                connection = self._idle.pop()
            except IndexError:
                return None
            if connection.is_alive():
                return connection
            self.drop(connection)

    def _give_back(self, connection: Connection) -> None:
        if not connection.is_usable:
            with contextlib.suppress(*connection.FAILURES):
                connection.rollback()
        with self._lock:
            if connection.is_usable and not self._closed:
                self._idle.append(connection)
                return
        self.drop(connection)


_TABLES = """SELECT relname FROM pg_class
    WHERE relname = ANY(%s::text[]) AND relkind IN ('r', 'p') AND pg_table_is_visible(oid)"""

_servers: weakref.WeakSet[Server] = weakref.WeakSet()
# What a parent has open must not even be finalised in a forked child: that would end the parent's sessions.
_abandoned: list[Server] = []


def _after_fork_in_child() -> None:
    _abandoned.extend(_servers)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
