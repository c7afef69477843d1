"""Databases in an SQLite file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine

from portable.bindings import Binding
from portable.drivers import Change, DatabaseCapabilities, Options
from portable.errors import PermissionDenied, ResourceNotFound
from portable.quantities import Duration
from portable_sql.database import SqlDatabase
from portable_sql.outbox_table import OutboxTable
from portable_sql.sqlite_connections import watch
from portable_sql.sqlite_engine import async_sqlite_engine, sqlite_engine, sqlite_error

__all__ = ["SqliteDatabase", "SqliteDatabaseOptions"]


class SqliteDatabaseOptions(Options, frozen=True, kw_only=True):
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


class SqliteFile:
    """Satisfies `portable_sql.database.Place`."""

    def __init__(self, binding: Binding[SqliteDatabaseOptions]) -> None:
        self._binding = binding
        self._path = Path(binding.url.path)
        self._engine: Engine | None = None
        self.capabilities = DatabaseCapabilities(durability=binding.options.durability, transactional_ddl=True)

    def prepare(self) -> None:
        """See that the file is there, or may be made."""
        if self._binding.create:
            self._make_folder()
        elif not self._path.exists():
            raise ResourceNotFound(f"there is no database file {self._path}; make it with: portable resources create")

    def open_engine(self) -> Engine:
        """Make the sync engine, whose idle connections are closed before a fork."""
        engine = sqlite_engine(self._path, **self._settings())
        # The file itself is watched, for as long as it has the engine.
        self._engine = engine
        watch(self)
        return engine

    def open_async_engine(self) -> AsyncEngine:
        """Make the async engine."""
        return async_sqlite_engine(self._path, **self._settings())

    def close_async_engine(self, engine: AsyncEngine) -> None:
        """Do nothing: it keeps no connection."""

    def close_idle(self) -> None:
        """Close the connections that nobody uses, before a fork."""
        if self._engine is not None:
            self._engine.dispose()

    def check(self, engine: Engine, *, write: bool, timeout: float) -> None:
        """Read the schema, and with `write` take the write lock."""
        self.prepare()
        how: dict[str, Any] = {"sqlite_begin": "immediate" if write else "deferred", "sqlite_busy": timeout}
        with engine.connect() as connection:
            connection.execution_options(**how)
            connection.execute(text("SELECT count(*) FROM sqlite_master"))
            if write:
                connection.execute(text("CREATE TABLE portable_check (one INTEGER)"))
            connection.rollback()

    def missing(self, engine: Engine) -> list[Change]:
        """Name the file and the outbox's tables where they are missing."""
        if not self._path.exists():
            return [Change("create", "database", str(self._path))]
        names = OutboxTable.missing(inspect(engine).get_table_names())
        return [Change("create", "table", name) for name in names]

    def create(self, engine: Engine) -> None:
        """Make them."""
        self._make_folder()
        with engine.begin() as connection:
            for statement in OutboxTable.making():
                connection.execute(statement)

    def needs_tables_before(self, engine: Engine) -> bool:
        """Leave them to the transaction, which may make tables."""
        del engine
        return False

    def error(self, error: SQLAlchemyError) -> Exception:
        """Give the error of ours for one of SQLAlchemy's."""
        return sqlite_error(self._path, error)

    def _settings(self) -> dict[str, Any]:
        options = self._binding.options
        return {"durability": options.durability, "begin": options.begin, "busy": float(options.busy_timeout)}

    def _make_folder(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise PermissionDenied(f"the folder of {self._path} cannot be made: {error.strerror}") from error


class SqliteDatabase(SqlDatabase):
    """A database in an SQLite file."""

    Options = SqliteDatabaseOptions

    def __init__(self, binding: Binding[SqliteDatabaseOptions]) -> None:
        super().__init__(binding, SqliteFile(binding))
