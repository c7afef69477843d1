"""Writes of small objects and of parts by the JSON API itself, repeated and checked as the vendor's client does it.

Half of what such a write costs with the vendor's client is that client.
https://cloud.google.com/storage/docs/json_api/v1/objects/insert
"""

from __future__ import annotations

import base64
import threading
import uuid
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from zlib import crc32

import google_crc32c
import msgspec
import urllib3
from google.api_core import exceptions as theirs
from google.auth.transport.urllib3 import AuthorizedHttp

from portable.checksums import named
from portable.objects import Condition, ObjectHeaders, ObjectInfo
from portable_gcp.gcs_clients import GcsClients, within
from portable_gcp.gcs_errors import FAILURES, raised
from portable_gcp.gcs_names import PACKING
from portable_objectstore.bucket import SMALL
from portable_objectstore.descriptions import NO_TYPE, written

__all__ = ["GcsPuts"]

_POOL = 64
_CHUNK = 1024 * 1024
_FIELDS = {
    "cacheControl": "cache_control",
    "contentDisposition": "content_disposition",
    "contentEncoding": "content_encoding",
    "contentLanguage": "content_language",
}
_FIRST_ERROR = 300


class _Written(msgspec.Struct, frozen=True):
    generation: str
    updated: datetime


class GcsPuts:
    """Puts to one bucket. A refused request is a `FailedError`; all else is an error of ours."""

    def __init__(self, clients: GcsClients, bucket: str) -> None:
        self._clients = clients
        self._path = f"/upload/storage/v1/b/{quote(bucket, safe='')}/o?uploadType=multipart&fields=generation,updated"
        self._lock = threading.Lock()
        self._http: AuthorizedHttp | None = None
        self._answered = msgspec.json.Decoder(_Written)

    @staticmethod
    def carries(name: str) -> bool:  # noqa: ARG004 (a name is text in JSON)
        """Say that every name comes through unchanged."""
        return True

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
        kind = headers.content_type or NO_TYPE
        resource: dict[str, Any] = {
            "name": name,
            "contentType": kind,
            "crc32c": base64.b64encode(_crc32c(data).to_bytes(4, "big")).decode(),
            "metadata": PACKING.pack(headers.metadata, key=key, crc=crc),
        }
        for theirs_, ours in _FIELDS.items():
            value = getattr(headers, ours)
            if value is not None:
                resource[theirs_] = value
        answer = self._sent(resource, kind, data, condition, timeout)
        return written(name, len(data), answer.generation, answer.updated.astimezone(UTC), headers, checksum=named(crc))

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            http, self._http = self._http, None
        if http is not None:
            http.http.clear()

    def _sent(
        self, resource: dict[str, Any], kind: str, data: bytes | memoryview, condition: Condition | None, timeout: float
    ) -> _Written:
        # Nobody can know it beforehand, and write it into an object.
        boundary = uuid.uuid4().hex
        pieces = (
            f"--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n".encode()
            + msgspec.json.encode(resource)
            + f"\r\n--{boundary}\r\ncontent-type: {kind}\r\n\r\n".encode(),
            data,
            f"\r\n--{boundary}--".encode(),
        )
        url = self._clients.address + self._path
        if condition is not None:
            url += f"&ifGenerationMatch={0 if condition.absent else condition.etag}"
        connecting, reading = within(timeout)
        how: dict[str, Any] = {
            # What is large is not copied, to be sent at once with what stands around it.
            "body": b"".join(pieces) if len(data) <= SMALL else pieces,
            "headers": {
                "content-type": f'multipart/related; boundary="{boundary}"',
                "content-length": str(sum(map(len, pieces))),
            },
            "timeout": urllib3.Timeout(connect=connecting, read=reading),
            "retries": False,
        }

        def send() -> bytes:
            answer = self._connected().urlopen("POST", url, **how)
            if answer.status >= _FIRST_ERROR:
                raise theirs.from_http_status(answer.status, answer.data.decode(errors="replace"))
            found: bytes = answer.data
            return found

        repeating = None if condition is not None else self._clients.repeating(timeout)
        try:
            return self._answered.decode(send() if repeating is None else repeating(send)())
        except FAILURES as error:
            raise raised(error) from error

    def _connected(self) -> AuthorizedHttp:
        with self._lock:
            if self._http is None:
                credentials = self._clients.client._credentials  # noqa: SLF001 (it has no other name)
                self._http = AuthorizedHttp(credentials, http=urllib3.PoolManager(maxsize=_POOL))
            return self._http


def _crc32c(data: bytes | memoryview) -> int:
    """Give the CRC32C; the library takes none but bytes, and a copy of all of them would be much."""
    view, crc = memoryview(data), 0
    for start in range(0, len(view), _CHUNK):
        crc = google_crc32c.extend(crc, bytes(view[start : start + _CHUNK]))
    return crc
