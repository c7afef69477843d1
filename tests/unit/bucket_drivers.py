"""Buckets whose network breaks, whose content is damaged, or whose backend knows little: for the tests of `Bucket`."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import msgspec

from portable.capabilities import BucketCapabilities
from portable.errors import PermissionDenied, ResourceNotFound, Unavailable
from portable.objects import ObjectInfo, Part, SignedRequest
from portable.registry import Adapter, register
from portable_embedded.memory_bucket import MemoryBucket

PART = 1000


class Failing(MemoryBucket):
    """Small parts, and a network that breaks when it is told to."""

    capabilities = BucketCapabilities(
        durability="none", sign=True, part_bytes=PART, part_concurrency=2, max_parts=1500, max_delete_batch=3
    )
    blocking = True
    written: list[int]
    read: list[int]
    calls_left: int | None

    def __init__(self, binding: Any) -> None:
        super().__init__(binding)
        self.written, self.read, self.calls_left = [], [], None

    def _count(self) -> None:
        if self.calls_left is not None:
            self.calls_left -= 1
            if self.calls_left < 0:
                raise Unavailable("the network broke")

    def write_part(self, key: str, upload: str, number: int, offset: int, data: Any, *, timeout: float) -> Part:
        self._count()
        self.written.append(number)
        return super().write_part(key, upload, number, offset, data, timeout=timeout)

    def get(self, key: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> bytes:
        self._count()
        self.read.append(offset)
        return super().get(key, offset, length, etag, timeout=timeout)

    def delete_many(self, keys: Any, *, timeout: float) -> list[Any]:
        assert len(keys) <= 3
        if "refused" in keys:
            raise PermissionDenied("not yours")
        return [PermissionDenied(key) if key == "bad" else None for key in keys]

    def sign(self, key: str, method: str, expires: float, content_type: str | None, *, timeout: float) -> SignedRequest:
        return SignedRequest(f"memory:{key}", method, {}, datetime.now(UTC))


class Vague(Failing):
    """A backend that keeps no checksums that can be computed here."""

    def head(self, key: str, *, timeout: float) -> ObjectInfo:
        return msgspec.structs.replace(super().head(key, timeout=timeout), checksum="md5:00")


class Gone(MemoryBucket):
    def head(self, key: str, *, timeout: float) -> ObjectInfo:
        raise ResourceNotFound("there is no such bucket")


class Corrupt(MemoryBucket):
    capabilities = BucketCapabilities(durability="none", part_bytes=PART)

    def get(self, key: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> bytes:
        data = super().get(key, offset, length, etag, timeout=timeout)
        return data[:-1] if key == "cut" else data[:-1] + b"?"


register(
    Adapter(
        schemes={
            name.__name__.lower(): {"bucket": f"{__name__}:{name.__name__}"} for name in (Failing, Vague, Gone, Corrupt)
        },
        extra="tests",
    )
)


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)  # noqa: S311 (any bytes do)
