# Generated from portable/testing/aio/collection_pages.py by tools/generate_sync.py; change that file, not this one.
"""Cases of collections: queries page by page and as a whole, while others write."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from portable.documents import Create
from portable.errors import InvalidArgument
from portable.testing._concurrency import race
from portable.testing.collection_queries import QueryCases

__all__ = ["PageCases"]


class PageCases(QueryCases):
    """What queries find, and how it is read, counted and removed."""

    @pytest.mark.parametrize("served", ["index", "scan"])
    @pytest.mark.parametrize("descending", [False, True])
    def test_pages_of_every_size_give_the_whole_order(self, served: str, descending: bool) -> None:  # noqa: FBT001 (pytest passes it by name)
        documents = self._mixed(indexes=[["status", "v"]] if served == "index" else [])
        wanted = self._ordered(list(self.known))
        asked = documents.where("status", "==", "on", allow_scan=served == "scan").order_by("v", descending=descending)
        self._finds(asked, wanted[::-1] if descending else wanted)
        for size in (1, 2, 3, 7):
            found: list[str] = []
            cursor = None
            while True:
                page = asked.limit(size).page(cursor)
                assert len(page.items) <= size
                found += [document.key for document in page.items]
                cursor = page.cursor
                if cursor is None:
                    break
            assert found == (wanted[::-1] if descending else wanted)

    @pytest.mark.parametrize("served", ["index", "scan"])
    @pytest.mark.parametrize("size", [1, 2, 3])
    def test_pages_while_others_write(self, served: str, size: int) -> None:
        documents = self.open(indexes=["n"] if served == "index" else [])
        for i in range(0, 40, 2):
            documents.create({"id": f"k{i:02}", "n": i // 4})
        asked = documents.query(allow_scan=True).order_by("n").limit(size)
        self._finds(asked.limit(100), [f"k{i:02}" for i in range(0, 40, 2)])
        found: list[str] = []
        cursor, turn = None, 0
        while True:
            page = asked.page(cursor)
            found += [document.key for document in page.items]
            cursor = page.cursor
            if cursor is None:
                break
            # Before and behind the cursor one comes, and the very document that the cursor stands on goes.
            if turn < 5:
                documents.put({"id": f"before{turn}", "n": -1})
                documents.put({"id": f"behind{turn}", "n": 100})
            if turn % 2:
                documents.delete(found[-1])
            turn += 1
        old = [key for key in found if key.startswith("k")]
        assert old == [f"k{i:02}" for i in range(0, 40, 2)]
        assert len(found) == len(set(found))
        assert not any(key.startswith("before") for key in found)

    def test_a_cursor_is_good_for_its_query_alone(self) -> None:
        documents = self.open(indexes=["n", "m"])
        for i in range(5):
            documents.create({"id": f"k{i}", "n": i, "m": i})
        asked = documents.where("n", ">=", 0)
        self._finds(asked, ["k0", "k1", "k2", "k3", "k4"])
        cursor = (asked.limit(2).page()).cursor
        # Another page size is the same query.
        assert [document.key for document in (asked.limit(9).page(cursor)).items] == ["k2", "k3", "k4"]
        for other in (
            documents.where("n", ">", 0),
            documents.where("m", ">=", 0),
            asked.order_by("n", descending=True),
        ):
            with pytest.raises(InvalidArgument):
                other.page(cursor)
        for wrong in ("", "x", "eyJhIjoxfQ", cursor[:-3], "🦊", 5, b"x"):
            with pytest.raises(InvalidArgument):
                asked.page(wrong)

    def test_limit_first_and_count(self) -> None:
        documents = self.open(indexes=["n"])
        asked = documents.where("n", ">=", 0)
        assert asked.first() is None
        assert asked.count() == 0
        page = asked.page()
        assert (page.items, page.cursor) == ([], None)
        for i in range(250):
            documents.create({"id": f"k{i:03}", "n": i % 5, "odd": bool(i % 2)})
        self._finds(asked.where("n", "<", 0), [])
        self._finds(asked.limit(3), ["k000", "k005", "k010"])
        assert len((asked.page()).items) == 100
        first = asked.order_by("n", descending=True).first()
        assert (first.key, first.data["n"]) == ("k249", 4)
        assert asked.count() == 250
        assert asked.limit(7).count() == 7
        assert documents.where("n", "==", 3).count() == 50
        assert documents.where("odd", "==", True, allow_scan=True).count() == 125
        assert documents.where("n", "in", [1, 2]).where("odd", "==", True, allow_scan=True).count() == 50

    def test_delete_removes_what_the_query_finds(self) -> None:
        documents = self.open(indexes=["n"])
        for i in range(60):
            documents.create({"id": f"k{i:02}", "n": i})
        self._finds(documents.where("n", "<", 1), ["k00"])
        assert documents.where("n", ">=", 50).delete() == 10
        assert documents.where("n", "<", 50).limit(5).delete() == 5
        self._finds(documents.where("n", "<", 7), ["k05", "k06"])
        assert documents.where("n", "<", 5).delete() == 0
        assert documents.where("id", "in", ["k05", "k59"]).delete() == 1
        assert documents.query(allow_scan=True).delete() == 44
        self._finds(documents.query(allow_scan=True), [])

    def test_delete_while_others_delete(self) -> None:
        documents = self.open(indexes=["n"])
        for i in range(60):
            documents.create({"id": f"k{i:02}", "n": i})
        self._finds(documents.where("n", "==", 59), ["k59"])
        results: list[Any] = race([functools.partial(documents.where("n", ">=", 10).delete) for _ in range(4)])
        assert sum(results) == 50
        self._finds(documents.where("n", ">=", 0), [f"k{i:02}" for i in range(10)])

    def test_iterating_more_than_a_page(self) -> None:
        documents = self.open(indexes=["n"])
        documents.write_many(Create({"id": f"k{i:04}", "n": i, "m": -i}) for i in range(1100))
        wanted = [f"k{i:04}" for i in range(1100)]
        self._finds(documents.order_by("n"), wanted)
        self._finds(documents.order_by("n", descending=True), wanted[::-1])
        self._finds(documents.query(allow_scan=True), wanted)
        self._finds(documents.query(allow_scan=True).limit(700), wanted[:700])
        self._finds(documents.order_by("m", allow_scan=True).limit(700), wanted[::-1][:700])
        page = documents.order_by("m", allow_scan=True).limit(3).page()
        page = documents.order_by("m", allow_scan=True).limit(3).page(page.cursor)
        assert [document.key for document in page.items] == ["k1096", "k1095", "k1094"]
        # Few that match, far apart, behind a cursor of those that match.
        rare = documents.where("m", "in", [-5, -600, -1099], allow_scan=True).order_by("n")
        page = rare.limit(1).page()
        assert [document.key for document in page.items] == ["k0005"]
        page = rare.limit(1).page(page.cursor)
        assert [document.key for document in page.items] == ["k0600"]
        page = rare.limit(1).page(page.cursor)
        assert ([document.key for document in page.items], page.cursor) == (["k1099"], None)
