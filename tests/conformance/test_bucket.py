"""The embedded buckets, by their suite, in both faces."""

from __future__ import annotations

from typing import ClassVar

import pytest

from portable.capabilities import BucketCapabilities
from portable.registry import Adapter, register
from portable.testing.aio.bucket import BucketSuite as AsyncBucketSuite
from portable.testing.bucket import BucketSuite
from portable_embedded.memory_bucket import MemoryBucket


class Small(MemoryBucket):
    """Small parts that are limited in number, deletes in batches, and no copies: what clouds have."""

    blocking = True
    capabilities = BucketCapabilities(
        durability="none", part_bytes=100_000, part_concurrency=3, max_parts=50, max_delete_batch=10
    )

    def copy(self, source: str, target: str, origin: object, *, timeout: float) -> None:
        return None


register(Adapter(schemes={"small": {"bucket": f"{__name__}:Small"}}, extra="tests"))


class _Folder:
    # What survives a power cut shows in no test; syncing every put would only make these slow.
    options: ClassVar = {"durability": "process"}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
        assert request.cls is not None
        request.cls.url = f"file:{tmp_path_factory.mktemp('bucket')}"


class TestMemoryBucket(BucketSuite):
    url = "memory:conformance"


class TestMemoryBucketAsync(AsyncBucketSuite):
    url = "memory:conformance"


class TestFileBucket(_Folder, BucketSuite):
    pass


class TestFileBucketAsync(_Folder, AsyncBucketSuite):
    pass


class TestDurableFileBucket(_Folder, BucketSuite):
    options: ClassVar = {"durability": "power"}


class TestSmallBucket(BucketSuite):
    url = "small:conformance"


class TestSmallBucketAsync(AsyncBucketSuite):
    url = "small:conformance"
