"""Listings of a container: blobs and prefixes, shown and hidden, in one byte order, by the service's own markers.

The service starts a listing only at a marker of its own. So a cursor is where the listing stands and the markers of the
pages that it stands in, and what a page has before that is passed over.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import UTC
from typing import Any

from azure.core import exceptions as theirs
from azure.storage.blob import BlobPrefix, BlobProperties, ContainerClient

from portable.batches import Page
from portable.errors import InvalidArgument
from portable.object_listing import beginning, behind
from portable.objects import ObjectInfo, Prefix
from portable_azure.blob_clients import within
from portable_azure.blob_errors import raised
from portable_azure.blob_names import PACKING, is_shown
from portable_objectstore.descriptions import unquoted
from portable_objectstore.hidden_keys import AREA, ToldKeys, revealed, span_of, start_of
from portable_objectstore.listing import BEHIND_ALL, Item, cut, merged

__all__ = ["BlobListing"]

# The most that the service lists at once.
_MOST = 5000


class Markers:
    """The markers of the pages that one listing of the service's has come to.

    Args:
        first: that of the page to begin with, or None for the first of all.
    """

    def __init__(self, first: str | None) -> None:
        self._pages: list[tuple[bytes, str | None]] = [(b"", first)]

    @property
    def first(self) -> str | None:
        """Where to begin."""
        return self._pages[0][1]

    def add(self, name: bytes, marker: str | None) -> None:
        """Note a page and the first name on it."""
        self._pages.append((name, marker))

    def at(self, name: bytes) -> str | None:
        """Give the marker of the last page that starts no later than a name; those before it are forgotten."""
        while len(self._pages) > 1 and self._pages[1][0] <= name:
            del self._pages[0]
        return self._pages[0][1]


class BlobListing:
    """One listing.

    Args:
        container: the vendor's client.
        size: how many items a page of the listing holds.
        timeout: seconds for each request.
    """

    def __init__(self, container: ContainerClient, *, size: int, timeout: float) -> None:
        self._container = container
        self._size = size
        self._timeout = timeout
        self._told = ToldKeys(PACKING)

    def pages(
        self, prefix: str, delimiter: str | None, start_after: str | None, cursor: str | None
    ) -> Iterator[Page[Item]]:
        """Give the pages; each but the last has a cursor.

        Raises:
            InvalidArgument: the cursor is not one of ours.
        """
        after, markers, hidden = _begun(start_after, cursor)
        page: list[Item] = []
        for item in self._items(prefix, delimiter, after, markers, hidden):
            if len(page) == self._size:
                yield Page(page, _cursor(page[-1], markers, hidden))
                page = []
            page.append(item)
        yield Page(page)

    def _items(
        self, prefix: str, delimiter: str | None, after: bytes, markers: Markers, hidden: Markers
    ) -> Iterator[Item]:
        start, behind_name = span_of(prefix, after)
        named = self._named(start, behind_name.encode(), hidden)
        return merged(
            revealed(named, self._told.take, prefix, delimiter, after), self._shown(prefix, delimiter, after, markers)
        )

    def _named(self, start: str, after: bytes, hidden: Markers) -> Iterator[ObjectInfo]:
        """Give the hidden blobs by their names, and note the keys that these do not tell."""
        for found in self._listed(start, None, hidden, include=["metadata"]):
            if isinstance(found, BlobProperties) and found.name.encode() > after:
                self._told.note(found.name, found.metadata)
                yield _info(found)

    def _shown(self, prefix: str, delimiter: str | None, after: bytes, markers: Markers) -> Iterator[Item]:
        # Long delimiters are told of nowhere, and not cut alike by all servers: they are cut here.
        if delimiter == "/":
            return self._one_level(prefix, after, markers)
        return cut(self._flat(prefix, after, markers), prefix, delimiter)

    def _flat(self, prefix: str, after: bytes, markers: Markers) -> Iterator[ObjectInfo]:
        for found in self._listed(prefix, None, markers):
            if is_shown(found.name) and found.name.encode() > after:
                yield _info(found)

    def _one_level(self, prefix: str, after: bytes, markers: Markers) -> Iterator[Item]:
        for found in self._listed(prefix, "/", markers):
            if not isinstance(found, BlobPrefix):
                if is_shown(found.name) and found.name.encode() > after:
                    yield _info(found)
            elif behind(Prefix(found.name)) > after and self._is_worth_showing(found.name, after):
                yield Prefix(found.name)

    def _is_worth_showing(self, shared: str, after: bytes) -> bool:
        """Say whether blobs that are not hidden stand behind a prefix, and behind the listing's start."""
        if shared.startswith(AREA):
            return False
        if after.startswith(shared.encode()):
            return any(True for _ in self._flat(shared, after, Markers(None)))
        if not AREA.startswith(shared):
            return True
        return any(True for _ in self._one_level(shared, b"", Markers(None)))

    def _listed(
        self, prefix: str, delimiter: str | None, markers: Markers, *, include: list[str] | None = None
    ) -> Iterator[Any]:
        """Give what the service lists, blobs and prefixes in one order."""
        how: dict[str, Any] = {
            "name_starts_with": prefix or None,
            "include": include,
            # With one more item than a page holds, one request tells whether there are others.
            "results_per_page": min(_MOST, self._size + 1),
            **within(self._timeout),
        }
        marker = markers.first
        container = self._container
        while True:
            listing: Any = container.list_blobs(**how) if delimiter is None else container.walk_blobs(**how)
            try:
                pages = listing.by_page(continuation_token=marker)
                found = sorted(next(pages, ()), key=lambda one: one.name)
            except theirs.AzureError as error:
                raise raised(error) from error
            if found:
                markers.add(found[0].name.encode(), marker)
            yield from found
            marker = pages.continuation_token
            if not marker:
                return


def _begun(start_after: str | None, cursor: str | None) -> tuple[bytes, Markers, Markers]:
    if cursor is None:
        return beginning(start_after, None), Markers(None), Markers(None)
    place, *given = cursor.split(".")
    try:
        shown, hidden = (base64.urlsafe_b64decode(text.encode("ascii")).decode() or None for text in given)
    except ValueError:
        raise InvalidArgument("the cursor is not one of this bucket's; pass back what the last page had") from None
    return beginning(start_after, place), Markers(shown), Markers(hidden)


def _cursor(item: Item, markers: Markers, hidden: Markers) -> str:
    place = behind(item)
    found = (markers.at(place), hidden.at(start_of(place.removesuffix(BEHIND_ALL)).encode()))
    texts = [place, *((marker or "").encode() for marker in found)]
    return ".".join(base64.urlsafe_b64encode(text).decode() for text in texts)


def _info(found: BlobProperties) -> ObjectInfo:
    known: Any = found
    return ObjectInfo(known.name, known.size, unquoted(known.etag), known.last_modified.astimezone(UTC))
