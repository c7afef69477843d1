"""Cases of collections: queries page by page and as a whole, while others write."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from portable.documents import Create
from portable.errors import InvalidArgument
from portable.testing.aio._concurrency import race
from portable.testing.aio.collection_queries import QueryCases

__all__ = ["PageCases"]


class PageCases(QueryCases):
    """What queries find, and how it is read, counted and removed."""

    @pytest.mark.parametrize("served", ["index", "scan"])
    @pytest.mark.parametrize("descending", [False, True])
    async def test_pages_of_every_size_give_the_whole_order(self, served: str, descending: bool) -> None:  # noqa: FBT001 (pytest passes it by name)
        documents = await self._mixed(indexes=[["status", "v"]] if served == "index" else [])
        wanted = self._ordered(list(self.known))
        asked = documents.where("status", "==", "on", allow_scan=served == "scan").order_by("v", descending=descending)
        await self._finds(asked, wanted[::-1] if descending else wanted)
        for size in (1, 2, 3, 7):
            found: list[str] = []
            cursor = None
            while True:
                page = await asked.limit(size).page(cursor)
                assert len(page.items) <= size
                found += [document.key for document in page.items]
                cursor = page.cursor
                if cursor is None:
                    break
            assert found == (wanted[::-1] if descending else wanted)

    @pytest.mark.parametrize("served", ["index", "scan"])
    @pytest.mark.parametrize("size", [1, 2, 3])
    async def test_pages_while_others_write(self, served: str, size: int) -> None:
        documents = self.open(indexes=["n"] if served == "index" else [])
        for i in range(0, 40, 2):
            await documents.create({"id": f"k{i:02}", "n": i // 4})
        asked = documents.query(allow_scan=True).order_by("n").limit(size)
        await self._finds(asked.limit(100), [f"k{i:02}" for i in range(0, 40, 2)])
        found: list[str] = []
        cursor, turn = None, 0
        while True:
            page = await asked.page(cursor)
            found += [document.key for document in page.items]
            cursor = page.cursor
            if cursor is None:
                break
            # Before and behind the cursor one comes, and the very document that the cursor stands on goes.
            if turn < 5:
                await documents.put({"id": f"before{turn}", "n": -1})
                await documents.put({"id": f"behind{turn}", "n": 100})
            if turn % 2:
                await documents.delete(found[-1])
            turn += 1
        old = [key for key in found if key.startswith("k")]
        assert old == [f"k{i:02}" for i in range(0, 40, 2)]
        assert len(found) == len(set(found))
        assert not any(key.startswith("before") for key in found)

    async def test_a_cursor_is_good_for_its_query_alone(self) -> None:
        documents = self.open(indexes=["n", "m"])
        for i in range(5):
            await documents.create({"id": f"k{i}", "n": i, "m": i})
        asked = documents.where("n", ">=", 0)
        await self._finds(asked, ["k0", "k1", "k2", "k3", "k4"])
        cursor = (await asked.limit(2).page()).cursor
        # Another page size is the same query.
        assert [document.key for document in (await asked.limit(9).page(cursor)).items] == ["k2", "k3", "k4"]
        for other in (
            documents.where("n", ">", 0),
            documents.where("m", ">=", 0),
            asked.order_by("n", descending=True),
        ):
            with pytest.raises(InvalidArgument):
                await other.page(cursor)
        for wrong in ("", "x", "eyJhIjoxfQ", cursor[:-3], "🦊", 5, b"x"):
            with pytest.raises(InvalidArgument):
                await asked.page(wrong)

    async def test_limit_first_and_count(self) -> None:
        documents = self.open(indexes=["n"])
        asked = documents.where("n", ">=", 0)
        assert await asked.first() is None
        assert await asked.count() == 0
        page = await asked.page()
        assert (page.items, page.cursor) == ([], None)
        for i in range(250):
            await documents.create({"id": f"k{i:03}", "n": i % 5, "odd": bool(i % 2)})
        await self._finds(asked.where("n", "<", 0), [])
        await self._finds(asked.limit(3), ["k000", "k005", "k010"])
        assert len((await asked.page()).items) == 100
        first = await asked.order_by("n", descending=True).first()
        assert (first.key, first.data["n"]) == ("k249", 4)
        assert await asked.count() == 250
        assert await asked.limit(7).count() == 7
        assert await documents.where("n", "==", 3).count() == 50
        assert await documents.where("odd", "==", True, allow_scan=True).count() == 125
        assert await documents.where("n", "in", [1, 2]).where("odd", "==", True, allow_scan=True).count() == 50

    async def test_delete_removes_what_the_query_finds(self) -> None:
        documents = self.open(indexes=["n"])
        for i in range(60):
            await documents.create({"id": f"k{i:02}", "n": i})
        await self._finds(documents.where("n", "<", 1), ["k00"])
        assert await documents.where("n", ">=", 50).delete() == 10
        assert await documents.where("n", "<", 50).limit(5).delete() == 5
        await self._finds(documents.where("n", "<", 7), ["k05", "k06"])
        assert await documents.where("n", "<", 5).delete() == 0
        assert await documents.where("id", "in", ["k05", "k59"]).delete() == 1
        assert await documents.query(allow_scan=True).delete() == 44
        await self._finds(documents.query(allow_scan=True), [])

    async def test_delete_while_others_delete(self) -> None:
        documents = self.open(indexes=["n"])
        for i in range(60):
            await documents.create({"id": f"k{i:02}", "n": i})
        await self._finds(documents.where("n", "==", 59), ["k59"])
        results: list[Any] = await race([functools.partial(documents.where("n", ">=", 10).delete) for _ in range(4)])
        assert sum(results) == 50
        await self._finds(documents.where("n", ">=", 0), [f"k{i:02}" for i in range(10)])

    async def test_iterating_more_than_a_page(self) -> None:
        documents = self.open(indexes=["n"])
        await documents.write_many(Create({"id": f"k{i:04}", "n": i, "m": -i}) for i in range(1100))
        wanted = [f"k{i:04}" for i in range(1100)]
        await self._finds(documents.order_by("n"), wanted)
        await self._finds(documents.order_by("n", descending=True), wanted[::-1])
        await self._finds(documents.query(allow_scan=True), wanted)
        await self._finds(documents.query(allow_scan=True).limit(700), wanted[:700])
        await self._finds(documents.order_by("m", allow_scan=True).limit(700), wanted[::-1][:700])
        page = await documents.order_by("m", allow_scan=True).limit(3).page()
        page = await documents.order_by("m", allow_scan=True).limit(3).page(page.cursor)
        assert [document.key for document in page.items] == ["k1096", "k1095", "k1094"]
        # Few that match, far apart, behind a cursor of those that match.
        rare = documents.where("m", "in", [-5, -600, -1099], allow_scan=True).order_by("n")
        page = await rare.limit(1).page()
        assert [document.key for document in page.items] == ["k0005"]
        page = await rare.limit(1).page(page.cursor)
        assert [document.key for document in page.items] == ["k0600"]
        page = await rare.limit(1).page(page.cursor)
        assert ([document.key for document in page.items], page.cursor) == (["k1099"], None)
