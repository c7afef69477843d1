"""Collections on PostgreSQL and MariaDB: their suite in both faces, and what only such tables can get wrong."""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, ClassVar

import pytest

import portable
from portable.document_writes import Remove
from portable.documents import Create, Delete, Put, Update
from portable.errors import ConfigError, IntegrityError, LimitExceeded, ResourceNotFound
from portable.query_intervals import intervals
from portable.query_plan import Plan, SortPosition
from portable.testing.aio.collection import CollectionSuite as AsyncCollectionSuite
from portable.testing.collection import CollectionSuite
from portable_sql.collection_ranges import LONGEST
from tests.targets import target

SERVERS = ["postgres", "mariadb"]


class _Postgres:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("postgres")


class _Mariadb:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("mariadb")


class TestPostgresCollection(_Postgres, CollectionSuite):
    pass


class TestPostgresCollectionAsync(_Postgres, AsyncCollectionSuite):
    pass


class TestMariadbCollection(_Mariadb, CollectionSuite):
    pass


class TestMariadbCollectionAsync(_Mariadb, AsyncCollectionSuite):
    pass


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> str:
    return target(request.param)


@pytest.fixture
def name() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


@pytest.fixture
def documents(url: str, name: str) -> Iterator[Any]:
    with opened(url, name, indexes=["v", ["kind", "v"]]) as collection:
        yield collection


def opened(url: str, name: str, **contract: Any) -> Any:
    return portable.open_collection(url, **{"name": name, "create": "if_missing", **contract})


def pages(query: Any, size: int) -> list[Any]:
    found: list[Any] = []
    cursor = None
    while True:
        page = query.limit(size).page(cursor)
        assert len(page.items) <= size
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found


# ---------------------------------------------------------------------- index keys that are too long for an index


def long_values() -> list[Any]:
    """Values around the longest index key, many of which differ only behind it."""
    start = "x" * (LONGEST - 3)
    texts = [start[:-2], start, start + "a", start + "b", start + "c" * 9, start + "é", start + "\0", start + "\0\0"]
    texts += [start + "b" * length for length in (2, 3, 2000)]
    texts += [start[:-1] + "y", start[:-1] + "a" + "z" * 50, "a", "z"]
    return [*texts, *texts[2:6], b"x" * (LONGEST + 5), b"x" * (LONGEST + 6), b"", 5, None, True]


QUERIES: list[tuple[str, Any]] = [
    ("order", None),
    *[
        (operator, operand)
        for operator in ("==", "<", "<=", ">", ">=", "!=")
        for operand in ("x" * (LONGEST - 3) + "b", "x" * (LONGEST - 3), "x" * (LONGEST - 3) + "b" * 2000, "x", "y")
    ],
    ("prefix", "x" * (LONGEST - 3)),
    ("prefix", "x" * (LONGEST + 20)),
    ("prefix", "x" * (LONGEST - 3) + "bbb"),
    ("in", ["x" * (LONGEST - 3) + "a", "z", "x" * (LONGEST - 3) + "c" * 9]),
    ("not-in", ["x" * (LONGEST - 3) + "a", "z", "x" * (LONGEST - 3) + "c" * 9]),
]


def test_long_index_keys_are_in_the_order_of_every_provider(documents: Any, name: str) -> None:
    writes = [Put({"id": f"k{i * 7 % 23:02}", "v": value, "kind": "one"}) for i, value in enumerate(long_values())]
    with portable.open_collection(f"memory:{name}", name=name, indexes=["v", ["kind", "v"]]) as model:
        for collection in (documents, model):
            collection.write_many(writes)
        for operator, operand in QUERIES:
            for descending in (False, True):
                for equal in (False, True):
                    asked = []
                    for collection in (documents, model):
                        query = collection.where("kind", "==", "one") if equal else collection.query()
                        if operator != "order":
                            query = query.where("v", operator, operand)
                        asked.append(query.order_by("v", descending=descending))
                    wanted = [document.data for document in asked[1]]
                    told = f"{operator} {str(operand)[-20:]!r} descending={descending} equal={equal}"
                    assert [document.data for document in asked[0]] == wanted, told
                    assert asked[0].count() == len(wanted), told
                    for size in (2,) if equal else (1, 3):
                        assert [document.data for document in pages(asked[0], size)] == wanted, told


def test_pages_over_long_index_keys_while_others_write(documents: Any) -> None:
    start = "x" * (LONGEST + 100)
    documents.write_many(Put({"id": f"k{i:02}", "v": f"{start}{i % 7}"}) for i in range(40))
    wanted = [f"k{i:02}" for i in sorted(range(40), key=lambda i: (i % 7, i))]
    found: list[str] = []
    cursor = None
    while True:
        page = documents.order_by("v").limit(3).page(cursor)
        found += [document.key for document in page.items]
        cursor = page.cursor
        if cursor is None:
            break
        # The document that the cursor stands on goes, and one comes behind and one before it.
        documents.write_many(
            [Delete(found[-1]), Put({"id": f"z{len(found):02}", "v": f"{start}9"}), Put({"id": "a", "v": start})]
        )
    assert [key for key in found if key.startswith("k")] == wanted
    assert len(found) == len(set(found))
    assert "a" not in found


def test_keys_and_index_keys_of_the_greatest_length_fit_together(url: str, name: str) -> None:
    draw = random.Random(5)  # noqa: S311 (nothing secret)
    with opened(url, name, partition="tenant", indexes=["v"]) as documents:
        longest = [
            "".join(draw.choice("abcdefghijklmnopqrstuvwxyz0123456789-_") for _ in range(1024)) for _ in range(4)
        ]
        for tenant in longest[:2]:
            for key in longest[2:]:
                documents.create({"tenant": tenant, "id": key, "v": longest[0]})
        assert len(documents.get_many([(tenant, key) for tenant in longest[:2] for key in longest[2:]])) == 4
        found = [document.key for document in documents.where("v", "==", longest[0])]
        assert found == sorted((tenant, key) for tenant in longest[:2] for key in longest[2:])


# ---------------------------------------------------------------------- what the server's own types would lose


def test_what_jsonb_cannot_hold_comes_back_as_it_was(documents: Any) -> None:
    data = {
        "id": "a",
        "whole": 1e22,
        "large": [1e16, -1.7e308, {"x": 123456789012345680.0}],
        "small": [5e-324, 1e-7, 0.1],
        "zero": -0.0,
        "nul": "a\0b",
        "escaped": "\\u0000 \\0",
        "names": {"a\0": 1, "": "0e1", "$x": [-0.0]},
        "money": Decimal("1E+30"),
        "exact": [2**63 - 1, -(2**63), 2**53 + 1],
    }
    documents.put(data)
    for got in (
        documents.get("a").data,
        documents.get_many(["a"])["a"].data,
        next(iter(documents.query(allow_scan=True))).data,
    ):
        assert repr(sorted(got.items())) == repr(sorted(data.items()))
    assert documents.update("a", increment={"n": 1}).data == {**data, "n": 1}
    got = documents.get("a").data
    assert (repr(got["whole"]), repr(got["zero"]), repr(got["large"][0])) == ("1e+22", "-0.0", "1e+16")
    documents.put({"id": "a", "n": 5})
    assert documents.get("a").data == {"id": "a", "n": 5}


def test_documents_are_there_for_the_servers_own_queries() -> None:
    name = f"t{uuid.uuid4().hex[:12]}"
    with opened(target("postgres"), name) as documents:
        documents.put({"id": "ada", "name": {"first": "Ada"}, "bad": "a\0b"})
        sql = f"SELECT key, data->'name'->>'first' FROM portable_collection_{name} WHERE data @> '{{\"id\": \"ada\"}}'"
        assert documents._driver._server.fetch(sql, timeout=30) == [("ada", "Ada")]
    with opened(target("mariadb"), name) as documents:
        documents.put({"id": "ada", "name": {"first": "Ada"}})
        sql = f"SELECT json_value(data, '$.name.first') FROM portable_collection_{name} WHERE `key` = 'ada'"
        assert documents._driver._server.fetch(sql, timeout=30) == [("Ada",)]


def test_documents_deeper_than_the_servers_json_come_back(documents: Any) -> None:
    nested: Any = "bottom"
    for _ in range(49):
        nested = {"down": [nested]}
    documents.put({"id": "a", "nested": nested})
    assert documents.get("a").data["nested"] == nested


def test_a_document_that_the_server_takes_not_at_once_keeps_no_other_back() -> None:
    with opened(target("mariadb"), f"t{uuid.uuid4().hex[:12]}") as documents:
        huge = "0" * 9_000_000
        with pytest.raises(LimitExceeded, match="max_allowed_packet"):
            documents.put({"id": "a", "v": huge})
        result = documents.write_many(
            [Put({"id": "a", "v": 1}), Put({"id": "b", "v": huge}), Put({"id": "c", "v": 3})], return_errors=True
        )
        assert list(result.failed) == [1]
        assert list(documents.get_many(["a", "b", "c"])) == ["a", "c"]
        # What fits one by one, but not together, takes several statements.
        documents.write_many(Put({"id": f"k{i}", "v": huge[:3_000_000]}) for i in range(3))
        assert len(documents.get_many([f"k{i}" for i in range(3)])) == 3


# ---------------------------------------------------------------------- the declared index is the one that is used


def explained(collection: Any, plan: Plan, after: SortPosition | None) -> str:
    driver = collection._driver
    statements = driver._statements
    told = []
    for piece in statements.pieces(plan, after):
        sql, parameters = statements.select(piece, plan, 100)
        told += [" ".join(map(str, row)) for row in driver._server.fetch(f"EXPLAIN {sql}", parameters, timeout=60)]
    return "\n".join(told)


def test_queries_use_the_declared_index(documents: Any, name: str) -> None:
    documents.write_many(
        Create({"id": f"k{i:05}", "kind": f"kind{i % 3}", "v": i % 500, "text": "x" * 50}) for i in range(10_000)
    )
    driver = documents._driver
    is_postgresql = driver._server.is_postgresql
    analyze = "ANALYZE" if is_postgresql else "ANALYZE TABLE"
    driver._server.execute(f"{analyze} {driver._statements.table}", timeout=60)
    last = ("", "k05000")
    kind: Any = (("kind",), ("v",))
    for index, plan, after in [
        ("index_1", Plan((("v",),), (7,)), None),
        ("index_1", Plan((("v",),), (7,)), SortPosition(None, last)),
        ("index_1", Plan((("v",),), (7,), (), None, True), SortPosition(None, last)),
        ("index_1", Plan((("v",),), (), intervals(">=", 100, "v")), None),
        ("index_1", Plan((("v",),), (), intervals(">=", 100, "v")), SortPosition(250, last)),
        ("index_1", Plan((("v",),), (), intervals(">=", 100, "v"), None, True), SortPosition(250, last)),
        ("index_1", Plan((("v",),)), None),
        ("index_3", Plan(kind, ("kind1", 7)), None),
        ("index_3", Plan(kind, ("kind1",), intervals("<", 100, "v")), SortPosition(50, last)),
        ("index_3", Plan(kind, ("kind1",), (), None, True), SortPosition(50, last)),
    ]:
        told = explained(documents, plan, after)
        used = (
            f" using portable_collection_{name}_{index}_partition_key_idx " if is_postgresql else f" {index} {index} "
        )
        assert used in told.replace(" Backward", ""), (plan, told)
        assert "Sort" not in told, (plan, told)
        assert "filesort" not in told, (plan, told)
    found = documents.where("kind", "==", "kind1").where("v", "<", 100).order_by("v", descending=True).limit(5)
    assert [document.data["v"] for document in found] == [99] * 5
    assert documents.where("v", "==", 7).count() == 20


# ---------------------------------------------------------------------- making what is missing


def test_plan_shows_the_statement_of_each_index(url: str, name: str) -> None:
    with opened(url, name, create="never", indexes=["n", ["status", "-n"]]) as documents:
        driver = documents._driver
        changes = driver.plan()
        assert [(one.action, one.what, one.name) for one in changes] == [("create", "collection", name)] + [
            ("create", "index", name)
        ] * 3
        assert changes[1].detail.startswith("n: ")
        assert "INDEX" in changes[1].detail
        assert f"portable_collection_{name}" in changes[1].detail
        with pytest.raises(ResourceNotFound, match="portable resources create"):
            documents.get("a")
        driver.create()
        assert driver.plan() == []
        driver.create()
    with opened(url, name, create="never", indexes=["n", ["status", "-n"], "later"]) as documents:
        with pytest.raises(ResourceNotFound, match="indexes"):
            documents.get("a")
        assert [one.what for one in documents._driver.plan()] == ["index"]
    with opened(url, name, create="never") as documents:
        documents.check(write=True)
        documents.create({"id": "a"})
    with opened(url, name, key="other") as documents, pytest.raises(ConfigError, match="key"):
        documents.get("a")


def test_an_index_is_filled_in_steps_while_others_write(url: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("portable_sql.collection.FILLED_AT_ONCE", 7)
    with opened(url, name) as documents:
        documents.write_many(Put({"id": f"k{i:02}", "n": i % 4, "m": 1}) for i in range(50))
        with opened(url, name, indexes=["n"]) as richer:
            assert richer.where("n", "==", 1).count() == 13
            # The older handle knows of no index, until the server refuses its statement.
            documents.put({"id": "k99", "n": 1})
            documents.write_many([Update("k01", set={"n": 2}), Delete("k05"), Create({"id": "k98", "n": 1})])
            assert richer.where("n", "==", 1).count() == 13
            with opened(url, name, indexes=["m"]) as other:
                assert other.where("m", "==", 1).count() == 49
            assert richer.where("n", "==", 2).count() == 13


def test_a_ttl_that_is_declared_later(url: str, name: str) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    with opened(url, name) as documents:
        documents.write_many(Put({"id": f"k{i}", "until": past if i % 2 else None}) for i in range(10))
    with opened(url, name, ttl="until") as documents:
        assert documents.query(allow_scan=True).count() == 5
        # Writing removes what has expired.
        documents.write_many(Put({"id": f"n{i}"}) for i in range(70))
        table = documents._driver._statements.table
        assert documents._driver._server.fetch(f"SELECT count(*) FROM {table}", timeout=30) == [(75,)]


def test_names_that_are_no_good_names_of_tables(url: str) -> None:
    names = [f"{uuid.uuid4().hex[:8]} \"`%s'", f"T{uuid.uuid4().hex}", f"t{uuid.uuid4().hex * 2}"[:60]]
    for name in [*names, names[1].lower()]:
        with opened(url, name, indexes=["n"]) as documents:
            documents.create({"id": "a", "n": 1})
            assert documents.where("n", "==", 1).count() == 1


def test_a_table_of_somebody_else_is_left_alone(url: str, name: str) -> None:
    with opened(url, name) as documents:
        documents.put({"id": "a"})
        server = documents._driver._server
        server.execute("DELETE FROM portable_collections WHERE name = %s", (name,), timeout=30)
    with opened(url, name) as documents, pytest.raises(IntegrityError, match="left as it is"):
        documents.get("a")


def test_a_table_that_was_dropped_is_told_and_made_again(url: str, name: str) -> None:
    with opened(url, name, indexes=["n"]) as documents:
        documents.put({"id": "a", "n": 1})
        driver = documents._driver
        driver._server.execute(f"DROP TABLE {driver._statements.table}", timeout=30)
        with pytest.raises(ResourceNotFound, match="portable resources create"):
            documents.get("a")
        driver.create()
        documents.put({"id": "b", "n": 1})
        assert documents.where("n", "==", 1).count() == 1


def test_a_change_of_the_table_that_ended_half_way_is_put_right() -> None:
    # MySQL commits a changed table before anything can note it: this is what a killed process leaves.
    name = f"t{uuid.uuid4().hex[:12]}"
    with opened(target("mariadb"), name, indexes=["n"]) as documents:
        documents.put({"id": "a", "n": 1, "m": 2})
        driver = documents._driver
        for statement in driver._dialect.change_table(*_next_layouts(driver, "broken")):
            driver._server.execute(statement, timeout=30)
        with pytest.raises(ResourceNotFound, match="portable resources create"):
            documents.put({"id": "b"})
        driver.create()
        documents.put({"id": "b", "n": 1, "m": 2})
        with opened(target("mariadb"), name, indexes=["n", "m"]) as richer:
            assert richer.where("n", "==", 1).count() == richer.where("m", "==", 2).count() == 2


def _next_layouts(driver: Any, index: str) -> tuple[Any, Any]:
    import msgspec

    old = driver._statements.layout
    return msgspec.structs.replace(old, number=old.number + 1, indexes=(*old.indexes, ((index,),))), old


# ---------------------------------------------------------------------- batches


def test_batches_are_single_statements(documents: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    documents.put({"id": "first"})
    driver = documents._driver
    sent: list[str] = []
    seen = type(driver._server)._attempt

    def counted(server: Any, work: Any, deadline: float) -> Any:
        def watched(connection: Any) -> Any:
            return work(_Watched(connection, sent))

        return seen(server, watched, deadline)

    monkeypatch.setattr(type(driver._server), "_attempt", counted)
    documents.write_many(Put({"id": f"k{i}", "v": i}) for i in range(400))
    documents.get_many(f"k{i}" for i in range(400))
    driver.write_many([Remove(("", f"k{i}")) for i in range(400)], timeout=30)
    assert [statement.split()[0] for statement in sent] == ["INSERT", "SELECT", "DELETE"]


class _Watched:
    def __init__(self, connection: Any, sent: list[str]) -> None:
        self._connection = connection
        self._sent = sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def fetch(self, sql: str, parameters: Any = ()) -> Any:
        self._sent.append(sql)
        return self._connection.fetch(sql, parameters)

    def execute(self, sql: str, parameters: Any = ()) -> Any:
        self._sent.append(sql)
        return self._connection.execute(sql, parameters)
