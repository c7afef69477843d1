"""The news of one database: who waits for what, and how another process's commit wakes them.

A channel is any name that the drivers agree on, one a resource. Being woken means "look again", never more.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from portable.errors import PortableError

__all__ = ["Channel", "News", "Source", "Subscription"]

LINGER = 2.0
"""Seconds that the watching thread stays after the last who waited: many wait again and again."""

ENDS_WITHIN = 2.0

_log = logging.getLogger("portable")


class Source(Protocol):
    """Where news of other processes come from; used by one thread."""

    def watch(self, news: News, stop: threading.Event) -> None:
        """Tell `news` of what is heard, until `stop` is set or an error ends it."""
        ...


class Subscription:
    """A callback on a channel until it is closed; one that is under way may still finish."""

    __slots__ = ("_callback", "_channel", "_news")

    def __init__(self, news: News, channel: str, callback: Callable[[], object]) -> None:
        self._news = news
        self._channel = channel
        self._callback = callback

    def fire(self) -> None:
        """Call the callback; what it raises is logged, because the caller is a stranger's commit."""
        try:
            self._callback()
        except Exception:  # noqa: BLE001 (whatever it is, it is not for the thread that committed)
            _log.exception("a callback on news of %r failed", self._channel)

    def close(self) -> None:
        """Take the callback away. Twice is no error."""
        self._news.forget(self._channel, self)


class News:
    """What changed, by channel, in this process and in others.

    Args:
        source: tells of other processes, while anybody waits; called for each thread that watches.
    """

    def __init__(self, source: Callable[[], Source]) -> None:
        self._source = source
        self._versions: dict[str, int] = {}
        self._foreign = 0
        self._mutex = threading.Lock()
        self._listeners: dict[str, set[Subscription]] = {}
        self._watcher: threading.Thread | None = None
        self._stop = threading.Event()
        self._closed = False
        self._lonely_since = 0.0

    def version(self, channel: str) -> int:
        """A number that is another one after a change. Take it before looking, and give it to `wait`."""
        return self._versions.get(channel, 0) + self._foreign

    def notify(self, channel: str) -> None:
        """Say that a channel changed; its waiters wake at once."""
        with self._mutex:
            self._versions[channel] = self._versions.get(channel, 0) + 1
            heard = tuple(self._listeners.get(channel, ()))
        for listener in heard:
            listener.fire()

    def notify_all(self) -> None:
        """Say that any channel may have changed."""
        with self._mutex:
            self._foreign += 1
            heard = [listener for listeners in self._listeners.values() for listener in listeners]
        for listener in heard:
            listener.fire()

    def wait(self, channel: str, version: int, timeout: float) -> bool:
        """Block until `version(channel)` is no longer `version`, for at most `timeout` seconds; say whether it is."""
        woken = threading.Event()
        listener = self.subscribe(channel, woken.set)
        try:
            deadline = monotonic() + timeout
            while self.version(channel) == version:
                if not woken.wait(max(0.0, deadline - monotonic())):
                    break
                woken.clear()
        finally:
            listener.close()
        return self.version(channel) != version

    def subscribe(self, channel: str, callback: Callable[[], object]) -> Subscription:
        """Call `callback` at each change of `channel`, from whatever thread notices, until the subscription closes."""
        listener = Subscription(self, channel, callback)
        with self._mutex:
            self._listeners.setdefault(channel, set()).add(listener)
            if self._watcher is None and not self._closed:
                self._watcher = threading.Thread(target=self._watch, name="portable-sql-news", daemon=True)
                self._watcher.start()
        return listener

    def forget(self, channel: str, listener: Subscription) -> None:
        """Take a listener away."""
        with self._mutex:
            listeners = self._listeners.get(channel)
            if listeners is not None:
                listeners.discard(listener)
                if not listeners:
                    del self._listeners[channel]
            self._lonely_since = monotonic()

    def waited_for(self) -> list[str]:
        """Give the channels that anybody waits on."""
        with self._mutex:
            return list(self._listeners)

    def close(self) -> None:
        """Wake every waiter, and end the watching thread."""
        self._closed = True
        self._stop.set()
        watcher = self._watcher
        if watcher is not None and watcher is not threading.current_thread():
            # One that is just connecting to a server which does not answer ends by itself.
            watcher.join(ENDS_WITHIN)
        self.notify_all()

    def is_lonely(self) -> bool:
        """Whether nobody has waited for a while, so that watching may end."""
        with self._mutex:
            return not self._listeners and monotonic() - self._lonely_since > LINGER

    def _watch(self) -> None:
        pause = 0.02
        while not self._stop.is_set():
            started = monotonic()
            try:
                self._source().watch(self, self._stop)
            except PortableError:
                # Whoever waits meets the same trouble when he looks, and reports it.
                pass
            except Exception:  # noqa: BLE001 (nobody else would start the watching again)
                _log.exception("news of a database cannot be heard; trying again")
            with self._mutex:
                if not self._listeners and monotonic() - self._lonely_since > LINGER:
                    self._watcher = None
                    return
            if monotonic() - started > 1:
                pause = 0.02
            self._stop.wait(pause)
            pause = min(1.0, pause * 2)
            # Until there are news again everybody looks now and then.
            self.notify_all()


class Channel:
    """Satisfies `portable.arrivals.Arrivals`: the news of one resource."""

    def __init__(self, news: News, name: str) -> None:
        self._news = news
        self._name = name

    def version(self) -> int:
        """The number now."""
        return self._news.version(self._name)

    def wait(self, version: int, timeout: float) -> bool:
        """Block until the number is no longer `version` (True) or `timeout` seconds are over (False)."""
        return self._news.wait(self._name, version, timeout)

    def subscribe(self, callback: Callable[[], None]) -> Subscription:
        """Call `callback`, from any thread, at each change until the subscription is closed."""
        return self._news.subscribe(self._name, callback)

    def notify(self) -> None:
        """Say that something may have arrived."""
        self._news.notify(self._name)
