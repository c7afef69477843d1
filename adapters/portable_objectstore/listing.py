"""What listings of object stores have in common: hidden and shown objects in one byte order, and where each starts."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from portable.object_listing import grouped
from portable.objects import ObjectInfo, Prefix

__all__ = ["BEHIND_ALL", "LAST", "Item", "around", "cut", "merged", "text_behind"]

Item = ObjectInfo | Prefix

LAST = "\U0010ffff"
"""The last character that there is."""

BEHIND_ALL = b"\xff"
"""Behind everything that starts so, because no UTF-8 holds it."""


def merged(hidden: Iterable[Item], shown: Iterable[Item]) -> Iterator[Item]:
    """Merge both in byte order; a hidden object stands before another program's of the same key."""
    last: str | None = None
    for item in heapq.merge(hidden, shown, key=_order):
        # Keys of both kinds may stand behind one prefix.
        if item.key != last:
            yield item
        last = item.key


def cut(infos: Iterable[ObjectInfo], prefix: str, delimiter: str | None) -> Iterator[Item]:
    """Give objects as a listing with a delimiter shows them: each once, or the prefix that it belongs to once."""
    start, end = prefix.encode(), None if delimiter is None else delimiter.encode()
    last: bytes | None = None
    for info in infos:
        group = grouped(info.key.encode(), start, end)
        if group is None:
            yield info
        elif group != last:
            last = group
            yield Prefix(group.decode())


def text_behind(after: bytes) -> str:
    """Give the text behind which a server is to start."""
    return after[:-1].decode() + LAST if after.endswith(BEHIND_ALL) else after.decode()


def around(after: bytes, prefix: str, delimiter: str | None) -> str | None:
    """Give the prefix that a listing starts inside of, or None.

    Whether servers show that prefix is not said anywhere, so that a listing looks there itself.
    """
    start = prefix.encode()
    if delimiter is None or after.endswith(BEHIND_ALL) or not after.startswith(start):
        return None
    group = grouped(after, start, delimiter.encode())
    return None if group is None else group.decode()


def _order(item: Item) -> bytes:
    return item.key.encode()
