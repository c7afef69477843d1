"""Caches in the memory of this process."""

from __future__ import annotations

import heapq
import math
import weakref
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Annotated

import msgspec

from portable.bindings import Binding
from portable.bridges import stays_sync
from portable.capabilities import CacheCapabilities
from portable.changes import Change
from portable.drivers import Options
from portable.errors import NotFound
from portable.leases import Attempt
from portable.quantities import Size
from portable_embedded import counters
from portable_embedded.memory import News, Space, space

__all__ = ["MemoryCache", "MemoryCacheOptions"]

NEVER = math.inf
# What an entry takes beside its key and value: the slot of the dict, the objects' headers, the place in a purge list.
ENTRY_BYTES = 200
# Evicting and purging go in small steps, so that no single call pays for all.
PURGED_AT_ONCE = 64
EVICTED_SHARE = 64
LOCKS_KEPT = 1024


class MemoryCacheOptions(Options, frozen=True, kw_only=True):
    """`memory:` keeps a cache as long as its cloud is open; `memory:NAME` one that all clouds of the process share.

    Attributes:
        max_entries: beyond so many the entries longest unused go; none is the default, as `max_bytes` bounds it anyway.
        max_bytes: beyond so much memory the entries longest unused go, such as `64MiB`.
    """

    max_entries: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_bytes: Size = Size(256 * 1024 * 1024)


class Entry(msgspec.Struct, gc=False):
    """One value.

    Attributes:
        value: encoded.
        expires: by the wall clock; infinity for never.
        due: the whole second at which it has expired; 0 for never.
        used: whether it was read since eviction last came by.
    """

    value: bytes
    expires: float
    due: int
    used: bool = False


class Held(msgspec.Struct, gc=False):
    """One lock that somebody has, or had.

    Attributes:
        holder: who.
        expires: when the lease runs out, by the wall clock.
    """

    holder: str
    expires: float


def due_second(expires: float) -> int:
    """The whole second at which an entry has expired; 0 for never."""
    return 0 if expires == NEVER else int(expires) + 1


class Table:
    """One cache's entries and locks."""

    def __init__(self, space: Space) -> None:
        self.space = space
        self.entries: dict[str, Entry] = {}
        self.size = 0
        self.locks: dict[str, Held] = {}
        self.token = 0
        self.next_purge: float = NEVER
        self._most_locks = LOCKS_KEPT
        self._due: dict[int, set[str]] = {}
        self._due_seconds: list[int] = []
        self._news: weakref.WeakValueDictionary[str, News] = weakref.WeakValueDictionary()

    def put(self, key: str, value: bytes, expires: float, due: int) -> None:
        """Store an entry over whatever is there; the caller holds the lock of the space."""
        old = self.entries.get(key)
        if old is None:
            self.size += len(key) + len(value) + ENTRY_BYTES
            if due:
                self._schedule(key, 0, due)
        else:
            self.size += len(value) - len(old.value)
            if due != old.due:
                self._schedule(key, old.due, due)
        self.entries[key] = Entry(value, expires, due)

    def remove(self, key: str) -> Entry | None:
        """Take an entry away; the caller holds the lock of the space."""
        entry = self.entries.pop(key, None)
        if entry is not None:
            self.size -= len(key) + len(entry.value) + ENTRY_BYTES
            if entry.due:
                self._schedule(key, entry.due, 0)
        return entry

    def reschedule(self, key: str, entry: Entry, expires: float) -> None:
        """Change when an entry expires; the caller holds the lock of the space."""
        due = due_second(expires)
        self._schedule(key, entry.due, due)
        entry.expires, entry.due = expires, due

    def clear(self) -> None:
        """Take every entry away; the caller holds the lock of the space."""
        self.entries.clear()
        self.size = 0
        self._due.clear()
        self._due_seconds.clear()
        self.next_purge = NEVER

    def _schedule(self, key: str, before: int, after: int) -> None:
        if before:
            self._due[before].discard(key)
        if after:
            keys = self._due.get(after)
            if keys is None:
                self._due[after] = keys = set()
                heapq.heappush(self._due_seconds, after)
                self.next_purge = self._due_seconds[0]
            keys.add(key)

    def purge(self, now: float) -> None:
        """Take a few expired entries away; the caller holds the lock of the space."""
        budget = PURGED_AT_ONCE
        while self._due_seconds and self._due_seconds[0] <= now and budget:
            keys = self._due[self._due_seconds[0]]
            while keys and budget:
                key = keys.pop()
                entry = self.entries.pop(key)
                self.size -= len(key) + len(entry.value) + ENTRY_BYTES
                budget -= 1
            if not keys:
                del self._due[heapq.heappop(self._due_seconds)]
        self.next_purge = self._due_seconds[0] if self._due_seconds else NEVER

    def evict(self, most_entries: float, most_bytes: int, newest: str) -> None:
        """Make room for the newest entry: the oldest ones go, those read since the last time get another turn.

        The caller holds the lock of the space.
        """
        entries = self.entries
        while entries and (len(entries) > most_entries or self.size > most_bytes):
            for key in list(islice(entries, len(entries) // EVICTED_SHARE + 1)):
                entry = entries[key]
                if entry.used or (key == newest and len(entries) > 1):
                    entry.used = False
                    del entries[key]
                    entries[key] = entry
                else:
                    self.remove(key)
                if len(entries) <= most_entries and self.size <= most_bytes:
                    return

    def hold(self, name: str, held: Held, now: float) -> None:
        """Note who has a lock; those that ran out and that nobody released go once they are many.

        The caller holds the lock of the space.
        """
        self.locks[name] = held
        if len(self.locks) > self._most_locks:
            self.locks = {name: one for name, one in self.locks.items() if one.expires > now}
            self._most_locks = max(LOCKS_KEPT, 2 * len(self.locks))

    def news(self, name: str) -> News:
        """The news of one lock, kept as long as somebody waits for it."""
        with self.space.lock:
            found = self._news.get(name)
            if found is None:
                found = self._news[name] = News()
            return found

    def tell(self, name: str) -> None:
        """Wake whoever waits for a lock; the caller holds the lock of the space."""
        if (news := self._news.get(name)) is not None:
            news.changed()

    def tell_all(self) -> None:
        """Wake whoever waits for any lock, because the clock moved."""
        with self.space.lock:
            for news in list(self._news.values()):
                news.changed()


class MemoryCache:
    """Satisfies `portable.drivers.CacheDriver`."""

    Options = MemoryCacheOptions
    blocking = False
    capabilities = CacheCapabilities(durability="none", lock=True, fencing=True, negative_counters=True)

    def __init__(self, binding: Binding[MemoryCacheOptions]) -> None:
        place = space(binding)
        self._table = place.get(("cache", binding.name), lambda: Table(place))
        self._lock = place.lock
        self._entries = self._table.entries
        self._clock: Callable[[], float] = binding.clock
        entries = binding.options.max_entries
        self._most_entries = NEVER if entries is None else entries
        self._most_bytes = binding.options.max_bytes
        if binding.on_clock_moved is not None:
            binding.on_clock_moved(self._table.tell_all)

    @property
    def native(self) -> dict[str, Entry]:
        """The entries themselves."""
        return self._entries

    def open(self) -> None:
        """Do nothing: memory is there."""

    def close(self) -> None:
        """Do nothing: the space belongs to the cloud or the process."""

    def check(self, *, write: bool, timeout: float) -> None:
        """Do nothing: memory is there."""

    def plan(self) -> list[Change]:
        """There is nothing to make."""
        return []

    def create(self) -> None:
        """There is nothing to make."""

    def get(self, key: str, *, timeout: float) -> bytes | None:  # noqa: ARG002 (memory does not wait)
        """Give the value, or None."""
        # Looking up is a single step of the interpreter, so that readers need no lock.
        entry = self._entries.get(key)
        if entry is None or (entry.expires != NEVER and entry.expires <= self._clock()):
            return None
        entry.used = True
        return entry.value

    def get_many(self, keys: Sequence[str], *, timeout: float) -> dict[str, bytes]:
        """Give the values that are there."""
        found = ((key, self.get(key, timeout=timeout)) for key in keys)
        return {key: value for key, value in found if value is not None}

    def set(self, key: str, value: bytes, ttl: float | None, *, timeout: float) -> None:  # noqa: ARG002 (memory does not wait)
        """Set the value, whatever was there."""
        table = self._table
        with self._lock:
            now = self._clock()
            if ttl is None:
                expires, due = NEVER, 0
            else:
                expires = now + ttl
                due = int(expires) + 1
            entry = self._entries.get(key)
            if entry is not None and entry.due == due:
                table.size += len(value) - len(entry.value)
                # In this order: who reads in between must not take the old value for one that lives on.
                entry.value = value
                entry.expires = expires
            else:
                table.put(key, value, expires, due)
            if now >= table.next_purge:
                table.purge(now)
            if table.size > self._most_bytes or len(self._entries) > self._most_entries:
                table.evict(self._most_entries, self._most_bytes, key)

    def set_many(self, values: Mapping[str, bytes], ttl: float | None, *, timeout: float) -> None:
        """Set all the values."""
        for key, value in values.items():
            self.set(key, value, ttl, timeout=timeout)

    def add(self, key: str, value: bytes, ttl: float | None, *, timeout: float) -> bool:
        """Set the value if there is none."""
        with self._lock:
            if self._live(key) is not None:
                return False
            self.set(key, value, ttl, timeout=timeout)
            return True

    def delete(self, key: str, *, timeout: float) -> bool:  # noqa: ARG002 (memory does not wait)
        """Remove the value; say whether there was one."""
        with self._lock:
            entry = self._table.remove(key)
            return entry is not None and entry.expires > self._clock()

    def delete_many(self, keys: Sequence[str], *, timeout: float) -> int:
        """Remove the values; say how many there were."""
        return sum(self.delete(key, timeout=timeout) for key in keys)

    def incr(self, key: str, by: int, ttl: float | None, *, timeout: float) -> int:
        """Add to a counter, and give its new value."""
        with self._lock:
            entry = self._live(key)
            if entry is None:
                self.set(key, b"%d" % by, ttl, timeout=timeout)
                return by
            total = counters.added(entry.value, by)
            self._table.put(key, b"%d" % total, entry.expires, entry.due)
            return total

    def touch(self, key: str, ttl: float | None, *, timeout: float) -> bool:  # noqa: ARG002 (memory does not wait)
        """Let the value live `ttl` seconds from now; say whether there was one."""
        with self._lock:
            entry = self._live(key)
            if entry is None:
                return False
            self._table.reschedule(key, entry, NEVER if ttl is None else self._clock() + ttl)
            return True

    def ttl(self, key: str, *, timeout: float) -> float | None:  # noqa: ARG002 (memory does not wait)
        """Give the seconds that the value has left, or None where it does not expire."""
        entry = self._entries.get(key)
        left = 0.0 if entry is None else entry.expires - self._clock()
        if left <= 0:
            raise NotFound(f"there is nothing under {key!r}")
        return None if left == NEVER else left

    def clear(self, *, timeout: float) -> None:  # noqa: ARG002 (memory does not wait)
        """Remove every value."""
        with self._lock:
            self._table.clear()

    def acquire(self, name: str, holder: str, ttl: float, *, timeout: float) -> Attempt:  # noqa: ARG002 (memory does not wait)
        """Try once to give a lock to a holder."""
        table = self._table
        with self._lock:
            now = self._clock()
            held = table.locks.get(name)
            if held is not None and held.expires > now:
                return Attempt(name, holder, obtained=False, token=None, seconds=held.expires - now)
            table.hold(name, Held(holder, now + ttl), now)
            table.token += 1
            return Attempt(name, holder, obtained=True, token=table.token, seconds=ttl)

    def extend(self, name: str, holder: str, ttl: float, *, timeout: float) -> bool:  # noqa: ARG002 (memory does not wait)
        """Let a holder's lease last `ttl` seconds from now; False where it no longer has the lock."""
        with self._lock:
            now = self._clock()
            held = self._table.locks.get(name)
            if held is None or held.holder != holder or held.expires <= now:
                return False
            held.expires = now + ttl
            return True

    def release(self, name: str, holder: str, *, timeout: float) -> bool:  # noqa: ARG002 (memory does not wait)
        """Free a lock; False where the holder no longer has it."""
        table = self._table
        with self._lock:
            held = table.locks.get(name)
            if held is None or held.holder != holder:
                return False
            del table.locks[name]
            table.tell(name)
            return held.expires > self._clock()

    @stays_sync
    def lock_arrivals(self, name: str) -> News:
        """Give the news of releases of one lock."""
        return self._table.news(name)

    def _live(self, key: str) -> Entry | None:
        entry = self._entries.get(key)
        return entry if entry is not None and entry.expires > self._clock() else None
