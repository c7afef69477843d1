"""Databases on a SQLAlchemy engine. SQLAlchemy's pages: https://docs.sqlalchemy.org/en/20/core/engines.html."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Engine, Executable
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from portable.bindings import Binding
from portable.bridges import stays_sync
from portable.drivers import Change, DatabaseCapabilities
from portable.outbox_entries import FailedEntry, OutboxEntry
from portable_sql.migrations import migrate
from portable_sql.outbox_table import OutboxTable

__all__ = ["Place", "SqlDatabase"]


class Place(Protocol):
    """Where a database is, and what only its dialect knows."""

    capabilities: DatabaseCapabilities

    def prepare(self) -> None:
        """See, without connecting, that it is there or may be made."""
        ...

    def open_engine(self) -> Engine:
        """Make the sync engine."""
        ...

    def open_async_engine(self) -> AsyncEngine:
        """Make the async engine."""
        ...

    def close_async_engine(self, engine: AsyncEngine) -> None:
        """Close what the async engine keeps open; called from a thread that may wait."""
        ...

    def check(self, engine: Engine, *, write: bool, timeout: float) -> None:
        """Raise what is wrong."""
        ...

    def missing(self, engine: Engine) -> list[Change]:
        """Name what is missing, the outbox's tables included."""
        ...

    def create(self, engine: Engine) -> None:
        """Make it."""
        ...

    def needs_tables_before(self, engine: Engine) -> bool:
        """Make the outbox's tables (True), or leave them to the transaction that stores the first entry (False)."""
        ...

    def error(self, error: SQLAlchemyError) -> Exception:
        """Give the error of ours for one of SQLAlchemy's."""
        ...


class SqlDatabase:
    """A database: its engines, its migrations, its outbox."""

    def __init__(self, binding: Binding[Any], place: Place) -> None:
        self._binding = binding
        self._place = place
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._async_engine: AsyncEngine | None = None
        self.capabilities = place.capabilities

    @property
    def native(self) -> Engine:
        """SQLAlchemy's engine."""
        return self.engine

    @property
    def engine(self) -> Engine:
        """The sync engine, made on first use."""
        if self._engine is None:
            self._place.prepare()
        return self._made_engine()

    @property
    def async_engine(self) -> AsyncEngine:
        """The async engine, made on first use."""
        with self._lock:
            if self._async_engine is None:
                self._place.prepare()
                self._async_engine = self._place.open_async_engine()
            return self._async_engine

    @stays_sync
    def session(self, **options: Any) -> Session:
        """Make a sync ORM session."""
        return Session(self.engine, **options)

    @stays_sync
    def async_session(self, **options: Any) -> AsyncSession:
        """Make an async ORM session."""
        return AsyncSession(self.async_engine, **options)

    def open(self) -> None:
        """See that it is there, or may be made."""
        self._place.prepare()

    def close(self) -> None:
        """Close every pooled connection."""
        with self._lock:
            engine, self._engine = self._engine, None
            async_engine, self._async_engine = self._async_engine, None
        if engine is not None:
            engine.dispose()
        if async_engine is not None:
            self._place.close_async_engine(async_engine)

    def check(self, *, write: bool, timeout: float) -> None:
        """Ask the database something, and with `write` write something that is gone at once."""
        with self._translated():
            self._place.check(self.engine, write=write, timeout=timeout)

    def plan(self) -> list[Change]:
        """Name what is missing, the outbox's tables included."""
        with self._translated():
            return self._place.missing(self._made_engine())

    def create(self) -> None:
        """Make it."""
        with self._translated():
            self._place.create(self._made_engine())

    def migrate(self, directory: Path, revision: str, version_table: str) -> None:
        """Run Alembic."""
        migrate(self.engine, directory, revision, version_table)

    @stays_sync
    def outbox_statements(self, entries: Sequence[OutboxEntry], *, create: bool) -> list[Executable]:
        """Give what stores entries in the caller's transaction."""
        if create:
            with self._translated():
                create = not self._place.needs_tables_before(self.engine)
        return OutboxTable.statements(entries, create=create)

    def outbox_lead(self, owner: str, seconds: float) -> bool:
        """Become, or stay, the one relay."""
        with self._translated():
            return self._outbox.lead(owner, seconds)

    def outbox_resign(self, owner: str) -> None:
        """Let another relay lead."""
        with self._translated():
            self._outbox.resign(owner)

    def outbox_due(self, limit: int) -> list[tuple[int, OutboxEntry]]:
        """Give the oldest entries that are due."""
        with self._translated():
            return self._outbox.due(limit)

    def outbox_settle(self, done: Sequence[int], failed: Sequence[FailedEntry]) -> None:
        """Note what became of entries."""
        with self._translated():
            self._outbox.settle(done, failed)

    @property
    def _outbox(self) -> OutboxTable:
        return OutboxTable(self.engine, self._binding.clock)

    def _made_engine(self) -> Engine:
        with self._lock:
            if self._engine is None:
                self._engine = self._place.open_engine()
            return self._engine

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise self._place.error(error) from error
