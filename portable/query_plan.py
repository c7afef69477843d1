"""How a query is served: by a declared index, or only by a scan. The same on every provider.

A query is served when all of its conditions are equalities on the first fields of a declared index, in any order, plus
at most one field after them that has a range or the order (every operator but `==` and `contains` is a range). A full
key, or in a partitioned collection a partition with at most a range of keys, is served without an index. Anything else
is a scan, which still uses the best index for a part of it.

Results come in the order of the `order_by` field, without one in that of the only field with a range, else in that of
the keys. Ties are ordered by key: `(partition, key)`. Descending turns the whole order round, ties included.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from hashlib import blake2b
from typing import Any, TypeAlias

import msgspec

from portable import document_json
from portable.contracts import CollectionContract
from portable.document_values import Rank, Scalar, Values, find, rank, sort_key, split_path
from portable.document_writes import DocumentId
from portable.errors import ConfigError, InvalidArgument
from portable.query_intervals import ALL, OPERATORS, Interval, holds, intersect, intervals

__all__ = ["Condition", "Plan", "Planner", "Question", "Served", "SortPosition", "index_fields"]

Path: TypeAlias = tuple[str, ...]

_STRINGS = (Interval(Rank.STRING),)


class Plan(msgspec.Struct, frozen=True):
    """What a driver is asked for: the documents of one index whose fields lie in ranges, in the order of the index.

    Attributes:
        index: the fields of a declared index, or its first few; empty for all documents, in the order of their keys.
        equals: what the first fields must be; of all fields, or of all but the last.
        ranges: where the last field must lie when `equals` does not say; of the key where there is a partition.
            Sorted, apart from each other; empty for anywhere.
        partition: without an index, only this partition; None for all of them.
        descending: whether the order is turned round.

    Every index holds the documents that have all of its fields, each of a type that can be queried, in the order of
    the fields and then of `(partition, key)`.
    """

    index: tuple[Path, ...] = ()
    equals: tuple[Scalar, ...] = ()
    ranges: tuple[Interval, ...] = ()
    partition: str | None = None
    descending: bool = False


class SortPosition(msgspec.Struct, frozen=True):
    """Where a page ended, wherever documents are written meanwhile.

    Attributes:
        value: of the field that gives the order; None where the keys do.
        id: of the last document.
    """

    value: Scalar
    id: DocumentId

    @property
    def key(self) -> tuple[Any, ...]:
        """A tuple that compares as positions do."""
        return (sort_key(self.value), self.id)


class Condition(msgspec.Struct, frozen=True):
    """One `where`.

    Attributes:
        path: the field.
        operator: one of `OPERATORS`.
        operand: as given, in normal form.
        wanted: the intervals that it asks for; empty for `contains`.
    """

    path: Path
    operator: str
    operand: Any
    wanted: tuple[Interval, ...]

    @classmethod
    def read(cls, path: object, operator: object, operand: Any) -> Condition:
        """Check the arguments of `where`.

        Raises:
            InvalidArgument: the path, the operator or the operand is wrong.
        """
        fields = split_path(path)
        where = f"where {path} {operator}"
        if operator not in OPERATORS:
            raise InvalidArgument(f"{where}: there is no such operator; use one of {' '.join(OPERATORS)}")
        if operator == "contains":
            return cls(fields, operator, Values().scalar(operand, where), ())
        wanted = intervals(str(operator), operand, where)
        return cls(fields, str(operator), list(operand) if operator in {"in", "not-in"} else operand, wanted)


class Question(msgspec.Struct, frozen=True):
    """What a query asks, however it is served.

    Attributes:
        conditions: all of them must hold.
        order: the field of `order_by`.
        descending: whether the order is turned round.
        limit: how many documents at most.
        allow_scan: whether it may be served by a scan.
    """

    conditions: tuple[Condition, ...] = ()
    order: Path | None = None
    descending: bool = False
    limit: int | None = None
    allow_scan: bool = False

    def digest(self) -> str:
        """Name the question, without its limit: a cursor is good for the question that it came from."""
        asked = [
            [(c.path, c.operator, document_json.dump_value(_plain(c.operand))) for c in self.conditions],
            self.order,
            self.descending,
        ]
        return blake2b(msgspec.json.encode(asked), digest_size=6).hexdigest()

    def cursor(self, position: SortPosition) -> str:
        """Give the text of a position."""
        parts = (self.digest(), document_json.dump_value(position.value), *position.id)
        return urlsafe_b64encode(msgspec.json.encode(parts)).rstrip(b"=").decode()

    def position(self, cursor: str) -> SortPosition:
        """Give the position that a text stands for.

        Raises:
            InvalidArgument: it is no cursor of this question.
        """
        try:
            text = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
            digest, value, partition, key = msgspec.json.decode(text, type=tuple[str, Any, str, str])
            position = SortPosition(document_json.load_value(value), (partition, key))
        except (ValueError, TypeError, AttributeError, msgspec.DecodeError) as error:
            raise InvalidArgument("the cursor is none of ours; pass `page.cursor` of the page before") from error
        if digest != self.digest() or rank(position.value) is None:
            raise InvalidArgument("the cursor belongs to another query; pass it to the query that gave it")
        return position


def _plain(operand: Any) -> Any:
    values = Values()
    return [values.value(item, "") for item in operand] if isinstance(operand, list) else values.value(operand, "")


class Served(msgspec.Struct, frozen=True):
    """How a question is answered.

    Attributes:
        plan: what the driver is asked for; None where nothing can match, or `ids` says all.
        ids: the documents that can match, by their keys.
        order: the field that gives the order; None where the keys do.
        sort: whether the driver's order is another one.
        descending: whether the order is turned round.
        wanted: intervals of fields that are still to be looked at.
        contains: elements of lists that are still to be looked for.
    """

    plan: Plan | None = None
    ids: tuple[DocumentId, ...] | None = None
    order: Path | None = None
    sort: bool = False
    descending: bool = False
    wanted: tuple[tuple[Path, tuple[Interval, ...]], ...] = ()
    contains: tuple[tuple[Path, tuple[Any, ...]], ...] = ()

    @property
    def exact(self) -> bool:
        """Whether the driver's answer is the answer."""
        return not self.wanted and not self.contains

    def matches(self, data: dict[str, Any]) -> bool:
        """Whether what the driver does not look at holds for a document."""
        for path, wanted in self.wanted:
            if not holds(wanted, find(data, path)):
                return False
        for path, element in self.contains:
            items = find(data, path)
            if type(items) is not list or not any(
                rank(item) is not None and sort_key(item) == element for item in items
            ):
                return False
        return True

    def position(self, data: dict[str, Any], id_: DocumentId) -> SortPosition:
        """Give the position of a document in the order."""
        return SortPosition(None if self.order is None else find(data, self.order), id_)


def index_fields(contract: CollectionContract) -> list[tuple[Path, ...]]:
    """Give every list of fields that a driver keeps an index for: the declared ones and their first few fields.

    Raises:
        ConfigError: an index is no list of dotted paths, or names a field twice.
    """
    found: dict[tuple[Path, ...], None] = {}
    for declared in contract.indexes:
        paths = [declared] if isinstance(declared, str) else list(declared)
        try:
            if not paths or any(path.startswith("-") for path in paths[:-1]):
                raise InvalidArgument("only the last field may start with '-'")  # noqa: TRY301 (told with the others)
            fields = tuple(split_path(path.removeprefix("-")) for path in paths)
            if len(set(fields)) != len(fields):
                raise InvalidArgument("it names a field twice")  # noqa: TRY301 (told with the others)
        except InvalidArgument as error:
            raise ConfigError(f"indexes: {declared!r} is no index: {error.message}") from error
        found.update((fields[:length], None) for length in range(1, len(fields) + 1))
    return list(found)


class Planner:
    """Plans the queries of one collection.

    Args:
        contract: what the config declares.
        resource: the collection's name, for messages.
    """

    def __init__(self, contract: CollectionContract, resource: str) -> None:
        self._resource = resource
        self._key: Path = (contract.key,)
        self._partition: Path | None = None if contract.partition is None else (contract.partition,)
        self._primary: tuple[Path, ...] = (self._key,) if self._partition is None else (self._partition, self._key)
        self._indexes = index_fields(contract)
        self._may_scan = contract.allow_scan

    def serve(self, question: Question) -> Served:
        """Plan a question.

        Raises:
            InvalidArgument: no declared index serves it and it may not scan; the message says which index would.
        """
        wanted = self._by_path(question)
        if not all(wanted.values()):
            return Served(descending=question.descending)
        equal = {path: one[0] for path, one in wanted.items() if len(one) == 1 and one[0].is_point}
        ranged = [path for path, one in wanted.items() if path not in equal and one not in {ALL, _STRINGS}]
        order = self._order(question, equal, ranged)
        contains = tuple((c.path, sort_key(c.operand)) for c in question.conditions if c.operator == "contains")
        ids = self._ids(wanted)
        if ids is None:
            equals, fields = self._best(equal, ranged, order)
            plan = self._plan(question, wanted, equals, fields)
            natural = fields[-1] if equals < len(fields) and fields != self._primary else None
        else:
            plan, fields, natural = None, self._primary, None
        rest = tuple((path, one) for path, one in wanted.items() if path not in fields and one != _STRINGS)
        served = Served(plan, ids, order, ids is not None or natural != order, question.descending, rest, contains)
        complete = ids is not None or (served.exact and not served.sort and bool(fields))
        if not (complete or question.allow_scan or self._may_scan):
            raise InvalidArgument(self._advice(equal, ranged, order, question))
        return served

    def _by_path(self, question: Question) -> dict[Path, tuple[Interval, ...]]:
        wanted: dict[Path, tuple[Interval, ...]] = {}
        for condition in question.conditions:
            if condition.operator != "contains":
                before = wanted.get(condition.path)
                wanted[condition.path] = condition.wanted if before is None else intersect(before, condition.wanted)
        if question.order is not None:
            wanted.setdefault(question.order, ALL)
        for path in (self._key, self._partition):
            if path in wanted:
                wanted[path] = intersect(wanted[path], _STRINGS)
        return wanted

    def _order(self, question: Question, equal: dict[Path, Interval], ranged: list[Path]) -> Path | None:
        order = question.order
        if order is None and len(ranged) == 1:
            order = ranged[0]
        if order is None or order in equal or order == self._partition:
            return None
        if order == self._key and (self._partition is None or self._partition in equal):
            return None
        return order

    def _ids(self, wanted: dict[Path, tuple[Interval, ...]]) -> tuple[DocumentId, ...] | None:
        """The keys that can match, where the conditions name them all."""
        keys = _points(wanted.get(self._key))
        partitions = [""] if self._partition is None else _points(wanted.get(self._partition))
        if keys is None or partitions is None:
            return None
        return tuple((partition, key) for partition in partitions for key in keys)

    def _best(
        self, equal: dict[Path, Interval], ranged: list[Path], order: Path | None
    ) -> tuple[int, tuple[Path, ...]]:
        """Choose the fields of an index, of the keys, or none; and how many of them are equalities.

        The most equalities come first, then the order that is asked for, then a range.
        """
        best: tuple[int, ...] = (0, int(order is None), 0)
        chosen: tuple[Path, ...] = ()
        for fields in self._indexes:
            equals = len(fields) if fields[-1] in equal else len(fields) - 1
            last = None if equals == len(fields) else fields[-1]
            if any(path not in equal for path in fields[:equals]) or (last and last not in ranged and last != order):
                continue
            score = (equals, int(last == order), int(last in ranged))
            if score > best or (not chosen and score == best):
                best, chosen = score, fields
        if self._partition in equal:
            score = (1, int(order is None), int(self._key in ranged))
            if score > best:
                best, chosen = score, self._primary
        return best[0], chosen

    def _plan(
        self, question: Question, wanted: dict[Path, tuple[Interval, ...]], equals: int, fields: tuple[Path, ...]
    ) -> Plan:
        if not fields:
            return Plan(descending=question.descending)
        if fields == self._primary:
            keys = wanted.get(self._key, _STRINGS)
            partition = _value(wanted[fields[0]][0])
            return Plan((), (), () if keys == _STRINGS else keys, str(partition), question.descending)
        values = tuple(_value(wanted[path][0]) for path in fields[:equals])
        ranges = wanted[fields[-1]] if equals < len(fields) else ()
        return Plan(fields, values, () if ranges == ALL else ranges, None, question.descending)

    def _advice(self, equal: dict[Path, Interval], ranged: list[Path], order: Path | None, question: Question) -> str:
        last = [*ranged, *([order] if order is not None and order not in ranged else [])]
        scan = "pass allow_scan=True to where() if reading the whole collection is what you want"
        if any(c.operator == "contains" for c in question.conditions):
            return f"no index serves contains; {scan}"
        if len(last) > 1:
            names = " and ".join(".".join(path) for path in last)
            return f"an index serves one range or order field, and this query has {names}; {scan}"
        paths = [".".join(path) for path in equal] + [
            ("-" if question.descending else "") + ".".join(path) for path in last
        ]
        if not paths:
            return f"a query without conditions reads the whole collection; {scan}"
        if last == [self._key] and not equal:
            return f"a range of keys needs a partition; {scan}"
        index = f'"{paths[0]}"' if len(paths) == 1 else "[" + ", ".join(f'"{path}"' for path in paths) + "]"
        return (
            f"no declared index serves this query; add {index} to `indexes` of [resources.{self._resource}], or {scan}"
        )


def _value(point: Interval) -> Scalar:
    return point.low[0] if point.low else None


def _points(wanted: Sequence[Interval] | None) -> list[str] | None:
    """The strings that intervals are made of; None where they are not all points. Keys are strings alone."""
    if wanted is None or not all(one.is_point for one in wanted):
        return None
    return [value for value in map(_value, wanted) if isinstance(value, str)]
