"""Positions of the streams on JetStream: the sequence of a record, with digits enough to sort as text."""

from __future__ import annotations

import re

from portable.errors import InvalidArgument, NotFound
from portable.records import Position

__all__ = ["partition_named", "position", "sequence_of"]

_VALUE = re.compile(r"[0-9]{20}")


def position(partition: str, sequence: int) -> Position:
    """Give the position of the record with a sequence."""
    return Position(partition, f"{sequence:020}")


def sequence_of(value: str) -> int:
    """Read the sequence of a position; an empty one is that before the first record.

    Raises:
        InvalidArgument: no stream on JetStream made it.
    """
    if not value:
        return 0
    if not (value.isascii() and _VALUE.fullmatch(value)) or int(value) >= 2**63:
        raise InvalidArgument(f"the position {value!r} is not one of this stream's, which are sequences of 20 digits")
    return int(value)


def partition_named(name: str, count: int) -> str:
    """Give the name of a partition that there is.

    Raises:
        NotFound: there is none of that name.
    """
    if name.isascii() and name.isdigit() and str(int(name)) == name and int(name) < count:
        return name
    raise NotFound(f"there is no partition {name!r}; there are {', '.join(map(str, range(count)))}")
