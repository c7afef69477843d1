"""Cases of collections: documents by key, their types and keys, conditions, updates, and races."""

from __future__ import annotations

import dataclasses
import functools
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from portable.errors import (
    AlreadyExists,
    Closed,
    IntegrityError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PortableError,
    PreconditionFailed,
)
from portable.testing.aio._concurrency import race
from portable.testing.aio.suite import Suite

__all__ = ["HOSTILE_KEYS", "WriteCases"]

HOSTILE_KEYS = [
    "../up",
    "..",
    ".",
    "a//b",
    "/lead",
    "trail/",
    "back\\slash",
    "quote'\"`",
    " space ",
    "tab\tnew\nline\r",
    "nul\0inside",
    "emoji 🦊 ü ﷽",
    "null",
    "0",
    "__proto__",
    "%2F%00",
    "a",
    "A",
    "a\0",
    "é",
    "e\u0301",
    "".join(chr(code) for code in range(1, 127) if not chr(code).isalnum()),
    "x" * 1024,
    "ü" * 512,
]
"""Keys that some backend or other mistakes for something else."""

EVERY_TYPE = {
    "null": None,
    "yes": True,
    "no": False,
    "int": -42,
    "safe": 2**53,
    "float": 0.1,
    "tiny": 5e-324,
    "huge": 1.7e308,
    "text": 'naïve 🦊 \0 \x1f "quoted" \'',
    "bytes": bytes(range(256)),
    "empty": b"",
    "when": datetime(2024, 2, 29, 23, 59, 59, 999000, tzinfo=UTC),
    "before": datetime(1901, 1, 1, tzinfo=UTC),
    "money": Decimal("1.50"),
    "long": Decimal("12345678901234567890.123456789"),
    "list": [1, "two", [3.5, None, {"four": b"4"}], []],
    "dict": {"a": {"b": {"c": [True, {"d": Decimal("0.10")}]}}, "none": {}},
}

UNSTORABLE = [
    float("nan"),
    float("inf"),
    Decimal("NaN"),
    2**63,
    -(2**63) - 1,
    datetime(2024, 1, 1),  # noqa: DTZ001 (that is what is refused)
    {1, 2},
    (1, 2),
    object(),
    "lone \ud800",
    {1: "a key that is no str"},
    {"lone \udfff": 1},
    [{"deep": [float("-inf")]}],
]


@dataclasses.dataclass
class Person:
    """A typed document."""

    id: str
    name: str
    born: datetime | None = None
    tags: list[str] = dataclasses.field(default_factory=list)
    picture: bytes = b""


class WriteCases(Suite):
    """Everything about documents by key."""

    kind = "collection"

    async def test_every_type_comes_back_as_it_was(self) -> None:
        documents = self.open()
        stored = await documents.create({"id": "a", **EVERY_TYPE})
        got = await documents.get("a")
        assert got.key == "a"
        assert got.data == {"id": "a", **EVERY_TYPE} == stored.data
        assert got.revision == stored.revision
        assert got.expires_at is None
        for name in ("yes", "no", "text", "bytes", "when", "money", "list", "dict"):
            assert type(got.data[name]) is type(EVERY_TYPE[name])
        assert str(got.data["money"]) == "1.50"
        assert str(got.data["long"]) == "12345678901234567890.123456789"
        assert got.data["when"].tzinfo is not None

    async def test_datetimes_are_kept_to_the_millisecond_in_utc(self) -> None:
        documents = self.open()
        moment = datetime(2024, 5, 1, 12, 30, 15, 123987, tzinfo=timezone(timedelta(hours=5, minutes=30)))
        await documents.put({"id": "a", "at": moment})
        at = (await documents.get("a")).data["at"]
        assert at == datetime(2024, 5, 1, 7, 0, 15, 123000, tzinfo=UTC)
        assert at.utcoffset() == timedelta(0)

    async def test_what_looks_like_a_tag_comes_back_as_it_was(self) -> None:
        documents = self.open()
        looks = {
            "bytes": {"$bytes": "AAAA"},
            "datetime": {"$datetime": "2024-01-01T00:00:00.000Z"},
            "decimal": {"$decimal": "1"},
            "escaped": {"$$bytes": {"$bytes": b"real"}},
            "two": {"$bytes": "AA", "other": 1},
            "$top": {"$": {"$$": {"": "$"}}},
            "dynamo": {"S": "text", "N": "1", "M": {"B": "x"}},
            "mongo": {"$oid": "1", "$numberDecimal": "2"},
            "text": '{"$bytes": "AAAA"}',
        }
        await documents.put({"id": "a", **looks})
        assert (await documents.get("a")).data == {"id": "a", **looks}

    async def test_hostile_field_names_come_back_as_they_were(self) -> None:
        documents = self.open()
        names = ["", " ", ".", "a.b", "a..b", "$", "#", "/", "[0]", "`", "'", '"', "\\", "\0", "ключ", "🦊", "__x__"]
        data = {"id": "a", **{name: name for name in names}, "inner": {name: {name: [name]} for name in names}}
        await documents.put(data)
        assert (await documents.get("a")).data == data

    @pytest.mark.parametrize("value", UNSTORABLE, ids=lambda value: type(value).__name__)
    async def test_what_cannot_be_stored_is_refused(self, value: Any) -> None:
        documents = self.open()
        with pytest.raises(InvalidArgument):
            await documents.put({"id": "a", "value": value})
        with pytest.raises(NotFound):
            await documents.get("a")

    async def test_a_document_that_holds_itself_is_refused(self) -> None:
        documents = self.open()
        data: dict[str, Any] = {"id": "a"}
        data["self"] = data
        with pytest.raises(InvalidArgument):
            await documents.put(data)

    @pytest.mark.parametrize("data", [None, [], "text", {}, {"id": None}, {"id": 5}, {"id": b"a"}, {"other": "a"}])
    async def test_what_is_no_document_is_refused(self, data: Any) -> None:
        documents = self.open()
        for write in (documents.create, documents.put, documents.replace):
            with pytest.raises(InvalidArgument):
                await write(data)

    async def test_hostile_keys_are_apart(self) -> None:
        documents = self.open()
        for i, key in enumerate(HOSTILE_KEYS):
            await documents.create({"id": key, "number": i})
        found = await documents.get_many(HOSTILE_KEYS)
        assert list(found) == HOSTILE_KEYS
        for i, key in enumerate(HOSTILE_KEYS):
            assert found[key].key == key
            assert found[key].data == {"id": key, "number": i}
            assert (await documents.get(key)).data["number"] == i
        for key in HOSTILE_KEYS:
            await documents.delete(key)
        assert await documents.get_many(HOSTILE_KEYS) == {}

    async def test_what_is_no_key_is_refused(self) -> None:
        documents = self.open()
        for key in ("", "lone \ud800", 5, None, b"a", ("a", "b")):
            for call in (documents.get, documents.delete, functools.partial(documents.update, set={"a": 1})):
                with pytest.raises(InvalidArgument):
                    await call(key)
        for key in ("x" * 1025, "ü" * 513):
            with pytest.raises(LimitExceeded):
                await documents.get(key)
            with pytest.raises(LimitExceeded):
                await documents.put({"id": key})

    async def test_a_large_document_comes_back(self) -> None:
        documents = self.open()
        nested: Any = "bottom"
        for _ in range(15):
            nested = {"down": [nested]}
        data = {"id": "a", "text": "0123456789" * 10_000, "many": list(range(2000)), "nested": nested}
        await documents.put(data)
        assert (await documents.get("a")).data == data

    async def test_what_was_given_and_what_was_got_stay_the_callers(self) -> None:
        documents = self.open()
        data = {"id": "a", "list": [1], "dict": {"x": 1}}
        await documents.put(data)
        data["list"].append(2)  # type: ignore[attr-defined]  # a list
        got = await documents.get("a")
        got.data["dict"]["x"] = 2
        assert (await documents.get("a")).data == {"id": "a", "list": [1], "dict": {"x": 1}}

    async def test_create_refuses_what_exists(self) -> None:
        documents = self.open()
        first = await documents.create({"id": "a", "n": 1})
        with pytest.raises(AlreadyExists) as caught:
            await documents.create({"id": "a", "n": 2})
        assert (caught.value.resource, caught.value.operation) == (documents.name, "create")
        got = await documents.get("a")
        assert (got.data["n"], got.revision) == (1, first.revision)

    async def test_put_stores_over_whatever_is_there(self) -> None:
        documents = self.open()
        first = await documents.put({"id": "a", "n": 1, "old": True})
        second = await documents.put({"id": "a", "n": 1})
        assert first.revision != second.revision
        got = await documents.get("a")
        assert (got.data, got.revision) == ({"id": "a", "n": 1}, second.revision)

    async def test_replace_needs_what_exists(self) -> None:
        documents = self.open()
        with pytest.raises(NotFound):
            await documents.replace({"id": "a"})
        with pytest.raises(NotFound):
            await documents.get("a")
        await documents.create({"id": "a", "n": 1})
        await documents.replace({"id": "a", "n": 2})
        assert (await documents.get("a")).data == {"id": "a", "n": 2}

    async def test_get_of_what_is_missing(self) -> None:
        documents = self.open()
        with pytest.raises(NotFound) as caught:
            await documents.get("missing")
        assert isinstance(caught.value, LookupError)
        assert await documents.get_many(["missing"]) == {}
        assert await documents.get_many([]) == {}

    async def test_get_many_of_many(self) -> None:
        documents = self.open()
        for i in range(0, 250, 50):
            await documents.create({"id": f"k{i}", "n": i})
        found = await documents.get_many(f"k{i}" for i in range(249, -1, -1))
        assert list(found) == ["k200", "k150", "k100", "k50", "k0"]

    async def test_delete_of_what_is_there_or_not(self) -> None:
        documents = self.open()
        await documents.delete("a")
        await documents.create({"id": "a"})
        await documents.delete("a")
        with pytest.raises(NotFound):
            await documents.get("a")
        await documents.create({"id": "a"})

    async def test_if_revision_holds_only_at_that_revision(self) -> None:
        documents = self.open()
        old = (await documents.create({"id": "a", "n": 0})).revision
        new = (await documents.put({"id": "a", "n": 1}, if_revision=old)).revision
        for call in (
            functools.partial(documents.put, {"id": "a", "n": 9}),
            functools.partial(documents.replace, {"id": "a", "n": 9}),
            functools.partial(documents.update, "a", set={"n": 9}),
            functools.partial(documents.delete, "a"),
        ):
            for wrong in (old, "no revision at all"):
                with pytest.raises(PreconditionFailed):
                    await call(if_revision=wrong)
        got = await documents.get("a")
        assert (got.data["n"], got.revision) == (1, new)
        new = (await documents.replace({"id": "a", "n": 2}, if_revision=new)).revision
        new = (await documents.update("a", increment={"n": 1}, if_revision=new)).revision
        await documents.delete("a", if_revision=new)
        with pytest.raises(NotFound):
            await documents.get("a")

    async def test_if_revision_fails_where_nothing_is(self) -> None:
        documents = self.open()
        gone = (await documents.create({"id": "a"})).revision
        await documents.delete("a")
        with pytest.raises(PreconditionFailed):
            await documents.put({"id": "a"}, if_revision=gone)
        with pytest.raises(PreconditionFailed):
            await documents.replace({"id": "a"}, if_revision=gone)
        with pytest.raises(PreconditionFailed):
            await documents.update("a", set={"n": 1}, if_revision=gone)
        with pytest.raises(PreconditionFailed):
            await documents.delete("a", if_revision=gone)
        with pytest.raises(NotFound):
            await documents.get("a")

    async def test_a_revision_never_comes_back(self) -> None:
        documents = self.open()
        seen = set()
        for _ in range(5):
            seen.add((await documents.create({"id": "a"})).revision)
            seen.add((await documents.put({"id": "a"})).revision)
            await documents.delete("a")
        assert len(seen) == 10

    async def test_twenty_creates_at_once_and_one_wins(self) -> None:
        documents = self.open()
        results = await race([functools.partial(documents.create, {"id": "a", "n": i}) for i in range(20)])
        winners = [result for result in results if not isinstance(result, BaseException)]
        assert len(winners) == 1
        assert all(isinstance(result, AlreadyExists) for result in results if isinstance(result, BaseException))
        got = await documents.get("a")
        assert (got.data, got.revision) == (winners[0].data, winners[0].revision)

    @pytest.mark.parametrize("how", ["put", "replace", "delete"])
    async def test_twenty_at_one_revision_and_one_wins(self, how: str) -> None:
        documents = self.open()
        seen = (await documents.create({"id": "a", "n": -1})).revision
        write = getattr(documents, how)
        calls = [
            functools.partial(write, "a" if how == "delete" else {"id": "a", "n": i}, if_revision=seen)
            for i in range(20)
        ]
        results = await race(calls)
        assert sum(not isinstance(result, BaseException) for result in results) == 1
        assert sum(isinstance(result, PreconditionFailed) for result in results) == 19

    async def test_another_handle_sees_the_same(self) -> None:
        documents, other = self.open(), self.open()
        stored = await documents.create({"id": "a", "n": 1})
        assert (await other.get("a")).revision == stored.revision
        await other.update("a", increment={"n": 1})
        assert (await documents.get("a")).data["n"] == 2
        await documents.delete("a")
        with pytest.raises(NotFound):
            await other.get("a")

    async def test_collections_are_apart(self) -> None:
        documents, other = self.open("one"), self.open("two")
        await documents.create({"id": "a", "in": "one"})
        with pytest.raises(NotFound):
            await other.get("a")
        await other.create({"id": "a", "in": "two"})
        await other.delete("a")
        assert (await documents.get("a")).data["in"] == "one"

    async def test_a_key_may_be_in_each_partition(self) -> None:
        documents = self.open(partition="tenant")
        for tenant in ("t1", "t2", "t1/t2"):
            await documents.create({"tenant": tenant, "id": "a", "of": tenant})
        with pytest.raises(AlreadyExists):
            await documents.create({"tenant": "t1", "id": "a"})
        got = await documents.get(("t2", "a"))
        assert (got.key, got.data["of"]) == (("t2", "a"), "t2")
        await documents.update(("t2", "a"), set={"n": 1})
        await documents.delete(("t1", "a"))
        found = await documents.get_many([("t1", "a"), ("t2", "a"), ("t1/t2", "a")])
        assert list(found) == [("t2", "a"), ("t1/t2", "a")]
        for key in ("a", ("t1",), ("t1", "a", "b"), ("", "a"), ("t1", ""), (1, "a")):
            with pytest.raises(InvalidArgument):
                await documents.get(key)
        for change in ({"tenant": "t3"}, {"id": "b"}):
            with pytest.raises(InvalidArgument):
                await documents.update(("t2", "a"), set=change)
        with pytest.raises(InvalidArgument):
            await documents.put({"id": "a"})

    async def test_hostile_pairs_are_apart(self) -> None:
        documents = self.open(partition="tenant")
        parts = ["a", "a/", "/a", "a\0", "\0a", "a|b", "a#b", '["a"]', "a.b", "é", "x" * 1024]
        pairs = [(tenant, key) for tenant in parts[:6] for key in parts]
        for tenant, key in pairs:
            await documents.create({"tenant": tenant, "id": key})
        assert list(await documents.get_many(pairs)) == pairs

    async def test_typed_documents(self) -> None:
        people = self.open(type=Person)
        ada = Person("ada", "Ada", datetime(1815, 12, 10, tzinfo=UTC), ["x"], b"\0\1")
        stored = await people.create(ada)
        assert stored.data == ada
        got = await people.get("ada")
        assert got.data == ada
        assert isinstance(got.data, Person)
        assert (await people.update("ada", append={"tags": "y"})).data.tags == ["x", "y"]
        assert (await people.get_many(["ada"]))["ada"].data.tags == ["x", "y"]
        with pytest.raises(InvalidArgument):
            await people.update("ada", set={"name": 5})
        with pytest.raises(InvalidArgument):
            await people.put(Person("bob", name=5))  # type: ignore[arg-type]  # that is what is refused
        assert (await people.get("ada")).data.name == "Ada"
        with pytest.raises(NotFound):
            await people.get("bob")

    async def test_what_does_not_fit_the_type_is_told(self) -> None:
        await self.open().put({"id": "a", "name": 5})
        with pytest.raises(IntegrityError, match="name"):
            await self.open(type=Person).get("a")

    async def test_a_closed_collection_says_so(self) -> None:
        documents = self.open()
        await documents.create({"id": "a"})
        await documents.close()
        with pytest.raises(Closed):
            await documents.get("a")
        with pytest.raises(PortableError):
            await documents.put({"id": "a"})

    async def test_check_finds_nothing_wrong(self) -> None:
        documents = self.open()
        await documents.create({"id": "a"})
        await documents.check()
        await documents.check(write=True)
        assert [document.key async for document in documents.query(allow_scan=True)] == ["a"]
