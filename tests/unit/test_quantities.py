"""Durations and sizes as people write them."""

from __future__ import annotations

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable.quantities import Duration, Size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("30s", 30), ("5m", 300), ("2h", 7200), ("7d", 604800), ("1.5s", 1.5), (" 2 h ", 7200), (0, 0)],
)
def test_durations(text: object, seconds: float) -> None:
    assert Duration.parse(text) == pytest.approx(seconds)
    assert isinstance(Duration.parse(text), float)


@pytest.mark.parametrize("text", ["512B", "64KiB", "5MiB", "1GiB", "2TiB", "0.5KiB", 1048576, 0])
def test_sizes(text: object) -> None:
    expected = {"512B": 512, "64KiB": 2**16, "5MiB": 5 * 2**20, "1GiB": 2**30, "2TiB": 2**41, "0.5KiB": 512}
    assert Size.parse(text) == expected.get(str(text), text)
    assert isinstance(Size.parse(text), int)


WRONG: list[object] = [
    "",
    "5",
    "s",
    "5 minutes",
    "-5s",
    "5S",
    "5s5",
    "1e3s",
    "٣s",
    "5µs",
    None,
    True,
    b"5s",
    [],
    -1,
    math.nan,
]


@pytest.mark.parametrize("value", [*WRONG, math.inf, "5KiB", "99999999999d", 1e12])
def test_what_is_no_duration_is_told_how_one_is_written(value: object) -> None:
    with pytest.raises(ValueError, match="is not a duration; write it as 250ms, 30s"):
        Duration.parse(value)


@pytest.mark.parametrize("value", [*WRONG, 1.5, "5s", "5KB", "5kib", "9999999999TiB", 2**63])
def test_what_is_no_size_is_told_how_one_is_written(value: object) -> None:
    with pytest.raises(ValueError, match="is not a size; write it as 512B, 64KiB"):
        Size.parse(value)


@given(st.integers(0, 10**9), st.sampled_from(["ms", "s", "m", "h", "d"]))
def test_any_whole_number_of_units_is_read(number: int, unit: str) -> None:
    seconds = number * {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}[unit]
    if seconds < 1e11:
        assert Duration.parse(f"{number}{unit}") == pytest.approx(seconds)
    else:
        with pytest.raises(ValueError):
            Duration.parse(f"{number}{unit}")


@given(st.one_of(st.text(), st.floats(), st.integers(), st.binary(), st.none()))
def test_anything_else_is_a_value_error_or_a_quantity(value: object) -> None:
    for kind in (Duration, Size):
        with contextlib.suppress(ValueError):
            assert 0 <= kind.parse(value) < math.inf
