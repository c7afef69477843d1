"""Where a key's file stands below the root of a `file:` bucket; `docs/wire-formats/bucket.md` has the same rules.

`/` separates folders, and most keys are their own path. What a file system cannot carry is escaped so that no two
keys meet, and so that almost every name that another program chose is the key that it looks like.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

__all__ = ["BESIDE", "INTERNAL", "MORE", "decoded", "key_of", "names_of", "pieces_of"]

INTERNAL = ".portable"
"""The folder of ours at the root: no object is in it."""

BESIDE = "%object"
"""Ends the name of an object whose own name is taken by a folder: `a`, while there is `a/b`."""

MORE = "%more"
"""Ends the name of a folder that is the beginning of a name too long for one."""

_EMPTY = "%empty"
# A name has 255 bytes, and must have room for what makes it the name beside.
_LONGEST = 255 - len(BESIDE)
_PIECE = 200
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]|%(?=(?:[01][0-9A-F]|7F|25|2E)|(?:empty|object|more)\Z)")
_ESCAPE = re.compile(r"%([01][0-9A-F]|7F|25|2E)")
_PLAIN = re.compile(r"[^\x00-\x1f\x7f%/]{1,60}")
_DOTS = {".": "%2E", "..": "%2E%2E"}


@functools.lru_cache(maxsize=4096)
def names_of(key: str) -> tuple[str, ...]:
    """Give the names of the folders and, last, of the file of a key."""
    names: list[str] = []
    for position, segment in enumerate(key.split("/")):
        names.extend(pieces_of(segment, at_root=position == 0))
    return tuple(names)


def pieces_of(segment: str, *, at_root: bool) -> list[str]:
    """Give the name of one segment of a key: more than one where it is too long."""
    name = _escaped(segment, at_root=at_root)
    return [name] if len(name) <= _LONGEST // 4 else _pieces(name)


def key_of(names: Sequence[str]) -> str:
    """Give the key, or the prefix without its last slash, that stands at a path; undoes `names_of`."""
    segments: list[str] = []
    begun = ""
    for name in names:
        if name.endswith(MORE):
            begun += name[: -len(MORE)]
        else:
            segments.append(_unescaped(begun + name))
            begun = ""
    return "/".join(segments)


def decoded(name: str, *, at_root: bool) -> str | None:
    """Give the segment of a key that a whole name stands for, or None where no key leads there."""
    if _PLAIN.fullmatch(name):
        return None if at_root and name == INTERNAL else name
    segment = _unescaped(name)
    return segment if _escaped(segment, at_root=at_root) == name else None


def _escaped(segment: str, *, at_root: bool) -> str:
    if not segment:
        return _EMPTY
    if segment[0] == ".":
        if segment in _DOTS:
            return _DOTS[segment]
        if at_root and segment == INTERNAL:
            return f"%2E{segment[1:]}"
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", segment)


def _unescaped(name: str) -> str:
    if name == _EMPTY:
        return ""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), name)


def _pieces(name: str) -> list[str]:
    rest = name.encode()
    pieces: list[str] = []
    # What is left after a cut is never short, so that no piece can be `.`, `..` or empty.
    while len(rest) > _LONGEST:
        cut = _PIECE
        while rest[cut] & 0xC0 == 0x80:
            cut -= 1
        pieces.append(rest[:cut].decode() + MORE)
        rest = rest[cut:]
    pieces.append(rest.decode())
    return pieces
