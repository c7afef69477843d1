"""Values of documents: as JSON, as ordered bytes, as intervals of queries, and under updates."""

from __future__ import annotations

import json
from collections import OrderedDict
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, StrEnum
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from portable import document_json, document_updates
from portable.document_order import AFTER, encode, index_key
from portable.document_values import MISSING, Values, find, rank, sort_key, split_path
from portable.documents import Update
from portable.errors import IntegrityError, InvalidArgument
from portable.query_intervals import ALL, holds, intersect, intervals

# The machine may be busy, and a run must not fail for what the run before did not try.
steady = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

texts = st.text(st.characters(codec="utf-8"), max_size=6)
moments = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001 (zones come from hypothesis)
    lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000)
)
numbers = (
    st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-3, 3)
    | st.integers(2**53 - 3, 2**53 + 3)
    | st.sampled_from([2.0**53, 2.0**63, -(2.0**63), -0.0, 5e-324])
)
scalars = st.none() | st.booleans() | numbers | texts | st.binary(max_size=4) | moments
decimals = st.decimals(allow_nan=False, allow_infinity=False)
names = texts | st.sampled_from(["$bytes", "$datetime", "$decimal", "$", "$$bytes", "$$", "$x"])
values = st.recursive(
    scalars | decimals,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
documents = st.dictionaries(names, values, max_size=4)


def exactly(value: Any) -> Any:
    """Make a form of a value that differs wherever its types or digits do."""
    if isinstance(value, dict):
        return {name: exactly(item) for name, item in value.items()}
    if isinstance(value, list):
        return [exactly(item) for item in value]
    return (type(value), str(value) if isinstance(value, (float, Decimal)) else value)


@steady
@given(documents)
def test_json_gives_every_document_back(data: dict[str, Any]) -> None:
    seen = Values()
    normal = seen.document(data)
    assert exactly(normal) == exactly(data)
    text = document_json.dump(normal, special=seen.special)
    assert exactly(document_json.load(text)) == exactly(data)
    assert exactly(document_json.load(text.encode())) == exactly(data)
    json.loads(text)


@steady
@given(documents, documents)
def test_json_of_two_documents_differs(one: dict[str, Any], other: dict[str, Any]) -> None:
    same = document_json.dump(one) == document_json.dump(other)
    assert same is (exactly(one) == exactly(other) and list(one) == list(other)) or not same


def test_json_reads_what_other_programs_wrote() -> None:
    text = '{"a": {"$oid": "x"}, "b": {"$date": 1, "c": {"$decimal": "1.0"}}, "d": 1e2, "e": "\\u00e9"}'
    assert document_json.load(text) == {
        "a": {"$oid": "x"},
        "b": {"$date": 1, "c": Decimal("1.0")},
        "d": 100.0,
        "e": "é",
    }


@pytest.mark.parametrize(
    "text",
    ["", "[]", "1", "{", '{"a": {"$bytes": "!"}}', '{"a": {"$datetime": 5}}', '{"a": {"$decimal": "x"}}', b"\xff"],
)
def test_damaged_json_is_told(text: str) -> None:
    with pytest.raises(IntegrityError, match="damaged"):
        document_json.load(text)


def test_values_of_derived_types_are_stored_as_what_they_are_built_on() -> None:
    class Color(StrEnum):
        RED = "red"

    class Level(IntEnum):
        HIGH = 3

    class Name(str):
        __slots__ = ()

    data = Values().document(
        {"c": Color.RED, "l": Level.HIGH, Name("n"): OrderedDict(a=bytearray(b"x")), "m": [memoryview(b"y")]}
    )
    assert exactly(data) == exactly({"c": "red", "l": 3, "n": {"a": b"x"}, "m": [b"y"]})
    assert type(next(name for name in data if name == "n")) is str


def _deep(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": {"b": [1, {"c": float("nan")}]}}, r"a\.b\[1\]\.c"),
        ({"a": [{1, 2}]}, r"a\[0\]: set"),
        ({"a": {5: 1}}, "a: a field's name is a str, not 5"),
        ({"a": 2**64}, "a: the integer does not fit 64 bits"),
        ({"a": [datetime(2024, 1, 1)]}, r"a\[0\]: a datetime needs a time zone"),  # noqa: DTZ001 (that is refused)
        ({"a": [[[[]]]] * 2, "deep": _deep(101)}, "nested deeper than 100"),
        ({"a": {"b\ud800": 1}}, "the name of a field of a"),
    ],
)
def test_what_is_refused_says_where(value: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidArgument, match=where):
        Values().document(value)


@steady
@given(scalars, scalars)
def test_bytes_sort_as_values_do(one: Any, other: Any) -> None:
    left, right = encode(one), encode(other)
    assert (left < right) == (sort_key(one) < sort_key(other))
    assert (left == right) == (sort_key(one) == sort_key(other))
    # No encoding is the start of another, so that joined ones compare field by field.
    assert left == right or not right.startswith(left)


@steady
@given(st.tuples(scalars, scalars), st.tuples(scalars, scalars))
def test_joined_bytes_sort_as_pairs_do(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    paths = (("a",), ("b", "c"))
    left = index_key({"a": one[0], "b": {"c": one[1]}}, paths)
    right = index_key({"a": other[0], "b": {"c": other[1]}}, paths)
    assert left is not None
    assert right is not None
    assert (left < right) == ([*map(sort_key, one)] < [*map(sort_key, other)])
    assert left < left + AFTER


def test_only_documents_with_all_fields_have_an_index_key() -> None:
    paths = (("a",), ("b", "c"))
    for data in ({}, {"a": 1}, {"a": 1, "b": 1}, {"a": 1, "b": {"c": [1]}}, {"a": Decimal(1), "b": {"c": 1}}):
        assert index_key(data, paths) is None


def test_the_bytes_are_those_of_the_documentation() -> None:
    assert encode(None).hex() == "01"
    assert encode(True).hex() == "0201"
    assert encode(1).hex() == encode(1.0).hex() == "03bff00000000000000000"
    assert encode(-1).hex() == "03400fffffffffffff0000"
    assert encode(2**53 + 1).hex() == "03c3400000000000000001"
    assert encode(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)).hex() == "0480000000000003e8"
    assert encode("a\0é").hex() == "056100ffc3a900"
    assert encode(b"a\0").hex() == "066100ff00"


operands = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])


def plainly(op: str, found: Any, operand: Any) -> bool:
    if rank(found) != rank(operand):
        return False
    one, other = sort_key(found), sort_key(operand)
    return {
        "==": one == other,
        "!=": one != other,
        "<": one < other,
        "<=": one <= other,
        ">": one > other,
        ">=": one >= other,
    }[op]


@steady
@given(st.lists(st.tuples(operands, scalars), min_size=1, max_size=4), scalars)
def test_intervals_hold_what_all_operators_hold(conditions: list[tuple[str, Any]], found: Any) -> None:
    usable = [(op, value) for op, value in conditions if value is not None or op in {"==", "!="}]
    wanted = ALL
    for op, value in usable:
        wanted = intersect(wanted, intervals(op, value, "a"))
    for value in (found, *(value for _, value in usable)):
        assert holds(wanted, value) is all(plainly(op, value, operand) for op, operand in usable)


@steady
@given(st.lists(scalars, max_size=5), st.lists(scalars, max_size=3))
def test_lists_of_values(listed: list[Any], others: list[Any]) -> None:
    inside, outside = intervals("in", listed, "a"), intervals("not-in", listed, "a")
    for value in (*listed, *others):
        alike = [sort_key(one) for one in listed if rank(one) == rank(value)]
        assert holds(inside, value) is (sort_key(value) in alike)
        assert holds(outside, value) is (bool(alike) and sort_key(value) not in alike)


@steady
@given(texts, texts)
def test_prefixes(prefix: str, found: str) -> None:
    wanted = intervals("prefix", prefix, "a")
    assert holds(wanted, found) is found.startswith(prefix)
    assert holds(wanted, prefix + found)


@pytest.mark.parametrize("found", [Decimal(1), [], {}, MISSING])
def test_no_interval_holds_what_cannot_be_queried(found: Any) -> None:
    assert not holds(ALL, found)


def test_paths() -> None:
    data = {"a": {"b": {"c": 1}}, "d": [1], "n": None}
    assert find(data, split_path("a.b.c")) == 1
    for path in ("a.x", "a.b.c.d", "d.0", "n.x", "x"):
        assert find(data, split_path(path)) is MISSING
    assert repr(MISSING) == "MISSING"


def read(**parts: Any) -> document_updates.Changes:
    return document_updates.read(Update("a", **parts), plain=lambda value: value, fixed={"id": "key"})


def test_one_update_is_good_for_several_documents() -> None:
    changes = read(set={"new": {"list": []}}, append={"log": {"n": []}})
    one: dict[str, Any] = {}
    other: dict[str, Any] = {}
    changes.apply(one)
    one["new"]["list"].append(1)
    one["log"][0]["n"].append(1)
    changes.apply(other)
    assert other == {"new": {"list": []}, "log": [{"n": []}]}


def test_an_update_that_is_no_list_or_dict_is_refused() -> None:
    for unset in ("text", b"text", 5, None):
        with pytest.raises(InvalidArgument, match="list of paths"):
            read(unset=unset)
    for parts in ({"set": [1]}, {"increment": 5}, {"append": "x"}):
        with pytest.raises(InvalidArgument, match="takes a dict"):
            read(**parts)


def test_unset_of_what_has_no_parent() -> None:
    data = {"a": 1}
    read(unset=["a.b.c", "x.y"]).apply(data)
    assert data == {"a": 1}


@steady
@given(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1))
def test_sums_stay_within_64_bits(start: int, by: int) -> None:
    data = {"n": start}
    if -(2**63) <= start + by < 2**63:
        read(increment={"n": by}).apply(data)
        assert data == {"n": start + by}
    else:
        with pytest.raises(InvalidArgument, match="64 bits"):
            read(increment={"n": by}).apply(data)


def test_datetimes_far_away() -> None:
    early, late = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
    assert encode(early) < encode(early + timedelta(milliseconds=1)) < encode(late)
    assert document_json.load(document_json.dump({"a": early, "b": late})) == {"a": early, "b": late}
    with pytest.raises(InvalidArgument, match="years"):
        Values().document({"a": early.replace(tzinfo=timezone(timedelta(hours=1)))})
