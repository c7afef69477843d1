"""Positions of the streams on Kafka: the offset after the record, as Kafka commits it, in twenty digits."""

from __future__ import annotations

from portable.errors import InvalidArgument, NotFound
from portable.records import Position

__all__ = ["next_offset", "partition_number", "position"]


def position(partition: str, after: int) -> Position:
    """Give the position of the record before an offset."""
    return Position(partition, f"{after:020d}")


def next_offset(value: str) -> int:
    """Read the offset that follows a position; an empty one is before the first record.

    Raises:
        InvalidArgument: no stream on Kafka made it.
    """
    if not value:
        return 0
    if len(value) != 20 or not (value.isascii() and value.isdigit()) or int(value) >= 2**63:
        raise InvalidArgument(f"the position {value!r:.60} is not one of this stream's, which are twenty digits")
    return int(value)


def partition_number(name: str, count: int) -> int:
    """Give the number of a partition that there is.

    Raises:
        NotFound: there is none of that name.
    """
    if len(name) < 10 and name.isascii() and name.isdigit() and str(int(name)) == name and int(name) < count:
        return int(name)
    raise NotFound(f"there is no partition {name!r:.40}; there are {', '.join(map(str, range(count)))}")
