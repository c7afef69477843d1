"""Caches in an SQLite file; `docs/wire-formats/cache.md` describes the tables."""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from time import monotonic
from typing import Literal

from portable.bindings import Binding
from portable.bridges import stays_sync, undone_by
from portable.capabilities import CacheCapabilities
from portable.changes import Change
from portable.drivers import Options
from portable.errors import Closed, NotFound, PortableError, ResourceNotFound
from portable.leases import Attempt
from portable.news import Channel
from portable_embedded import counters
from portable_embedded.store import Schema, Store

__all__ = ["SqliteCache", "SqliteCacheOptions"]

# Measured against a table WITHOUT ROWID: a little slower with values of 200 bytes, three times as fast with 2,000.
SCHEMA = Schema(
    name="cache",
    version=1,
    statements=(
        "CREATE TABLE cache (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, token INTEGER NOT NULL DEFAULT 0)",
        """CREATE TABLE cache_entry (
            id INTEGER PRIMARY KEY, cache INTEGER NOT NULL REFERENCES cache (id), key TEXT NOT NULL,
            value BLOB NOT NULL, expires REAL, UNIQUE (cache, key))""",
        "CREATE INDEX cache_entry_expires ON cache_entry (expires) WHERE expires IS NOT NULL",
        """CREATE TABLE cache_lock (
            cache INTEGER NOT NULL REFERENCES cache (id), name TEXT NOT NULL, holder TEXT NOT NULL,
            expires REAL NOT NULL, PRIMARY KEY (cache, name)) WITHOUT ROWID""",
    ),
)

LIVE = "(expires IS NULL OR expires > ?)"
GET = "SELECT value, expires FROM cache_entry WHERE cache = ? AND key = ?"
SET = """INSERT INTO cache_entry (cache, key, value, expires) VALUES (?, ?, ?, ?)
    ON CONFLICT (cache, key) DO UPDATE SET value = excluded.value, expires = excluded.expires"""
ADD = f"{SET} WHERE cache_entry.expires <= ? RETURNING id"
DELETE = "DELETE FROM cache_entry WHERE cache = ? AND key = ? RETURNING expires"
TOUCH = f"UPDATE cache_entry SET expires = ? WHERE cache = ? AND key = ? AND {LIVE} RETURNING id"  # noqa: S608 (our own text)
COUNT = "UPDATE cache_entry SET value = ? WHERE cache = ? AND key = ?"
CLEAR = "DELETE FROM cache_entry WHERE cache = ?"
PURGE = "DELETE FROM cache_entry WHERE id IN (SELECT id FROM cache_entry WHERE expires <= ? ORDER BY expires LIMIT ?)"
PURGE_LOCKS = "DELETE FROM cache_lock WHERE expires <= ?"
HOLDER = "SELECT expires FROM cache_lock WHERE cache = ? AND name = ? AND expires > ?"
LOCK = """INSERT INTO cache_lock (cache, name, holder, expires) VALUES (?, ?, ?, ?)
    ON CONFLICT (cache, name) DO UPDATE SET holder = excluded.holder, expires = excluded.expires"""
NEXT_TOKEN = "UPDATE cache SET token = token + 1 WHERE id = ? RETURNING token"  # noqa: S105 (it counts holders)
EXTEND = """UPDATE cache_lock SET expires = ? WHERE cache = ? AND name = ? AND holder = ? AND expires > ?
    RETURNING holder"""
RELEASE = "DELETE FROM cache_lock WHERE cache = ? AND name = ? AND holder = ? RETURNING expires"

KEYS_AT_ONCE = 512
PURGED_AT_ONCE = 500
PURGE_PAUSE = 1.0
"""Seconds between two looks for what has expired, while there is not much."""
CHANNELS = 64
"""Locks share so many channels of news, so that no name of a lock is remembered for ever."""


class SqliteCacheOptions(Options, frozen=True, kw_only=True):
    """`sqlite:PATH` keeps caches in an SQLite file, which other kinds and any number of processes may share.

    Attributes:
        durability: `"power"` (a commit is on the disk) or `"process"` (it survives SIGKILL, not a power cut).
    """

    durability: Literal["power", "process"] = "power"


def _give_back(cache: SqliteCache, attempt: Attempt) -> None:
    if attempt.obtained:
        cache.release(attempt.name, attempt.holder, timeout=10.0)


class SqliteCache:
    """Satisfies `portable.drivers.CacheDriver`."""

    Options = SqliteCacheOptions

    def __init__(self, binding: Binding[SqliteCacheOptions]) -> None:
        self._binding = binding
        self._path = Path(binding.url.path)
        self._clock: Callable[[], float] = binding.clock
        self._open_store: Store | None = None
        self._cache = 0
        self._purge_at = 0.0
        self.capabilities = CacheCapabilities(
            durability=binding.options.durability, lock=True, fencing=True, negative_counters=True
        )
        if binding.on_clock_moved is not None:
            binding.on_clock_moved(self._tell_all)

    @property
    def native(self) -> Store:
        """The store, whose `read` and `write` hand over an `sqlite3.Connection`."""
        return self._store

    def open(self) -> None:
        """Open the file; make what is missing where the binding says so."""
        store = self._opened_store(create=self._binding.create)
        try:
            found = self._find(store)
            if found is None and self._binding.create:
                store.write(self._make)
                found = self._find(store)
        except BaseException:
            store.close()
            raise
        if found is None:
            store.close()
            name = self._binding.name
            raise ResourceNotFound(f"{self._path} has no cache {name!r}; make it with `portable resources create`")
        self._cache = found
        self._open_store = store

    def close(self) -> None:
        """Let go of the file."""
        store, self._open_store = self._open_store, None
        if store is not None:
            store.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Look the cache up; with `write`, take the lock for writing too."""
        if self._open_store is None:
            self.open()
        self._store.fetch("SELECT id FROM cache WHERE id = ?", (self._cache,), timeout=timeout)
        if write:
            self._store.write(lambda _: None, timeout=timeout)

    def plan(self) -> list[Change]:
        """Say whether the cache is missing."""
        missing = [Change("create", "cache", self._binding.name, f"in {self._path}")]
        try:
            store = self._opened_store(create=False)
        except ResourceNotFound:
            return missing
        try:
            return missing if self._find(store) is None else []
        finally:
            store.close()

    def create(self) -> None:
        """Make the file, the tables and the cache where they are missing."""
        store = self._opened_store(create=True)
        try:
            store.write(self._make)
        finally:
            store.close()

    def get(self, key: str, *, timeout: float) -> bytes | None:
        """Give the value, or None."""
        rows = self._store.fetch(GET, (self._cache, key), timeout=timeout)
        if not rows:
            return None
        value, expires = rows[0]
        return value if expires is None or expires > self._clock() else None

    def get_many(self, keys: Sequence[str], *, timeout: float) -> dict[str, bytes]:
        """Give the values that are there."""
        now = self._clock()
        found: dict[str, bytes] = {}
        for chunk in _chunks(keys):
            marks = ",".join("?" * len(chunk))
            sql = f"SELECT key, value FROM cache_entry WHERE cache = ? AND key IN ({marks}) AND {LIVE}"  # noqa: S608 (marks and our own text)
            found.update(self._store.fetch(sql, (self._cache, *chunk, now), timeout=timeout))
        return found

    def set(self, key: str, value: bytes, ttl: float | None, *, timeout: float) -> None:
        """Set the value, whatever was there."""
        expires = None if ttl is None else self._clock() + ttl
        self._store.execute(SET, (self._cache, key, value, expires), timeout=timeout)
        if monotonic() >= self._purge_at:
            self._purge(timeout)

    def set_many(self, values: Mapping[str, bytes], ttl: float | None, *, timeout: float) -> None:
        """Set all the values, in one transaction."""
        expires = None if ttl is None else self._clock() + ttl
        rows = [(self._cache, key, value, expires) for key, value in values.items()]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(SET, rows)

        self._store.write(work, timeout=timeout)
        if monotonic() >= self._purge_at:
            self._purge(timeout)

    def add(self, key: str, value: bytes, ttl: float | None, *, timeout: float) -> bool:
        """Set the value if there is none."""
        now = self._clock()
        expires = None if ttl is None else now + ttl
        rows = self._store.execute(ADD, (self._cache, key, value, expires, now), timeout=timeout)
        if monotonic() >= self._purge_at:
            self._purge(timeout)
        return bool(rows)

    def delete(self, key: str, *, timeout: float) -> bool:
        """Remove the value; say whether there was one."""
        rows = self._store.execute(DELETE, (self._cache, key), timeout=timeout)
        return bool(rows) and self._is_live(rows[0][0], self._clock())

    def delete_many(self, keys: Sequence[str], *, timeout: float) -> int:
        """Remove the values, in one transaction; say how many there were."""
        now = self._clock()

        def work(connection: sqlite3.Connection) -> int:
            gone = (connection.execute(DELETE, (self._cache, key)).fetchall() for key in keys)
            return sum(1 for rows in gone if rows and self._is_live(rows[0][0], now))

        return self._store.write(work, timeout=timeout)

    def incr(self, key: str, by: int, ttl: float | None, *, timeout: float) -> int:
        """Add to a counter, and give its new value."""
        now = self._clock()

        def work(connection: sqlite3.Connection) -> int:
            row = connection.execute(GET, (self._cache, key)).fetchone()
            if row is None or not self._is_live(row[1], now):
                connection.execute(SET, (self._cache, key, b"%d" % by, None if ttl is None else now + ttl))
                return by
            total = counters.added(row[0], by)
            connection.execute(COUNT, (b"%d" % total, self._cache, key))
            return total

        total = self._store.write(work, timeout=timeout)
        if monotonic() >= self._purge_at:
            self._purge(timeout)
        return total

    def touch(self, key: str, ttl: float | None, *, timeout: float) -> bool:
        """Let the value live `ttl` seconds from now; say whether there was one."""
        now = self._clock()
        expires = None if ttl is None else now + ttl
        return bool(self._store.execute(TOUCH, (expires, self._cache, key, now), timeout=timeout))

    def ttl(self, key: str, *, timeout: float) -> float | None:
        """Give the seconds that the value has left, or None where it does not expire."""
        rows = self._store.fetch(
            "SELECT expires FROM cache_entry WHERE cache = ? AND key = ?", (self._cache, key), timeout=timeout
        )
        if rows and rows[0][0] is None:
            return None
        left = rows[0][0] - self._clock() if rows else 0.0
        if left <= 0:
            raise NotFound(f"there is nothing under {key!r}")
        return float(left)

    def clear(self, *, timeout: float) -> None:
        """Remove every value."""
        self._store.execute(CLEAR, (self._cache,), timeout=timeout)

    @undone_by(_give_back)
    def acquire(self, name: str, holder: str, ttl: float, *, timeout: float) -> Attempt:
        """Try once to give a lock to a holder."""
        # Whoever waits looks again and again, and should not keep others from writing.
        now = self._clock()
        rows = self._store.fetch(HOLDER, (self._cache, name, now), timeout=timeout)
        if rows:
            return Attempt(name, holder, obtained=False, token=None, seconds=rows[0][0] - now)

        def work(connection: sqlite3.Connection) -> Attempt:
            now = self._clock()
            row = connection.execute(HOLDER, (self._cache, name, now)).fetchone()
            if row is not None:
                return Attempt(name, holder, obtained=False, token=None, seconds=row[0] - now)
            connection.execute(LOCK, (self._cache, name, holder, now + ttl))
            ((token,),) = connection.execute(NEXT_TOKEN, (self._cache,)).fetchall()
            return Attempt(name, holder, obtained=True, token=token, seconds=ttl)

        return self._store.write(work, timeout=timeout)

    def extend(self, name: str, holder: str, ttl: float, *, timeout: float) -> bool:
        """Let a holder's lease last `ttl` seconds from now; False where it no longer has the lock."""
        now = self._clock()
        return bool(self._store.execute(EXTEND, (now + ttl, self._cache, name, holder, now), timeout=timeout))

    def release(self, name: str, holder: str, *, timeout: float) -> bool:
        """Free a lock; False where the holder no longer has it."""
        rows = self._store.execute(RELEASE, (self._cache, name, holder), notify=self._channel(name), timeout=timeout)
        return bool(rows) and self._is_live(rows[0][0], self._clock())

    @stays_sync
    def lock_arrivals(self, name: str) -> Channel:
        """Give the news of releases of one lock."""
        return Channel(self._store.news, self._channel(name))

    @property
    def _store(self) -> Store:
        store = self._open_store
        if store is None:
            raise Closed(f"the cache {self._binding.name!r} is closed")
        return store

    def _opened_store(self, *, create: bool) -> Store:
        return Store.open(self._path, durability=self._binding.options.durability, schema=SCHEMA, create=create)

    def _find(self, store: Store) -> int | None:
        rows = store.fetch("SELECT id FROM cache WHERE name = ?", (self._binding.name,))
        return int(rows[0][0]) if rows else None

    def _make(self, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT OR IGNORE INTO cache (name) VALUES (?)", (self._binding.name,))

    def _channel(self, name: str) -> str:
        return f"cache:{self._binding.name}:{zlib.crc32(name.encode()) % CHANNELS}"

    def _tell_all(self) -> None:
        store = self._open_store
        if store is not None:
            for number in range(CHANNELS):
                store.news.notify(f"cache:{self._binding.name}:{number}")

    @staticmethod
    def _is_live(expires: float | None, now: float) -> bool:
        return expires is None or expires > now

    def _purge(self, timeout: float) -> None:
        """Remove some of what has expired, of all caches in the file."""
        now = self._clock()
        self._purge_at = monotonic() + PURGE_PAUSE

        def work(connection: sqlite3.Connection) -> int:
            connection.execute(PURGE_LOCKS, (now,))
            return connection.execute(PURGE, (now, PURGED_AT_ONCE)).rowcount

        # What was asked for is done; the next one may clear up.
        with contextlib.suppress(PortableError):
            if self._store.write(work, timeout=timeout) == PURGED_AT_ONCE:
                self._purge_at = 0.0


def _chunks(keys: Sequence[str]) -> Iterator[list[str]]:
    """Split keys, and fill each part up to a power of two, so that few different statements are compiled."""
    for start in range(0, len(keys), KEYS_AT_ONCE):
        chunk = list(keys[start : start + KEYS_AT_ONCE])
        chunk.extend(chunk[-1:] * ((1 << (len(chunk) - 1).bit_length()) - len(chunk)))
        yield chunk
