"""Buckets on Amazon S3, and on servers that speak its protocol.

Vendor pages: docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html,
…/userguide/checking-object-integrity.html, …/userguide/conditional-writes.html, …/userguide/object-keys.html.
`docs/wire-formats/s3.md` says how objects are stored.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from portable.batches import Page
from portable.bindings import Binding
from portable.capabilities import BucketCapabilities
from portable.changes import Change
from portable.errors import Closed, ConfigError, LimitExceeded, PortableError
from portable.object_listing import beginning, paged
from portable.objects import ObjectHeaders, ObjectInfo, Prefix, SignedRequest
from portable_aws.clients import Clients
from portable_aws.errors import is_refusal, translated
from portable_aws.names import Names
from portable_aws.options import S3Options
from portable_aws.s3_calls import MD5, S3Calls
from portable_aws.s3_listing import S3Listing
from portable_aws.s3_plane import S3Plane
from portable_aws.s3_uploads import S3Uploads, copy_in_parts
from portable_objectstore.attempts import Attempts
from portable_objectstore.bucket import ObjectStoreBucket
from portable_objectstore.descriptions import Got, unquoted
from portable_objectstore.failures import FailedError
from portable_objectstore.metadata import PLAIN

__all__ = ["S3Bucket"]

_GIB = 1024**3
_LONGEST_SIGNED = 7 * 86400
_OPERATIONS = {"GET": "get_object", "HEAD": "head_object", "PUT": "put_object", "DELETE": "delete_object"}
_ENCRYPTION = {
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
}


class S3Bucket(ObjectStoreBucket):
    """A bucket on S3: `obstore` for the calls that it serves as boto3 would, boto3 for all others."""

    Options = S3Options

    capabilities = BucketCapabilities(
        durability="replicated",
        sign=True,
        server_side_copy=True,
        max_object_bytes=5 * 1024 * _GIB,
        # The least that S3 takes, so that some of them at once are little memory.
        part_bytes=5 * 1024 * 1024,
        part_concurrency=4,
        max_parts=10_000,
        max_delete_batch=1000,
    )

    def __init__(self, binding: Binding[S3Options]) -> None:
        """Take the options, without any I/O."""
        self._s3 = S3Service(binding)
        super().__init__(binding, self._s3)

    @property
    def native(self) -> Any:
        """The client of boto3."""
        return self._s3.clients.usual


class S3Service:
    """A bucket by boto3."""

    etags = re.compile(r"[\x21\x23-\x7e]+")

    def __init__(self, binding: Binding[S3Options]) -> None:
        """Take the options, without any I/O."""
        self._binding = binding
        self._bucket = binding.name
        self._usual = float(binding.contract.timeout)
        self._server: str | None = None
        self._names: Names | None = None
        self._plane: S3Plane | None = None
        self.clients = Clients(binding)
        self.calls = S3Calls(self.clients, self._bucket, binding.options)
        self.uploads = S3Uploads(self.calls, checksums=binding.options.checksums)
        self.attempts = Attempts(translated, is_refusal=is_refusal, retries=binding.contract.retries)
        # What one request copies, and how much a part is where there is more.
        self.whole_copy_bytes = 5 * _GIB
        self.copy_part_bytes = _GIB

    def plan(self) -> list[Change]:
        """Say whether the bucket is to be made."""
        self._server = self._found()
        return [] if self._server is not None else [Change("create", "bucket", self._bucket)]

    def create(self) -> None:
        """Make the bucket where there is none."""
        region = self.clients.usual.meta.region_name
        where: dict[str, Any] = (
            {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        )
        try:
            self.calls.call("create_bucket", timeout=self._usual, **where)
        except FailedError as error:
            ours = error.failure.code == "BucketAlreadyOwnedByYou" or error.failure.status == 409
            if not (ours and self._found() is not None):
                raise translated(error.failure) from error.__cause__

    def names(self) -> Names:
        """Say how objects are named, which is the server's to say where the options do not."""
        wanted = self._binding.options.keys
        server = self._found() if self._server is None else self._server
        self._names = Names(folders="seaweedfs" in (server or "").lower() if wanted == "auto" else wanted == "folders")
        return self._names

    def fast(self) -> tuple[S3Plane | None, S3Plane | None]:
        """Give `obstore` for reading and writing."""
        stores = self.clients.stores()
        self._plane = None if stores is None else S3Plane(stores, self.calls)
        return self._plane, self._plane

    def close(self) -> None:
        """Close every connection."""
        if self._plane is not None:
            self._plane.close()
        self.clients.close()

    def probe(self, *, timeout: float) -> None:
        """List one object."""
        self.calls.call("list_objects_v2", MaxKeys=1, timeout=timeout)

    def is_sound(self, got: Got) -> bool:
        """Say whether the etag is the MD5 of the bytes."""
        if self.calls.opaque_etags or MD5.fullmatch(got.etag) is None:
            return False
        return hashlib.md5(got.data, usedforsecurity=False).hexdigest() == got.etag

    def delete_many(self, names: Sequence[str], *, timeout: float) -> list[PortableError | None]:
        """Delete objects in one request."""
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
        if self._names is None:
            raise Closed("the bucket is not open")
        after = beginning(start_after, cursor)
        # With one more item than the page holds, one request tells whether there are others.
        listing = S3Listing(
            self.calls,
            self._names,
            size=min(1000, limit + 1),
            timeout=timeout,
            key_of=lambda name: self._long_key(name, timeout),
        )
        return paged(listing.items(prefix, delimiter, after), min(limit, 999))

    def is_same(self, origin: Binding[Any]) -> bool:
        """Say whether a bucket is at this server, and the same credentials serve both."""
        own, other = self._binding.options, origin.options
        return (
            all(getattr(own, field) == getattr(other, field) for field in ("endpoint", "region", "keys"))
            and own.identity() == other.identity()
        )

    def copy(self, source: str, target: str, origin: Binding[Any] | None, *, timeout: float) -> ObjectInfo:
        """Copy an object, in parts where it is large."""
        bucket = self._bucket if origin is None else origin.name
        reader = self.calls if origin is None else S3Calls(self.clients, bucket, self._binding.options)
        place = {"Bucket": bucket, "Key": source}
        found = reader.head(source, timeout=timeout).info
        if found.size > self.whole_copy_bytes:
            headers = ObjectHeaders(**{name: getattr(found, name) for name in ObjectHeaders.__struct_fields__})
            etag = copy_in_parts(
                self.calls,
                place,
                found.etag,
                found.size,
                target=target,
                headers=headers,
                part_bytes=self.copy_part_bytes,
                timeout=timeout,
            )
            return msgspec.structs.replace(self.calls.head(target, timeout=timeout).info, etag=etag)
        answer = self.calls.call(
            "copy_object",
            Key=target,
            CopySource=place,
            CopySourceIfMatch=f'"{found.etag}"',
            timeout=timeout,
            **dict[str, Any](self.calls.encryption),
        )["CopyObjectResult"]
        return msgspec.structs.replace(
            found, key=target, etag=unquoted(answer["ETag"]), modified=answer["LastModified"].astimezone(UTC)
        )

    def sign(
        self,
        name: str,
        method: str,
        seconds: int,
        content_type: str | None,
        *,
        key: str | None,
        timeout: float,  # noqa: ARG002 (nothing is sent)
    ) -> SignedRequest:
        """Make a request that anybody may send for a while."""
        if seconds > _LONGEST_SIGNED:
            raise LimitExceeded(f"a signed request of S3 lasts 7 days at most, not {seconds} seconds")
        arguments: dict[str, Any] = {"Bucket": self._bucket, "Key": name}
        headers: dict[str, str] = {}
        if method == "PUT":
            if content_type is not None:
                arguments["ContentType"] = headers["content-type"] = content_type
            headers |= self._sent_with(arguments, key)
        url = self.calls.signed(_OPERATIONS[method], arguments, seconds)
        return SignedRequest(url, method, headers, datetime.now(UTC) + timedelta(seconds=seconds))

    def _sent_with(self, arguments: dict[str, Any], key: str | None) -> dict[str, str]:
        """Add what goes with every object that is written, and give the headers that say so."""
        headers: dict[str, str] = {}
        for argument, header in _ENCRYPTION.items():
            if argument in self.calls.encryption:
                arguments[argument] = headers[header] = self.calls.encryption[argument]
        if key is not None:
            metadata = PLAIN.pack({}, key=key)
            arguments["Metadata"] = metadata
            headers |= {f"x-amz-meta-{name}": value for name, value in metadata.items()}
        return headers

    def _found(self) -> str | None:
        """Say what the server calls itself, or None where it has no such bucket."""
        try:
            answer = self.calls.call("head_bucket", timeout=self._usual)
        except FailedError as error:
            failure = error.failure
            if failure.status == 404:
                return None
            if failure.status == 301:
                raise ConfigError(f"the bucket {self._bucket!r} is in another region; set region=") from error
            if failure.status != 403:
                raise translated(failure) from error.__cause__
            # Who may read and write objects need not be allowed to look at the bucket.
            answer = getattr(error.__cause__, "response", {})
        headers: dict[str, str] = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        return headers.get("server", "")

    def _long_key(self, name: str, timeout: float) -> str | None:
        try:
            return self.calls.head(name, timeout=timeout).key
        except FailedError as error:
            if error.failure.status == 404:
                return None
            raise
