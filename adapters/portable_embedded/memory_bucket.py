"""Objects in memory: `memory:` for one `Cloud`, `memory:NAME` for the whole process."""

from __future__ import annotations

import secrets
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any
from zlib import crc32

import msgspec

from portable import drivers
from portable.batches import Page
from portable.bindings import Binding
from portable.capabilities import BucketCapabilities
from portable.changes import Change
from portable.checksums import named
from portable.errors import AlreadyExists, InvalidArgument, NotFound, PortableError, PreconditionFailed, Unsupported
from portable.object_listing import beginning, behind, grouped, paged
from portable.objects import Condition, ObjectHeaders, ObjectInfo, Part, Prefix, SignedRequest
from portable_embedded.memory import space

__all__ = ["MemoryBucket", "MemoryBucketOptions"]


class MemoryBucketOptions(drivers.Options, frozen=True, kw_only=True):
    """`memory:` keeps objects for one `Cloud`, `memory:NAME` for the process, shared by every cloud in it.

    It has no options.
    """


class _Objects:
    """The objects of one bucket, and the parts of its uploads; guarded by the lock of its space."""

    def __init__(self) -> None:
        self.stored: dict[bytes, tuple[bytes, ObjectInfo]] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        self._ordered: list[bytes] = []
        self._added: list[bytes] = []

    def put(self, info: ObjectInfo, data: bytes) -> None:
        """Store an object over what was there."""
        key = info.key.encode()
        if key not in self.stored:
            self._added.append(key)
        self.stored[key] = (data, info)

    def following(self, after: bytes, prefix: bytes, count: int) -> list[bytes]:
        """Give the next keys of a listing, some of which may be deleted meanwhile."""
        if self._added:
            # What was deleted and written again stands there twice; sorting what is nearly sorted takes linear time.
            self._ordered = sorted({*self._ordered, *self._added} & self.stored.keys())
            self._added = []
        elif len(self._ordered) > 2 * len(self.stored):
            self._ordered = [key for key in self._ordered if key in self.stored]
        start = bisect_left(self._ordered, prefix) if prefix > after else bisect_right(self._ordered, after)
        return self._ordered[start : start + count]


class MemoryBucket:
    """A bucket in this process's memory; safe with threads, gone with the process."""

    Options = MemoryBucketOptions
    blocking = False

    def __init__(self, binding: Binding[MemoryBucketOptions]) -> None:
        """Find the bucket's place, without any I/O."""
        self._space = space(binding)
        self._clock = binding.clock
        self._objects: _Objects = self._space.get(("bucket", binding.name), _Objects)

    capabilities = BucketCapabilities(durability="none", server_side_copy=True, part_bytes=1024 * 1024, max_parts=None)

    @property
    def native(self) -> dict[bytes, tuple[bytes, ObjectInfo]]:
        """The objects themselves: UTF-8 key to bytes and description."""
        return self._objects.stored

    def open(self) -> None:
        """Do nothing: memory is there."""

    def close(self) -> None:
        """Do nothing: the objects stay with their space."""

    def check(self, *, write: bool, timeout: float) -> None:
        """Do nothing: memory is there."""

    def plan(self) -> list[Change]:
        """Give nothing: a bucket in memory needs no making."""
        return []

    def create(self) -> None:
        """Do nothing: a bucket in memory needs no making."""

    def put(
        self,
        key: str,
        data: bytes | memoryview,
        headers: ObjectHeaders,
        condition: Condition | None,
        *,
        timeout: float,  # noqa: ARG002 (memory does not wait)
    ) -> ObjectInfo:
        """Write an object."""
        return self._store(key, bytes(data), headers, condition)

    def get(self, key: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> bytes:  # noqa: ARG002 (memory does not wait)
        """Read a range of an object."""
        data, info = self._found(key, etag)
        if etag is not None and info.etag != etag:
            raise _unmet(key)
        return data if offset == 0 and length is None else data[offset : None if length is None else offset + length]

    def head(self, key: str, *, timeout: float) -> ObjectInfo:  # noqa: ARG002 (memory does not wait)
        """Describe an object."""
        return _own(self._found(key, None)[1])

    def delete(self, key: str, etag: str | None, *, timeout: float) -> None:  # noqa: ARG002 (memory does not wait)
        """Delete an object."""
        with self._space.lock:
            found = self._objects.stored.get(key.encode())
            if etag is not None and (found is None or found[1].etag != etag):
                raise _unmet(key)
            self._objects.stored.pop(key.encode(), None)

    def delete_many(self, keys: Sequence[str], *, timeout: float) -> list[PortableError | None]:
        """Delete objects."""
        for key in keys:
            self.delete(key, None, timeout=timeout)
        return [None] * len(keys)

    def list_pages(
        self,
        prefix: str,
        delimiter: str | None,
        start_after: str | None,
        cursor: str | None,
        limit: int,
        *,
        timeout: float,  # noqa: ARG002 (memory does not wait)
    ) -> Iterator[Page[ObjectInfo | Prefix]]:
        """Yield pages."""
        yield from paged(self._items(prefix.encode(), delimiter, beginning(start_after, cursor)), limit)

    def copy(self, source: str, target: str, origin: Binding[Any] | None, *, timeout: float) -> ObjectInfo | None:
        """Copy an object of this bucket."""
        if origin is not None:
            return None
        data, info = self._found(source, None)
        headers = ObjectHeaders(**{name: getattr(info, name) for name in ObjectHeaders.__struct_fields__})
        return self.put(target, data, headers, None, timeout=timeout)

    def sign(self, key: str, method: str, expires: float, content_type: str | None, *, timeout: float) -> SignedRequest:  # noqa: ARG002 (the portable type never gets here)
        """Refuse: nobody else reaches this memory."""
        raise Unsupported("memory: cannot sign requests")

    def begin_upload(self, key: str, headers: ObjectHeaders, *, timeout: float) -> str:  # noqa: ARG002 (memory does not wait)
        """Begin an upload."""
        upload = secrets.token_hex(8)
        with self._space.lock:
            self._objects.uploads[upload] = {}
        return upload

    def write_part(
        self,
        key: str,
        upload: str,
        number: int,
        offset: int,
        data: bytes | memoryview,
        *,
        timeout: float,  # noqa: ARG002 (memory does not wait)
    ) -> Part:
        """Keep one part."""
        part = bytes(data)
        with self._space.lock:
            self._parts(key, upload)[number] = part
        return Part(number, offset, len(part), f"{crc32(part):08x}")

    def kept_parts(self, key: str, upload: str, parts: Sequence[Part], *, timeout: float) -> list[Part]:  # noqa: ARG002 (memory does not wait)
        """Say which parts are there."""
        with self._space.lock:
            kept = self._parts(key, upload)
            return [part for part in parts if len(kept.get(part.number, b"")) == part.size]

    def commit_upload(
        self,
        key: str,
        upload: str,
        parts: Sequence[Part],
        headers: ObjectHeaders,
        condition: Condition | None,
        *,
        timeout: float,  # noqa: ARG002 (memory does not wait)
    ) -> ObjectInfo:
        """Make the parts the object."""
        with self._space.lock:
            kept = self._parts(key, upload)
            missing = [part.number for part in parts if part.number not in kept]
            if missing:
                raise InvalidArgument(f"the upload of {key!r} lacks the parts {missing}")
            info = self._store(key, b"".join(kept[part.number] for part in parts), headers, condition)
            del self._objects.uploads[upload]
            return info

    def abort_upload(self, key: str, upload: str, *, timeout: float) -> None:  # noqa: ARG002 (memory does not wait)
        """Drop the parts."""
        with self._space.lock:
            self._objects.uploads.pop(upload, None)

    def _store(self, key: str, data: bytes, headers: ObjectHeaders, condition: Condition | None) -> ObjectInfo:
        info = ObjectInfo(
            key,
            len(data),
            secrets.token_hex(8),
            datetime.fromtimestamp(self._clock(), UTC),
            checksum=named(crc32(data)),
            **msgspec.structs.asdict(headers),
        )
        with self._space.lock:
            if condition is not None:
                found = self._objects.stored.get(key.encode())
                if condition.absent and found is not None:
                    raise AlreadyExists(f"there is an object {key!r} already")
                if condition.etag is not None and (found is None or found[1].etag != condition.etag):
                    raise _unmet(key)
            self._objects.put(info, data)
        return _own(info)

    def _found(self, key: str, etag: str | None) -> tuple[bytes, ObjectInfo]:
        # One look-up of a dict sees the old or the new object, with or without the lock.
        found = self._objects.stored.get(key.encode())
        if found is None:
            raise _unmet(key) if etag is not None else NotFound(f"there is no object {key!r}")
        return found

    def _parts(self, key: str, upload: str) -> dict[int, bytes]:
        try:
            return self._objects.uploads[upload]
        except KeyError:
            raise NotFound(f"the upload of {key!r} is gone; begin a new one") from None

    def _items(self, prefix: bytes, delimiter: str | None, after: bytes) -> Iterator[ObjectInfo | Prefix]:
        cut = delimiter.encode() if delimiter is not None else None
        while True:
            with self._space.lock:
                keys = self._objects.following(after, prefix, 1000)
                found = [(key, self._objects.stored.get(key)) for key in keys]
            if not keys:
                return
            for key, entry in found:
                if not key.startswith(prefix):
                    return
                if key <= after:
                    continue
                after = key
                if entry is None:
                    continue
                group = grouped(key, prefix, cut)
                if group is None:
                    yield _own(entry[1])
                else:
                    item = Prefix(group.decode())
                    yield item
                    after = behind(item)


def _own(info: ObjectInfo) -> ObjectInfo:
    # The dict is the receiver's to change.
    return msgspec.structs.replace(info, metadata=info.metadata.copy())


def _unmet(key: str) -> PreconditionFailed:
    return PreconditionFailed(f"the object {key!r} is missing or not of this version any more")
