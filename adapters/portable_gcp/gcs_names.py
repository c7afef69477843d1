"""From keys to the names that objects have, and which names Cloud Storage cannot carry.

https://cloud.google.com/storage/docs/objects#naming
"""

from __future__ import annotations

import re

from portable_objectstore.hidden_keys import AREA, hidden_name
from portable_objectstore.metadata import Packing

__all__ = ["NO_TYPE", "PACKING", "UPLOADS", "name_of", "part_name"]

NO_TYPE = "binary/octet-stream"
"""What stands for no content type: without one, the service would store its own, which applications use, too."""

PACKING = Packing(
    re.compile(r"[a-z0-9][a-z0-9._-]*"), packed="portable-metadata", key="portable-key", checksum="portable-crc32"
)
"""The metadata of objects, which HTTP headers carry, too."""

UPLOADS = f"{AREA}~uploads/"
"""Where the parts of uploads lie until they are an object: behind all hidden names."""

_UNCARRIED = re.compile(r"[\r\n]|^\.well-known/acme-challenge/|^\.{1,2}$")


def name_of(key: str) -> str:
    """Give the name that a key's object has."""
    return hidden_name(key) if key.startswith(AREA) or _UNCARRIED.search(key) else key


def part_name(upload: str, part: str) -> str:
    """Give the name of one part of an upload, or of some together."""
    return f"{UPLOADS}{upload}/{part}"
