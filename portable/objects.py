"""What a bucket holds and hands out."""

from __future__ import annotations

from datetime import datetime

import msgspec

__all__ = ["Condition", "ObjectHeaders", "ObjectInfo", "Part", "Prefix", "SignedRequest"]


class ObjectHeaders(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is stored with an object beside its bytes: the HTTP headers it is served with, and metadata."""

    content_type: str | None = None
    cache_control: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)


class ObjectInfo(msgspec.Struct, frozen=True):
    """An object without its bytes.

    Attributes:
        key: the key it is stored under.
        size: its length in bytes.
        etag: opaque; changes with every write; pass it to `if_match`.
        modified: when it was last written, aware, in UTC.
        content_type: the MIME type, or None where none was given.
        metadata: names in lower case, values as given. A listing may leave it empty; `head` never does.
        cache_control: the header, or None.
        content_disposition: the header, or None.
        content_encoding: the header, or None.
        content_language: the header, or None.
        checksum: what the backend keeps of the whole content, as `"crc32:0a1b2c3d"`, or None where it keeps nothing
            that can be computed here. A listing may leave it out.
    """

    key: str
    size: int
    etag: str
    modified: datetime
    content_type: str | None = None
    metadata: dict[str, str] = msgspec.field(default_factory=dict)
    cache_control: str | None = None
    content_disposition: str | None = None
    content_encoding: str | None = None
    content_language: str | None = None
    checksum: str | None = None


class Prefix(msgspec.Struct, frozen=True):
    """The keys below one delimiter, in a listing with `delimiter`. `key` ends with the delimiter."""

    key: str


class SignedRequest(msgspec.Struct, frozen=True):
    """A request that anybody who holds it may send until it expires.

    Attributes:
        url: where to send it.
        method: the HTTP method to use.
        headers: headers that must be sent with exactly these values.
        expires_at: aware, in UTC.
    """

    url: str
    method: str
    headers: dict[str, str]
    expires_at: datetime


class Condition(msgspec.Struct, frozen=True):
    """What must hold for a write to happen: nothing there (`absent`), or this very version (`etag`)."""

    absent: bool = False
    etag: str | None = None


class Part(msgspec.Struct, frozen=True, array_like=True):
    """One part of a multipart upload, as `write_part` left it at the backend.

    Attributes:
        number: from 1, in the order of the content.
        offset: where its bytes stand in the object.
        size: how many bytes.
        token: what the driver needs to commit it, such as the part's etag or checksum.
    """

    number: int
    offset: int
    size: int
    token: str
