"""The tables of the transactional outbox; `docs/wire-formats/database.md` describes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Engine,
    Executable,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import mssql, mysql
from sqlalchemy.exc import IntegrityError
from sqlalchemy.schema import CreateTable

from portable.outbox_entries import FailedEntry, OutboxEntry

__all__ = ["OutboxTable"]

_CLOCKS_APART = 60.0
"""How far the clocks of two machines may be apart, in seconds, for the one to believe what the other wrote."""

_metadata = MetaData()

# MySQL's own sizes would cut a body at 64 KiB and a moment at minutes, and its own collation takes "a" for "A".
_MYSQL = ("mysql", "mariadb")
_IN_MYSQL: dict[str, Any] = {"mysql_engine": "InnoDB", "mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
_IN_MYSQL |= {name.replace("mysql", "mariadb"): value for name, value in _IN_MYSQL.items()}
_max_bytes = mssql.VARBINARY("max")  # type: ignore[no-untyped-call]  # it has no types
_bytes = LargeBinary().with_variant(mysql.LONGBLOB(), *_MYSQL).with_variant(_max_bytes, "mssql")
_text = Text().with_variant(mysql.LONGTEXT(), *_MYSQL).with_variant(mssql.NVARCHAR(), "mssql")
_seconds = Float().with_variant(mysql.DOUBLE(), *_MYSQL)
_name = (
    String(255)
    .with_variant(Text(), "postgresql")
    .with_variant(mysql.LONGTEXT(), *_MYSQL)
    # Its own collation takes "a" for "A", too.
    .with_variant(mssql.NVARCHAR(collation="Latin1_General_BIN2"), "mssql")
)

_entries = Table(
    "portable_outbox",
    _metadata,
    Column("number", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("kind", String(16), nullable=False),
    Column("resource", String(64), nullable=False),
    Column("body", _bytes, nullable=False),
    Column("attributes", _text, nullable=False),
    Column("delay", _seconds, nullable=False),
    Column("ordering_key", _name),
    Column("dedup_id", _name),
    Column("attempts", Integer, nullable=False),
    Column("due", _seconds, nullable=False),
    Column("failed", _text),
    sqlite_autoincrement=True,
    **_IN_MYSQL,
)
_leader = Table(
    "portable_outbox_leader",
    _metadata,
    Column("one", Integer, primary_key=True, autoincrement=False),
    Column("owner", String(64), nullable=False),
    Column("until", _seconds, nullable=False),
    **_IN_MYSQL,
)


class OutboxTable:
    """The outbox of one engine, by a clock that gives seconds since the epoch."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock

    @staticmethod
    def missing(names: Sequence[str]) -> list[str]:
        """Give the tables that are not among these."""
        return [table.name for table in _metadata.sorted_tables if table.name not in names]

    @staticmethod
    def making() -> list[Executable]:
        """Give what makes the tables that are missing."""
        return [CreateTable(table, if_not_exists=True) for table in _metadata.sorted_tables]

    @staticmethod
    def make(engine: Engine) -> None:
        """Make the tables that are missing, in any dialect; two who do it at once meet."""
        _metadata.create_all(engine)

    @staticmethod
    def definitions(dialect: Dialect) -> dict[str, list[str]]:
        """Give what makes each table, as the clients of a dialect take it."""
        made = {table.name: CreateTable(table, if_not_exists=True) for table in _metadata.sorted_tables}
        return {name: [str(statement.compile(dialect=dialect))] for name, statement in made.items()}

    @staticmethod
    def statements(entries: Sequence[OutboxEntry], *, create: bool) -> list[Executable]:
        """Give what stores entries, for the caller's own transaction."""
        tables = OutboxTable.making()
        rows = [
            {
                "kind": entry.kind,
                "resource": entry.resource,
                "body": entry.body,
                "attributes": msgspec.json.encode(entry.attributes).decode(),
                "delay": entry.delay,
                "ordering_key": entry.ordering_key,
                "dedup_id": entry.dedup_id,
                "attempts": 0,
                "due": 0.0,
            }
            for entry in entries
        ]
        return [*(tables if create else ()), insert(_entries).values(rows)]

    def lead(self, owner: str, seconds: float) -> bool:
        """Become, or stay, the one relay for so many seconds; False while another is."""
        now = self._clock()
        # A time further ahead than any relay leads was written by a clock that has been put back since.
        over = (_leader.c.until < now) | (_leader.c.until > now + _CLOCKS_APART + seconds)
        taken = (
            update(_leader)
            .where(_leader.c.one == 1, (_leader.c.owner == owner) | over)
            .values(owner=owner, until=now + seconds)
        )
        with self._engine.begin() as connection:
            if connection.execute(taken).rowcount:
                return True
            if connection.execute(select(_leader.c.one)).first() is not None:
                return False
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(_leader).values(one=1, owner=owner, until=now + seconds))
        except IntegrityError:
            return False
        return True

    def resign(self, owner: str) -> None:
        """Let another relay lead at once."""
        with self._engine.begin() as connection:
            connection.execute(delete(_leader).where(_leader.c.owner == owner))

    def due(self, limit: int) -> list[tuple[int, OutboxEntry]]:
        """Give the oldest entries that are due, in order; an entry that waits holds back the rest of its key."""
        now = self._clock()
        earlier = _entries.alias()
        held_back = (
            select(earlier.c.number)
            .where(
                earlier.c.kind == _entries.c.kind,
                earlier.c.resource == _entries.c.resource,
                earlier.c.ordering_key == _entries.c.ordering_key,
                earlier.c.number < _entries.c.number,
                earlier.c.due > now,
                earlier.c.failed.is_(None),
            )
            .exists()
        )
        query = (
            select(_entries)
            .where(_entries.c.due <= now, _entries.c.failed.is_(None), ~held_back)
            .order_by(_entries.c.number)
            .limit(limit)
        )
        found: list[tuple[int, OutboxEntry]] = []
        damaged: list[FailedEntry] = []
        with self._engine.connect() as connection:
            connection.execution_options(sqlite_begin="deferred")
            for row in connection.execute(query):
                try:
                    found.append((row.number, _entry(row)))
                except msgspec.DecodeError as error:
                    # Any program may write here; one wrong row must not stop all others.
                    damaged.append(FailedEntry(row.number, f"attributes is no JSON object of strings: {error}", None))
        if damaged:
            self.settle([], damaged)
        return found

    def settle(self, done: Sequence[int], failed: Sequence[FailedEntry]) -> None:
        """Remove what was sent, and note what could not be."""
        with self._engine.begin() as connection:
            if done:
                connection.execute(delete(_entries).where(_entries.c.number.in_(done)))
            for entry in failed:
                values = {"failed": entry.error} if entry.retry_in is None else {"due": self._clock() + entry.retry_in}
                connection.execute(
                    update(_entries)
                    .where(_entries.c.number == entry.number)
                    .values(attempts=_entries.c.attempts + 1, **values)
                )


def _entry(row: object) -> OutboxEntry:
    fields = row._mapping  # type: ignore[attr-defined]  # noqa: SLF001 (SQLAlchemy's public name for it)
    return OutboxEntry(
        fields["kind"],
        fields["resource"],
        fields["body"],
        msgspec.json.decode(fields["attributes"], type=dict[str, str]),
        fields["delay"],
        fields["ordering_key"],
        fields["dedup_id"],
        fields["attempts"],
    )
