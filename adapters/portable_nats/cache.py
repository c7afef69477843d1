"""Caches on JetStream: a key-value bucket; `docs/wire-formats/nats.md` names the keys."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from portable.bindings import Binding
from portable.bridges import stays_sync
from portable.capabilities import CacheCapabilities
from portable.changes import Change
from portable.errors import InvalidArgument, LimitExceeded, NotFound
from portable.leases import Attempt
from portable.news import Channel, News
from portable_nats.entries import Entries, expiry
from portable_nats.escaping import quoted, token
from portable_nats.jetstream import JetStream, Message, Stored
from portable_nats.options import NatsOptions, checked_name
from portable_nats.queue import LARGEST_BATCH, OVERHEAD

__all__ = ["NatsCache"]

T = TypeVar("T")

AT_ONCE = 256
"""Requests on their way at once."""

LONGEST_TOKEN = 1024
"""Characters of a key in a subject; a line of the protocol has room for 4,096 bytes in all."""

KEY = "Portable-Key"
TOKEN = "Portable-Token"  # noqa: S105 (a header's name)
SMALLEST, LARGEST = -(2**63), 2**63 - 1

_COUNTER = re.compile(rb"-?[0-9]{1,20}")


class NatsCache:
    """Satisfies `portable.aio.drivers.CacheDriver`."""

    Options = NatsOptions
    is_async = True

    def __init__(self, binding: Binding[NatsOptions]) -> None:
        self.binding = binding
        bucket = f"portable-cache-{checked_name(binding.name)}"
        self._js = JetStream(binding)
        self._entries = Entries(self._js, bucket, binding.options)
        self._usual = float(binding.contract.timeout)
        self._released = f"portable.released.{bucket}"
        self._news = Channel(News(), "")
        self._listening = False
        self.capabilities = CacheCapabilities(
            durability="replicated" if binding.options.replicas > 1 else "process",
            lock=True,
            fencing=True,
            negative_counters=True,
            max_value_bytes=binding.options.max_payload - OVERHEAD,
        )

    @property
    def native(self) -> Any:
        """The client of nats-py."""
        return self._js.client

    async def open(self) -> None:
        """Connect, and find the bucket, or make it where the binding says so."""
        await self._js.open()
        if self.binding.create:
            await self._entries.make(timeout=self._usual)
        await self._entries.find("cache", self.binding.name, timeout=self._usual)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._js.close()

    async def check(self, *, write: bool, timeout: float) -> None:
        """Look the bucket up; with `write`, set something, too, that is gone in a second."""
        await self._entries.find("cache", self.binding.name, timeout=timeout)
        if write:
            await self._entries.write([await self._entries.written("check", b"1", 1, timeout=timeout)], timeout=timeout)

    async def plan(self) -> list[Change]:
        """Say whether the bucket would be made."""
        await self._js.open()
        return await self._entries.missing("cache", self.binding.name, timeout=self._usual)

    async def create(self) -> None:
        """Make the bucket."""
        await self._js.open()
        await self._entries.make(timeout=self._usual)

    async def get(self, key: str, *, timeout: float) -> bytes | None:
        """Give the value, or None."""
        _, found = await self._entries.read(_value(key), timeout=timeout)
        return None if found is None else found.data

    async def get_many(self, keys: Sequence[str], *, timeout: float) -> dict[str, bytes]:
        """Give the values that are there; the requests are sent without waiting for the answers."""
        found = await _each(keys, lambda key: self.get(key, timeout=timeout))
        return {key: value for key, value in zip(keys, found, strict=True) if value is not None}

    async def set(self, key: str, value: bytes, ttl: float | None, *, timeout: float) -> None:
        """Set the value, whatever was there."""
        await self._entries.write([await self._written(key, value, ttl, timeout)], timeout=timeout)

    async def set_many(self, values: Mapping[str, bytes], ttl: float | None, *, timeout: float) -> None:
        """Set all the values, a thousand in one step."""
        messages = [await self._written(key, value, ttl, timeout) for key, value in values.items()]
        for start in range(0, len(messages), LARGEST_BATCH):
            await self._entries.write(messages[start : start + LARGEST_BATCH], timeout=timeout)

    async def add(self, key: str, value: bytes, ttl: float | None, *, timeout: float) -> bool:
        """Set the value if there is none."""
        message = await self._written(key, value, ttl, timeout)
        revision = 0
        while await self._entries.change(message, revision, timeout=timeout) is None:
            revision, found = await self._entries.read(_value(key), timeout=timeout)
            if found is not None:
                return False
        return True

    async def delete(self, key: str, *, timeout: float) -> bool:
        """Remove the value; say whether there was one."""
        return await self._changed(key, lambda _: self._entries.removed(_value(key)), timeout)

    async def delete_many(self, keys: Sequence[str], *, timeout: float) -> int:
        """Remove the values; say how many there were."""
        return sum(await _each(list(dict.fromkeys(keys)), lambda key: self.delete(key, timeout=timeout)))

    async def incr(self, key: str, by: int, ttl: float | None, *, timeout: float) -> int:
        """Add to a counter, and give its new value."""
        name = _value(key)
        while True:
            revision, found = await self._entries.read(name, timeout=timeout)
            if found is None:
                total, message = by, await self._written(key, b"%d" % by, ttl, timeout)
            else:
                total = _counted(key, found.data, by)
                message = self._entries.kept(name, b"%d" % total, expiry(found), extra=_key_header(key))
            if await self._entries.change(message, revision, timeout=timeout) is not None:
                return total
            await self._entries.pause()

    async def touch(self, key: str, ttl: float | None, *, timeout: float) -> bool:
        """Let the value live `ttl` seconds from now; say whether there was one."""
        now = await self._js.fresh(self._entries.stream, timeout=timeout)
        expires = None if ttl is None else now + ttl
        return await self._changed(
            key, lambda found: self._entries.kept(_value(key), found.data, expires, extra=_key_header(key)), timeout
        )

    async def ttl(self, key: str, *, timeout: float) -> float | None:
        """Give the seconds that the value has left."""
        _, found = await self._entries.read(_value(key), timeout=timeout)
        if found is None:
            raise NotFound(f"there is nothing under {key!r}")
        expires = expiry(found)
        return None if expires is None else max(0.001, expires - self._js.now())

    async def clear(self, *, timeout: float) -> None:
        """Remove every value; locks stay."""
        await self._entries.clear("value", timeout=timeout)

    async def acquire(self, name: str, holder: str, ttl: float, *, timeout: float) -> Attempt:
        """Try once to give a lock to a holder; what a caller obtained who is gone is released."""
        attempt = asyncio.ensure_future(self._acquire(name, holder, ttl, timeout))
        try:
            return await asyncio.shield(attempt)
        except asyncio.CancelledError:
            self._js.connection.in_background(self._give_back(attempt))
            raise

    async def _acquire(self, name: str, holder: str, ttl: float, timeout: float) -> Attempt:
        lock = _lock(name)
        revision = 0
        while True:
            message = await self._entries.written(lock, holder.encode(), ttl, extra=_key_header(name), timeout=timeout)
            obtained = await self._entries.change(message, revision, timeout=timeout)
            if obtained is not None:
                return Attempt(name, holder, obtained=True, token=obtained, seconds=ttl)
            revision, found = await self._entries.read(lock, timeout=timeout)
            if found is None:
                continue
            if self._listening:
                left = (expiry(found) or 0.0) - self._js.now()
                return Attempt(name, holder, obtained=False, token=None, seconds=max(0.0, left))
            # What is released from now on is heard of, and what was before is seen.
            await self._js.connection.listen(self._released, self._news.notify, timeout=timeout)
            self._listening = True
            revision = 0

    async def _give_back(self, attempt: asyncio.Future[Attempt]) -> None:
        given = await attempt
        if given.obtained:
            await self.release(given.name, given.holder, timeout=self._usual)

    async def extend(self, name: str, holder: str, ttl: float, *, timeout: float) -> bool:
        """Let a holder's lease last `ttl` seconds from now; False where it no longer has the lock."""
        lock = _lock(name)
        while True:
            revision, found = await self._entries.read(lock, timeout=timeout)
            if found is None or found.data != holder.encode():
                return False
            extra = {**_key_header(name), TOKEN: found.headers.get(TOKEN, str(revision))}
            message = await self._entries.written(lock, found.data, ttl, extra=extra, timeout=timeout)
            if await self._entries.change(message, revision, timeout=timeout) is not None:
                return True

    async def release(self, name: str, holder: str, *, timeout: float) -> bool:
        """Free a lock; False where the holder no longer has it."""
        lock = _lock(name)
        while True:
            revision, found = await self._entries.read(lock, timeout=timeout)
            if found is None or found.data != holder.encode():
                return False
            if await self._entries.change(self._entries.removed(lock), revision, timeout=timeout) is not None:
                await self._js.connection.tell([Message(self._released, b"")], timeout=timeout)
                return True

    @stays_sync
    def lock_arrivals(self, name: str) -> Channel:  # noqa: ARG002 (all locks of a cache share them)
        """Give the news of releases."""
        return self._news

    async def _written(self, key: str, value: bytes, ttl: float | None, timeout: float) -> Message:
        return await self._entries.written(_value(key), value, ttl, extra=_key_header(key), timeout=timeout)

    async def _changed(self, key: str, change: Callable[[Stored], Message], timeout: float) -> bool:
        """Change the value that there is, whatever it is; say whether there was one."""
        while True:
            revision, found = await self._entries.read(_value(key), timeout=timeout)
            if found is None:
                return False
            if await self._entries.change(change(found), revision, timeout=timeout) is not None:
                return True
            await self._entries.pause()


def _name(text: str) -> str:
    name = token(text)
    # Nothing that is escaped has a small letter behind the sign.
    return name if len(name) <= LONGEST_TOKEN else f"=h{hashlib.sha256(text.encode()).hexdigest()}"


def _value(key: str) -> str:
    return f"value.{_name(key)}"


def _lock(name: str) -> str:
    return f"lock.{_name(name)}"


def _key_header(key: str) -> dict[str, str]:
    """Give the header that says what a key is that its subject has no room for."""
    return {KEY: quoted(key)} if _name(key).startswith("=h") else {}


def _counted(key: str, value: bytes, by: int) -> int:
    count = int(value) if _COUNTER.fullmatch(value) else None
    if count is None or not SMALLEST <= count <= LARGEST:
        raise InvalidArgument(f"what is under {key!r} is no counter: it is not a plain decimal of 64 bits")
    total = count + by
    if not SMALLEST <= total <= LARGEST:
        raise LimitExceeded(f"{total} does not fit a counter of 64 bits")
    return total


async def _each(keys: Sequence[str], call: Callable[[str], Awaitable[T]]) -> list[T]:
    results: list[T] = []
    for start in range(0, len(keys), AT_ONCE):
        results += await asyncio.gather(*(call(key) for key in keys[start : start + AT_ONCE]))
    return results
