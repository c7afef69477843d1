"""The rules of the portable type: guards, strict needs, limits, timeouts, batches, messages."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, TypedDict

import msgspec
import pytest

import portable
from portable import aio
from portable.capabilities import CollectionCapabilities
from portable.collection import Collection
from portable.document_writes import Save
from portable.documents import Check, Create, Delete, Put, Update
from portable.errors import (
    AlreadyExists,
    BatchError,
    Closed,
    ConfigError,
    DeadlineExceeded,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PreconditionFailed,
    Unavailable,
    Unsupported,
)
from portable.registry import Adapter, register
from portable_embedded.memory_collection import MemoryCollection


class SmallCollection(MemoryCollection):
    """Takes little."""

    capabilities = CollectionCapabilities(
        durability="none", query_consistency=True, max_document_bytes=100, max_key_bytes=10, max_batch=3
    )


class SlowCollection(MemoryCollection):
    """Takes its time, by the clock of the test."""

    def get_many(self, ids: Any, *, timeout: float) -> Any:
        Clock.now += 10
        return super().get_many(ids, timeout=timeout)

    def query(self, plan: Any, **how: Any) -> Any:
        Clock.now += 10
        return super().query(plan, **how)


class BusyCollection(MemoryCollection):
    """Others write to it between a query and what follows, twice; then it is not there for once."""

    turns = 0

    def write_many(self, writes: Any, *, timeout: float) -> Any:
        BusyCollection.turns += 1
        if self.turns == 1:
            for write, n in zip(writes[:2], (1, 100), strict=True):
                self.write(Save(write.id, {"id": write.id[1], "n": n}), timeout=timeout)
        results = super().write_many(writes, timeout=timeout)
        return [*results[:-1], Unavailable("not now")] if self.turns == 3 else results


class Clock:
    now = 0.0


register(
    Adapter(
        schemes={
            "small": {"collection": f"{__name__}:SmallCollection"},
            "busy": {"collection": f"{__name__}:BusyCollection"},
            "slow": {"collection": f"{__name__}:SlowCollection"},
        },
        extra="testing",
    )
)


@pytest.fixture
def users() -> Iterator[Collection[dict[str, Any]]]:
    with portable.open_collection("memory:", name="users", indexes=["n"]) as collection:
        yield collection


def strict(**contract: Any) -> portable.Cloud:
    config = portable.Config.from_dict(
        {
            "resources": {"users": {"kind": "collection", **contract}},
            "profiles": {"local": {"default": "memory:", "guard": {"needs": "strict", "limits": ["aws"]}}},
        }
    )
    return portable.connect(config, profile="local")


def test_errors_say_where(users: Collection[dict[str, Any]]) -> None:
    with pytest.raises(NotFound) as caught:
        users.get("ada")
    assert str(caught.value) == "users (memory) get: no document 'ada'"
    users.create({"id": "ada"})
    with pytest.raises(AlreadyExists, match=r"users \(memory\) create: there is a document 'ada' already"):
        users.create({"id": "ada"})
    with pytest.raises(PreconditionFailed, match=r"'ada' is at revision \d+, not at old; get it again and retry"):
        users.put({"id": "ada"}, if_revision="old")
    with pytest.raises(PreconditionFailed, match="'bob' is missing, not at old"):
        users.delete("bob", if_revision="old")
    with pytest.raises(PreconditionFailed, match=r"'ada' is at revision \d+, not missing"):
        users.transact([Check("ada")])
    with pytest.raises(InvalidArgument, match="write 2: "):
        users.transact([Put({"id": "x"}), Put({"no": "key"})])


def test_a_revision_is_a_str(users: Collection[dict[str, Any]]) -> None:
    for call in (users.put, users.replace):
        with pytest.raises(InvalidArgument, match="revision"):
            call({"id": "a"}, if_revision=5)  # type: ignore[arg-type]  # that is what is refused


def test_lists_are_lists(users: Collection[dict[str, Any]]) -> None:
    for wrong in ("abc", b"abc", 5, {"a": 1}):
        with pytest.raises(InvalidArgument, match="are a list"):
            users.get_many(wrong)  # type: ignore[arg-type]  # that is what is refused
    with pytest.raises(InvalidArgument, match="unset takes a list"):
        users.update("a", unset=5)  # type: ignore[arg-type]  # that is what is refused


def test_the_batch_error_names_the_first_failure(users: Collection[dict[str, Any]]) -> None:
    with pytest.raises(BatchError, match="2 of 3 writes failed, the first is number 2: ") as caught:
        users.write_many([Put({"id": "a"}), Create({"id": "a"}), Update("x", set={"n": 1})])
    assert list(caught.value.result.failed) == [1, 2]
    assert len(caught.value.result.succeeded) == 1


def test_what_the_driver_cannot_take_is_refused() -> None:
    with portable.open_collection("small:", name="users", create="if_missing") as users:
        users.put({"id": "a", "x": "y" * 70})
        with pytest.raises(LimitExceeded, match="bytes as JSON"):
            users.put({"id": "a", "x": "y" * 100})
        with pytest.raises(LimitExceeded, match="bytes as JSON"):
            users.update("a", set={"z": "y" * 70})
        with pytest.raises(LimitExceeded, match="11 bytes in UTF-8, and 10"):
            users.get("é" * 5 + "x")
        users.get_many(["é" * 5])
        with pytest.raises(Unsupported, match="beyond"):
            users.update("a", set={"n": 2**60})
        result = users.write_many(Create({"id": f"k{i}"}) for i in range(10))
        assert len(result.succeeded) == 10


def test_strict_needs_refuse_what_is_not_declared() -> None:
    with strict() as cloud:
        users = cloud.collection("users")
        with pytest.raises(Unsupported, match=r'add needs = \["big_int"\]'):
            users.put({"id": "a", "n": 2**60})
        with pytest.raises(Unsupported, match="wide_transactions"):
            users.transact([Delete(f"k{i}") for i in range(101)])
    with strict(needs=["big_int", "wide_transactions"], partition="tenant") as cloud:
        users = cloud.collection("users")
        users.put({"tenant": "t", "id": "a", "n": 2**60})
        users.transact([Delete(("t", "a")), Delete(("s", "a"))])


def test_the_limits_of_a_cloud_are_kept() -> None:
    with strict(needs=["big_int", "wide_transactions"]) as cloud:
        users = cloud.collection("users")
        users.put({"id": "a", "x": "y" * 390_000})
        with pytest.raises(LimitExceeded, match="DynamoDB"):
            users.put({"id": "a", "x": "y" * 420_000})
        with pytest.raises(LimitExceeded, match="DynamoDB"):
            users.update("a", set={"more": "y" * 30_000})
        with pytest.raises(LimitExceeded, match="DynamoDB"):
            users.transact([Delete(f"k{i}") for i in range(101)])
        with pytest.raises(LimitExceeded):
            users.where("n", "in", list(range(200)))
        assert users.get("a").data["id"] == "a"


def test_the_time_of_several_calls_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock.now = 0.0
    for module in ("portable.collection", "portable.query"):
        monkeypatch.setattr(f"{module}.monotonic", lambda: Clock.now)
    with portable.open_collection("slow:", name="users", create="if_missing", allow_scan=True) as users:
        users.write_many(Put({"id": f"k{i}", "n": i}) for i in range(1200))
        assert len(users.get_many(f"k{i}" for i in range(1200))) == 1200
        with pytest.raises(DeadlineExceeded):
            users.get_many((f"k{i}" for i in range(1200)), timeout=5)
        assert users.where("n", ">", -1).where("id", ">", "").count(timeout=600) == 1200
        with pytest.raises(DeadlineExceeded):
            users.where("n", ">", -1).where("id", ">", "").count(timeout=5)
        # Iterating is not bounded as a whole, each of its pages is.
        assert len(list(users.query())) == 1200


def test_a_query_deletes_what_still_matches_and_tells_what_fails() -> None:
    BusyCollection.turns = 0
    with portable.open_collection("busy:", name="users", create="if_missing", indexes=["n"]) as users:
        for i in range(10):
            users.put({"id": f"k{i}", "n": i})
        # Meanwhile k0 came to 1, which still matches, and k1 to 100, which does not.
        assert users.where("n", "<", 5).delete() == 4
        assert [(one.key, one.data["n"]) for one in users.where("n", ">=", 0).limit(2)] == [("k5", 5), ("k6", 6)]
        assert users.get("k1").data["n"] == 100
        with pytest.raises(Unavailable, match="not now"):
            users.where("n", ">", 5).delete()


@dataclass
class Point:
    id: str
    x: int


class Named(TypedDict):
    id: str
    name: str


class Frozen(msgspec.Struct, frozen=True, rename="camel"):
    id: str
    long_name: str = ""
    at: datetime | None = None
    cost: Decimal = Decimal(0)


def test_every_kind_of_type() -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    for type_, value in (
        (Point, Point("a", 1)),
        (Named, {"id": "a", "name": "x"}),
        (Frozen, Frozen("a", "x", moment, Decimal("1.10"))),
    ):
        with portable.open_collection("memory:", name="things", type=type_) as things:
            assert things.create(value).data == value
            assert [one.data for one in things.where("id", "in", ["a", "b"])] == [value]
            assert things.where("id", "==", "a").limit(1).page().items[0].data == value
    with portable.open_collection("memory:things", name="things", type=Frozen) as things:
        things.create(Frozen("a", "x", moment))
        with portable.open_collection("memory:things", name="things") as plain:
            assert plain.get("a").data == {"id": "a", "longName": "x", "at": moment, "cost": Decimal(0)}


def test_what_does_not_fit_the_type_is_refused() -> None:
    with portable.open_collection("memory:", name="points", type=Point) as points:
        with pytest.raises(InvalidArgument, match=r"does not fit Point: .*\$\.x"):
            points.put(Point("a", "wrong"))  # type: ignore[arg-type]  # that is what is refused
        with pytest.raises(InvalidArgument):
            points.put({"id": "a"})  # type: ignore[arg-type]  # that is what is refused, or read
        with pytest.raises(InvalidArgument):
            points.put(5)  # type: ignore[arg-type]  # that is what is refused, or read
        points.put({"id": "a", "x": 1})  # type: ignore[arg-type]  # that is what is refused, or read
        assert points.get("a").data == Point("a", 1)


def test_what_msgspec_cannot_take_apart_is_refused() -> None:
    class Odd:
        pass

    with (
        portable.open_collection("memory:", name="odds", type=Any) as odds,
        pytest.raises(InvalidArgument, match="Odd"),
    ):
        odds.put({"id": "a", "odd": Odd()})  # type: ignore[arg-type]  # mypy takes Any for a class


def test_a_typed_document_that_holds_itself_is_refused() -> None:
    data: dict[str, Any] = {"id": "a"}
    data["self"] = data
    with portable.open_collection("memory:", name="odds", type=dict) as odds, pytest.raises(InvalidArgument):
        odds.put(data)


def test_a_key_or_partition_cannot_change() -> None:
    with portable.open_collection("memory:fixed", name="users") as users:
        users.put({"id": "a"})
    with (
        portable.open_collection("memory:fixed", name="users", key="email") as other,
        pytest.raises(ConfigError, match="key = 'id'"),
    ):
        other.get("a")


def test_a_wrong_index_is_told_when_opened() -> None:
    with pytest.raises(ConfigError, match=r"indexes: 'a\.\.b'"):
        portable.open_collection("memory:", name="users", indexes=["a..b"])


def test_scans_may_be_allowed_by_the_contract() -> None:
    with portable.open_collection("memory:", name="users", allow_scan=True) as users:
        users.put({"id": "a", "n": 1})
        assert [one.key for one in users.where("n", ">", 0)] == ["a"]


def test_expired_documents_go_for_good() -> None:
    past = datetime(2020, 1, 1, tzinfo=UTC)
    with portable.open_collection("memory:", name="users", ttl="expires") as users:
        users.write_many(Put({"id": f"k{i}", "expires": past}) for i in range(100))
        users.put({"id": "k0"})
        for _ in range(10):
            users.put({"id": "stays"})
        assert sorted(users.native.documents) == [("", "k0"), ("", "stays")]


def test_plan_and_native_of_memory(users: Collection[dict[str, Any]]) -> None:
    users.put({"id": "a"})
    assert users._driver.plan() == []
    assert list(users.native.documents) == [("", "a")]
    users.check(write=True)


def test_async_calls_side_by_side_and_cancelled() -> None:
    async def main() -> None:
        async with aio.open_collection("memory:", name="users", indexes=["n"]) as users:
            await asyncio.gather(*(users.put({"id": f"k{i}", "n": i}) for i in range(30)))
            page = await users.where("n", ">=", 10).limit(5).page()
            assert [one.key for one in page.items] == [f"k{i}" for i in range(10, 15)]
            # A reader that stops half way leaves nothing open behind.
            async for one in users.where("n", ">=", 0):
                assert one.key == "k0"
                break
            assert await users.where("n", "<", 5).delete() == 5
        with pytest.raises(Closed):
            await users.get("k9")

    asyncio.run(main())
