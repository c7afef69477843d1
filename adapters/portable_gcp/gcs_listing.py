"""Listings of Cloud Storage: objects and prefixes, shown and hidden, in one byte order."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import UTC
from typing import Any

from portable.object_listing import behind, grouped
from portable.objects import ObjectInfo, Prefix
from portable_gcp.gcs_calls import GcsCalls
from portable_gcp.gcs_names import PACKING, UPLOADS
from portable_objectstore.hidden_keys import AREA, beginning_of, revealed, start_of

__all__ = ["GcsListing"]

Item = ObjectInfo | Prefix

# The last character that there is.
_LAST = "\U0010ffff"
_FIELDS = "items(name,size,generation,updated{more}),prefixes,nextPageToken"


class GcsListing:
    """One listing.

    Args:
        calls: the bucket.
        size: how many items one request asks for, 1,000 at most.
        timeout: seconds for each request.
    """

    def __init__(self, calls: GcsCalls, *, size: int, timeout: float) -> None:
        self._calls = calls
        self._size = size
        self._timeout = timeout
        self._long_keys: dict[str, str] = {}

    def items(self, prefix: str, delimiter: str | None, after: bytes) -> Iterator[Item]:
        """Give objects and prefixes behind some bytes, in byte order."""
        shown = self._shown(prefix, delimiter, after)
        named = self._named(beginning_of(prefix.encode()), start_of(after.removesuffix(b"\xff")))
        hidden = revealed(named, self._long_key, prefix, delimiter, after)
        last: str | None = None
        for item in heapq.merge(hidden, shown, key=lambda item: item.key.encode()):
            # Keys of both kinds may stand behind one prefix.
            if item.key != last:
                yield item
            last = item.key

    def _named(self, start: str, after: str) -> Iterator[ObjectInfo]:
        """Give the hidden objects by their names, and note the keys that these do not tell."""
        for found in self._listed(start, None, after, more=",metadata", end=UPLOADS):
            if not isinstance(found, str) and found.name > after:
                key = PACKING.key_in(found.metadata or {})
                if key is not None:
                    self._long_keys[found.name] = key
                yield _info(found)

    def _long_key(self, name: str) -> str | None:
        return self._long_keys.pop(name, None)

    def _shown(self, prefix: str, delimiter: str | None, after: bytes) -> Iterator[Item]:
        # Long delimiters are not cut alike by all servers: they are cut here.
        if delimiter == "/":
            yield from self._one_level(prefix, after)
            return
        start, cut = prefix.encode(), None if delimiter is None else delimiter.encode()
        last: bytes | None = None
        for info in self._flat(prefix, after):
            group = grouped(info.key.encode(), start, cut)
            if group is None:
                yield info
            elif group != last:
                last = group
                yield Prefix(group.decode())

    def _flat(self, prefix: str, after: bytes, *, size: int | None = None) -> Iterator[ObjectInfo]:
        for found in self._listed(prefix, None, _text(after), size=size):
            if not found.name.startswith(AREA) and found.name.encode() > after:
                yield _info(found)

    def _one_level(self, prefix: str, after: bytes) -> Iterator[Item]:
        start = prefix.encode()
        group = None if after.endswith(b"\xff") else grouped(after, start, b"/")
        text = _text(after)
        if group is not None and after.startswith(start):
            # Whether servers show a prefix that the listing starts inside of is not said anywhere.
            if any(True for _ in self._flat(group.decode(), after, size=1)):
                yield Prefix(group.decode())
            text, after = group.decode() + _LAST, group + b"\xff"
        for found in self._listed(prefix, "/", text):
            if not isinstance(found, str):
                if not found.name.startswith(AREA) and found.name.encode() > after:
                    yield _info(found)
            elif behind(Prefix(found)) > after and self._is_worth_showing(found):
                yield Prefix(found)

    def _is_worth_showing(self, shared: str) -> bool:
        """Say whether objects that are not hidden stand behind a prefix."""
        if shared.startswith(AREA):
            return False
        return not AREA.startswith(shared) or any(True for _ in self._one_level(shared, b""))

    def _listed(
        self,
        prefix: str,
        delimiter: str | None,
        after: str,
        *,
        more: str = "",
        end: str | None = None,
        size: int | None = None,
    ) -> Iterator[Any]:
        """Give what the service lists, objects, and prefixes as text, in one order."""
        how: dict[str, Any] = {
            "prefix": prefix or None,
            "delimiter": delimiter,
            "start_offset": after or None,
            "end_offset": end,
            "page_size": size or self._size,
            "fields": _FIELDS.format(more=more),
        }
        held: dict[str, Any] = {}
        last: str | None = None
        for objects, prefixes, truncated in self._calls.answers(timeout=self._timeout, **how):
            held |= {one.name: one for one in objects} | {one: one for one in prefixes}
            # A server may give prefixes that belong behind the objects of later answers.
            until = objects[-1].name if truncated and objects else None
            for name in sorted(held):
                if until is not None and name > until:
                    break
                found = held.pop(name)
                if last is None or name > last:
                    yield found
                last = name


def _text(after: bytes) -> str:
    """Give the text behind which the service is to start."""
    return after[:-1].decode() + _LAST if after.endswith(b"\xff") else after.decode()


def _info(found: Any) -> ObjectInfo:
    return ObjectInfo(found.name, found.size, str(found.generation), found.updated.astimezone(UTC))
