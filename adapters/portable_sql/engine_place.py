"""A database server of which all is done by SQLAlchemy: what a dialect needs that has no clients of ours."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Callable

from sqlalchemy import Column, Engine, Integer, MetaData, Table, inspect, literal, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.schema import CreateTable

from portable.drivers import Change, DatabaseCapabilities
from portable_sql.outbox_table import OutboxTable

__all__ = ["EnginePlace"]

CLOSES_WITHIN = 10.0

_CHECK = Table("#portable_check", MetaData(), Column("one", Integer))
"""To SQL Server a table of the session alone; elsewhere it goes with the transaction."""


class EnginePlace:
    """Satisfies `portable_sql.database.Place`, where tables are made in transactions.

    Args:
        open_engine: makes the sync engine.
        open_async_engine: makes the async engine.
        error: gives the error of ours for one of the client's.
        capabilities: the database's.
    """

    def __init__(
        self,
        *,
        open_engine: Callable[[], Engine],
        open_async_engine: Callable[[], AsyncEngine],
        error: Callable[[SQLAlchemyError], Exception],
        capabilities: DatabaseCapabilities,
    ) -> None:
        self._open_async_engine = open_async_engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_tables = False
        self.open_engine = open_engine
        self._error = error
        self.capabilities = capabilities

    def prepare(self) -> None:
        """See nothing: the database is its administrator's to make."""

    def open_async_engine(self) -> AsyncEngine:
        """Make the async engine."""
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()
        return self._open_async_engine()

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
        del timeout  # The client's own holds.
        with engine.connect() as connection:
            connection.execute(select(literal(1)))
            if write:
                connection.execute(CreateTable(_CHECK))
                connection.execute(_CHECK.insert().values(one=1))
            connection.rollback()

    def missing(self, engine: Engine) -> list[Change]:
        """Name the outbox's tables where they are missing."""
        names = OutboxTable.missing(inspect(engine).get_table_names())
        return [Change("create", "table", name) for name in names]

    def create(self, engine: Engine) -> None:
        """Make them; of several at once, one does."""
        try:
            OutboxTable.make(engine)
        except SQLAlchemyError:
            if self.missing(engine):
                raise

    def needs_tables_before(self, engine: Engine) -> bool:
        """Make them now: not every dialect makes a table only where it is missing."""
        if not self._has_tables:
            self.create(engine)
            self._has_tables = True
        return True

    def error(self, error: SQLAlchemyError) -> Exception:
        """Give the error of ours for one of SQLAlchemy's."""
        return self._error(error)
