"""Listings of Cloud Storage: objects and prefixes, shown and hidden, in one byte order."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Any

from portable.object_listing import behind
from portable.objects import ObjectInfo, Prefix
from portable_gcp.gcs_calls import GcsCalls
from portable_gcp.gcs_names import PACKING, UPLOADS
from portable_objectstore.hidden_keys import AREA, ToldKeys, revealed, span_of
from portable_objectstore.listing import BEHIND_ALL, LAST, Item, around, cut, merged, text_behind

__all__ = ["GcsListing"]

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
        self._told = ToldKeys(PACKING)

    def items(self, prefix: str, delimiter: str | None, after: bytes) -> Iterator[Item]:
        """Give objects and prefixes behind some bytes, in byte order."""
        named = self._named(*span_of(prefix, after))
        return merged(revealed(named, self._told.take, prefix, delimiter, after), self._shown(prefix, delimiter, after))

    def _named(self, start: str, after: str) -> Iterator[ObjectInfo]:
        """Give the hidden objects by their names, and note the keys that these do not tell."""
        for found in self._listed(start, None, after, more=",metadata", end=UPLOADS):
            if not isinstance(found, str) and found.name > after:
                self._told.note(found.name, found.metadata)
                yield _info(found)

    def _shown(self, prefix: str, delimiter: str | None, after: bytes) -> Iterator[Item]:
        # Long delimiters are not cut alike by all servers: they are cut here.
        if delimiter == "/":
            return self._one_level(prefix, after)
        return cut(self._flat(prefix, after), prefix, delimiter)

    def _flat(self, prefix: str, after: bytes, *, size: int | None = None) -> Iterator[ObjectInfo]:
        for found in self._listed(prefix, None, text_behind(after), size=size):
            if not found.name.startswith(AREA) and found.name.encode() > after:
                yield _info(found)

    def _one_level(self, prefix: str, after: bytes) -> Iterator[Item]:
        text, group = text_behind(after), around(after, prefix, "/")
        if group is not None:
            if any(True for _ in self._flat(group, after, size=1)):
                yield Prefix(group)
            text, after = group + LAST, group.encode() + BEHIND_ALL
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


def _info(found: Any) -> ObjectInfo:
    return ObjectInfo(found.name, found.size, str(found.generation), found.updated.astimezone(UTC))
