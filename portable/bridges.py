"""How a driver marks methods for the face that is not its own; see `threaded.py` and `looped.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["stays_sync", "undone_by"]

T = TypeVar("T")


def undone_by(undo: Callable[[Any, Any], None]) -> Callable[[T], T]:
    """Mark a driver's method whose result must be given back when its caller is gone: `undo(driver, result)`."""

    def mark(method: T) -> T:
        method.undo = undo  # type: ignore[attr-defined]  # functions take attributes
        return method

    return mark


def stays_sync(method: T) -> T:
    """Mark a driver's method that both faces call directly: it does not block, and returns no coroutine."""
    method.stays_sync = True  # type: ignore[attr-defined]  # functions take attributes
    return method
