"""The news of one resource in an SQLite file."""

from __future__ import annotations

from collections.abc import Callable

from portable_embedded.changes import Changes, Subscription

__all__ = ["Channel"]


class Channel:
    """Satisfies `portable.arrivals.Arrivals`.

    Args:
        changes: the news of the file.
        name: the channel that the resource's writes notify.
        on_clock_moved: registers what runs when a test moves the clock, so that waits look again.
    """

    def __init__(
        self, changes: Changes, name: str, on_clock_moved: Callable[[Callable[[], None]], None] | None = None
    ) -> None:
        self._changes = changes
        self._name = name
        if on_clock_moved is not None:
            on_clock_moved(self._moved)

    def version(self) -> int:
        """The number now."""
        return self._changes.version(self._name)

    def wait(self, version: int, timeout: float) -> bool:
        """Block until the number is no longer `version` (True) or `timeout` seconds are over (False)."""
        return self._changes.wait(self._name, version, timeout)

    def subscribe(self, callback: Callable[[], None]) -> Subscription:
        """Call `callback`, from any thread, at each change until the subscription is closed."""
        return self._changes.subscribe(self._name, callback)

    def _moved(self) -> None:
        self._changes.notify(self._name)
