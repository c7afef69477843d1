"""Where the `memory:` drivers keep things: `memory:` is one space per `Cloud`, `memory:NAME` one per process.

A named space lives as long as the process. A forked child starts with a copy of every space, as it was at the fork:
the locks of all spaces are taken around the fork, so that no copy is half changed and none stays locked.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from portable.bindings import Binding

__all__ = ["News", "Space", "space"]

T = TypeVar("T")


class Listener:
    """A callback that hears of news until `close`."""

    __slots__ = ("_callbacks",)

    def __init__(self, callbacks: dict[Listener, Callable[[], None]], callback: Callable[[], None]) -> None:
        self._callbacks = callbacks
        callbacks[self] = callback

    def close(self) -> None:
        """Hear no more; closing twice is no error."""
        self._callbacks.pop(self, None)


class News:
    """Tells waiters that something may have arrived; satisfies `portable.arrivals.Arrivals`."""

    def __init__(self) -> None:
        # Counting and listing are single steps of the interpreter, so this needs no lock that a fork could leave held.
        self._numbers = itertools.count(1)
        self._version = 0
        self._callbacks: dict[Listener, Callable[[], None]] = {}
        _all_news.add(self)

    def version(self) -> int:
        """The number now."""
        return self._version

    def wait(self, version: int, timeout: float) -> bool:
        """Block until the number is no longer `version` (True) or `timeout` seconds are over (False)."""
        arrived = threading.Event()
        listener = self.subscribe(arrived.set)
        try:
            return self._version != version or arrived.wait(timeout)
        finally:
            listener.close()

    def subscribe(self, callback: Callable[[], None]) -> Listener:
        """Call `callback`, from any thread, at each change until the listener is closed."""
        return Listener(self._callbacks, callback)

    def changed(self) -> None:
        """Say that something may have arrived; callers may hold the lock of their space."""
        self._version = next(self._numbers)
        if self._callbacks:
            for callback in list(self._callbacks.values()):
                callback()

    def forget(self) -> None:
        """Drop the waiters of a parent process, after a fork."""
        self._callbacks.clear()


class Space:
    """Named things that the `memory:` drivers of one cloud, or of one process, share.

    Attributes:
        lock: guards everything in the space. Whoever holds it must not take another space's, nor make a space.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._things: dict[object, Any] = {}
        # None comes while a thread forks, so that every space is held over the fork.
        with _forking:
            _spaces[next(_numbers)] = self

    def get(self, key: object, make: Callable[[], T]) -> T:
        """Give the thing kept under `key`, such as `("cache", name)`, making it on the first call."""
        with self.lock:
            if key not in self._things:
                self._things[key] = make()
            thing: T = self._things[key]
            return thing


_numbers = itertools.count()
_spaces: weakref.WeakValueDictionary[int, Space] = weakref.WeakValueDictionary()
_all_news: weakref.WeakSet[News] = weakref.WeakSet()
_named: dict[str, Space] = {}
_held: list[Space] = []
_forking = threading.RLock()


def space(binding: Binding[Any]) -> Space:
    """The space of a `memory:` binding: its cloud's own, or with `memory:NAME` the process's of that name."""
    name = binding.url.path
    if not name:
        return binding.shared.get("memory", Space)
    found = _named.get(name)
    # `setdefault` is a single step: two threads that meet here get the same space.
    return found if found is not None else _named.setdefault(name, Space())


def _before_fork() -> None:
    _forking.acquire()
    for _, one in sorted(_spaces.items()):
        one.lock.acquire()
        _held.append(one)


def _after_fork() -> None:
    while _held:
        _held.pop().lock.release()
    _forking.release()


def _after_fork_in_child() -> None:
    for news in list(_all_news):
        news.forget()
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
