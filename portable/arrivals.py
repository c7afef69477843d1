"""How a driver tells that something may have arrived, so that nobody has to poll."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["Arrivals", "Subscribed"]


class Subscribed(Protocol):
    """A callback that is called until `close`."""

    def close(self) -> None:
        """Call it no more."""
        ...


class Arrivals(Protocol):
    """News of one queue, stream or lock: a number that grows when something may have arrived.

    Look at `version`, look at the backend, then wait for the version to change: nothing is missed in between.
    """

    def version(self) -> int:
        """The number now."""
        ...

    def wait(self, version: int, timeout: float) -> bool:
        """Block this thread until the number is no longer `version` (True) or `timeout` seconds are over (False)."""
        ...

    def subscribe(self, callback: Callable[[], None]) -> Subscribed:
        """Call `callback`, from any thread, at each change until the subscription is closed."""
        ...
