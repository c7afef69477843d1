"""The `sqlite:` cache: its tables, what it purges, and how it is made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import portable
from portable.bindings import Binding, Shared
from portable.contracts import CacheContract
from portable.errors import Closed, ResourceNotFound
from portable.testing.clock import Clock
from portable.urls import Url
from portable_embedded import sqlite_cache
from portable_embedded.sqlite_cache import SqliteCache, SqliteCacheOptions


def sqlite(path: Path, clock: Clock | None = None, *, create: bool = True, name: str = "c") -> SqliteCache:
    clock = clock or Clock()
    return SqliteCache(
        Binding(
            resource="c",
            kind="cache",
            name=name,
            url=Url("sqlite", path=str(path)),
            options=SqliteCacheOptions(durability="process"),
            contract=CacheContract(),
            create=create,
            shared=Shared(),
            clock=clock.now,
            on_clock_moved=clock.on_moved,
        )
    )


def rows(path: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def test_the_tables_are_as_documented(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with portable.open_cache(f"sqlite:{path}", name="sessions", durability="process") as cache:
        cache.set("user:7", {"id": 7})
        cache.set("n", 42)
        cache.set("b", b"5", ttl=1000)
        entries = rows(
            path, "SELECT c.name, e.key, e.value, e.expires IS NULL FROM cache_entry e JOIN cache c ON c.id = e.cache"
        )
        assert sorted(entries) == [
            ("sessions", "b", b"\xc1\x005", 0),
            ("sessions", "n", b"42", 1),
            ("sessions", "user:7", b'{"id":7}', 1),
        ]
        with cache.lock("report", ttl=60) as lock:
            assert rows(path, "SELECT name FROM cache_lock") == [("lock:report",)]
            assert rows(path, "SELECT token FROM cache") == [(lock.token,)]
        assert rows(path, "SELECT name FROM cache_lock") == []
        # What another program writes is read as it is.
        with closing(sqlite3.connect(path)) as other, other:
            other.execute("INSERT INTO cache_entry (cache, key, value) SELECT id, 'theirs', x'5B315D' FROM cache")
        assert cache.get("theirs") == [1]


def test_what_is_missing_is_made_only_where_it_may_be(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    missing = sqlite(path, create=False)
    with pytest.raises(ResourceNotFound, match="portable resources create"):
        missing.open()
    assert not path.exists()
    assert [(change.action, change.what, change.name) for change in missing.plan()] == [("create", "cache", "c")]
    missing.create()
    missing.create()
    assert missing.plan() == []
    missing.open()
    missing.close()
    missing.close()
    neighbour = sqlite(path, create=False, name="neighbour")
    with pytest.raises(ResourceNotFound, match="has no cache 'neighbour'"):
        neighbour.open()
    assert [change.name for change in neighbour.plan()] == ["neighbour"]


def test_a_closed_driver_says_so(tmp_path: Path) -> None:
    cache = sqlite(tmp_path / "app.db")
    with pytest.raises(Closed):
        cache.get("k", timeout=1)
    cache.check(write=True, timeout=5)
    assert cache.native.path == tmp_path / "app.db"
    cache.close()
    with pytest.raises(Closed):
        cache.set("k", b"1", None, timeout=1)


def test_what_has_expired_is_purged_by_later_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_cache, "PURGE_PAUSE", 0.0)
    clock = Clock()
    clock.stop()
    cache, neighbour = sqlite(tmp_path / "app.db", clock), sqlite(tmp_path / "app.db", clock, name="neighbour")
    cache.open()
    neighbour.open()
    cache.set_many({f"k{number}": b"1" for number in range(1200)}, 10, timeout=5)
    neighbour.set("theirs", b"1", 10, timeout=5)
    assert cache.acquire("dead", "holder", 10, timeout=5).obtained
    cache.set("later", b"1", 1000, timeout=5)
    cache.set("stays", b"1", None, timeout=5)
    clock.advance(11)
    assert cache.get("k5", timeout=5) is None
    for _ in range(4):
        cache.set("stays", b"2", None, timeout=5)
    assert sorted(rows(tmp_path / "app.db", "SELECT key FROM cache_entry")) == [("later",), ("stays",)]
    assert rows(tmp_path / "app.db", "SELECT name FROM cache_lock") == []
    neighbour.close()
    cache.close()


def test_a_lock_that_ran_out_goes_by_the_clock_of_the_test(tmp_path: Path) -> None:
    clock = Clock()
    clock.stop()
    cache = sqlite(tmp_path / "app.db", clock)
    clock.advance(0)
    cache.open()
    first = cache.acquire("l", "one", 100, timeout=5)
    assert not cache.acquire("l", "other", 100, timeout=5).obtained
    news = cache.lock_arrivals("l")
    version = news.version()
    clock.advance(101)
    assert news.wait(version, 30)
    assert not cache.extend("l", "one", 100, timeout=5)
    second = cache.acquire("l", "other", 100, timeout=5)
    assert second.obtained
    assert second.token is not None
    assert first.token is not None
    assert second.token > first.token
    assert not cache.release("l", "one", timeout=5)
    assert cache.release("l", "other", timeout=5)
    cache.close()


def test_two_who_saw_it_free_do_not_both_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = sqlite(tmp_path / "app.db")
    cache.open()
    store = cache.native
    write = store.write

    def overtaken(*args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(store, "write", write)
        assert cache.acquire("l", "other", 60, timeout=5).obtained
        return write(*args, **kwargs)

    monkeypatch.setattr(store, "write", overtaken)
    attempt = cache.acquire("l", "one", 60, timeout=5)
    assert not attempt.obtained
    assert 0 < attempt.seconds <= 60
    cache.close()


def test_keys_are_asked_for_in_few_shapes() -> None:
    sizes = [len(chunk) for chunk in sqlite_cache._chunks([f"k{number}" for number in range(1500)])]
    assert sizes == [512, 512, 512]
    assert [len(chunk) for chunk in sqlite_cache._chunks(["a", "b", "c"])] == [4]
    assert [len(chunk) for chunk in sqlite_cache._chunks(["a"])] == [1]
