"""The news of changes: who waits on which channel, and how a commit of another process wakes them.

SQLite tells nobody of a commit, so while somebody waits one thread a store looks every 25 ms whether the file moved.
A commit of this process needs no looking: it notifies its channel itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from time import monotonic

__all__ = ["Changes", "Subscription"]

# Seconds. A wake-up costs more than the look: 40 a second are 0.3% of a core, and leave half of the 50 ms to spare.
LOOK_EVERY = 0.025
# A consumer that waits again and again should not start a thread each time.
LINGER = 0.25

_log = logging.getLogger("portable")


class Subscription:
    """A callback on a channel; `close()` takes it away, and a callback already under way may still finish."""

    __slots__ = ("_callback", "_changes", "_channel")

    def __init__(self, changes: Changes, channel: str, callback: Callable[[], object]) -> None:
        self._changes = changes
        self._channel = channel
        self._callback = callback

    def fire(self) -> None:
        """Call the callback; what it raises is logged, because the caller is a stranger's commit."""
        try:
            self._callback()
        except Exception:  # noqa: BLE001 (whatever it is, it is not for the thread that committed)
            _log.exception("a callback on changes of %r failed", self._channel)

    def close(self) -> None:
        """Take the callback away. Twice is no error."""
        self._changes.forget(self._channel, self)


class Changes:
    """What changed, by channel, in this process and in others.

    A channel is any name that the drivers agree on, one a resource: a commit of this process moves its own channel,
    one of another process moves all of them. Being woken means "look again", never more.

    Args:
        look: says whether another process committed since it was last asked; called from the watching thread.
    """

    def __init__(self, look: Callable[[], bool]) -> None:
        self._look = look
        self._versions: dict[str, int] = {}
        self._foreign = 0
        self._closed = False
        self.reset()

    def reset(self) -> None:
        """Forget every waiter and the watching thread: a fork left them in the parent."""
        self._mutex = threading.Lock()
        self._listeners: dict[str, set[Subscription]] = {}
        self._watcher: threading.Thread | None = None
        # A plain lock, because waiting for an event costs twice as much.
        self._stop = threading.Lock()
        self._stop.acquire()

    def version(self, channel: str) -> int:
        """A number that is another one after a change. Take it before looking, and give it to `wait`."""
        return self._versions.get(channel, 0) + self._foreign

    def notify(self, channel: str) -> None:
        """Say that this process changed `channel`; its waiters wake at once."""
        with self._mutex:
            self._versions[channel] = self._versions.get(channel, 0) + 1
            listeners = self._listeners.get(channel)
            if not listeners:
                return
            heard = tuple(listeners)
        for listener in heard:
            listener.fire()

    def wait(self, channel: str, version: int, timeout: float) -> bool:
        """Block until `version(channel)` is no longer `version`, for at most `timeout` seconds.

        Returns:
            Whether it changed. It can be for nothing: look again.
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
            if self._watcher is None and not self._closed:
                self._watcher = threading.Thread(target=self._watch, name="portable-sqlite-watch", daemon=True)
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

    def close(self) -> None:
        """Wake every waiter and end the watching thread."""
        self._closed = True
        if self._stop.locked():
            self._stop.release()
        watcher = self._watcher
        if watcher is not None and watcher is not threading.current_thread():
            watcher.join()
        self._wake_all()

    def _watch(self) -> None:
        stop = self._stop
        self._changed()
        # What was committed before the first look cannot be told from what was there: everybody looks again.
        self._wake_all()
        lonely_since: float | None = None
        while not stop.acquire(timeout=LOOK_EVERY):
            with self._mutex:
                if self._listeners:
                    lonely_since = None
                elif lonely_since is None:
                    lonely_since = monotonic()
                elif monotonic() - lonely_since > LINGER:
                    self._watcher = None
                    return
            if self._changed():
                self._wake_all()

    def _changed(self) -> bool:
        try:
            return self._look()
        except Exception:  # noqa: BLE001 (the waiter's own next call meets the same fault and reports it)
            return True

    def _wake_all(self) -> None:
        with self._mutex:
            self._foreign += 1
            heard = [listener for listeners in self._listeners.values() for listener in listeners]
        for listener in heard:
            listener.fire()
