"""News of what changed, for drivers whose waiters are threads: who waits on which channel, and what wakes them.

A channel is any name that the drivers of one backend agree on, one a resource. Being woken means "look again", never
more. What this process changes it tells itself; of other processes somebody has to hear, and only while anybody waits.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from portable.errors import PortableError

__all__ = ["Channel", "News", "Stop", "Subscription", "Watch"]

ENDS_WITHIN = 2.0
SOONEST, LATEST = 0.02, 1.0
"""Seconds between two attempts to watch."""

_log = logging.getLogger("portable")


class Stop:
    """Says that watching has to end."""

    def __init__(self) -> None:
        # A plain lock, because waiting for an event costs twice as much.
        self._held = threading.Lock()
        self._held.acquire()

    def set(self) -> None:
        """End it, or have it ended already."""
        if self._held.locked():
            self._held.release()

    def is_set(self) -> bool:
        """Whether it has to end."""
        return not self._held.locked()

    def wait(self, timeout: float) -> bool:
        """Block for at most `timeout` seconds; say whether it has to end. One thread waits."""
        if self._held.acquire(timeout=timeout):
            self._held.release()
            return True
        return False


class Watch(Protocol):
    """Hears of other processes' changes; called in a thread of its own while anybody waits."""

    def __call__(self, news: News, stop: Stop) -> None:
        """Tell `news` of what is heard, until `stop` is set, `news.is_lonely()`, or an error ends it."""
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
        watch: hears of other processes; None where nothing but this process changes anything.
        linger: seconds that the watching thread stays after the last who waited: many wait again and again.
    """

    def __init__(self, watch: Watch | None = None, *, linger: float = 2.0) -> None:
        self._watch = watch
        self._linger = linger
        self._versions: dict[str, int] = {}
        self._foreign = 0
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Forget every waiter and the watching thread: a fork left them in the parent."""
        self._mutex = threading.Lock()
        self._listeners: dict[str, set[Subscription]] = {}
        self._watcher: threading.Thread | None = None
        self._stop = Stop()
        self._lonely_since = 0.0

    def version(self, channel: str) -> int:
        """A number that is another one after a change. Take it before looking, and give it to `wait`."""
        return self._versions.get(channel, 0) + self._foreign

    def notify(self, channel: str) -> None:
        """Say that a channel changed; its waiters wake at once."""
        with self._mutex:
            self._versions[channel] = self._versions.get(channel, 0) + 1
            listeners = self._listeners.get(channel)
            if not listeners:
                return
            heard = tuple(listeners)
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
        """Block until `version(channel)` is no longer `version`, for at most `timeout` seconds.

        Returns:
            Whether it changed, or the news were closed. It can be for nothing: look again.
        """
        woken = threading.Event()
        listener = self.subscribe(channel, woken.set)
        try:
            deadline = monotonic() + timeout
            while self.version(channel) == version and not self._closed:
                if not woken.wait(max(0.0, deadline - monotonic())):
                    break
                woken.clear()
        finally:
            listener.close()
        return self._closed or self.version(channel) != version

    def subscribe(self, channel: str, callback: Callable[[], object]) -> Subscription:
        """Call `callback` at each change of `channel`, from whatever thread notices, until the subscription closes."""
        listener = Subscription(self, channel, callback)
        with self._mutex:
            self._listeners.setdefault(channel, set()).add(listener)
            if self._watcher is None and self._watch is not None and not self._closed:
                arguments = (self._watch, self._stop)
                self._watcher = threading.Thread(target=self._keep, args=arguments, name="portable-news", daemon=True)
                self._watcher.start()
        return listener

    def forget(self, channel: str, listener: Subscription) -> None:
        """Take a listener away; the watching thread goes a moment after the last one."""
        with self._mutex:
            listeners = self._listeners.get(channel)
            if listeners is not None:
                listeners.discard(listener)
                if not listeners:
                    del self._listeners[channel]
            if not self._listeners:
                self._lonely_since = monotonic()

    def waited_for(self) -> list[str]:
        """Give the channels that anybody waits on."""
        with self._mutex:
            return list(self._listeners)

    def is_lonely(self) -> bool:
        """Whether nobody has waited for a while, so that watching may end."""
        return not self._listeners and monotonic() - self._lonely_since > self._linger

    def close(self) -> None:
        """Wake every waiter, and end the watching thread."""
        self._closed = True
        self._stop.set()
        watcher = self._watcher
        if watcher is not None and watcher is not threading.current_thread():
            # One that is just connecting to a server which does not answer ends by itself.
            watcher.join(ENDS_WITHIN)
        self.notify_all()

    def _keep(self, watch: Watch, stop: Stop) -> None:
        pause = SOONEST
        while not stop.is_set():
            started = monotonic()
            try:
                watch(self, stop)
            except PortableError:
                # Whoever waits meets the same trouble when he looks, and reports it.
                pass
            except Exception:  # noqa: BLE001 (nobody else would start the watching again)
                _log.exception("news of other processes cannot be heard; trying again")
            with self._mutex:
                if self.is_lonely():
                    self._watcher = None
                    return
            if monotonic() - started > 1:
                pause = SOONEST
            stop.wait(pause)
            pause = min(LATEST, pause * 2)
            # Until there are news again everybody looks now and then.
            self.notify_all()


class Channel:
    """The news of one resource; satisfies `portable.arrivals.Arrivals`."""

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
