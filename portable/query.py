# Generated from portable/aio/query.py by tools/generate_sync.py; change that file, not this one.
"""Queries of a collection: built step by step, sent when they are read."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from operator import itemgetter
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from portable._concurrency import iteration, operation
from portable.batches import Page
from portable.document_values import split_path
from portable.document_writes import Remove, Stored
from portable.documents import Document
from portable.errors import DeadlineExceeded, InvalidArgument, PortableError, PreconditionFailed
from portable.query_plan import Condition, Question, Served, SortPosition

if TYPE_CHECKING:
    from portable.collection import Collection

__all__ = ["Query"]

T = TypeVar("T")

PAGE = 100
"""Documents a page, where no limit says otherwise."""
STREAM = 500
"""Documents that iterating asks for at once."""
SORTED_STREAM = 5000
"""The same where each page costs a whole scan."""


class Query(Generic[T]):
    """A query, which no method changes: each gives a new one.

    It is served when its conditions are equalities plus at most one range or order field of a declared index, or name
    whole keys; anything else needs `allow_scan=True`. Results come in the order of the `order_by` field, without one in
    that of the only field with a range, else of the keys; ties are ordered by key, in the same direction.

    Iterate it to get every document, whatever their number; documents that are written meanwhile may be seen or not,
    all others are seen once.
    """

    def __init__(self, collection: Collection[T], question: Question) -> None:
        self._collection = collection
        self._question = question

    def where(self, path: str, op: str, value: Any, *, allow_scan: bool = False) -> Query[T]:
        """Ask for a condition more; all of them must hold.

        An operator sees only documents whose field is present and of the operand's type (int and float are one).

        Args:
            path: the field, dotted.
            op: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not-in` (a list of values), `contains` (the field is a list
                that has the value), or `prefix` (of a text).
            value: what to compare with.
            allow_scan: whether the query may read the whole collection where no index serves it.

        Raises:
            InvalidArgument: the path, the operator or the value is wrong.
        """
        condition = Condition.read(path, op, value)
        guard = self._collection._guard  # noqa: SLF001 (its own collection)
        if guard is not None and op in {"in", "not-in"}:
            guard.query_in(len(condition.operand), negated=op == "not-in")
        return self._with(
            conditions=(*self._question.conditions, condition), allow_scan=allow_scan or self._question.allow_scan
        )

    def order_by(self, path: str, descending: bool = False) -> Query[T]:  # noqa: FBT001, FBT002 (the contract's signature)
        """Ask for an order, and for the documents that have the field.

        None comes first, then False, True, numbers, datetimes, texts by code point, and bytes.

        Args:
            path: the field, dotted.
            descending: whether the order is turned round.

        Raises:
            InvalidArgument: the path is wrong, or there is an order already.
        """
        if self._question.order is not None:
            raise InvalidArgument("a query has one order_by; sort the rest once it is read")
        return self._with(order=split_path(path), descending=bool(descending))

    def limit(self, n: int) -> Query[T]:
        """Ask for at most `n` documents; for `page`, at most `n` on each page.

        Raises:
            InvalidArgument: it is no number from 1.
        """
        if type(n) is not int or n < 1:
            raise InvalidArgument(f"a limit is an int from 1, not {n!r}")
        return self._with(limit=n)

    def __iter__(self) -> Iterator[Document[T]]:
        return _documents(self._collection, self._question)

    def page(self, cursor: str | None = None, *, timeout: float | None = None) -> Page[Document[T]]:
        """Give one page: `limit` documents, or 100.

        Args:
            cursor: `cursor` of the page before; None for the first page. It stays good while documents are written:
                what stays as it is is seen exactly once.
            timeout: seconds.

        Raises:
            InvalidArgument: no index serves the query, or the cursor is of another one.
        """
        return _page(self._collection, self._question, cursor, timeout=timeout)

    def first(self, *, timeout: float | None = None) -> Document[T] | None:
        """Give the first document, or None where there is none.

        Raises:
            InvalidArgument: no index serves the query.
        """
        return _first(self._collection, self._question, timeout=timeout)

    def count(self, *, timeout: float | None = None) -> int:
        """Count the documents, up to the limit.

        Raises:
            InvalidArgument: no index serves the query.
        """
        return _count(self._collection, self._question, timeout=timeout)

    def delete(self, *, timeout: float | None = None) -> int:
        """Remove the documents, up to the limit. Each is removed as it was when the query saw it, or looked at again.

        Returns:
            How many were removed.

        Raises:
            InvalidArgument: no index serves the query.
            DeadlineExceeded: the timeout ran out; some may be removed already.
        """
        return _delete(self._collection, self._question, timeout=timeout)

    def _with(self, **changed: Any) -> Query[T]:
        return Query(self._collection, msgspec.structs.replace(self._question, **changed))

    def __repr__(self) -> str:
        """Show what is asked, without the values."""
        asked = [f"{'.'.join(c.path)} {c.operator} …" for c in self._question.conditions]
        if self._question.order is not None:
            asked.append(
                f"order by {'.'.join(self._question.order)}{' descending' if self._question.descending else ''}"
            )
        return f"<Query {self._collection.name!r} {', '.join(asked)}>"


class _Reading:
    """One reading of the answer, page after page."""

    def __init__(self, collection: Collection[Any], question: Question, timeout: float | None) -> None:
        self._driver = collection._driver  # noqa: SLF001 (its own collection)
        self._served = collection._planner.serve(question)  # noqa: SLF001 (its own collection)
        self._seconds = collection._timeout if timeout is None else timeout  # noqa: SLF001 (its own collection)
        self.begin()

    @property
    def served(self) -> Served:
        """How the question is answered."""
        return self._served

    def begin(self) -> None:
        """Start the time that is allowed."""
        self._until = monotonic() + self._seconds

    def left(self) -> float:
        """Give the seconds that are left."""
        left = self._until - monotonic()
        if left <= 0:
            raise DeadlineExceeded("the timeout ran out before the query was done")
        return left

    def read(self, after: SortPosition | None, size: int) -> tuple[list[Stored], SortPosition | None]:
        """Give the next documents, `size` at most, and where to go on; None at the end."""
        served = self._served
        if served.ids is None and served.plan is None:
            return [], None
        if served.sort:
            found = self._sorted(after, size + 1)
        elif served.exact:
            found = self._query(after, size + 1)
        else:
            found = []
            with closing(self._matching(after, size + 1)) as matching:
                for stored in matching:
                    found.append(stored)
                    if len(found) > size:
                        break
        if len(found) <= size:
            return found, None
        last = found[size - 1]
        return found[:size], served.position(last.data, last.id)

    def count(self) -> int:
        """Count all documents of the answer."""
        served = self._served
        if served.plan is not None and served.exact:
            return self._driver.count(served.plan, timeout=self.left())
        number = 0
        with closing(self._matching(None, STREAM)) as matching:
            for _ in matching:
                number += 1
        return number

    def _query(self, after: SortPosition | None, limit: int) -> list[Stored]:
        if self._served.plan is None:
            return []
        return self._driver.query(self._served.plan, after=after, limit=limit, timeout=self.left())

    def _matching(self, after: SortPosition | None, size: int) -> Generator[Stored, None]:
        """Give the documents that match, in the order of the driver."""
        served = self._served
        if served.ids is not None:
            for found in self._driver.get_many(served.ids, timeout=self.left()):
                if found is not None and served.matches(found.data):
                    yield found
            return
        size = max(size, PAGE)
        natural = self._natural()
        while True:
            batch = self._query(after, size)
            for stored in batch:
                if served.matches(stored.data):
                    yield stored
            if len(batch) < size:
                return
            last = batch[-1]
            after = natural.position(last.data, last.id)
            size = STREAM

    def _natural(self) -> Served:
        """The order in which the driver gives what has to be sorted."""
        plan = self._served.plan
        fixed = plan is None or len(plan.equals) == len(plan.index)
        return Served(order=None if fixed or plan is None else plan.index[-1])

    def _sorted(self, after: SortPosition | None, size: int) -> list[Stored]:
        """Read all that match, and keep the first `size` of the order after a position."""
        served = self._served
        beyond = None if after is None else after.key
        kept: list[tuple[Any, Stored]] = []
        with closing(self._matching(None, STREAM)) as matching:
            for stored in matching:
                key = served.position(stored.data, stored.id).key
                if beyond is None or (key < beyond if served.descending else key > beyond):
                    kept.append((key, stored))
                    if len(kept) > 2 * size + STREAM:
                        kept.sort(key=itemgetter(0), reverse=served.descending)
                        del kept[size:]
        kept.sort(key=itemgetter(0), reverse=served.descending)
        return [stored for _, stored in kept[:size]]


@iteration
def _documents(collection: Collection[T], question: Question) -> Generator[Document[T], None]:
    reading = _Reading(collection, question, None)
    documents = collection._composer.documents  # noqa: SLF001 (its own collection)
    left = question.limit
    after: SortPosition | None = None
    while True:
        size = SORTED_STREAM if reading.served.sort else STREAM
        reading.begin()
        found, after = reading.read(after, size if left is None else min(left, size))
        for document in documents(found):
            yield document
        if left is not None:
            left -= len(found)
        if after is None or left == 0:
            return


@operation
def _page(
    collection: Collection[T], question: Question, cursor: str | None, *, timeout: float | None
) -> Page[Document[T]]:
    reading = _Reading(collection, question, timeout)
    after = None if cursor is None else question.position(cursor)
    found, more = reading.read(after, question.limit or PAGE)
    items = list(collection._composer.documents(found))  # noqa: SLF001 (its own collection)
    return Page(items, None if more is None else question.cursor(more))


@operation
def _first(collection: Collection[T], question: Question, *, timeout: float | None) -> Document[T] | None:
    found, _ = _Reading(collection, question, timeout).read(None, 1)
    return collection._composer.document(found[0]) if found else None  # noqa: SLF001 (its own collection)


@operation
def _count(collection: Collection[Any], question: Question, *, timeout: float | None) -> int:
    number = _Reading(collection, question, timeout).count()
    return number if question.limit is None else min(number, question.limit)


@operation
def _delete(collection: Collection[Any], question: Question, *, timeout: float | None) -> int:
    reading = _Reading(collection, question, timeout)
    driver = collection._driver  # noqa: SLF001 (its own collection)
    step = collection.capabilities.max_batch
    removed = 0
    after: SortPosition | None = None
    changed = False
    while question.limit is None or removed < question.limit:
        size = step if question.limit is None else min(step, question.limit - removed)
        found, after = reading.read(after, size)
        if found:
            answers = driver.write_many([Remove(one.id, one.revision) for one in found], timeout=reading.left())
            for answer in answers:
                if isinstance(answer, PreconditionFailed):
                    changed = True
                elif isinstance(answer, PortableError):
                    raise answer
                else:
                    removed += 1
        if after is None:
            if not changed:
                break
            # Some were written between the look and the removal: whether they still match takes another look.
            changed = False
    return removed
