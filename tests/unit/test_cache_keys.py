"""Keys of a cache, and those that come from a function's arguments."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portable.cache_keys import KeyTemplate, check_key, check_seconds
from portable.errors import InvalidArgument, LimitExceeded

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def pair(a: Any, b: Any = "all", *rest: Any, c: Any = None) -> None:
    """Take arguments of every kind."""


@given(TEXT, TEXT, TEXT, TEXT)
def test_two_calls_share_a_key_only_when_their_texts_are_the_same(a: str, b: str, c: str, d: str) -> None:
    template = KeyTemplate("p:{a}:q/{b}%", pair)
    assert (template.key((a, b), {}) == template.key((c, d), {})) == ((a, b) == (c, d))


def test_how_keys_look() -> None:
    assert KeyTemplate("user:{a}", pair).key((7,), {}) == "user:7"
    assert KeyTemplate("user:{a}", pair).key((), {"a": "x:y%"}) == "user:x:y%"
    assert KeyTemplate("{a}:{b}", pair).key(("x:y", "50%"), {}) == "x%3Ay:50%25"
    assert KeyTemplate("{a}|{c}", pair).key(("ä|", 1), {"c": None}) == "ä%7C|None"
    assert KeyTemplate("{a!r}", pair).key(("x",), {}) == "'x'"
    assert KeyTemplate("{a:05d}", pair).key((7,), {}) == "00007"
    assert KeyTemplate("{{{a}}}", pair).key((7,), {}) == "{7}"
    assert KeyTemplate("all", pair).key((7,), {}) == "all"
    assert KeyTemplate("{a}-{rest}", pair).key((1, 2, 3), {}) == "1-(3,)"


def test_an_argument_that_does_not_fit_its_format() -> None:
    with pytest.raises(InvalidArgument, match="cannot take a str"):
        KeyTemplate("{a:05d}", pair).key(("x",), {})


def test_wrong_calls_raise_what_the_function_would() -> None:
    with pytest.raises(TypeError):
        KeyTemplate("{a}", pair).key((), {})


@pytest.mark.parametrize(
    "template",
    ["{x}", "{}", "{0}", "{a", "a}", "{a}{b}", "{a}and{b}", "{a}%{b}", "{a.real}", "{a[0]}", "{a:{b}}", "{a!x}"],
)
def test_templates_that_cannot_be(template: str) -> None:
    with pytest.raises(InvalidArgument):
        KeyTemplate(template, pair)


def test_what_a_key_is() -> None:
    check_key("k", None)
    check_key("ä" * 10, 20)
    with pytest.raises(LimitExceeded, match="22 bytes of UTF-8, and this cache takes 20"):
        check_key("ä" * 11, 20)
    for key in ("", b"k", None, 5, "\udcff"):
        with pytest.raises(InvalidArgument):
            check_key(key, None)


def test_what_seconds_are() -> None:
    for seconds in (None, 1, 0.001, 1e9):
        check_seconds("ttl", seconds)
    for wrong in (0, -1, True, "1", float("nan"), float("inf"), [1]):
        with pytest.raises(InvalidArgument, match="ttl="):
            check_seconds("ttl", wrong)
