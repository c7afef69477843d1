"""From keys to the names that blobs have, and which names Azure cannot carry.

https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
"""

from __future__ import annotations

import re

from portable_objectstore.hidden_keys import AREA, hidden_name
from portable_objectstore.metadata import Packing

__all__ = ["PACKING", "BlobNames", "is_shown"]

PACKING = Packing(
    re.compile(r"[a-z_][a-z0-9_]*"), packed="portable_metadata", key="portable_key", checksum="portable_crc32"
)
"""The metadata of blobs, whose names are C# identifiers."""

# What the service refuses or changes; and characters beyond U+FFFF, which sort elsewhere in UTF-16 than in UTF-8.
_UNCARRIED = re.compile("[\x00-\x1f\x7f-\x9f\\\\\ue000-\uf8ff\ufffe\uffff\U00010000-\U0010ffff]|\\.(?=/|$)|/$")
# What cannot stand in a URL, or is changed there.
_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f-\x9f\\\\\ufffe\uffff]|(?:^|/)\\.{1,2}(?:/|$)")
_MOST_SEGMENTS = 254


class BlobNames:
    """How blobs are named."""

    @staticmethod
    def name(key: str) -> str:
        """Give the name that a key's blob has."""
        return key if _is_native(key) else hidden_name(key)

    @staticmethod
    def other_name(key: str) -> str | None:
        """Give the name under which another program may keep the blob of a hidden key, or None."""
        if _is_native(key) or key.startswith(AREA) or _UNSPEAKABLE.search(key) is not None:
            return None
        return key if key.count("/") < _MOST_SEGMENTS else None


def is_shown(name: str) -> bool:
    """Say whether a blob of this name is listed as it is."""
    return not name.startswith(AREA)


def _is_native(key: str) -> bool:
    return not key.startswith(AREA) and _UNCARRIED.search(key) is None and key.count("/") < _MOST_SEGMENTS
