"""Collections in Firestore.

Each index is one field of the documents, whose bytes sort as the index does: Firestore indexes every field by itself,
so that no composite index has to be made, and the order of mixed types is the neutral one.
https://cloud.google.com/firestore/docs/reference/rpc/google.firestore.v1
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import Any, TypeVar

import grpc
import msgspec
from google.api_core import exceptions as theirs
from google.cloud.firestore_v1 import types

from portable.backoff import Backoff, ChangedError, until_unchanged
from portable.bindings import Binding
from portable.capabilities import CollectionCapabilities
from portable.changes import Change
from portable.contracts import CollectionContract
from portable.document_layout import DocumentLayout, dump_indexes, load_indexes
from portable.document_places import count_alive, place_ranges
from portable.document_writes import DocumentId, Modify, Remove, Save, Stored, Verify, Write, outcome, refused
from portable.errors import LimitExceeded, PortableError, ResourceNotFound
from portable.query_plan import Plan, SortPosition
from portable_gcp.errors import FAILURES, translated, translating
from portable_gcp.firestore_calls import CONFLICTS, Calls, at
from portable_gcp.firestore_documents import (
    LAYOUT,
    ORDER,
    column,
    document_id,
    fields_of,
    layout_of,
    revision_of,
    stored,
)
from portable_gcp.options import FirestoreOptions

__all__ = ["FirestoreCollection"]

T = TypeVar("T")

LAYOUTS = "portable-collections"
"""The collection that holds what is known of the others."""

LARGEST = 1_000_000
"""Bytes of a document as JSON: Firestore's 1 MiB has to hold the keys of the indexes, too."""

PAGE = 300
SHORTEST_ATTEMPT = 1.0
"""Seconds."""

_UNDONE = {grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], grpc.StatusCode.ABORTED.value[0]}
"""With these the service says of a write that it has not done it, and might next time."""

FILL_WITHIN = 24 * 3600.0


class FirestoreCollection:
    """Satisfies `portable.drivers.CollectionDriver`."""

    Options = FirestoreOptions
    capabilities = CollectionCapabilities(
        durability="power",
        wide_transactions=True,
        big_int=True,
        query_consistency=True,
        max_document_bytes=LARGEST,
        max_batch=500,
    )

    def __init__(self, binding: Binding[FirestoreOptions]) -> None:
        contract: Any = binding.contract
        self._contract: CollectionContract = contract
        self._binding = binding
        self._name = binding.name
        self._now = binding.clock
        self._usual = float(contract.timeout)
        self._calls = Calls(binding)
        self._layout: DocumentLayout | None = None
        self._wanted = DocumentLayout(self._name, contract.key, contract.partition, contract.ttl)

    @property
    def native(self) -> Any:
        """The vendor's generated client."""
        return self._calls.client

    def open(self) -> None:
        """Connect, and find the collection's layout, or make it where the binding says so."""
        changes = self.plan()
        if changes and self._binding.create:
            self.create()
        elif changes:
            raise ResourceNotFound(
                f"the database has no {changes[0].what} {changes[0].name!r} {changes[0].detail}".rstrip()
                + "; make it with `portable resources create`"
            )

    def close(self) -> None:
        """Let go of the connection."""
        self._calls.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Read the layout; with `write`, write it as it is."""
        with translating():
            found = self._calls.read([self._place], timeout=timeout)
            if write and self._layout is not None:
                self._calls.commit([self._layout_write(self._layout)], timeout=timeout, again=True)
        if not found:
            raise ResourceNotFound(f"there is no collection {self._name!r}; make it with `portable resources create`")

    def plan(self) -> list[Change]:
        """Say what would be made."""
        old = self._read_layout()
        wanted = (old or self._wanted).wanted(self._contract)
        self._layout = wanted
        return [] if old is not None and wanted == old and old.complete else wanted.changes(old)

    def create(self) -> None:
        """Write the layout down, and then fill in what documents lack; in that order, so that none stays without."""
        old = self._read_layout()
        wanted = (old or self._wanted).wanted(self._contract)
        if old is None:
            # A new collection has nothing to fill in.
            wanted = msgspec.structs.replace(wanted, filled=len(wanted.indexes), timed=True)
        self._layout = wanted
        if wanted == old and wanted.complete:
            return
        with translating():
            self._calls.commit([self._layout_write(wanted)], timeout=self._usual, again=True)
            if not wanted.complete:
                self._fill(wanted, FILL_WITHIN)
                self._layout = msgspec.structs.replace(wanted, filled=len(wanted.indexes), timed=True)
                self._calls.commit([self._layout_write(self._layout)], timeout=self._usual, again=True)

    def get(self, id_: DocumentId, *, timeout: float) -> Stored | None:
        """Give one document."""
        return self.get_many([id_], timeout=timeout)[0]

    def get_many(self, ids: Sequence[DocumentId], *, timeout: float) -> list[Stored | None]:
        """Give documents, in the order of their ids."""
        names = [self._document(id_) for id_ in ids]
        with translating():
            found = self._calls.read(list(dict.fromkeys(names)), timeout=timeout)
        now = self._now()
        return [stored(found[name], now) if name in found else None for name in names]

    def write(self, write: Save | Modify | Remove, *, timeout: float) -> Stored | None:
        """Carry out one write: at once where Firestore's own conditions say all, else between a read and a commit."""
        return self._repeated(
            lambda left: self._straight(write, left) if self._is_plain(write) else self._over(write, left), timeout
        )

    def write_many(
        self, writes: Sequence[Save | Modify | Remove], *, timeout: float
    ) -> list[Stored | PortableError | None]:
        """Carry out writes, each for itself: those without conditions together."""
        results: list[Stored | PortableError | None] = [None] * len(writes)
        deadline = monotonic() + timeout
        waiting: dict[DocumentId, int] = {}

        def flush() -> None:
            indexes = list(waiting.values())
            waiting.clear()
            if indexes:
                self._together(writes, indexes, results, max(0.001, deadline - monotonic()))

        for index, write in enumerate(writes):
            if write.id in waiting:
                flush()
            if self._is_free(write):
                waiting[write.id] = index
                continue
            try:
                results[index] = self.write(write, timeout=max(0.001, deadline - monotonic()))
            except PortableError as error:
                results[index] = error
        flush()
        return results

    def transact(self, writes: Sequence[Write], *, timeout: float) -> None:
        """Carry out all writes, or none: read, and commit on condition that nothing of it has changed.

        Firestore's own transactions lock what they read, and whoever meets a lock waits for seconds.
        """
        self._repeated(lambda left: self._attempt(writes, left), timeout)

    def query(self, plan: Plan, *, after: SortPosition | None, limit: int, timeout: float) -> list[Stored]:
        """Give the next documents of a plan."""
        found: list[Stored] = []
        deadline = monotonic() + timeout
        self._heal(plan, timeout)
        for start, stop in place_ranges(plan, after):
            low, high = start, stop
            while len(found) < limit and low < high:
                wanted = limit - len(found)
                with translating():
                    page = list(
                        self._calls.between(
                            self._name,
                            self._field(plan),
                            low,
                            high,
                            descending=plan.descending,
                            limit=wanted,
                            timeout=max(0.001, deadline - monotonic()),
                        )
                    )
                now = self._now()
                found += [one for document in page if (one := stored(document, now)) is not None]
                if len(page) < wanted:
                    break
                # Some had expired: go on behind the last one.
                last = page[-1].fields[self._field(plan)].bytes_value
                low, high = (low, last) if plan.descending else (last + b"\0", high)
        return found

    def count(self, plan: Plan, *, timeout: float) -> int:
        """Count the documents of a plan; where documents expire, by looking at each."""
        if self._contract.ttl is not None:
            return count_alive(lambda after, most: self.query(plan, after=after, limit=most, timeout=timeout), plan)
        self._heal(plan, timeout)
        with translating():
            return sum(
                self._calls.count(self._name, self._field(plan), low, high, timeout=timeout)
                for low, high in place_ranges(plan, None)
            )

    def _straight(self, write: Save | Modify | Remove, timeout: float) -> Stored | None:
        try:
            (time,) = self._calls.commit([self._made(write)], timeout=timeout, again=self._is_free(write)) or [None]
        except CONFLICTS as error:
            if isinstance(error, theirs.Aborted):
                raise
            current = self.get(write.id, timeout=timeout)
            raise refused(write, found=None if current is None else current.revision) from error
        return Stored(write.id, write.data, revision_of(time)) if isinstance(write, Save) else None

    def _over(self, write: Save | Modify | Remove, timeout: float) -> Stored | None:
        name = self._document(write.id)
        document = self._calls.read([name], timeout=timeout).get(name)
        current = None if document is None else stored(document, self._now())
        save = outcome(write, current)
        condition: Any = {"exists": False} if document is None else {"update_time": document.update_time}
        if save is None:
            if document is not None:
                self._calls.commit([types.Write(delete=name, current_document=condition)], timeout=timeout)
            return None
        (time,) = self._calls.commit([self._update(save, condition)], timeout=timeout)
        return Stored(save.id, save.data, revision_of(time))

    def _attempt(self, writes: Sequence[Write], timeout: float) -> None:
        names = {write.id: self._document(write.id) for write in writes}
        found = self._calls.read(list(names.values()), timeout=timeout)
        now = self._now()
        made: list[types.Write] = []
        for write in writes:
            name, document = names[write.id], found.get(names[write.id])
            save = outcome(write, None if document is None else stored(document, now))
            condition: Any = {"exists": False} if document is None else {"update_time": document.update_time}
            if save is not None:
                made.append(self._update(save, condition))
            elif document is None or not isinstance(write, Verify):
                made.append(types.Write(delete=name, current_document=condition))
            else:
                # An update of no field: the condition is all there is to it.
                nothing = types.DocumentMask(field_paths=[])
                same = types.Document(name=name)
                made.append(types.Write(update=same, update_mask=nothing, current_document=condition))
        self._calls.commit(made, timeout=timeout)

    def _repeated(self, attempt: Callable[[float], T], timeout: float) -> T:
        def once(left: float) -> T:
            try:
                return attempt(left)
            except CONFLICTS as error:
                raise ChangedError from error

        with translating():
            return until_unchanged(once, timeout)

    def _together(
        self,
        writes: Sequence[Save | Modify | Remove],
        indexes: Sequence[int],
        results: list[Stored | PortableError | None],
        timeout: float,
    ) -> None:
        made: list[types.Write] = []
        sent: list[int] = []
        for index in indexes:
            try:
                made.append(self._made(writes[index]))
            except LimitExceeded as error:
                results[index] = error
            else:
                sent.append(index)
        if not sent:
            return
        backoff = Backoff(timeout, "")
        while sent:
            try:
                answers = self._calls.write_apart(made, timeout=backoff.left())
            except FAILURES as error:
                failure = translated(error)
                for index in sent:
                    results[index] = failure
                return
            again: list[tuple[int, types.Write]] = []
            for index, one, (code, time) in zip(sent, made, answers, strict=True):
                results[index] = _answer(writes[index], code, time)
                if code in _UNDONE:
                    again.append((index, one))
            if again and not _rested(backoff):
                return
            sent, made = [index for index, _ in again], [one for _, one in again]

    def _heal(self, plan: Plan, timeout: float) -> None:
        """See to documents that a process wrote which does not know of the index yet; mostly there are none."""
        layout = self._layout
        if plan.index and layout is not None and layout.number > 1:
            with translating():
                self._fill(layout, timeout)

    def _is_free(self, write: Save | Modify | Remove) -> bool:
        """Whether a write has no conditions, so that repeating it does no harm."""
        return write.revision is None and (
            isinstance(write, Remove) or (isinstance(write, Save) and write.exists is None)
        )

    def _is_plain(self, write: Save | Modify | Remove) -> bool:
        """Whether Firestore's own conditions say all; they take what has expired for something that is there."""
        return not isinstance(write, Modify) and (self._is_free(write) or self._contract.ttl is None)

    def _made(self, write: Save | Modify | Remove) -> types.Write:
        condition: Any = None
        if write.revision is not None:
            try:
                condition = {"update_time": at(write.revision)}
            except ValueError:
                raise refused(write, found=None) from None
        elif isinstance(write, Save) and write.exists is not None:
            condition = {"exists": write.exists}
        if isinstance(write, Save):
            return self._update(write, condition)
        made = types.Write(delete=self._document(write.id))
        if condition is not None:
            made.current_document = condition
        return made

    def _update(self, save: Save, condition: Any) -> types.Write:
        layout = self._layout or self._wanted
        made = types.Write(update=types.Document(name=self._document(save.id), fields=fields_of(save, layout)))
        if condition is not None:
            made.current_document = condition
        return made

    def _document(self, id_: DocumentId) -> str:
        return self._calls.name(self._name, document_id(id_))

    def _field(self, plan: Plan) -> str:
        return column(plan.index) if plan.index else ORDER

    @property
    def _place(self) -> str:
        return self._calls.name(LAYOUTS, document_id(("", self._name)))

    def _read_layout(self) -> DocumentLayout | None:
        with translating():
            document = self._calls.read([self._place], timeout=self._usual).get(self._place)
        if document is None:
            return None
        fields = document.fields
        return DocumentLayout(
            name=self._name,
            key=fields["key"].string_value,
            partition=fields["partition"].string_value if "partition" in fields else None,
            ttl=fields["ttl"].string_value if "ttl" in fields else None,
            number=fields["number"].integer_value,
            filled=fields["filled"].integer_value,
            timed=fields["timed"].boolean_value,
            indexes=load_indexes(fields["indexes"].string_value),
        )

    def _layout_write(self, layout: DocumentLayout) -> types.Write:
        made: dict[str, Any] = {
            "key": {"string_value": layout.key},
            "number": {"integer_value": layout.number},
            "filled": {"integer_value": layout.filled},
            "timed": {"boolean_value": layout.timed},
            "indexes": {"string_value": dump_indexes(layout.indexes)},
        }
        for name, value in (("partition", layout.partition), ("ttl", layout.ttl)):
            if value is not None:
                made[name] = {"string_value": value}
        values = {name: types.Value(value) for name, value in made.items()}
        return types.Write(update=types.Document(name=self._place, fields=values))

    def _fill(self, layout: DocumentLayout, timeout: float) -> None:
        """Write anew, in pages, what was written under an older layout, by releases that are still about, too."""
        deadline = monotonic() + timeout
        while True:
            left = max(0.001, deadline - monotonic())
            below = layout_of(layout.number)
            older = list(
                self._calls.between(self._name, LAYOUT, b"", below, descending=False, limit=PAGE, timeout=left)
            )
            if not older:
                return
            for document in older:
                self._refill(document, layout, max(0.001, deadline - monotonic()))

    def _refill(self, document: types.Document, layout: DocumentLayout, timeout: float) -> None:
        from portable.document_values import expiry  # noqa: PLC0415 (an index is rarely added)

        found = stored(document, 0.0)
        if found is None:
            return
        expires = None if layout.ttl is None else expiry(found.data, layout.ttl)
        save = Save(found.id, found.data, expires=expires)
        try:
            self._calls.commit([self._update(save, {"update_time": document.update_time})], timeout=timeout)
        except CONFLICTS:
            # It was written meanwhile: if under an older layout once more, it is found once more.
            return


def _answer(write: Save | Modify | Remove, code: int, time: Any) -> Stored | PortableError | None:
    """Give what became of one write of a batch."""
    if code:
        return translated(theirs.from_grpc_status(code, "one write of a batch"))
    return Stored(write.id, write.data, revision_of(time)) if isinstance(write, Save) else None


def _rested(backoff: Backoff) -> bool:
    """Wait a little; say whether there is time for another attempt, which without any would end nobody knows how."""
    if backoff.left() < SHORTEST_ATTEMPT:
        return False
    backoff.rest()
    return True
