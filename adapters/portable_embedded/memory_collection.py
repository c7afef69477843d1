"""Collections in the memory of this process."""

from __future__ import annotations

import heapq
import itertools
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from portable import document_json
from portable.bindings import Binding
from portable.capabilities import CollectionCapabilities
from portable.changes import Change
from portable.contracts import CollectionContract
from portable.document_order import index_key, place, spans
from portable.document_writes import DocumentId, Modify, Remove, Save, Stored, Verify, Write, outcome
from portable.drivers import Options
from portable.errors import ConfigError, PortableError
from portable.query_plan import Plan, SortPosition, index_fields
from portable_embedded.memory import Space, space

__all__ = ["MemoryCollection", "MemoryCollectionOptions"]

Fields = tuple[tuple[str, ...], ...]

# Purging goes in small steps, so that no single write pays for all.
PURGED_AT_ONCE = 16


class MemoryCollectionOptions(Options, frozen=True, kw_only=True):
    """`memory:` keeps a collection as long as its cloud is open; `memory:NAME` one that all clouds of a process share.

    There are no options.
    """


class Entry(msgspec.Struct, frozen=True):
    """One document.

    Attributes:
        json: its data.
        revision: another one after every write.
        expires: by the wall clock, in seconds; None for never.
        keys: its key in each index, None where it is in none.
    """

    json: str
    revision: str
    expires: float | None
    keys: dict[Fields, bytes | None]


class Table:
    """One collection: its documents, their keys in order, and its indexes, which are kept as long as it is."""

    def __init__(self, space: Space, layout: tuple[str, str | None]) -> None:
        self.space = space
        self.layout = layout
        self.documents: dict[DocumentId, Entry] = {}
        self.ids: list[DocumentId] = []
        self.indexes: dict[Fields, list[tuple[bytes, DocumentId]]] = {}
        self._expiring: list[tuple[float, DocumentId]] = []
        self._revisions = itertools.count(1)

    def add_index(self, fields: Fields) -> None:
        """Index the documents that are there, and all that come."""
        entries = []
        for id_, entry in self.documents.items():
            key = index_key(document_json.load(entry.json), fields)
            entry.keys[fields] = key
            if key is not None:
                entries.append((key, id_))
        self.indexes[fields] = sorted(entries)

    def stored(self, id_: DocumentId, now: float) -> Stored | None:
        """Give a document, unless it expired."""
        entry = self.documents.get(id_)
        if entry is None or (entry.expires is not None and entry.expires <= now):
            return None
        return Stored(id_, document_json.load(entry.json), entry.revision)

    def is_there(self, id_: DocumentId, now: float) -> bool:
        """Whether a document is there and not expired."""
        expires = self.documents[id_].expires
        return expires is None or expires > now

    def save(self, save: Save) -> Stored:
        """Store a whole document, whatever was there."""
        revision = str(next(self._revisions))
        expires = None if save.expires is None else save.expires.timestamp()
        keys = {fields: index_key(save.data, fields) for fields in self.indexes}
        entry = Entry(save.json(), revision, expires, keys)
        old = self.documents.get(save.id)
        if old is None:
            insort(self.ids, save.id)
        else:
            self._unindex(save.id, old)
        self.documents[save.id] = entry
        for fields, key in keys.items():
            if key is not None:
                insort(self.indexes[fields], (key, save.id))
        if expires is not None:
            heapq.heappush(self._expiring, (expires, save.id))
        return Stored(save.id, save.data, revision)

    def remove(self, id_: DocumentId) -> None:
        """Remove a document, if there is one."""
        entry = self.documents.pop(id_, None)
        if entry is not None:
            del self.ids[bisect_left(self.ids, id_)]
            self._unindex(id_, entry)

    def purge(self, now: float) -> None:
        """Remove a few expired documents for good."""
        for _ in range(PURGED_AT_ONCE):
            if not self._expiring or self._expiring[0][0] > now:
                return
            expires, id_ = heapq.heappop(self._expiring)
            entry = self.documents.get(id_)
            if entry is not None and entry.expires == expires:
                self.remove(id_)

    def _unindex(self, id_: DocumentId, entry: Entry) -> None:
        for fields, key in entry.keys.items():
            if key is not None:
                index = self.indexes[fields]
                del index[bisect_left(index, (key, id_))]

    def ids_of(self, plan: Plan, after: SortPosition | None) -> Iterator[DocumentId]:
        """Give the ids of a plan in its order, expired ones included."""
        if plan.index:
            key: Any = None if after is None else (place(plan, after.value), after.id)
            bounds: list[tuple[Any, Any]] = [((low,), (high,)) for low, high in spans(plan)]
            entries: list[Any] = self.indexes[plan.index]
        else:
            key = None if after is None else after.id
            bounds = _id_bounds(plan)
            entries = self.ids
        for low, high in reversed(bounds) if plan.descending else bounds:
            start, stop = bisect_left(entries, low), bisect_left(entries, high)
            if key is not None and plan.descending:
                stop = min(stop, bisect_left(entries, key))
            elif key is not None:
                start = max(start, bisect_right(entries, key))
            for i in range(stop - 1, start - 1, -1) if plan.descending else range(start, stop):
                yield entries[i][1] if plan.index else entries[i]


def _id_bounds(plan: Plan) -> list[tuple[Any, Any]]:
    partition = plan.partition
    if partition is None:
        return [((), (chr(0x10FFFF) * 1025,))]
    # The smallest text above another is that text and a NUL.
    if not plan.ranges:
        return [((partition,), (partition + "\0",))]
    return [
        (
            (partition, one.low[0] + ("" if one.low_closed else "\0")) if one.low else (partition,),
            (partition, one.high[0] + ("\0" if one.high_closed else "")) if one.high else (partition + "\0",),
        )
        for one in plan.ranges
    ]


class MemoryCollection:
    """The driver of `memory:` collections."""

    Options = MemoryCollectionOptions
    capabilities = CollectionCapabilities(
        durability="none", wide_transactions=True, big_int=True, query_consistency=True, max_batch=1000
    )
    blocking = False

    def __init__(self, binding: Binding[MemoryCollectionOptions]) -> None:
        self._binding = binding
        self._contract: CollectionContract = binding.contract  # type: ignore[assignment]  # of this kind
        self._now = binding.clock
        self._space: Space
        self._table: Table

    @property
    def native(self) -> Any:
        """There is no vendor's client; this is the table itself."""
        return self._table

    def open(self) -> None:
        """Take the collection from its space, making it or its indexes where they are missing."""
        self._space = space(self._binding)
        self.create()

    def close(self) -> None:
        """Leave it to its space."""

    def check(self, *, write: bool, timeout: float) -> None:
        """Memory is always there."""

    def plan(self) -> list[Change]:
        """Nothing: what is missing is made on first use."""
        return []

    def create(self) -> None:
        """Make what is missing."""
        layout = (self._contract.key, self._contract.partition)
        here = self._space
        with here.lock:
            table = here.get(("collection", self._binding.name), lambda: Table(here, layout))
            if table.layout != layout:
                raise ConfigError(
                    f"the collection {self._binding.name!r} was made with key = {table.layout[0]!r} and partition = "
                    f"{table.layout[1]!r}, which cannot be changed; give it another name"
                )
            for fields in index_fields(self._contract):
                if fields not in table.indexes:
                    table.add_index(fields)
        self._table = table

    def get(self, id_: DocumentId, *, timeout: float) -> Stored | None:  # noqa: ARG002 (it never waits)
        """Give one document."""
        with self._space.lock:
            return self._table.stored(id_, self._now())

    def get_many(self, ids: Sequence[DocumentId], *, timeout: float) -> list[Stored | None]:  # noqa: ARG002 (it never waits)
        """Give some documents."""
        now = self._now()
        with self._space.lock:
            return [self._table.stored(id_, now) for id_ in ids]

    def write(self, write: Save | Modify | Remove, *, timeout: float) -> Stored | None:  # noqa: ARG002 (it never waits)
        """Carry out one write."""
        now = self._now()
        with self._space.lock:
            self._table.purge(now)
            return self._apply(write, outcome(write, self._table.stored(write.id, now)))

    def write_many(
        self, writes: Sequence[Save | Modify | Remove], *, timeout: float
    ) -> list[Stored | PortableError | None]:
        """Carry out writes, each for itself."""
        results: list[Stored | PortableError | None] = []
        for write in writes:
            try:
                results.append(self.write(write, timeout=timeout))
            except PortableError as error:
                results.append(error)
        return results

    def transact(self, writes: Sequence[Write], *, timeout: float) -> None:  # noqa: ARG002 (it never waits)
        """Carry out all writes, or none."""
        now = self._now()
        with self._space.lock:
            ready = [(write, outcome(write, self._table.stored(write.id, now))) for write in writes]
            for write, save in ready:
                self._apply(write, save)

    def _apply(self, write: Write, save: Save | None) -> Stored | None:
        if save is not None:
            return self._table.save(save)
        if not isinstance(write, Verify):
            self._table.remove(write.id)
        return None

    def query(self, plan: Plan, *, after: SortPosition | None, limit: int, timeout: float) -> list[Stored]:  # noqa: ARG002 (it never waits)
        """Give the next documents of a plan."""
        now = self._now()
        with self._space.lock:
            found = (self._table.stored(id_, now) for id_ in self._table.ids_of(plan, after))
            return list(itertools.islice((one for one in found if one is not None), limit))

    def count(self, plan: Plan, *, timeout: float) -> int:  # noqa: ARG002 (it never waits)
        """Count the documents of a plan."""
        now = self._now()
        with self._space.lock:
            return sum(self._table.is_there(id_, now) for id_ in self._table.ids_of(plan, None))
