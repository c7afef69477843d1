"""A clock that tests of applications move: leases, delays and times to live run by it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

from portable.errors import InvalidArgument

__all__ = ["Clock"]


class Clock:
    """The wall clock of a test's clouds. It runs by itself until `stop`, and from then on moves only when told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped_at: float | None = None
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> float:
        """Give the time, in seconds since the epoch."""
        stopped_at = self._stopped_at
        return time.time() if stopped_at is None else stopped_at

    def advance(self, seconds: float) -> None:
        """Move it forward: what is due by then happens, and whoever waits for it wakes up.

        Args:
            seconds: how far; 0 or more.

        Raises:
            InvalidArgument: the seconds are fewer than 0; `set` moves it back.
        """
        if not seconds >= 0:
            raise InvalidArgument(f"advance({seconds!r}): the seconds are 0 or more; `set` moves a clock back")
        with self._lock:
            self._stopped_at = self.now() + seconds
        self._tell()

    def set(self, moment: datetime | float) -> None:
        """Move it to a moment, forward or back.

        Args:
            moment: an aware datetime, or seconds since the epoch.

        Raises:
            InvalidArgument: the datetime has no time zone.
        """
        if isinstance(moment, datetime):
            if moment.tzinfo is None:
                raise InvalidArgument(f"set({moment!r}): the datetime has no time zone; give an aware one")
            moment = moment.astimezone(UTC).timestamp()
        with self._lock:
            self._stopped_at = float(moment)
        self._tell()

    def stop(self) -> None:
        """Stop it where it is."""
        with self._lock:
            self._stopped_at = self.now()

    def on_moved(self, callback: Callable[[], None]) -> None:
        """Call `callback` each time the clock was moved."""
        self._listeners.append(callback)

    def _tell(self) -> None:
        for callback in list(self._listeners):
            callback()
