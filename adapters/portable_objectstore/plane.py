"""The calls that `obstore` serves as well as a vendor's own client, and several times faster."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

from portable.checksums import named
from portable.objects import Condition, ObjectHeaders, ObjectInfo
from portable_objectstore.descriptions import NO_TYPE, Got, quoted, unquoted, written
from portable_objectstore.failures import Broken, FailedError, Failure
from portable_objectstore.metadata import PLAIN, Packing
from portable_objectstore.stores import Stores

__all__ = ["DataPlane"]

# What obstore would change or refuse: empty segments, slashes at the ends, dots, control characters.
_UNCARRIED = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|[\x00-\x1f\x7f]")
_STATUS = re.compile(r"status code: (\d{3})")
_KIND = re.compile(r"kind: (Connect|Timeout|Request|Interrupted|Decode|Unknown)")
_OF_NOTHING = re.compile(r'CONTENT_RANGE header: "bytes [^"]*/0"')
_BROKEN: dict[str, Broken] = {"Connect": "connect", "Timeout": "timeout"}
_CHUNK = 1024 * 1024
_HEADERS = {
    "Content-Type": "content_type",
    "Cache-Control": "cache_control",
    "Content-Disposition": "content_disposition",
    "Content-Encoding": "content_encoding",
    "Content-Language": "content_language",
}


class DataPlane:
    """Objects by `obstore`: put, get, head and delete of keys that it carries unchanged.

    Args:
        stores: of the bucket.
        packing: how objects carry metadata.
        versions: whether what tells versions apart is not the server's etag, but its own name for each.
    """

    def __init__(self, stores: Stores, *, packing: Packing = PLAIN, versions: bool = False) -> None:
        self._stores = stores
        self._versions = versions
        self._packing = packing

    @staticmethod
    def carries(name: str) -> bool:
        """Say whether an object of this name comes through unchanged."""
        return _UNCARRIED.search(name) is None

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
        import obstore  # noqa: PLC0415 (where it is not installed, nobody gets here)

        mode: Any = None
        if condition is not None:
            mode = "create" if condition.absent else {"e_tag": quoted(condition.etag or "")}
        store = self._stores.within(timeout, once=condition is not None)
        crc = None if self._packing.checksum is None else crc32(data)
        attributes = self._attributes(headers, key, crc)
        try:
            result = obstore.put(store, name, data, attributes=attributes, mode=mode, use_multipart=False)
        except Exception as error:
            raise FailedError(_failure(error)) from error
        # The answer's date does not come through obstore; the server's clock may differ from this one.
        now = datetime.now(UTC).replace(microsecond=0)
        checksum = None if crc is None else named(crc)
        return written(name, len(data), unquoted(result["e_tag"]), now, headers, checksum=checksum)

    def get(self, name: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> Got:
        """Read a range that is not empty, of the version of `etag` where one is given."""
        import obstore  # noqa: PLC0415 (the same)

        options: dict[str, Any] = {}
        if etag is not None:
            options |= {"version": etag} if self._versions else {"if_match": quoted(etag)}
        if length is not None:
            options["range"] = (offset, offset + length)
        elif offset:
            options["range"] = {"offset": offset}
        try:
            result = obstore.get(self._stores.within(timeout), name, options=options or None)  # type: ignore[arg-type]  # made of its keys
            meta = result.meta
            data = _whole(result, meta["size"] if length is None else length)
        except Exception as error:
            raise FailedError(_failure(error)) from error
        checksum = None if self._packing.checksum is None else self._packing.checksum_in(result.attributes)
        return Got(data, self._etag(meta), meta["size"], checksum)

    def head(self, name: str, *, timeout: float) -> ObjectInfo:
        """Describe an object."""
        import obstore  # noqa: PLC0415 (the same)

        try:
            result = obstore.get(self._stores.within(timeout), name, options={"head": True})
        except Exception as error:
            raise FailedError(_failure(error)) from error
        return self._info(name, result.meta, result.attributes)

    def delete(self, name: str, *, timeout: float) -> None:
        """Delete an object; a missing one is no error."""
        import obstore  # noqa: PLC0415 (the same)

        try:
            obstore.delete(self._stores.within(timeout), name)
        except FileNotFoundError as error:
            failure = _failure(error)
            if failure.code in {"NoSuchBucket", "ContainerNotFound"}:
                raise FailedError(failure) from error
        except Exception as error:
            raise FailedError(_failure(error)) from error

    def close(self) -> None:
        """Let go of every connection."""
        self._stores.close()

    def _attributes(self, headers: ObjectHeaders, key: str | None, crc: int | None) -> dict[str, str]:
        attributes = {"Content-Type": headers.content_type or NO_TYPE}
        for theirs, ours in _HEADERS.items():
            value = getattr(headers, ours)
            if value is not None:
                attributes[theirs] = value
        if headers.metadata or key is not None or crc is not None:
            attributes |= self._packing.pack(headers.metadata, key=key, crc=crc)
        return attributes

    def _etag(self, meta: Any) -> str:
        return meta["version"] or "" if self._versions else unquoted(meta["e_tag"])

    def _info(self, name: str, meta: Any, attributes: dict[str, str]) -> ObjectInfo:
        found: dict[str, Any] = {ours: attributes.get(theirs) for theirs, ours in _HEADERS.items()}
        if found["content_type"] == NO_TYPE:
            found["content_type"] = None
        metadata = {key: value for key, value in attributes.items() if key not in _HEADERS}
        metadata.pop("Storage-Class", None)
        return ObjectInfo(
            name,
            meta["size"],
            self._etag(meta),
            meta["last_modified"].astimezone(UTC),
            metadata=self._packing.unpack(metadata),
            checksum=self._packing.checksum_in(metadata),
            **found,
        )


def _whole(result: Any, size: int) -> bytes:
    """Give all the bytes; of many, never more than two copies are in memory."""
    if size <= _CHUNK:
        data: bytes = result.bytes().to_bytes()
        return data
    return b"".join(result.stream(min_chunk_size=_CHUNK))


def _failure(error: Exception) -> Failure:
    """Read what `obstore` says: it has one class for all that it has no other for."""
    text = str(error)
    said, _, debug = text.partition("\n\nDebug source:")
    status = _STATUS.search(said)
    if status is not None:
        return Failure.of_answer(int(status[1]), text)
    if "StartTooLarge" in debug or _OF_NOTHING.search(said):
        # It counts itself what a range is of; and some servers answer that it is of an empty object.
        return Failure(416, "InvalidRange", "the object ends before the range")
    kind = _KIND.search(debug)
    return Failure(text=said.rpartition(" - ")[2], broken=_BROKEN.get(kind[1] if kind else "", "cut"))
