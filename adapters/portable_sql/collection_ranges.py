"""A plan as the statements that give its documents, one after another, from columns that are limited in length.

A server takes only so many bytes into an index. `index_N` therefore holds an index key that is shorter than `LONGEST`
as it is, and of a longer one its first `LONGEST` bytes; what is left of it is in `rest_N`, which is null for the
others. No short key is the start of a long one, so the order of `(index_N, partition, key)` is the whole order but for
the long keys with the same start: such a group is read again in the order of `rest_N`, where a page ends in it, or
sorted where it lies within a page.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any, TypeAlias

import msgspec

from portable.document_ranges import Beyond, Bounds, index_bounds, key_ranges
from portable.document_writes import DocumentId
from portable.query_plan import Plan, SortPosition

__all__ = ["LONGEST", "Columns", "Piece", "Row", "pieces", "read"]

LONGEST = 512
"""Bytes of an index key that an index holds: with partition and key less than PostgreSQL takes into one entry."""

Row: TypeAlias = tuple[Any, ...]
"""Partition, key, revision, text, and of a piece that is `mixed` the columns of its index."""


class Columns(msgspec.Struct, frozen=True):
    """The columns that a plan looks at, and how rows of them are compared."""

    index: str
    rest: str
    partition: str
    key: str
    beyond: Beyond


class Edge(msgspec.Struct, frozen=True):
    """One bound of a piece.

    Attributes:
        key: what it is; the index key of a lower bound is inside, that of an upper one is not.
        after: the document to go on after, among those of that very index key, which are inside.
        outside: whether the long keys that begin with `key` are outside of a lower bound, too.
    """

    key: bytes
    after: DocumentId | None = None
    outside: bool = False

    @property
    def group(self) -> bytes | None:
        """The start of the long keys among which the bound is, if it is."""
        is_long = len(self.key) > LONGEST or (self.after is not None and len(self.key) == LONGEST)
        return self.key[:LONGEST] if is_long else None

    def condition(self, column: str, columns: Columns, operator: str, start: int = 0) -> tuple[str, tuple[Any, ...]]:
        """Say that a column is on the right side, of the bound's bytes from `start` on."""
        value = self.key[start:]
        if self.after is not None:
            return columns.beyond((column, columns.partition, columns.key), operator, (value, *self.after))
        closed = "=" if operator == ">" and not self.outside else ""
        return f"{column} {operator}{closed} ?", (value,)


class Piece(msgspec.Struct, frozen=True):
    """Documents in the order of an index.

    Attributes:
        where: the condition.
        parameters: its parameters.
        order: the order.
        mixed: whether there may be long keys among them, and each group of these is in another order.
        low: the lower bound of one that is mixed.
        high: its upper bound.
    """

    where: str
    parameters: tuple[Any, ...]
    order: str
    mixed: bool = False
    low: Edge = Edge(b"")
    high: Edge = Edge(b"")


def pieces(plan: Plan, after: SortPosition | None, columns: Columns) -> Iterator[Piece]:
    """Give what holds a plan's documents one after another, from a position on."""
    if not plan.index:
        for where, parameters, order in key_ranges(plan, after, columns.partition, columns.key, columns.beyond):
            yield Piece(where, parameters, order)
        return
    for bounds in index_bounds(plan, after):
        if bounds.point:
            yield _point(bounds, plan, columns)
        elif plan.descending:
            yield from _between(Edge(bounds.low), Edge(bounds.high, bounds.after), columns, descending=True)
        else:
            yield from _between(Edge(bounds.low, bounds.after), Edge(bounds.high), columns, descending=False)


def _order(*names: str, descending: bool) -> str:
    return ", ".join(f"{name} DESC" if descending else name for name in names)


def _point(bounds: Bounds, plan: Plan, columns: Columns) -> Piece:
    parameters: tuple[Any, ...]
    where, parameters = f"{columns.index} = ?", (bounds.low[:LONGEST],)
    if len(bounds.low) >= LONGEST:
        where, parameters = f"{where} AND {columns.rest} = ?", (*parameters, bounds.low[LONGEST:])
    names = (columns.partition, columns.key)
    if bounds.after is not None:
        # With the index's column in it no server takes the index of the keys for the better one.
        edge = Edge(bounds.low[:LONGEST], bounds.after)
        condition, values = edge.condition(columns.index, columns, "<" if plan.descending else ">")
        where, parameters = f"{where} AND {condition}", (*parameters, *values)
    return Piece(where, parameters, _order(*names, descending=plan.descending))


def _between(low: Edge, high: Edge, columns: Columns, *, descending: bool) -> Iterator[Piece]:
    first, last = low.group, high.group
    found: list[Piece] = []
    if first is not None:
        found.append(_group(first, low, high if last == first else None, columns, descending=descending))
        low = Edge(first, outside=True)
    if first is None or first != last:
        found.append(_mixed(low, high if last is None else Edge(last), columns, descending=descending))
        if last is not None:
            found.append(_group(last, None, high, columns, descending=descending))
    yield from reversed(found) if descending else found


def _mixed(low: Edge, high: Edge, columns: Columns, *, descending: bool) -> Piece:
    above, lower = low.condition(columns.index, columns, ">")
    below, upper = high.condition(columns.index, columns, "<")
    order = _order(columns.index, columns.partition, columns.key, descending=descending)
    return Piece(f"{above} AND {below}", (*lower, *upper), order, mixed=True, low=low, high=high)


def _group(start: bytes, low: Edge | None, high: Edge | None, columns: Columns, *, descending: bool) -> Piece:
    where, parameters = f"{columns.index} = ?", (start,)
    for edge, operator in ((low, ">"), (high, "<")):
        if edge is not None:
            condition, values = edge.condition(columns.rest, columns, operator, LONGEST)
            where, parameters = f"{where} AND {condition}", (*parameters, *values)
    return Piece(where, parameters, _order(columns.rest, columns.partition, columns.key, descending=descending))


def read(
    found: Iterable[Piece], fetch: Callable[[Piece, int], list[Row]], limit: int, columns: Columns, *, descending: bool
) -> list[Row]:
    """Give the first rows of some pieces.

    Args:
        found: the pieces.
        fetch: gives the first rows of one, at most so many, those of a piece that is mixed with the two columns of
            their index at the end.
        limit: how many rows at most.
        columns: the columns.
        descending: whether the order is turned round.
    """
    ahead = deque(found)
    rows: list[Row] = []
    while ahead and len(rows) < limit:
        piece = ahead.popleft()
        left = limit - len(rows)
        batch = fetch(piece, left)
        if piece.mixed and any(row[-1] is not None for row in batch):
            if len(batch) == left and batch[-1][-1] is not None:
                # There may be more of the last group, which come before these.
                start = batch[-1][-2]
                batch = [row for row in batch if row[-2] != start]
                ahead.extendleft(reversed(list(_rest(piece, start, columns, descending=descending))))
            batch = [row for _, group in groupby(batch, _start) for row in _sorted(group, descending=descending)]
        rows += batch
    return rows


def _rest(piece: Piece, start: bytes, columns: Columns, *, descending: bool) -> Iterator[Piece]:
    """Give the group of a mixed piece that begins with `start`, then what comes after it."""
    yield _group(start, None, None, columns, descending=descending)
    if descending:
        yield _mixed(piece.low, Edge(start), columns, descending=True)
    else:
        yield _mixed(Edge(start, outside=True), piece.high, columns, descending=False)


def _start(row: Row) -> bytes:
    start: bytes = row[-2]
    return start


def _sorted(group: Iterable[Row], *, descending: bool) -> list[Row]:
    rows = list(group)
    if rows[0][-1] is None:
        return rows
    return sorted(rows, key=lambda row: (row[-1], row[0], row[1]), reverse=descending)
