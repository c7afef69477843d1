"""The table of one collection in an SQLite file: its columns and indexes, and the statements for them.

The tables are described in `docs/wire-formats/collection.md`. Each index is a column of bytes that sort as the fields
do, kept by whoever writes.
"""

from __future__ import annotations

import functools
import re
import sqlite3
from typing import Any

from portable.document_layout import DocumentLayout, Fields, dump_indexes, load_indexes
from portable_embedded.schemas import Schema

__all__ = ["SCHEMA", "Fields", "Layout", "quoted", "read"]

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


class Layout(DocumentLayout, frozen=True, dict=True):
    """What a row of `portable_collections` says, and the statements that follow from it."""

    @functools.cached_property
    def table(self) -> str:
        """The table's name, quoted."""
        return quoted(f"collection_{self.name}")

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
            (
                self.name,
                self.key,
                self.partition,
                self.ttl,
                self.number,
                self.filled,
                self.timed,
                dump_indexes(self.indexes),
            ),
        )


def read(connection: sqlite3.Connection, name: str) -> Layout | None:
    """The layout of a collection; None where there is no such collection."""
    row: Any = connection.execute(
        "SELECT key, partition, ttl, layout, filled, timed, indexes FROM portable_collections WHERE name = ?", (name,)
    ).fetchone()
    if row is None:
        return None
    key, partition, ttl, number, filled, timed, indexes = row
    return Layout(name, key, partition, ttl, number, filled, bool(timed), load_indexes(indexes))
