"""A plan as ranges for backends that keep the keys of indexes as bytes in order, and as conditions of SQL.

Conditions have a `?` for each parameter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import msgspec

from portable.document_order import AFTER, place, spans
from portable.document_writes import DocumentId
from portable.query_plan import Plan, SortPosition

__all__ = ["Beyond", "Bounds", "Range", "index_bounds", "key_ranges", "rows_beyond"]

Range: TypeAlias = tuple[str, tuple[Any, ...], str]
"""A condition, its parameters, and an order."""

Beyond: TypeAlias = Callable[[Sequence[str], str, Sequence[Any]], tuple[str, tuple[Any, ...]]]
"""Columns, `<` or `>`, and values → the condition that the columns, read as one row, are on that side of the values."""


def rows_beyond(columns: Sequence[str], operator: str, values: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    """Compare as SQL compares rows, for servers whose indexes serve that."""
    return f"({', '.join(columns)}) {operator} ({', '.join('?' * len(values))})", tuple(values)


class Bounds(msgspec.Struct, frozen=True):
    """Index keys from `low` up to, but not with, `high`.

    Attributes:
        low: the lower bound.
        high: the upper bound.
        point: whether `low` is the only index key inside.
        after: the document to go on after. Unless it is a point, the bound on its side is its index key then, and
            inside are also the documents of that very key that come after it.
    """

    low: bytes
    high: bytes
    point: bool = False
    after: DocumentId | None = None


def index_bounds(plan: Plan, after: SortPosition | None) -> Iterator[Bounds]:
    """Give the bounds that hold a plan's documents one after another, from a position on."""
    begin = None if after is None else place(plan, after.value)
    for low, high in reversed(spans(plan)) if plan.descending else spans(plan):
        point = high == low + AFTER
        if begin is None or after is None or (begin >= high if plan.descending else begin < low):
            yield Bounds(low, high, point)
        elif not low <= begin < high:
            continue
        elif point:
            yield Bounds(low, high, point, after.id)
        elif plan.descending:
            yield Bounds(low, begin, after=after.id)
        else:
            yield Bounds(begin, high, after=after.id)


def key_ranges(
    plan: Plan, after: SortPosition | None, partition: str, key: str, beyond: Beyond = rows_beyond
) -> Iterator[Range]:
    """Give the ranges of a plan without an index.

    Args:
        plan: the plan.
        after: where to go on.
        partition: the column of partitions.
        key: the column of keys.
        beyond: how rows are compared.
    """
    direction, operator = (" DESC", "<") if plan.descending else ("", ">")
    order = f"{partition}{direction}, {key}{direction}"
    parameters: tuple[Any, ...]
    if plan.partition is None:
        where, parameters = ("1 = 1", ()) if after is None else beyond((partition, key), operator, after.id)
        yield where, parameters, order
        return
    order = f"{key}{direction}"
    where, parameters = f"{partition} = ?", (plan.partition,)
    if after is not None:
        where, parameters = f"{where} AND {key} {operator} ?", (plan.partition, after.id[1])
    if not plan.ranges:
        yield where, parameters, order
    for one in reversed(plan.ranges) if plan.descending else plan.ranges:
        bounds, values = "", ()
        if one.low:
            bounds, values = f" AND {key} {'>=' if one.low_closed else '>'} ?", one.low
        if one.high:
            bounds, values = f"{bounds} AND {key} {'<=' if one.high_closed else '<'} ?", (*values, *one.high)
        yield where + bounds, (*parameters, *values), order
