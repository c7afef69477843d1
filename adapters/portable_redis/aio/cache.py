"""Caches on Redis: each value is a string of its own; `docs/wire-formats/redis.md` names the keys."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from portable.bindings import Binding
from portable.bridges import stays_sync
from portable.capabilities import CacheCapabilities
from portable.changes import Change
from portable.errors import InvalidArgument, LimitExceeded, NotFound
from portable.leases import Attempt
from portable_redis.aio._concurrency import IS_ASYNC, Releases, Undoing, async_twin
from portable_redis.aio.server import Server
from portable_redis.errors import translated
from portable_redis.keys import cache_base
from portable_redis.options import RedisOptions
from portable_redis.scripts import Script

__all__ = ["RedisCache"]

LARGEST = 512 * 1024 * 1024
LONGEST = 2**53
"""Milliseconds that a value may live: what Lua counts exactly."""

NEWS = 64
"""Locks share so many streams of news, so that no name of a lock is remembered for ever."""

KEYS_AT_ONCE = 10_000

_SET_MANY = Script("set_many")
_INCR = Script("incr")
_KEEP = Script("keep")
_ACQUIRE = Script("acquire", after="cache")
_EXTEND = Script("extend_lock")
_RELEASE = Script("release")


class RedisCache:
    """Satisfies `portable.drivers.CacheDriver`."""

    Options = RedisOptions
    is_async = IS_ASYNC
    async_twin = async_twin

    def __init__(self, binding: Binding[RedisOptions]) -> None:
        self.binding = binding
        self._server = Server(binding)
        base = cache_base(binding.name)
        self._base = base
        self._values = f"{base}:value:"
        self._locks = f"{base}:lock:"
        self._tokens = f"{base}:token"
        self._undoing = Undoing()
        # By stream of news: what the last look at a lock has seen of it.
        self._seen: dict[str, str] = {}
        options = binding.options
        self.capabilities = CacheCapabilities(
            durability=self._server.durability,
            lock=True,
            # Where a replica may take over, it may not have heard of the last token, and has a clock of its own.
            fencing=not options.cluster and options.sentinel is None,
            negative_counters=True,
            max_value_bytes=LARGEST,
        )

    @property
    def native(self) -> Any:
        """The client of redis-py."""
        return self._server.client

    async def open(self) -> None:
        """Connect; there is nothing to make."""
        await self._server.open()
        self.capabilities = msgspec.structs.replace(self.capabilities, durability=self._server.durability)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._undoing.settle()
        await self._server.close()

    async def check(self, *, write: bool, timeout: float) -> None:
        """Read something; with `write`, set something, too, that is gone at once."""
        key = f"{self._base}:check"
        await self._server.call("GET", key, timeout=timeout, again=True)
        if write:
            await self._server.call("SET", key, "1", "PX", 1, timeout=timeout, again=True)

    async def plan(self) -> list[Change]:
        """There is nothing to make."""
        return []

    async def create(self) -> None:
        """There is nothing to make."""

    async def get(self, key: str, *, timeout: float) -> bytes | None:
        """Give the value, or None."""
        value: bytes | None = await self._server.call("GET", self._values + key, timeout=timeout, again=True)
        return value

    async def get_many(self, keys: Sequence[str], *, timeout: float) -> dict[str, bytes]:
        """Give the values that are there, in one round trip."""
        prefix = self._values
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE):
            chunk = keys[start : start + KEYS_AT_ONCE]
            values = await self._server.call("MGET", *[prefix + key for key in chunk], timeout=timeout, again=True)
            found.update((key, value) for key, value in zip(chunk, values, strict=True) if value is not None)
        return found

    async def set(self, key: str, value: bytes, ttl: float | None, *, timeout: float) -> None:
        """Set the value, whatever was there."""
        if ttl is None:
            await self._server.call("SET", self._values + key, value, timeout=timeout, again=True)
        else:
            await self._server.call(
                "SET", self._values + key, value, "PX", _milliseconds(ttl), timeout=timeout, again=True
            )

    async def set_many(self, values: Mapping[str, bytes], ttl: float | None, *, timeout: float) -> None:
        """Set all the values, in one round trip."""
        given = list(values.items())
        length = "" if ttl is None else _milliseconds(ttl)
        for start in range(0, len(given), KEYS_AT_ONCE):
            chunk = given[start : start + KEYS_AT_ONCE]
            keys = tuple(self._values + key for key, _ in chunk)
            await self._server.run(_SET_MANY, keys, length, *[value for _, value in chunk], timeout=timeout, again=True)

    async def add(self, key: str, value: bytes, ttl: float | None, *, timeout: float) -> bool:
        """Set the value if there is none."""
        length = () if ttl is None else ("PX", _milliseconds(ttl))
        return bool(await self._server.call("SET", self._values + key, value, "NX", *length, timeout=timeout))

    async def delete(self, key: str, *, timeout: float) -> bool:
        """Remove the value; say whether there was one."""
        return bool(await self._server.call("UNLINK", self._values + key, timeout=timeout))

    async def delete_many(self, keys: Sequence[str], *, timeout: float) -> int:
        """Remove the values, in one round trip; say how many there were."""
        gone = 0
        for start in range(0, len(keys), KEYS_AT_ONCE):
            names = [self._values + key for key in keys[start : start + KEYS_AT_ONCE]]
            gone += await self._server.call("UNLINK", *names, timeout=timeout)
        return gone

    async def incr(self, key: str, by: int, ttl: float | None, *, timeout: float) -> int:
        """Add to a counter, and give its new value."""
        name = self._values + key
        try:
            if ttl is None:
                return int(await self._server.call("INCRBY", name, by, timeout=timeout))
            # As text: a number of Lua has 53 bits.
            return int(await self._server.run(_INCR, (name,), by, _milliseconds(ttl), timeout=timeout))
        except ResponseError as error:
            text = str(error)
            if "would overflow" in text:
                raise LimitExceeded("the counter would not fit 64 bits") from error
            if "not an integer" in text:
                raise InvalidArgument(
                    "the value under this key is no int, so it cannot be counted up; delete it first"
                ) from error
            raise translated(error) from error

    async def touch(self, key: str, ttl: float | None, *, timeout: float) -> bool:
        """Let the value live `ttl` seconds from now; say whether there was one."""
        name = self._values + key
        if ttl is None:
            return bool(await self._server.run(_KEEP, (name,), timeout=timeout, again=True))
        return bool(await self._server.call("PEXPIRE", name, _milliseconds(ttl), timeout=timeout, again=True))

    async def ttl(self, key: str, *, timeout: float) -> float | None:
        """Give the seconds that the value has left, or None where it does not expire."""
        left = int(await self._server.call("PTTL", self._values + key, timeout=timeout, again=True))
        if left == -1:
            return None
        if left < 0:
            raise NotFound(f"there is nothing under {key!r}")
        return max(left, 1) / 1000

    async def clear(self, *, timeout: float) -> None:
        """Remove every value, batch by batch: all keys of the database are looked through for them."""
        pattern = _escaped(self._values) + "*"
        async for keys in self._server.scan(pattern, self._values, timeout=timeout):
            if keys:
                await self._server.call("UNLINK", *keys, timeout=timeout, again=True)

    async def acquire(self, name: str, holder: str, ttl: float, *, timeout: float) -> Attempt:
        """Try once to give a lock to a holder."""
        return await self._undoing.guard(self._acquire(name, holder, ttl, timeout), self._give_back)

    async def _acquire(self, name: str, holder: str, ttl: float, timeout: float) -> Attempt:
        news = self._news(name)
        keys = (self._locks + name, self._tokens, news)
        obtained, token, left, seen = await self._server.run(
            _ACQUIRE, keys, holder, _milliseconds(ttl), timeout=timeout
        )
        if obtained:
            fenced = int(token) if self.capabilities.fencing else None
            return Attempt(name, holder, obtained=True, token=fenced, seconds=ttl)
        self._seen[news] = seen.decode()
        return Attempt(name, holder, obtained=False, token=None, seconds=max(0, int(left)) / 1000)

    async def _give_back(self, attempt: Attempt) -> None:
        if attempt.obtained:
            await self.release(attempt.name, attempt.holder, timeout=float(self.binding.contract.timeout))

    async def extend(self, name: str, holder: str, ttl: float, *, timeout: float) -> bool:
        """Let a holder's lease last `ttl` seconds from now; False where it no longer has the lock."""
        keys = (self._locks + name,)
        return bool(await self._server.run(_EXTEND, keys, holder, _milliseconds(ttl), timeout=timeout, again=True))

    async def release(self, name: str, holder: str, *, timeout: float) -> bool:
        """Free a lock; False where the holder no longer has it."""
        keys = (self._locks + name, self._news(name))
        return bool(await self._server.run(_RELEASE, keys, holder, timeout=timeout))

    @stays_sync
    def lock_arrivals(self, name: str) -> Any:
        """Give the news of releases of one lock."""
        return Releases(self._server, self._news(name), self._seen)

    def _news(self, name: str) -> str:
        return f"{self._base}:released:{zlib.crc32(name.encode()) % NEWS}"


def _milliseconds(seconds: float) -> int:
    return min(max(1, math.ceil(seconds * 1000)), LONGEST)


def _escaped(text: str) -> str:
    return "".join(f"\\{character}" if character in "*?[]^\\" else character for character in text)
