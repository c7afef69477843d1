# Generated from portable/aio/lock.py by tools/generate_sync.py; change that file, not this one.
"""A lock of a cache, held until it is released or its lease runs out."""

from __future__ import annotations

import contextlib
import random
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from portable._concurrency import sleep, wait_for_arrival
from portable.drivers import CacheDriver
from portable.errors import LeaseLost, PortableError

if TYPE_CHECKING:
    from portable.cache import Cache

__all__ = ["Lock", "Turn", "lock_name"]

FIRST_PAUSE = 0.01
LONGEST_PAUSE = 0.25


def lock_name(name: str) -> str:
    """Give the name under which drivers keep an application's lock, apart from those of `get_or_set`."""
    return f"lock:{name}"


class Lock:
    """A lock that this caller holds; `Cache.lock` makes it.

    Use it as a context manager, which releases it, or call `release`. It is lost when its `ttl` has run out before it
    was extended, and, as a cache may forget, in rare cases earlier: what must never happen twice checks `token`.
    """

    __slots__ = ("_cache", "_holder", "_released", "_token", "_ttl", "name")

    def __init__(self, cache: Cache[Any], name: str, holder: str, token: int | None, ttl: float) -> None:
        """Hold a lock that was obtained.

        Args:
            cache: where.
            name: the application's name for it.
            holder: what the driver knows this holder by.
            token: the fencing token, or None.
            ttl: seconds that the lease lasts from each extension on.
        """
        self._cache = cache
        self._holder = holder
        self._token = token
        self._ttl = ttl
        self._released = False
        self.name = name

    @property
    def token(self) -> int:
        """The fencing token: greater than that of every earlier holder of this lock.

        Hand it over with each write, and let the receiver refuse a token smaller than one that it has seen.

        Raises:
            Unsupported: the backend has none (`fencing` capability).
        """
        if self._token is None:
            self._cache._require_fencing()  # noqa: SLF001 (a lock is a part of its cache)
        assert self._token is not None  # noqa: S101 (refused above)
        return self._token

    def extend(self, ttl: float | None = None, *, timeout: float | None = None) -> None:
        """Hold it for `ttl` more seconds from now.

        Args:
            ttl: seconds; left out, as long as it was asked for.
            timeout: seconds.

        Raises:
            LeaseLost: it ran out, or was released.
        """
        if self._released:
            raise LeaseLost(f"the lock {self.name!r} was released; get a new one")
        ttl = self._ttl if ttl is None else ttl
        self._cache._lock_extend(self.name, self._holder, ttl, timeout=timeout)  # noqa: SLF001 (a lock is a part of its cache)
        self._ttl = ttl

    def release(self, *, timeout: float | None = None) -> None:
        """Let others have it. Again is no error.

        Args:
            timeout: seconds.

        Raises:
            LeaseLost: it ran out before.
        """
        if self._released:
            return
        try:
            self._cache._lock_release(self.name, self._holder, timeout=timeout)  # noqa: SLF001 (a lock is a part of its cache)
        except LeaseLost:
            self._released = True
            raise
        self._released = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.release()
            return
        # What the block raised matters more than a lock that was lost meanwhile.
        with contextlib.suppress(PortableError):
            self.release()

    def __repr__(self) -> str:
        """Show the name, and whether it was released."""
        return f"<Lock {self.name!r}{' released' if self._released else ''}>"


class Turn:
    """Waits for a lock to come free: the backend tells, where it can; else it is asked again, ever less often."""

    def __init__(self, driver: CacheDriver, name: str) -> None:
        """Start to listen.

        Args:
            driver: where the lock is.
            name: the lock, as the driver is asked for it.
        """
        self._arrivals = driver.lock_arrivals(name)
        self._version = 0
        self._pause = FIRST_PAUSE

    def look(self) -> None:
        """Say that the lock is about to be asked for; what is released from now on ends the next `wait`."""
        if self._arrivals is not None:
            self._version = self._arrivals.version()

    def wait(self, seconds: float, deadline: float | None) -> bool:
        """Wait until it is worth asking again; False when the deadline has passed before.

        Args:
            seconds: until the lease of whoever has it runs out.
            deadline: by the monotonic clock, or None.
        """
        if deadline is not None:
            left = deadline - monotonic()
            if left <= 0:
                return False
            seconds = min(seconds, left)
        # A lease that is due this very moment must not be asked for in a tight loop.
        seconds = max(seconds, 0.001)
        if self._arrivals is not None:
            wait_for_arrival(self._arrivals, self._version, seconds)
        else:
            sleep(min(seconds, self._pause * random.uniform(0.5, 1.0)))  # noqa: S311 (spreads load, hides nothing)
            self._pause = min(self._pause * 1.5, LONGEST_PAUSE)
        return True
