"""Listing in the byte order of the keys: where a listing stands, and how keys become prefixes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator

from portable.batches import Page
from portable.errors import InvalidArgument
from portable.objects import ObjectInfo, Prefix

__all__ = ["beginning", "behind", "grouped", "paged"]

# No UTF-8 holds this byte, so a prefix followed by it sorts behind every key that starts with the prefix.
_BEHIND_ALL = b"\xff"


def beginning(start_after: str | None, cursor: str | None) -> bytes:
    """Give the bytes behind which a listing starts.

    Raises:
        InvalidArgument: the cursor is not one of ours.
    """
    after = start_after.encode() if start_after else b""
    if cursor is None:
        return after
    try:
        return max(after, base64.urlsafe_b64decode(cursor.encode("ascii")))
    except (binascii.Error, ValueError, AttributeError):
        raise InvalidArgument("the cursor is not one of this bucket's; pass back what the last page had") from None


def behind(item: ObjectInfo | Prefix) -> bytes:
    """Give the bytes that sort behind an item and whatever it stands for, and before all that follows."""
    key = item.key.encode()
    return key + _BEHIND_ALL if isinstance(item, Prefix) else key


def grouped(key: bytes, prefix: bytes, delimiter: bytes | None) -> bytes | None:
    """Give the prefix that a key belongs to in a listing with a delimiter, or None where it is listed itself."""
    if delimiter is None:
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]


def paged(items: Iterable[ObjectInfo | Prefix], limit: int) -> Iterator[Page[ObjectInfo | Prefix]]:
    """Cut a listing into pages; each but the last has a cursor."""
    page: list[ObjectInfo | Prefix] = []
    for item in items:
        if len(page) == limit:
            yield Page(page, base64.urlsafe_b64encode(behind(page[-1])).decode())
            page = []
        page.append(item)
    yield Page(page)
