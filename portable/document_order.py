"""Values as bytes that sort as the values do, so that any backend with ordered bytes can index every type at once.

One value is a tag byte (its `Rank`) and a body; no encoding is the start of another, so encodings can be joined:

- None: no body. bool: `00` or `01`.
- number: 8 bytes of the largest double that is not above it (big-endian; sign bit flipped for what is not negative,
  all bits flipped for what is), then 2 bytes of what an integer has beyond that double. Exact for all 64-bit integers.
- datetime: 8 bytes of its milliseconds since 1970 plus 2⁶³, big-endian.
- str (as UTF-8) and bytes: each `00` as `00 FF`, then `00` at the end.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from portable.document_values import MISSING, Rank, Scalar, find, milliseconds
from portable.query_intervals import Interval
from portable.query_plan import Plan

__all__ = ["AFTER", "BEYOND", "encode", "index_key", "place", "spans"]

AFTER = b"\x00"
"""Appended to an encoding it gives the smallest bytes above it."""
BEYOND = b"\xff"
"""Appended to an encoding it gives bytes above it and above every joined encoding that starts with it."""

_SAFE = 2**53
_DOUBLE = struct.Struct(">d")
_NUMBER = struct.Struct(">BQH")
_MOMENT = struct.Struct(">BQ")
_SIGN = 1 << 63
_ALL = (1 << 64) - 1


def _null(_: None) -> bytes:
    return bytes((Rank.NULL,))


def _bool(value: bool) -> bytes:  # noqa: FBT001 (the value itself)
    return bytes((Rank.BOOL, value))


def _int(value: int) -> bytes:
    if -_SAFE <= value <= _SAFE:
        return _number(float(value), 0)
    near = float(value)
    if int(near) > value:
        near = math.nextafter(near, -math.inf)
    return _number(near, value - int(near))


def _float(value: float) -> bytes:
    return _number(value or 0.0, 0)


def _number(value: float, beyond: int) -> bytes:
    bits = int.from_bytes(_DOUBLE.pack(value))
    return _NUMBER.pack(Rank.NUMBER, bits ^ _ALL if bits & _SIGN else bits | _SIGN, beyond)


def _datetime(value: datetime) -> bytes:
    return _MOMENT.pack(Rank.DATETIME, milliseconds(value) + _SIGN)


def _str(value: str) -> bytes:
    return b"\x05" + value.encode().replace(b"\x00", b"\x00\xff") + b"\x00"


def _bytes(value: bytes) -> bytes:
    return b"\x06" + value.replace(b"\x00", b"\x00\xff") + b"\x00"


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    type(None): _null,
    bool: _bool,
    int: _int,
    float: _float,
    datetime: _datetime,
    str: _str,
    bytes: _bytes,
}


def encode(value: Scalar) -> bytes:
    """Give the bytes of one value."""
    return _ENCODERS[type(value)](value)


def index_key(data: dict[str, Any], paths: Iterable[tuple[str, ...]]) -> bytes | None:
    """Give the joined bytes of a document's fields; None where one is missing or cannot be queried."""
    parts = []
    for path in paths:
        value = data.get(path[0], MISSING) if len(path) == 1 else find(data, path)
        encoder = _ENCODERS.get(type(value))
        if encoder is None:
            return None
        parts.append(encoder(value))
    return parts[0] if len(parts) == 1 else b"".join(parts)


def place(plan: Plan, value: Scalar) -> bytes:
    """Give the index key of a position in a plan."""
    key = b"".join(map(encode, plan.equals))
    return key if len(plan.equals) == len(plan.index) else key + encode(value)


def spans(plan: Plan, *, after: bytes = AFTER) -> list[tuple[bytes, bytes]]:
    """Give the index keys that a plan asks for, as half-open ranges of bytes, sorted and apart from each other.

    Args:
        plan: what is asked for.
        after: what makes an encoding greater than all that is stored with it: `BEYOND` where more encodings follow.
    """
    start = b"".join(map(encode, plan.equals))
    if len(plan.equals) == len(plan.index):
        return [(start, start + after)]
    if not plan.ranges:
        return [(start, start + BEYOND)]
    return [(start + _low(interval, after), start + _high(interval, after)) for interval in plan.ranges]


def _low(interval: Interval, after: bytes) -> bytes:
    if not interval.low:
        return bytes((interval.rank,))
    return encode(interval.low[0]) + (b"" if interval.low_closed else after)


def _high(interval: Interval, after: bytes) -> bytes:
    if not interval.high:
        return bytes((interval.rank + 1,))
    return encode(interval.high[0]) + (after if interval.high_closed else b"")
