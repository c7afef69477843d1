"""Collections that each break one promise, and the case of the suite that must notice."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from portable.bindings import Binding
from portable.document_values import Rank
from portable.document_writes import DocumentId, Modify, Remove, Save, Stored, Verify, Write
from portable.errors import PortableError
from portable.query_intervals import Interval
from portable.query_plan import Plan, SortPosition
from portable.registry import Adapter, register
from portable.testing.collection import CollectionSuite
from portable_embedded.memory_collection import MemoryCollection

replaced = msgspec.structs.replace


class CreateOverwrites(MemoryCollection):
    def write(self, write: Save | Modify | Remove, *, timeout: float) -> Stored | None:
        return super().write(replaced(write, exists=None) if isinstance(write, Save) else write, timeout=timeout)


class IgnoresRevisions(MemoryCollection):
    def write(self, write: Save | Modify | Remove, *, timeout: float) -> Stored | None:
        return super().write(replaced(write, revision=None), timeout=timeout)


class RevisionsOfContent(MemoryCollection):
    def write(self, write: Save | Modify | Remove, *, timeout: float) -> Stored | None:
        stored = super().write(write, timeout=timeout)
        return None if stored is None else replaced(stored, revision=str(hash(str(stored.data))))


class StaleQueries(MemoryCollection):
    def __init__(self, binding: Binding[Any]) -> None:
        super().__init__(binding)
        self._answers: dict[Any, list[Stored]] = {}

    def query(self, plan: Plan, *, after: SortPosition | None, limit: int, timeout: float) -> list[Stored]:
        fresh = super().query(plan, after=after, limit=limit, timeout=timeout)
        return self._answers.setdefault((plan, after, limit), fresh)


class HalfTransactions(MemoryCollection):
    def transact(self, writes: Sequence[Write], *, timeout: float) -> None:
        for write in writes:
            super().transact([write], timeout=timeout)


class ChecksNothing(MemoryCollection):
    def transact(self, writes: Sequence[Write], *, timeout: float) -> None:
        super().transact([write for write in writes if not isinstance(write, Verify)], timeout=timeout)


class BoolsAreNumbers(MemoryCollection):
    def query(self, plan: Plan, *, after: SortPosition | None, limit: int, timeout: float) -> list[Stored]:
        if any(one.rank is Rank.NUMBER for one in plan.ranges):
            plan = replaced(plan, ranges=(Interval(Rank.BOOL), *plan.ranges))
        return super().query(plan, after=after, limit=limit, timeout=timeout)


class ReturnsExpired(MemoryCollection):
    def __init__(self, binding: Binding[Any]) -> None:
        super().__init__(binding)
        self._now = float


class ExpiredStayInTheWay(MemoryCollection):
    def write(self, write: Save | Modify | Remove, *, timeout: float) -> Stored | None:
        now, self._now = self._now, float
        try:
            return super().write(write, timeout=timeout)
        finally:
            self._now = now


class CursorSkips(MemoryCollection):
    def query(self, plan: Plan, *, after: SortPosition | None, limit: int, timeout: float) -> list[Stored]:
        found = super().query(plan, after=after, limit=limit + 1, timeout=timeout)
        return found[:limit] if after is None else found[1:]


class CursorCounts(MemoryCollection):
    """Pages by how many were given before, not by where the last one stood."""

    def __init__(self, binding: Binding[Any]) -> None:
        super().__init__(binding)
        self._given: dict[Any, int] = {}

    def query(self, plan: Plan, *, after: SortPosition | None, limit: int, timeout: float) -> list[Stored]:
        start = 0 if after is None else self._given[plan]
        found = super().query(plan, after=None, limit=start + limit, timeout=timeout)[start:]
        # The portable type asks for one more than it gives.
        self._given[plan] = start + limit - 1
        return found


class TiesRunForward(MemoryCollection):
    def query(self, plan: Plan, *, after: SortPosition | None, limit: int, timeout: float) -> list[Stored]:
        found = super().query(plan, after=after, limit=limit, timeout=timeout)
        if plan.descending and plan.index:
            place = plan.index[-1][0]
            found.sort(key=lambda one: (repr(one.data[place]), one.id))
            found.sort(key=lambda one: repr(one.data[place]), reverse=True)
        return found


class LosesUpdates(MemoryCollection):
    """Changes what it read at its first look."""

    def __init__(self, binding: Binding[Any]) -> None:
        super().__init__(binding)
        self._seen: dict[DocumentId, Stored | None] = {}

    def write(self, write: Save | Modify | Remove, *, timeout: float) -> Stored | None:
        if isinstance(write, Modify):
            seen = self._seen.setdefault(write.id, self.get(write.id, timeout=timeout))
            if seen is not None:
                write = write.change({**seen.data, "log": list(seen.data.get("log", []))})
        return super().write(write, timeout=timeout)


class NormalisesKeys(MemoryCollection):
    def get(self, id_: DocumentId, *, timeout: float) -> Stored | None:
        return super().get((id_[0], unicodedata.normalize("NFC", id_[1])), timeout=timeout)

    def write(self, write: Save | Modify | Remove, *, timeout: float) -> Stored | None:
        id_ = (write.id[0], unicodedata.normalize("NFC", write.id[1]))
        return super().write(replaced(write, id=id_), timeout=timeout)


class RoundsDecimals(MemoryCollection):
    def write(self, write: Save | Modify | Remove, *, timeout: float) -> Stored | None:
        if isinstance(write, Save):
            data = {name: float(item) if isinstance(item, Decimal) else item for name, item in write.data.items()}
            write = replaced(write, data=data)
        return super().write(write, timeout=timeout)


class BatchesStopAtAFailure(MemoryCollection):
    def write_many(
        self, writes: Sequence[Save | Modify | Remove], *, timeout: float
    ) -> list[Stored | PortableError | None]:
        results: list[Stored | PortableError | None] = []
        for write in writes:
            failed = any(isinstance(result, PortableError) for result in results)
            results += [None] if failed else super().write_many([write], timeout=timeout)
        return results


class ForgetsOldDocuments(MemoryCollection):
    """A new index starts empty."""

    def create(self) -> None:
        super().create()
        for index in self._table.indexes.values():
            index.clear()


DEFECTS = {
    CreateOverwrites: "test_create_refuses_what_exists",
    IgnoresRevisions: "test_if_revision_holds_only_at_that_revision",
    RevisionsOfContent: "test_a_revision_never_comes_back",
    StaleQueries: "test_an_index_follows_every_write",
    HalfTransactions: "test_a_transaction_that_fails_half_way_does_nothing",
    ChecksNothing: "test_a_transaction_that_fails_half_way_does_nothing",
    BoolsAreNumbers: "test_operators_see_fields_of_their_operands_type",
    ReturnsExpired: "test_what_expired_is_not_there",
    ExpiredStayInTheWay: "test_create_over_what_expired",
    CursorSkips: "test_pages_of_every_size_give_the_whole_order",
    CursorCounts: "test_pages_while_others_write",
    TiesRunForward: "test_ties_are_ordered_by_key",
    LosesUpdates: "test_twenty_increments_at_once_all_count",
    NormalisesKeys: "test_hostile_keys_are_apart",
    RoundsDecimals: "test_every_type_comes_back_as_it_was",
    BatchesStopAtAFailure: "test_a_poisoned_entry_keeps_no_other_back",
    ForgetsOldDocuments: "test_a_new_index_has_the_old_documents",
}

register(
    Adapter(
        schemes={
            f"broken-{driver.__name__.lower()}": {"collection": f"{driver.__module__}:{driver.__name__}"}
            for driver in DEFECTS
        },
        extra="testing",
    )
)


class TestSound(CollectionSuite):
    url = "memory:broken"


for _driver in DEFECTS:
    _name = f"Test{_driver.__name__}"
    globals()[_name] = type(_name, (CollectionSuite,), {"url": f"broken-{_driver.__name__.lower()}:broken"})
