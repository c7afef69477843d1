"""Databases of PostgreSQL, MySQL and MariaDB."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine

from portable.bindings import Binding
from portable.drivers import Change, DatabaseCapabilities
from portable.errors import DeadlineExceeded
from portable_sql.database import SqlDatabase
from portable_sql.engines import open_async_engine, open_engine
from portable_sql.errors import translated
from portable_sql.options import ServerOptions, database_name, is_postgresql
from portable_sql.outbox_table import OutboxTable
from portable_sql.servers import Server

__all__ = ["ServerDatabase"]

CLOSES_WITHIN = 10.0


class ServerPlace:
    """Satisfies `portable_sql.database.Place`."""

    def __init__(self, binding: Binding[ServerOptions]) -> None:
        self._binding = binding
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_tables = False
        # MySQL commits at each statement that defines something.
        self.capabilities = DatabaseCapabilities(
            durability="power",
            transactional_ddl=is_postgresql(binding),
            token_refresh=binding.options.auth is not None,
        )

    def prepare(self) -> None:
        """See that the URL names a database, which is its administrator's to make."""
        database_name(self._binding)

    def open_engine(self) -> Engine:
        """Make the sync engine."""
        return open_engine(self._binding)

    def open_async_engine(self) -> AsyncEngine:
        """Make the async engine."""
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        return open_async_engine(self._binding)

    def close_async_engine(self, engine: AsyncEngine) -> None:
        """Close its connections, which only the loop that they belong to can."""
        loop = self._loop
        if loop is None or not loop.is_running():
            engine.sync_engine.dispose(close=False)
            return
        closing = asyncio.run_coroutine_threadsafe(engine.dispose(), loop)
        with contextlib.suppress(concurrent.futures.TimeoutError):
            closing.result(CLOSES_WITHIN)

    def check(self, engine: Engine, *, write: bool, timeout: float) -> None:
        """Ask for one row, and with `write` write one that is gone at once."""
        del engine
        server = Server.of(self._binding)
        if not write:
            server.fetch("SELECT 1", timeout=timeout, again=True)
            return

        def write_one(connection: Any) -> None:
            connection.execute("CREATE TEMPORARY TABLE portable_check (one INTEGER)")
            try:
                connection.execute("INSERT INTO portable_check VALUES (1)")
            finally:
                connection.execute("DROP TABLE portable_check")

        server.run(write_one, timeout=timeout, again=True)

    def missing(self, engine: Engine) -> list[Change]:
        """Name the outbox's tables where they are missing."""
        names = list(OutboxTable.definitions(engine.dialect))
        missing = Server.of(self._binding).missing_tables(names, timeout=self._patience)
        return [Change("create", "table", name) for name in missing]

    def create(self, engine: Engine) -> None:
        """Make them."""
        Server.of(self._binding).make_tables(OutboxTable.definitions(engine.dialect), timeout=self._patience)

    def needs_tables_before(self, engine: Engine) -> bool:
        """Make them now: MySQL would commit the caller's transaction, PostgreSQL hold up all others until it ends."""
        if not self._has_tables:
            self.create(engine)
            self._has_tables = True
        return True

    def error(self, error: SQLAlchemyError) -> Exception:
        """Give the error of ours for one of SQLAlchemy's."""
        if isinstance(error, PoolTimeoutError):
            return DeadlineExceeded("every connection was in use all the time; see max_connections")
        return translated(error, sent=True)

    @property
    def _patience(self) -> float:
        return float(self._binding.contract.timeout)


class ServerDatabase(SqlDatabase):
    """A database of PostgreSQL, MySQL or MariaDB."""

    Options = ServerOptions

    def __init__(self, binding: Binding[ServerOptions]) -> None:
        super().__init__(binding, ServerPlace(binding))
