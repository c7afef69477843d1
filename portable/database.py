# Generated from portable/aio/database.py by tools/generate_sync.py; change that file, not this one.
"""Databases: SQLAlchemy's own objects, with pool, TLS and credentials set by the binding, and the outbox."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from portable._concurrency import Stop, long_operation
from portable.drivers import DatabaseDriver
from portable.errors import InvalidArgument, PortableError
from portable.outbox import Outbox, relay
from portable.resource import Resource

if TYPE_CHECKING:
    from portable._engine import Connection, Engine, Session

__all__ = ["Database"]


class Database(Resource[DatabaseDriver]):
    """A database: SQLAlchemy's engine, connections and sessions, as the binding sets them up.

    What SQLAlchemy's objects raise is SQLAlchemy's own, and what a migration raises is the migration's; everything else
    raises `PortableError`.
    """

    kind: ClassVar[str] = "database"
    needs_cloud: ClassVar[bool] = True

    @property
    def engine(self) -> Engine:
        """SQLAlchemy's engine; made on first use, disposed of by `close`.

        Raises:
            Closed: the database is closed.
            ResourceNotFound: it is not there, and the binding may not make it.
        """
        try:
            self._refuse_if_closed()
            engine = self._driver.engine
        except PortableError as error:
            raise self._placed(error, "engine")  # noqa: B904 (the same error, which keeps its cause)
        return engine

    def connect(self) -> AbstractContextManager[Connection]:
        """Give a connection, as a context manager; commit it yourself.

        Raises:
            Closed: the database is closed.
        """
        return self.engine.connect()

    def begin(self) -> AbstractContextManager[Connection]:
        """Give a connection in a transaction that commits at the end of the block, and rolls back on an exception.

        Raises:
            Closed: the database is closed.
        """
        return self.engine.begin()

    def session(self, **options: Any) -> Session:
        """Give an ORM session on the engine, as a context manager; commit it yourself.

        Args:
            options: SQLAlchemy's own, such as `expire_on_commit=False`.

        Raises:
            Closed: the database is closed.
        """
        try:
            self._refuse_if_closed()
            session = self._driver.session(**options)
        except PortableError as error:
            raise self._placed(error, "session")  # noqa: B904 (the same error, which keeps its cause)
        return session

    @long_operation
    def migrate(self, directory: str | Path, *, revision: str = "head", version_table: str = "alembic_version") -> None:
        """Run the Alembic migrations of a directory, in one transaction where the backend can.

        A directory with an `env.py` is run by it (it finds the connection in `config.attributes["connection"]`); one
        that holds only `versions/` needs none.

        Args:
            directory: the migrations, as `alembic init` lays them out.
            revision: how far to go; Alembic's own names for it.
            version_table: where Alembic keeps how far it is; applications that share a database each need their own.
                An `env.py` finds it in `config.attributes["version_table"]`.

        Raises:
            InvalidArgument: the directory holds no migrations, or not that revision.
        """
        path = Path(directory)
        if not (path / "versions").is_dir():
            raise InvalidArgument(f"{path} holds no versions/ folder; make one with: alembic init {path}")
        self._driver.migrate(path, revision, version_table)

    def outbox(self, session: Session | Connection) -> Outbox:
        """Give the outbox of a transaction: what is sent to it leaves exactly when the transaction commits.

        Args:
            session: the session or connection whose transaction decides.
        """
        return Outbox(self, session)

    @long_operation
    def relay(self, *, stop: Stop | None = None, until_empty: bool = False, interval: float = 0.5) -> int:
        """Deliver what the outbox holds, at least once each and in order within a key, until told to stop.

        Any number may run; one at a time delivers, and another takes over when it dies.

        Args:
            stop: an event; once it is set the relay ends after the batch in hand.
            until_empty: end when nothing is due, for whichever relay.
            interval: seconds between looks while nothing is due.

        Returns:
            How many entries this relay delivered.

        Raises:
            InvalidArgument: the interval is no number of seconds.
            PortableError: the outbox cannot be read. While the reason may pass (`retryable`) it is logged and waited
                for, unless `until_empty`.
        """
        return relay(self, stop=stop, until_empty=until_empty, interval=interval)
