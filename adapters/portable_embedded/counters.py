"""Counters of a cache: plain decimals of 64 bits, as Redis keeps them."""

from __future__ import annotations

import re

from portable.errors import InvalidArgument, LimitExceeded

__all__ = ["added"]

_DECIMAL = re.compile(rb"0|-?[1-9][0-9]{0,18}")
_LEAST, _MOST = -(2**63), 2**63 - 1


def added(stored: bytes, by: int) -> int:
    """Add to a stored counter.

    Raises:
        InvalidArgument: what is stored is no counter.
        LimitExceeded: the sum does not fit 64 bits.
    """
    if not _DECIMAL.fullmatch(stored):
        raise InvalidArgument("the value under this key is no int, so it cannot be counted up; delete it first")
    total = int(stored) + by
    if not _LEAST <= total <= _MOST:
        raise LimitExceeded(f"the counter would be {total}, which does not fit 64 bits")
    return total
