"""The writes that the drivers of collections carry out, and what each does to what is there.

A driver that can look at the document inside a transaction asks `outcome` what to store; others turn the same
conditions into their backend's own.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, TypeAlias

import msgspec

from portable import document_json
from portable.errors import AlreadyExists, NotFound, PortableError, PreconditionFailed

__all__ = ["DocumentId", "Modify", "Remove", "Save", "Stored", "Verify", "Write", "missing", "outcome", "refused"]

DocumentId: TypeAlias = tuple[str, str]
"""`(partition, key)`; the partition is empty in a collection without partitions."""


class Stored(msgspec.Struct, frozen=True, gc=False):
    """A document as a driver gives it.

    Attributes:
        id: where it is.
        data: a dict in normal form (`portable.document_values`), the caller's own.
        revision: opaque, another one after every write.
    """

    id: DocumentId
    data: dict[str, Any]
    revision: str


class Save(msgspec.Struct, frozen=True):
    """Store a whole document.

    Attributes:
        id: where.
        data: a dict in normal form.
        special: whether the data holds what JSON has no place for.
        expires: when it is gone; None for never.
        exists: True: something must be there; False: nothing may be; None: both will do.
        revision: what is there must have it; None: any.
    """

    id: DocumentId
    data: dict[str, Any]
    special: bool = True
    expires: datetime | None = None
    exists: bool | None = None
    revision: str | None = None

    def json(self) -> str:
        """Give the data as JSON, for backends that keep text."""
        return document_json.dump(self.data, special=self.special)


class Modify(msgspec.Struct, frozen=True):
    """Change what is there, atomically: no other write may come between reading and storing.

    Attributes:
        id: where; something must be there.
        change: gives the new document for the old one's data; may change the dict it is given; may raise. A driver
            without such transactions calls it between a read and a conditional write, again after each conflict.
        revision: what is there must have it; None: any.
    """

    id: DocumentId
    change: Callable[[dict[str, Any]], Save]
    revision: str | None = None


class Remove(msgspec.Struct, frozen=True):
    """Remove what is there; nothing is no error, unless `revision` is given."""

    id: DocumentId
    revision: str | None = None


class Verify(msgspec.Struct, frozen=True):
    """In a transaction: what is there must have this revision, or be missing when that is None."""

    id: DocumentId
    revision: str | None = None


Write: TypeAlias = Save | Modify | Remove | Verify
"""Whatever a transaction may hold; a batch holds no `Verify`."""


def _shown(id_: DocumentId) -> str:
    partition, key = id_
    return repr((partition, key)) if partition else repr(key)


def missing(id_: DocumentId) -> NotFound:
    """Give the error for a document that is not there."""
    return NotFound(f"no document {_shown(id_)}")


def refused(write: Write, *, found: str | None) -> PortableError:
    """Give the error for a write whose condition does not hold; `found` is the revision that is there."""
    if isinstance(write, Save) and write.exists is False:
        return AlreadyExists(f"there is a document {_shown(write.id)} already")
    if write.revision is None and not isinstance(write, Verify):
        return missing(write.id)
    there = "is missing" if found is None else f"is at revision {found}"
    wanted = "missing" if write.revision is None else f"at {write.revision}"
    return PreconditionFailed(f"document {_shown(write.id)} {there}, not {wanted}; get it again and retry")


def outcome(write: Write, current: Stored | None) -> Save | None:
    """Say what has to be stored for a write over what is there; None where nothing has to be.

    Raises:
        AlreadyExists: something is there, and nothing may be.
        NotFound: nothing is there, and something must be.
        PreconditionFailed: what is there has another revision.
    """
    found = None if current is None else current.revision
    if isinstance(write, Verify):
        if found != write.revision:
            raise refused(write, found=found)
        return None
    if write.revision is not None and found != write.revision:
        raise refused(write, found=found)
    if isinstance(write, Modify):
        if current is None:
            raise refused(write, found=None)
        return write.change(current.data)
    if isinstance(write, Save):
        if write.exists is not None and write.exists is not (current is not None):
            raise refused(write, found=found)
        return write
    return None
