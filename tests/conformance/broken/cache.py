"""Caches that break a promise each."""

from __future__ import annotations

from time import sleep
from typing import Any

from portable.leases import Attempt
from portable.registry import Adapter, register
from portable.testing.cache import CacheSuite
from portable_embedded.memory_cache import MemoryCache, Table
from tests.conformance.leases import LEASE


class ForgetsTtl(MemoryCache):
    def get(self, key: str, *, timeout: float) -> bytes | None:
        entry = self._entries.get(key)
        return None if entry is None else entry.value


class AddsTwice(MemoryCache):
    def add(self, key: str, value: bytes, ttl: float | None, *, timeout: float) -> bool:
        if self.get(key, timeout=timeout) is not None:
            return False
        sleep(0.01)
        self.set(key, value, ttl, timeout=timeout)
        return True


class LosesIncrements(MemoryCache):
    def incr(self, key: str, by: int, ttl: float | None, *, timeout: float) -> int:
        total = int(self.get(key, timeout=timeout) or 0) + by
        sleep(0.001)
        self.set(key, b"%d" % total, ttl, timeout=timeout)
        return total


class RenewsTtl(MemoryCache):
    def incr(self, key: str, by: int, ttl: float | None, *, timeout: float) -> int:
        total = super().incr(key, by, ttl, timeout=timeout)
        self.touch(key, ttl, timeout=timeout)
        return total


class Wraps(MemoryCache):
    def incr(self, key: str, by: int, ttl: float | None, *, timeout: float) -> int:
        total = (int(self.get(key, timeout=timeout) or 0) + by + 2**63) % 2**64 - 2**63
        self.set(key, b"%d" % total, ttl, timeout=timeout)
        return total


class ClearsNeighbours(MemoryCache):
    def clear(self, *, timeout: float) -> None:
        for thing in list(self._table.space._things.values()):
            if isinstance(thing, Table):
                thing.clear()


class GivesAnothers(MemoryCache):
    def get(self, key: str, *, timeout: float) -> bytes | None:
        return super().get(key.strip(), timeout=timeout)

    def set_many(self, values: Any, ttl: float | None, *, timeout: float) -> None:
        super().set_many({key.strip(): value for key, value in values.items()}, ttl, timeout=timeout)


class TakesNoneForAMiss(MemoryCache):
    def get(self, key: str, *, timeout: float) -> bytes | None:
        value = super().get(key, timeout=timeout)
        return None if value == b"null" else value


class TakesBytesForText(MemoryCache):
    def get(self, key: str, *, timeout: float) -> bytes | None:
        value = super().get(key, timeout=timeout)
        return None if value is None else value.decode(errors="replace").encode()


class LocksForTwo(MemoryCache):
    def acquire(self, name: str, holder: str, ttl: float, *, timeout: float) -> Attempt:
        self._table.locks.pop(name, None)
        return super().acquire(name, holder, ttl, timeout=timeout)


class ReleasesAnothers(MemoryCache):
    def release(self, name: str, holder: str, *, timeout: float) -> bool:
        held = self._table.locks.get(name)
        return super().release(name, held.holder if held else holder, timeout=timeout)


class RepeatsTokens(MemoryCache):
    def acquire(self, name: str, holder: str, ttl: float, *, timeout: float) -> Attempt:
        attempt = super().acquire(name, holder, ttl, timeout=timeout)
        return attempt._replace(token=7) if attempt.obtained else attempt


class IgnoresExtensions(MemoryCache):
    def extend(self, name: str, holder: str, ttl: float, *, timeout: float) -> bool:
        return True


DEFECTS = (
    ForgetsTtl,
    AddsTwice,
    LosesIncrements,
    RenewsTtl,
    Wraps,
    ClearsNeighbours,
    GivesAnothers,
    TakesNoneForAMiss,
    TakesBytesForText,
    LocksForTwo,
    ReleasesAnothers,
    RepeatsTokens,
    IgnoresExtensions,
)

register(
    Adapter(
        schemes={f"broken-{defect.__name__.lower()}": {"cache": f"{__name__}:{defect.__name__}"} for defect in DEFECTS},
        extra="tests",
    )
)


class TestSound(CacheSuite):
    url = "memory:sound"
    lease = LEASE


for _defect in DEFECTS:
    _name = f"Test{_defect.__name__}"
    globals()[_name] = type(_name, (CacheSuite,), {"url": f"broken-{_defect.__name__.lower()}:broken", "lease": LEASE})
