"""The calls on blobs by the vendor's client: all that there are, for every key, with CRC-32 end to end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC
from time import monotonic, sleep
from typing import Any, TypeVar
from zlib import crc32

from azure.core import MatchConditions
from azure.core import exceptions as theirs
from azure.storage.blob import BlobClient, BlobType, ContentSettings

from portable.checksums import named
from portable.errors import DeadlineExceeded, PortableError, Unavailable
from portable.objects import Condition, ObjectHeaders, ObjectInfo
from portable_azure.blob_clients import BlobClients, within
from portable_azure.blob_errors import raised, translated
from portable_azure.blob_names import PACKING
from portable_objectstore.descriptions import (
    HEADERS,
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

__all__ = ["BlobCalls", "conditions", "described", "settings_of"]

T = TypeVar("T")

_FIRST_LOOK = 0.05
_LONGEST_LOOK = 2.0
_ACCEPTED = 202


class BlobCalls:
    """One container by the vendor's client. A refused request is a `FailedError`; all else is an error of ours."""

    def __init__(self, clients: BlobClients) -> None:
        self._clients = clients

    def blob(self, name: str) -> BlobClient:
        """Give the client of one blob."""
        return self._clients.container.get_blob_client(name)

    @staticmethod
    def call(function: Callable[..., T], *arguments: Any, **how: Any) -> T:
        """Call a method of the vendor's client."""
        try:
            return function(*arguments, **how)
        except theirs.AzureError as error:
            raise raised(error) from error

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
        """Write a blob in one go; with a condition once, because a second attempt would lie."""
        crc = crc32(data)
        answer = self.call(
            self.blob(name).upload_blob,
            bytes(data),
            BlobType.BLOCKBLOB,
            overwrite=True,
            validate_content=True,
            content_settings=settings_of(headers),
            metadata=PACKING.pack(headers.metadata, key=key, crc=crc),
            **conditions(condition),
            **within(timeout, once=condition is not None),
        )
        return described(name, len(data), answer, headers, crc)

    def get(self, name: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> Got:
        """Read a range that is not empty."""
        until = monotonic() + timeout
        span: dict[str, Any] = {} if offset == 0 and length is None else {"offset": offset, "length": length}
        match = {} if etag is None else conditions(Condition(etag=etag))
        try:
            stream = self.blob(name).download_blob(**span, **match, decompress=False, **within(timeout))
            pieces = []
            for piece in stream.chunks():
                pieces.append(piece)
                if monotonic() > until:
                    raise DeadlineExceeded("the timeout ran out while the object was read")
        except theirs.AzureError as error:
            raise raised(error) from error
        properties: Any = stream.properties
        text = properties.content_range or ""
        size = int(text.rpartition("/")[2]) if text else properties.size
        return Got(b"".join(pieces), unquoted(properties.etag), size, PACKING.checksum_in(properties.metadata or {}))

    def head(self, name: str, *, timeout: float) -> Described:
        """Describe a blob; its digest is the MD5 that the service may have of it."""
        found: Any = self.call(self.blob(name).get_blob_properties, **within(timeout))
        settings: Any = found.content_settings
        metadata: dict[str, str] = {each.lower(): value for each, value in (found.metadata or {}).items()}
        info = ObjectInfo(
            name,
            found.size,
            unquoted(found.etag),
            found.last_modified.astimezone(UTC),
            metadata=PACKING.unpack(metadata),
            checksum=PACKING.checksum_in(metadata),
            **read_headers(lambda field: getattr(settings, field)),
        )
        digest = settings.content_md5
        return Described(info, None if digest is None else Digest.by_md5(bytes(digest).hex()), PACKING.key_in(metadata))

    def delete(self, name: str, etag: str | None, *, timeout: float) -> None:
        """Delete a blob and its snapshots; without an etag a missing one is no error."""
        match = {} if etag is None else conditions(Condition(etag=etag))
        try:
            self.call(
                self.blob(name).delete_blob,
                delete_snapshots="include",
                **match,
                **within(timeout, once=etag is not None),
            )
        except FailedError as error:
            if etag is not None or error.failure.code != "BlobNotFound":
                raise

    def delete_many(self, names: Sequence[str], *, timeout: float) -> list[PortableError | None]:
        """Delete up to 256 blobs."""
        unique = list(dict.fromkeys(names))
        if not unique:
            return []
        container = self._clients.container
        answers = self.call(
            lambda: list(
                container.delete_blobs(
                    *unique, delete_snapshots="include", raise_on_any_failure=False, **within(timeout)
                )
            )
        )
        results: dict[str, PortableError | None] = dict.fromkeys(unique)
        for name, answer in zip(unique, answers, strict=True):
            code = answer.headers.get("x-ms-error-code", "")
            if answer.status_code != _ACCEPTED and code != "BlobNotFound":
                results[name] = translated(Failure(answer.status_code, code, code))
        return [results[name] for name in names]

    def copy(self, source: BlobClient, target: str, etag: str, *, timeout: float) -> None:
        """Copy a blob within the account, and wait until it is done.

        Raises:
            DeadlineExceeded: it was not done in time, and was given up.
        """
        until, pause = monotonic() + timeout, _FIRST_LOOK
        blob = self.blob(target)
        answer: Any = self.call(
            blob.start_copy_from_url,
            source.url,
            source_etag=quoted(etag),
            source_match_condition=MatchConditions.IfNotModified,
            **within(timeout),
        )
        status, copy = answer["copy_status"], answer["copy_id"]
        while status == "pending":
            if monotonic() + pause > until:
                self.call(blob.abort_copy, copy, **within(5.0))
                raise DeadlineExceeded("the copy was not done in time, and was given up; what it replaced is gone")
            sleep(pause)
            pause = min(2 * pause, _LONGEST_LOOK)
            found: Any = self.call(blob.get_blob_properties, **within(max(until - monotonic(), 1.0)))
            if found.copy.id != copy:
                # Somebody else has written there since.
                return
            status = found.copy.status
        if status != "success":
            raise Unavailable(f"the service gave the copy up ({status}); copy again", maybe_applied=True)


def conditions(condition: Condition | None) -> dict[str, Any]:
    """Give a condition as the vendor's client takes it."""
    if condition is None:
        return {}
    if condition.absent:
        return {"match_condition": MatchConditions.IfMissing}
    return {"match_condition": MatchConditions.IfNotModified, "etag": quoted(condition.etag or "")}


def settings_of(headers: ObjectHeaders) -> ContentSettings:
    """Give headers as the vendor's client takes them."""
    fields = {field: getattr(headers, field) for field in HEADERS}
    return ContentSettings(**{**fields, "content_type": headers.content_type or NO_TYPE})


def described(name: str, size: int, answer: Any, headers: ObjectHeaders, crc: int | None) -> ObjectInfo:
    """Describe what was written, by the service's answer."""
    modified = answer["last_modified"].astimezone(UTC)
    checksum = None if crc is None else named(crc)
    return written(name, size, unquoted(answer["etag"]), modified, headers, checksum=checksum)
