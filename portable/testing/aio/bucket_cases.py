"""What the cases of buckets share: a bucket of their own at the suite's URL, and keys that are hard to carry."""

from __future__ import annotations

import string
from typing import Any, ClassVar

from portable.aio import cloud
from portable.registry import provider
from portable.testing.aio.suite import Suite
from portable.urls import Url

__all__ = ["HOSTILE_KEYS", "HOSTILE_TEXTS", "BucketCases"]

_PUNCTUATION = [f"p{character}q" for character in string.punctuation + " "]

HOSTILE_KEYS: list[str] = [
    "a",
    "a/",
    "a//",
    "a/b",
    "a//b",
    "a/./b",
    "a/../b",
    "A",
    "/",
    "//",
    "/a",
    ".",
    "..",
    "...",
    "../a",
    "../../etc/passwd",
    "./a",
    "a/.",
    "a/..",
    ".portable",
    ".portable/tmp/a",
    "C:\\a",
    "\\",
    "~",
    "-",
    "CON",
    " a",
    "a ",
    "a.",
    "%",
    "%2F",
    "%2f",
    "%25",
    "%00",
    "%empty",
    "%object",
    "a%object",
    "%more",
    "a%2520b",
    "a+b",
    "\x00",
    "a\x00b",
    "\x01\x1f\x7f",
    "a\nb",
    "a\r\nb",
    "\t",
    "\x80\x9f\xa0",
    "\u2028",
    "\ufeff",
    "\ufffd",
    "\uffff",
    "é",
    "e\u0301",
    "日本/語",
    "😀",
    "😀/🎉",
    "a" * 1024,
    "é" * 512,
    "/" * 256,
    "a/" * 256 + "b" * 512,
    "b" * 255,
    "b" * 256,
    "b" * 255 + "/c",
    "b" * 500 + "/" + "c" * 500,
    *_PUNCTUATION,
]
"""Keys that some file system, URL or client library cannot carry as they are."""

HOSTILE_TEXTS: list[str] = [
    "",
    " ",
    " a ",
    "a\nb",
    "a\r\n: b",
    "\x00",
    "\x7f",
    '"quoted"',
    "a,b;c=d",
    "=?utf-8?q?=C3=A9?=",
    "%C3%A9",
    "é",
    "日本語",
    "😀",
    "\u2028",
    "{}",
    "\\u00e9",
]
"""Values of metadata that HTTP headers cannot carry as they are."""


class BucketCases(Suite):
    """Cases of buckets."""

    kind: ClassVar[str] = "bucket"

    def open(self, name: str = "main", *, kind: str | None = None, type: Any = None, **contract: Any) -> Any:
        """Open a bucket of this test; where a URL holds one bucket, each has a URL of its own below the suite's."""
        assert kind in {None, "bucket"}
        assert type is None
        physical = self.physical(name)
        bare, question, query = self.url.partition("?")
        driver = provider(Url.parse(self.url).scheme, "bucket").load()
        if getattr(driver, "one_per_url", False):
            bare = f"{bare}/{physical}"
        options = {"create": "if_missing", **self.options, **contract}
        bucket = cloud.open_bucket(bare + question + query, name=physical, **options)
        self._open_ones.append(bucket)
        return bucket

    async def keys(self, bucket: Any, prefix: str = "", **how: Any) -> list[str]:
        """List the keys, and the prefixes, of a bucket."""
        return [item.key async for item in bucket.list(prefix, **how)]
