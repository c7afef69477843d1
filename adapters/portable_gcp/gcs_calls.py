"""The calls on objects by the vendor's client: all that there are, for every key, with CRC32C end to end."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from typing import Any, TypeVar
from zlib import crc32

import google_crc32c
from google.cloud.storage import Blob, Bucket

from portable.errors import PortableError
from portable.objects import Condition, ObjectHeaders, ObjectInfo
from portable_gcp.gcs_clients import GcsClients, within
from portable_gcp.gcs_errors import FAILURES, raised, translated
from portable_gcp.gcs_names import PACKING
from portable_objectstore.descriptions import HEADERS, NO_TYPE, Described, Digest, Got, read_headers
from portable_objectstore.failures import FailedError

__all__ = ["GcsCalls", "conditions", "described"]

T = TypeVar("T")

_AT_ONCE = 16


class GcsCalls:
    """One bucket by the vendor's client. A refused request is a `FailedError`; all else is an error of ours."""

    def __init__(self, clients: GcsClients) -> None:
        self._clients = clients

    @property
    def bucket(self) -> Bucket:
        """The vendor's bucket."""
        return self._clients.bucket

    def call(self, function: Callable[..., T], *arguments: Any, timeout: float, once: bool = False, **how: Any) -> T:
        """Call a method of the vendor's client; `once`: it is not repeated."""
        repeating = None if once else self._clients.repeating(timeout)
        try:
            return function(*arguments, timeout=within(timeout), retry=repeating, **how)
        except FAILURES as error:
            raise raised(error) from error

    def blob(self, name: str, headers: ObjectHeaders | None = None, **told: Any) -> Blob:
        """Give the vendor's object, with what is to be stored beside its bytes.

        Args:
            name: its name.
            headers: what is to be stored.
            told: `key` and `crc`, for the metadata.
        """
        blob = self.bucket.blob(name)
        if headers is not None:
            for field in HEADERS:
                value = getattr(headers, field)
                if value is not None:
                    setattr(blob, field, value)
            blob.content_type = headers.content_type or NO_TYPE
            blob.metadata = PACKING.pack(headers.metadata, **told)
        return blob

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
        blob = self.blob(name, headers, key=key, crc=crc32(data))
        self.call(
            blob.upload_from_string,
            bytes(data),
            content_type=blob.content_type,
            checksum="crc32c",
            timeout=timeout,
            once=condition is not None,
            **conditions(condition),
        )
        return described(blob)

    def get(self, name: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> Got:
        """Read a range that is not empty, of one generation where an etag says which; a whole is checked by CRC32C."""
        blob = self.bucket.blob(name, generation=None if etag is None else int(etag))
        span: dict[str, Any] = {}
        if offset or length is not None:
            span = {"start": offset, "end": None if length is None else offset + length - 1}
        data: bytes = self.call(
            blob.download_as_bytes,
            raw_download=True,
            single_shot_download=True,
            checksum=None if span else "crc32c",
            timeout=timeout,
            **span,
        )
        return Got(data, etag or "", len(data), is_checked=True)

    def head(self, name: str, *, timeout: float) -> Described:
        """Describe an object; its digest is the CRC32C that the service keeps."""
        blob = self.bucket.blob(name)
        self.call(blob.reload, timeout=timeout)
        crc = blob.crc32c
        digest = Digest("CRC32C", base64.b64decode(crc).hex(), _crc32c) if crc else None
        return Described(described(blob), digest, PACKING.key_in(blob.metadata or {}))

    def delete(self, name: str, etag: str | None, *, timeout: float) -> None:
        """Delete an object; without an etag a missing one is no error."""
        match = {} if etag is None else conditions(Condition(etag=etag))
        try:
            self.call(self.bucket.blob(name).delete, timeout=timeout, once=etag is not None, **match)
        except FailedError as error:
            if etag is not None or error.failure.code != "NoSuchKey":
                raise

    def delete_many(self, names: Sequence[str], delete: Callable[[str], None]) -> list[PortableError | None]:
        """Delete objects side by side."""

        def one(name: str) -> PortableError | None:
            try:
                delete(name)
            except FailedError as error:
                return translated(error.failure)
            except PortableError as error:
                return error
            return None

        if not names:
            return []
        with ThreadPoolExecutor(min(_AT_ONCE, len(names)), "portable-gcs-delete") as threads:
            return list(threads.map(one, names))

    def copy(self, source: Blob, target: str, *, timeout: float) -> ObjectInfo:
        """Copy this generation of an object within the service, in as many requests as that takes."""
        blob = self.bucket.blob(target)
        token: str | None = None
        while True:
            token, _, _ = self.call(
                blob.rewrite,
                source,
                token=token,
                if_source_generation_match=source.generation,
                timeout=timeout,
            )
            if token is None:
                return described(blob)

    def answers(self, *, timeout: float, **how: Any) -> Iterator[tuple[list[Any], list[str], bool]]:
        """Give what the service lists, request by request: objects, prefixes, and whether there are more."""
        how |= {"timeout": within(timeout), "retry": self._clients.repeating(timeout)}
        try:
            listing: Any = self._clients.client.list_blobs(self.bucket, **how)
            for page in listing.pages:
                found = list(page)
                yield found, sorted(page.prefixes), listing.next_page_token is not None
        except FAILURES as error:
            raise raised(error) from error


def conditions(condition: Condition | None) -> dict[str, Any]:
    """Give a condition as the vendor's client takes it."""
    if condition is None:
        return {}
    return {"if_generation_match": 0 if condition.absent else int(condition.etag or "")}


def described(blob: Blob) -> ObjectInfo:
    """Describe an object by what the service told of it."""
    written: Any = blob.updated
    metadata: Mapping[str, str] = {each.lower(): value for each, value in (blob.metadata or {}).items()}
    return ObjectInfo(
        str(blob.name),
        int(blob.size or 0),
        str(blob.generation),
        written.astimezone(UTC),
        metadata=PACKING.unpack(metadata),
        checksum=PACKING.checksum_in(metadata),
        **read_headers(lambda field: getattr(blob, field)),
    )


def _crc32c(data: bytes) -> str:
    return f"{google_crc32c.value(data):08x}"
