"""From keys to the names that objects have at the server, and which names a server cannot carry."""

from __future__ import annotations

import re

from portable.errors import LimitExceeded
from portable_objectstore.hidden_keys import AREA, hidden_name

__all__ = ["Names"]

_FROM_DOTS = re.compile(r"\.{1,2}(?:/|$)")
# What servers with folders drop, or read as another character.
_NO_PATH = re.compile(r"(?:^|/)\.{0,2}(?:/|$)|[\\\x00]")
# A file's name has a dot, a folder's has none: so no object is ever in the way of a folder, or the other way round,
# whoever makes the other at the same time. These are folders that servers, or we, make all the same.
_FILE = re.compile(r"(?:[^./]+/)*(?!\.(?:uploads|portable)$)[^/]*\.[^/]*(?<!\.versions)")
_LONGEST_FILE_NAME = 255


class Names:
    """How one server's objects are named.

    Args:
        folders: whether it keeps them as files in folders.
    """

    def __init__(self, *, folders: bool) -> None:
        self.folders = folders

    def name(self, key: str) -> str:
        """Give the name that a key's object has.

        Raises:
            LimitExceeded: S3 takes no such key, and it is not of those that are hidden.
        """
        if self.folders:
            return key if _FILE.fullmatch(key) and _is_path(key) else hidden_name(key)
        if key.startswith(AREA) or _FROM_DOTS.match(key):
            return hidden_name(key)
        if "/../" in key and _leaves_root(key):
            raise LimitExceeded(f"the key {key[:60]!r} has more ../ than folders before them, which S3 refuses")
        return key

    def other_name(self, key: str) -> str | None:
        """Give the name under which another program may keep the object of a hidden key, or None."""
        if self.folders and not key.startswith(AREA) and _is_path(key) and not _FILE.fullmatch(key):
            return key
        return None

    def may_hide(self, prefix: str) -> bool:
        """Say whether keys that start so may be hidden."""
        return self.folders or AREA.startswith(prefix) or prefix.startswith((AREA, "./", "../")) or prefix == ".."

    def is_shown(self, name: str) -> bool:
        """Say whether an object of this name is listed as it is."""
        if name.startswith(AREA):
            return False
        return not self.folders or not (name.endswith("/") or name.startswith(".uploads/"))


def _is_path(key: str) -> bool:
    if _NO_PATH.search(key):
        return False
    # No character takes more than four bytes.
    return len(key) * 4 <= _LONGEST_FILE_NAME or all(
        len(segment.encode()) <= _LONGEST_FILE_NAME for segment in key.split("/")
    )


def _leaves_root(key: str) -> bool:
    depth = 0
    for segment in key.split("/"):
        depth += -1 if segment == ".." else segment != "."
        if depth < 0:
            return True
    return False
