"""Uploads to Cloud Storage in parts: each is an object of its own until the service composes them, 32 at a time."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence

from google.cloud.storage import Blob

from portable.errors import NotFound, PortableError
from portable.objects import Condition, ObjectHeaders, ObjectInfo, Part
from portable_gcp.gcs_calls import GcsCalls, conditions, described
from portable_gcp.gcs_names import part_name
from portable_objectstore.descriptions import crc_of_parts
from portable_objectstore.failures import FailedError
from portable_objectstore.service import Writes

__all__ = ["GcsUploads"]

_AT_ONCE = 32
_CRC = re.compile(r"[0-9a-f]{8}")


class GcsUploads:
    """The uploads to one bucket. An upload's id is a word of ours; a part's token is its generation and CRC-32.

    Attributes:
        parts: writes the parts.
    """

    def __init__(self, calls: GcsCalls) -> None:
        self._calls = calls
        self.parts: Writes = calls

    @staticmethod
    def begin(name: str, headers: ObjectHeaders, *, key: str | None, timeout: float) -> str:  # noqa: ARG004 (nothing is sent)
        """Give an id: the service hears of the upload with its first part."""
        return uuid.uuid4().hex

    def write(
        self,
        name: str,  # noqa: ARG002 (a part is an object of its own)
        upload: str,
        number: int,
        offset: int,
        data: bytes | memoryview,
        *,
        timeout: float,
    ) -> Part:
        """Write one part."""
        # The same bytes may come twice, and are the same object then.
        info = self.parts.put(part_name(upload, f"{number:05d}"), data, ObjectHeaders(), None, timeout=timeout)
        return Part(number, offset, len(data), f"{info.etag} {(info.checksum or '').removeprefix('crc32:')}")

    def kept(self, name: str, upload: str, parts: Sequence[Part], *, timeout: float) -> list[Part]:  # noqa: ARG002 (the same)
        """Say which parts are there, whole.

        Raises:
            NotFound: none of them is.
        """
        if not parts:
            return []
        there = self._there(upload, timeout)
        kept = [part for part in parts if there.get(_name(upload, part)) == (_generation(part), part.size)]
        if not kept:
            raise NotFound("the upload is gone; begin a new one")
        return kept

    def commit(
        self,
        name: str,
        upload: str,
        parts: Sequence[Part],
        headers: ObjectHeaders,
        condition: Condition | None,
        *,
        key: str | None,
        timeout: float,
    ) -> ObjectInfo:
        """Compose the object of its parts; the last step once, because a second attempt would lie."""
        if not parts:
            return self._calls.put(name, b"", headers, condition, key=key, timeout=timeout)
        crc = crc_of_parts(parts, [_crc(part) for part in parts])
        sources = [self._calls.bucket.blob(_name(upload, part)) for part in parts]
        generations: list[int] | None = [_generation(part) for part in parts]
        level = 0
        while len(sources) > _AT_ONCE:
            level += 1
            sources = [
                self._composed(part_name(upload, f"c{level}-{at:05d}"), sources, generations, at, timeout)
                for at in range(0, len(sources), _AT_ONCE)
            ]
            generations = None
        blob = self._calls.blob(name, headers, key=key, crc=crc)
        self._calls.call(
            blob.compose,
            sources,
            if_source_generation_match=generations,
            timeout=timeout,
            once=True,
            **conditions(condition),
        )
        info = described(blob)
        self.abort(name, upload, timeout=timeout)
        return info

    def abort(self, name: str, upload: str, *, timeout: float) -> None:  # noqa: ARG002 (the same)
        """Delete what an upload has left; what cannot be deleted stays."""
        try:
            names = list(self._there(upload, timeout))
        except (FailedError, PortableError):
            return
        self._calls.delete_many(names, lambda name: self._calls.delete(name, None, timeout=timeout))

    def _composed(
        self, name: str, sources: Sequence[Blob], generations: Sequence[int] | None, at: int, timeout: float
    ) -> Blob:
        blob = self._calls.blob(name, ObjectHeaders())
        end = at + _AT_ONCE
        self._calls.call(
            blob.compose,
            list(sources[at:end]),
            if_source_generation_match=None if generations is None else list(generations[at:end]),
            timeout=timeout,
        )
        return blob

    def _there(self, upload: str, timeout: float) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for objects, _, _ in self._calls.answers(prefix=part_name(upload, ""), timeout=timeout):
            found |= {one.name: (one.generation, one.size) for one in objects}
        return found


def _name(upload: str, part: Part) -> str:
    return part_name(upload, f"{part.number:05d}")


def _generation(part: Part) -> int:
    text = part.token.partition(" ")[0]
    return int(text) if text.isdigit() else 0


def _crc(part: Part) -> int | None:
    text = part.token.partition(" ")[2]
    return int(text, 16) if _CRC.fullmatch(text) else None
