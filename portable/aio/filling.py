"""How `get_or_set` has a value computed by one caller while the others wait for it, or take the stale one."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from portable.aio._concurrency import kept
from portable.aio.lock import Turn
from portable.errors import DeadlineExceeded, IntegrityError, NotFound, PortableError

if TYPE_CHECKING:
    from portable.aio.cache import Cache

__all__ = ["Filling"]

T = TypeVar("T")

LEASE = 10.0
"""Seconds after which others take over from one that died while it computed."""
_MISSING: Any = object()


class Filling(Generic[T]):
    """One call of `get_or_set`."""

    def __init__(
        self,
        cache: Cache[Any],
        key: str,
        factory: Callable[[], Awaitable[T]],
        *,
        ttl: float | None,
        stale: float | None,
        timeout: float | None,
    ) -> None:
        """Take note of what is wanted; see `Cache.get_or_set` for the arguments."""
        self._cache = cache
        self._driver = cache._driver  # noqa: SLF001 (this is a part of the cache)
        self._key = key
        self._factory = factory
        self._ttl = ttl if ttl is None else ttl + (stale or 0.0)
        self._stale = stale
        self._each = cache._timeout if timeout is None else timeout  # noqa: SLF001 (the same)
        self._deadline = None if timeout is None else monotonic() + timeout
        self._name = f"fill:{key}"
        self._holder = secrets.token_hex(16)

    async def value(self) -> T:
        """Give the value: the stored one, or what the factory makes, here or at another caller."""
        value, fresh = await self._look()
        if fresh:
            return value
        turn = Turn(self._driver, self._name)
        while True:
            turn.look()
            attempt = await self._driver.acquire(self._name, self._holder, LEASE, timeout=self._left())
            if attempt.obtained:
                return await self._fill()
            if value is not _MISSING:
                return value
            await turn.wait(attempt.seconds, self._deadline)
            value, fresh = await self._look()
            if fresh:
                return value

    async def _look(self) -> tuple[T, bool]:
        stored = await self._driver.get(self._key, timeout=self._left())
        if stored is None:
            return _MISSING, False
        try:
            value: T = self._cache._codec.decode(stored)  # noqa: SLF001 (this is a part of the cache)
        except IntegrityError:
            # Of an older release of the application, perhaps: here is somebody who can make it anew.
            return _MISSING, False
        if self._stale is None:
            return value, True
        try:
            remaining = await self._driver.ttl(self._key, timeout=self._left())
        except NotFound:
            return value, False
        return value, remaining is None or remaining > self._stale

    async def _fill(self) -> T:
        try:
            # Whoever had the lock before may have filled it since the last look.
            value, fresh = await self._look()
            if fresh:
                return value
            async with kept(LEASE / 3, self._extend):
                made = await self._factory()
            stored = self._cache._encode(made)  # noqa: SLF001 (this is a part of the cache)
            await self._driver.set(self._key, stored, self._ttl, timeout=self._each)
            # Everybody gets what was stored, so that the first call sees no other types than the second.
            result: T = self._cache._codec.decode(stored)  # noqa: SLF001 (this is a part of the cache)
            return result
        finally:
            # A lock that cannot be released runs out by itself.
            with contextlib.suppress(PortableError):
                await self._driver.release(self._name, self._holder, timeout=self._each)

    async def _extend(self) -> None:
        await self._driver.extend(self._name, self._holder, LEASE, timeout=self._each)

    def _left(self) -> float:
        if self._deadline is None:
            return self._each
        left = self._deadline - monotonic()
        if left <= 0:
            raise DeadlineExceeded("the timeout ran out before the value was there; somebody else may be computing it")
        return left
