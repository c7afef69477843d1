"""Buckets that break a promise each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import sleep
from typing import Any

import msgspec

from portable.batches import Page
from portable.errors import AlreadyExists, NotFound, PortableError
from portable.objects import Condition, ObjectHeaders, ObjectInfo, Part, Prefix
from portable.registry import Adapter, register
from portable.testing.bucket import BucketSuite
from portable_embedded.memory_bucket import MemoryBucket

Listed = Iterator[Page[ObjectInfo | Prefix]]


class IgnoresIfAbsent(MemoryBucket):
    def put(self, key: str, data: Any, headers: ObjectHeaders, condition: Condition | None, **how: Any) -> ObjectInfo:
        return super().put(key, data, headers, None if condition and condition.absent else condition, **how)


class ChecksThenWrites(MemoryBucket):
    blocking = True

    def put(self, key: str, data: Any, headers: ObjectHeaders, condition: Condition | None, **how: Any) -> ObjectInfo:
        if condition is not None and condition.absent and key.encode() in self._objects.stored:
            raise AlreadyExists(key)
        sleep(0.1)
        return super().put(key, data, headers, None, **how)


class IgnoresIfMatch(MemoryBucket):
    def put(self, key: str, data: Any, headers: ObjectHeaders, condition: Condition | None, **how: Any) -> ObjectInfo:
        return super().put(key, data, headers, None if condition and condition.etag else condition, **how)


class DeletesAnyVersion(MemoryBucket):
    def delete(self, key: str, etag: str | None, *, timeout: float) -> None:
        super().delete(key, None, timeout=timeout)


class CollidesKeys(MemoryBucket):
    def put(self, key: str, *rest: Any, **how: Any) -> ObjectInfo:
        return super().put(key.replace("//", "/"), *rest, **how)

    def get(self, key: str, *rest: Any, **how: Any) -> bytes:
        return super().get(key.replace("//", "/"), *rest, **how)


class LosesEverySeventh(MemoryBucket):
    def put(self, key: str, *rest: Any, **how: Any) -> ObjectInfo:
        info = super().put(key, *rest, **how)
        if key == "006":
            del self._objects.stored[key.encode()]
        return info


class DropsMetadata(MemoryBucket):
    def head(self, key: str, *, timeout: float) -> ObjectInfo:
        return msgspec.structs.replace(super().head(key, timeout=timeout), metadata={})


class GarblesMetadata(MemoryBucket):
    def head(self, key: str, *, timeout: float) -> ObjectInfo:
        info = super().head(key, timeout=timeout)
        shown = {name: value.encode("ascii", "replace").decode() for name, value in info.metadata.items()}
        return msgspec.structs.replace(info, metadata=shown)


class KeepsOldMetadata(MemoryBucket):
    def put(self, key: str, data: Any, headers: ObjectHeaders, condition: Condition | None, **how: Any) -> ObjectInfo:
        found = self._objects.stored.get(key.encode())
        if found is not None:
            headers = msgspec.structs.replace(headers, metadata={**found[1].metadata, **headers.metadata})
        return super().put(key, data, headers, condition, **how)


class ListsStale(MemoryBucket):
    def delete(self, key: str, etag: str | None, *, timeout: float) -> None:
        found = self._objects.stored.get(key.encode())
        super().delete(key, etag, timeout=timeout)
        _ghosts.setdefault(id(self._objects), []).extend([found[1]] if found else [])

    def list_pages(self, *how: Any, timeout: float) -> Listed:
        for page in super().list_pages(*how, timeout=timeout):
            ghosts = [*_ghosts.pop(id(self._objects), [])]
            yield Page(sorted([*page.items, *ghosts], key=lambda item: item.key.encode()), page.cursor)


_ghosts: dict[int, list[ObjectInfo]] = {}


class ListsInOrderOfUtf16(MemoryBucket):
    def list_pages(self, *how: Any, timeout: float) -> Listed:
        for page in super().list_pages(*how, timeout=timeout):
            yield Page(sorted(page.items, key=lambda item: item.key.encode("utf-16-be")), page.cursor)


class ListsWholeSegments(MemoryBucket):
    def list_pages(self, prefix: str, *how: Any, timeout: float) -> Listed:
        whole = prefix if not prefix or prefix.endswith("/") else prefix + "/"
        yield from super().list_pages(whole, *how, timeout=timeout)


class ListsPagesByNumber(MemoryBucket):
    def list_pages(
        self,
        prefix: str,
        delimiter: str | None,
        start_after: str | None,
        cursor: str | None,
        limit: int,
        *,
        timeout: float,
    ) -> Listed:
        (whole,) = super().list_pages(prefix, delimiter, start_after, None, 10_000, timeout=timeout)
        start = int(cursor or 0)
        items = whole.items[start : start + limit]
        yield Page(items, str(start + limit) if start + limit < len(whole.items) else None)


class KnowsOnlySlashes(MemoryBucket):
    def list_pages(self, prefix: str, delimiter: str | None, *how: Any, timeout: float) -> Listed:
        yield from super().list_pages(prefix, "/" if delimiter else None, *how, timeout=timeout)


class ForgetsTheRangesEnd(MemoryBucket):
    def get(self, key: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> bytes:
        return super().get(key, offset, None if length == 0 else length, etag, timeout=timeout)


class RefusesPastTheEnd(MemoryBucket):
    def get(self, key: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> bytes:
        data = super().get(key, offset, length, etag, timeout=timeout)
        if offset and not data:
            raise NotFound("the range cannot be satisfied")
        return data


class ReadsAnyVersion(MemoryBucket):
    def get(self, key: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> bytes:
        return super().get(key, offset, length, None, timeout=timeout)


class EtagOfLength(MemoryBucket):
    def put(self, key: str, data: Any, *rest: Any, **how: Any) -> ObjectInfo:
        info = msgspec.structs.replace(super().put(key, data, *rest, **how), etag=str(len(data)))
        self._objects.stored[key.encode()] = (bytes(data), info)
        return info


class ShowsPartsEarly(MemoryBucket):
    def write_part(self, key: str, upload: str, number: int, offset: int, data: Any, *, timeout: float) -> Part:
        self._store(key, bytes(data), ObjectHeaders(), None)
        return super().write_part(key, upload, number, offset, data, timeout=timeout)


class MixesUpParts(MemoryBucket):
    def commit_upload(self, key: str, upload: str, parts: Sequence[Part], *rest: Any, **how: Any) -> ObjectInfo:
        return super().commit_upload(key, upload, [*parts[1:2], *parts[:1], *parts[2:]], *rest, **how)


class TearsObjects(MemoryBucket):
    blocking = True

    def put(self, key: str, data: Any, headers: ObjectHeaders, condition: Condition | None, **how: Any) -> ObjectInfo:
        found = self._objects.stored.get(key.encode())
        if found is not None and len(found[0]) == len(data):
            half = len(data) // 2
            self._objects.stored[key.encode()] = (bytes(data[:half]) + found[0][half:], found[1])
            sleep(0.02)
        return super().put(key, data, headers, condition, **how)


class CopiesBytesOnly(MemoryBucket):
    def copy(self, source: str, target: str, origin: Any, *, timeout: float) -> ObjectInfo | None:
        if origin is not None:
            return None
        return self.put(
            target, self.get(source, 0, None, None, timeout=timeout), ObjectHeaders(), None, timeout=timeout
        )


class FailsOnMissing(MemoryBucket):
    def delete(self, key: str, etag: str | None, *, timeout: float) -> None:
        if etag is None and key.encode() not in self._objects.stored:
            raise NotFound(key)
        super().delete(key, etag, timeout=timeout)


class LosesDeletes(MemoryBucket):
    def delete(self, key: str, etag: str | None, *, timeout: float) -> None:
        if not key.endswith("7"):
            super().delete(key, etag, timeout=timeout)

    def delete_many(self, keys: Sequence[str], *, timeout: float) -> list[PortableError | None]:
        return [None for _ in keys]


BROKEN = [broken for broken in (*globals().values(),) if isinstance(broken, type) and MemoryBucket in broken.__bases__]
register(
    Adapter(
        schemes={f"broken-{broken.__name__.lower()}": {"bucket": f"{__name__}:{broken.__name__}"} for broken in BROKEN},
        extra="tests",
    )
)


class TestSound(BucketSuite):
    url = "memory:conformance"


for _broken in BROKEN:
    _name = f"Test{_broken.__name__}"
    globals()[_name] = type(
        _name, (BucketSuite,), {"url": f"broken-{_broken.__name__.lower()}:conformance", "__module__": __name__}
    )
