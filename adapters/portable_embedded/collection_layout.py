"""The table of one collection in an SQLite file: its columns and indexes, and the statements for them.

The tables are described in `docs/wire-formats/collection.md`. Each index is a column of bytes that sort as the fields
do, kept by whoever writes. A writer that knows fewer columns than there are would leave them stale, so each of its
statements names the column `layout_N`, which gets another number with every new index: the statement then fails, and
the writer looks at the layout again.
"""

from __future__ import annotations

import functools
import re
import sqlite3
from typing import Any

import msgspec

from portable.changes import Change
from portable.contracts import CollectionContract
from portable.errors import ConfigError
from portable.query_plan import index_fields
from portable_embedded.schemas import Schema

__all__ = ["SCHEMA", "Fields", "Layout", "quoted", "read"]

Fields = tuple[tuple[str, ...], ...]

SCHEMA = Schema(
    name="collection",
    version=1,
    statements=(
        """
        CREATE TABLE portable_collections (
            name TEXT PRIMARY KEY, key TEXT NOT NULL, partition TEXT, ttl TEXT,
            layout INTEGER NOT NULL, filled INTEGER NOT NULL, timed INTEGER NOT NULL, indexes TEXT NOT NULL
        ) WITHOUT ROWID
        """,
    ),
)


def quoted(name: str) -> str:
    """Quote a name for SQL; a capital letter becomes `^` and the small one, which SQLite takes for the same letter."""
    return '"' + re.sub("[A-Z^]", lambda found: "^" + found[0].lower(), name).replace('"', '""') + '"'


class Layout(msgspec.Struct, frozen=True, dict=True):
    """What a row of `portable_collections` says.

    Attributes:
        name: of the collection.
        key: the key field.
        partition: the partition field, or None.
        ttl: the field that expires documents, or None.
        number: the number of the layout, from 1.
        filled: how many of the indexes, from the first, have every document.
        timed: whether every document has its `expires`.
        indexes: the fields of each index; those of the first are in the column `index_1`, and so on.
    """

    name: str
    key: str
    partition: str | None
    ttl: str | None
    number: int = 1
    filled: int = 0
    timed: bool = True
    indexes: tuple[Fields, ...] = ()

    @functools.cached_property
    def table(self) -> str:
        """The table's name, quoted."""
        return quoted(f"collection_{self.name}")

    @functools.cached_property
    def columns(self) -> dict[Fields, str]:
        """The column of each index."""
        return {fields: f"index_{i}" for i, fields in enumerate(self.indexes, 1)}

    @functools.cached_property
    def upsert(self) -> str:
        """Stores a whole document: partition, key, revision, expires, data, then the indexes."""
        names = ["revision", "expires", "data", *self.columns.values()]
        changes = ", ".join(f"{name} = excluded.{name}" for name in names)
        return (
            f"INSERT INTO {self.table} (partition, key, {', '.join(names)}, layout_{self.number}) "  # noqa: S608 (names of ours)
            f"VALUES (?, ?, {', '.join('?' * len(names))}, NULL) ON CONFLICT (partition, key) DO UPDATE SET {changes}"
        )

    @functools.cached_property
    def insert(self) -> str:
        """The same where nothing is there that has not expired by the last parameter; gives a row where it did."""
        return f"{self.upsert} WHERE expires <= ? RETURNING 1"

    @functools.cached_property
    def update(self) -> str:
        """Stores over what is there: revision, expires, data, the indexes, partition, key, now."""
        names = ["revision", "expires", "data", *self.columns.values()]
        return (
            f"UPDATE {self.table} SET {', '.join(f'{name} = ?' for name in names)}, layout_{self.number} = NULL "  # noqa: S608 (names of ours)
            "WHERE partition = ? AND key = ? AND (expires IS NULL OR expires > ?)"
        )

    @functools.cached_property
    def delete(self) -> str:
        """Removes: partition, key."""
        return f"DELETE FROM {self.table} WHERE partition = ? AND key = ?"  # noqa: S608 (names of ours)

    @functools.cached_property
    def select(self) -> str:
        """Gets one: partition, key. Gives revision, data, expires."""
        return f"SELECT revision, data, expires FROM {self.table} WHERE partition = ? AND key = ?"  # noqa: S608 (names of ours)

    @functools.cached_property
    def purge(self) -> str:
        """Removes some that expired: now, how many."""
        return (
            f"DELETE FROM {self.table} WHERE number IN "  # noqa: S608 (names of ours)
            f"(SELECT number FROM {self.table} WHERE expires <= ? ORDER BY expires LIMIT ?)"
        )

    def wanted(self, contract: CollectionContract) -> Layout:
        """The layout that also has what a contract declares; indexes are never taken away.

        Raises:
            ConfigError: the contract has another key or partition.
        """
        if (self.key, self.partition) != (contract.key, contract.partition):
            raise ConfigError(
                f"the collection {self.name!r} was made with key = {self.key!r} and partition = {self.partition!r}, "
                f"not {contract.key!r} and {contract.partition!r}, which cannot be changed; give it another name"
            )
        new = tuple(fields for fields in index_fields(contract) if fields not in self.columns)
        if not new and self.ttl == contract.ttl:
            return self
        return msgspec.structs.replace(
            self,
            ttl=contract.ttl,
            number=self.number + 1,
            timed=self.timed and self.ttl == contract.ttl,
            indexes=(*self.indexes, *new),
        )

    def serves(self, contract: CollectionContract) -> bool:
        """Whether the indexes that a contract declares are there and have every document."""
        return set(index_fields(contract)) <= set(self.indexes[: self.filled])

    @property
    def complete(self) -> bool:
        """Whether there is nothing left to fill in."""
        return self.timed and self.filled == len(self.indexes)

    def changes(self, old: Layout | None) -> list[Change]:
        """Say what has to be done to an old layout to get this one."""
        found = []
        if old is None:
            found.append(Change("create", "collection", self.name))
        elif old.ttl != self.ttl or not old.timed:
            found.append(Change("change", "ttl", self.name, f"from {old.ttl or 'none'} to {self.ttl or 'none'}"))
        known = () if old is None else old.indexes[: old.filled]
        return found + [
            Change("create", "index", self.name, ", ".join(".".join(path) for path in fields))
            for fields in self.indexes
            if fields not in known
        ]

    def make(self, connection: sqlite3.Connection, old: Layout | None) -> None:
        """Bring the table from an old layout to this one, inside the caller's transaction."""
        if old is None:
            connection.execute(
                f"CREATE TABLE {self.table} (number INTEGER PRIMARY KEY, partition TEXT NOT NULL, key TEXT NOT NULL, "
                f"revision INTEGER NOT NULL, expires INTEGER, layout_{self.number} INTEGER, data TEXT NOT NULL, "
                "UNIQUE (partition, key))"
            )
            # Tables and indexes share one set of names; these begin differently, whatever collections are called.
            expiring = quoted(f"expires_of_collection_{self.name}")
            connection.execute(f"CREATE INDEX {expiring} ON {self.table} (expires) WHERE expires IS NOT NULL")
        elif old.number != self.number:
            connection.execute(f"ALTER TABLE {self.table} RENAME COLUMN layout_{old.number} TO layout_{self.number}")
        for fields, column in self.columns.items():
            if old is None or fields not in old.columns:
                connection.execute(f"ALTER TABLE {self.table} ADD COLUMN {column} BLOB")
                index = quoted(f"{column}_of_collection_{self.name}")
                connection.execute(
                    f"CREATE INDEX {index} ON {self.table} ({column}, partition, key) WHERE {column} IS NOT NULL"
                )
        connection.execute(
            "INSERT INTO portable_collections (name, key, partition, ttl, layout, filled, timed, indexes) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (name) DO UPDATE SET ttl = excluded.ttl, "
            "layout = excluded.layout, filled = excluded.filled, timed = excluded.timed, indexes = excluded.indexes",
            (self.name, self.key, self.partition, self.ttl, self.number, self.filled, self.timed, _dump(self.indexes)),
        )


def _dump(indexes: tuple[Fields, ...]) -> str:
    return msgspec.json.encode([[".".join(path) for path in fields] for fields in indexes]).decode()


def _load(text: str) -> tuple[Fields, ...]:
    indexes = msgspec.json.decode(text, type=list[list[str]])
    return tuple(tuple(tuple(path.split(".")) for path in fields) for fields in indexes)


def read(connection: sqlite3.Connection, name: str) -> Layout | None:
    """The layout of a collection; None where there is no such collection."""
    row: Any = connection.execute(
        "SELECT key, partition, ttl, layout, filled, timed, indexes FROM portable_collections WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        return None
    key, partition, ttl, number, filled, timed, indexes = row
    return Layout(name, key, partition, ttl, number, filled, bool(timed), _load(indexes))
