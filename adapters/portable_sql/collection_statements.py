"""The table of one collection on PostgreSQL or MySQL: its columns and indexes, and the statements for them.

The tables are described in `docs/wire-formats/sql-collection.md`.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Sequence
from typing import Any

from portable import document_json
from portable.document_layout import DocumentLayout
from portable.document_order import index_key
from portable.document_values import expiry, milliseconds
from portable.document_writes import DocumentId, Save, Stored
from portable.query_plan import Plan, SortPosition
from portable_sql.collection_dialects import Dialect, Where, rest_of, table_of
from portable_sql.collection_ranges import LONGEST, Columns, Piece, Row, pieces

__all__ = ["Statements", "drawn_revision"]

NO_REVISION = -1


def drawn_revision() -> int:
    """Draw a revision: random, so that no document has that of one that had its key before; 18 digits at most."""
    return int.from_bytes(os.urandom(8)) >> 5


def _number(revision: str) -> int:
    """The number of a revision; one that no document has for a text that is none of ours."""
    return int(revision) if revision.isdecimal() and len(revision) <= 18 else NO_REVISION


class Statements:
    """What is sent for one layout of a collection.

    A row is partition, key, revision, expires, the columns of the text, then `index_N` and `rest_N` of each index.
    """

    def __init__(self, layout: DocumentLayout, dialect: Dialect) -> None:
        self.layout = layout
        self._dialect = dialect
        self.table = dialect.quoted(table_of(layout.name))
        self._alive = f"(expires IS NULL OR expires > {dialect.now})"
        self._id = f"{dialect.partition} = %s AND {dialect.key} = %s"
        index, rest = dialect.index_types
        self._columns = {"revision": "bigint", "expires": "bigint", **dialect.stored}
        for column in layout.columns.values():
            self._columns[column] = index
            self._columns[rest_of(column)] = rest

    # ------------------------------------------------------------------ documents

    @functools.cached_property
    def get(self) -> str:
        """Gets one: partition, key. Gives revision and text."""
        return f"SELECT revision, {self._dialect.data} FROM {self.table} WHERE {self._id} AND {self._alive}"

    @functools.cached_property
    def _into(self) -> str:
        names = (self._dialect.partition, self._dialect.key, *self._columns, f"layout_{self.layout.number}")
        return f"INSERT INTO {self.table} ({', '.join(names)})"

    @functools.cached_property
    def _over(self) -> str:
        changes = ", ".join(f"{name} = {self._dialect.new(name)}" for name in self._columns)
        return f"{self._dialect.doubled} {changes}"

    @functools.cached_property
    def insert(self) -> str:
        """Stores a row where there is none."""
        return f"{self._into} VALUES ({', '.join(['%s'] * (len(self._columns) + 2))}, NULL)"

    @functools.cached_property
    def upsert(self) -> str:
        """Stores a row, whatever is there."""
        return f"{self.insert} {self._over}"

    @functools.cached_property
    def update(self) -> str:
        """Stores over what is there: a row, its partition and key at the end. Conditions may follow."""
        changes = ", ".join(f"{name} = %s" for name in self._columns)
        return f"UPDATE {self.table} SET {changes}, layout_{self.layout.number} = NULL WHERE {self._id}"

    @functools.cached_property
    def delete(self) -> str:
        """Removes: partition, key. Conditions may follow."""
        return f"DELETE FROM {self.table} WHERE {self._id}"

    def row(self, save: Save, revision: int) -> Row:
        """Give the row of a document."""
        expires = None if save.expires is None else milliseconds(save.expires)
        return self._row(save.id, revision, expires, save.json(), save.data)

    def _row(self, id_: DocumentId, revision: int, expires: int | None, text: str, data: dict[str, Any]) -> Row:
        keys: list[bytes | None] = []
        for fields in self.layout.columns:
            key = index_key(data, fields)
            if key is None or len(key) < LONGEST:
                keys += (key, None)
            else:
                keys += (key[:LONGEST], key[LONGEST:])
        row = (*self.id(id_), revision, expires, *self._dialect.texts(text, data), *keys)
        self._dialect.check(row)
        return row

    def id(self, id_: DocumentId) -> tuple[Any, Any]:
        """Give partition and key as they are stored."""
        return self._dialect.key_in(id_[0]), self._dialect.key_in(id_[1])

    def find(self, connection: Any, ids: Sequence[DocumentId]) -> dict[DocumentId, Stored]:
        """Get some documents in one statement."""
        where, parameters = self._dialect.among(ids)
        sql = f"{self._documents} WHERE {where} AND {self._alive}"
        return {stored.id: stored for stored in self.stored(connection.fetch(sql, parameters))}

    @functools.cached_property
    def _documents(self) -> str:
        names = f"{self._dialect.partition}, {self._dialect.key}, revision, {self._dialect.data}"
        return f"SELECT {names} FROM {self.table}"

    def stored(self, rows: Sequence[Row]) -> list[Stored]:
        """Give the documents of rows that begin with partition, key, revision and text."""
        key = self._dialect.key_out
        every = document_json.load_all([row[3] for row in rows])
        return [Stored((key(row[0]), key(row[1])), data, str(row[2])) for row, data in zip(rows, every, strict=True)]

    # ------------------------------------------------------------------ one write

    def save(self, connection: Any, save: Save, revision: int) -> bool:
        """Store a document under the conditions of a write; say whether they held."""
        row = self.row(save, revision)
        if save.revision is not None:
            sql = f"{self.update} AND {self._alive} AND revision = %s"
            return bool(connection.execute(sql, (*row[2:], *row[:2], _number(save.revision))))
        if save.exists is None:
            connection.execute(self.upsert, row)
            return True
        if save.exists:
            return bool(connection.execute(f"{self.update} AND {self._alive}", (*row[2:], *row[:2])))
        return self._dialect.create(connection, self, row)

    def remove(self, connection: Any, id_: DocumentId, revision: str | None) -> bool:
        """Remove a document under the condition of a write; say whether it held."""
        if revision is None:
            connection.execute(self.delete, self.id(id_))
            return True
        sql = f"{self.delete} AND {self._alive} AND revision = %s"
        return bool(connection.execute(sql, (*self.id(id_), _number(revision))))

    # ------------------------------------------------------------------ several writes

    def lock(self, connection: Any, ids: Sequence[DocumentId]) -> dict[DocumentId, tuple[str, str] | None]:
        """Keep others from changing documents until the transaction ends; give revision and text of what has a row.

        None stands for a row that has expired.
        """
        where, parameters = self._dialect.among(ids)
        names = f"{self._dialect.partition}, {self._dialect.key}"
        sql = (
            f"SELECT {names}, revision, {self._dialect.data}, {self._alive} FROM {self.table} "
            f"WHERE {where} ORDER BY {names} FOR UPDATE"
        )
        key = self._dialect.key_out
        return {
            (key(row[0]), key(row[1])): (str(row[2]), row[3]) if row[4] else None
            for row in connection.fetch(sql, parameters)
        }

    def store_all(self, connection: Any, rows: Sequence[Row], *, over: bool) -> None:
        """Store rows of different documents, in as few statements as the server takes; with `over` over any there."""
        types = ("text", "text", *self._columns.values())
        for some in self._dialect.portions(rows):
            source, parameters = self._dialect.rows(types, some)
            sql = f"{self._into} {source} {self._over}" if over else f"{self._into} {source}"
            connection.execute(sql, parameters)

    def remove_all(self, connection: Any, ids: Sequence[DocumentId]) -> None:
        """Remove documents."""
        where, parameters = self._dialect.among(ids)
        connection.execute(f"DELETE FROM {self.table} WHERE {where}", parameters)

    @functools.cached_property
    def purge(self) -> str:
        """Removes some that expired: how many."""
        return self._dialect.purge.format(table=self.table, now=self._dialect.now)

    # ------------------------------------------------------------------ queries

    def columns_of(self, plan: Plan) -> Columns:
        """Give the columns that a plan looks at."""
        dialect = self._dialect
        index = self.layout.columns[plan.index] if plan.index else ""
        return Columns(index, rest_of(index), dialect.partition, dialect.key, dialect.beyond)

    def pieces(self, plan: Plan, after: SortPosition | None) -> Iterator[Piece]:
        """Give what holds the documents of a plan."""
        return pieces(plan, after, self.columns_of(plan))

    def select(self, piece: Piece, plan: Plan, limit: int) -> Where:
        """Give the statement for the first rows of a piece."""
        columns = self.columns_of(plan)
        names = f"{columns.partition}, {columns.key}, revision, {self._dialect.data}"
        if piece.mixed:
            names += f", {columns.index}, {columns.rest}"
        sql = (
            f"SELECT {names} FROM {self.table}{self._hint(columns)} "
            f"WHERE {piece.where} AND {self._alive} ORDER BY {piece.order} LIMIT %s"
        )
        return sql.replace("?", "%s"), (*self._parameters(piece), limit)

    def fetch(self, connection: Any, piece: Piece, plan: Plan, limit: int) -> list[Row]:
        """Give the first rows of a piece."""
        rows: list[Row] = connection.fetch(*self.select(piece, plan, limit))
        return rows

    def count(self, piece: Piece, plan: Plan) -> Where:
        """Give the statement that counts the documents of a piece."""
        # Without expiring documents the index alone answers.
        alive = "" if self.layout.ttl is None else f" AND {self._alive}"
        hint = self._hint(self.columns_of(plan))
        sql = f"SELECT count(*) FROM {self.table}{hint} WHERE {piece.where}{alive}"
        return sql.replace("?", "%s"), self._parameters(piece)

    def _hint(self, columns: Columns) -> str:
        return self._dialect.hint.format(columns.index) if columns.index else ""

    def _parameters(self, piece: Piece) -> tuple[Any, ...]:
        key = self._dialect.key_in
        return tuple(key(value) if isinstance(value, str) else value for value in piece.parameters)

    # ------------------------------------------------------------------ filling indexes

    def fill(self, connection: Any, after: DocumentId | None, limit: int) -> DocumentId | None:
        """Put the next documents into every index, in a transaction; give the last one, None at the end."""
        dialect = self._dialect
        where, parameters = ("1 = 1", ()) if after is None else dialect.beyond(self._names, ">", self.id(after))
        names = ", ".join(self._names)
        sql = (
            f"SELECT {names}, revision, {dialect.data} FROM {self.table} "
            f"WHERE {where.replace('?', '%s')} ORDER BY {names} LIMIT %s FOR UPDATE"
        )
        rows = connection.fetch(sql, (*parameters, limit))
        ttl = self.layout.ttl
        full = []
        for row, stored in zip(rows, self.stored(rows), strict=True):
            expires = None if ttl is None else expiry(stored.data, ttl)
            moment = None if expires is None else milliseconds(expires)
            full.append(self._row(stored.id, row[2], moment, row[3], stored.data))
        if full:
            self.store_all(connection, full, over=True)
        return self.stored(rows[-1:])[0].id if len(rows) == limit else None

    @functools.cached_property
    def _names(self) -> tuple[str, str]:
        return self._dialect.partition, self._dialect.key
