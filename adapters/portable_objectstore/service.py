"""What a vendor's driver brings: the calls of the vendor's own client, which are all that there are, for every key.

A request that the server refuses is a `FailedError`; all else is an error of ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from re import Pattern
from typing import Any, Protocol

from portable.batches import Page
from portable.bindings import Binding
from portable.changes import Change
from portable.errors import PortableError
from portable.objects import Condition, ObjectHeaders, ObjectInfo, Part, Prefix, SignedRequest
from portable_objectstore.attempts import Attempts
from portable_objectstore.descriptions import Described, Got

__all__ = ["FastWrites", "Names", "ObjectCalls", "ObjectService", "Reads", "Uploads", "Writes"]


class Names(Protocol):
    """From keys to the names that objects have at the service."""

    def name(self, key: str) -> str:
        """Give the name that a key's object has."""
        ...

    def other_name(self, key: str) -> str | None:
        """Give the name under which another program may keep the object of a hidden key, or None."""
        ...


class Writes(Protocol):
    """Puts."""

    def put(
        self,
        name: str,
        data: bytes | memoryview,
        headers: ObjectHeaders,
        condition: Condition | None,
        *,
        timeout: float,
        key: str | None = None,
    ) -> ObjectInfo:
        """Write an object in one go; with a condition once, because a second attempt would lie.

        Args:
            name: its name.
            data: its bytes.
            headers: what is stored beside them.
            condition: what must hold.
            timeout: in seconds.
            key: its key, where the name does not tell it.
        """
        ...


class Reads(Protocol):
    """What is fast for the keys that it carries unchanged."""

    def carries(self, name: str) -> bool:
        """Say whether an object of this name comes through unchanged."""
        ...

    def get(self, name: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> Got:
        """Read a range that is not empty, of the version of `etag` where one is given."""
        ...

    def head(self, name: str, *, timeout: float) -> ObjectInfo:
        """Describe an object."""
        ...

    def delete(self, name: str, *, timeout: float) -> None:
        """Delete an object; a missing one is no error."""
        ...


class FastWrites(Writes, Protocol):
    """Puts of what is small, for the keys that they carry unchanged."""

    def carries(self, name: str) -> bool:
        """Say whether an object of this name comes through unchanged."""
        ...


class ObjectCalls(Writes, Protocol):
    """The calls on one bucket's objects."""

    def get(self, name: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> Got:
        """Read a range that is not empty, of the version of `etag` where one is given."""
        ...

    def head(self, name: str, *, timeout: float) -> Described:
        """Describe an object."""
        ...

    def delete(self, name: str, etag: str | None, *, timeout: float) -> None:
        """Delete an object; without an etag a missing one is no error."""
        ...


class Uploads(Protocol):
    """Uploads in parts."""

    def begin(self, name: str, headers: ObjectHeaders, *, key: str | None, timeout: float) -> str:
        """Begin an upload, and give its id."""
        ...

    def write(
        self, name: str, upload: str, number: int, offset: int, data: bytes | memoryview, *, timeout: float
    ) -> Part:
        """Write one part."""
        ...

    def kept(self, name: str, upload: str, parts: Sequence[Part], *, timeout: float) -> list[Part]:
        """Say which parts are there, whole; `NotFound` when the upload is gone."""
        ...

    def commit(
        self,
        name: str,
        upload: str,
        parts: Sequence[Part],
        headers: ObjectHeaders,
        condition: Condition | None,
        *,
        key: str | None,
        timeout: float,
    ) -> ObjectInfo:
        """Make the parts the object."""
        ...

    def abort(self, name: str, upload: str, *, timeout: float) -> None:
        """Drop an upload and its parts; one that is gone is no error."""
        ...


class ObjectService(Protocol):
    """One bucket at its vendor's."""

    etags: Pattern[str]
    """What an etag has to be to be sent as one."""

    @property
    def attempts(self) -> Attempts:
        """What stands around each call."""
        ...

    @property
    def calls(self) -> ObjectCalls:
        """The calls on objects."""
        ...

    @property
    def uploads(self) -> Uploads:
        """The uploads in parts."""
        ...

    def plan(self) -> list[Change]:
        """Say whether the bucket is to be made."""
        ...

    def create(self) -> None:
        """Make the bucket where there is none."""
        ...

    def names(self) -> Names:
        """Say how objects are named, now that the bucket is there."""
        ...

    def fast(self) -> tuple[Reads | None, FastWrites | None]:
        """Give what reads and deletes, and what writes, faster than `calls`; None where there is nothing."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...

    def probe(self, *, timeout: float) -> None:
        """List one object."""
        ...

    def is_sound(self, got: Got) -> bool:
        """Say whether all of an object that was read is what was stored, where its etag tells."""
        ...

    def delete_many(self, names: Sequence[str], *, timeout: float) -> list[PortableError | None]:
        """Delete objects; for each, in order, None or its error."""
        ...

    def pages(
        self,
        prefix: str,
        delimiter: str | None,
        start_after: str | None,
        cursor: str | None,
        limit: int,
        *,
        timeout: float,
    ) -> Iterator[Page[ObjectInfo | Prefix]]:
        """Yield pages."""
        ...

    def is_same(self, origin: Binding[Any]) -> bool:
        """Say whether a bucket is where this one is, and the same credentials serve both."""
        ...

    def copy(self, source: str, target: str, origin: Binding[Any] | None, *, timeout: float) -> ObjectInfo:
        """Copy an object, from another bucket where one is given."""
        ...

    def sign(
        self, name: str, method: str, seconds: int, content_type: str | None, *, key: str | None, timeout: float
    ) -> SignedRequest:
        """Make a request that anybody may send for so many seconds; a PUT tells the key where one is given."""
        ...
