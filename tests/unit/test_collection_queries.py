"""Plans of queries, and that the answer does not depend on how a query is served, nor on the driver."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import portable
from portable.contracts import CollectionContract
from portable.documents import Put
from portable.errors import ConfigError, InvalidArgument
from portable.query_plan import Condition, Plan, Planner, Question, index_fields

CONTRACT = CollectionContract(indexes=("email", ("status", "-created"), ("a", "b", "c")))
PARTED = CollectionContract(partition="tenant", indexes=("email", ("tenant", "created"), ("status", "-created")))


def question(*conditions: tuple[str, str, Any], order: str | None = None, scan: bool = False) -> Question:
    path = None if order is None else tuple(order.removeprefix("-").split("."))
    return Question(
        tuple(Condition.read(*condition) for condition in conditions),
        path,
        order is not None and order.startswith("-"),
        allow_scan=scan,
    )


def plan(contract: CollectionContract, asked: Question) -> Plan:
    served = Planner(contract, "users").serve(asked)
    assert served.plan is not None
    return served.plan


def test_every_first_part_of_an_index_is_kept() -> None:
    assert index_fields(CONTRACT) == [
        (("email",),),
        (("status",),),
        (("status",), ("created",)),
        (("a",),),
        (("a",), ("b",)),
        (("a",), ("b",), ("c",)),
    ]


@pytest.mark.parametrize("index", ["", "a..b", "-", ("-a", "b"), ("a", "a"), (), ("a", ".b")])
def test_what_is_no_index_is_told(index: Any) -> None:
    with pytest.raises(ConfigError, match="indexes"):
        Planner(CollectionContract(indexes=(index,)), "users")


@pytest.mark.parametrize(
    ("asked", "fields", "equals", "ranges"),
    [
        (question(("email", "==", "x")), "email", ("x",), 0),
        (question(("email", ">", "x"), ("email", "<", "z")), "email", (), 1),
        (question(("email", "in", ["x", "y"])), "email", (), 2),
        (question(("email", "in", ["x"])), "email", ("x",), 0),
        (question(("email", "!=", "x")), "email", (), 2),
        (question(order="email"), "email", (), 0),
        (question(("email", "==", "x"), order="-email"), "email", ("x",), 0),
        (question(("status", "==", "x"), order="-created"), "status created", ("x",), 0),
        (question(("created", "<", 5), ("status", "==", None)), "status created", (None,), 1),
        (question(("status", "==", "x"), ("created", "==", 1)), "status created", ("x", 1), 0),
        (question(("b", "==", 2), ("a", "==", 1)), "a b", (1, 2), 0),
        (question(("c", "prefix", "x"), ("b", "==", 2), ("a", "==", 1)), "a b c", (1, 2), 1),
        (question(("a", "==", 1), order="id"), "a", (1,), 0),
    ],
)
def test_what_an_index_serves(asked: Question, fields: str, equals: tuple[Any, ...], ranges: int) -> None:
    served = Planner(CONTRACT, "users").serve(asked)
    assert served.exact
    assert not served.sort
    found = plan(CONTRACT, asked)
    assert found.index == tuple((name,) for name in fields.split())
    assert (found.equals, len(found.ranges), found.partition) == (equals, ranges, None)
    assert found.descending is asked.descending


@pytest.mark.parametrize(
    "asked",
    [
        question(("b", "==", 1)),
        question(("a", "==", 1), ("c", "==", 1)),
        question(("status", "==", 1), ("email", "==", 1)),
        question(("status", ">", 1), ("created", "==", 1)),
        question(("status", "==", 1), ("created", ">", 1), order="email"),
        question(("a", "==", 1), ("b", ">", 1), ("c", ">", 1)),
        question(("a", "==", 1), ("b", "contains", 1)),
        question(("id", "prefix", "x")),
        question(order="id"),
        question(),
    ],
)
def test_what_only_a_scan_serves(asked: Question) -> None:
    planner = Planner(CONTRACT, "users")
    with pytest.raises(InvalidArgument, match="allow_scan=True"):
        planner.serve(asked)
    may = Question(asked.conditions, asked.order, asked.descending, allow_scan=True)
    assert planner.serve(may).plan is not None
    contract = CollectionContract(indexes=CONTRACT.indexes, allow_scan=True)
    assert Planner(contract, "users").serve(asked) == planner.serve(may)


def test_a_scan_uses_the_best_index() -> None:
    asked = question(("a", "==", 1), ("b", "==", 2), ("x", "==", 3), ("email", ">", "m"), scan=True)
    assert plan(CONTRACT, asked).index == (("a",), ("b",))
    assert plan(CONTRACT, question(("x", "==", 1), order="email", scan=True)).index == (("email",),)
    assert plan(CONTRACT, question(("x", "==", 1), scan=True)) == Plan()


def test_partitions_and_keys() -> None:
    planner = Planner(PARTED, "users")
    served = planner.serve(question(("id", "==", "b"), ("tenant", "in", ["t", "s", 5]), ("x", ">", 1)))
    assert (served.ids, served.exact) == ((("s", "b"), ("t", "b")), False)
    assert plan(PARTED, question(("tenant", "==", "t"))).index in {(("tenant",),), ()}
    inside = plan(PARTED, question(("tenant", "==", "t"), ("id", ">", "b"), order="-id"))
    assert (inside.partition, len(inside.ranges), inside.descending, inside.index) == ("t", 1, True, ())
    assert plan(PARTED, question(("tenant", "==", "t"), order="created")).index == (("tenant",), ("created",))
    assert planner.serve(question(("tenant", "==", 5))).plan is None
    assert planner.serve(question(("tenant", "==", "t"), ("id", "==", 5))).ids is None
    with pytest.raises(InvalidArgument):
        planner.serve(question(("tenant", ">", "t")))
    with pytest.raises(InvalidArgument):
        planner.serve(question(order="tenant"))


def test_advice_names_the_index_to_declare() -> None:
    asked = question(("x", "==", 1), ("y.z", "==", 1), order="-w")
    with pytest.raises(InvalidArgument) as caught:
        Planner(CONTRACT, "users").serve(asked)
    assert '["x", "y.z", "-w"]' in str(caught.value)
    assert "[resources.users]" in str(caught.value)
    declared = CollectionContract(indexes=(("x", "y.z", "-w"),))
    assert Planner(declared, "users").serve(asked).exact


def test_reprs_show_no_values() -> None:
    with portable.open_collection("memory:", name="users") as users:
        shown = repr(users.where("a.b", "==", "secret").order_by("c", descending=True))
    assert shown == "<Query 'users' a.b == …, order by c descending>"


small = st.sampled_from([None, False, True, 0, 1, 1.0, 1.5, -2, "", "a", "b", b"a", [1], {"x": 1}])
scalar = small.filter(lambda value: not isinstance(value, (list, dict)))
stored = st.fixed_dictionaries({}, optional={"s": small, "n": small, "m": small})
conditions = st.tuples(
    st.sampled_from("snm"), st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), scalar.filter(lambda v: v is not None)
) | st.tuples(st.sampled_from("snm"), st.sampled_from(["in", "not-in"]), st.lists(scalar, max_size=3))


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    st.lists(stored, max_size=15),
    st.lists(conditions, max_size=3),
    st.sampled_from([None, "s", "n", "m", "id"]),
    st.booleans(),
    st.integers(1, 4),
)
def test_the_answer_depends_on_data_and_query_alone(
    tmp_path_factory: pytest.TempPathFactory,
    data: list[dict[str, Any]],
    asked: list[tuple[str, str, Any]],
    order: str | None,
    descending: bool,  # noqa: FBT001 (hypothesis passes it)
    size: int,
) -> None:
    answers = []
    for url in ("memory:", f"sqlite:{tmp_path_factory.mktemp('query') / 'a.db'}?durability=process"):
        for indexes in ((), ("s", ("s", "n"), ("s", "n", "-m"), "n")):
            options: dict[str, Any] = {"indexes": list(indexes), "name": f"users{len(indexes)}"}
            with portable.open_collection(url, allow_scan=True, **options) as users:
                users.write_many([Put({"id": f"k{i:02}", **fields}) for i, fields in enumerate(data)])
                query = users.query()
                for condition in asked:
                    query = query.where(*condition)
                if order:
                    query = query.order_by(order, descending=descending)
                answer = [document.key for document in query]
                assert query.count() == len(answer)
                assert _paged(query.limit(size).page) == answer
                answers.append(answer)
    assert all(answer == answers[0] for answer in answers)


def _paged(page: Callable[[str | None], Any]) -> list[Any]:
    found, cursor = [], None
    while True:
        one = page(cursor)
        found += [document.key for document in one.items]
        cursor = one.cursor
        if cursor is None:
            return found


def test_pages_read_no_more_than_they_need(tmp_path: Path) -> None:
    """An index that serves a query serves every page of it, from where the page begins."""
    with portable.open_collection(
        f"sqlite:{tmp_path / 'a.db'}?durability=process", name="users", indexes=[["s", "-n"]]
    ) as users:
        users.write_many(Put({"id": f"k{i}", "s": "on", "n": i}) for i in range(50))
        store = users.native
        query = users.where("s", "==", "on").where("n", ">", 3)
        steps: list[str] = []
        fetch = store.fetch

        def explained(sql: str, parameters: Any = (), **how: Any) -> list[Any]:
            steps.extend(row[3] for row in fetch(f"EXPLAIN QUERY PLAN {sql}", parameters))
            rows: list[Any] = fetch(sql, parameters, **how)
            return rows

        store.fetch = explained
        for asked in (query, query.order_by("n", descending=True), users.where("s", "==", "on")):
            page = asked.limit(5).page()
            asked.limit(5).page(page.cursor)
        assert steps
        assert all("USING INDEX" in step for step in steps)
        assert not any("TEMP B-TREE" in step or "SCAN" in step for step in steps)
