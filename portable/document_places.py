"""A plan as ranges of places, for backends that keep, of each document, an index key followed by its own place.

The place of a document is its partition and key as bytes that sort as ids do; all documents are in the order of their
places, and in an index in that of the index key and then the place, so that one value sorts and continues everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from portable.document_order import BEYOND, encode, place, spans
from portable.document_values import find
from portable.document_writes import DocumentId, Stored
from portable.query_plan import Plan, SortPosition

__all__ = ["count_alive", "place_of", "place_ranges"]

_PARTS = (("partition",), ("key",))
PAGE = 1000


def place_of(id_: DocumentId) -> bytes:
    """Give bytes that sort as ids do."""
    return encode(id_[0]) + encode(id_[1])


def place_ranges(plan: Plan, after: SortPosition | None) -> Iterator[tuple[bytes, bytes]]:
    """Give half-open ranges that hold a plan's documents one after another, from a position on.

    They are of index keys with places where the plan names an index, and of places alone where it does not.
    """
    start = None if after is None else place_of(after.id)
    if plan.index:
        bounds = spans(plan, after=BEYOND)
        if after is not None:
            start = place(plan, after.value) + place_of(after.id)
    elif plan.partition is None:
        bounds = [(b"", BEYOND)]
    else:
        bounds = spans(Plan(index=_PARTS, equals=(plan.partition,), ranges=plan.ranges), after=BEYOND)
    for low, high in reversed(bounds) if plan.descending else bounds:
        if start is None:
            yield low, high
        elif plan.descending:
            yield low, min(high, start)
        else:
            yield max(low, start + b"\0"), high


def count_alive(query: Callable[[SortPosition | None, int], list[Stored]], plan: Plan) -> int:
    """Count the documents of a plan by looking at each, as it takes where the backend keeps expired ones for a while.

    Args:
        query: gives the next documents of the plan after a position, so many at most.
        plan: the plan.
    """
    open_field = plan.index[len(plan.equals)] if len(plan.equals) < len(plan.index) else None
    total, after = 0, None
    while page := query(after, PAGE):
        total += len(page)
        last = page[-1]
        after = SortPosition(None if open_field is None else find(last.data, open_field), last.id)
    return total
