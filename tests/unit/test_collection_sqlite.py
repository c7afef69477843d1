"""The tables of a collection in an SQLite file: made, changed and filled while others write."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import portable
from portable.changes import Change
from portable.document_writes import Save
from portable.documents import Check, Create, Put, Update
from portable.errors import ConfigError, IntegrityError, InvalidArgument, NotFound, ResourceNotFound
from portable_embedded import sqlite_collection

PAST = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


def opened(path: Path, **contract: Any) -> Any:
    return portable.open_collection(f"sqlite:{path}", **{"name": "users", "durability": "process", **contract})


def rows(path: Path, sql: str, *parameters: Any) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection, connection:
        return connection.execute(sql, parameters).fetchall()


def test_documents_are_json_that_anybody_can_read(path: Path) -> None:
    moment = datetime(2024, 5, 1, 12, tzinfo=UTC)
    with opened(path, ttl="expires", partition="tenant") as users:
        users.create({"tenant": "t", "id": "a", "b": b"\0", "$x": 1, "expires": moment.replace(year=2999)})
    ((data, expires),) = rows(path, "SELECT data, expires FROM collection_users WHERE partition = 't' AND key = 'a'")
    assert json.loads(data) == {
        "tenant": "t",
        "id": "a",
        "b": {"$bytes": "AA=="},
        "$$x": 1,
        "expires": {"$datetime": "2999-05-01T12:00:00.000Z"},
    }
    assert expires == int(moment.replace(year=2999).timestamp() * 1000)
    found = rows(path, "SELECT json_extract(data, '$.id') FROM collection_users")
    assert found == [("a",)]


def test_what_other_programs_wrote_is_read(path: Path) -> None:
    with opened(path) as users:
        users.put({"id": "a"})
        rows(path, """UPDATE collection_users SET data = '{"id": "a", "n": [1, {"$decimal": "2.50"}]}'""")
        assert str(users.get("a").data["n"][1]) == "2.50"
        rows(path, "UPDATE collection_users SET data = 'no json'")
        with pytest.raises(IntegrityError, match="damaged"):
            users.get("a")


def test_plan_says_what_create_does(path: Path) -> None:
    with opened(path, indexes=["email", ["status", "-created"]]) as users:
        assert users._driver.plan() == [
            Change("create", "collection", "users"),
            Change("create", "index", "users", "email"),
            Change("create", "index", "users", "status"),
            Change("create", "index", "users", "status, created"),
        ]
        assert not path.exists()
        users._driver.create()
        assert users._driver.plan() == []
        users.put({"id": "a", "email": "x"})
    with opened(path, indexes=["email", "name"], ttl="expires") as users:
        assert users._driver.plan() == [
            Change("change", "ttl", "users", "from none to expires"),
            Change("create", "index", "users", "name"),
        ]
    with opened(path, name="others") as others:
        assert others._driver.plan() == [Change("create", "collection", "others")]
    with opened(path) as users:
        # An index that is no longer declared is kept, because others may need it.
        assert users._driver.plan() == []
        assert users.get("a").data == {"id": "a", "email": "x"}


def test_without_create_what_is_missing_is_told(path: Path) -> None:
    with opened(path, create="never") as users:
        with pytest.raises(ResourceNotFound, match="portable resources create"):
            users.get("a")
        with pytest.raises(ResourceNotFound):
            users.check()
    with opened(path) as users:
        users.put({"id": "a", "n": 1})
    with opened(path, create="never", name="others") as others:
        with pytest.raises(ResourceNotFound, match="'others'"):
            others.get("a")
        with pytest.raises(ResourceNotFound, match="'others'"):
            others.check()
    with opened(path, create="never", indexes=["n"]) as users:
        with pytest.raises(ResourceNotFound, match="indexes"):
            users.get("a")
        users._driver.create()
        assert [one.key for one in users.where("n", "==", 1)] == ["a"]
        users.check(write=True)


def test_another_key_or_partition_is_refused(path: Path) -> None:
    with opened(path) as users:
        users.put({"id": "a"})
    for contract in ({"key": "email"}, {"partition": "tenant"}):
        with opened(path, **contract) as users, pytest.raises(ConfigError, match="cannot be changed"):
            users.get("a")


def test_a_writer_that_knows_an_older_layout_learns_the_new_one(path: Path) -> None:
    with opened(path) as old:
        old.write_many(Put({"id": f"k{i}", "n": 1}) for i in range(5))
        with opened(path, indexes=["n"]) as new:
            one = new.where("n", "==", 1)
            assert one.count() == 5
            # Each way of writing meets the new layout in turn.
            writes: list[Callable[[], Any]] = [
                lambda: old.put({"id": "put", "n": 1}),
                lambda: old.create({"id": "create", "n": 1}),
                lambda: old.update("k1", set={"n": 2}),
                lambda: old.write_many([Put({"id": "many", "n": 1})]),
                lambda: old.transact([Create({"id": "transact", "n": 1}), Check("missing")]),
                lambda: old.replace({"id": "k2", "n": 2}),
                lambda: old.delete("k3"),
            ]
            for i, write in enumerate(writes):
                write()
                with opened(path, indexes=["n", f"other{i}"]) as newer:
                    newer.get("k0")
            assert sorted(document.key for document in one) == ["create", "k0", "k4", "many", "put", "transact"]


def test_an_index_that_was_not_filled_is_filled_by_the_next_to_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_collection, "FILLED_AT_ONCE", 7)
    with opened(path) as users:
        users.write_many(Put({"id": f"k{i:02}", "n": i % 3}) for i in range(50))
    with opened(path, indexes=["n"]) as users:
        driver = users._driver
        store = driver._open_store(create=True)
        with monkeypatch.context() as broken:
            broken.setattr(type(driver), "_fill", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                users.get("k00")
        store.close()
    # Whoever may not make anything is told; whoever may, goes on.
    with opened(path, indexes=["n"], create="never") as users, pytest.raises(ResourceNotFound, match="indexes"):
        users.get("k00")
    with opened(path) as users:
        users.put({"id": "k99", "n": 1})
    with opened(path, indexes=["n"]) as users:
        assert users.where("n", "==", 1).count() == 18
    assert rows(path, "SELECT count(*) FROM collection_users WHERE index_1 IS NULL") == [(0,)]


def _interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_new_ttl_field_counts_for_the_old_documents(path: Path) -> None:
    with opened(path) as users:
        users.put({"id": "a", "expires": PAST})
        users.put({"id": "b", "expires": PAST.replace(year=2999)})
        users.put({"id": "c", "expires": "no datetime"})
    with opened(path, ttl="expires") as users:
        assert list(users.get_many(["a", "b", "c"])) == ["b", "c"]
        assert users.get("c").expires_at is None
    with opened(path) as users:
        assert list(users.get_many(["a", "b", "c"])) == ["a", "b", "c"]


def test_expired_documents_go_for_good(path: Path) -> None:
    with opened(path, ttl="expires") as users:
        users.write_many(Put({"id": f"k{i}", "expires": PAST}) for i in range(300))
        for i in range(200):
            users.put({"id": f"stays{i}"})
        assert rows(path, "SELECT count(*) FROM collection_users") == [(200,)]


def test_a_table_that_was_dropped_is_told(path: Path) -> None:
    with opened(path) as users:
        users.put({"id": "a"})
        rows(path, "DROP TABLE collection_users")
        with pytest.raises(ResourceNotFound):
            users.get("a")
        with pytest.raises(ResourceNotFound):
            users.put({"id": "a"})


def test_any_physical_name(path: Path) -> None:
    hostile = ['we"ird', "drop table; --", "ü 🦊", "a'b", "collections", "Users", "^users", "USERS", "users_index_1"]
    for name in hostile:
        driver = _driver(path, name)
        driver.open()
        driver.write(Save(("", "a"), {"id": "a", "in": name}, exists=False), timeout=5)
        driver.close()
    for name in hostile:
        driver = _driver(path, name)
        driver.open()
        assert driver.get(("", "a"), timeout=5).data["in"] == name
        driver.close()
    with opened(path, name="users") as users:
        users.put({"id": "a"})
        assert users.get("a").key == "a"
    assert {name for (name,) in rows(path, "SELECT name FROM portable_collections")} == {*hostile, "users"}


def _driver(path: Path, name: str) -> Any:
    with opened(path) as users:
        binding = users._binding
        binding.name = name
        return sqlite_collection.SqliteCollection(binding)


def test_a_failed_update_in_a_shared_transaction_is_its_own(path: Path) -> None:
    with opened(path) as users:
        users.put({"id": "a", "n": "text"})
        result = users.write_many(
            [Update("a", set={"m": 1}), Update("a", increment={"n": 1}), Update("b", set={"m": 1})], return_errors=True
        )
        assert [type(entry) for entry in result.failed.values()] == [InvalidArgument, NotFound]
        assert users.get("a").data == {"id": "a", "n": "text", "m": 1}


def test_the_store_is_the_native_client_and_options_are_checked(path: Path) -> None:
    with opened(path, durability="power") as users:
        users.put({"id": "a"})
        assert users.native.path == path
        assert users.capabilities.durability == "power"
    with pytest.raises(ConfigError):
        opened(path, durability="maybe")
    with opened(path) as users:
        pass
    users.close()
