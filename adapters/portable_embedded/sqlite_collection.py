"""Collections in an SQLite file, for any number of processes. The tables: `docs/wire-formats/collection.md`."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from portable import document_json
from portable.bindings import Binding
from portable.capabilities import CollectionCapabilities
from portable.changes import Change
from portable.contracts import CollectionContract
from portable.document_order import index_key
from portable.document_ranges import Range, index_bounds, key_ranges
from portable.document_values import expiry, milliseconds
from portable.document_writes import DocumentId, Modify, Remove, Save, Stored, Verify, Write, outcome, refused
from portable.drivers import Options
from portable.errors import PortableError, ResourceNotFound
from portable.query_plan import Plan, SortPosition, index_fields
from portable_embedded import collection_layout
from portable_embedded.collection_layout import Layout
from portable_embedded.store import Durability, Store

__all__ = ["SqliteCollection", "SqliteCollectionOptions"]

T = TypeVar("T")

PURGE_EVERY = 64
PURGED_AT_ONCE = 256
FILLED_AT_ONCE = 2000


class SqliteCollectionOptions(Options, frozen=True, kw_only=True):
    """`sqlite:PATH?durability=process`: a collection in the SQLite file at PATH, which resources of any kind share.

    Attributes:
        durability: `power`: a write is on the disk when it returns; `process`: it outlives the process, not a power
            cut, and is much faster.
    """

    durability: Durability = "power"


class SqliteCollection:
    """The driver of `sqlite:` collections."""

    Options = SqliteCollectionOptions

    def __init__(self, binding: Binding[SqliteCollectionOptions]) -> None:
        self._binding = binding
        self._contract: CollectionContract = binding.contract  # type: ignore[assignment]  # of this kind
        self._clock = binding.clock
        self._path = Path(binding.url.path)
        self._capabilities = CollectionCapabilities(
            durability=binding.options.durability,
            wide_transactions=True,
            big_int=True,
            query_consistency=True,
            max_batch=500,
        )
        self._store: Store
        self._layout: Layout
        self._is_open = False
        self._writes = 0

    @property
    def capabilities(self) -> CollectionCapabilities:
        """What it can do."""
        return self._capabilities

    @property
    def native(self) -> Any:
        """The store of the file."""
        return self._store

    # ------------------------------------------------------------------ the file and the table

    def open(self) -> None:
        """Open the file; where the binding says so make it and the collection."""
        store = self._open_store(create=self._binding.create)
        self._store = store
        try:
            if self._binding.create:
                self._layout = self._create(store)
            else:
                self._look()
        except BaseException:
            store.close()
            raise
        self._is_open = True

    def close(self) -> None:
        """Give the file back."""
        if self._is_open:
            self._is_open = False
            self._store.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Look at the collection; with `write`, write a row as it is."""
        store = self._open_store(create=False)
        try:
            found = store.read(
                lambda connection: collection_layout.read(connection, self._binding.name), timeout=timeout
            )
            if found is None:
                raise self._missing()
            if write:
                store.execute(
                    "UPDATE portable_collections SET layout = layout WHERE name = ?", (found.name,), timeout=timeout
                )
        finally:
            store.close()

    def plan(self) -> list[Change]:
        """Say what `create` would do."""
        try:
            store = self._open_store(create=False)
        except ResourceNotFound:
            return self._new().changes(None)
        try:
            found = store.read(lambda connection: collection_layout.read(connection, self._binding.name))
        finally:
            store.close()
        return self._new().changes(None) if found is None else found.wanted(self._contract).changes(found)

    def create(self) -> None:
        """Make the collection and its indexes where they are missing, and fill new indexes while others write."""
        store = self._open_store(create=True)
        try:
            self._create(store)
        finally:
            store.close()

    def _create(self, store: Store) -> Layout:
        layout = store.read(lambda connection: collection_layout.read(connection, self._binding.name))
        if layout is None or layout.wanted(self._contract) != layout:
            layout = store.write(self._make)
        return layout if layout.complete else self._fill(store, layout)

    def _open_store(self, *, create: bool) -> Store:
        return Store.open(
            self._path, durability=self._binding.options.durability, schema=collection_layout.SCHEMA, create=create
        )

    def _new(self) -> Layout:
        contract = self._contract
        indexes = tuple(index_fields(contract))
        # An empty table has every document in every index.
        return Layout(
            self._binding.name,
            contract.key,
            contract.partition,
            contract.ttl,
            filled=len(indexes),
            indexes=indexes,
        )

    def _make(self, connection: sqlite3.Connection) -> Layout:
        old = collection_layout.read(connection, self._binding.name)
        layout = self._new() if old is None else old.wanted(self._contract)
        if layout != old:
            layout.make(connection, old)
        return layout

    def _look(self) -> None:
        """Learn the layout that is there."""
        found = self._store.read(lambda connection: collection_layout.read(connection, self._binding.name))
        if found is None:
            raise self._missing()
        found.wanted(self._contract)
        if not found.serves(self._contract):
            raise ResourceNotFound(
                f"the collection {self._binding.name!r} has not all of its indexes; "
                "make them with `portable resources create`"
            )
        self._layout = found

    def _missing(self) -> ResourceNotFound:
        return ResourceNotFound(
            f"{self._path} has no collection {self._binding.name!r}; make it with `portable resources create`"
        )

    def _fill(self, store: Store, layout: Layout) -> Layout:
        """Put every document into every index. Whoever writes meanwhile keeps them already, so steps may be small."""
        columns = ", ".join(f"{column} = ?" for column in ("expires", *layout.columns.values()))
        select = f"SELECT number, data FROM {layout.table} WHERE number > ? ORDER BY number LIMIT {FILLED_AT_ONCE}"  # noqa: S608 (names of ours)
        update = f"UPDATE {layout.table} SET {columns} WHERE number = ?"  # noqa: S608 (names of ours)
        done = -(2**63)

        def step(connection: sqlite3.Connection) -> int | None:
            rows = connection.execute(select, (done,)).fetchall()
            for number, text in rows:
                data = document_json.load(text)
                expires = None if layout.ttl is None else expiry(data, layout.ttl)
                keys = [index_key(data, fields) for fields in layout.columns]
                connection.execute(update, (milliseconds(expires) if expires else None, *keys, number))
            if len(rows) == FILLED_AT_ONCE:
                return int(rows[-1][0])
            connection.execute(
                "UPDATE portable_collections SET filled = max(filled, ?), timed = timed OR layout = ? WHERE name = ?",
                (len(layout.indexes), layout.number, layout.name),
            )
            return None

        while (last := store.write(step)) is not None:
            done = last
        return msgspec.structs.replace(layout, filled=len(layout.indexes), timed=True)

    def _current(self, call: Callable[[Layout], T]) -> T:
        """Run a call with the layout as we know it, and again when it changed meanwhile."""
        while True:
            try:
                return call(self._layout)
            except sqlite3.OperationalError as error:
                text = str(error)
                if "no such table" in text:
                    raise self._missing() from error
                if f"layout_{self._layout.number}" not in text:
                    raise
            before = self._layout.number
            self._look()
            if self._layout.number == before:
                raise self._missing()

    def _now(self) -> int:
        return int(self._clock() * 1000)

    # ------------------------------------------------------------------ reading

    def get(self, id_: DocumentId, *, timeout: float) -> Stored | None:
        """Give one document."""
        rows = self._current(lambda layout: self._store.fetch(layout.select, id_, timeout=timeout))
        return self._stored(id_, rows[0]) if rows else None

    def get_many(self, ids: Sequence[DocumentId], *, timeout: float) -> list[Stored | None]:
        """Give some documents."""

        def look(layout: Layout) -> list[Any]:
            return self._store.read(
                lambda connection: [connection.execute(layout.select, id_).fetchone() for id_ in ids],
                timeout=timeout,
                snapshot=len(ids) > 1,
            )

        rows = self._current(look)
        return [None if row is None else self._stored(id_, row) for id_, row in zip(ids, rows, strict=True)]

    def _stored(self, id_: DocumentId, row: Sequence[Any]) -> Stored | None:
        revision, data, expires = row
        if expires is not None and expires <= self._now():
            return None
        return Stored(id_, document_json.load(data), str(revision))

    def query(self, plan: Plan, *, after: SortPosition | None, limit: int, timeout: float) -> list[Stored]:
        """Give the next documents of a plan."""
        now = self._now()
        found: list[Any] = []

        def look(layout: Layout) -> list[Any]:
            rows: list[Any] = []
            for where, parameters, order in _ranges(layout, plan, after):
                sql = (
                    f"SELECT partition, key, revision, data FROM {layout.table} "  # noqa: S608 (names of ours)
                    f"WHERE {where} AND (expires IS NULL OR expires > ?) ORDER BY {order} LIMIT ?"
                )
                rows += self._store.fetch(sql, (*parameters, now, limit - len(rows)), timeout=timeout)
                if len(rows) == limit:
                    break
            return rows

        found = self._current(look)
        every = document_json.load_all([row[3] for row in found])
        return [
            Stored((partition, key), data, str(revision))
            for (partition, key, revision, _), data in zip(found, every, strict=True)
        ]

    def count(self, plan: Plan, *, timeout: float) -> int:
        """Count the documents of a plan."""

        def look(layout: Layout) -> int:
            # Without expiring documents the index alone answers.
            alive, now = ("", ()) if layout.ttl is None else (" AND (expires IS NULL OR expires > ?)", (self._now(),))
            number = 0
            for where, parameters, _ in _ranges(layout, plan, None):
                sql = f"SELECT count(*) FROM {layout.table} WHERE {where}{alive}"  # noqa: S608 (names of ours)
                number += self._store.fetch(sql, (*parameters, *now), timeout=timeout)[0][0]
            return number

        return self._current(look)

    # ------------------------------------------------------------------ writing

    def write(self, write: Save | Modify | Remove, *, timeout: float) -> Stored | None:
        """Carry out one write."""
        now = self._now()
        if isinstance(write, Modify):
            result = self._current(
                lambda layout: self._store.write(
                    lambda connection: _apply(connection, layout, write, now), timeout=timeout
                )
            )
        else:
            result = self._current(lambda layout: self._write_one(layout, write, now, timeout))
        self._count_writes(1, timeout)
        return result

    def _write_one(self, layout: Layout, write: Save | Remove, now: int, timeout: float) -> Stored | None:
        sql, parameters, conditional, result = _statement(layout, write, now)
        rows = self._store.execute(sql, parameters, timeout=timeout)
        if conditional and not rows:
            found = self.get(write.id, timeout=timeout)
            raise refused(write, found=None if found is None else found.revision)
        return result

    def write_many(
        self, writes: Sequence[Save | Modify | Remove], *, timeout: float
    ) -> list[Stored | PortableError | None]:
        """Carry out writes, each for itself, in one transaction."""
        now = self._now()

        def work(connection: sqlite3.Connection, layout: Layout) -> list[Stored | PortableError | None]:
            results: list[Stored | PortableError | None] = []
            for write in writes:
                try:
                    results.append(_apply(connection, layout, write, now))
                except PortableError as error:
                    results.append(error)
            return results

        results = self._current(
            lambda layout: self._store.write(lambda connection: work(connection, layout), timeout=timeout)
        )
        self._count_writes(len(writes), timeout)
        return results

    def transact(self, writes: Sequence[Write], *, timeout: float) -> None:
        """Carry out all writes, or none."""
        now = self._now()

        def work(connection: sqlite3.Connection, layout: Layout) -> None:
            for write in writes:
                _apply(connection, layout, write, now)

        self._current(lambda layout: self._store.write(lambda connection: work(connection, layout), timeout=timeout))
        self._count_writes(len(writes), timeout)

    def _count_writes(self, number: int, timeout: float) -> None:
        """Purge now and then, so that no single write pays for all that expired."""
        if self._layout.ttl is None:
            return
        self._writes += number
        if self._writes >= PURGE_EVERY:
            self._writes = 0
            self._store.execute(self._layout.purge, (self._now(), PURGED_AT_ONCE), timeout=timeout)


def _apply(connection: sqlite3.Connection, layout: Layout, write: Write, now: int) -> Stored | None:
    """Carry out one write inside a transaction."""
    if isinstance(write, (Modify, Verify)):
        save = outcome(write, _found(connection, layout, write.id, now))
        if save is None:
            return None
        write = save
    sql, parameters, conditional, result = _statement(layout, write, now)
    rows = connection.execute(sql, parameters).fetchall()
    if conditional and not rows:
        found = _found(connection, layout, write.id, now)
        raise refused(write, found=None if found is None else found.revision)
    return result


def _found(connection: sqlite3.Connection, layout: Layout, id_: DocumentId, now: int) -> Stored | None:
    row = connection.execute(layout.select, id_).fetchone()
    if row is None or (row[2] is not None and row[2] <= now):
        return None
    return Stored(id_, document_json.load(row[1]), str(row[0]))


def _statement(layout: Layout, write: Save | Remove, now: int) -> tuple[str, tuple[Any, ...], bool, Stored | None]:
    """The statement of a write, its parameters, whether it must give a row, and what is stored then."""
    if isinstance(write, Remove):
        if write.revision is None:
            return layout.delete, write.id, False, None
        sql = f"{layout.delete} AND (expires IS NULL OR expires > ?) AND revision = ? RETURNING 1"
        return sql, (*write.id, now, _number(write.revision)), True, None
    # Random, so that no document has the revision of one that had its key before: 59 bits, 18 digits at most.
    revision = int.from_bytes(os.urandom(8)) >> 5
    expires = None if write.expires is None else milliseconds(write.expires)
    keys = [index_key(write.data, fields) for fields in layout.columns]
    values = (revision, expires, write.json(), *keys)
    result = Stored(write.id, write.data, str(revision))
    if write.revision is not None:
        sql = f"{layout.update} AND revision = ? RETURNING 1"
        return sql, (*values, *write.id, now, _number(write.revision)), True, result
    if write.exists is None:
        return layout.upsert, (*write.id, *values), False, result
    if write.exists:
        return f"{layout.update} RETURNING 1", (*values, *write.id, now), True, result
    return layout.insert, (*write.id, *values, now), True, result


def _number(revision: str) -> int:
    """The number of a revision; one that no document has for a text that is none of ours."""
    return int(revision) if revision.isdecimal() and len(revision) <= 18 else -1


def _ranges(layout: Layout, plan: Plan, after: SortPosition | None) -> Iterator[Range]:
    """The conditions, parameters and orders that give a plan's documents one after another."""
    if not plan.index:
        yield from key_ranges(plan, after, "partition", "key")
        return
    direction, beyond = (" DESC", "<") if plan.descending else ("", ">")
    column = layout.columns[plan.index]
    parameters: tuple[Any, ...]
    order = f"{column}{direction}, partition{direction}, key{direction}"
    for one in index_bounds(plan, after):
        where, parameters = f"{column} >= ? AND {column} < ?", (one.low, one.high)
        if one.point:
            where, parameters = f"{column} = ?", (one.low,)
        if one.after is not None and one.point:
            where, parameters = f"{where} AND (partition, key) {beyond} (?, ?)", (one.low, *one.after)
        elif one.after is not None:
            edge, bound = (f"{column} >= ?", one.low) if plan.descending else (f"{column} < ?", one.high)
            where = f"({column}, partition, key) {beyond} (?, ?, ?) AND {edge}"
            parameters = (one.high if plan.descending else one.low, *one.after, bound)
        yield where, parameters, order
