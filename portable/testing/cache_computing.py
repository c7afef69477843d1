# Generated from portable/testing/aio/cache_computing.py by tools/generate_sync.py; change that file, not this one.
"""The cases of caches that compute values once: `get_or_set` and `cached`."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from portable._concurrency import sleep
from portable.cache import Cache
from portable.errors import InvalidArgument
from portable.testing._concurrency import race
from portable.testing.suite import Suite

__all__ = ["CacheComputingCases"]


class CacheComputingCases(Suite):
    """What `get_or_set` and `cached` guarantee."""

    def test_get_or_set_makes_what_is_missing_and_keeps_it(self) -> None:
        cache = self.open()
        made: list[int] = []

        def factory() -> dict[str, Any]:
            made.append(1)
            return {"n": len(made)}

        assert cache.get_or_set("k", factory, ttl=60) == {"n": 1}
        assert cache.get_or_set("k", factory, ttl=60) == {"n": 1}
        assert cache.get("k") == {"n": 1}
        left = cache.ttl("k")
        assert left is not None
        assert 30 < left <= 61

    def test_get_or_set_keeps_none(self) -> None:
        cache = self.open()
        made: list[int] = []

        def factory() -> None:
            made.append(1)

        assert cache.get_or_set("k", factory, ttl=60) is None
        assert cache.get_or_set("k", factory, ttl=60) is None
        assert made == [1]

    def test_get_or_set_gives_what_is_stored(self) -> None:
        cache = self.open()

        def factory() -> str:
            return "new"

        cache.set("k", "old", ttl=60)
        assert cache.get_or_set("k", factory, ttl=60) == "old"

    def test_twenty_callers_have_a_value_made_once(self) -> None:
        handles = [self.open() for _ in range(4)]
        started: list[int] = []
        made: list[int] = []

        def factory() -> str:
            made.append(1)
            # Until all of them have come, so that there is somebody who could make it a second time.
            while len(started) < 20:
                sleep(0.005)
            sleep(0.05)
            return f"made {len(made)}"

        def caller(number: int) -> Any:
            started.append(number)
            return handles[number % 4].get_or_set("k", factory, ttl=60)

        results: list[Any] = race([partial(caller, number) for number in range(20)])
        assert results == ["made 1"] * 20
        assert made == [1]

    def test_what_a_factory_raises_is_not_kept(self) -> None:
        cache = self.open()

        def broken() -> str:
            raise RuntimeError("no luck")

        def factory() -> str:
            return "made"

        with pytest.raises(RuntimeError, match="no luck"):
            cache.get_or_set("k", broken, ttl=60)
        assert cache.get("k", "nothing") == "nothing"
        # It is free at once: nobody waits for the lease of the one that failed.
        assert cache.get_or_set("k", factory, ttl=60, timeout=8) == "made"

    def test_who_waits_for_a_factory_that_raises_tries_itself(self) -> None:
        handles = [self.open(), self.open()]
        made: list[int] = []

        def factory() -> str:
            made.append(1)
            if len(made) == 1:
                sleep(0.1)
                raise RuntimeError("no luck")
            return "made"

        results: list[Any] = race([partial(one.get_or_set, "k", factory, ttl=60, timeout=30) for one in handles])
        assert sorted(str(result) for result in results) == ["made", "no luck"]

    def test_a_stale_value_is_made_anew_by_one_and_given_to_the_others(self) -> None:
        cache, other = self.open(), self.open()
        meanwhile: list[str] = []

        def never() -> str:
            raise AssertionError("two made it at once")

        def factory() -> str:
            meanwhile.append(other.get_or_set("k", never, ttl=600, stale=60))
            return "new"

        cache.set("k", "old", ttl=30)
        assert cache.get_or_set("k", factory, ttl=600, stale=60) == "new"
        assert meanwhile == ["old"]
        assert other.get_or_set("k", never, ttl=600, stale=60) == "new"
        left = cache.ttl("k")
        assert left is not None
        assert 600 < left <= 661

    def test_cached_keeps_a_result_under_its_key(self) -> None:
        cache: Cache[Any] = self.open()
        calls: list[tuple[int, str]] = []

        @cache.cached(ttl=60, key="user:{id}")
        def load(id: int, detail: str = "all") -> dict[str, Any]:
            """Load a user."""
            calls.append((id, detail))
            return {"id": id}

        assert load.__name__ == "load"
        assert load(7) == {"id": 7}
        assert load(id=7) == {"id": 7}
        assert load(8, detail="some") == {"id": 8}
        assert calls == [(7, "all"), (8, "some")]
        assert cache.get("user:7") == {"id": 7}
        assert cache.delete("user:7")
        assert load(7) == {"id": 7}
        assert len(calls) == 3

    def test_cached_tells_calls_apart(self) -> None:
        cache: Cache[Any] = self.open()

        @cache.cached(ttl=60, key="{a}:{b}")
        def join(a: str, b: str) -> list[str]:
            return [a, b]

        pairs = [("x:y", "z"), ("x", "y:z"), ("x%3Ay", "z"), ("", ":"), (":", "")]
        assert [join(*pair) for pair in pairs] == [list(pair) for pair in pairs]
        assert [join(*pair) for pair in pairs] == [list(pair) for pair in pairs]

    def test_cached_refuses_a_key_that_cannot_be(self) -> None:
        cache = self.open()

        def load(id: int, name: str) -> int:
            return id + len(name)

        for key in ("user:{idd}", "user:{}", "user:{0}", "user:{id", "{id}{name}", "user:{id.real}"):
            with pytest.raises(InvalidArgument):
                cache.cached(ttl=60, key=key)(load)
        with pytest.raises(InvalidArgument):
            cache.cached(ttl=0, key="user:{id}")
