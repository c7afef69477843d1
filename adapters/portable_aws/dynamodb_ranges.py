"""Ranges of a table of DynamoDB, or of one of its indexes, that a plan comes to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from portable.document_values import Rank
from portable.query_intervals import Interval
from portable.query_plan import Plan
from portable_aws.dynamodb_items import ALL, ORDER_INDEX

__all__ = ["Range", "Value", "cut"]

Value = dict[str, Any]

_LOWEST, _HIGHEST = "\0", "\U0010ffff" * 256


class Range(msgspec.Struct, frozen=True):
    """What one question to DynamoDB gives: its ranges are closed, so that a bound that is not wanted is left out.

    Attributes:
        index: the name of the index; None for the table itself, which is read as it is now.
        hash: the attribute that must be equal.
        of: what it must be.
        sort: the attribute that has the order.
        low: its least value.
        high: its greatest.
        excluded: values that are not wanted.
    """

    index: str | None
    hash: str
    of: Value
    sort: str
    low: Value
    high: Value
    excluded: tuple[Value, ...] = ()

    @classmethod
    def everything(cls) -> Range:
        """Give all documents, in the order of their partitions, or without partitions of their keys."""
        return cls(ORDER_INDEX, "order_hash", {"B": ALL}, "order_sort", {"B": b"\0"}, {"B": b"\xff"})

    @classmethod
    def of_keys(cls, partition: str, wanted: Sequence[Interval]) -> list[Range]:
        """Give a partition's documents whose keys lie in intervals; all of them where there are none."""
        pk = {"S": f"d{partition}"}
        if not wanted:
            return [cls(None, "pk", pk, "sk", {"S": _LOWEST}, {"S": _HIGHEST})]
        found = []
        for one in wanted:
            if one.rank != Rank.STRING:
                continue
            low, high = (str(bound[0]) if bound else None for bound in (one.low, one.high))
            excluded = [
                {"S": bound}
                for bound, closed in ((low, one.low_closed), (high, one.high_closed))
                if bound is not None and not closed
            ]
            found.append(
                cls(
                    None,
                    "pk",
                    pk,
                    "sk",
                    {"S": low or _LOWEST},
                    {"S": high if high is not None else _HIGHEST},
                    tuple(excluded),
                )
            )
        return found

    def how(self) -> dict[str, Any]:
        """Give the arguments of `query`."""
        asked: dict[str, Any] = {
            "KeyConditionExpression": f"{self.hash} = :h AND {self.sort} BETWEEN :low AND :high",
            "ExpressionAttributeValues": {":h": self.of, ":low": self.low, ":high": self.high},
        }
        if self.index is None:
            asked["ConsistentRead"] = True
        else:
            asked["IndexName"] = self.index
        return asked


def cut(ranges: Sequence[Range], after: Value | None, plan: Plan) -> Iterator[Range]:
    """Give what of ranges is behind a position, in the order of a plan."""
    for one in reversed(ranges) if plan.descending else ranges:
        found = one
        if after is not None and plan.descending:
            found = msgspec.structs.replace(
                one, high=min(one.high, after, key=_sortable), excluded=(*one.excluded, after)
            )
        elif after is not None:
            found = msgspec.structs.replace(
                one, low=max(one.low, after, key=_sortable), excluded=(*one.excluded, after)
            )
        if _sortable(found.low) <= _sortable(found.high) and found.high != {"S": ""}:
            yield found


def _sortable(value: Value) -> bytes:
    (found,) = value.values()
    return found.encode() if isinstance(found, str) else bytes(found)
