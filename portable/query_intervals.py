"""What an operator of a query asks of one field, as intervals of values of one type.

Every operator but `contains` is a list of intervals, sorted and apart from each other: `==` is one point, `in` several,
`!=` what lies below and above a point, `prefix` the strings from the prefix to the next text that does not start so.
Several conditions on one field are the intersection of their intervals.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import msgspec

from portable.document_values import Rank, Scalar, Values, rank, sort_key
from portable.errors import InvalidArgument

__all__ = ["ALL", "OPERATORS", "Interval", "holds", "intersect", "intervals"]

OPERATORS = ("==", "!=", "<", "<=", ">", ">=", "in", "not-in", "contains", "prefix")

_LAST = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


class Interval(msgspec.Struct, frozen=True):
    """The values of one type between two bounds.

    Attributes:
        rank: the type.
        low: a tuple of the lower bound, or empty for the start of the type.
        high: a tuple of the upper bound, or empty for the end of the type.
        low_closed: whether `low` itself is inside.
        high_closed: whether `high` itself is inside.
    """

    rank: Rank
    low: tuple[Any, ...] = ()
    high: tuple[Any, ...] = ()
    low_closed: bool = True
    high_closed: bool = True

    @property
    def is_point(self) -> bool:
        """Whether exactly one value is inside."""
        return self.rank is Rank.NULL or (bool(self.low) and self.low == self.high)

    def holds(self, value: Any) -> bool:
        """Whether a value of this type is inside."""
        if self.low and (value < self.low[0] or (value == self.low[0] and not self.low_closed)):
            return False
        return not (self.high and (value > self.high[0] or (value == self.high[0] and not self.high_closed)))


ALL: tuple[Interval, ...] = tuple(Interval(one) for one in Rank)
"""Every value that can be queried: what `order_by` sees."""


def _point(value: Scalar) -> Interval:
    return Interval(Rank.NULL) if value is None else Interval(rank(value) or Rank.NULL, (value,), (value,))


def intervals(operator: str, value: Any, where: str) -> tuple[Interval, ...]:
    """Give the intervals of an operator and its operand; `where` names the field, for messages.

    Raises:
        InvalidArgument: the operator is unknown, or its operand is of a wrong type.
    """
    if operator in {"in", "not-in"}:
        return _listed(operator, value, where)
    operand = Values().scalar(value, where)
    kind = rank(operand) or Rank.NULL
    if operator == "==":
        return (_point(operand),)
    if operator == "!=":
        return _without(kind, [operand])
    if operator == "prefix":
        if not isinstance(operand, str):
            raise InvalidArgument(f"{where}: prefix takes a str, not {type(value).__name__}")
        after = _after_prefix(operand)
        return (Interval(Rank.STRING, (operand,), (after,) if after else (), high_closed=False),)
    if operand is None:
        raise InvalidArgument(f"{where}: None has no order; compare it with == or in")
    if operator in {"<", "<="}:
        return (Interval(kind, (), (operand,), high_closed=operator == "<="),)
    return (Interval(kind, (operand,), (), low_closed=operator == ">="),)


def _listed(operator: str, value: Any, where: str) -> tuple[Interval, ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise InvalidArgument(f"{where}: {operator} takes a list of values, not {type(value).__name__}")
    by_rank: dict[Rank, dict[tuple[Any, ...], Scalar]] = {}
    for i, item in enumerate(value):
        operand = Values().scalar(item, f"{where}[{i}]")
        by_rank.setdefault(rank(operand) or Rank.NULL, {})[sort_key(operand)] = operand
    result: list[Interval] = []
    for kind in sorted(by_rank):
        operands = [by_rank[kind][key] for key in sorted(by_rank[kind])]
        result += [_point(operand) for operand in operands] if operator == "in" else _without(kind, operands)
    return tuple(result)


def _without(kind: Rank, operands: Sequence[Scalar]) -> tuple[Interval, ...]:
    """Every value of a type but some: what lies between them."""
    if kind is Rank.NULL:
        return ()
    edges: list[tuple[Scalar, ...]] = [(), *((operand,) for operand in operands), ()]
    between = [Interval(kind, low, high, low_closed=False, high_closed=False) for low, high in pairwise(edges)]
    return tuple(between)


def _after_prefix(prefix: str) -> str:
    """The smallest text above everything that starts with the prefix; empty where there is none."""
    while prefix:
        code = ord(prefix[-1])
        if code < _LAST:
            code = _SURROGATES.stop if code + 1 in _SURROGATES else code + 1
            return prefix[:-1] + chr(code)
        prefix = prefix[:-1]
    return ""


def intersect(left: Sequence[Interval], right: Sequence[Interval]) -> tuple[Interval, ...]:
    """Give what lies in both lists."""
    result: list[Interval] = []
    i = j = 0
    while i < len(left) and j < len(right):
        one, other = left[i], right[j]
        if one.rank == other.rank and (both := _overlap(one, other)) is not None:
            result.append(both)
        if (one.rank, _upper(one)) <= (other.rank, _upper(other)):
            i += 1
        else:
            j += 1
    return tuple(result)


def _upper(interval: Interval) -> tuple[Any, ...]:
    # An open end sorts after every bound, a bound that is inside after the same one that is not.
    return (0, interval.high[0], interval.high_closed) if interval.high else (1,)


def _overlap(one: Interval, other: Interval) -> Interval | None:
    low, low_closed = one.low, one.low_closed
    if other.low and (not low or (other.low[0], not other.low_closed) > (low[0], not low_closed)):
        low, low_closed = other.low, other.low_closed
    high, high_closed = one.high, one.high_closed
    if other.high and (not high or (other.high[0], other.high_closed) < (high[0], high_closed)):
        high, high_closed = other.high, other.high_closed
    if low and high and (low[0] > high[0] or (low == high and not (low_closed and high_closed))):
        return None
    return Interval(one.rank, low, high, low_closed, high_closed)


def _start(interval: Interval) -> tuple[Any, ...]:
    return (interval.rank, interval.low)


def holds(wanted: Sequence[Interval], value: Any) -> bool:
    """Whether a field's value lies in one of the intervals."""
    kind = rank(value)
    if kind is None:
        return False
    if len(wanted) == 1:
        return wanted[0].rank == kind and wanted[0].holds(value)
    # The last interval that starts at or below the value is the only one that can hold it, or the one before where
    # two meet at a bound that is in the earlier one alone.
    place = bisect_right(wanted, (kind, () if value is None else (value,)), key=_start)
    return any(one.rank == kind and one.holds(value) for one in wanted[max(0, place - 2) : place])
