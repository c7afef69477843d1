"""What `obstore` serves on S3, and what boto3 has to say beside it."""

from __future__ import annotations

from portable.objects import ObjectInfo
from portable_aws.s3_calls import MD5, S3Calls
from portable_objectstore.bucket import SMALL
from portable_objectstore.descriptions import Got
from portable_objectstore.plane import DataPlane
from portable_objectstore.stores import Stores

__all__ = ["S3Plane"]


class S3Plane:
    """`obstore`, for what can be checked without the checksum, which it does not tell."""

    def __init__(self, stores: Stores, calls: S3Calls) -> None:
        self._plane = DataPlane(stores)
        self._calls = calls
        self.carries = self._plane.carries
        self.put = self._plane.put
        self.delete = self._plane.delete
        self.close = self._plane.close

    def get(self, name: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> Got:
        """Read a range; by boto3 where etags are no MD5, because its answer has the checksum."""
        reads = self._calls if self._calls.opaque_etags else self._plane
        return reads.get(name, offset, length, etag, timeout=timeout)

    def head(self, name: str, *, timeout: float) -> ObjectInfo:
        """Describe an object; of a large one, which is read in ranges, with its checksum."""
        info = self._plane.head(name, timeout=timeout)
        if info.size <= SMALL and MD5.fullmatch(info.etag):
            return info
        return self._calls.head(name, timeout=timeout).info
