"""Durations and sizes as people write them in a config file: `250ms 30s 5m 2h 7d`, `64KiB 5MiB`."""

from __future__ import annotations

import re

__all__ = ["LONGEST", "Duration", "Size"]

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)")

LONGEST = 1e11
"""Seconds: beyond them clocks overflow, where a mistake should be told of."""
# The same for offsets.
_LARGEST = 2**63


class Duration(float):
    """Seconds, written `250ms`, `30s`, `5m`, `2h` or `7d`; a plain number is seconds."""

    @classmethod
    def parse(cls, value: object) -> Duration:
        """Read a duration.

        Raises:
            ValueError: it is not one; the message shows the form.
        """
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < LONGEST:
            return cls(value)
        if isinstance(value, str) and (match := _QUANTITY.fullmatch(value.strip())) and match[2] in _SECONDS:
            seconds = float(match[1]) * _SECONDS[match[2]]
            if seconds < LONGEST:
                return cls(seconds)
        raise ValueError(f"{value!r} is not a duration; write it as 250ms, 30s, 5m, 2h or 7d")


class Size(int):
    """Bytes, written `64KiB`, `5MiB` or `1GiB`; a plain number is bytes."""

    @classmethod
    def parse(cls, value: object) -> Size:
        """Read a size.

        Raises:
            ValueError: it is not one; the message shows the form.
        """
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LARGEST:
            return cls(value)
        if isinstance(value, str) and (match := _QUANTITY.fullmatch(value.strip())) and match[2] in _BYTES:
            size = float(match[1]) * _BYTES[match[2]]
            if size < _LARGEST:
                return cls(size)
        raise ValueError(f"{value!r} is not a size; write it as 512B, 64KiB, 5MiB or 1GiB")
