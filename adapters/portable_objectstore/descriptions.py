"""Objects as stores describe them: what was written, what is there, and what their bytes are checked by."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from zlib import crc32

import msgspec

from portable.checksums import combine
from portable.errors import IntegrityError
from portable.objects import ObjectHeaders, ObjectInfo, Part

__all__ = [
    "HEADERS",
    "NO_TYPE",
    "Described",
    "Digest",
    "Got",
    "crc_of_parts",
    "quoted",
    "read_headers",
    "unquoted",
    "written",
]

NO_TYPE = "binary/octet-stream"
"""What stands for no content type: what S3 stores itself, and no application uses, as it does what the others store."""

HEADERS = ("content_type", "cache_control", "content_disposition", "content_encoding", "content_language")
"""The fields of `ObjectHeaders` that are HTTP headers of their own."""


class Got(msgspec.Struct, frozen=True):
    """What was read.

    Attributes:
        data: the bytes.
        etag: of the version that they are of.
        size: of the whole object.
        checksum: of the whole object, where the answer tells one, as `ObjectInfo` has it.
        is_checked: whether the vendor's client has found them whole.
    """

    data: bytes
    etag: str
    size: int
    checksum: str | None = None
    is_checked: bool = False


class Digest(msgspec.Struct, frozen=True):
    """What a store keeps to check an object's bytes by.

    Attributes:
        name: as people call it.
        value: in hexadecimal.
        of: gives that of some bytes.
    """

    name: str
    value: str
    of: Callable[[bytes], str]

    @classmethod
    def by_crc(cls, crc: int) -> Digest:
        """Give a CRC-32."""
        return cls("CRC-32", f"{crc:08x}", lambda data: f"{crc32(data):08x}")

    @classmethod
    def by_md5(cls, value: str) -> Digest:
        """Give an MD5."""
        return cls("MD5", value, lambda data: hashlib.md5(data, usedforsecurity=False).hexdigest())

    def check(self, key: str, data: bytes) -> None:
        """Check all the bytes of an object.

        Raises:
            IntegrityError: they are not what was stored.
        """
        if self.of(data) != self.value:
            raise IntegrityError(f"what came of {key!r} does not have the {self.name} that was stored, {self.value}")


class Described(msgspec.Struct, frozen=True):
    """An object, and what only its driver wants to know.

    Attributes:
        info: the object, under its name.
        digest: what its bytes are checked by, where the store has anything.
        key: the key that its metadata tells, or None.
    """

    info: ObjectInfo
    digest: Digest | None = None
    key: str | None = None


def written(
    name: str, size: int, etag: str, modified: datetime, headers: ObjectHeaders, *, checksum: str | None = None
) -> ObjectInfo:
    """Describe what was written, without asking for it."""
    return ObjectInfo(
        name,
        size,
        etag,
        modified,
        headers.content_type,
        headers.metadata,
        headers.cache_control,
        headers.content_disposition,
        headers.content_encoding,
        headers.content_language,
        checksum,
    )


def read_headers(value: Callable[[str], Any]) -> dict[str, str | None]:
    """Give the fields of `ObjectInfo` that are headers, from what a vendor's client has for each.

    Args:
        value: gives what there is for one of `HEADERS`; what is empty is nothing.
    """
    fields: dict[str, str | None] = {field: value(field) or None for field in HEADERS}
    if fields["content_type"] == NO_TYPE:
        fields["content_type"] = None
    return fields


def crc_of_parts(parts: Sequence[Part], crcs: Sequence[int | None]) -> int | None:
    """Give the CRC-32 of the parts together, where each one's is known."""
    known = [(crc, part.size) for part, crc in zip(parts, crcs, strict=True) if crc is not None]
    return combine(known) if len(known) == len(parts) else None


def quoted(etag: str) -> str:
    """Give an etag as HTTP writes it."""
    return f'"{etag}"'


def unquoted(etag: str | None) -> str:
    """Give an etag without what HTTP puts around it, which servers do and do not."""
    return (etag or "").strip('"')
