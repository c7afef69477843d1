"""What batches and pages give back."""

from __future__ import annotations

from typing import Generic, TypeVar

import msgspec

from portable.errors import PortableError

__all__ = ["BatchResult", "Page"]

T = TypeVar("T")


class BatchResult(msgspec.Struct, Generic[T], frozen=True):
    """What a batch did, entry by entry.

    Attributes:
        results: in input order, each entry's value, or the error that kept it from happening.
    """

    results: list[T | PortableError]

    @property
    def failed(self) -> dict[int, PortableError]:
        """The failures, by the index of their entry in the input; empty when all went well."""
        return {i: entry for i, entry in enumerate(self.results) if isinstance(entry, PortableError)}

    @property
    def succeeded(self) -> list[T]:
        """The values of the entries that went well, in input order."""
        return [entry for entry in self.results if not isinstance(entry, PortableError)]


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a listing or a query.

    Attributes:
        items: what is on the page; it may be empty before the end.
        cursor: pass it back to get the next page; None at the end.
    """

    items: list[T]
    cursor: str | None = None
