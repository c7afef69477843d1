"""Buckets on Amazon S3, and on servers that speak its protocol.

Vendor pages: docs.aws.amazon.com/AmazonS3/latest/API/API_Operations_Amazon_Simple_Storage_Service.html,
…/userguide/checking-object-integrity.html, …/userguide/conditional-writes.html, …/userguide/object-keys.html.
`docs/wire-formats/s3.md` says how objects are stored.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, TypeVar
from zlib import crc32

import msgspec

from portable.batches import Page
from portable.bindings import Binding
from portable.capabilities import BucketCapabilities
from portable.changes import Change
from portable.checksums import crc32_of
from portable.errors import (
    AlreadyExists,
    Closed,
    ConfigError,
    IntegrityError,
    LimitExceeded,
    NotFound,
    PortableError,
    PreconditionFailed,
    ResourceNotFound,
)
from portable.object_listing import beginning, paged
from portable.objects import Condition, ObjectHeaders, ObjectInfo, Part, Prefix, SignedRequest
from portable_aws.clients import Clients
from portable_aws.errors import is_refusal, translated
from portable_aws.names import Names
from portable_aws.options import S3Options
from portable_aws.s3_calls import NO_TYPE, S3Calls
from portable_aws.s3_listing import S3Listing
from portable_aws.s3_uploads import S3Uploads, copy_in_parts
from portable_objectstore.hidden_keys import is_long
from portable_objectstore.metadata import key_metadata
from portable_objectstore.plane import DataPlane, FailedError, Got, unquoted

__all__ = ["S3Bucket"]

T = TypeVar("T")

_GIB = 1024**3
# Within this an object is read in one piece, and then its etag, its MD5, checks it; beyond, a CRC-32 does.
_SMALL = 256 * 1024
_MD5 = re.compile(r"[0-9a-f]{32}")
_NO_ETAG = re.compile(r'[^\x21-\x7e]|"')
_LONGEST_SIGNED = 7 * 86400
_OPERATIONS = {"GET": "get_object", "HEAD": "head_object", "PUT": "put_object", "DELETE": "delete_object"}


class S3Bucket:
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
        self._binding = binding
        self._bucket = binding.name
        self._clients = Clients(binding)
        self._calls = S3Calls(self._clients, self._bucket, binding.options)
        self._uploads = S3Uploads(self._calls, checksums=binding.options.checksums)
        self._plane: DataPlane | None = None
        self._names: Names | None = None
        self._opaque_etags = False
        # What one request copies, and how much a part is where there is more.
        self._whole_copy_bytes = 5 * _GIB
        self._copy_part_bytes = _GIB

    @property
    def native(self) -> Any:
        """The client of boto3."""
        return self._clients.usual

    def open(self) -> None:
        """Find the bucket, make it where that is ours to do, and see what the server is.

        Raises:
            ResourceNotFound: there is none, and it is not ours to make.
        """
        server = self._found(float(self._binding.contract.timeout))
        if server is None:
            if not self._binding.create:
                raise self._is_missing()
            self.create()
            server = self._found(float(self._binding.contract.timeout)) or ""
        wanted = self._binding.options.keys
        self._names = Names(folders="seaweedfs" in server.lower() if wanted == "auto" else wanted == "folders")
        stores = self._clients.stores()
        self._plane = None if stores is None else DataPlane(stores, no_type=NO_TYPE)

    def close(self) -> None:
        """Close every connection."""
        if self._plane is not None:
            self._plane.close()
        self._clients.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """List, and where asked write and delete, one object."""
        with _Attempt(self._bucket):
            self._calls.call("list_objects_v2", MaxKeys=1, timeout=timeout)
        if write:
            key = f".portable/check-{uuid.uuid4().hex}"
            self.put(key, b"", ObjectHeaders(), None, timeout=timeout)
            self.delete(key, None, timeout=timeout)

    def plan(self) -> list[Change]:
        """Say whether the bucket is to be made."""
        there = self._found(float(self._binding.contract.timeout)) is not None
        return [] if there else [Change("create", "bucket", self._bucket)]

    def create(self) -> None:
        """Make the bucket where there is none."""
        timeout = float(self._binding.contract.timeout)
        region = self._clients.usual.meta.region_name
        where: dict[str, Any] = (
            {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        )
        try:
            self._calls.call("create_bucket", timeout=timeout, **where)
        except FailedError as error:
            ours = error.failure.code == "BucketAlreadyOwnedByYou" or error.failure.status == 409
            if not (ours and self._found(timeout) is not None):
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
        fast = plane

        def write_fast(left: float) -> str:
            return fast.put(name, data, headers, condition, timeout=left)

        etag = self._settled(key, condition, write_fast, timeout)
        # The answer's date does not come through obstore; the server's clock may differ from this one.
        written = datetime.now(UTC).replace(microsecond=0)
        if headers.metadata or headers.content_type is not None:
            fields = {field: getattr(headers, field) for field in ObjectHeaders.__struct_fields__}
            return ObjectInfo(key, len(data), etag, written, **fields)
        return ObjectInfo(
            key,
            len(data),
            etag,
            written,
            cache_control=headers.cache_control,
            content_disposition=headers.content_disposition,
            content_encoding=headers.content_encoding,
            content_language=headers.content_language,
        )

    def get(self, key: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> bytes:
        """Read a range of an object, and check it where it is the whole."""
        if etag is not None:
            _check_condition(key, Condition(etag=etag))
        if length == 0:
            return self._nothing(key, etag, timeout)
        return self._either(key, lambda name: self._get(key, name, offset, length, etag, timeout=timeout))

    def _get(self, key: str, name: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> bytes:
        checksum: str | None = None
        try:
            if self._plane is not None and self._plane.carries(name) and not self._opaque_etags:
                got = self._plane.get(name, offset, length, etag, timeout=timeout)
            else:
                got, checksum = self._calls.get(name, offset, length, etag, timeout=timeout)
        except FailedError as error:
            if error.failure.code == "InvalidRange" or error.failure.status == 416:
                # There is an object, and nothing behind the offset; an empty one has no range at all.
                return b""
            raise _placed(error, key, Condition(etag=etag) if etag is not None else None) from error.__cause__
        if offset == 0 and len(got.data) == got.size:
            self._verify(key, name, got, checksum, timeout)
        return got.data

    def head(self, key: str, *, timeout: float) -> ObjectInfo:
        """Describe an object; of a large one with its checksum."""
        return self._either(key, lambda name: self._head(key, name, timeout))

    def _head(self, key: str, name: str, timeout: float) -> ObjectInfo:
        with _Attempt(key):
            if self._plane is not None and self._plane.carries(name):
                info = self._plane.head(name, timeout=timeout)
                if info.size <= _SMALL and _MD5.fullmatch(info.etag):
                    return info if name == key else msgspec.structs.replace(info, key=key)
            return msgspec.structs.replace(self._calls.head(name, timeout=timeout).info, key=key)

    def _either(self, key: str, read: Callable[[str], T]) -> T:
        """Read our object of a key, or where there is none the one that another program keeps under a plain name."""
        name = self._name(key)
        other = None if name == key else self._layout.other_name(key)
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

    def delete(self, key: str, etag: str | None, *, timeout: float) -> None:
        """Delete an object."""
        name = self._name(key)
        if etag is None:
            with _Attempt(key):
                for each in filter(None, (name, None if name == key else self._layout.other_name(key))):
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
        with _Attempt(self._bucket):
            results = self._calls.delete_many([self._name(key) for key in keys], timeout=timeout)
            others = {number: other for number, key in enumerate(keys) if (other := self._layout.other_name(key))}
            if others:
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
        after = beginning(start_after, cursor)
        # With one more item than the page holds, one request tells whether there are others.
        listing = S3Listing(
            self._calls,
            self._layout,
            size=min(1000, limit + 1),
            timeout=timeout,
            key_of=lambda name: self._long_key(name, timeout),
        )
        with _Attempt(self._bucket):
            yield from paged(listing.items(prefix, delimiter, after), min(limit, 999))

    def copy(self, source: str, target: str, origin: Binding[Any] | None, *, timeout: float) -> ObjectInfo | None:
        """Copy an object within the server, in parts where it is large."""
        from_name, to_name = self._name(source), self._name(target)
        if is_long(from_name) or is_long(to_name) or not self._is_same_server(origin):
            return None
        bucket = self._bucket if origin is None else origin.name
        reader = self._calls if origin is None else S3Calls(self._clients, bucket, self._binding.options)
        place = {"Bucket": bucket, "Key": from_name}
        with _Attempt(source):
            found = reader.head(from_name, timeout=timeout).info
            if found.size > self._whole_copy_bytes:
                headers = ObjectHeaders(**{name: getattr(found, name) for name in ObjectHeaders.__struct_fields__})
                etag = copy_in_parts(
                    self._calls,
                    place,
                    found.etag,
                    found.size,
                    target=to_name,
                    headers=headers,
                    part_bytes=self._copy_part_bytes,
                    timeout=timeout,
                )
                return msgspec.structs.replace(self._calls.head(to_name, timeout=timeout).info, key=target, etag=etag)
            answer = self._calls.call(
                "copy_object",
                Key=to_name,
                CopySource=place,
                CopySourceIfMatch=f'"{found.etag}"',
                timeout=timeout,
                **dict[str, Any](self._calls.encryption),
            )["CopyObjectResult"]
        return msgspec.structs.replace(
            found, key=target, etag=unquoted(answer["ETag"]), modified=answer["LastModified"].astimezone(UTC)
        )

    def sign(self, key: str, method: str, expires: float, content_type: str | None, *, timeout: float) -> SignedRequest:  # noqa: ARG002 (nothing is sent)
        """Make a request that anybody may send for a while."""
        if expires > _LONGEST_SIGNED:
            raise LimitExceeded(f"a signed request of S3 lasts 7 days at most, not {expires:g} seconds")
        name = self._name(key)
        arguments: dict[str, Any] = {"Bucket": self._bucket, "Key": name}
        headers: dict[str, str] = {}
        if method == "PUT":
            if content_type is not None:
                arguments["ContentType"] = headers["content-type"] = content_type
            headers |= self._sent_with(arguments, key if is_long(name) else None)
        seconds = max(1, int(expires))
        with _Attempt(key):
            url = self._calls.signed(_OPERATIONS[method], arguments, seconds)
        return SignedRequest(url, method, headers, datetime.now(UTC) + timedelta(seconds=seconds))

    def begin_upload(self, key: str, headers: ObjectHeaders, *, timeout: float) -> str:
        """Begin a multipart upload."""
        name = self._name(key)
        with _Attempt(key):
            return self._uploads.begin(name, headers, key if is_long(name) else None, timeout=timeout)

    def write_part(
        self, key: str, upload: str, number: int, offset: int, data: bytes | memoryview, *, timeout: float
    ) -> Part:
        """Write one part."""
        with _Attempt(key):
            return self._uploads.write(self._name(key), upload, number, offset, data, timeout=timeout)

    def kept_parts(self, key: str, upload: str, parts: Sequence[Part], *, timeout: float) -> list[Part]:
        """Say which parts are there."""
        with _Attempt(key):
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

        def commit(left: float) -> ObjectInfo:
            return self._uploads.commit(name, upload, parts, headers, condition, timeout=left)

        return msgspec.structs.replace(self._settled(key, condition, commit, timeout), key=key)

    def abort_upload(self, key: str, upload: str, *, timeout: float) -> None:
        """Drop an upload."""
        try:
            self._uploads.abort(self._name(key), upload, timeout=timeout)
        except FailedError as error:
            if error.failure.code != "NoSuchUpload":
                raise _placed(error, key, None) from error.__cause__

    @property
    def _layout(self) -> Names:
        if self._names is None:
            raise Closed("the bucket is not open")
        return self._names

    def _name(self, key: str) -> str:
        return self._layout.name(key)

    def _found(self, timeout: float) -> str | None:
        """Say what the server calls itself, or None where it has no such bucket."""
        try:
            answer = self._calls.call("head_bucket", timeout=timeout)
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

    def _is_missing(self) -> ResourceNotFound:
        return ResourceNotFound(
            f"there is no bucket {self._bucket!r}; make it with: portable resources create, or bind it with "
            'create = "if_missing"'
        )

    def _is_same_server(self, origin: Binding[Any] | None) -> bool:
        if origin is None:
            return True
        own, other = self._binding.options, origin.options
        return (
            all(getattr(own, field) == getattr(other, field) for field in ("endpoint", "region", "keys"))
            and own.identity() == other.identity()
        )

    def _long_key(self, name: str, timeout: float) -> str | None:
        try:
            return self._calls.head(name, timeout=timeout).key
        except FailedError as error:
            if error.failure.status == 404:
                return None
            raise

    def _sent_with(self, arguments: dict[str, Any], key: str | None) -> dict[str, str]:
        """Add what goes with every object that is written, and give the headers that say so."""
        headers: dict[str, str] = {}
        for argument, header in _ENCRYPTION.items():
            if argument in self._calls.encryption:
                arguments[argument] = headers[header] = self._calls.encryption[argument]
        if key is not None:
            metadata = key_metadata(key)
            arguments["Metadata"] = metadata
            headers |= {f"x-amz-meta-{name}": value for name, value in metadata.items()}
        return headers

    def _nothing(self, key: str, etag: str | None, timeout: float) -> bytes:
        """Read nothing of an object, which has to be there all the same."""
        try:
            found = self.head(key, timeout=timeout).etag
        except NotFound as error:
            if etag is None:
                raise
            raise _unmet(key) from error
        if etag is not None and found != etag:
            raise _unmet(key)
        return b""

    def _verify(self, key: str, name: str, got: Got, checksum: str | None, timeout: float) -> None:
        """Check a whole object: by its CRC-32, or by its etag where that is its MD5.

        Raises:
            IntegrityError: it is not what was stored.
        """
        crc = crc32_of(checksum)
        digested = _MD5.fullmatch(got.etag) is not None
        by_etag = crc is None and digested and not self._opaque_etags
        if by_etag and hashlib.md5(got.data, usedforsecurity=False).hexdigest() == got.etag:
            return
        if crc is None:
            try:
                found = self._calls.head(name, timeout=timeout)
            except FailedError:
                # Gone meanwhile, and with it what it could be checked by.
                return
            self._opaque_etags = self._opaque_etags or found.opaque_etag
            crc = crc32_of(found.info.checksum)
            if found.info.etag != got.etag:
                return
            if crc is None:
                if digested and not found.opaque_etag:
                    raise IntegrityError(f"what came of {key!r} does not have the MD5 that was stored, {got.etag}")
                return
        if crc32(got.data) != crc:
            raise IntegrityError(f"what came of {key!r} does not have the CRC-32 that was stored, {crc:08x}")

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
                    raise _placed(error, key, condition) from error.__cause__
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")


_ENCRYPTION = {
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
}


class _Attempt:
    """Turns what fails in its block into errors of ours that name the object."""

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        self._key = key

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, FailedError):
            raise _placed(error, self._key, None) from error.__cause__


def _placed(error: FailedError, key: str, condition: Condition | None) -> PortableError:
    """Give the error of ours, in the words of the call."""
    ours = translated(error.failure)
    if condition is not None:
        if type(ours) is NotFound and error.failure.code != "NoSuchUpload":
            return _unmet(key)
        if isinstance(ours, PreconditionFailed) and condition.absent:
            return AlreadyExists(f"there is an object {key!r} already")
    if isinstance(ours, PreconditionFailed):
        return _unmet(key)
    if type(ours) is NotFound and error.failure.code != "NoSuchUpload":
        return NotFound(f"there is no object {key!r}")
    return ours


def _unmet(key: str) -> PreconditionFailed:
    return PreconditionFailed(f"the object {key!r} is missing or not of this version any more")


def _check_condition(key: str, condition: Condition | None) -> None:
    """Refuse what is no etag of any object, and cannot be sent as one."""
    if condition is not None and condition.etag is not None and _NO_ETAG.search(condition.etag):
        raise _unmet(key)
