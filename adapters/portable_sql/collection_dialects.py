"""What PostgreSQL and MySQL say differently about collections."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol

from portable.document_layout import DocumentLayout
from portable.document_ranges import rows_beyond
from portable.document_writes import DocumentId
from portable.errors import LimitExceeded
from portable_sql.errors import is_duplicate

if TYPE_CHECKING:
    from portable_sql.collection_statements import Statements

__all__ = ["Dialect", "Mysql", "Postgresql", "Where", "rest_of", "table_of"]

_PLAIN = re.compile(r"[a-z0-9_-]{1,43}")
"""Names that need no care: PostgreSQL cuts longer ones off, and MySQL may take capitals for small letters."""

Where = tuple[str, tuple[Any, ...]]


class Dialect(Protocol):
    """One kind of server.

    Attributes:
        partition: the name of the column of partitions, quoted.
        key: the name of the column of keys, quoted.
        data: what reads a document's text.
        stored: the columns of a document's text, and their types.
        now: the server's clock, in milliseconds since 1970.
        columns: what every table has, with types.
        index_types: the types of `index_N` and `rest_N`.
        registry: what makes the table of collections.
        doubled: what an INSERT does where it meets a row: followed by one change a column.
        hint: how the server is told to use an index.
        purge: removes some rows that expired.
        schema: where the tables are.
    """

    partition: str
    key: str
    data: str
    stored: dict[str, str]
    now: str
    columns: str
    index_types: tuple[str, str]
    registry: str
    doubled: str
    hint: str
    purge: str
    schema: str

    def quoted(self, name: str) -> str:
        """Quote a name."""
        ...

    def key_in(self, text: str) -> Any:
        """Give what stands for a partition or key in its column; it sorts as the texts do."""
        ...

    def key_out(self, stored: Any) -> str:
        """Give the partition or key that stands there."""
        ...

    def texts(self, text: str, data: dict[str, Any]) -> tuple[Any, ...]:
        """Give what is in the columns of a document's text; `data` is the document."""
        ...

    def check(self, row: Sequence[Any]) -> None:
        """Refuse a row that the server would not take in one statement.

        Raises:
            LimitExceeded: it is too large.
        """
        ...

    def beyond(self, columns: Sequence[str], operator: str, values: Sequence[Any]) -> Where:
        """Compare rows, so that an index serves it; see `portable.document_ranges.Beyond`."""
        ...

    def among(self, ids: Sequence[DocumentId]) -> Where:
        """Say that a row is one of these documents'."""
        ...

    def new(self, column: str) -> str:
        """Give the value that an INSERT that met a row wanted to store."""
        ...

    def rows(self, types: Sequence[str], rows: Sequence[Sequence[Any]]) -> Where:
        """Give the source of an INSERT of several rows, each of which gets a null more at its end."""
        ...

    def portions(self, rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
        """Give rows in portions that the server takes in one statement."""
        ...

    def create(self, connection: Any, statements: Statements, row: Sequence[Any]) -> bool:
        """Insert a row where none is but one that has expired; say whether that was done."""
        ...

    def create_table(self, layout: DocumentLayout) -> list[str]:
        """Give the statements that make the table of a collection, its indexes included."""
        ...

    def change_table(self, layout: DocumentLayout, old: DocumentLayout) -> list[str]:
        """Give the statements that bring a table from an old layout to another, which has more indexes."""
        ...

    def create_index(self, layout: DocumentLayout, column: str) -> str:
        """Give the statement that makes one index."""
        ...


def _is_odd(value: Any) -> bool:
    """Whether a float is in a value which JSONB turns into an integer, or strips of its sign."""
    kind = type(value)
    if kind is float:
        return bool(abs(value) >= FLOATS_AS_INTEGERS or (value == 0 and math.copysign(1, value) < 0))
    if kind is dict:
        return any(map(_is_odd, value.values()))
    return kind is list and any(map(_is_odd, value))


FLOATS_AS_INTEGERS = 1e16
"""From here on the JSON of a float has an exponent and no fraction, and JSONB writes it out as an integer."""


class Postgresql:
    """PostgreSQL: satisfies `Dialect`. Documents are JSONB, keys text in the order of code points."""

    partition = "partition"
    key = "key"
    data = "coalesce(exact, data::text)"
    stored = {"data": "jsonb", "exact": "text"}  # noqa: RUF012 (nobody changes it)
    now = "(extract(epoch FROM now()) * 1000)::bigint"
    columns = (
        'partition text COLLATE "C" NOT NULL, key text COLLATE "C" NOT NULL, revision bigint NOT NULL, expires bigint, '
        "data jsonb NOT NULL, exact text"
    )
    index_types: tuple[str, str] = ("bytea", "bytea")
    registry = (
        "CREATE TABLE IF NOT EXISTS portable_collections (name text PRIMARY KEY, key text NOT NULL, partition text, "
        "ttl text, layout integer NOT NULL, filled integer NOT NULL, timed integer NOT NULL, indexes text NOT NULL)"
    )
    doubled = "ON CONFLICT (partition, key) DO UPDATE SET"
    hint = ""
    schema = "current_schema()"
    purge = (
        "DELETE FROM {table} WHERE (partition, key) IN (SELECT partition, key FROM {table} WHERE expires <= {now} "
        "ORDER BY expires LIMIT %s FOR UPDATE SKIP LOCKED)"
    )

    def quoted(self, name: str) -> str:
        """Quote a name."""
        return '"' + name.replace('"', '""') + '"'

    def key_in(self, text: str) -> str:
        """Text has no place for NUL: it becomes 01 01, and 01 becomes 01 02, which changes no order."""
        if "\0" in text or "\x01" in text:
            return text.replace("\x01", "\x01\x02").replace("\0", "\x01\x01")
        return text

    def key_out(self, stored: str) -> str:
        """The other way round."""
        return stored.replace("\x01\x01", "\0").replace("\x01\x02", "\x01") if "\x01" in stored else stored

    def texts(self, text: str, data: dict[str, Any]) -> tuple[str, str | None]:
        """Give the text for JSONB, and once more as it is where JSONB would lose something of it, or refuse NUL."""
        if "\\u0000" not in text and not _is_odd(data):
            return text, None
        return text.replace("\\u0000", "\\ufffd"), text

    def check(self, row: Sequence[Any]) -> None:
        """Let everything pass: the server says itself what is too large."""

    def beyond(self, columns: Sequence[str], operator: str, values: Sequence[Any]) -> Where:
        """Compare rows as SQL does."""
        return rows_beyond(columns, operator, values)

    def among(self, ids: Sequence[DocumentId]) -> Where:
        """Say that a row is one of these documents'."""
        partitions, keys = [self.key_in(id_[0]) for id_ in ids], [self.key_in(id_[1]) for id_ in ids]
        return "(partition, key) IN (SELECT * FROM unnest(%s::text[], %s::text[]))", (partitions, keys)

    def new(self, column: str) -> str:
        """Give the value that an INSERT that met a row wanted to store."""
        return f"excluded.{column}"

    def rows(self, types: Sequence[str], rows: Sequence[Sequence[Any]]) -> Where:
        """Send one array a column: the statement is the same whatever the number of rows."""
        arrays = ", ".join("%s::text[]" if kind == "jsonb" else f"%s::{kind}[]" for kind in types)
        names = [f"c{i}" for i in range(len(types))]
        given = ", ".join(
            f"{name}::jsonb" if kind == "jsonb" else name for name, kind in zip(names, types, strict=True)
        )
        source = f"SELECT {given}, NULL FROM unnest({arrays}) AS given({', '.join(names)})"
        return source, tuple(map(list, zip(*rows, strict=True)))

    def create(self, connection: Any, statements: Statements, row: Sequence[Any]) -> bool:
        """Insert a row where none is but one that has expired."""
        sql = f"{statements.upsert} WHERE {statements.table}.expires <= {self.now}"
        return bool(connection.execute(sql, row))

    def portions(self, rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
        """Give all of them at once."""
        yield rows

    def create_table(self, layout: DocumentLayout) -> list[str]:
        """Give the statements that make the table of a collection."""
        table = self.quoted(table_of(layout.name))
        columns = [self.columns, f"layout_{layout.number} integer"]
        columns += [f"{column} bytea, {rest_of(column)} bytea" for column in layout.columns.values()]
        return [
            f"CREATE TABLE {table} ({', '.join(columns)}, PRIMARY KEY (partition, key))",
            f"CREATE INDEX ON {table} (expires) WHERE expires IS NOT NULL",
            *(self.create_index(layout, column) for column in layout.columns.values()),
        ]

    def change_table(self, layout: DocumentLayout, old: DocumentLayout) -> list[str]:
        """Give the statements that bring a table from an old layout to another."""
        table = self.quoted(table_of(layout.name))
        new = [column for fields, column in layout.columns.items() if fields not in old.columns]
        return [
            f"ALTER TABLE {table} RENAME COLUMN layout_{old.number} TO layout_{layout.number}",
            *(f"ALTER TABLE {table} ADD {column} bytea, ADD {rest_of(column)} bytea" for column in new),
            *(self.create_index(layout, column) for column in new),
        ]

    def create_index(self, layout: DocumentLayout, column: str) -> str:
        """Give the statement that makes one index."""
        table = self.quoted(table_of(layout.name))
        return f"CREATE INDEX ON {table} ({column}, partition, key) WHERE {column} IS NOT NULL"


class Mysql:
    """MySQL and MariaDB: satisfies `Dialect`. Documents are text, keys bytes.

    Args:
        largest: bytes that the server takes in one statement.
    """

    partition = "`partition`"
    key = "`key`"
    data = "data"
    stored = {"data": "LONGTEXT"}  # noqa: RUF012 (nobody changes it)
    now = "CAST(unix_timestamp(now(3)) * 1000 AS SIGNED)"
    columns = (
        "`partition` VARBINARY(1024) NOT NULL, `key` VARBINARY(1024) NOT NULL, revision BIGINT NOT NULL, "
        "expires BIGINT, data LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL"
    )
    index_types: tuple[str, str] = ("VARBINARY(512)", "LONGBLOB")
    registry = (
        "CREATE TABLE IF NOT EXISTS portable_collections (name VARBINARY(256) PRIMARY KEY, "
        "`key` TEXT CHARACTER SET utf8mb4 NOT NULL, `partition` TEXT CHARACTER SET utf8mb4, "
        "ttl TEXT CHARACTER SET utf8mb4, layout INTEGER NOT NULL, filled INTEGER NOT NULL, timed INTEGER NOT NULL, "
        "indexes LONGTEXT CHARACTER SET utf8mb4 NOT NULL) ENGINE=InnoDB"
    )
    doubled = "ON DUPLICATE KEY UPDATE"
    hint = " FORCE INDEX ({})"
    schema = "database()"
    purge = "DELETE FROM {table} WHERE expires <= {now} ORDER BY expires LIMIT %s"

    def __init__(self, largest: int) -> None:
        self._largest = largest

    def quoted(self, name: str) -> str:
        """Quote a name."""
        return "`" + name.replace("`", "``") + "`"

    def key_in(self, text: str) -> bytes:
        """Give its UTF-8, which sorts as the text does; no collation of the server's does on all of its versions."""
        return text.encode()

    def key_out(self, stored: bytes) -> str:
        """The other way round."""
        return stored.decode()

    def texts(self, text: str, data: dict[str, Any]) -> tuple[str]:  # noqa: ARG002 (the others look at it)
        """Give the text as it is."""
        return (text,)

    def check(self, row: Sequence[Any]) -> None:
        """Refuse a row that the server would not take in one statement: that costs the connection."""
        size = _quoted_size(row)
        if size > self._largest:
            raise LimitExceeded(
                f"the document, its keys in the indexes included, may need {size} bytes in a statement, and "
                f"{self._largest} is the most that this server takes (its max_allowed_packet)"
            )

    def beyond(self, columns: Sequence[str], operator: str, values: Sequence[Any]) -> Where:
        """Compare rows column by column: whole rows are compared without an index."""
        if len(columns) == 1:
            return f"{columns[0]} {operator} ?", tuple(values)
        rest, parameters = self.beyond(columns[1:], operator, values[1:])
        return f"({columns[0]} {operator} ? OR ({columns[0]} = ? AND {rest}))", (values[0], values[0], *parameters)

    def among(self, ids: Sequence[DocumentId]) -> Where:
        """Say that a row is one of these documents': a list of keys a partition."""
        conditions: list[str] = []
        parameters: list[bytes] = []
        for partition, group in groupby(sorted(ids), itemgetter(0)):
            keys = [key.encode() for _, key in group]
            conditions.append(f"(`partition` = %s AND `key` IN ({', '.join(['%s'] * len(keys))}))")
            parameters += [partition.encode(), *keys]
        return f"({' OR '.join(conditions)})", tuple(parameters)

    def new(self, column: str) -> str:
        """Give the value that an INSERT that met a row wanted to store."""
        return f"VALUES({column})"

    def rows(self, types: Sequence[str], rows: Sequence[Sequence[Any]]) -> Where:
        """Give the rows one after another."""
        one = f"({', '.join(['%s'] * len(types))}, NULL)"
        return f"VALUES {', '.join([one] * len(rows))}", tuple(value for row in rows for value in row)

    def create(self, connection: Any, statements: Statements, row: Sequence[Any]) -> bool:
        """Insert a row; where there is one, store over it if it has expired."""
        try:
            connection.execute(statements.insert, row)
        except connection.FAILURES as error:
            if not is_duplicate(error):
                raise
        else:
            return True
        sql = f"{statements.update} AND expires <= {self.now}"
        return bool(connection.execute(sql, (*row[2:], *row[:2])))

    def portions(self, rows: Sequence[Sequence[Any]]) -> Iterator[Sequence[Sequence[Any]]]:
        """Give as many at once as fit the server's `max_allowed_packet` when quoting doubles them."""
        some: list[Sequence[Any]] = []
        size = 0
        for row in rows:
            one = _quoted_size(row)
            if some and size + one > self._largest:
                yield some
                some, size = [], 0
            some.append(row)
            size += one
        yield some

    def create_table(self, layout: DocumentLayout) -> list[str]:
        """Give the statement that makes the table of a collection, with its indexes."""
        columns = layout.columns.values()
        parts = [
            self.columns,
            f"layout_{layout.number} INTEGER",
            *(self._column(column) for column in columns),
            "PRIMARY KEY (`partition`, `key`)",
            "INDEX expires (expires)",
            *(self._index(column) for column in columns),
        ]
        return [
            f"CREATE TABLE {self.quoted(table_of(layout.name))} ({', '.join(parts)}) ENGINE=InnoDB ROW_FORMAT=DYNAMIC"
        ]

    def change_table(self, layout: DocumentLayout, old: DocumentLayout) -> list[str]:
        """Give the one statement that brings a table from an old layout to another."""
        parts = [f"RENAME COLUMN layout_{old.number} TO layout_{layout.number}"]
        for fields, column in layout.columns.items():
            if fields not in old.columns:
                parts += [f"ADD COLUMN ({self._column(column)})", f"ADD {self._index(column)}"]
        return [f"ALTER TABLE {self.quoted(table_of(layout.name))} {', '.join(parts)}"]

    def create_index(self, layout: DocumentLayout, column: str) -> str:
        """Give the statement that makes one index."""
        return f"ALTER TABLE {self.quoted(table_of(layout.name))} ADD {self._index(column)}"

    def _column(self, column: str) -> str:
        return f"{column} VARBINARY(512), {rest_of(column)} LONGBLOB"

    def _index(self, column: str) -> str:
        return f"INDEX {column} ({column}, `partition`, `key`)"


def _quoted_size(row: Sequence[Any]) -> int:
    """Give the bytes that a row may need in a statement, where a character of ASCII needs two at most."""
    size = 1024
    for value in row:
        if isinstance(value, str):
            size += len(value) * (2 if value.isascii() else 4)
        else:
            size += 2 * len(value) if isinstance(value, bytes) else 20
    return size


def table_of(name: str) -> str:
    """Give the name of a collection's table: the collection's, or a digest where that would be no good one."""
    if not _PLAIN.fullmatch(name):
        name = f"#{blake2b(name.encode(), digest_size=16).hexdigest()}"
    return f"portable_collection_{name}"


def rest_of(column: str) -> str:
    """Give the column of what is left of the long keys of an index."""
    return column.replace("index_", "rest_")
