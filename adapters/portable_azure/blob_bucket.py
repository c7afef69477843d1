"""Buckets in Azure Blob Storage, as block blobs.

Vendor pages: learn.microsoft.com/rest/api/storageservices/blob-service-rest-api,
…/specifying-conditional-headers-for-blob-service-operations, …/create-user-delegation-sas.
`docs/wire-formats/azure.md` says how objects are stored.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote
from zlib import crc32

import msgspec
from azure.storage.blob import BlobSasPermissions, BlobServiceClient, generate_blob_sas

from portable.batches import Page
from portable.bindings import Binding
from portable.capabilities import BucketCapabilities
from portable.changes import Change
from portable.checksums import crc32_of, named
from portable.errors import (
    Closed,
    IntegrityError,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    PortableError,
    PreconditionFailed,
    ResourceNotFound,
    Unsupported,
)
from portable.objects import Condition, ObjectHeaders, ObjectInfo, Part, Prefix, SignedRequest
from portable_azure.blob_calls import NO_TYPE, BlobCalls
from portable_azure.blob_clients import BlobClients, within
from portable_azure.blob_errors import Attempt, is_refusal, placed, translated, unmet
from portable_azure.blob_listing import BlobListing
from portable_azure.blob_names import PACKING, name_of, other_name
from portable_azure.blob_uploads import BlobUploads
from portable_azure.options import BlobOptions
from portable_objectstore.hidden_keys import is_long
from portable_objectstore.plane import DataPlane, FailedError, Got

__all__ = ["BlobBucket"]

T = TypeVar("T")

_MIB = 1024**2
# Within this an object goes up in one piece by obstore, which tells the service no checksum of its own.
_SMALL = 256 * 1024
_NO_ETAG = re.compile(r'[^\x21-\x7e]|"')
_LONGEST_DELEGATED = 7 * 86400
_PERMISSIONS = {
    "GET": BlobSasPermissions(read=True),
    "HEAD": BlobSasPermissions(read=True),
    "PUT": BlobSasPermissions(create=True, write=True),
    "DELETE": BlobSasPermissions(delete=True),
}


class BlobBucket:
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
        self._binding = binding
        self._clients = BlobClients(binding)
        self._calls = BlobCalls(self._clients)
        self._uploads = BlobUploads(self._calls)
        self._usual = float(binding.contract.timeout)
        self._plane: DataPlane | None = None
        self._is_open = False

    @property
    def native(self) -> BlobServiceClient:
        """The client of the account."""
        return self._clients.service

    def open(self) -> None:
        """Find the container, or make it where that is ours to do.

        Raises:
            ResourceNotFound: there is none, and it is not ours to make.
        """
        self._is_open = True
        if self.plan():
            if not self._binding.create:
                raise ResourceNotFound(
                    f"there is no container {self._binding.name!r}; make it with: portable resources create, or bind "
                    'it with create = "if_missing"'
                )
            self.create()
        stores = self._clients.stores()
        self._plane = None if stores is None else DataPlane(stores, no_type=NO_TYPE, packing=PACKING)

    def close(self) -> None:
        """Close every connection."""
        self._is_open = False
        if self._plane is not None:
            self._plane.close()
        self._clients.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """List, and where asked write and delete, one object."""
        with Attempt(self._binding.name):
            pages = self._clients.container.list_blobs(results_per_page=1, **within(timeout)).by_page()
            self._calls.call(lambda: next(pages, None))
        if write:
            key = f".portable/check-{uuid.uuid4().hex}"
            self.put(key, b"", ObjectHeaders(), None, timeout=timeout)
            self.delete(key, None, timeout=timeout)

    def plan(self) -> list[Change]:
        """Say whether the container is to be made."""
        try:
            self._calls.call(self._clients.container.get_container_properties, **within(self._usual))
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
            self._calls.call(self._clients.container.create_container, **within(self._usual))
        except FailedError as error:
            if error.failure.code != "ContainerAlreadyExists":
                raise translated(error.failure) from error.__cause__

    def put(
        self,
        key: str,
        data: bytes | memoryview,
        headers: ObjectHeaders,
        condition: Condition | None,
        *,
        timeout: float,
    ) -> ObjectInfo:
        """Write an object."""
        name = self._name(key)
        _check_condition(key, condition)
        plane = self._plane
        if plane is None or len(data) > _SMALL or not plane.carries(name) or is_long(name):
            told = key if is_long(name) else None

            def write(left: float) -> ObjectInfo:
                return self._calls.put(name, data, headers, condition, timeout=left, key=told)

            return msgspec.structs.replace(self._settled(key, condition, write, timeout), key=key)
        fast, crc = plane, crc32(data)

        def write_fast(left: float) -> str:
            return fast.put(name, data, headers, condition, timeout=left, crc=crc)

        etag = self._settled(key, condition, write_fast, timeout)
        # The answer's date does not come through obstore; the server's clock may differ from this one.
        written = datetime.now(UTC).replace(microsecond=0)
        fields = {field: getattr(headers, field) for field in ObjectHeaders.__struct_fields__}
        return ObjectInfo(key, len(data), etag, written, checksum=named(crc), **fields)

    def get(self, key: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> bytes:
        """Read a range of an object, and check it where it is the whole."""
        if etag is not None:
            _check_condition(key, Condition(etag=etag))
        if length == 0:
            return self._nothing(key, etag, timeout)
        return self._either(key, lambda name: self._get(key, name, offset, length, etag, timeout=timeout))

    def head(self, key: str, *, timeout: float) -> ObjectInfo:
        """Describe an object."""
        return self._either(key, lambda name: self._head(key, name, timeout))

    def delete(self, key: str, etag: str | None, *, timeout: float) -> None:
        """Delete an object."""
        name = self._name(key)
        if etag is None:
            with Attempt(key):
                for each in filter(None, (name, other_name(key))):
                    if self._plane is not None and self._plane.carries(each):
                        self._plane.delete(each, timeout=timeout)
                    else:
                        self._calls.delete(each, None, timeout=timeout)
            return
        condition = Condition(etag=etag)
        _check_condition(key, condition)
        self._settled(key, condition, lambda left: self._calls.delete(name, etag, timeout=left), timeout)

    def delete_many(self, keys: Sequence[str], *, timeout: float) -> list[PortableError | None]:
        """Delete objects."""
        with Attempt(self._binding.name):
            results = self._calls.delete_many([self._name(key) for key in keys], timeout=timeout)
            others = {number: other for number, key in enumerate(keys) if (other := other_name(key))}
            more = self._calls.delete_many(list(others.values()), timeout=timeout)
            for number, error in zip(others, more, strict=True):
                results[number] = results[number] or error
            return results

    def list_pages(
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
        self._name("a")
        listing = BlobListing(self._clients.container, size=limit, timeout=timeout)
        with Attempt(self._binding.name):
            yield from listing.pages(prefix, delimiter, start_after, cursor)

    def copy(self, source: str, target: str, origin: Binding[Any] | None, *, timeout: float) -> ObjectInfo | None:
        """Copy an object within the account."""
        from_name, to_name = self._name(source), self._name(target)
        if is_long(from_name) or is_long(to_name) or not self._is_same_account(origin):
            return None
        service = self._clients.service
        container = self._binding.name if origin is None else origin.name
        with Attempt(source):
            blob = service.get_blob_client(container, from_name)
            found: Any = self._calls.call(blob.get_blob_properties, **within(timeout))
            self._calls.copy(blob, to_name, found.etag.strip('"'), timeout=timeout)
            return msgspec.structs.replace(self._calls.head(to_name, timeout=timeout)[0], key=target)

    def sign(self, key: str, method: str, expires: float, content_type: str | None, *, timeout: float) -> SignedRequest:
        """Make a request that anybody may send for a while: by the account's key, or in an identity's name."""
        name = self._name(key)
        seconds = max(1, int(expires))
        until = datetime.now(UTC) + timedelta(seconds=seconds)
        signature = generate_blob_sas(
            self._clients.account,
            self._binding.name,
            name,
            permission=_PERMISSIONS[method],
            expiry=until,
            **self._signer(until, expires, timeout),
        )
        headers: dict[str, str] = {}
        if method == "PUT":
            headers = {"x-ms-blob-type": "BlockBlob", "x-ms-blob-content-type": content_type or NO_TYPE}
            if is_long(name):
                headers |= {f"x-ms-meta-{name}": value for name, value in PACKING.pack({}, key=key).items()}
        place = self._binding.options.public_endpoint or self._clients.url
        url = f"{place.rstrip('/')}/{self._binding.name}/{quote(name, safe='/~')}?{signature}"
        return SignedRequest(url, method, headers, until)

    def begin_upload(self, key: str, headers: ObjectHeaders, *, timeout: float) -> str:  # noqa: ARG002 (nothing is sent)
        """Begin an upload: the service hears of it with the first part."""
        self._name(key)
        return self._uploads.begin()

    def write_part(
        self, key: str, upload: str, number: int, offset: int, data: bytes | memoryview, *, timeout: float
    ) -> Part:
        """Write one part."""
        with Attempt(key):
            return self._uploads.write(self._name(key), upload, number, offset, data, timeout=timeout)

    def kept_parts(self, key: str, upload: str, parts: Sequence[Part], *, timeout: float) -> list[Part]:
        """Say which parts are there."""
        with Attempt(key):
            return self._uploads.kept(self._name(key), upload, parts, timeout=timeout)

    def commit_upload(
        self,
        key: str,
        upload: str,
        parts: Sequence[Part],
        headers: ObjectHeaders,
        condition: Condition | None,
        *,
        timeout: float,
    ) -> ObjectInfo:
        """Make the parts the object."""
        name = self._name(key)
        _check_condition(key, condition)
        told = key if is_long(name) else None

        def commit(left: float) -> ObjectInfo:
            return self._uploads.commit(name, upload, parts, headers, condition, key=told, timeout=left)

        return msgspec.structs.replace(self._settled(key, condition, commit, timeout), key=key)

    def abort_upload(self, key: str, upload: str, *, timeout: float) -> None:
        """Leave the parts to the service, which drops them after a week, or when the object is written."""

    def _name(self, key: str) -> str:
        if not self._is_open:
            raise Closed("the bucket is not open")
        return name_of(key)

    def _signer(self, until: datetime, expires: float, timeout: float) -> dict[str, Any]:
        key = self._clients.account_key
        if key is not None:
            return {"account_key": key}
        if not self._clients.is_identity:
            raise Unsupported("a SAS token cannot sign requests; sign in with an identity, or set account_key")
        if expires > _LONGEST_DELEGATED:
            raise LimitExceeded(f"what an identity signs lasts 7 days at most, not {expires:g} seconds")
        return {"user_delegation_key": self._clients.delegated(until, timeout=timeout)}

    def _is_same_account(self, origin: Binding[Any] | None) -> bool:
        if origin is None:
            return True
        own, other = self._binding, origin
        same = all(getattr(own.options, field) == getattr(other.options, field) for field in _IDENTITY)
        return same and self._clients.account == BlobClients(other).account

    def _get(self, key: str, name: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> bytes:
        try:
            if self._plane is not None and self._plane.carries(name):
                got = self._plane.get(name, offset, length, etag, timeout=timeout)
            else:
                got = self._calls.get(name, offset, length, etag, timeout=timeout)
        except FailedError as error:
            if error.failure.code == "InvalidRange" or error.failure.status == 416:
                # There is an object, and nothing behind the offset; an empty one has no range at all.
                return b""
            raise placed(error, key, Condition(etag=etag) if etag is not None else None) from error.__cause__
        if offset == 0 and len(got.data) == got.size:
            self._verify(key, name, got, timeout)
        return got.data

    def _head(self, key: str, name: str, timeout: float) -> ObjectInfo:
        with Attempt(key):
            if self._plane is not None and self._plane.carries(name):
                info = self._plane.head(name, timeout=timeout)
            else:
                info, _ = self._calls.head(name, timeout=timeout)
        return info if name == key else msgspec.structs.replace(info, key=key)

    def _either(self, key: str, read: Callable[[str], T]) -> T:
        """Read our object of a key, or where there is none the one that another program keeps under a plain name."""
        name = self._name(key)
        other = None if name == key else other_name(key)
        if other is None:
            return read(name)
        try:
            return read(name)
        except (NotFound, PreconditionFailed) as error:
            if isinstance(error, ResourceNotFound):
                raise
            try:
                return read(other)
            except NotFound:
                raise error from None

    def _nothing(self, key: str, etag: str | None, timeout: float) -> bytes:
        """Read nothing of an object, which has to be there all the same."""
        try:
            found = self.head(key, timeout=timeout).etag
        except NotFound as error:
            if etag is None:
                raise
            raise unmet(key) from error
        if etag is not None and found != etag:
            raise unmet(key)
        return b""

    def _verify(self, key: str, name: str, got: Got, timeout: float) -> None:
        """Check a whole object: by our CRC-32, or what another program wrote by the service's MD5, where there is one.

        Raises:
            IntegrityError: it is not what was stored.
        """
        crc = crc32_of(got.checksum)
        if crc is not None:
            if crc32(got.data) != crc:
                raise IntegrityError(f"what came of {key!r} does not have the CRC-32 that was stored, {crc:08x}")
            return
        try:
            found, digest = self._calls.head(name, timeout=timeout)
        except FailedError:
            # Gone meanwhile, and with it what it could be checked by.
            return
        if digest is None or found.etag != got.etag:
            return
        if hashlib.md5(got.data, usedforsecurity=False).digest() != digest:
            raise IntegrityError(f"what came of {key!r} does not have the MD5 that was stored, {digest.hex()}")

    def _settled(self, key: str, condition: Condition | None, call: Callable[[float], T], timeout: float) -> T:
        """Make a write; one with a condition again only where the server said that it did nothing."""
        until = time.monotonic() + timeout
        for attempt in range(self._binding.contract.retries + 1):
            left = timeout if attempt == 0 else until - time.monotonic()
            try:
                return call(left)
            except FailedError as error:
                pause = random.uniform(0.0, 0.05 * 2**attempt)  # noqa: S311 (spreads attempts, guards nothing)
                again = condition is not None and is_refusal(error.failure) and attempt < self._binding.contract.retries
                if not again or time.monotonic() + pause >= until:
                    raise placed(error, key, condition) from error.__cause__
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")


_IDENTITY = ("endpoint", "account_key", "credentials")


def _check_condition(key: str, condition: Condition | None) -> None:
    """Refuse what is no etag of any object, and cannot be sent as one."""
    if condition is not None and condition.etag is not None and (not condition.etag or _NO_ETAG.search(condition.etag)):
        raise unmet(key)
