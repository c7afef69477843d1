"""Buckets in Google Cloud Storage.

Vendor pages: cloud.google.com/storage/docs/json_api/v1, …/request-preconditions, …/composing-objects,
…/data-validation, …/access-control/signed-urls.
`docs/wire-formats/gcp.md` says how objects are stored.
"""

from __future__ import annotations

import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from zlib import crc32

import google_crc32c
import msgspec
from google.cloud.storage import Client

from portable.batches import Page
from portable.bindings import Binding
from portable.capabilities import BucketCapabilities
from portable.changes import Change
from portable.checksums import crc32_of
from portable.errors import (
    Closed,
    ConfigError,
    IntegrityError,
    LimitExceeded,
    NotFound,
    PortableError,
    ResourceNotFound,
)
from portable.object_listing import beginning, paged
from portable.objects import Condition, ObjectHeaders, ObjectInfo, Part, Prefix, SignedRequest
from portable_gcp.gcs_calls import GcsCalls
from portable_gcp.gcs_clients import GcsClients
from portable_gcp.gcs_errors import FAILURES, Attempt, is_refusal, placed, raised, translated, unmet
from portable_gcp.gcs_listing import GcsListing
from portable_gcp.gcs_names import NO_TYPE, PACKING, name_of
from portable_gcp.gcs_puts import GcsPuts
from portable_gcp.gcs_uploads import GcsUploads
from portable_gcp.options import BucketOptions
from portable_objectstore.hidden_keys import is_long
from portable_objectstore.plane import DataPlane, FailedError, Got

__all__ = ["GcsBucket"]

T = TypeVar("T")

_TIB = 1024**4
_GENERATION = re.compile(r"[1-9][0-9]{0,18}")
_LONGEST_SIGNED = 7 * 86400
# Within this an object goes up by a request of our own; beyond, the vendor's client costs little beside the bytes.
_SMALL = 256 * 1024


class GcsBucket:
    """A bucket: `obstore` reads and deletes, requests of our own write what is small, google-cloud-storage all else.

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
        self._binding = binding
        self._clients = GcsClients(binding)
        self._calls = GcsCalls(self._clients)
        self._uploads = GcsUploads(self._calls)
        self._puts: GcsPuts | None = None
        self._usual = float(binding.contract.timeout)
        self._plane: DataPlane | None = None
        self._is_open = False

    @property
    def native(self) -> Client:
        """The vendor's client."""
        return self._clients.client

    def open(self) -> None:
        """Find the bucket, or make it where that is ours to do.

        Raises:
            ResourceNotFound: there is none, and it is not ours to make.
        """
        if self.plan():
            if not self._binding.create:
                raise ResourceNotFound(
                    f"there is no bucket {self._binding.name!r}; make it with: portable resources create, or bind it "
                    'with create = "if_missing"'
                )
            self.create()
        stores = self._clients.stores()
        self._plane = None if stores is None else DataPlane(stores, no_type=NO_TYPE, packing=PACKING, versions=True)
        if self._binding.options.engine != "google-cloud-storage":
            self._puts = GcsPuts(self._clients, self._binding.name)
        self._is_open = True

    def close(self) -> None:
        """Close every connection."""
        self._is_open = False
        if self._plane is not None:
            self._plane.close()
        if self._puts is not None:
            self._puts.close()
        self._clients.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """List, and where asked write and delete, one object."""
        with Attempt(self._binding.name):
            next(self._calls.answers(timeout=timeout, page_size=1), None)
        if write:
            key = f".portable/check-{uuid.uuid4().hex}"
            self.put(key, b"", ObjectHeaders(), None, timeout=timeout)
            self.delete(key, None, timeout=timeout)

    def plan(self) -> list[Change]:
        """Say whether the bucket is to be made."""
        try:
            self._calls.call(self._clients.bucket.reload, timeout=self._usual)
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
        if self._clients.client.project is None:
            raise ConfigError("a bucket is made in a project; write gs://PROJECT/NAME, or project=")
        try:
            self._calls.call(self._clients.bucket.create, location=self._binding.options.location, timeout=self._usual)
        except FailedError as error:
            if error.failure.status != 409 or self.plan():
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
        told = key if is_long(name) else None
        put = self._calls.put if self._puts is None or len(data) > _SMALL else self._puts.put

        def write(left: float) -> ObjectInfo:
            return put(name, data, headers, condition, timeout=left, key=told)

        return msgspec.structs.replace(self._settled(key, condition, write, timeout), key=key)

    def get(self, key: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> bytes:
        """Read a range of an object, and check it where it is the whole."""
        condition = None if etag is None else Condition(etag=etag)
        _check_condition(key, condition)
        name = self._name(key)
        if length == 0:
            return self._nothing(key, etag, timeout)
        try:
            if self._plane is None or not self._plane.carries(name):
                return self._calls.get(name, offset, length, etag, timeout=timeout)
            got = self._plane.get(name, offset, length, etag, timeout=timeout)
        except FailedError as error:
            if error.failure.status == 416:
                # There is an object, and nothing behind the offset; an empty one has no range at all.
                return b""
            raise placed(error, key, condition) from error.__cause__
        if offset == 0 and len(got.data) == got.size:
            self._verify(key, name, got, timeout)
        return got.data

    def head(self, key: str, *, timeout: float) -> ObjectInfo:
        """Describe an object."""
        name = self._name(key)
        with Attempt(key):
            if self._plane is not None and self._plane.carries(name):
                info = self._plane.head(name, timeout=timeout)
            else:
                info, _ = self._calls.head(name, timeout=timeout)
        return info if name == key else msgspec.structs.replace(info, key=key)

    def delete(self, key: str, etag: str | None, *, timeout: float) -> None:
        """Delete an object."""
        name = self._name(key)
        if etag is None:
            with Attempt(key):
                self._delete(name, timeout)
            return
        condition = Condition(etag=etag)
        _check_condition(key, condition)
        self._settled(key, condition, lambda left: self._calls.delete(name, etag, timeout=left), timeout)

    def delete_many(self, keys: Sequence[str], *, timeout: float) -> list[PortableError | None]:
        """Delete objects."""
        names = [self._name(key) for key in keys]
        return self._calls.delete_many(names, lambda name: self._delete(name, timeout))

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
        after = beginning(start_after, cursor)
        # With one more item than the page holds, one request tells whether there are others.
        listing = GcsListing(self._calls, size=min(1000, limit + 1), timeout=timeout)
        with Attempt(self._binding.name):
            yield from paged(listing.items(prefix, delimiter, after), min(limit, 999))

    def copy(self, source: str, target: str, origin: Binding[Any] | None, *, timeout: float) -> ObjectInfo | None:
        """Copy an object within the service."""
        from_name, to_name = self._name(source), self._name(target)
        if is_long(from_name) or is_long(to_name) or not self._is_same_service(origin):
            return None
        bucket = self._clients.bucket if origin is None else self._clients.client.bucket(origin.name)
        with Attempt(source):
            blob = bucket.blob(from_name)
            self._calls.call(blob.reload, timeout=timeout)
            return msgspec.structs.replace(self._calls.copy(blob, to_name, timeout=timeout), key=target)

    def sign(self, key: str, method: str, expires: float, content_type: str | None, *, timeout: float) -> SignedRequest:  # noqa: ARG002 (what is sent has its own limit)
        """Make a request that anybody may send for a while, by a key at hand or the IAM API."""
        if expires > _LONGEST_SIGNED:
            raise LimitExceeded(f"a signed request lasts 7 days at most, not {expires:g} seconds")
        name = self._name(key)
        lasting = timedelta(seconds=max(1, int(expires)))
        until = datetime.now(UTC) + lasting
        headers: dict[str, str] = {}
        if method == "PUT":
            told = key if is_long(name) else None
            headers = {f"x-goog-meta-{each}": value for each, value in PACKING.pack({}, key=told).items()}
            if content_type is not None:
                headers["content-type"] = content_type
        try:
            url = self._clients.bucket.blob(name).generate_signed_url(
                version="v4",
                expiration=lasting,
                method=method,
                headers=dict(headers),
                api_access_endpoint=self._binding.options.public_endpoint or self._clients.address,
                **self._clients.signer(),
            )
        except FAILURES as error:
            raise placed(ours, key, None) if isinstance(ours := raised(error), FailedError) else ours from error
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
            return self._uploads.write(upload, number, offset, data, timeout=timeout)

    def kept_parts(self, key: str, upload: str, parts: Sequence[Part], *, timeout: float) -> list[Part]:
        """Say which parts are there."""
        with Attempt(key):
            return self._uploads.kept(upload, parts, timeout=timeout)

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

    def abort_upload(self, key: str, upload: str, *, timeout: float) -> None:  # noqa: ARG002 (its parts tell where they are)
        """Delete the parts of an upload."""
        self._uploads.drop(upload, timeout=timeout)

    def _name(self, key: str) -> str:
        if not self._is_open:
            raise Closed("the bucket is not open")
        return name_of(key)

    def _is_same_service(self, origin: Binding[Any] | None) -> bool:
        own = self._binding.options
        return origin is None or (own.endpoint, own.credentials) == (
            origin.options.endpoint,
            origin.options.credentials,
        )

    def _delete(self, name: str, timeout: float) -> None:
        if self._plane is not None and self._plane.carries(name):
            self._plane.delete(name, timeout=timeout)
        else:
            self._calls.delete(name, None, timeout=timeout)

    def _nothing(self, key: str, etag: str | None, timeout: float) -> bytes:
        """Read nothing of an object, which has to be there all the same."""
        try:
            found = self.head(key, timeout=timeout).etag
        except NotFound as error:
            if etag is None or isinstance(error, ResourceNotFound):
                raise
            raise unmet(key) from error
        if etag is not None and found != etag:
            raise unmet(key)
        return b""

    def _verify(self, key: str, name: str, got: Got, timeout: float) -> None:
        """Check a whole object: by our CRC-32, or what another program wrote by the service's CRC32C.

        Raises:
            IntegrityError: it is not what was stored.
        """
        crc = crc32_of(got.checksum)
        if crc is not None:
            if crc32(got.data) != crc:
                raise IntegrityError(f"what came of {key!r} does not have the CRC-32 that was stored, {crc:08x}")
            return
        try:
            found, crc32c = self._calls.head(name, timeout=timeout)
        except FailedError:
            # Gone meanwhile, and with it what it could be checked by.
            return
        if crc32c is not None and found.etag == got.etag and google_crc32c.value(got.data) != crc32c:
            raise IntegrityError(f"what came of {key!r} does not have the CRC32C that was stored, {crc32c:08x}")

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


def _check_condition(key: str, condition: Condition | None) -> None:
    """Refuse what is no generation of any object."""
    if condition is not None and condition.etag is not None and not _GENERATION.fullmatch(condition.etag):
        raise unmet(key)
