"""Databases on a SQLAlchemy engine. SQLAlchemy's pages: https://docs.sqlalchemy.org/en/20/core/engines.html."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Engine, Executable, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from portable.bridges import stays_sync
from portable.drivers import Binding, Change, DatabaseCapabilities, Options
from portable.errors import PermissionDenied, ResourceNotFound
from portable.outbox_entries import FailedEntry, OutboxEntry
from portable.quantities import Duration
from portable_sql.migrations import migrate
from portable_sql.outbox_table import OutboxTable
from portable_sql.sqlite_connections import watch
from portable_sql.sqlite_engine import async_sqlite_engine, sqlite_engine, sqlite_error

__all__ = ["SqlDatabase", "SqlDatabaseOptions"]


class SqlDatabaseOptions(Options, frozen=True, kw_only=True):
    """`sqlite:path/to/file.db` (relative to the config file), `sqlite:/absolute/file.db`.

    Attributes:
        durability: `"power"` (each commit synced, the default) or `"process"` (survives SIGKILL, not a power cut).
        begin: how a transaction starts. `"immediate"` (the default) takes the write lock first, so that it can never
            fail half way because another process wrote; `"deferred"` lets readers run beside a writer, and a
            transaction that reads before it writes may then fail as locked.
        busy_timeout: how long a transaction waits for its turn to write.
    """

    durability: Literal["power", "process"] = "power"
    begin: Literal["immediate", "deferred"] = "immediate"
    busy_timeout: Duration = Duration(30)


class SqlDatabase:
    """A database: its engines, its migrations, its outbox."""

    Options = SqlDatabaseOptions

    def __init__(self, binding: Binding[SqlDatabaseOptions]) -> None:
        self._binding = binding
        self._path = Path(binding.url.path)
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._async_engine: AsyncEngine | None = None
        self.capabilities = DatabaseCapabilities(durability=binding.options.durability, transactional_ddl=True)

    @property
    def native(self) -> Engine:
        """SQLAlchemy's engine."""
        return self.engine

    @property
    def engine(self) -> Engine:
        """The sync engine, made on first use."""
        if self._engine is None:
            self._prepare()
        return self._made_engine()

    @property
    def async_engine(self) -> AsyncEngine:
        """The async engine, made on first use."""
        with self._lock:
            if self._async_engine is None:
                self._prepare()
                self._async_engine = async_sqlite_engine(self._path, **self._settings())
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
        """See that the file is there, or may be made."""
        self._prepare()

    def close(self) -> None:
        """Close every pooled connection; the async engine keeps none."""
        with self._lock:
            engine, self._engine, self._async_engine = self._engine, None, None
        if engine is not None:
            engine.dispose()

    def close_idle(self) -> None:
        """Close the connections that nobody uses, before a fork."""
        engine = self._engine
        if engine is not None:
            engine.dispose()

    def check(self, *, write: bool, timeout: float) -> None:
        """Read the schema, and with `write` take the write lock."""
        self._prepare()
        how = {"sqlite_begin": "immediate" if write else "deferred", "sqlite_busy": timeout}
        with self._translated(), self.engine.connect() as connection:
            connection.execution_options(**how)
            connection.execute(text("SELECT count(*) FROM sqlite_master"))
            if write:
                connection.execute(text("CREATE TABLE portable_check (one INTEGER)"))
            connection.rollback()

    def plan(self) -> list[Change]:
        """Name the file and the outbox's tables where they are missing."""
        if not self._path.exists():
            return [Change("create", "database", str(self._path))]
        with self._translated():
            missing = OutboxTable.missing(inspect(self.engine).get_table_names())
        return [Change("create", "table", name) for name in missing]

    def create(self) -> None:
        """Make them."""
        self._make_folder()
        with self._translated():
            self._outbox(self._made_engine()).create()

    def migrate(self, directory: Path, revision: str, version_table: str) -> None:
        """Run Alembic."""
        migrate(self.engine, directory, revision, version_table)

    @stays_sync
    def outbox_statements(self, entries: Sequence[OutboxEntry], *, create: bool) -> list[Executable]:
        """Give what stores entries in the caller's transaction."""
        return OutboxTable.statements(entries, create=create)

    def outbox_lead(self, owner: str, seconds: float) -> bool:
        """Become, or stay, the one relay."""
        with self._translated():
            return self._outbox(self.engine).lead(owner, seconds)

    def outbox_resign(self, owner: str) -> None:
        """Let another relay lead."""
        with self._translated():
            self._outbox(self.engine).resign(owner)

    def outbox_due(self, limit: int) -> list[tuple[int, OutboxEntry]]:
        """Give the oldest entries that are due."""
        with self._translated():
            return self._outbox(self.engine).due(limit)

    def outbox_settle(self, done: Sequence[int], failed: Sequence[FailedEntry]) -> None:
        """Note what became of entries."""
        with self._translated():
            self._outbox(self.engine).settle(done, failed)

    def _made_engine(self) -> Engine:
        with self._lock:
            if self._engine is None:
                self._engine = sqlite_engine(self._path, **self._settings())
                watch(self)
            return self._engine

    def _outbox(self, engine: Engine) -> OutboxTable:
        return OutboxTable(engine, self._binding.clock)

    def _settings(self) -> dict[str, Any]:
        options = self._binding.options
        return {"durability": options.durability, "begin": options.begin, "busy": float(options.busy_timeout)}

    def _prepare(self) -> None:
        if self._binding.create:
            self._make_folder()
        elif not self._path.exists():
            raise ResourceNotFound(f"there is no database file {self._path}; make it with: portable resources create")

    def _make_folder(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PermissionDenied(f"the folder of {self._path} cannot be made: {error.strerror}") from error

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            raise sqlite_error(self._path, error) from error
