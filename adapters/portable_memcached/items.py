"""What is stored beside a value: until when exactly it lives, and its key where that is a digest.

memcached counts whole seconds, by a clock that may be two late. So an item is given a little more, and its flags say to
an eighth of a second when the value is over. `docs/wire-formats/memcached.md` says the same for other programs.
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["Item", "item", "lifetime", "packed", "unpacked"]

SLACK = 2
"""Seconds that memcached keeps an item for after its value is over."""

MARK = 0xC << 28
"""The upper four bits of flags whose other bits are a time."""

TICKS = 8
"""Of a second; the time in the flags counts them."""

SPAN = 1 << 28
"""Ticks after which the time in the flags begins anew: 388 days."""

LONGEST_PRECISE = 90 * 86400
"""Seconds; a longer life is not told to the tick."""

LONGEST_RELATIVE = 30 * 86400
"""Seconds; memcached takes a longer life for a time of day."""

LAST = 2**31 - 1
"""The last time of day that memcached knows."""

KEYED = b"\xc1\x01"
"""Stands before a key and its value that are stored together; no value of ours starts like it."""


class Item(NamedTuple):
    """What is under a key.

    Attributes:
        value: as it was stored.
        left: seconds that it still lives, or None where it does not expire.
        unique: memcached's number of this state of it.
    """

    value: bytes
    left: float | None
    unique: bytes


def lifetime(ttl: float | None, now: float) -> bytes:
    """Give what a command that stores says about a life of `ttl` seconds."""
    if ttl is None:
        return b"T0 F0"
    precise = ttl <= LONGEST_PRECISE
    seconds = math.ceil(ttl) + (SLACK if precise else 1)
    if seconds > LONGEST_RELATIVE:
        seconds = min(math.ceil(now) + seconds, LAST)
    flags = MARK | (math.ceil((now + ttl) * TICKS) % SPAN) if precise else 0
    return b"T%d F%d" % (seconds, flags)


def item(value: bytes, tokens: list[bytes], now: float) -> Item | None:
    """Give what memcached answered, or None where its time is over.

    Args:
        value: the value.
        tokens: the flags, the seconds left and the unique number, each with its letter.
        now: the time of day.
    """
    flags, seconds, unique = int(tokens[0][1:]), int(tokens[1][1:]), tokens[2][1:]
    if seconds < 0:
        return Item(value, None, unique)
    left = float(seconds)
    if flags & (0xF << 28) == MARK:
        ticks = (flags - math.floor(now * TICKS)) % SPAN
        left = (ticks if ticks < SPAN // 2 else ticks - SPAN) / TICKS
        # memcached's own count is late by a little; where the two are further apart somebody's clock is wrong.
        if not seconds - SLACK - 3 <= left <= seconds + 1:
            left = float(seconds - SLACK)
    return Item(value, left, unique) if left > 0 else None


def packed(key: str, value: bytes) -> bytes:
    """Give what is stored under a digest: the key, so that it can be told, and the value."""
    text = key.encode()
    return b"%b%b%b%b" % (KEYED, len(text).to_bytes(4), text, value)


def unpacked(key: str, stored: bytes) -> bytes | None:
    """Give the value of a key from what is stored under its digest; None where that is of another one."""
    text = key.encode()
    start = len(KEYED) + 4 + len(text)
    head = b"%b%b%b" % (KEYED, len(text).to_bytes(4), text)
    return stored[start:] if stored.startswith(head) else None
