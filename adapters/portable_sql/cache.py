"""Caches in tables of PostgreSQL; `docs/wire-formats/sql.md` describes them.

Times are milliseconds since the epoch by the server's own clock: nobody else's counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, Literal

from portable.bindings import Binding
from portable.bridges import stays_sync, undone_by
from portable.capabilities import CacheCapabilities
from portable.changes import Change
from portable.errors import (
    Closed,
    ConfigError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PortableError,
    ResourceNotFound,
)
from portable.leases import Attempt
from portable.news import Channel
from portable_sql.hub import Hub
from portable_sql.listening import CHANNEL
from portable_sql.options import ServerOptions
from portable_sql.postgresql_queues import NOW
from portable_sql.servers import Server

__all__ = ["CacheOptions", "SqlCache"]

LARGEST_VALUE = 400_000_000
LONGEST_KEY = 512
PURGED_AT_ONCE = 500
PURGE_PAUSE = 1.0
"""Seconds between two looks for what has expired, while there is not much."""

SOON = 0.05
"""Seconds that a lock is held for, as far as its holder is not known yet."""

FORGOTTEN_AFTER = 3_600_000
"""Milliseconds after its end that a lock's row stays: nobody is still about to insert one then."""


class CacheOptions(ServerOptions, frozen=True, kw_only=True):
    """`postgresql://user:password@host:port/database/physical-name`; the name may be left out.

    Attributes:
        durability: `"none"` (the default: unlogged tables, which are several times as fast, survive a restart of the
            server, and are empty after a crash of it) or `"power"` (what was set is on the disk).
    """

    durability: Literal["none", "power"] = "none"


def _tables(suffix: str, unlogged: str) -> dict[str, tuple[str, ...]]:
    values, locks = f"portable_cache{suffix}", f"portable_cache_lock{suffix}"
    return {
        values: (
            f"""CREATE {unlogged} TABLE IF NOT EXISTS {values} (
                cache text COLLATE "C" NOT NULL, key bytea NOT NULL, value bytea NOT NULL, expires bigint,
                PRIMARY KEY (cache, key))""",
            f"CREATE INDEX IF NOT EXISTS {values}_expires ON {values} (expires) WHERE expires IS NOT NULL",
        ),
        locks: (
            # Of all tables alike, so that tokens grow though a table is emptied.
            "CREATE SEQUENCE IF NOT EXISTS portable_cache_token",
            f"""CREATE {unlogged} TABLE IF NOT EXISTS {locks} (
                cache text COLLATE "C" NOT NULL, name bytea NOT NULL, holder text NOT NULL, token bigint NOT NULL,
                expires bigint NOT NULL, PRIMARY KEY (cache, name))""",
            f"CREATE INDEX IF NOT EXISTS {locks}_expires ON {locks} (expires)",
        ),
    }


TABLES = {"none": _tables("", "UNLOGGED"), "power": _tables("_logged", "")}

_LIVE = f"(c.expires IS NULL OR c.expires > {NOW})"
_COUNTER = """CASE WHEN encode(c.value, 'escape') ~ '^(0|-?[1-9][0-9]{{0,18}})$'
    THEN encode(c.value, 'escape')::numeric + %s::numeric END"""

# `{values}` and `{locks}` are the tables; each statement is one step.
_GET = f"SELECT value FROM {{values}} c WHERE cache = %s AND key = %s AND {_LIVE}"
_GET_MANY = f"SELECT key, value FROM {{values}} c WHERE cache = %s AND key = ANY(%b::bytea[]) AND {_LIVE}"
_SET = f"""INSERT INTO {{values}} AS c (cache, key, value, expires) VALUES (%s, %s, %s, {NOW} + %s)
    ON CONFLICT (cache, key) DO UPDATE SET value = excluded.value, expires = excluded.expires"""
_SET_MANY = f"""INSERT INTO {{values}} AS c (cache, key, value, expires)
    SELECT %s, new.key, new.value, {NOW} + %s FROM unnest(%b::bytea[], %b::bytea[]) AS new (key, value) ORDER BY new.key
    ON CONFLICT (cache, key) DO UPDATE SET value = excluded.value, expires = excluded.expires"""
_ADD = f"{_SET} WHERE NOT {_LIVE}"
_DELETE = f"DELETE FROM {{values}} c WHERE cache = %s AND key = ANY(%b::bytea[]) RETURNING {_LIVE}"
_INCR = f"""INSERT INTO {{values}} AS c (cache, key, value, expires) VALUES (%s, %s, %s, {NOW} + %s)
    ON CONFLICT (cache, key) DO UPDATE SET
        value = CASE WHEN {_LIVE} THEN convert_to(({_COUNTER})::text, 'UTF8') ELSE excluded.value END,
        expires = CASE WHEN {_LIVE} THEN c.expires ELSE excluded.expires END
    WHERE CASE WHEN {_LIVE} THEN coalesce({_COUNTER} BETWEEN -9223372036854775808 AND 9223372036854775807, false)
        ELSE true END
    RETURNING value"""
_TOUCH = f"UPDATE {{values}} c SET expires = {NOW} + %s WHERE cache = %s AND key = %s AND {_LIVE}"
_TTL = f"SELECT expires - {NOW} FROM {{values}} c WHERE cache = %s AND key = %s AND {_LIVE}"
_CLEAR = "DELETE FROM {values} WHERE cache = %s"
_PURGE = f"""DELETE FROM {{table}} WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM {{table}} WHERE expires <= {NOW} - %s ORDER BY expires LIMIT %s FOR UPDATE SKIP LOCKED))"""

# A lock's row stays when it is free, so that its next token is taken only once it is certain who comes next.
_ACQUIRE = f"""INSERT INTO {{locks}} AS l (cache, name, holder, token, expires)
    VALUES (%s, %s, %s, nextval('portable_cache_token'), {NOW} + %s)
    ON CONFLICT (cache, name) DO UPDATE SET
        holder = excluded.holder, token = nextval('portable_cache_token'), expires = excluded.expires
    WHERE l.expires <= {NOW} OR l.holder = excluded.holder RETURNING token"""
_HELD = f"SELECT expires - {NOW} FROM {{locks}} WHERE cache = %s AND name = %s AND expires > {NOW}"
_EXTEND = f"""UPDATE {{locks}} SET expires = {NOW} + %s
    WHERE cache = %s AND name = %s AND holder = %s AND expires > {NOW}"""
_RELEASE = f"""WITH freed AS (
        UPDATE {{locks}} SET expires = {NOW}, holder = '' WHERE cache = %s AND name = %s AND holder = %s
        AND expires > {NOW} RETURNING 1)
    SELECT pg_notify('{CHANNEL}', %s) FROM freed"""

_STATEMENTS = (
    *(_GET, _GET_MANY, _SET, _SET_MANY, _ADD, _DELETE, _INCR, _TOUCH, _TTL, _CLEAR),
    *(_ACQUIRE, _HELD, _EXTEND, _RELEASE),
)


def _give_back(cache: SqlCache, attempt: Attempt) -> None:
    if attempt.obtained:
        # What cannot be given back is free when its lease ends.
        with contextlib.suppress(PortableError):
            cache.release(attempt.name, attempt.holder, timeout=10.0)


class SqlCache:
    """Satisfies `portable.drivers.CacheDriver`."""

    Options = CacheOptions

    def __init__(self, binding: Binding[CacheOptions]) -> None:
        self._binding = binding
        self._name = binding.name
        if "\0" in self._name:
            raise ConfigError("the name of a cache has no NUL")
        durability = binding.options.durability
        self._tables = TABLES[durability]
        self._values, self._locks = self._tables
        self._sql = {sql: sql.format(values=self._values, locks=self._locks) for sql in _STATEMENTS}
        self._open_hub: Hub | None = None
        self._purge_at = 0.0
        self.capabilities = CacheCapabilities(
            durability=durability, lock=True, fencing=True, negative_counters=True, max_value_bytes=LARGEST_VALUE
        )

    @property
    def native(self) -> Any:
        """SQLAlchemy's engine on the database."""
        return self._server.engine

    def open(self) -> None:
        """Find the tables; make them where the binding says so."""
        if self._open_hub is not None:
            return
        hub = Hub.of(self._binding)
        if self._binding.create:
            hub.server.make_tables(self._tables, timeout=self._patience)
        elif missing := hub.server.missing_tables(list(self._tables), timeout=self._patience):
            raise ResourceNotFound(f"the database has no table {missing[0]}; make it with `portable resources create`")
        if self._binding.options.durability == "power":
            self.capabilities = hub.durable(self.capabilities)
        self._open_hub = hub

    def close(self) -> None:
        """Let go of it; the connections are the cloud's."""
        self._open_hub = None

    def check(self, *, write: bool, timeout: float) -> None:
        """Read from the table; with `write`, write something that is gone at once."""
        self._fetch(_GET, (self._name, b"check"), timeout, again=True)
        if write:
            key = b"\xffcheck"
            self._execute(_SET, (self._name, key, b"", 1), timeout, again=True)
            self._fetch(_DELETE, (self._name, [key]), timeout, again=True)

    def plan(self) -> list[Change]:
        """Say which tables are missing."""
        missing = Hub.of(self._binding).server.missing_tables(list(self._tables), timeout=self._patience)
        return [Change("create", "table", name) for name in missing]

    def create(self) -> None:
        """Make the tables where they are missing."""
        Hub.of(self._binding).server.make_tables(self._tables, timeout=self._patience)

    def get(self, key: str, *, timeout: float) -> bytes | None:
        """Give the value, or None."""
        rows = self._fetch(_GET, (self._name, _stored(key)), timeout, again=True)
        return rows[0][0] if rows else None

    def get_many(self, keys: Sequence[str], *, timeout: float) -> dict[str, bytes]:
        """Give the values that are there, in one round trip."""
        names = {_stored(key): key for key in keys}
        rows = self._fetch(_GET_MANY, (self._name, list(names)), timeout, again=True)
        return {names[key]: value for key, value in rows}

    def set(self, key: str, value: bytes, ttl: float | None, *, timeout: float) -> None:
        """Set the value, whatever was there."""
        self._execute(_SET, (self._name, _stored(key), value, _milliseconds(ttl)), timeout, again=True)
        self._tidy(timeout)

    def set_many(self, values: Mapping[str, bytes], ttl: float | None, *, timeout: float) -> None:
        """Set all the values, in one round trip."""
        rows = {_stored(key): value for key, value in values.items()}
        if rows:
            columns = (list(rows), list(rows.values()))
            self._execute(_SET_MANY, (self._name, _milliseconds(ttl), *columns), timeout, again=True)
            self._tidy(timeout)

    def add(self, key: str, value: bytes, ttl: float | None, *, timeout: float) -> bool:
        """Set the value if there is none."""
        added = self._execute(_ADD, (self._name, _stored(key), value, _milliseconds(ttl)), timeout)
        self._tidy(timeout)
        return added == 1

    def delete(self, key: str, *, timeout: float) -> bool:
        """Remove the value; say whether there was one."""
        return self.delete_many([key], timeout=timeout) == 1

    def delete_many(self, keys: Sequence[str], *, timeout: float) -> int:
        """Remove the values, in one round trip; say how many there were."""
        names = list({_stored(key) for key in keys})
        return sum(1 for (was_live,) in self._fetch(_DELETE, (self._name, names), timeout) if was_live)

    def incr(self, key: str, by: int, ttl: float | None, *, timeout: float) -> int:
        """Add to a counter, and give its new value."""
        name = _stored(key)
        rows = self._fetch(_INCR, (self._name, name, b"%d" % by, _milliseconds(ttl), by, by), timeout)
        self._tidy(timeout)
        if rows:
            return int(rows[0][0])
        value = self.get(key, timeout=timeout)
        if value is not None and value.removeprefix(b"-").isdigit():
            raise LimitExceeded(f"the counter would be {int(value) + by}, which does not fit 64 bits")
        raise InvalidArgument("the value under this key is no int, so it cannot be counted up; delete it first")

    def touch(self, key: str, ttl: float | None, *, timeout: float) -> bool:
        """Let the value live `ttl` seconds from now; say whether there was one."""
        return self._execute(_TOUCH, (_milliseconds(ttl), self._name, _stored(key)), timeout, again=True) == 1

    def ttl(self, key: str, *, timeout: float) -> float | None:
        """Give the seconds that the value has left, or None where it does not expire."""
        rows = self._fetch(_TTL, (self._name, _stored(key)), timeout, again=True)
        if not rows:
            raise NotFound(f"there is nothing under {key!r}")
        left: int | None = rows[0][0]
        return None if left is None else left / 1000

    def clear(self, *, timeout: float) -> None:
        """Remove every value."""
        self._execute(_CLEAR, (self._name,), timeout, again=True)

    @undone_by(_give_back)
    def acquire(self, name: str, holder: str, ttl: float, *, timeout: float) -> Attempt:
        """Try once to give a lock to a holder."""
        lock = (self._name, _stored(name))
        # Whoever waits looks again and again, and should not keep others from writing.
        held = self._fetch(_HELD, lock, timeout, again=True)
        rows = [] if held else self._fetch(_ACQUIRE, (*lock, holder, math.ceil(ttl * 1000)), timeout, again=True)
        if rows:
            return Attempt(name, holder, obtained=True, token=int(rows[0][0]), seconds=ttl)
        held = held or self._fetch(_HELD, lock, timeout, again=True)
        return Attempt(name, holder, obtained=False, token=None, seconds=held[0][0] / 1000 if held else SOON)

    def extend(self, name: str, holder: str, ttl: float, *, timeout: float) -> bool:
        """Let a holder's lease last `ttl` seconds from now; False where it no longer has the lock."""
        values = (math.ceil(ttl * 1000), self._name, _stored(name), holder)
        return self._execute(_EXTEND, values, timeout, again=True) == 1

    def release(self, name: str, holder: str, *, timeout: float) -> bool:
        """Free a lock; False where the holder no longer has it."""
        channel = self._channel(name)
        freed = self._fetch(_RELEASE, (self._name, _stored(name), holder, channel), timeout)
        self._hub.news.notify(channel)
        return bool(freed)

    @stays_sync
    def lock_arrivals(self, name: str) -> Channel:
        """Give the news of releases of one lock."""
        return Channel(self._hub.news, self._channel(name))

    @property
    def _hub(self) -> Hub:
        if self._open_hub is None:
            raise Closed(f"the cache {self._name!r} is not open")
        return self._open_hub

    @property
    def _server(self) -> Server:
        return self._hub.server

    @property
    def _patience(self) -> float:
        return float(self._binding.contract.timeout)

    def _channel(self, name: str) -> str:
        digest = hashlib.blake2b(f"{self._locks}\0{self._name}\0{name}".encode(), digest_size=16).hexdigest()
        return f"lock:{digest}"

    def _fetch(self, sql: str, values: Sequence[Any], timeout: float, *, again: bool = False) -> list[Any]:
        return self._server.fetch(self._sql[sql], values, timeout=timeout, again=again)

    def _execute(self, sql: str, values: Sequence[Any], timeout: float, *, again: bool = False) -> int:
        return self._server.execute(self._sql[sql], values, timeout=timeout, again=again)

    def _tidy(self, timeout: float) -> None:
        """Remove some of what has expired, of all caches of these tables, now and then."""
        if monotonic() < self._purge_at:
            return
        self._purge_at = monotonic() + PURGE_PAUSE
        gone = 0
        for table, after in ((self._values, 0), (self._locks, FORGOTTEN_AFTER)):
            try:
                sql = _PURGE.format(table=table)
                gone += self._server.execute(sql, (after, PURGED_AT_ONCE), timeout=timeout, again=True)
            except PortableError:
                # What was asked for is done.
                return
        if gone >= PURGED_AT_ONCE:
            self._purge_at = 0.0


def _stored(name: str) -> bytes:
    """Give a key, or the name of a lock, as the index takes it: a long one by its digest, behind what no UTF-8 has."""
    raw = name.encode()
    return raw if len(raw) <= LONGEST_KEY else b"\xff" + hashlib.sha256(raw).digest()


def _milliseconds(ttl: float | None) -> int | None:
    return None if ttl is None else math.ceil(ttl * 1000)
