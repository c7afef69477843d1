"""The embedded caches, by their suite, in both faces."""

from __future__ import annotations

from typing import ClassVar

import pytest

from portable.capabilities import CacheCapabilities
from portable.leases import Attempt
from portable.registry import Adapter, register
from portable.testing.aio.cache import CacheSuite as AsyncCacheSuite
from portable.testing.cache import CacheSuite
from portable_embedded.memory_cache import MemoryCache
from tests.conformance.leases import LEASE


class Plain(MemoryCache):
    """What a backend without any capability offers, so that the negative cases run too."""

    capabilities = CacheCapabilities(durability="none")


class Unfenced(MemoryCache):
    """Locks without tokens, and without news of their release."""

    capabilities = CacheCapabilities(durability="none", lock=True)

    def acquire(self, name: str, holder: str, ttl: float, *, timeout: float) -> Attempt:
        return super().acquire(name, holder, ttl, timeout=timeout)._replace(token=None)

    def lock_arrivals(self, name: str) -> None:  # type: ignore[override]  # the protocol allows None
        return None

    lock_arrivals.stays_sync = True  # type: ignore[attr-defined]  # as the decorator would


register(
    Adapter(
        schemes={"plain": {"cache": f"{__name__}:Plain"}, "unfenced": {"cache": f"{__name__}:Unfenced"}}, extra="tests"
    )
)


class _SqliteFile:
    # What survives a power cut is tested with the store; syncing every commit would only make these slow.
    options: ClassVar = {"durability": "process"}
    lease = LEASE

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
        request.cls.url = f"sqlite:{tmp_path_factory.mktemp('cache') / 'app.db'}"


class TestMemoryCache(CacheSuite):
    url = "memory:conformance"
    lease = LEASE


class TestMemoryCacheAsync(AsyncCacheSuite):
    url = "memory:conformance"
    lease = LEASE


class TestSqliteCache(_SqliteFile, CacheSuite):
    pass


class TestSqliteCacheAsync(_SqliteFile, AsyncCacheSuite):
    pass


class TestPlainCache(CacheSuite):
    url = "plain:conformance"
    lease = LEASE


class TestUnfencedCache(CacheSuite):
    url = "unfenced:conformance"
    lease = LEASE


class TestUnfencedCacheAsync(AsyncCacheSuite):
    url = "unfenced:conformance"
    lease = LEASE
