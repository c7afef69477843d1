# Generated from portable/testing/aio/cache.py by tools/generate_sync.py; change that file, not this one.
"""The conformance suite of caches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any, ClassVar

import pytest

from portable._concurrency import sleep
from portable.errors import (
    Closed,
    IntegrityError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PortableError,
    Unsupported,
)
from portable.testing._concurrency import race
from portable.testing.cache_computing import CacheComputingCases
from portable.testing.cache_locks import CacheLockCases
from portable.testing.suite import lacks, needs

__all__ = ["CacheSuite"]

VALUES: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    2**53 + 1,
    1.5,
    -0.0,
    1e300,
    "",
    "text",
    "5",
    "null",
    "\x00\n\u2028 é 日本 🎉",
    [],
    {},
    [1, [2, {"a": None}], "x"],
    {"": 1, "a.b": [True], "ü": {"deep": 1.25}},
    b"",
    b"bytes",
    b"5",
    b"null",
    b'"text"',
    b'{"a": 1}',
    b" [",
    b"-",
    b"\x00\xff\xfe",
    b"\xc1\x00",
    b"\xc1\x005",
    b"\xc1\x00\xc1\x00{}",
    bytes(range(256)),
]

KEYS = [
    "plain",
    "Plain",
    "a b",
    " a",
    "a ",
    " ",
    "a\tb",
    "a\nb",
    "a\r\nb",
    "../up",
    "..",
    "a//b",
    "/lead",
    "trail/",
    "a\\b",
    "%41",
    "A",
    "%2541",
    "a%b",
    "ä",
    "a\u0308",
    "日本",
    "🎉",
    "'quoted'",
    '"',
    "k" * 200,
    "k" * 199 + "l",
    *[f"x{chr(code)}y" for code in range(128) if not chr(code).isalnum()],
]


@dataclass
class User:
    """A typed value."""

    id: int
    name: str


class CacheSuite(CacheLockCases, CacheComputingCases):
    """Every guarantee of `portable.Cache`, run against one URL."""

    kind: ClassVar[str] = "cache"

    def test_a_miss_gives_the_default(self) -> None:
        cache = self.open()
        missing = object()
        assert cache.get("k") is None
        assert cache.get("k", missing) is missing
        assert not cache.delete("k")
        assert cache.delete_many(["k", "l"]) == 0
        assert not cache.touch("k", 60)
        with pytest.raises(NotFound):
            cache.ttl("k")

    def test_values_come_back_as_they_are(self) -> None:
        cache, other = self.open(), self.open()
        for number, value in enumerate(VALUES):
            cache.set(f"k{number}", value)
        for number, value in enumerate(VALUES):
            found = other.get(f"k{number}", "missing")
            assert (type(found), found) == (type(value), value)
            assert repr(found) == repr(value)

    def test_none_is_told_from_a_miss(self) -> None:
        cache = self.open()
        missing = object()
        cache.set("k", None)
        assert cache.get("k", missing) is None
        assert not cache.add("k", 1)
        assert cache.get_many(["k", "l"]) == {"k": None}
        assert cache.delete("k")
        assert cache.get("k", missing) is missing

    def test_a_value_that_would_change_is_refused(self) -> None:
        cache = self.open()
        cache.set("k", "old")
        bad = [
            object(),
            float("nan"),
            float("inf"),
            (1, 2),
            {1: "a"},
            {"a": b"x"},
            {"a": {1, 2}},
            "\ud800",
            [lambda: 0],
        ]
        for value in bad:
            with pytest.raises(InvalidArgument):
                cache.set("k", value)
            with pytest.raises(InvalidArgument):
                cache.add("l", value)
            with pytest.raises(InvalidArgument):
                cache.set_many({"l": 1, "m": value})
        assert cache.get_many(["k", "l", "m"]) == {"k": "old"}

    def test_a_large_value_comes_back(self) -> None:
        cache = self.open()
        value = bytes(range(256)) * 2000
        cache.set("k", value)
        assert cache.get("k") == value

    def test_hostile_keys_are_keys_of_their_own(self) -> None:
        cache = self.open()
        cache.set_many({key: number for number, key in enumerate(KEYS)})
        for number, key in enumerate(KEYS):
            assert cache.get(key) == number
        assert cache.get_many(KEYS) == {key: number for number, key in enumerate(KEYS)}
        for number, key in enumerate(KEYS):
            assert cache.incr(key) == number + 1
            assert cache.delete(key)
        assert cache.get_many(KEYS) == {}

    def test_what_is_no_key_is_refused(self) -> None:
        cache = self.open()
        for key in ("", 5, None, b"k", "\ud800"):
            calls: list[Callable[[], Any]] = [
                partial(cache.get, key),
                partial(cache.set, key, 1),
                partial(cache.add, key, 1),
                partial(cache.delete, key),
                partial(cache.get_many, [key]),
                partial(cache.set_many, {key: 1}),
                partial(cache.delete_many, [key]),
                partial(cache.incr, key),
                partial(cache.touch, key, 1),
                partial(cache.ttl, key),
            ]
            for call in calls:
                with pytest.raises(InvalidArgument):
                    call()
        with pytest.raises(InvalidArgument):
            cache.get_many("abc")

    def test_set_replaces_whatever_is_there(self) -> None:
        cache = self.open()
        cache.set("k", "text", ttl=60)
        cache.set("k", b"\x00")
        assert cache.get("k") == b"\x00"
        assert cache.ttl("k") is None

    def test_racing_writers_leave_one_of_their_values(self) -> None:
        handles = [self.open() for _ in range(4)]
        values = [f"{number}" * 500 for number in range(20)]
        results: list[Any] = race([partial(handles[number % 4].set, "k", values[number]) for number in range(20)])
        assert results == [None] * 20
        assert handles[0].get("k") in values

    def test_many_at_once(self) -> None:
        cache = self.open()
        mapping = {f"k{number}": number for number in range(1500)}
        cache.set_many(mapping, ttl=600)
        wanted = ["missing", *reversed(mapping), "k7", "k7"]
        found = cache.get_many(key for key in wanted)
        assert found == mapping
        assert list(found) == list(reversed(mapping))
        left = cache.ttl("k3")
        assert left is not None
        assert 500 < left <= 601
        assert cache.delete_many([f"k{number}" for number in range(1400)] + ["missing"]) == 1400
        assert cache.get_many(mapping) == {f"k{number}": number for number in range(1400, 1500)}
        assert cache.get_many([]) == {}
        assert cache.delete_many([]) == 0
        cache.set_many({})

    def test_a_value_is_gone_within_a_second_of_its_ttl(self) -> None:
        cache = self.open()
        ttl = 1 + self.lease
        before = monotonic()
        cache.set("k", "value", ttl=ttl)
        after = monotonic()
        left = cache.ttl("k")
        assert left is not None
        assert 0 < left <= ttl + 1
        while True:
            asked = monotonic()
            if cache.get("k", "gone") == "gone":
                assert monotonic() - before > ttl - 1, "it was gone before its time"
                break
            assert asked - after < ttl + 1.1, "it outlived its ttl by more than a second"
            sleep(0.02)

    def test_what_has_expired_is_gone_for_every_method(self) -> None:
        cache = self.open()
        names = ["get", "add", "incr", "touch", "delete", "ttl", "many"]
        cache.set_many(dict.fromkeys(names, 5), ttl=self.lease)
        started = monotonic()
        while cache.get_many(names):
            assert monotonic() - started < 30
            sleep(0.02)
        assert cache.add("add", "new")
        assert cache.get("add") == "new"
        assert cache.ttl("add") is None
        assert cache.incr("incr", 3) == 3
        assert cache.ttl("incr") is None
        assert not cache.touch("touch", 60)
        assert not cache.delete("delete")
        with pytest.raises(NotFound):
            cache.ttl("ttl")
        assert cache.get_many(["many", "touch"]) == {}
        assert cache.delete_many(["many", "touch"]) == 0

    def test_touch_changes_the_time_to_live(self) -> None:
        cache = self.open()
        cache.set("k", 1, ttl=60)
        assert cache.touch("k", 600)
        left = cache.ttl("k")
        assert left is not None
        assert 500 < left <= 601
        assert cache.touch("k", None)
        assert cache.ttl("k") is None
        assert cache.touch("k", 600)
        assert cache.ttl("k") is not None
        assert cache.get("k") == 1

    def test_wrong_times_to_live_are_refused(self) -> None:
        cache = self.open()
        for ttl in (0, -1, -0.5, float("nan"), float("inf"), True, "5"):
            calls: list[Callable[[], Any]] = [
                partial(cache.set, "k", 1, ttl=ttl),
                partial(cache.add, "k", 1, ttl=ttl),
                partial(cache.set_many, {"k": 1}, ttl=ttl),
                partial(cache.incr, "k", ttl=ttl),
                partial(cache.touch, "k", ttl),
            ]
            for call in calls:
                with pytest.raises(InvalidArgument):
                    call()
        assert cache.get("k") is None

    def test_add_sets_what_is_missing_only(self) -> None:
        cache = self.open()
        assert cache.add("k", "first", ttl=600)
        assert not cache.add("k", "second")
        assert cache.get("k") == "first"
        left = cache.ttl("k")
        assert left is not None
        assert 500 < left <= 601
        assert cache.delete("k")
        assert cache.add("k", "third")

    def test_of_twenty_that_add_one_succeeds(self) -> None:
        handles = [self.open() for _ in range(4)]
        for key in ("a", "b", "c", "d", "e"):
            results: list[Any] = race([partial(handles[number % 4].add, key, number) for number in range(20)])
            assert sorted(results) == [False] * 19 + [True]
            assert handles[0].get(key) == results.index(True)

    def test_incr_counts_from_nought(self) -> None:
        cache = self.open()
        assert cache.incr("n") == 1
        assert cache.incr("n", 41) == 42
        assert cache.incr("n", 0) == 42
        assert cache.get("n") == 42
        cache.set("n", 2**53)
        assert cache.incr("n") == 2**53 + 1

    def test_incr_sets_the_time_to_live_when_it_creates(self) -> None:
        cache = self.open()
        assert cache.incr("n", ttl=600) == 1
        assert cache.incr("n", ttl=60_000) == 2
        left = cache.ttl("n")
        assert left is not None
        assert 500 < left <= 601
        cache.set("m", 5)
        assert cache.incr("m", ttl=600) == 6
        assert cache.ttl("m") is None

    def test_no_increment_of_twenty_callers_is_lost(self) -> None:
        handles = [self.open() for _ in range(4)]

        def five(number: int) -> list[int]:
            return [handles[number % 4].incr("n") for _ in range(5)]

        results: list[Any] = race([partial(five, number) for number in range(20)])
        assert sorted(value for values in results for value in values) == list(range(1, 101))

    def test_incr_refuses_what_is_no_counter(self) -> None:
        cache = self.open()
        for value in ("text", "5", 1.5, None, True, [1], b"5", b"x"):
            cache.set("k", value)
            with pytest.raises(InvalidArgument):
                cache.incr("k")
            assert repr(cache.get("k")) == repr(value)
        for by in (1.5, "1", None, True):
            with pytest.raises(InvalidArgument):
                cache.incr("n", by)
        assert cache.get("n") is None

    def test_a_counter_does_not_wrap(self) -> None:
        cache = self.open()
        cache.set("n", 2**63 - 2)
        assert cache.incr("n") == 2**63 - 1
        with pytest.raises(LimitExceeded):
            cache.incr("n")
        with pytest.raises(LimitExceeded):
            cache.incr("n", 2**70)
        assert cache.get("n") == 2**63 - 1

    @needs("negative_counters")
    def test_a_counter_goes_below_nought(self) -> None:
        cache = self.open()
        assert cache.incr("n", -5) == -5
        assert cache.incr("n", 3) == -2
        assert cache.get("n") == -2
        cache.set("n", -(2**63))
        with pytest.raises(LimitExceeded):
            cache.incr("n", -1)

    @lacks("negative_counters")
    def test_counting_down_is_refused(self) -> None:
        cache = self.open()
        cache.set("n", 5)
        with pytest.raises(Unsupported):
            cache.incr("n", -1)
        assert cache.get("n") == 5

    def test_a_cache_has_names_of_its_own_and_clear_empties_only_that(self) -> None:
        caches = {name: self.open(name) for name in ("main", "main2", "mai", "other")}
        for name, cache in caches.items():
            cache.set_many({"k": name, "main2": name, "*": name})
        caches["main"].incr("n", 7)
        assert caches["main2"].get("n") is None
        caches["main"].clear()
        assert caches["main"].get_many(["k", "main2", "*", "n"]) == {}
        for name in ("main2", "mai", "other"):
            assert caches[name].get_many(["k", "main2", "*"]) == {"k": name, "main2": name, "*": name}
        assert self.open("main").add("k", "again")

    def test_typed_values(self) -> None:
        cache, plain = self.open(type=User), self.open()
        cache.set("u", User(1, "ann"))
        assert cache.get("u") == User(1, "ann")
        assert cache.get_many(["u"]) == {"u": User(1, "ann")}
        for value in (5, "text", {"id": "x", "name": "y"}, User("x", "y"), None):  # type: ignore[arg-type]  # on purpose
            with pytest.raises(InvalidArgument):
                cache.set("u", value)
        plain.set("u", {"id": "one"})
        with pytest.raises(IntegrityError):
            cache.get("u")

        def factory() -> User:
            return User(2, "bob")

        assert cache.get_or_set("u", factory, ttl=60) == User(2, "bob")
        assert plain.get("u") == {"id": 2, "name": "bob"}

    def test_errors_say_where_they_happened(self) -> None:
        cache = self.open()
        with pytest.raises(PortableError) as caught:
            cache.ttl("missing")
        assert caught.value.resource == cache.name
        assert caught.value.operation == "ttl"
        assert caught.value.provider == self.url.partition(":")[0]

    def test_a_closed_cache_says_so(self) -> None:
        cache = self.open()
        cache.set("k", 1)
        cache.close()
        cache.close()
        with pytest.raises(Closed):
            cache.get("k")
        with pytest.raises(Closed):
            cache.set("k", 2)

    def test_check_finds_it_well(self) -> None:
        cache = self.open()
        cache.check(write=True, timeout=30)
        assert cache.get_many(["check"]) == {}
