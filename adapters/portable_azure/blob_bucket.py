"""Buckets in Azure Blob Storage, as block blobs.

Vendor pages: learn.microsoft.com/rest/api/storageservices/blob-service-rest-api,
…/specifying-conditional-headers-for-blob-service-operations, …/create-user-delegation-sas.
`docs/wire-formats/azure.md` says how objects are stored.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from azure.storage.blob import BlobSasPermissions, BlobServiceClient, generate_blob_sas

from portable.batches import Page
from portable.bindings import Binding
from portable.capabilities import BucketCapabilities
from portable.changes import Change
from portable.errors import LimitExceeded, PermissionDenied, PortableError, Unsupported
from portable.objects import ObjectInfo, Prefix, SignedRequest
from portable_azure.blob_calls import BlobCalls
from portable_azure.blob_clients import BlobClients, within
from portable_azure.blob_errors import is_refusal, translated
from portable_azure.blob_listing import BlobListing
from portable_azure.blob_names import PACKING, BlobNames
from portable_azure.blob_uploads import BlobUploads
from portable_azure.options import BlobOptions
from portable_objectstore.attempts import Attempts
from portable_objectstore.bucket import ObjectStoreBucket
from portable_objectstore.descriptions import NO_TYPE, Got, unquoted
from portable_objectstore.failures import FailedError
from portable_objectstore.plane import DataPlane

__all__ = ["BlobBucket"]

_MIB = 1024**2
_LONGEST_DELEGATED = 7 * 86400
_PERMISSIONS = {
    "GET": BlobSasPermissions(read=True),
    "HEAD": BlobSasPermissions(read=True),
    "PUT": BlobSasPermissions(create=True, write=True),
    "DELETE": BlobSasPermissions(delete=True),
}
_IDENTITY = ("endpoint", "account_key", "credentials")


class BlobBucket(ObjectStoreBucket):
    """A container: `obstore` for the calls that it serves as the vendor's client would, that for all others."""

    Options = BlobOptions

    capabilities = BucketCapabilities(
        durability="replicated",
        sign=True,
        server_side_copy=True,
        max_object_bytes=50_000 * 4000 * _MIB,
        part_bytes=5 * _MIB,
        part_concurrency=4,
        max_parts=50_000,
        max_delete_batch=256,
    )

    def __init__(self, binding: Binding[BlobOptions]) -> None:
        """Take the options, without any I/O."""
        self._blobs = BlobService(binding)
        super().__init__(binding, self._blobs)

    @property
    def native(self) -> BlobServiceClient:
        """The client of the account."""
        return self._blobs.clients.service


class BlobService:
    """A container by the vendor's client."""

    etags = re.compile(r"[\x21\x23-\x7e]+")

    def __init__(self, binding: Binding[BlobOptions]) -> None:
        """Take the options, without any I/O."""
        self._binding = binding
        self._usual = float(binding.contract.timeout)
        self._plane: DataPlane | None = None
        self.clients = BlobClients(binding)
        self.calls = BlobCalls(self.clients)
        self.uploads = BlobUploads(self.calls)
        self.attempts = Attempts(translated, is_refusal=is_refusal, retries=binding.contract.retries)

    def plan(self) -> list[Change]:
        """Say whether the container is to be made."""
        try:
            self.calls.call(self.clients.container.get_container_properties, **within(self._usual))
        except FailedError as error:
            # Who may read and write objects need not be allowed to look at the container.
            if error.failure.status == 404:
                return [Change("create", "container", self._binding.name)]
            ours = translated(error.failure)
            if not isinstance(ours, PermissionDenied):
                raise ours from error.__cause__
        return []

    def create(self) -> None:
        """Make the container where there is none."""
        try:
            self.calls.call(self.clients.container.create_container, **within(self._usual))
        except FailedError as error:
            if error.failure.code != "ContainerAlreadyExists":
                raise translated(error.failure) from error.__cause__

    @staticmethod
    def names() -> BlobNames:
        """Say how blobs are named."""
        return BlobNames()

    def fast(self) -> tuple[DataPlane | None, DataPlane | None]:
        """Give `obstore` for reading and writing."""
        stores = self.clients.stores()
        self._plane = None if stores is None else DataPlane(stores, packing=PACKING)
        return self._plane, self._plane

    def close(self) -> None:
        """Close every connection."""
        if self._plane is not None:
            self._plane.close()
        self.clients.close()

    def probe(self, *, timeout: float) -> None:
        """List one blob."""
        pages = self.clients.container.list_blobs(results_per_page=1, **within(timeout)).by_page()
        self.calls.call(lambda: next(pages, None))

    @staticmethod
    def is_sound(got: Got) -> bool:  # noqa: ARG004 (an etag tells nothing)
        """Say that an etag tells nothing of the bytes."""
        return False

    def delete_many(self, names: Sequence[str], *, timeout: float) -> list[PortableError | None]:
        """Delete blobs in one request."""
        return self.calls.delete_many(names, timeout=timeout)

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
        listing = BlobListing(self.clients.container, size=limit, timeout=timeout)
        return listing.pages(prefix, delimiter, start_after, cursor)

    def is_same(self, origin: Binding[Any]) -> bool:
        """Say whether a container is in this account, and the same credentials serve both."""
        own, other = self._binding.options, origin.options
        same = all(getattr(own, field) == getattr(other, field) for field in _IDENTITY)
        return same and self.clients.account == BlobClients(origin).account

    def copy(self, source: str, target: str, origin: Binding[Any] | None, *, timeout: float) -> ObjectInfo:
        """Copy a blob, and wait until it is done."""
        container = self._binding.name if origin is None else origin.name
        blob = self.clients.service.get_blob_client(container, source)
        found: Any = self.calls.call(blob.get_blob_properties, **within(timeout))
        self.calls.copy(blob, target, unquoted(found.etag), timeout=timeout)
        return self.calls.head(target, timeout=timeout).info

    def sign(
        self, name: str, method: str, seconds: int, content_type: str | None, *, key: str | None, timeout: float
    ) -> SignedRequest:
        """Make a request that anybody may send for a while: by the account's key, or in an identity's name."""
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        signature = generate_blob_sas(
            self.clients.account,
            self._binding.name,
            name,
            permission=_PERMISSIONS[method],
            expiry=until,
            **self._signer(until, seconds, timeout),
        )
        headers: dict[str, str] = {}
        if method == "PUT":
            told = PACKING.pack({}, key=key)
            headers = {"x-ms-blob-type": "BlockBlob", "x-ms-blob-content-type": content_type or NO_TYPE}
            headers |= {f"x-ms-meta-{each}": value for each, value in told.items()}
        place = self._binding.options.public_endpoint or self.clients.url
        url = f"{place.rstrip('/')}/{self._binding.name}/{quote(name, safe='/~')}?{signature}"
        return SignedRequest(url, method, headers, until)

    def _signer(self, until: datetime, seconds: int, timeout: float) -> dict[str, Any]:
        key = self.clients.account_key
        if key is not None:
            return {"account_key": key}
        if not self.clients.is_identity:
            raise Unsupported("a SAS token cannot sign requests; sign in with an identity, or set account_key")
        if seconds > _LONGEST_DELEGATED:
            raise LimitExceeded(f"what an identity signs lasts 7 days at most, not {seconds} seconds")
        return {"user_delegation_key": self.clients.delegated(until, timeout=timeout)}
