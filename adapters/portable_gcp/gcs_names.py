"""From keys to the names that objects have, and which names Cloud Storage cannot carry.

https://cloud.google.com/storage/docs/objects#naming
"""

from __future__ import annotations

import re

from portable_objectstore.hidden_keys import AREA, hidden_name
from portable_objectstore.metadata import Packing

__all__ = ["PACKING", "UPLOADS", "GcsNames", "part_name"]

PACKING = Packing(
    re.compile(r"[a-z0-9][a-z0-9._-]*"), packed="portable-metadata", key="portable-key", checksum="portable-crc32"
)
"""The metadata of objects, which HTTP headers carry, too."""

UPLOADS = f"{AREA}~uploads/"
"""Where the parts of uploads lie until they are an object: behind all hidden names."""

_UNCARRIED = re.compile(r"[\r\n]|^\.well-known/acme-challenge/|^\.{1,2}$")


class GcsNames:
    """How objects are named."""

    @staticmethod
    def name(key: str) -> str:
        """Give the name that a key's object has."""
        return hidden_name(key) if key.startswith(AREA) or _UNCARRIED.search(key) else key

    @staticmethod
    def other_name(key: str) -> None:
        """Say that no other program can have an object of a hidden key."""


def part_name(upload: str, part: str) -> str:
    """Give the name of one part of an upload, or of some together."""
    return f"{UPLOADS}{upload}/{part}"
