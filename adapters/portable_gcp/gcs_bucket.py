"""Buckets in Google Cloud Storage.

Vendor pages: cloud.google.com/storage/docs/json_api/v1, …/request-preconditions, …/composing-objects,
…/data-validation, …/access-control/signed-urls.
`docs/wire-formats/gcp.md` says how objects are stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.cloud.storage import Client

from portable.batches import Page
from portable.bindings import Binding
from portable.capabilities import BucketCapabilities
from portable.changes import Change
from portable.errors import ConfigError, LimitExceeded, PortableError
from portable.object_listing import beginning, paged
from portable.objects import ObjectInfo, Prefix, SignedRequest
from portable_gcp.gcs_calls import GcsCalls
from portable_gcp.gcs_clients import GcsClients
from portable_gcp.gcs_errors import FAILURES, is_refusal, translated, unsigned
from portable_gcp.gcs_listing import GcsListing
from portable_gcp.gcs_names import PACKING, GcsNames
from portable_gcp.gcs_puts import GcsPuts
from portable_gcp.gcs_uploads import GcsUploads
from portable_gcp.options import BucketOptions
from portable_objectstore.attempts import Attempts
from portable_objectstore.bucket import ObjectStoreBucket
from portable_objectstore.descriptions import Got
from portable_objectstore.failures import FailedError
from portable_objectstore.plane import DataPlane

__all__ = ["GcsBucket"]

_TIB = 1024**4
_LONGEST_SIGNED = 7 * 86400
_IDENTITY = ("endpoint", "credentials")


class GcsBucket(ObjectStoreBucket):
    """A bucket: `obstore` reads and deletes, requests of our own write small objects and parts, the client all else.

    An etag is the generation, which each write makes anew.
    """

    Options = BucketOptions

    capabilities = BucketCapabilities(
        durability="replicated",
        sign=True,
        server_side_copy=True,
        max_object_bytes=5 * _TIB,
        part_bytes=5 * 1024 * 1024,
        part_concurrency=4,
        max_parts=10_000,
        max_delete_batch=100,
    )

    def __init__(self, binding: Binding[BucketOptions]) -> None:
        """Take the options, without any I/O."""
        self._gcs = GcsService(binding)
        super().__init__(binding, self._gcs)

    @property
    def native(self) -> Client:
        """The vendor's client."""
        return self._gcs.clients.client


class GcsService:
    """A bucket by the vendor's client."""

    etags = re.compile(r"[1-9][0-9]{0,18}")

    def __init__(self, binding: Binding[BucketOptions]) -> None:
        """Take the options, without any I/O."""
        self._binding = binding
        self._usual = float(binding.contract.timeout)
        self._plane: DataPlane | None = None
        self._puts: GcsPuts | None = None
        self.clients = GcsClients(binding)
        self.calls = GcsCalls(self.clients)
        self.uploads = GcsUploads(self.calls)
        self.attempts = Attempts(translated, is_refusal=is_refusal, retries=binding.contract.retries)

    def plan(self) -> list[Change]:
        """Say whether the bucket is to be made."""
        try:
            self.calls.call(self.clients.bucket.reload, timeout=self._usual)
        except FailedError as error:
            if error.failure.status == 404:
                return [Change("create", "bucket", self._binding.name)]
            # Who may read and write objects need not be allowed to look at the bucket.
            if error.failure.status != 403:
                raise translated(error.failure) from error.__cause__
        return []

    def create(self) -> None:
        """Make the bucket where there is none.

        Raises:
            ConfigError: no project is named, to make it in.
        """
        if self.clients.client.project is None:
            raise ConfigError("a bucket is made in a project; write gs://PROJECT/NAME, or project=")
        try:
            self.calls.call(self.clients.bucket.create, location=self._binding.options.location, timeout=self._usual)
        except FailedError as error:
            if error.failure.status != 409 or self.plan():
                raise translated(error.failure) from error.__cause__

    @staticmethod
    def names() -> GcsNames:
        """Say how objects are named."""
        return GcsNames()

    def fast(self) -> tuple[DataPlane | None, GcsPuts | None]:
        """Give `obstore` for reading, and requests of our own for writing."""
        stores = self.clients.stores()
        self._plane = None if stores is None else DataPlane(stores, packing=PACKING, versions=True)
        if self._binding.options.engine != "google-cloud-storage":
            self._puts = self.uploads.parts = GcsPuts(self.clients, self._binding.name)
        return self._plane, self._puts

    def close(self) -> None:
        """Close every connection."""
        if self._plane is not None:
            self._plane.close()
        if self._puts is not None:
            self._puts.close()
        self.clients.close()

    def probe(self, *, timeout: float) -> None:
        """List one object."""
        next(self.calls.answers(timeout=timeout, page_size=1), None)

    @staticmethod
    def is_sound(got: Got) -> bool:  # noqa: ARG004 (a generation tells nothing)
        """Say that a generation tells nothing of the bytes."""
        return False

    def delete_many(self, names: Sequence[str], *, timeout: float) -> list[PortableError | None]:
        """Delete objects side by side, each as fast as it can be."""

        def delete(name: str) -> None:
            if self._plane is not None and self._plane.carries(name):
                self._plane.delete(name, timeout=timeout)
            else:
                self.calls.delete(name, None, timeout=timeout)

        return self.calls.delete_many(names, delete)

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
        after = beginning(start_after, cursor)
        # With one more item than the page holds, one request tells whether there are others.
        listing = GcsListing(self.calls, size=min(1000, limit + 1), timeout=timeout)
        return paged(listing.items(prefix, delimiter, after), min(limit, 999))

    def is_same(self, origin: Binding[Any]) -> bool:
        """Say whether the same credentials serve both buckets: all are of one service."""
        own, other = self._binding.options, origin.options
        return all(getattr(own, field) == getattr(other, field) for field in _IDENTITY)

    def copy(self, source: str, target: str, origin: Binding[Any] | None, *, timeout: float) -> ObjectInfo:
        """Copy an object by rewriting it."""
        bucket = self.clients.bucket if origin is None else self.clients.client.bucket(origin.name)
        blob = bucket.blob(source)
        self.calls.call(blob.reload, timeout=timeout)
        return self.calls.copy(blob, target, timeout=timeout)

    def sign(
        self,
        name: str,
        method: str,
        seconds: int,
        content_type: str | None,
        *,
        key: str | None,
        timeout: float,  # noqa: ARG002 (what is sent has its own limit)
    ) -> SignedRequest:
        """Make a request that anybody may send for a while, by a key at hand or the IAM API."""
        if seconds > _LONGEST_SIGNED:
            raise LimitExceeded(f"a signed request lasts 7 days at most, not {seconds} seconds")
        lasting = timedelta(seconds=seconds)
        until = datetime.now(UTC) + lasting
        headers: dict[str, str] = {}
        if method == "PUT":
            headers = {f"x-goog-meta-{each}": value for each, value in PACKING.pack({}, key=key).items()}
            if content_type is not None:
                headers["content-type"] = content_type
        try:
            url = self.clients.bucket.blob(name).generate_signed_url(
                version="v4",
                expiration=lasting,
                method=method,
                headers=dict(headers),
                api_access_endpoint=self._binding.options.public_endpoint or self.clients.address,
                **self.clients.signer(),
            )
        except FAILURES as error:
            raise unsigned(error) from error
        return SignedRequest(url, method, headers, until)
