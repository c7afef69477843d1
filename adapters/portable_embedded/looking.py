"""How a commit of another process to an SQLite file is heard of: SQLite tells nobody, so one thread a file looks."""

from __future__ import annotations

from collections.abc import Callable

from portable.news import News, Stop

__all__ = ["LINGER", "Looking"]

LOOK_EVERY = 0.025
"""Seconds. A wake-up costs more than the look: 40 a second are 0.3% of a core, and leave half of the 50 ms to spare."""

LINGER = 0.25
"""Seconds that looking goes on after the last who waited: who waits again should not start a thread each time."""


class Looking:
    """Looks whether another process committed, while anybody waits; satisfies `portable.news.Watch`.

    Args:
        look: says whether another process committed since it was last asked; called from the watching thread.
    """

    def __init__(self, look: Callable[[], bool]) -> None:
        self._look = look

    def __call__(self, news: News, stop: Stop) -> None:
        """Tell all channels of another process's commit, which does not say whose it is."""
        self._changed()
        # What was committed before the first look cannot be told from what was there: everybody looks again.
        news.notify_all()
        while not stop.wait(LOOK_EVERY) and not news.is_lonely():
            if self._changed():
                news.notify_all()

    def _changed(self) -> bool:
        try:
            return self._look()
        except Exception:  # noqa: BLE001 (the waiter's own next call meets the same fault and reports it)
            return True
