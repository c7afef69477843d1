"""Racing calls, for the suites of the sync face; its async twin is written by hand too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

__all__ = ["race"]

T = TypeVar("T")


def race(calls: Iterable[Callable[[], T]]) -> list[T | BaseException]:
    """Start all calls at once; give each one's value or what it raised, in order."""
    todo = list(calls)
    if not todo:
        return []
    together = threading.Barrier(len(todo))

    def run(call: Callable[[], T]) -> T:
        together.wait()
        return call()

    with ThreadPoolExecutor(len(todo)) as threads:
        futures = [threads.submit(run, call) for call in todo]
    return [future.exception() or future.result() for future in futures]
