"""How values of a cache are stored, and how they are told apart."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable.cache_values import MARK, JsonOrBytes, Typed, value_codec
from portable.errors import IntegrityError, InvalidArgument

CODEC = JsonOrBytes()
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
CONTENT = st.binary() | JSON.map(lambda value: json.dumps(value).encode()) | st.binary().map(lambda rest: MARK + rest)


@given(JSON)
def test_json_comes_back_and_is_readable_by_others(value: Any) -> None:
    stored = CODEC.encode(value)
    assert repr(CODEC.decode(stored)) == repr(value)
    assert json.loads(stored) == value


@given(CONTENT)
def test_bytes_come_back(content: bytes) -> None:
    found = CODEC.decode(CODEC.encode(content))
    assert type(found) is bytes
    assert found == content


@given(CONTENT, JSON)
def test_bytes_are_never_stored_like_json(content: bytes, value: Any) -> None:
    assert CODEC.encode(content) != CODEC.encode(value)


@given(CONTENT)
def test_what_another_program_stored_is_its_json_or_its_bytes(content: bytes) -> None:
    found = CODEC.decode(content)
    if isinstance(found, bytes):
        assert found == content or MARK + found == content
    else:
        assert repr(json.loads(content)) == repr(found)


MEANINGS: list[tuple[bytes, Any]] = [
    (b"42", 42),
    (b"-7", -7),
    (b' {"a": [1, null]}\n', {"a": [1, None]}),
    (b"hello", b"hello"),
    (b"true story", b"true story"),
    (b"123abc", b"123abc"),
    (b"[" * 100_000, b"[" * 100_000),
    (b'"\xff"', b'"\xff"'),
    (b"", b""),
    (MARK, MARK),
    (MARK + b"plain", MARK + b"plain"),
    (MARK + b"5", b"5"),
    (MARK + MARK, MARK),
]


def test_what_is_stored_means() -> None:
    assert [CODEC.decode(stored) for stored, _ in MEANINGS] == [value for _, value in MEANINGS]


def test_counters_are_plain_decimals_and_plain_bytes_stay_plain() -> None:
    assert CODEC.encode(42) == b"42"
    assert CODEC.encode(b"\x89PNG") == b"\x89PNG"
    assert CODEC.encode(bytearray(b"x")) == b"x"
    assert CODEC.encode(memoryview(b"5")) == MARK + b"5"


def test_what_would_change_is_refused() -> None:
    values = [
        float("nan"),
        [float("inf")],
        (1,),
        {1: 2},
        {"a": (1,)},
        {"a": b"x"},
        {1, 2},
        object(),
        "\ud800",
        10**5000,
    ]
    for value in values:
        with pytest.raises(InvalidArgument):
            CODEC.encode(value)


def test_a_value_without_end_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(InvalidArgument):
        CODEC.encode(loop)


@dataclass
class Point:
    x: int
    y: int = 0


def test_typed_values() -> None:
    codec = value_codec(Point)
    assert codec.decode(codec.encode(Point(1, 2))) == Point(1, 2)
    assert codec.decode(b'{"x": 5}') == Point(5)
    assert value_codec(list[tuple[int, str]]).decode(b'[[1, "a"]]') == [(1, "a")]
    for value in (5, {"x": "one"}, Point("one")):  # type: ignore[arg-type]  # on purpose
        with pytest.raises(InvalidArgument, match="Point"):
            codec.encode(value)
    for stored in (b"5", b"\xff", b'{"x": "one"}', b""):
        with pytest.raises(IntegrityError, match="Point"):
            codec.decode(stored)


def test_the_type_bytes_is_the_default() -> None:
    assert isinstance(value_codec(bytes), JsonOrBytes)


def test_a_type_that_cannot_be_read_is_refused_at_once() -> None:
    with pytest.raises(InvalidArgument):
        Typed(dict[Any, object] | list[int] | set[int] | tuple[int])
