"""The calls on S3's objects by boto3: all that there are, for every key, with CRC-32 end to end."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import Any
from zlib import crc32

from portable.checksums import crc32_of, named
from portable.errors import DeadlineExceeded, PortableError
from portable.objects import Condition, ObjectHeaders, ObjectInfo
from portable_aws.clients import Clients
from portable_aws.errors import FAILURES, raised, translated
from portable_aws.options import S3Options
from portable_objectstore.descriptions import (
    NO_TYPE,
    Described,
    Digest,
    Got,
    quoted,
    read_headers,
    unquoted,
    written,
)
from portable_objectstore.failures import FailedError, Failure
from portable_objectstore.metadata import PLAIN

__all__ = ["MD5", "S3Calls", "body_of", "crc_in_header", "crc_of", "stored_headers"]

MD5 = re.compile(r"[0-9a-f]{32}")
"""What an etag looks like that may be the MD5 of the bytes."""

_HEADERS = {
    "content_type": "ContentType",
    "cache_control": "CacheControl",
    "content_disposition": "ContentDisposition",
    "content_encoding": "ContentEncoding",
    "content_language": "ContentLanguage",
}
_CHUNK = 1024 * 1024
# What XML 1.0 cannot carry, or readers change.
_NOT_IN_XML = re.compile("[\x00-\x1f\x7f-\x9f\ufffe\uffff]")


class S3Calls:
    """One bucket by boto3. A request that the server refuses is a `FailedError`; all else is an error of ours."""

    def __init__(self, clients: Clients, bucket: str, options: S3Options) -> None:
        self._clients = clients
        self._bucket = bucket
        self._checksums = options.checksums
        # Whether etags are no MD5 whatever they look like, because objects are encrypted by a key.
        self.opaque_etags = False
        self.encryption: dict[str, str] = {}
        if options.encryption is not None:
            self.encryption["ServerSideEncryption"] = options.encryption
        if options.kms_key_id is not None:
            self.encryption["SSEKMSKeyId"] = options.kms_key_id

    def call(self, operation: str, *, timeout: float, once: bool = False, **arguments: Any) -> dict[str, Any]:
        """Call an operation of boto3's client on this bucket."""
        try:
            client = self._clients.within(timeout, once=once)
            answer: dict[str, Any] = getattr(client, operation)(Bucket=self._bucket, **arguments)
        except FAILURES as error:
            raise raised(error) from error
        return answer

    def put(
        self,
        name: str,
        data: bytes | memoryview,
        headers: ObjectHeaders,
        condition: Condition | None,
        *,
        timeout: float,
        key: str | None = None,
    ) -> ObjectInfo:
        """Write an object in one go; with a condition once, because a second attempt would lie."""
        crc = crc32(data)
        arguments = {**self.encryption, **stored_headers(headers, key), **conditions(condition)}
        if self._checksums:
            arguments["ChecksumCRC32"] = crc_in_header(crc)
        answer = self.call(
            "put_object", Key=name, Body=body_of(data), timeout=timeout, once=condition is not None, **arguments
        )
        kept = answer.get("ChecksumCRC32") == crc_in_header(crc)
        checksum = named(crc) if kept else None
        return written(name, len(data), unquoted(answer["ETag"]), answered_at(answer), headers, checksum=checksum)

    def get(self, name: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> Got:
        """Read a range that is not empty; of a whole with the checksum, where the server tells it."""
        arguments: dict[str, Any] = {}
        if etag is not None:
            arguments["IfMatch"] = quoted(etag)
        if offset or length is not None:
            arguments["Range"] = f"bytes={offset}-{'' if length is None else offset + length - 1}"
        elif self._checksums:
            arguments["ChecksumMode"] = "ENABLED"
        until = monotonic() + timeout
        answer = self.call("get_object", Key=name, timeout=timeout, **arguments)
        data = _read(answer["Body"], until)
        span = answer.get("ContentRange", "").rpartition("/")[2]
        size = int(span) if span.isdigit() else len(data)
        return Got(data, unquoted(answer["ETag"]), size, crc_of(answer))

    def head(self, name: str, *, timeout: float) -> Described:
        """Describe an object."""
        mode: dict[str, Any] = {"ChecksumMode": "ENABLED"} if self._checksums else {}
        answer = self.call("head_object", Key=name, timeout=timeout, **mode)
        metadata: dict[str, str] = answer.get("Metadata", {})
        info = ObjectInfo(
            name,
            answer["ContentLength"],
            unquoted(answer["ETag"]),
            answer["LastModified"].astimezone(UTC),
            metadata=PLAIN.unpack(metadata),
            checksum=crc_of(answer),
            **read_headers(lambda field: answer.get(_HEADERS[field])),
        )
        is_opaque = answer.get("ServerSideEncryption", "AES256") != "AES256" or "SSECustomerAlgorithm" in answer
        self.opaque_etags = self.opaque_etags or is_opaque
        crc = crc32_of(info.checksum)
        digest = None if crc is None else Digest.by_crc(crc)
        if digest is None and not is_opaque and MD5.fullmatch(info.etag):
            digest = Digest.by_md5(info.etag)
        return Described(info, digest, PLAIN.key_in(metadata))

    def delete(self, name: str, etag: str | None, *, timeout: float) -> None:
        """Delete an object."""
        condition: dict[str, Any] = {} if etag is None else {"IfMatch": quoted(etag)}
        self.call("delete_object", Key=name, timeout=timeout, once=etag is not None, **condition)

    def delete_many(self, names: Sequence[str], *, timeout: float) -> list[PortableError | None]:
        """Delete up to 1,000 objects."""
        until = monotonic() + timeout
        results: dict[str, PortableError | None] = dict.fromkeys(names)
        in_xml = [name for name in results if not _NOT_IN_XML.search(name)]
        if in_xml:
            objects = {"Objects": [{"Key": name} for name in in_xml], "Quiet": True}
            for error in self.call("delete_objects", Delete=objects, timeout=timeout).get("Errors", []):
                failure = Failure(0, error.get("Code", ""), error.get("Message", ""))
                results[error["Key"]] = translated(failure)
        for name in results.keys() - set(in_xml):
            try:
                self.delete(name, None, timeout=max(until - monotonic(), 0.1))
            except FailedError as error:
                results[name] = translated(error.failure)
        return [results[name] for name in names]

    def signed(self, operation: str, arguments: Mapping[str, Any], seconds: int) -> str:
        """Give the URL of a request that anybody may send for so many seconds."""
        try:
            url: str = self._clients.signing().generate_presigned_url(operation, Params=arguments, ExpiresIn=seconds)
        except FAILURES as error:
            raise raised(error) from error
        return url


def body_of(data: bytes | memoryview) -> io.BytesIO:
    """Give a body as a file: botocore would copy bytes once more, to send them with the request's head."""
    return io.BytesIO(data)


def conditions(condition: Condition | None) -> dict[str, str]:
    """Give a condition as boto3 takes it."""
    if condition is None:
        return {}
    return {"IfNoneMatch": "*"} if condition.absent else {"IfMatch": quoted(condition.etag or "")}


def stored_headers(headers: ObjectHeaders, key: str | None) -> dict[str, Any]:
    """Give headers and metadata as boto3 takes them, with the key where the name does not tell it."""
    arguments: dict[str, Any] = {"ContentType": NO_TYPE}
    for ours, theirs in _HEADERS.items():
        value = getattr(headers, ours)
        if value:
            arguments[theirs] = value
    metadata = PLAIN.pack(headers.metadata, key=key)
    return {**arguments, "Metadata": metadata} if metadata else arguments


def crc_in_header(crc: int) -> str:
    """Give a CRC-32 as S3 writes it."""
    return base64.b64encode(crc.to_bytes(4, "big")).decode()


def crc_of(answer: Mapping[str, Any]) -> str | None:
    """Give the checksum of the whole content that an answer tells; one made of the parts' is none."""
    text = answer.get("ChecksumCRC32")
    if not text or "-" in text or answer.get("ChecksumType") == "COMPOSITE":
        return None
    return named(int.from_bytes(base64.b64decode(text), "big"))


def answered_at(answer: Mapping[str, Any]) -> datetime:
    """Give the server's time when it answered, which is when it wrote."""
    text = answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date")
    return parsedate_to_datetime(text).astimezone(UTC) if text else datetime.now(UTC)


def _read(body: Any, until: float) -> bytes:
    try:
        first: bytes = body.read(_CHUNK)
        if len(first) < _CHUNK:
            body.close()
            return first
        pieces = [first]
        while piece := body.read(_CHUNK):
            pieces.append(piece)
            if monotonic() > until:
                raise DeadlineExceeded("the timeout ran out while the object was read")
        return b"".join(pieces)
    except FAILURES as error:
        raise raised(error) from error
    finally:
        body.close()
