"""Collections in Cosmos DB (NoSQL): https://learn.microsoft.com/rest/api/cosmos-db."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
from azure.cosmos import exceptions

from portable.backoff import ChangedError, until_unchanged
from portable.bindings import Binding
from portable.capabilities import CollectionCapabilities
from portable.changes import Change
from portable.contracts import CollectionContract
from portable.document_layout import DocumentLayout
from portable.document_places import count_alive, place_ranges
from portable.document_values import expiry
from portable.document_writes import DocumentId, Modify, Remove, Save, Stored, Verify, Write, outcome
from portable.errors import LimitExceeded, PortableError, ResourceNotFound
from portable.query_plan import Plan, SortPosition
from portable_azure.cosmos_container import CONFLICTS, Container
from portable_azure.cosmos_documents import body_of, item_id, partition_of, stored
from portable_azure.errors import translating
from portable_azure.options import CosmosOptions

__all__ = ["CosmosCollection"]

T = TypeVar("T")

LARGEST = 1_900_000
"""Bytes of a document as JSON: Cosmos DB's 2 MB have to hold the keys of the indexes, too."""

TRANSACTION = 100
PAGE = 100
AT_ONCE = 16
FILL_WITHIN = 24 * 3600.0
_AT_THE_SAME_TIME = 449
_CONFLICTING = {404, 409, 412, _AT_THE_SAME_TIME}


class CosmosCollection:
    """Satisfies `portable.drivers.CollectionDriver`."""

    Options = CosmosOptions
    capabilities = CollectionCapabilities(
        durability="power", big_int=True, query_consistency=True, max_document_bytes=LARGEST, max_batch=100
    )

    def __init__(self, binding: Binding[CosmosOptions]) -> None:
        contract: Any = binding.contract
        self._contract: CollectionContract = contract
        self._binding = binding
        self._now = binding.clock
        self._container = Container(binding)
        self._first = DocumentLayout(binding.name, contract.key, contract.partition, contract.ttl)
        self._layout = self._first
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="portable-cosmos")

    @property
    def native(self) -> Any:
        """The vendor's client of the container."""
        return self._container.proxy

    def open(self) -> None:
        """Connect, and find the container, or make it where the binding says so."""
        with translating():
            self._container.inspect()
        changes = self.plan()
        if changes and self._binding.create:
            self.create()
        elif changes:
            raise ResourceNotFound(
                f"there is no {changes[0].what} {changes[0].name!r} {changes[0].detail}".rstrip()
                + "; make it with `portable resources create`"
            )

    def close(self) -> None:
        """Let go of the connections."""
        self._pool.shutdown()
        self._container.close()

    def check(self, *, write: bool, timeout: float) -> None:  # noqa: ARG002 (the client bounds its calls)
        """Read what is known of the container; with `write`, write it as it is."""
        with translating():
            found = self._container.layout()
            if found is not None and write:
                # Whoever comes between has written it, too.
                with contextlib.suppress(*CONFLICTS):
                    self._container.keep(found)
        if found is None:
            raise ResourceNotFound(
                f"there is no container {self._binding.name!r}; make it with `portable resources create`"
            )

    def plan(self) -> list[Change]:
        """Say what would be made."""
        with translating():
            old = self._container.layout()
        self._layout = (old or self._first).wanted(self._contract)
        return [] if old is not None and self._layout == old and old.complete else self._layout.changes(old)

    def create(self) -> None:
        """Make the container, write down what is known of it, and fill in what documents lack."""
        with translating():
            self._repeated(self._make, FILL_WITHIN)

    def get(self, id_: DocumentId, *, timeout: float) -> Stored | None:  # noqa: ARG002 (the client bounds its calls)
        """Give one document."""
        with translating():
            return stored(self._item(id_), self._now())

    def get_many(self, ids: Sequence[DocumentId], *, timeout: float) -> list[Stored | None]:
        """Give documents, in the order of their ids: read one by one, many at once."""
        return list(self._many(lambda id_: self.get(id_, timeout=timeout), ids))

    def write(self, write: Save | Modify | Remove, *, timeout: float) -> Stored | None:
        """Carry out one write: at once where it has no condition or makes something, else over the etag it has read."""
        with translating():
            return self._repeated(lambda: self._at_once(write) if _is_free(write) else self._over(write), timeout)

    def write_many(
        self, writes: Sequence[Save | Modify | Remove], *, timeout: float
    ) -> list[Stored | PortableError | None]:
        """Carry out writes, each for itself, many at once; those of one document in their order."""
        lanes: dict[DocumentId, list[int]] = {}
        for index, write in enumerate(writes):
            lanes.setdefault(write.id, []).append(index)
        results: list[Stored | PortableError | None] = [None] * len(writes)

        def carry_out(indexes: list[int]) -> None:
            for index in indexes:
                try:
                    results[index] = self.write(writes[index], timeout=timeout)
                except PortableError as error:
                    results[index] = error

        for _ in self._many(carry_out, list(lanes.values())):
            pass
        return results

    def transact(self, writes: Sequence[Write], *, timeout: float) -> None:
        """Carry out all writes, or none: read, and write on condition that nothing of it has changed."""
        with translating():
            self._repeated(lambda: self._attempt(writes), timeout)

    def query(self, plan: Plan, *, after: SortPosition | None, limit: int, timeout: float) -> list[Stored]:  # noqa: ARG002 (the client bounds its calls)
        """Give the next documents of a plan."""
        found: list[Stored] = []
        field = self._field(plan)
        partition = self._of_partition(plan)
        with translating():
            self._heal(plan)
            for start, stop in place_ranges(plan, after):
                low, high = start.hex(), stop.hex()
                while len(found) < limit and low < high:
                    wanted = limit - len(found)
                    page = self._container.between(
                        field, low, high, descending=plan.descending, limit=wanted, partition=partition
                    )
                    now = self._now()
                    found += [one for item in page if (one := stored(item, now)) is not None]
                    if len(page) < wanted:
                        break
                    # Some had expired: go on behind the last one.
                    last = page[-1][field]
                    low, high = (low, last) if plan.descending else (last + "00", high)
        return found

    def count(self, plan: Plan, *, timeout: float) -> int:
        """Count the documents of a plan; where documents expire, by looking at each."""
        if self._contract.ttl is not None:
            return count_alive(lambda after, most: self.query(plan, after=after, limit=most, timeout=timeout), plan)
        with translating():
            self._heal(plan)
            return sum(
                self._container.count(self._field(plan), low.hex(), high.hex(), partition=self._of_partition(plan))
                for low, high in place_ranges(plan, None)
            )

    def _make(self) -> None:
        old = self._container.layout()
        wanted = (old or self._first).wanted(self._contract)
        complete = msgspec.structs.replace(wanted, filled=len(wanted.indexes), timed=True)
        if old is None:
            # A new container has nothing to fill in, and nobody writes to it under an older layout.
            complete = msgspec.structs.replace(complete, number=1)
            self._container.make()
        self._layout = complete
        if complete == old:
            return
        try:
            if old is not None:
                self._container.keep(wanted)
                self._fill()
            self._container.keep(complete)
        except CONFLICTS as error:
            raise ChangedError from error

    def _at_once(self, write: Save | Modify | Remove) -> Stored | None:
        if not isinstance(write, Save):
            self._container.remove(item_id(write.id[1]), partition_of(write.id), None)
            return None
        body = body_of(write, self._layout, self._now())
        self._container.put(body)
        return Stored(write.id, write.data, body["revision"])

    def _new(self, save: Save) -> Stored | None:
        """Store what may not be there; None where something is, which can have expired."""
        body = body_of(save, self._layout, self._now())
        try:
            self._container.put_over(body, None)
        except exceptions.CosmosResourceExistsError:
            return None
        return Stored(save.id, save.data, body["revision"])

    def _over(self, write: Save | Modify | Remove) -> Stored | None:
        if isinstance(write, Save) and write.exists is False:
            made = self._new(write)
            if made is not None:
                return made
        item = self._item(write.id)
        save = outcome(write, stored(item, self._now()))
        try:
            if save is not None:
                body = body_of(save, self._layout, self._now())
                self._container.put_over(body, None if item is None else item["_etag"])
                return Stored(save.id, save.data, body["revision"])
            if item is not None:
                self._container.remove(item["id"], item["pk"], item["_etag"])
        except CONFLICTS as error:
            if item is None and isinstance(error, exceptions.CosmosResourceNotFoundError):
                # It is the container that is not there.
                raise
            raise ChangedError from error
        return None

    def _attempt(self, writes: Sequence[Write]) -> None:
        items = list(self._many(self._item, [write.id for write in writes]))
        now = self._now()
        operations: list[tuple[Any, ...]] = []
        for write, item in zip(writes, items, strict=True):
            save = outcome(write, stored(item, now))
            over = {} if item is None else {"if_match_etag": item["_etag"]}
            if save is not None:
                body = body_of(save, self._layout, now)
                operations.append(("create", (body,)) if item is None else ("replace", (body["id"], body), over))
            elif item is not None and isinstance(write, Verify):
                # There is no check: the same item is written over its etag.
                same = {name: value for name, value in item.items() if not name.startswith("_")}
                operations.append(("replace", (item["id"], same), over))
            elif item is not None:
                operations.append(("delete", (item["id"],), over))
            elif isinstance(write, Verify):
                # That nothing is there: making it would fail otherwise.
                none = body_of(Save(write.id, {}), self._layout, now)
                operations += [("create", (none,)), ("delete", (none["id"],))]
        if not operations:
            return
        if len(operations) > TRANSACTION:
            raise LimitExceeded(
                f"a transaction of Cosmos DB holds {TRANSACTION} operations at most, not {len(operations)}: "
                "a check that nothing is there makes two"
            )
        try:
            self._container.together(operations, partition_of(writes[0].id))
        except exceptions.CosmosBatchOperationError as error:
            if error.status_code in _CONFLICTING:
                raise ChangedError from error
            raise

    def _repeated(self, attempt: Callable[[], T], timeout: float) -> T:
        def once(_: float) -> T:
            try:
                return attempt()
            except exceptions.CosmosHttpResponseError as error:
                if error.status_code == _AT_THE_SAME_TIME:
                    raise ChangedError from error
                raise

        return until_unchanged(once, timeout)

    def _many(self, call: Callable[[Any], T], items: Sequence[Any]) -> Iterator[T]:
        return map(call, items) if len(items) <= 1 else self._pool.map(call, items)

    def _item(self, id_: DocumentId) -> dict[str, Any] | None:
        return self._container.read(item_id(id_[1]), partition_of(id_))

    def _field(self, plan: Plan) -> str:
        return self._layout.columns[plan.index] if plan.index else "order"

    def _of_partition(self, plan: Plan) -> str | None:
        if self._contract.partition is None:
            return partition_of(("", ""))
        return None if plan.index or plan.partition is None else partition_of((plan.partition, ""))

    def _heal(self, plan: Plan) -> None:
        """See to documents that a process wrote which does not know of the index yet; mostly there are none."""
        if plan.index and self._layout.number > 1:
            self._fill()

    def _fill(self) -> None:
        """Write anew, in pages, what was written under an older layout, by releases that are still about, too."""
        layout = self._layout
        while older := self._container.between(
            "layout", 0, layout.number, descending=False, limit=PAGE, partition=None
        ):
            for item in older:
                found = stored(item, 0.0)
                if found is None:
                    continue
                expires = None if layout.ttl is None else expiry(found.data, layout.ttl)
                # The document is the same, and whoever holds its revision goes on.
                body = body_of(Save(found.id, found.data, expires=expires), layout, self._now(), found.revision)
                try:
                    self._container.put_over(body, item["_etag"])
                except CONFLICTS:
                    # It was written meanwhile: if under an older layout once more, it is found once more.
                    continue


def _is_free(write: Save | Modify | Remove) -> bool:
    """Whether a write has no conditions."""
    if isinstance(write, Save):
        return write.exists is None and write.revision is None
    return isinstance(write, Remove) and write.revision is None
