"""Pauses between attempts, for drivers of services whose own client does not repeat what they have to."""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic, sleep
from typing import TypeVar

from portable.errors import DeadlineExceeded

__all__ = ["Backoff", "ChangedError", "until_unchanged"]

T = TypeVar("T")

SHORTEST, LONGEST = 0.002, 0.5


class Backoff:
    """Pauses that grow, each of random length so that those who met once do not meet again.

    Args:
        timeout: how long all attempts may take, in seconds.
        why: what stands in the error when that is over.
    """

    def __init__(self, timeout: float, why: str) -> None:
        self._deadline = monotonic() + timeout
        self._pause = SHORTEST
        self._why = why

    def left(self) -> float:
        """Give the seconds that are left, and a moment at least."""
        return max(0.001, self._deadline - monotonic())

    def rest(self) -> None:
        """Wait a little, so that others get through.

        Raises:
            DeadlineExceeded: there is no time left for that.
        """
        if monotonic() + self._pause > self._deadline:
            raise DeadlineExceeded(self._why)
        sleep(random.uniform(0, self._pause))  # noqa: S311 (spreads load, hides nothing)
        self._pause = min(2 * self._pause, LONGEST)


class ChangedError(Exception):
    """Somebody else wrote between a read and the write that rests on it."""


def until_unchanged(attempt: Callable[[float], T], timeout: float) -> T:
    """Try until nobody comes between: each time somebody does, that one got through.

    Args:
        attempt: reads and writes, in so many seconds; raises `ChangedError` where what it has read had changed.
        timeout: how long all attempts may take, in seconds.

    Raises:
        DeadlineExceeded: there was always somebody.
    """
    backoff = Backoff(timeout, "others wrote to the same all the time; try again")
    while True:
        try:
            return attempt(backoff.left())
        except ChangedError:
            backoff.rest()
