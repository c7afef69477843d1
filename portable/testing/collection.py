# Generated from portable/testing/aio/collection.py by tools/generate_sync.py; change that file, not this one.
"""The conformance suite of collections."""

from __future__ import annotations

import functools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from portable.documents import Check, Create, Delete, Put, Replace, Update
from portable.errors import (
    AlreadyExists,
    BatchError,
    InvalidArgument,
    NotFound,
    PortableError,
    PreconditionFailed,
    Unsupported,
)
from portable.testing._concurrency import race
from portable.testing.collection_pages import PageCases
from portable.testing.collection_updates import UpdateCases
from portable.testing.collection_writes import WriteCases
from portable.testing.suite import lacks, needs

__all__ = ["CollectionSuite"]


class CollectionSuite(WriteCases, UpdateCases, PageCases):
    """Every guarantee of a collection."""

    kind = "collection"

    # ------------------------------------------------------------------ batches

    def test_a_batch_does_all_of_its_writes(self) -> None:
        documents = self.open()
        documents.create({"id": "old", "n": 1})
        documents.create({"id": "gone", "n": 1})
        result = documents.write_many(
            [
                Create({"id": "a", "n": 1}),
                Put({"id": "b", "n": 2}),
                Replace({"id": "old", "n": 2}),
                Update("a", increment={"n": 10}),
                Delete("gone"),
                Delete("never"),
            ]
        )
        assert not result.failed
        stored = [entry and entry.data["n"] for entry in result.results]
        assert stored == [1, 2, 2, 11, None, None]
        found = documents.get_many(["a", "b", "old", "gone"])
        assert {key: document.data["n"] for key, document in found.items()} == {"a": 11, "b": 2, "old": 2}
        assert found["a"].revision == result.results[3].revision

    def test_a_batch_of_many_writes(self) -> None:
        documents = self.open()
        result = documents.write_many(Create({"id": f"k{i}", "n": i}) for i in range(700))
        assert [entry.key for entry in result.results] == [f"k{i}" for i in range(700)]
        assert len(documents.get_many(f"k{i}" for i in range(700))) == 700

    def test_several_writes_of_one_document_happen_in_their_order(self) -> None:
        documents = self.open()
        writes: list[Any] = [Create({"id": "a", "log": []})]
        writes += [Update("a", append={"log": i}) for i in range(60)]
        documents.write_many(
            [*writes, Delete("a"), Create({"id": "a", "log": ["new"]}), Update("a", append={"log": 1})]
        )
        assert (documents.get("a")).data["log"] == ["new", 1]

    def test_a_poisoned_entry_keeps_no_other_back(self) -> None:
        documents = self.open()
        stored = documents.create({"id": "there", "n": 0})
        writes = [
            Put({"id": "a"}),
            Create({"id": "there", "n": 9}),
            Put({"id": "b", "bad": float("nan")}),
            Replace({"id": "missing"}),
            Update("missing", set={"n": 1}),
            Update("there", increment={"n.below": 1}),
            Put({"id": "there", "n": 9}, if_revision="no revision"),
            Delete("there", if_revision="no revision"),
            Check("there", stored.revision),
            "no write",
            Put({"id": "c"}),
        ]
        result = documents.write_many(writes, return_errors=True)
        kinds = [type(entry) if isinstance(entry, PortableError) else None for entry in result.results]
        assert kinds == [
            None,
            AlreadyExists,
            InvalidArgument,
            NotFound,
            NotFound,
            InvalidArgument,
            PreconditionFailed,
            PreconditionFailed,
            InvalidArgument,
            InvalidArgument,
            None,
        ]
        assert list(documents.get_many(["a", "b", "c", "missing"])) == ["a", "c"]
        assert (documents.get("there")).revision == stored.revision
        with pytest.raises(BatchError) as caught:
            documents.write_many([Put({"id": "d"}), Create({"id": "a"}), Put({"id": "e"})])
        assert list(caught.value.result.failed) == [1]
        assert list(documents.get_many(["d", "e"])) == ["d", "e"]

    # ------------------------------------------------------------------ transactions

    def test_a_transaction_does_all_of_its_writes(self) -> None:
        documents = self.open(indexes=["n"])
        old = documents.create({"id": "old", "n": 1})
        gone = documents.create({"id": "gone", "n": 1})
        seen = documents.create({"id": "seen", "n": 0})
        documents.transact(
            [
                Create({"id": "a", "n": 5}),
                Put({"id": "b", "n": 6}),
                Replace({"id": "old", "n": 2}, if_revision=old.revision),
                Delete("gone", if_revision=gone.revision),
                Check("seen", seen.revision),
                Check("missing"),
            ]
        )
        documents.transact([Update("a", increment={"n": 1}, set={"x.y": 1}), Delete("missing")])
        found = documents.get_many(["a", "b", "old", "gone", "seen"])
        assert {key: one.data["n"] for key, one in found.items()} == {"a": 6, "b": 6, "old": 2, "seen": 0}
        assert found["seen"].revision == seen.revision
        documents.transact([])

    @pytest.mark.parametrize(
        ("last", "error"),
        [
            (Create({"id": "there"}), AlreadyExists),
            (Replace({"id": "missing"}), NotFound),
            (Update("missing", set={"n": 1}), NotFound),
            (Update("text", increment={"n": 1}), InvalidArgument),
            (Put({"id": "there"}, if_revision="no revision"), PreconditionFailed),
            (Delete("there", if_revision="no revision"), PreconditionFailed),
            (Check("there", "no revision"), PreconditionFailed),
            (Check("there"), PreconditionFailed),
            (Check("missing", "no revision"), PreconditionFailed),
            (Put({"id": "bad", "n": float("inf")}), InvalidArgument),
        ],
        ids=lambda value: getattr(value, "__name__", type(value).__name__),
    )
    def test_a_transaction_that_fails_half_way_does_nothing(self, last: Any, error: type[Exception]) -> None:
        documents = self.open(indexes=["n"])
        there = documents.create({"id": "there", "n": 0})
        text = documents.create({"id": "text", "n": "x"})
        other = documents.create({"id": "other", "n": 1})
        before = [Create({"id": "new", "n": 7}), Update("other", increment={"n": 1}), Delete("victim")]
        documents.create({"id": "victim", "n": 3})
        with pytest.raises(error):
            documents.transact([*before, last])
        found = documents.get_many(["there", "text", "other", "victim", "new", "missing"])
        assert list(found) == ["there", "text", "other", "victim"]
        revisions = (there.revision, text.revision, other.revision)
        assert tuple(found[key].revision for key in ("there", "text", "other")) == revisions
        assert documents.where("n", "==", 7).count() == 0

    def test_a_wrong_transaction_is_refused(self) -> None:
        documents = self.open()
        with pytest.raises(InvalidArgument):
            documents.transact([Put({"id": "a"}), Delete("a")])
        with pytest.raises(InvalidArgument):
            documents.transact([Put({"id": "a"}), Check("a")])
        with pytest.raises(InvalidArgument):
            documents.transact([Put({"id": "a"}), "no write"])
        with pytest.raises(InvalidArgument):
            documents.transact(Put({"id": "a"}))
        assert documents.get_many(["a"]) == {}

    def test_a_hundred_writes_in_one_partition(self) -> None:
        documents = self.open(partition="tenant")
        documents.transact([Create({"tenant": "t", "id": f"k{i}"}) for i in range(100)])
        assert len(documents.get_many([("t", f"k{i}") for i in range(100)])) == 100

    @needs("wide_transactions")
    def test_wide_transactions(self) -> None:
        documents = self.open(partition="tenant")
        documents.transact([Create({"tenant": f"t{i % 3}", "id": f"k{i}"}) for i in range(150)])
        assert len(documents.get_many([(f"t{i % 3}", f"k{i}") for i in range(150)])) == 150
        with pytest.raises(AlreadyExists):
            documents.transact([Create({"tenant": "t9", "id": "k"}), Create({"tenant": "t0", "id": "k0"})])
        assert documents.get_many([("t9", "k")]) == {}

    @lacks("wide_transactions")
    def test_wide_transactions_are_refused(self) -> None:
        documents = self.open(partition="tenant")
        with pytest.raises(Unsupported):
            documents.transact([Create({"tenant": "t", "id": f"k{i}"}) for i in range(101)])
        with pytest.raises(Unsupported):
            documents.transact([Create({"tenant": "t0", "id": "a"}), Create({"tenant": "t1", "id": "a"})])
        assert documents.get_many([("t", "k0"), ("t0", "a"), ("t1", "a")]) == {}

    def test_transfers_at_once_lose_nothing(self) -> None:
        documents = self.open()
        documents.transact([Create({"id": "from", "n": 100}), Create({"id": "to", "n": 0})])
        seen = documents.get_many(["from", "to"])
        transfers = [
            functools.partial(
                documents.transact, [Update("from", increment={"n": -1}), Update("to", increment={"n": 1})]
            )
            for _ in range(10)
        ]
        guarded = [
            functools.partial(
                documents.transact,
                [
                    Update("from", increment={"n": -1}, if_revision=seen["from"].revision),
                    Update("to", increment={"n": 1}),
                ],
            )
            for _ in range(10)
        ]
        results = race([*transfers, *guarded])
        done = sum(result is None for result in results)
        assert all(result is None or isinstance(result, PreconditionFailed) for result in results), results
        # Each guarded one needs the first revision, which one write at most can be the first to change.
        assert 10 <= done <= 11
        found = documents.get_many(["from", "to"])
        assert (found["from"].data["n"], found["to"].data["n"]) == (100 - done, done)

    def test_twenty_transactions_at_one_revision_and_one_wins(self) -> None:
        documents = self.open()
        seen = documents.create({"id": "lock", "n": 0})
        calls = [
            functools.partial(
                documents.transact,
                [Put({"id": "lock", "n": i}, if_revision=seen.revision), Create({"id": f"made{i}"})],
            )
            for i in range(20)
        ]
        results = race(calls)
        winners = [i for i, result in enumerate(results) if result is None]
        assert len(winners) == 1
        assert sum(isinstance(result, PreconditionFailed) for result in results) == 19
        assert list(documents.get_many([f"made{i}" for i in range(20)])) == [f"made{winners[0]}"]

    # ------------------------------------------------------------------ documents that expire

    def test_what_expires_later_is_there(self) -> None:
        documents = self.open(ttl="expires", indexes=["n"])
        later = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
        stored = documents.create({"id": "a", "n": 1, "expires": later})
        assert stored.expires_at == later
        assert (documents.get("a")).expires_at == later
        assert (documents.put({"id": "b", "n": 1})).expires_at is None
        assert (documents.put({"id": "c", "n": 1, "expires": None})).expires_at is None
        self._finds(documents.where("n", "==", 1), ["a", "b", "c"])
        assert (documents.update("a", set={"n": 2})).expires_at == later
        wrongs: list[Any] = [5, "2024-01-01", True, [], later.replace(tzinfo=None)]
        for wrong in wrongs:
            with pytest.raises(InvalidArgument):
                documents.put({"id": "d", "expires": wrong})
        with pytest.raises(InvalidArgument):
            documents.update("a", set={"expires": None})

    def test_what_expired_is_not_there(self) -> None:
        documents = self.open(ttl="expires", indexes=["n"])
        past = datetime.now(UTC) - timedelta(minutes=5)
        stored = documents.put({"id": "a", "n": 1, "expires": past})
        documents.put({"id": "b", "n": 1})
        with pytest.raises(NotFound):
            documents.get("a")
        assert list(documents.get_many(["a", "b"])) == ["b"]
        self._finds(documents.where("n", "==", 1), ["b"])
        self._finds(documents.query(allow_scan=True), ["b"])
        self._finds(documents.where("id", "in", ["a", "b"]), ["b"])
        assert documents.where("n", "==", 1).count() == 1
        assert documents.query(allow_scan=True).count() == 1
        page = documents.where("n", "==", 1).limit(1).page()
        assert ([document.key for document in page.items], page.cursor) == (["b"], None)
        with pytest.raises(NotFound):
            documents.replace({"id": "a", "n": 2})
        with pytest.raises(NotFound):
            documents.update("a", set={"n": 2})
        with pytest.raises(PreconditionFailed):
            documents.put({"id": "a", "n": 2}, if_revision=stored.revision)
        with pytest.raises(PreconditionFailed):
            documents.delete("a", if_revision=stored.revision)
        documents.transact([Check("a")])

    def test_create_over_what_expired(self) -> None:
        documents = self.open(ttl="expires")
        past = datetime.now(UTC) - timedelta(minutes=5)
        for how in ("one", "batch", "transaction"):
            documents.put({"id": how, "n": 1, "expires": past})
            fresh = {"id": how, "n": 2}
            if how == "one":
                documents.create(fresh)
            elif how == "batch":
                documents.write_many([Create(fresh)])
            else:
                documents.transact([Create(fresh)])
            assert (documents.get(how)).data == fresh
            with pytest.raises(AlreadyExists):
                documents.create(fresh)

    def test_many_that_expire_among_many_that_do_not(self) -> None:
        documents = self.open(ttl="expires", indexes=["n"])
        past = datetime.now(UTC) - timedelta(minutes=5)
        documents.write_many(Put({"id": f"k{i:03}", "n": i, "expires": past if i % 4 else None}) for i in range(400))
        wanted = [f"k{i:03}" for i in range(0, 400, 4)]
        self._finds(documents.order_by("n"), wanted)
        self._finds(documents.query(allow_scan=True), wanted)
        assert documents.order_by("n").count() == 100
        page = documents.order_by("n").limit(10).page()
        assert [document.key for document in page.items] == wanted[:10]
