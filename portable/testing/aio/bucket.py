"""The conformance suite of buckets."""

from __future__ import annotations

from portable.testing.aio.bucket_files import BucketFileCases
from portable.testing.aio.bucket_listing import BucketListingCases
from portable.testing.aio.bucket_objects import BucketObjectCases
from portable.testing.aio.bucket_signing import BucketSigningCases

__all__ = ["BucketSuite"]


class BucketSuite(BucketObjectCases, BucketListingCases, BucketFileCases, BucketSigningCases):
    """What every bucket must keep; derive a class whose name starts with `Test` and give it a `url`."""
