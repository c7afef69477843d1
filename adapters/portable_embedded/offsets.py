"""Positions of the embedded streams: an offset within its partition, from 1, as twenty digits that sort as it does."""

from __future__ import annotations

from portable.errors import InvalidArgument, NotFound
from portable.records import Position

__all__ = ["offset_of", "partition_number", "position"]

LARGEST = 10**20 - 1


def position(partition: str, offset: int) -> Position:
    """Give the position of the record with an offset."""
    return Position(partition, f"{offset:020d}")


def offset_of(value: str) -> int:
    """Read the offset of a position; an empty one is 0, before the first record.

    Raises:
        InvalidArgument: no embedded stream made it.
    """
    if not value:
        return 0
    if len(value) != 20 or not (value.isascii() and value.isdigit()):
        raise InvalidArgument(f"the position {value!r} is not one of this stream's, which are twenty digits")
    return int(value)


def partition_number(name: str, count: int) -> int:
    """Give the number, from 0, of the partition with a name.

    Raises:
        NotFound: there is no such partition.
    """
    # A number of any more digits is none of a partition, and reading it would take the longer the more it has.
    if len(name) < 10 and name.isascii() and name.isdigit() and str(int(name)) == name and int(name) < count:
        return int(name)
    raise NotFound(f"there is no partition {name!r:.40}; there are {', '.join(map(str, range(count)))}")
