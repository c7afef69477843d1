"""What the async face of caches does itself, beyond what its suite shows."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from portable.aio._concurrency import Host
from portable.aio.cache import Cache
from portable.bindings import Binding, Shared
from portable.capabilities import CacheCapabilities
from portable.contracts import CacheContract
from portable.errors import DeadlineExceeded, InvalidArgument, LeaseLost, LimitExceeded, NotFound, Unsupported
from portable.leases import Attempt
from portable.urls import Url
from portable_embedded.memory_cache import MemoryCache

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Limited(MemoryCache):
    capabilities = CacheCapabilities(lock=True, fencing=True, max_key_bytes=10, max_value_bytes=20)


class Hasty(MemoryCache):
    """Lets every value expire between two calls, or be set by another caller."""

    def ttl(self, key: str, *, timeout: float) -> float | None:
        raise NotFound("it has just expired")

    def acquire(self, name: str, holder: str, ttl: float, *, timeout: float) -> Attempt:
        if name == "fill:theirs":
            self.set("theirs", b"7", None, timeout=timeout)
        return super().acquire(name, holder, ttl, timeout=timeout)


def cache_on(driver: type[MemoryCache], **how: Any) -> Cache[Any]:
    binding: Binding[Any] = Binding(
        resource="sessions",
        kind="cache",
        name="sessions",
        url=Url("memory"),
        options=driver.Options(),
        contract=CacheContract(),
        create=True,
        shared=Shared(),
    )
    host = Host()
    return Cache(binding, lambda: host.face(driver(binding)), host=host, **how)


async def made() -> int:
    return 1


async def test_limits() -> None:
    cache = cache_on(Limited)
    await cache.set("k" * 10, "v" * 18)
    with pytest.raises(LimitExceeded):
        await cache.get("k" * 11)
    with pytest.raises(LimitExceeded):
        await cache.set("k", "v" * 19)
    guarded = cache_on(MemoryCache, limits=("memcached",))
    assert await guarded.incr("n", ttl=60) == 1
    with pytest.raises(LimitExceeded):
        await guarded.set("k" * 251, 1)
    with pytest.raises(LimitExceeded):
        await guarded.set("k", b"x" * 1024 * 1024)


async def test_strict_needs() -> None:
    cache = cache_on(MemoryCache, strict=True)
    with pytest.raises(Unsupported, match='needs = \\["lock"\\]'):
        await cache.lock("l", ttl=60)
    assert await cache.get_or_set("k", made, ttl=60) == 1


async def test_the_timeout_ends_the_waiting() -> None:
    cache = cache_on(MemoryCache)
    driver: Any = cache._driver
    attempt = await driver.acquire("fill:k", "another", 60, timeout=1)
    assert attempt.obtained
    with pytest.raises(DeadlineExceeded):
        await cache.get_or_set("k", made, ttl=60, timeout=0.05)
    async with cache.lock("l", ttl=60):
        with pytest.raises(DeadlineExceeded):
            await cache.lock("l", ttl=60, timeout=0.05)


async def test_a_long_computation_keeps_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portable.aio.filling.LEASE", 0.3)
    cache = cache_on(MemoryCache)
    driver: Any = cache._driver
    extended = asyncio.Semaphore(0)
    extend = driver.extend

    async def noted(*args: Any, **kwargs: Any) -> bool:
        kept: bool = await extend(*args, **kwargs)
        extended.release()
        return kept

    monkeypatch.setattr(driver, "extend", noted)

    async def factory() -> str:
        # Each third of a lease; together longer than the lease.
        async with asyncio.timeout(60):
            for _ in range(5):
                await extended.acquire()
        return "made"

    assert await cache.get_or_set("k", factory, ttl=60) == "made"


async def test_values_that_come_and_go_between_two_looks() -> None:
    cache = cache_on(Hasty)
    await cache.set("k", 0, ttl=60)
    assert await cache.get_or_set("k", made, ttl=60, stale=30) == 1
    assert await cache.get_or_set("theirs", made, ttl=60) == 7


async def test_a_lock_that_is_awaited_and_one_that_is_entered() -> None:
    cache = cache_on(MemoryCache)
    lock = await cache.lock("l", ttl=60)
    assert repr(lock) == "<Lock 'l'>"
    async with lock:
        await lock.extend(120)
    with pytest.raises(LeaseLost):
        await lock.extend()
    with pytest.raises(InvalidArgument):
        cache.cached(ttl=0, key="k")
