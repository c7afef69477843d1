# Generated from portable/testing/aio/collection_updates.py by tools/generate_sync.py; change that file, not this one.
"""Cases of collections: changing fields of a document."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from portable.errors import InvalidArgument, NotFound, Unsupported
from portable.testing._concurrency import race
from portable.testing.suite import Suite, lacks, needs

__all__ = ["UpdateCases"]


class UpdateCases(Suite):
    """Everything about `update`, and about large integers, which it can make."""

    kind = "collection"

    def test_update_changes_fields_and_leaves_the_rest(self) -> None:
        documents = self.open()
        before = documents.create(
            {"id": "a", "keep": {"me": 1}, "n": 5, "gone": 1, "list": [1], "in": {"x": 1, "y": 2}}
        )
        after = documents.update(
            "a",
            set={"name": "Ada", "new.deep.path": [b"x"], "in.x": None},
            unset=["gone", "in.y", "never.there", "keep.me.below"],
            increment={"n": -2, "fresh.counter": 3, "ratio": 0.5},
            append={"list": {"two": 2}, "made.list": "first"},
        )
        expected = {
            "id": "a",
            "keep": {"me": 1},
            "n": 3,
            "list": [1, {"two": 2}],
            "in": {"x": None},
            "name": "Ada",
            "new": {"deep": {"path": [b"x"]}},
            "fresh": {"counter": 3},
            "ratio": 0.5,
            "made": {"list": ["first"]},
        }
        assert after.data == expected
        assert after.revision != before.revision
        got = documents.get("a")
        assert (got.data, got.revision) == (expected, after.revision)

    def test_update_of_what_is_missing(self) -> None:
        documents = self.open()
        with pytest.raises(NotFound):
            documents.update("a", set={"n": 1})
        with pytest.raises(NotFound):
            documents.get("a")

    @pytest.mark.parametrize(
        "change",
        [
            {"increment": {"text": 1}},
            {"increment": {"yes": 1}},
            {"increment": {"n": True}},
            {"increment": {"n": "1"}},
            {"increment": {"top": 1}},
            {"append": {"text": 1}},
            {"append": {"dict": 1}},
            {"set": {"text.below": 1}},
            {"set": {"list.0": 1}},
            {"set": {"": 1}},
            {"set": {"a..b": 1}},
            {"set": {"id": "b"}},
            {"unset": ["id"]},
            {"unset": "text"},
            {"set": {"n": 1}, "increment": {"n": 1}},
            {"set": {"dict": {}}, "append": {"dict.list": 1}},
            {"set": {"new": 1, "new.below": 2}},
            {"set": {"n": float("nan")}},
            {},
        ],
        ids=str,
    )
    def test_a_wrong_update_changes_nothing(self, change: dict[str, Any]) -> None:
        documents = self.open()
        data = {"id": "a", "text": "x", "yes": True, "n": 1, "list": [], "dict": {}, "top": 1.7e308}
        if change == {"increment": {"top": 1}}:
            change = {"increment": {"top": 1.7e308}}
        stored = documents.create(data)
        with pytest.raises(InvalidArgument):
            documents.update("a", **change)
        got = documents.get("a")
        assert (got.data, got.revision) == (data, stored.revision)

    def test_twenty_increments_at_once_all_count(self) -> None:
        documents = self.open()
        documents.create({"id": "a", "n": 0, "log": []})
        calls = [functools.partial(documents.update, "a", increment={"n": 1}, append={"log": i}) for i in range(20)]
        for result in race(calls):
            assert not isinstance(result, BaseException), result
        data = (documents.get("a")).data
        assert data["n"] == 20
        assert sorted(data["log"]) == list(range(20))

    @needs("big_int")
    def test_integers_of_64_bits_are_exact(self) -> None:
        documents = self.open()
        numbers = [2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
        documents.create({"id": "a", "numbers": numbers})
        assert (documents.get("a")).data["numbers"] == numbers
        documents.update("a", set={"n": 2**53}, increment={"m": 2**62})
        assert (documents.update("a", increment={"n": 1, "m": 2**62 - 1})).data["n"] == 2**53 + 1
        with pytest.raises(InvalidArgument):
            documents.update("a", increment={"m": 1})

    @lacks("big_int")
    def test_integers_beyond_53_bits_are_refused(self) -> None:
        documents = self.open()
        with pytest.raises(Unsupported):
            documents.create({"id": "a", "n": 2**53 + 1})
        documents.create({"id": "a", "n": 2**53})
        with pytest.raises(Unsupported):
            documents.update("a", increment={"n": 1})
        assert (documents.get("a")).data["n"] == 2**53
