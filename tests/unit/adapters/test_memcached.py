"""What the memcached driver stores beside a value: keys, times to live, and keys that are digests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pymemcache")

from portable_memcached.items import LONGEST_PRECISE, SLACK, item, lifetime, packed, unpacked
from portable_memcached.keys import GENERATION, LONGEST_KEY, Names

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=400)
NOW = st.floats(1.7e9, 1.9e9)


def told(life: bytes) -> tuple[int, int]:
    seconds, flags = life.split(b" ")
    return int(seconds[1:]), int(flags[1:])


@given(name=TEXT, key=TEXT)
def test_every_key_is_one_that_memcached_takes(name: str, key: str) -> None:
    names = Names(name)
    for stored in (names.value(b"0" * GENERATION, key), names.lock(f"lock:{key}"), names.generation):
        assert len(stored) <= LONGEST_KEY
        assert not set(stored) & {*range(33), 127}
        assert stored.split() == [stored]


@given(names=st.tuples(TEXT, TEXT), keys=st.tuples(TEXT, TEXT))
def test_no_two_keys_are_the_same(names: tuple[str, str], keys: tuple[str, str]) -> None:
    found = {Names(name).value(b"0" * GENERATION, key) for name in names for key in keys}
    assert len(found) == len(set(names)) * len(set(keys))


def test_names_that_look_like_parts_of_a_key_are_names() -> None:
    generation = b"0" * GENERATION
    assert Names("a:value:000000000000").value(generation, "b") != Names("a").value(generation, "000000000000:b")
    assert Names("a").value(generation, "%41") != Names("a").value(generation, "A")


@given(ttl=st.floats(0.001, LONGEST_PRECISE), now=NOW, passed=st.floats(0, 1.2))
def test_a_life_ends_to_the_tick(ttl: float, now: float, passed: float) -> None:
    seconds, flags = told(lifetime(ttl, now))
    assert flags < 2**32
    gone = ttl * passed
    if seconds > 30 * 86400:
        seconds = int(seconds - now)
    found = item(b"v", [b"f%d" % flags, b"t%d" % max(0, seconds - int(gone)), b"c7"], now + gone)
    if gone < ttl - 0.001:
        assert found is not None
        assert found.left is not None
        assert ttl - gone - 0.001 <= found.left <= ttl - gone + 0.251
    if gone > ttl + 0.251:
        assert found is None


@given(now=NOW)
def test_what_does_not_expire_has_no_end(now: float) -> None:
    assert told(lifetime(None, now)) == (0, 0)
    found = item(b"v", [b"f0", b"t-1", b"c7"], now)
    assert found is not None
    assert found.left is None
    assert found.unique == b"7"


@given(ttl=st.floats(LONGEST_PRECISE + 1, 1e11), now=NOW)
def test_a_long_life_is_a_time_of_day_that_memcached_knows(ttl: float, now: float) -> None:
    seconds, flags = told(lifetime(ttl, now))
    assert flags == 0
    assert 30 * 86400 < seconds < 2**31
    assert seconds >= min(now + ttl, 2**31 - 1)


@given(now=NOW, ahead=st.sampled_from([-86400.0, -3600.0, -30.0, 30.0, 3600.0, 86400.0]))
def test_a_clock_that_is_wrong_changes_a_life_by_little(now: float, ahead: float) -> None:
    seconds, flags = told(lifetime(60.0, now + ahead))
    found = item(b"v", [b"f%d" % flags, b"t%d" % (seconds - 20), b"c7"], now + 20)
    assert found is not None
    assert found.left is not None
    assert abs(found.left - 40) <= SLACK


def test_flags_of_other_programs_are_no_times() -> None:
    for flags in (1, 16, 0x7FFF_FFFF, 0xB000_0001, 0xD000_0001):
        found = item(b"v", [b"f%d" % flags, b"t30", b"c7"], 1.8e9)
        assert found is not None
        assert found.left == 30


@given(key=TEXT, other=TEXT, value=st.binary())
def test_a_digest_gives_the_value_of_its_own_key_alone(key: str, other: str, value: bytes) -> None:
    stored = packed(key, value)
    assert unpacked(key, stored) == value
    if other != key:
        assert unpacked(other, stored) is None
    assert unpacked(key, value) is None or value.startswith(b"\xc1\x01")
