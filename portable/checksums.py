"""CRC-32 of content that is moved in parts: each part's is computed where the part is, and combined here."""

from __future__ import annotations

import functools
from collections.abc import Iterable

__all__ = ["combine", "crc32_of", "named"]

# The polynomial of CRC-32 (ISO-HDLC, as in zlib and PNG), its bits in reverse; x⁰ is then the highest bit.
_POLYNOMIAL = 0xEDB88320
_ONE = 0x80000000


def named(crc: int) -> str:
    """Write a CRC-32 as `ObjectInfo.checksum` has it."""
    return f"crc32:{crc:08x}"


def crc32_of(checksum: str | None) -> int | None:
    """Give the CRC-32 that a checksum names, or None where it is another algorithm's or there is none."""
    if checksum is None or not checksum.startswith("crc32:"):
        return None
    return int(checksum[6:], 16)


def combine(parts: Iterable[tuple[int, int]]) -> int:
    """Give the CRC-32 of a whole from its parts, in order, each as `(crc, length)`.

    Appending n bytes multiplies the CRC of what is in front by x⁸ⁿ modulo the polynomial.
    """
    whole = 0
    for crc, length in parts:
        whole = (_product(_shift(length), whole) if whole else 0) ^ crc
    return whole


def _product(a: int, b: int) -> int:
    """Multiply two polynomials over GF(2), modulo the CRC's."""
    result = 0
    while a:
        if a & _ONE:
            result ^= b
        a = (a << 1) & 0xFFFFFFFF
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return result


@functools.lru_cache(maxsize=64)
def _shift(length: int) -> int:
    """Give x to the power of eight times `length`, modulo the polynomial."""
    result, square = _ONE, 0x00800000
    while length:
        if length & 1:
            result = _product(square, result)
        square = _product(square, square)
        length >>= 1
    return result
