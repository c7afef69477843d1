"""Keys that a store cannot carry: their objects lie under names of their own, below one prefix that listings hide.

A name is the key's UTF-8 in hexadecimal, cut into segments of 100 bytes and ended by a dot, so that names sort as the
keys do, and no name is a folder of another. A key that is too long for that lies behind its first 400 bytes under its
SHA-256, and the object's metadata holds it whole.
`docs/wire-formats/s3.md` says the same for other languages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping

import msgspec

from portable.objects import ObjectInfo
from portable_objectstore.listing import BEHIND_ALL, Item, cut
from portable_objectstore.metadata import Packing

__all__ = ["AREA", "ToldKeys", "hidden_name", "is_long", "revealed", "shown_key", "span_of", "start_of"]

AREA = ".portable/keys/"
"""What every hidden name starts with; a key that starts so is hidden itself."""

_LONGEST_NAME = 1024
_SEGMENT = 200
_END = "."
_SORTED_BYTES = 400
_SORTED_SEGMENTS = 2 * _SORTED_BYTES // _SEGMENT
# Behind every hexadecimal digit.
_LONG = "~"


def hidden_name(key: str) -> str:
    """Give the name under which the object of a hidden key lies."""
    raw = key.encode()
    name = AREA + _segments(raw) + _END
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{AREA}{_segments(raw[:_SORTED_BYTES])}/{_LONG}{hashlib.sha256(raw).hexdigest()}"


def is_long(name: str) -> bool:
    """Say whether a hidden name does not tell its key."""
    return f"/{_LONG}" in name and name.startswith(AREA)


def shown_key(name: str) -> str | None:
    """Give the key that a hidden name tells; None for what is none of ours."""
    if not name.endswith(_END):
        return None
    try:
        return bytes.fromhex(name[len(AREA) : -1].replace("/", "")).decode()
    except ValueError:
        return None


def span_of(prefix: str, after: bytes) -> tuple[str, str]:
    """Say where a listing looks for hidden names: what they start with, and behind which; few other keys' are there."""
    start, last = prefix.encode(), after.removesuffix(BEHIND_ALL)
    return AREA + _segments(start[:_SORTED_BYTES]), start_of(last)


def start_of(after: bytes) -> str:
    """Give the hidden name behind which those of all keys behind these bytes lie, and few others."""
    return AREA + _segments(after[:_SORTED_BYTES]) if after else ""


class ToldKeys:
    """The keys that metadata told to a listing which asked for it, by the long names of their objects."""

    def __init__(self, packing: Packing) -> None:
        self._packing = packing
        self._found: dict[str, str] = {}

    def note(self, name: str, metadata: Mapping[str, str] | None) -> None:
        """Note what the metadata of an object tells."""
        key = self._packing.key_in(metadata or {})
        if key is not None and is_long(name):
            self._found[name] = key

    def take(self, name: str) -> str | None:
        """Give the key of a name, once."""
        return self._found.pop(name, None)


def revealed(
    named: Iterable[ObjectInfo],
    key_of: Callable[[str], str | None],
    prefix: str,
    delimiter: str | None,
    after: bytes,
) -> Iterator[Item]:
    """Give hidden objects by their keys, in byte order, as a listing shows them.

    Long keys that share their first bytes are put in order in memory, together.

    Args:
        named: the objects by their names, in byte order.
        key_of: gives the key of a long name, or None where the object is gone.
        prefix: of the listing.
        delimiter: of the listing.
        after: the bytes behind which the listing starts.
    """
    start = prefix.encode()

    def listed() -> Iterator[ObjectInfo]:
        for info in _in_order(named, key_of):
            key = info.key.encode()
            if key > after and key.startswith(start):
                yield info

    return cut(listed(), prefix, delimiter)


def _in_order(named: Iterable[ObjectInfo], key_of: Callable[[str], str | None]) -> Iterator[ObjectInfo]:
    together: list[ObjectInfo] = []
    stem = ""
    for info in named:
        segments = info.key.removeprefix(AREA).split("/")
        shared = "/".join(segments[:_SORTED_SEGMENTS]) if len(segments) > _SORTED_SEGMENTS else ""
        if shared != stem:
            yield from sorted(together, key=_by_key)
            together, stem = [], shared
        key = key_of(info.key) if is_long(info.key) else shown_key(info.key)
        if key is None:
            continue
        found = msgspec.structs.replace(info, key=key)
        if shared:
            together.append(found)
        else:
            yield found
    yield from sorted(together, key=_by_key)


def _by_key(info: ObjectInfo) -> bytes:
    return info.key.encode()


def _segments(raw: bytes) -> str:
    digits = raw.hex()
    return "/".join(digits[at : at + _SEGMENT] for at in range(0, len(digits), _SEGMENT))
