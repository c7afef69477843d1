"""Positions of the streams on Redis: the id of a record, `MILLISECONDS-OFFSET`, with digits enough to sort as text."""

from __future__ import annotations

import re

from portable.errors import InvalidArgument, NotFound
from portable.records import Position

__all__ = ["id_of", "partition_named", "position"]

_VALUE = re.compile(r"([0-9]{15})-([0-9]{20})")


def position(partition: str, known: bytes) -> Position:
    """Give the position of the record with an id."""
    milliseconds, _, offset = known.decode().partition("-")
    return Position(partition, f"{milliseconds:0>15}-{offset:0>20}")


def id_of(value: str) -> str:
    """Read the id of a position; an empty one is that before the first record.

    Raises:
        InvalidArgument: no stream on Redis made it.
    """
    if not value:
        return "0-0"
    match = _VALUE.fullmatch(value)
    if match is None or int(match[2]) >= 2**64:
        raise InvalidArgument(f"the position {value!r} is not one of this stream's, which are MILLISECONDS-OFFSET")
    return f"{int(match[1])}-{int(match[2])}"


def partition_named(name: str, count: int) -> str:
    """Give the name of a partition that there is.

    Raises:
        NotFound: there is none of that name.
    """
    if name.isascii() and name.isdigit() and str(int(name)) == name and int(name) < count:
        return name
    raise NotFound(f"there is no partition {name!r}; there are {', '.join(map(str, range(count)))}")
