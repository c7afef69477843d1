# Generated from portable/testing/aio/bucket.py by tools/generate_sync.py; change that file, not this one.
"""The conformance suite of buckets."""

from __future__ import annotations

from portable.testing.bucket_files import BucketFileCases
from portable.testing.bucket_listing import BucketListingCases
from portable.testing.bucket_objects import BucketObjectCases
from portable.testing.bucket_signing import BucketSigningCases

__all__ = ["BucketSuite"]


class BucketSuite(BucketObjectCases, BucketListingCases, BucketFileCases, BucketSigningCases):
    """What every bucket must keep; derive a class whose name starts with `Test` and give it a `url`."""
