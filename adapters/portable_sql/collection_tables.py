"""The tables of collections: what there is, and how it becomes what a contract asks for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from portable.changes import Change
from portable.document_layout import DocumentLayout, dump_indexes, load_indexes
from portable.errors import IntegrityError
from portable_sql.collection_dialects import Dialect, rest_of, table_of

__all__ = ["REGISTRY", "changes", "make", "note_filled", "read"]

REGISTRY = "portable_collections"


def read(connection: Any, dialect: Dialect, name: str) -> DocumentLayout | None:
    """Give the layout of a collection; None where there is no such collection."""
    sql = (
        f"SELECT {dialect.key}, {dialect.partition}, ttl, layout, filled, timed, indexes "
        f"FROM {REGISTRY} WHERE name = %s"
    )
    rows = connection.fetch(sql, (name,))
    if not rows:
        return None
    key, partition, ttl, number, filled, timed, indexes = rows[0]
    return DocumentLayout(name, key, partition, ttl, number, filled, bool(timed), load_indexes(indexes))


def _write(connection: Any, dialect: Dialect, layout: DocumentLayout, *, known: bool) -> None:
    values = {
        dialect.key: layout.key,
        dialect.partition: layout.partition,
        "ttl": layout.ttl,
        "layout": layout.number,
        "filled": layout.filled,
        "timed": int(layout.timed),
        "indexes": dump_indexes(layout.indexes),
    }
    if known:
        sets = ", ".join(f"{name} = %s" for name in values)
        sql = f"UPDATE {REGISTRY} SET {sets} WHERE name = %s"
    else:
        marks = ", ".join(["%s"] * (len(values) + 1))
        sql = f"INSERT INTO {REGISTRY} ({', '.join(values)}, name) VALUES ({marks})"
    connection.execute(sql, (*values.values(), layout.name))


def note_filled(connection: Any, layout: DocumentLayout) -> None:
    """Note that every document is in all indexes of a layout."""
    sql = (
        f"UPDATE {REGISTRY} SET filled = greatest(filled, %s), "
        "timed = CASE WHEN layout = %s THEN 1 ELSE timed END WHERE name = %s"
    )
    connection.execute(sql, (len(layout.indexes), layout.number, layout.name))


def make(
    connection: Any, dialect: Dialect, name: str, wanted: Callable[[DocumentLayout | None], DocumentLayout]
) -> DocumentLayout:
    """Bring the table of a collection to what is wanted, while nobody else does.

    Args:
        connection: the connection.
        dialect: the kind of its server.
        name: of the collection.
        wanted: gives the layout that has what a contract asks for, too.
    """
    noted = read(connection, dialect, name)
    there = _there(connection, dialect, name, noted)
    layout = wanted(there)
    if there is None:
        statements = dialect.create_table(layout)
    else:
        statements = [] if layout == there else dialect.change_table(layout, there)
    for statement in statements:
        connection.execute(statement)
    if layout != noted:
        _write(connection, dialect, layout, known=noted is not None)
    return layout


def _there(connection: Any, dialect: Dialect, name: str, noted: DocumentLayout | None) -> DocumentLayout | None:
    """Give the layout that a table really has: MySQL cannot change a table and note that in one step."""
    plain = table_of(name)
    table = dialect.quoted(plain)
    sql = (
        f"SELECT column_name FROM information_schema.columns WHERE table_schema = {dialect.schema} AND table_name = %s"
    )
    columns = [row[0] for row in connection.fetch(sql, (plain,))]
    if not columns:
        return None
    if noted is None:
        if connection.fetch(f"SELECT 1 FROM {table} LIMIT 1"):
            raise IntegrityError(f"there is a table {plain} that {REGISTRY} does not know; it was left as it is")
        connection.execute(f"DROP TABLE {table}")
        return None
    numbers = [int(found[1]) for column in columns if (found := re.fullmatch(r"layout_(\d+)", column))]
    surplus = [column for column in columns if column.startswith("index_") and column not in noted.columns.values()]
    if surplus:
        drops = [f"DROP INDEX {one}, DROP COLUMN {one}, DROP COLUMN {rest_of(one)}" for one in surplus]
        connection.execute(f"ALTER TABLE {table} {', '.join(drops)}")
    return msgspec.structs.replace(noted, number=max(numbers, default=noted.number))


def changes(layout: DocumentLayout, old: DocumentLayout | None, dialect: Dialect) -> list[Change]:
    """Say what has to be done to an old layout to get another, with the statement for each index."""
    by_text = {", ".join(".".join(path) for path in fields): column for fields, column in layout.columns.items()}
    found = []
    for change in layout.changes(old):
        if change.what == "index":
            statement = dialect.create_index(layout, by_text[change.detail])
            found.append(msgspec.structs.replace(change, detail=f"{change.detail}: {statement}"))
        else:
            found.append(change)
    return found
