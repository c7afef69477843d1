"""Multipart uploads to S3, of bytes and of other objects' ranges."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from portable.checksums import named
from portable.errors import IntegrityError, PortableError
from portable.objects import Condition, ObjectHeaders, ObjectInfo, Part
from portable_aws.s3_calls import S3Calls, answered_at, body_of, conditions, crc_in_header, crc_of, stored_headers
from portable_objectstore.descriptions import crc_of_parts, quoted, unquoted, written
from portable_objectstore.failures import FailedError

__all__ = ["S3Uploads", "copy_in_parts"]

_WHOLE = " whole"
_TOKEN = re.compile(r"([^ ]*)(?: ([0-9a-f]{8}))?")


class S3Uploads:
    """The multipart uploads of one bucket.

    An upload's id is the server's, and a word where the server keeps the checksum of the whole. A part's token is its
    etag, and its CRC-32 where one was sent.
    """

    def __init__(self, calls: S3Calls, *, checksums: bool) -> None:
        self._calls = calls
        self._checksums = checksums

    def begin(self, name: str, headers: ObjectHeaders, *, key: str | None, timeout: float) -> str:
        """Begin an upload, and give its id."""
        arguments = {**self._calls.encryption, **stored_headers(headers, key)}
        if self._checksums:
            arguments |= {"ChecksumAlgorithm": "CRC32", "ChecksumType": "FULL_OBJECT"}
        answer = self._calls.call("create_multipart_upload", Key=name, timeout=timeout, **arguments)
        upload: str = answer["UploadId"]
        # A server that knows no checksum of the whole leaves the type out, and takes the parts' alone.
        return f"{upload}{_WHOLE}" if answer.get("ChecksumType") == "FULL_OBJECT" else upload

    def write(
        self, name: str, upload: str, number: int, offset: int, data: bytes | memoryview, *, timeout: float
    ) -> Part:
        """Write one part."""
        crc = crc32(data) if self._checksums else None
        arguments: dict[str, Any] = {} if crc is None else {"ChecksumCRC32": crc_in_header(crc)}
        answer = self._calls.call(
            "upload_part",
            Key=name,
            UploadId=_id(upload),
            PartNumber=number,
            Body=body_of(data),
            timeout=timeout,
            **arguments,
        )
        token = unquoted(answer["ETag"]) + ("" if crc is None else f" {crc:08x}")
        return Part(number, offset, len(data), token)

    def kept(self, name: str, upload: str, parts: Sequence[Part], *, timeout: float) -> list[Part]:
        """Say which parts are there, whole."""
        there: dict[int, tuple[str, int]] = {}
        marker: dict[str, Any] = {}
        while True:
            answer = self._calls.call("list_parts", Key=name, UploadId=_id(upload), timeout=timeout, **marker)
            for part in answer.get("Parts", []):
                there[part["PartNumber"]] = (unquoted(part["ETag"]), part["Size"])
            if not answer.get("IsTruncated"):
                break
            marker = {"PartNumberMarker": answer["NextPartNumberMarker"]}
        return [part for part in parts if there.get(part.number) == (_parsed(part)[0], part.size)]

    def commit(
        self,
        name: str,
        upload: str,
        parts: Sequence[Part],
        headers: ObjectHeaders,
        condition: Condition | None,
        *,
        key: str | None,  # noqa: ARG002 (the upload has it)
        timeout: float,
    ) -> ObjectInfo:
        """Make the parts the object; once, because the second of two attempts finds no upload."""
        tokens = [_parsed(part) for part in parts]
        listed: list[dict[str, Any]] = []
        for part, (etag, crc) in zip(parts, tokens, strict=True):
            entry = {"PartNumber": part.number, "ETag": quoted(etag)}
            listed.append(entry if crc is None else {**entry, "ChecksumCRC32": crc_in_header(crc)})
        arguments: dict[str, Any] = dict(conditions(condition))
        whole = crc_of_parts(parts, [crc for _, crc in tokens]) if upload.endswith(_WHOLE) else None
        if whole is not None:
            arguments |= {"ChecksumType": "FULL_OBJECT", "ChecksumCRC32": crc_in_header(whole)}
        try:
            answer = self._calls.call(
                "complete_multipart_upload",
                Key=name,
                UploadId=_id(upload),
                MultipartUpload={"Parts": listed},
                timeout=timeout,
                once=True,
                **arguments,
            )
        except FailedError as error:
            done = self._done_all_the_same(error, name, [etag for etag, _ in tokens], timeout)
            if done is None:
                raise
            return done
        kept = crc_of(answer)
        if kept is not None and whole is not None and kept != named(whole):
            raise IntegrityError(f"the server has the checksum {kept} for what was sent with {named(whole)}")
        size = sum(part.size for part in parts)
        return written(name, size, unquoted(answer["ETag"]), answered_at(answer), headers, checksum=kept)

    def abort(self, name: str, upload: str, *, timeout: float) -> None:
        """Drop an upload and its parts; one that is gone is no error."""
        try:
            self._calls.call("abort_multipart_upload", Key=name, UploadId=_id(upload), timeout=timeout)
        except FailedError as error:
            if error.failure.code != "NoSuchUpload":
                raise

    def _done_all_the_same(
        self, error: FailedError, name: str, etags: Sequence[str], timeout: float
    ) -> ObjectInfo | None:
        """Look whether a commit whose answer was lost came about: the etag is made of the parts'."""
        if not error.failure.is_unsettled:
            return None
        try:
            digest = hashlib.md5(b"".join(map(bytes.fromhex, etags)), usedforsecurity=False).hexdigest()
            info = self._calls.head(name, timeout=timeout).info
        except (ValueError, FailedError, PortableError):
            return None
        return info if info.etag == f"{digest}-{len(etags)}" else None


def copy_in_parts(
    calls: S3Calls,
    source: dict[str, str],
    etag: str,
    size: int,
    *,
    target: str,
    headers: ObjectHeaders,
    part_bytes: int,
    timeout: float,
) -> str:
    """Copy an object that is too large for one request within the server, and give the copy's etag.

    Args:
        calls: the bucket to write to.
        source: bucket and key, as boto3 takes them.
        etag: the version to copy.
        size: its length.
        target: the name to write.
        headers: what is stored beside the bytes.
        part_bytes: the length of each part but the last.
        timeout: seconds for each request.

    Raises:
        FailedError: a request failed; nothing is left of the copy.
    """
    arguments = {**calls.encryption, **stored_headers(headers, None)}
    upload = calls.call("create_multipart_upload", Key=target, timeout=timeout, **arguments)["UploadId"]
    try:
        parts = []
        for number, start in enumerate(range(0, size, part_bytes), 1):
            answer = calls.call(
                "upload_part_copy",
                Key=target,
                UploadId=upload,
                PartNumber=number,
                CopySource=source,
                CopySourceIfMatch=quoted(etag),
                CopySourceRange=f"bytes={start}-{min(start + part_bytes, size) - 1}",
                timeout=timeout,
            )
            parts.append({"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]})
        answer = calls.call(
            "complete_multipart_upload",
            Key=target,
            UploadId=upload,
            MultipartUpload={"Parts": parts},
            timeout=timeout,
        )
    except BaseException:
        _drop(calls, target, upload)
        raise
    return unquoted(answer["ETag"])


def _drop(calls: S3Calls, name: str, upload: str) -> None:
    try:
        calls.call("abort_multipart_upload", Key=name, UploadId=_id(upload), timeout=5.0)
    except (FailedError, PortableError):
        return


def _id(upload: str) -> str:
    return upload.removesuffix(_WHOLE)


def _parsed(part: Part) -> tuple[str, int | None]:
    match = _TOKEN.fullmatch(part.token)
    if match is None:
        return part.token, None
    return match[1], None if match[2] is None else int(match[2], 16)
