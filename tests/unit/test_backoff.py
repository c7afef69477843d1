"""Pauses between attempts end in time, and attempts go on until nobody came between."""

from __future__ import annotations

import pytest

from portable.backoff import Backoff, ChangedError, until_unchanged
from portable.errors import DeadlineExceeded


def test_pauses_end_with_the_time_that_is_allowed() -> None:
    backoff = Backoff(0.05, "too busy")
    with pytest.raises(DeadlineExceeded, match="too busy"):
        for _ in range(1000):
            backoff.rest()
    assert 0 < backoff.left() <= 0.05


def test_an_attempt_is_repeated_until_nobody_came_between() -> None:
    left: list[float] = []

    def attempt(seconds: float) -> str:
        left.append(seconds)
        if len(left) < 4:
            raise ChangedError
        return "written"

    assert until_unchanged(attempt, 60) == "written"
    assert left == sorted(left, reverse=True)

    def always(_: float) -> None:
        raise ChangedError

    with pytest.raises(DeadlineExceeded, match="others wrote to the same all the time"):
        until_unchanged(always, 0.01)


def test_what_fails_otherwise_is_not_repeated() -> None:
    tries: list[float] = []

    def attempt(seconds: float) -> None:
        tries.append(seconds)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        until_unchanged(attempt, 60)
    assert len(tries) == 1
