"""How the keys of a cache are named; `docs/wire-formats/memcached.md` says the same for other programs."""

from __future__ import annotations

import hashlib
import re

__all__ = ["GENERATION", "LONGEST_KEY", "Names"]

LONGEST_KEY = 250
"""Bytes of a key that memcached takes."""

GENERATION = 12
"""Characters of a generation."""

SHORT = 25
"""Characters of a key that fits in any case, however it is escaped."""

LONGEST_NAME = 60
"""Bytes of a cache's escaped name that its keys hold; a longer one stands there as a digest."""

_UNSAFE = re.compile(rb"[\x00-\x20%\x7f]|\xc2[\x80-\xa0]")
_PLAIN = re.compile(r"[!-$&-~]*")


def _escaped(text: str) -> bytes:
    """Give a text without white space and control characters: those, and `%`, are percent-encoded bytes of UTF-8."""
    if _PLAIN.fullmatch(text):
        return text.encode()
    return _UNSAFE.sub(lambda found: b"".join(b"%%%02X" % byte for byte in found[0]), text.encode())


def _digest(text: str) -> bytes:
    return b"#" + hashlib.sha256(text.encode()).hexdigest().encode()


class Names:
    """The keys of one cache.

    Attributes:
        generation: the key that holds the cache's generation.
    """

    def __init__(self, name: str) -> None:
        """Take the cache's physical name."""
        inner = _escaped(name).replace(b":", b"%3A").replace(b"#", b"%23")
        if len(inner) > LONGEST_NAME:
            inner = _digest(name)
        self._base = b"portable:cache:" + inner
        self.generation = self._base + b":generation"
        self._locks = self._base + b":lock:"

    def is_long(self, key: str) -> bool:
        """Whether a key's value is under its digest."""
        return len(key) > SHORT and len(self._base) + GENERATION + 8 + len(_escaped(key)) > LONGEST_KEY

    def value(self, generation: bytes, key: str) -> bytes:
        """Give the key of a value."""
        if self.is_long(key):
            return b"%b:digest:%b:%b" % (self._base, generation, _digest(key))
        return b"%b:value:%b:%b" % (self._base, generation, _escaped(key))

    def lock(self, name: str) -> bytes:
        """Give the key of a lock."""
        stored = self._locks + _escaped(name)
        # A digest has a first character that no name of a lock of ours has: those start with their kind.
        return stored if len(stored) <= LONGEST_KEY else self._locks + _digest(name)
