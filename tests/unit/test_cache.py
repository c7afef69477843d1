"""What the portable type of caches does itself, whatever the driver."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import pytest

import portable
import portable.aio
from portable._concurrency import Host
from portable.bindings import Binding, Shared
from portable.cache import Cache
from portable.capabilities import CacheCapabilities
from portable.contracts import CacheContract
from portable.errors import (
    Closed,
    ConfigError,
    DeadlineExceeded,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PortableError,
    Unavailable,
    Unsupported,
)
from portable.leases import Attempt
from portable.quantities import Duration
from portable.urls import Url
from portable_embedded.memory_cache import MemoryCache


def cache_on(driver: type[MemoryCache], *, needs: tuple[str, ...] = (), **how: Any) -> Cache[Any]:
    binding: Binding[Any] = Binding(
        resource="sessions",
        kind="cache",
        name="sessions",
        url=Url("memory"),
        options=driver.Options(),
        contract=CacheContract(needs=needs, timeout=Duration(5)),
        create=True,
        shared=Shared(),
    )
    return Cache(binding, lambda: driver(binding), host=Host(), **how)


class Short(MemoryCache):
    """Takes short keys and values only."""

    capabilities = CacheCapabilities(max_key_bytes=10, max_value_bytes=20)


class Quiet(MemoryCache):
    """Has no news of released locks."""

    def lock_arrivals(self, name: str) -> None:  # type: ignore[override]  # the protocol allows None
        return None


class Unreachable(MemoryCache):
    """Forgets how to release."""

    def release(self, name: str, holder: str, *, timeout: float) -> bool:
        raise Unavailable("not reachable")


class Timed(MemoryCache):
    """Notes the time that each call is given."""

    def __init__(self, binding: Binding[Any]) -> None:
        super().__init__(binding)
        self.given: list[float] = []

    def get(self, key: str, *, timeout: float) -> bytes | None:
        self.given.append(timeout)
        return super().get(key, timeout=timeout)


class Hasty(MemoryCache):
    """Lets every value expire between two calls, or be set by another caller."""

    def ttl(self, key: str, *, timeout: float) -> float | None:
        raise NotFound("it has just expired")

    def acquire(self, name: str, holder: str, ttl: float, *, timeout: float) -> Attempt:
        if name == "fill:theirs":
            self.set("theirs", b"7", None, timeout=timeout)
        return super().acquire(name, holder, ttl, timeout=timeout)


def test_the_drivers_limits_are_kept() -> None:
    cache = cache_on(Short)
    cache.set("k" * 10, "v" * 18)
    calls: list[Callable[[], Any]] = [
        lambda: cache.get("k" * 11),
        lambda: cache.set("ä" * 6, 1),
        lambda: cache.set("k", "v" * 19),
        lambda: cache.add("k", "v" * 19),
        lambda: cache.set_many({"k": 1, "l": "v" * 19}),
        lambda: cache.get_or_set("k", lambda: "v" * 19, ttl=5),
    ]
    for call in calls:
        with pytest.raises(LimitExceeded):
            call()
    assert cache.get_many(["k", "l"]) == {}


def test_the_limits_of_the_clouds_are_kept() -> None:
    cache = cache_on(MemoryCache, limits=("memcached",))
    cache.set("k" * 250, 1, ttl=60)
    with pytest.raises(LimitExceeded, match="250"):
        cache.set("k" * 251, 1)
    with pytest.raises(LimitExceeded, match="250"):
        cache.get(" " * 84)
    with pytest.raises(LimitExceeded):
        cache.set("k", b"x" * 1024 * 1024)
    redis = cache_on(MemoryCache, limits=("redis",))
    assert redis.incr("n", 2**62) == 2**62
    assert redis.get("k" * 1000) is None


def test_undeclared_capabilities_are_refused_under_strict_needs() -> None:
    cache = cache_on(MemoryCache, strict=True)
    with pytest.raises(Unsupported, match=r'needs = \["lock"\]'):
        cache.lock("l", ttl=60)
    with pytest.raises(Unsupported, match=r'needs = \["negative_counters"\]'):
        cache.incr("n", -1)
    # What it uses itself needs no declaring.
    assert cache.get_or_set("k", lambda: 1, ttl=5) == 1
    declared = cache_on(MemoryCache, strict=True, needs=("lock",))
    with declared.lock("l", ttl=60) as lock, pytest.raises(Unsupported, match=r'needs = \["fencing"\]') as caught:
        _ = lock.token
    assert (caught.value.resource, caught.value.operation) == ("sessions", "lock")


def test_each_call_gives_its_time_to_the_driver() -> None:
    cache = cache_on(Timed)
    cache.get("k")
    cache.get("k", timeout=1.5)
    cache.get_or_set("k", lambda: 1, ttl=5, timeout=2)
    given = cache._driver.given  # type: ignore[attr-defined]  # the driver above
    assert given[:2] == [5.0, 1.5]
    assert all(0 < left <= 2 for left in given[2:])


class Noted:
    """Notes each operation that begins, and how it ended."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str | None]] = []

    def begin(self, resource: str, kind: str, provider: str, operation: str) -> Noting:
        return Noting(self, operation)


class Noting:
    delay = 0.0

    def __init__(self, noted: Noted, operation: str) -> None:
        self._noted = noted
        self._operation = operation

    def end(self, error: BaseException | None) -> None:
        self._noted.seen.append(("sessions", self._operation, type(error).__name__ if error else None))


def test_setting_is_an_operation_like_any_other() -> None:
    noted = Noted()
    hooked, plain = cache_on(MemoryCache, hooks=(noted,)), cache_on(MemoryCache)
    for cache in (hooked, plain):
        # The first call opens the cache, the second finds it open.
        for _ in range(2):
            with pytest.raises(InvalidArgument) as caught:
                cache.set("", 1)
            assert (caught.value.resource, caught.value.operation) == ("sessions", "set")
        cache.set("k", 1)
        cache.close()
        with pytest.raises(Closed):
            cache.set("k", 2)
    refused = ("sessions", "set", "InvalidArgument")
    assert noted.seen == [refused, refused, ("sessions", "set", None)]


def test_errors_of_a_lock_say_where() -> None:
    cache = cache_on(MemoryCache)
    lock = cache.lock("l", ttl=60)
    assert repr(lock) == "<Lock 'l'>"
    cache._driver.release("lock:l", lock._holder, timeout=1)
    for call, operation in ((lock.extend, "lock_extend"), (lock.release, "lock_release")):
        with pytest.raises(PortableError) as caught:
            call()
        assert (caught.value.resource, caught.value.operation) == ("sessions", operation)
    assert repr(lock) == "<Lock 'l' released>"
    with pytest.raises(InvalidArgument):
        cache.lock("l", ttl=60).extend(-1)


def test_an_error_in_the_block_is_not_hidden_by_that_of_the_release() -> None:
    cache = cache_on(Unreachable)
    with pytest.raises(RuntimeError, match="inside"), cache.lock("l", ttl=60):
        raise RuntimeError("inside")
    with pytest.raises(Unavailable), cache.lock("other", ttl=60):
        pass
    assert cache.get_or_set("k", lambda: 1, ttl=5) == 1


def test_waiting_without_news_of_releases() -> None:
    cache = cache_on(Quiet)
    lock = cache.lock("l", ttl=60)
    waiting = threading.Event()

    def obtain() -> None:
        waiting.set()
        cache.lock("l", ttl=60, wait=60).release()

    thread = threading.Thread(target=obtain)
    thread.start()
    assert waiting.wait(10)
    lock.release()
    thread.join(30)
    assert not thread.is_alive()


def test_the_timeout_ends_the_waiting_too() -> None:
    cache = cache_on(MemoryCache)
    with cache.lock("l", ttl=60):
        for how in ({"timeout": 0.05}, {"timeout": 0.05, "wait": 30}, {"timeout": 30, "wait": 0.05}):
            started = monotonic()
            with pytest.raises(DeadlineExceeded, match="somebody else holds the lock"):
                cache.lock("l", ttl=60, **how)
            assert monotonic() - started < 20


def test_who_died_while_it_computed_is_replaced() -> None:
    cache = cache_on(MemoryCache)
    attempt: Attempt = cache._driver.acquire("fill:k", "dead", 60, timeout=1)
    assert attempt.obtained
    with pytest.raises(DeadlineExceeded):
        cache.get_or_set("k", lambda: "made", ttl=60, timeout=0.05)
    assert cache._driver.extend("fill:k", "dead", 0.3, timeout=1)
    assert cache.get_or_set("k", lambda: "made", ttl=60) == "made"


def test_a_long_computation_keeps_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portable.filling.LEASE", 0.3)
    cache = cache_on(MemoryCache)
    extended = threading.Semaphore(0)
    extend = cache._driver.extend

    def noted(*args: Any, **kwargs: Any) -> bool:
        kept = extend(*args, **kwargs)
        extended.release()
        return kept

    monkeypatch.setattr(cache._driver, "extend", noted)

    def factory() -> str:
        # Each third of a lease; together longer than the lease.
        assert all(extended.acquire(timeout=30) for _ in range(5))
        return "made"

    assert cache.get_or_set("k", factory, ttl=60) == "made"


def test_a_value_that_cannot_be_stored_frees_the_others() -> None:
    cache = cache_on(MemoryCache)
    with pytest.raises(InvalidArgument):
        cache.get_or_set("k", object, ttl=60)
    assert cache.get_or_set("k", lambda: [1], ttl=60, timeout=5) == [1]


def test_what_is_made_is_given_as_it_was_stored() -> None:
    cache = cache_on(MemoryCache, type=tuple[int, int])
    assert cache.get_or_set("k", lambda: [1, 2], ttl=60) == (1, 2)  # type: ignore[comparison-overlap]  # as it was stored


def test_a_value_that_expires_between_two_looks_is_stale() -> None:
    cache = cache_on(Hasty)
    cache.set("k", "old", ttl=60)
    assert cache.get_or_set("k", lambda: "new", ttl=60, stale=30) == "new"


def test_a_value_that_another_set_meanwhile_is_taken() -> None:
    cache = cache_on(Hasty)
    assert cache.get_or_set("theirs", lambda: 1 / 0, ttl=60) == 7


def test_a_value_is_stale_when_less_than_that_is_left() -> None:
    cache = cache_on(MemoryCache)
    cache.set("k", "forever")
    assert cache.get_or_set("k", lambda: "new", ttl=60, stale=30) == "forever"
    cache.set("k", "fresh", ttl=300)
    assert cache.get_or_set("k", lambda: "new", ttl=60, stale=30) == "fresh"
    cache.set("k", "stale", ttl=20)
    assert cache.get_or_set("k", lambda: "new", ttl=60, stale=30) == "new"
    left = cache.ttl("k")
    assert left is not None
    assert 60 < left <= 90
    for stale in (0, -1, True):
        with pytest.raises(InvalidArgument, match="stale="):
            cache.get_or_set("k", lambda: "new", ttl=60, stale=stale)
        with pytest.raises(InvalidArgument, match="stale="):
            cache.cached(ttl=60, key="k", stale=stale)


def test_cached_takes_functions_of_its_own_face() -> None:
    async def coroutine() -> int:
        return 1

    def generator() -> Any:
        yield 1

    cache, twin = portable.open_cache("memory:"), portable.aio.open_cache("memory:")
    for function in (coroutine, generator):
        with pytest.raises(InvalidArgument, match="cannot be cached here"):
            cache.cached(ttl=5, key="k")(function)
    with pytest.raises(InvalidArgument, match="cannot be cached here") as caught:
        twin.cached(ttl=5, key="k")(lambda: 1)  # type: ignore[arg-type,return-value]  # on purpose
    assert caught.value.operation == "cached"


def test_the_twins_have_the_same_methods() -> None:
    def public(cache: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(cache, callable)
        return {name: list(inspect.signature(one).parameters) for name, one in methods if not name.startswith("_")}

    assert public(portable.aio.Cache) == public(portable.Cache)


def test_an_option_that_is_not_known() -> None:
    with pytest.raises(ConfigError, match="max_entries"):
        portable.open_cache("memory:?max_entrie=5")
