"""Cases of buckets: listing."""

from __future__ import annotations

from typing import Any

import pytest

from portable.errors import InvalidArgument
from portable.objects import ObjectInfo, Prefix
from portable.testing.aio.bucket_cases import BucketCases

__all__ = ["BucketListingCases"]

KEYS = [
    "a",
    "a/",
    "a/1",
    "a/2/x",
    "a/2/y",
    "a//z",
    "ab",
    "b-1",
    "b-2-1",
    "b/",
    "foo/bar",
    "foo/bar_baz",
    "foo/barn/1",
    "t",
    "t-",
    "t-/u",
    "t/",
    "t/u",
    "t0",
    "é",
    "é/1",
    "\uffff",
    "😀",
]

PREFIXES = ["", "a", "a/", "a//", "a/2", "b-", "foo/bar", "t-", "t/", "é", "z", "A", "/"]


class BucketListingCases(BucketCases):
    """Listing."""

    async def test_keys_are_listed_in_byte_order(self) -> None:
        bucket = self.open()
        await bucket.put_many((key, b"x") for key in reversed(KEYS))
        items = [(item.key, isinstance(item, ObjectInfo) and item.size) async for item in bucket.list()]
        assert items == [(key, 1) for key in sorted(KEYS, key=str.encode)]

    @pytest.mark.parametrize("delimiter", [None, "/", "-", "a", "/2", "é", "ba"])
    async def test_prefixes_and_delimiters_select(self, delimiter: str | None) -> None:
        bucket = self.open()
        await bucket.put_many((key, b"") for key in KEYS)
        for prefix in PREFIXES:
            expected = _listed(KEYS, prefix, delimiter)
            found = bucket.list(prefix, delimiter=delimiter)
            assert [(item.key, isinstance(item, Prefix)) async for item in found] == expected, prefix

    @pytest.mark.parametrize("limit", [1, 2, 3])
    @pytest.mark.parametrize("delimiter", [None, "/", "-", "/2"])
    async def test_pages_are_of_one_piece(self, delimiter: str | None, limit: int) -> None:
        bucket = self.open()
        await bucket.put_many((key, b"") for key in KEYS)
        for prefix in ("", "a/", "t"):
            paged: list[tuple[str, bool]] = []
            cursor = None
            while True:
                page = await bucket.list_page(prefix, delimiter=delimiter, limit=limit, cursor=cursor)
                assert len(page.items) <= limit
                paged += [(item.key, isinstance(item, Prefix)) for item in page.items]
                cursor = page.cursor
                if cursor is None:
                    break
            assert paged == _listed(KEYS, prefix, delimiter), prefix

    async def test_start_after_starts_behind(self) -> None:
        bucket = self.open()
        await bucket.put_many((key, b"") for key in KEYS)
        for start in ("", "a", "a/", "a/15", "foo/bar", "t", "t-", "t/z", "😀", "zzz"):
            later = [key for key in KEYS if key.encode() > start.encode()]
            assert await self.keys(bucket, start_after=start) == sorted(later, key=str.encode), start
            found = bucket.list(delimiter="/", start_after=start)
            expected = _listed(later, "", "/")
            assert [(item.key, isinstance(item, Prefix)) async for item in found] == expected, start

    @pytest.mark.parametrize("limit", [1, 2, 3])
    async def test_pages_go_on_while_keys_come_and_go(self, limit: int) -> None:
        bucket = self.open()
        steady = [f"{number:02d}" for number in range(10)]
        await bucket.put_many((key, b"") for key in steady)
        seen: list[str] = []
        cursor = None
        while True:
            page = await bucket.list_page(limit=limit, cursor=cursor)
            seen += [item.key for item in page.items]
            cursor = page.cursor
            if cursor is None:
                break
            # What the last page ended with goes, and others come on both sides of it.
            last = seen[-1]
            await bucket.delete(last)
            await bucket.put_many([(f"{last}-behind", b""), ("!before", b"")])
            await bucket.delete(f"{last}-behind")
        assert seen == steady

    async def test_a_listing_goes_on_behind_a_prefix(self) -> None:
        bucket = self.open()
        await bucket.put_many((key, b"") for key in ("a/1", "b", "c"))
        page = await bucket.list_page(delimiter="/", limit=1)
        assert page.items == [Prefix("a/")]
        await bucket.put("a/2", b"")
        page = await bucket.list_page(delimiter="/", limit=5, cursor=page.cursor)
        assert [item.key for item in page.items] == ["b", "c"]

    async def test_more_than_a_page_is_listed(self) -> None:
        bucket = self.open()
        keys = [f"{number % 3}/{number:05d}" for number in range(1100)]
        await bucket.put_many(((key, b"") for key in keys), concurrency=16)
        assert await self.keys(bucket) == sorted(keys)
        assert await self.keys(bucket, delimiter="/") == ["0/", "1/", "2/"]
        page = await bucket.list_page()
        assert 0 < len(page.items) <= 1000
        assert page.cursor is not None

    async def test_a_listing_may_be_left_early(self) -> None:
        bucket = self.open()
        await bucket.put_many((key, b"") for key in KEYS)
        listing = bucket.list()
        first = await anext(listing)
        await listing.aclose()
        assert first.key == min(KEYS)
        assert await bucket.get(first.key) == b""

    async def test_nothing_is_left_of_what_was_deleted(self) -> None:
        bucket = self.open()
        await bucket.put_many((key, b"") for key in ("a/b/c/d", "a/b/e", "f"))
        await bucket.delete("a/b/c/d")
        assert await self.keys(bucket, "a/b/", delimiter="/") == ["a/b/e"]
        await bucket.delete("a/b/e")
        assert await self.keys(bucket, delimiter="/") == ["f"]

    async def test_what_is_no_listing_is_refused(self) -> None:
        bucket = self.open()
        await bucket.put("a", b"")
        for bad in ({"limit": 0}, {"limit": -1}, {"cursor": "no cursor of ours"}, {"delimiter": ""}):
            with pytest.raises(InvalidArgument):
                await bucket.list_page(**bad)
        worse: dict[str, Any]
        for worse in ({"prefix": "\ud800"}, {"delimiter": "\ud800"}, {"start_after": "\ud800"}, {"prefix": b"a"}):
            with pytest.raises(InvalidArgument):
                await self.keys(bucket, **worse)


def _listed(keys: list[str], prefix: str, delimiter: str | None) -> list[tuple[str, bool]]:
    """Say what a listing holds: each key, or the prefix that it stands behind and that it is one."""
    found: set[tuple[str, bool]] = set()
    for key in keys:
        if key.startswith(prefix):
            at = -1 if delimiter is None else key.find(delimiter, len(prefix))
            found.add((key, False) if delimiter is None or at < 0 else (key[: at + len(delimiter)], True))
    return sorted(found, key=lambda item: item[0].encode())
