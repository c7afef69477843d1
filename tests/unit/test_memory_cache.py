"""The `memory:` cache: what it evicts, what it purges, whose it is, and the clock it goes by."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import portable
from portable.bindings import Binding, Shared
from portable.contracts import CacheContract
from portable.errors import ConfigError, NotFound
from portable.quantities import Size
from portable.testing.clock import Clock
from portable.urls import Url
from portable_embedded.memory_cache import MemoryCache, MemoryCacheOptions


def memory_cache(
    clock: Clock | None = None, url: str = "memory:", shared: Shared | None = None, **options: Any
) -> MemoryCache:
    clock = clock or Clock()
    return MemoryCache(
        Binding(
            resource="c",
            kind="cache",
            name="c",
            url=Url.parse(url),
            options=MemoryCacheOptions(**options),
            contract=CacheContract(),
            create=True,
            shared=shared or Shared(),
            clock=clock.now,
            on_clock_moved=clock.on_moved,
        )
    )


def put(cache: MemoryCache, key: str, value: bytes = b"1", ttl: float | None = None) -> None:
    cache.set(key, value, ttl, timeout=1)


def test_the_entries_longest_unused_go_first() -> None:
    cache = memory_cache(max_entries=100)
    for number in range(100):
        put(cache, f"k{number}")
    for number in range(10):
        assert cache.get(f"k{number}", timeout=1) == b"1"
    for number in range(100, 150):
        put(cache, f"k{number}")
    kept = set(cache.native)
    assert len(kept) <= 100
    assert {f"k{number}" for number in [*range(10), *range(100, 150)]} <= kept


def test_a_cache_of_one() -> None:
    cache = memory_cache(max_entries=1)
    for number in range(5):
        put(cache, f"k{number}")
        assert cache.get(f"k{number}", timeout=1) == b"1"
        assert len(cache.native) == 1


def test_memory_is_bounded() -> None:
    cache = memory_cache(max_bytes=Size(1_000_000))
    for number in range(5000):
        put(cache, f"k{number}", b"x" * 1000, ttl=1000)
        assert cache._table.size <= 1_000_000
    held = sum(len(key) + len(entry.value) for key, entry in cache.native.items())
    assert 700_000 < held < 1_000_000
    put(cache, "huge", b"x" * 2_000_000)
    assert not cache.native
    assert cache._table.size == 0


def test_the_count_of_bytes_follows_every_change() -> None:
    cache = memory_cache()
    put(cache, "a", b"x" * 100)
    put(cache, "a", b"x" * 10, ttl=5)
    put(cache, "b", b"y")
    cache.incr("n", 12345, None, timeout=1)
    cache.incr("n", 1, None, timeout=1)
    assert cache.touch("b", 50, timeout=1)
    cache.delete("a", timeout=1)
    cache.delete_many(["b", "n", "missing"], timeout=1)
    assert cache._table.size == 0
    put(cache, "a", b"x" * 100, ttl=7)
    cache.clear(timeout=1)
    assert cache._table.size == 0


def test_what_has_expired_is_purged_by_later_writes() -> None:
    clock = Clock()
    clock.stop()
    cache = memory_cache(clock)
    for number in range(1000):
        put(cache, f"k{number}", ttl=10 + number % 7)
    put(cache, "stays")
    put(cache, "later", ttl=1000)
    clock.advance(20)
    for _ in range(20):
        put(cache, "stays")
    assert set(cache.native) == {"stays", "later"}
    # And what would purge them is gone with them.
    assert sum(map(len, cache._table._due.values())) == 1
    assert len(cache._table._due) == 1


def test_a_key_that_is_set_again_and_again_leaves_nothing_behind() -> None:
    clock = Clock()
    clock.stop()
    cache = memory_cache(clock)
    for _ in range(500):
        put(cache, "k", ttl=3)
        clock.advance(1)
    assert set(cache.native) == {"k"}
    assert len(cache._table._due) <= 5


def test_times_to_live_go_by_the_clock_of_the_test() -> None:
    clock = Clock()
    clock.stop()
    cache = memory_cache(clock)
    put(cache, "k", ttl=10)
    assert cache.ttl("k", timeout=1) == pytest.approx(10)
    clock.advance(9.5)
    assert cache.get("k", timeout=1) == b"1"
    clock.advance(1)
    assert cache.get("k", timeout=1) is None
    with pytest.raises(NotFound):
        cache.ttl("k", timeout=1)


def test_who_waits_for_a_lock_wakes_when_the_clock_moves() -> None:
    clock = Clock()
    clock.stop()
    cache = memory_cache(clock)
    assert cache.acquire("l", "one", 3600, timeout=1).obtained
    news = cache.lock_arrivals("l")
    version = news.version()
    attempt = cache.acquire("l", "other", 3600, timeout=1)
    assert not attempt.obtained
    assert attempt.seconds == pytest.approx(3600)
    threading.Thread(target=clock.advance, args=(3601,)).start()
    assert news.wait(version, 30)
    assert cache.acquire("l", "other", 3600, timeout=1).obtained
    assert not cache.extend("l", "one", 60, timeout=1)
    assert not cache.release("l", "one", timeout=1)


def test_waiting_for_nothing_ends_in_time() -> None:
    news = memory_cache().lock_arrivals("l")
    assert not news.wait(news.version(), 0.01)


def test_no_trace_is_kept_of_locks_nobody_holds_or_waits_for() -> None:
    cache = memory_cache()
    for number in range(100):
        cache.lock_arrivals(f"l{number}")
        cache.acquire(f"l{number}", "me", 60, timeout=1)
        assert cache.release(f"l{number}", "me", timeout=1)
    assert not cache._table.locks
    assert not cache._table._news


def test_memory_is_one_per_cloud_and_a_name_one_per_process() -> None:
    with portable.open_cache("memory:") as one, portable.open_cache("memory:") as other:
        one.set("k", 1)
        assert other.get("k") is None
    with portable.open_cache("memory:shared-space", name="first") as one:
        one.set("k", 1)
    with (
        portable.open_cache("memory:shared-space", name="first") as again,
        portable.open_cache("memory:shared-space", name="second") as neighbour,
    ):
        assert again.get("k") == 1
        assert neighbour.get("k") is None


def test_options_come_from_the_url() -> None:
    with portable.open_cache("memory:?max_entries=2&max_bytes=10KiB") as cache:
        cache.set_many({"a": 1, "b": 2, "c": 3})
        assert len(cache.get_many(["a", "b", "c"])) == 2
        cache.set("d", b"x" * 20_000)
        assert cache.get("d") is None


def test_a_cache_has_room_for_one_at_least() -> None:
    with pytest.raises(ConfigError, match="max_entries"):
        portable.open_cache("memory:?max_entries=0")


def test_there_is_nothing_to_make() -> None:
    cache = memory_cache()
    assert cache.plan() == []
    cache.create()
    cache.open()
    cache.check(write=True, timeout=1)
    cache.close()


def test_locks_that_nobody_released_do_not_pile_up() -> None:
    clock = Clock()
    clock.stop()
    cache = memory_cache(clock)
    held = cache.acquire("held", "me", 1e6, timeout=1)
    for number in range(10_000):
        assert cache.acquire(f"lock {number}", "me", 1.0, timeout=1).obtained
        clock.advance(0.1)
    assert len(cache._table.locks) < 2_000
    assert not cache.acquire("held", "other", 1.0, timeout=1).obtained
    assert cache.release("held", held.holder, timeout=1)
