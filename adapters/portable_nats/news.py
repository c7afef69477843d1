"""News that any thread may wait for."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["News"]


class _Subscribed:
    def __init__(self, news: News, callback: Callable[[], None]) -> None:
        self._news = news
        self._callback = callback

    def close(self) -> None:
        self._news.forget(self._callback)


class News:
    """Satisfies `portable.arrivals.Arrivals`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._version = 0
        self._callbacks: list[Callable[[], None]] = []

    def version(self) -> int:
        """The number now."""
        return self._version

    def wait(self, version: int, timeout: float) -> bool:
        """Block this thread until the number is no longer `version` (True) or `timeout` seconds are over (False)."""
        with self._changed:
            return self._changed.wait_for(lambda: self._version != version, timeout)

    def subscribe(self, callback: Callable[[], None]) -> _Subscribed:
        """Call `callback` at each change until what this gives is closed."""
        with self._changed:
            self._callbacks.append(callback)
        return _Subscribed(self, callback)

    def forget(self, callback: Callable[[], None]) -> None:
        """Call it no more."""
        with self._changed:
            self._callbacks.remove(callback)

    def tell(self) -> None:
        """Say that something happened."""
        with self._changed:
            self._version += 1
            self._changed.notify_all()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()
