"""Cases of collections: what queries find, in which order, page by page, while others write."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from time import monotonic
from typing import Any

import pytest

from portable.errors import InvalidArgument
from portable.testing.aio.suite import Suite, needs

__all__ = ["QueryCases"]

LAGS = 30.0
MOMENT = datetime(2024, 5, 1, 12, tzinfo=UTC)

VALUES: list[Any] = [
    None,
    False,
    True,
    -1.7e308,
    -5,
    -0.5,
    -0.0,
    0,
    5e-324,
    0.1,
    1,
    1.0,
    2,
    10,
    2**53 - 1,
    2**53,
    1.7e308,
    datetime(1905, 1, 1, tzinfo=UTC),
    MOMENT,
    MOMENT + timedelta(milliseconds=1),
    "",
    "A",
    "a",
    "a\0",
    "a\0b",
    "a!",
    "aa",
    "ab",
    "b",
    "z",
    "é",
    "\uffff",
    "🦊",
    b"",
    b"\0",
    b"\0\0",
    b"a",
    b"\xff",
]
"""Every type that can be queried, in the order of their values (equal ones side by side)."""

UNSEEN: list[Any] = [Decimal(1), [1], ["a"], {"a": 1}, {}, []]
"""What no operator but `contains` and no order sees."""


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, (int, float)) else type(value).__name__


def _holds(op: str, found: Any, operand: Any) -> bool:
    """Whether an operator holds, in the words of the contract."""
    if op in {"in", "not-in"}:
        alike = [item for item in operand if _kind(item) == _kind(found)]
        return (found in alike) if op == "in" else bool(alike) and found not in alike
    if _kind(found) != _kind(operand):
        return False
    answer: bool = {
        "==": lambda: found == operand,
        "!=": lambda: found != operand,
        "<": lambda: found < operand,
        "<=": lambda: found <= operand,
        ">": lambda: found > operand,
        ">=": lambda: found >= operand,
        "prefix": lambda: found.startswith(operand),
    }[op]()
    return answer


OPERATORS: list[tuple[str, Any]] = [
    *[
        (op, operand)
        for op in ("==", "!=", "<", "<=", ">", ">=")
        for operand in (False, True, 0, -0.0, 1, 1.5, 2**53, MOMENT, "", "a", "a\0", "\uffff", b"", b"\0")
    ],
    ("==", None),
    ("!=", None),
    *[("prefix", prefix) for prefix in ("", "a", "a\0", "\ud7ff", "\U0010ffff")],
    ("in", [1, "a", None, b"\0", MOMENT, "nowhere", 1.0]),
    ("in", []),
    ("not-in", [1, "a", "b", 2]),
    ("not-in", [None]),
    ("not-in", []),
]


class QueryCases(Suite):
    """Everything about queries."""

    kind = "collection"

    async def _finds(self, query: Any, expected: list[Any]) -> None:
        """Check the keys that a query gives, in their order; where queries may lag, within a while."""
        documents = query._collection
        until = monotonic() + LAGS
        while True:
            found = [document.key async for document in query]
            if found == expected or documents.capabilities.query_consistency or monotonic() > until:
                break
        assert found == expected

    async def _mixed(self, **contract: Any) -> Any:
        """Fill a collection with a document a value, and some without the field. Keys run against the order."""
        documents = self.open(**contract)
        self.known = {f"k{len(VALUES) - i:03}": value for i, value in enumerate(VALUES)}
        others = {f"u{i}": value for i, value in enumerate(UNSEEN)}
        for key, value in {**self.known, **others}.items():
            await documents.create({"id": key, "v": value, "status": "on"})
        await documents.create({"id": "missing", "status": "on"})
        await documents.create({"id": "inside", "v": {"v": 1}, "status": "on"})
        await documents.create({"id": "other", "v": 1, "status": "off"})
        return documents

    def _ordered(self, keys: list[str]) -> list[str]:
        """Sort keys by the place of their value, equal values by key."""
        place = {key: i for i, key in enumerate(self.known)}
        groups: dict[int, int] = {}
        for i, value in enumerate(VALUES):
            same = i > 0 and _kind(value) == _kind(VALUES[i - 1]) and value == VALUES[i - 1]
            groups[i] = groups[i - 1] if same else i
        return sorted(keys, key=lambda key: (groups[place[key]], key))

    @pytest.mark.parametrize("served", ["index", "scan"])
    async def test_operators_see_fields_of_their_operands_type(self, served: str) -> None:
        documents = await self._mixed(indexes=[["status", "v"]] if served == "index" else [])
        asked = documents.where("status", "==", "on", allow_scan=served == "scan")
        await self._finds(asked.where("v", "==", 10), [key for key, value in self.known.items() if value == 10])
        for op, operand in OPERATORS:
            wanted = self._ordered([key for key, value in self.known.items() if _holds(op, value, operand)])
            found = [document.key async for document in asked.where("v", op, operand)]
            assert found == wanted, f"v {op} {operand!r}"

    @pytest.mark.parametrize("served", ["index", "scan"])
    async def test_the_order_of_all_values(self, served: str) -> None:
        documents = await self._mixed(indexes=[["status", "v"]] if served == "index" else [])
        asked = documents.where("status", "==", "on", allow_scan=served == "scan")
        wanted = self._ordered(list(self.known))
        await self._finds(asked.order_by("v"), wanted)
        # Turned round means turned round: ties, too.
        await self._finds(asked.order_by("v", descending=True), wanted[::-1])

    @needs("query_consistency")
    async def test_a_query_sees_every_write_before_it(self) -> None:
        collection, other = self.open(indexes=["n"]), self.open(indexes=["n"])
        for number in range(10):
            await collection.put({"id": "a", "n": number})
            assert await other.where("n", "==", number).count() == 1
            assert await other.where("n", "==", number - 1).count() == 0

    async def test_ties_are_ordered_by_key(self) -> None:
        documents = self.open(indexes=["n"])
        keys = ["b", "a", "B", "aa", "é", "🦊", "\uffff", "a\0"]
        for key in keys:
            await documents.create({"id": key, "n": 1})
        wanted = sorted(keys)
        await self._finds(documents.where("n", "==", 1), wanted)
        await self._finds(documents.order_by("n"), wanted)
        await self._finds(documents.order_by("n", descending=True), wanted[::-1])
        await self._finds(documents.query(allow_scan=True), wanted)
        await self._finds(documents.query(allow_scan=True).order_by("id", descending=True), wanted[::-1])

    async def test_equalities_then_a_range_or_an_order(self) -> None:
        documents = self.open(indexes=["email", ["status", "city.name", "-created"]])
        for i in range(12):
            await documents.create(
                {
                    "id": f"k{i:02}",
                    "email": f"{i % 3}@example.com",
                    "status": "on" if i % 2 else "off",
                    "city": {"name": "Oslo" if i % 4 < 2 else "Rome"},
                    "created": i,
                }
            )
        await self._finds(documents.where("email", "==", "1@example.com"), ["k01", "k04", "k07", "k10"])
        on = documents.where("status", "==", "on")
        await self._finds(on, ["k01", "k03", "k05", "k07", "k09", "k11"])
        await self._finds(on.where("city.name", "==", "Oslo"), ["k01", "k05", "k09"])
        await self._finds(documents.where("city.name", "==", "Oslo").where("status", "==", "on"), ["k01", "k05", "k09"])
        oslo = on.where("city.name", "==", "Oslo")
        await self._finds(oslo.order_by("created", descending=True), ["k09", "k05", "k01"])
        await self._finds(oslo.where("created", ">", 1).order_by("created", descending=True), ["k09", "k05"])
        await self._finds(oslo.where("created", ">=", 1).where("created", "<", 9), ["k01", "k05"])
        await self._finds(on.where("city.name", "prefix", "R"), ["k03", "k07", "k11"])
        await self._finds(on.where("city.name", "in", ["Rome", "Oslo"]).limit(4), ["k01", "k05", "k09", "k03"])

    @pytest.mark.parametrize(
        ("where", "order", "index"),
        [
            ([("name", "==", "x")], None, '"name"'),
            ([("created", "==", 1)], None, '"created"'),
            ([("email", "==", "x"), ("status", "==", "x")], None, '["email", "status"]'),
            ([("status", "==", "x"), ("other", ">", 1)], None, '["status", "other"]'),
            ([("status", "==", "x")], "name", '["status", "name"]'),
            ([("status", ">", "x"), ("created", ">", 1)], None, "allow_scan=True"),
            ([("email", ">", "x")], "created", "allow_scan=True"),
            ([("status", "==", "on"), ("tags", "contains", "x")], None, "allow_scan=True"),
            ([], None, "allow_scan=True"),
            ([("id", ">", "x")], None, "allow_scan=True"),
        ],
    )
    async def test_what_no_index_serves_is_refused(self, where: list[Any], order: str | None, index: str) -> None:
        documents = self.open(indexes=["email", ["status", "-created"]])
        query = documents.query()
        for condition in where:
            query = query.where(*condition)
        if order:
            query = query.order_by(order)
        for call in (query.page, query.first, query.count, query.delete):
            with pytest.raises(InvalidArgument, match=re.escape(index)):
                await call()
        with pytest.raises(InvalidArgument, match=re.escape(index)):
            async for _ in query:
                pass

    async def test_keys_need_no_index(self) -> None:
        documents = self.open()
        for key in "abc":
            await documents.create({"id": key, "n": 1})
        await self._finds(documents.where("id", "==", "b"), ["b"])
        await self._finds(documents.where("id", "in", ["c", "a", "x", 5]), ["a", "c"])
        await self._finds(documents.where("id", "in", ["c", "a"]).where("n", "==", 2), [])
        await self._finds(documents.where("id", "==", 5), [])
        assert await documents.where("id", "in", ["a", "b", "x"]).count() == 2
        page = await documents.where("id", "in", ["a", "b", "c"]).limit(2).page()
        assert [document.key for document in page.items] == ["a", "b"]
        page = await documents.where("id", "in", ["a", "b", "c"]).limit(2).page(page.cursor)
        assert ([document.key for document in page.items], page.cursor) == (["c"], None)

    async def test_a_partition_is_served_in_the_order_of_its_keys(self) -> None:
        documents = self.open(partition="tenant", indexes=["n"])
        for tenant in ("t1", "t2", "t"):
            for key in ("b", "a", "c", "\0"):
                await documents.create({"tenant": tenant, "id": key, "n": ord(key)})
        inside = documents.where("tenant", "==", "t1")
        await self._finds(inside, [("t1", key) for key in "\0abc"])
        await self._finds(inside.order_by("id", descending=True), [("t1", key) for key in "cba\0"])
        await self._finds(inside.where("id", ">", "a").where("id", "<=", "c"), [("t1", "b"), ("t1", "c")])
        await self._finds(inside.where("id", "!=", "b"), [("t1", key) for key in "\0ac"])
        await self._finds(inside.where("id", "!=", "b").order_by("id", descending=True), [("t1", k) for k in "ca\0"])
        await self._finds(inside.where("id", "==", "b"), [("t1", "b")])
        await self._finds(documents.where("tenant", "==", 5), [])
        await self._finds(documents.where("n", "==", ord("a")), [(tenant, "a") for tenant in ("t", "t1", "t2")])
        await self._finds(inside.where("n", ">", 0, allow_scan=True), [("t1", key) for key in "abc"])
        page = await inside.limit(3).page()
        assert [document.key for document in page.items] == [("t1", key) for key in "\0ab"]
        page = await inside.limit(3).page(page.cursor)
        assert ([document.key for document in page.items], page.cursor) == ([("t1", "c")], None)
        everything = [(tenant, key) for tenant in ("t", "t1", "t2") for key in "\0abc"]
        await self._finds(documents.query(allow_scan=True), everything)
        await self._finds(documents.query(allow_scan=True).order_by("tenant", descending=True), everything[::-1])
        by_id = sorted(everything, key=lambda pair: (pair[1], pair[0]))
        await self._finds(documents.query(allow_scan=True).order_by("id"), by_id)

    async def test_contains_looks_into_lists(self) -> None:
        documents = self.open(indexes=["status"])
        for key, tags in {
            "a": ["x", 1],
            "b": [1.0],
            "c": [True],
            "d": "x",
            "e": {"x": 1},
            "f": [["x"], {"x": 1}, Decimal(1)],
            "g": [None, b"x"],
            "h": [MOMENT],
        }.items():
            await documents.create({"id": key, "tags": tags, "status": "on"})
        await documents.create({"id": "i", "status": "on"})
        for element, keys in {"x": ["a"], 1: ["a", "b"], None: ["g"], b"x": ["g"], MOMENT: ["h"], "y": []}.items():
            await self._finds(documents.where("tags", "contains", element, allow_scan=True), keys)
            await self._finds(
                documents.where("status", "==", "on").where("tags", "contains", element, allow_scan=True), keys
            )
        await self._finds(documents.where("tags", "contains", True, allow_scan=True), ["c"])

    async def test_several_conditions_on_one_field(self) -> None:
        documents = self.open(indexes=["n"])
        for i in range(10):
            await documents.create({"id": f"k{i}", "n": i})
        asked = documents.where("n", ">=", 2).where("n", "<", 8).where("n", "!=", 5)
        await self._finds(asked, ["k2", "k3", "k4", "k6", "k7"])
        await self._finds(asked.where("n", "not-in", [3, 6]).order_by("n", descending=True), ["k7", "k4", "k2"])
        await self._finds(asked.where("n", "in", [1, 2, 3]), ["k2", "k3"])
        await self._finds(asked.where("n", ">", 100), [])
        await self._finds(asked.where("n", "==", "text"), [])
        assert await asked.where("n", "==", 5).count() == 0
        assert await asked.where("n", "==", 4).count() == 1

    @pytest.mark.parametrize(
        ("path", "op", "value"),
        [
            ("", "==", 1),
            ("a..b", "==", 1),
            (5, "==", 1),
            ("a", "=", 1),
            ("a", "like", "x"),
            ("a", "==", [1]),
            ("a", "==", {"a": 1}),
            ("a", "==", Decimal(1)),
            ("a", "==", float("nan")),
            ("a", "==", datetime(2024, 1, 1)),  # noqa: DTZ001 (that is what is refused)
            ("a", ">", None),
            ("a", "in", "text"),
            ("a", "in", 5),
            ("a", "in", [[1]]),
            ("a", "prefix", 1),
            ("a", "contains", ["x"]),
            ("a", "==", "\ud800"),
        ],
    )
    async def test_a_wrong_condition_is_refused(self, path: Any, op: str, value: Any) -> None:
        with pytest.raises(InvalidArgument):
            self.open().where(path, op, value)

    async def test_a_wrong_limit_or_order_is_refused(self) -> None:
        query = self.open(indexes=["n"]).order_by("n")
        for limit in (0, -1, 1.5, True, None):
            with pytest.raises(InvalidArgument):
                query.limit(limit)
        with pytest.raises(InvalidArgument):
            query.order_by("m")
        with pytest.raises(InvalidArgument):
            query.order_by("")

    async def test_an_index_follows_every_write(self) -> None:
        documents = self.open(indexes=[["status", "n"]])
        on = documents.where("status", "==", "on").order_by("n")
        stored = await documents.create({"id": "a", "status": "on", "n": 2})
        await documents.create({"id": "b", "status": "on", "n": 1})
        await self._finds(on, ["b", "a"])
        await documents.update("b", set={"n": 3})
        await self._finds(on, ["a", "b"])
        await documents.put({"id": "a", "status": "off", "n": 2}, if_revision=stored.revision)
        await self._finds(on, ["b"])
        await documents.replace({"id": "a", "status": "on", "n": 9})
        await self._finds(on, ["b", "a"])
        await documents.update("a", unset=["n"])
        await self._finds(on, ["b"])
        await self._finds(documents.where("status", "==", "on"), ["a", "b"])
        await documents.update("a", set={"n": [1]})
        await self._finds(on, ["b"])
        await documents.delete("b")
        await self._finds(on, [])
        await documents.delete("a")
        await self._finds(documents.where("status", "==", "on"), [])

    async def test_a_new_index_has_the_old_documents(self) -> None:
        documents = self.open()
        for i in range(20):
            await documents.create({"id": f"k{i:02}", "n": i % 4})
        richer = self.open(indexes=["n"])
        await self._finds(richer.where("n", "==", 1), ["k01", "k05", "k09", "k13", "k17"])
        await documents.put({"id": "k99", "n": 1})
        await documents.update("k01", set={"n": 2})
        await documents.delete("k05")
        await self._finds(richer.where("n", "==", 1), ["k09", "k13", "k17", "k99"])

    @needs("big_int")
    async def test_large_integers_and_floats_compare_exactly(self) -> None:
        documents = self.open(indexes=["n"])
        numbers = [-(2**63), -(2**53) - 1, -(2**53), 2**53, 2**53 + 1, 2**53 + 2, 2**62, 2**63 - 1, float(2**63)]
        for i, number in enumerate(numbers):
            await documents.create({"id": f"k{9 - i}", "n": number})
        await self._finds(documents.order_by("n"), [f"k{9 - i}" for i in range(9)])
        await self._finds(documents.where("n", "==", float(2**53)), ["k6"])
        await self._finds(documents.where("n", "==", 2**53 + 1), ["k5"])
        await self._finds(documents.where("n", ">", float(2**53)), ["k5", "k4", "k3", "k2", "k1"])
        await self._finds(documents.where("n", "<", float(2**63)).where("n", ">", 2**62), ["k2"])
