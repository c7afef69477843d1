"""Metadata in HTTP headers: names and values that a header carries stay as they are, the others travel as JSON in one.

`docs/wire-formats/s3.md` says the same for other languages, and those of the other clouds what is otherwise there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from portable.checksums import crc32_of, named

__all__ = ["PACKED", "PLAIN", "Packing"]

# Clients read these names as the headers themselves.
_HEADERS = {
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-type",
    "storage-class",
}
# No blanks at the ends nor two in a row, which HTTP and signatures drop; nothing that mail's encoding would change.
_PLAIN_VALUE = re.compile(r"(?!=\?)[!-~]+(?: [!-~]+)*")


class Packing:
    """How one cloud's objects carry metadata, and what we store beside it.

    Args:
        name: what a name has to be to stay as it is.
        packed: the name of the metadata that holds, as one JSON object in ASCII, what headers cannot carry.
        key: the name of the metadata that holds a key which its object's name cannot tell, as JSON in ASCII.
        checksum: the name of the metadata that holds the CRC-32 of the content, for clouds that keep none; or None.
    """

    def __init__(self, name: re.Pattern[str], *, packed: str, key: str, checksum: str | None = None) -> None:
        self.checksum = checksum
        self._name = name
        self._packed = packed
        self._key = key
        self._reserved = _HEADERS | {packed, key} | ({checksum} if checksum else set())

    def pack(self, metadata: Mapping[str, str], *, key: str | None = None, crc: int | None = None) -> dict[str, str]:
        """Give metadata as headers carry it, with the key and the CRC-32 where they are to be told."""
        kept: dict[str, str] = {}
        if metadata:
            packed = {name: value for name, value in metadata.items() if not self._is_plain(name, value)}
            kept = {name: value for name, value in metadata.items() if name not in packed}
            if packed:
                kept[self._packed] = json.dumps(packed, separators=(",", ":"))
        if key is not None:
            kept[self._key] = json.dumps(key)
        if crc is not None and self.checksum is not None:
            kept[self.checksum] = f"{crc:08x}"
        return kept

    def unpack(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """Undo `pack`; what is not packed by us stays as it is."""
        if not metadata:
            return {}
        found = {name.lower(): value for name, value in metadata.items()}
        found.pop(self._key, None)
        if self.checksum is not None:
            found.pop(self.checksum, None)
        text = found.pop(self._packed, None)
        if text is None:
            return found
        try:
            packed = json.loads(text)
        except ValueError:
            packed = None
        if not isinstance(packed, dict) or not all(isinstance(value, str) for value in packed.values()):
            return {**found, self._packed: text}
        return {**found, **packed}

    def key_in(self, metadata: Mapping[str, str]) -> str | None:
        """Give the key that metadata tells, or None."""
        try:
            key = json.loads(metadata.get(self._key, "null"))
        except ValueError:
            return None
        return key if isinstance(key, str) else None

    def checksum_in(self, metadata: Mapping[str, str]) -> str | None:
        """Give the checksum that metadata tells, as `ObjectInfo` has it, or None."""
        text = None if self.checksum is None else metadata.get(self.checksum)
        try:
            return None if text is None else named(crc32_of(f"crc32:{text}") or 0)
        except ValueError:
            return None

    def _is_plain(self, name: str, value: str) -> bool:
        return (
            name not in self._reserved
            and self._name.fullmatch(name) is not None
            and _PLAIN_VALUE.fullmatch(value) is not None
        )


PACKED = "portable-metadata"
"""The name that packed metadata has at S3."""

PLAIN = Packing(re.compile(r"[a-z0-9][a-z0-9._-]*"), packed=PACKED, key="portable-key")
"""The metadata of S3."""
