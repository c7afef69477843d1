"""The stores of `obstore` that serve one bucket: a store for each time limit, because a store has but one."""

from __future__ import annotations

import importlib.util
import math
import os
import sys
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Stores", "is_usable", "rung"]

_SHORTEST = 0.125
_LONGEST = 4096.0

_runs_in_parent = False


def is_usable() -> bool:
    """Say whether this process can use `obstore`: it is installed, and its threads were not left behind by a fork."""
    return not _runs_in_parent and ("obstore" in sys.modules or importlib.util.find_spec("obstore") is not None)


def _in_child() -> None:
    # Its runtime has threads of its own, once a process; a child that inherits it without them waits for ever.
    global _runs_in_parent  # noqa: PLW0603 (a fact about the process)
    _runs_in_parent = _runs_in_parent or "obstore" in sys.modules


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


def rung(timeout: float, usual: float) -> float:
    """Give the time limit, of a few that there are, which serves a call: the usual one, or a power of two below."""
    if timeout >= usual and timeout < 2 * usual:
        return usual
    return 2.0 ** math.floor(math.log2(min(max(timeout, _SHORTEST), _LONGEST)))


class Stores:
    """Makes a store when a time limit is first needed, and keeps it.

    Args:
        make: makes a store, from the seconds that a request may take and how often it is repeated.
        usual: the time limit of most calls, in seconds.
        retries: how often a failed request is repeated.
    """

    def __init__(self, make: Callable[[float, int], Any], *, usual: float, retries: int) -> None:
        self._make = make
        self._usual = usual
        self._retries = retries
        self._lock = threading.Lock()
        self._made: dict[tuple[float, bool], Any] = {}

    def within(self, timeout: float, *, once: bool = False) -> Any:
        """Give the store for calls of at most so many seconds; `once`: one that repeats nothing."""
        key = (timeout if timeout == self._usual else rung(timeout, self._usual), once)
        store = self._made.get(key)
        if store is None:
            with self._lock:
                if key not in self._made:
                    self._made[key] = self._make(key[0], 0 if once else self._retries)
                store = self._made[key]
        return store

    def close(self) -> None:
        """Let go of every connection."""
        self._made.clear()
