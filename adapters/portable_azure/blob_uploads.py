"""Uploads of block blobs in parts.

Blocks belong to the blob's name alone. So their ids tell the upload, the part, and the part's CRC-32.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from typing import Any
from zlib import crc32

from azure.storage.blob import BlobBlock

from portable.errors import NotFound, PortableError
from portable.objects import Condition, ObjectHeaders, ObjectInfo, Part
from portable_azure.blob_calls import BlobCalls, conditions, described, settings_of
from portable_azure.blob_clients import within
from portable_azure.blob_names import PACKING
from portable_objectstore.descriptions import crc_of_parts
from portable_objectstore.failures import FailedError

__all__ = ["BlobUploads"]

_CRC = re.compile(r"[0-9a-f]{8}")


class BlobUploads:
    """The uploads to one container. An upload's id is a word of ours; a part's token is its CRC-32."""

    def __init__(self, calls: BlobCalls) -> None:
        self._calls = calls

    @staticmethod
    def begin(name: str, headers: ObjectHeaders, *, key: str | None, timeout: float) -> str:  # noqa: ARG004 (nothing is sent)
        """Give an id: the service hears of the upload with its first part."""
        return uuid.uuid4().hex

    def write(
        self, name: str, upload: str, number: int, offset: int, data: bytes | memoryview, *, timeout: float
    ) -> Part:
        """Write one block."""
        part = Part(number, offset, len(data), f"{crc32(data):08x}")
        self._calls.call(
            self._calls.blob(name).stage_block,
            _block(upload, part),
            bytes(data),
            length=len(data),
            validate_content=True,
            **within(timeout),
        )
        return part

    def kept(self, name: str, upload: str, parts: Sequence[Part], *, timeout: float) -> list[Part]:
        """Say which parts are there, whole.

        Raises:
            NotFound: none of them is, because the service dropped them.
        """
        if not parts:
            return []
        try:
            _, waiting = self._calls.call(self._calls.blob(name).get_block_list, "uncommitted", **within(timeout))
        except FailedError as error:
            if error.failure.code != "BlobNotFound":
                raise
            waiting = []
        sizes = {str(block.id): block.size for block in waiting}
        kept = [part for part in parts if sizes.get(_block(upload, part)) == part.size]
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
        """Make the blocks the blob; once, because the second of two attempts finds none."""
        crc = crc_of_parts(parts, [int(part.token, 16) if _CRC.fullmatch(part.token) else None for part in parts])
        blocks = [_block(upload, part) for part in parts]
        size = sum(part.size for part in parts)
        try:
            answer: Any = self._calls.call(
                self._calls.blob(name).commit_block_list,
                [BlobBlock(block) for block in blocks],
                content_settings=settings_of(headers),
                metadata=PACKING.pack(headers.metadata, key=key, crc=crc),
                **conditions(condition),
                **within(timeout, once=True),
            )
        except FailedError as error:
            done = self._done_all_the_same(error, name, blocks, timeout)
            if done is None:
                raise
            return done
        return described(name, size, answer, headers, crc)

    @staticmethod
    def abort(name: str, upload: str, *, timeout: float) -> None:
        """Leave the parts to the service, which drops them after a week, or when the object is written."""

    def _done_all_the_same(
        self, error: FailedError, name: str, blocks: Sequence[str], timeout: float
    ) -> ObjectInfo | None:
        """Look whether a commit whose answer was lost came about: the blob has the upload's blocks."""
        if not (error.failure.is_unsettled and blocks):
            return None
        try:
            info = self._calls.head(name, timeout=timeout).info
            there, _ = self._calls.call(self._calls.blob(name).get_block_list, "committed", **within(timeout))
        except (FailedError, PortableError):
            return None
        return info if [str(block.id) for block in there] == list(blocks) else None


def _block(upload: str, part: Part) -> str:
    """Give a block's id; all of a blob's have to be of one length."""
    return f"{upload}{part.number:08d}{part.token:>8}"
