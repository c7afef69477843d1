"""What a stream holds, and where to stand in it."""

from __future__ import annotations

import enum
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec

__all__ = ["END", "START", "Edge", "NewRecord", "Position", "Record"]

T = TypeVar("T")


class Edge(enum.Enum):
    """The two ends of a partition: before its oldest record that is kept, and after its newest."""

    START = "start"
    END = "end"


START = Edge.START
"""Before the oldest record that is still kept."""
END = Edge.END
"""After the newest record."""


class Position(msgspec.Struct, frozen=True, order=True):
    """A place in one partition: opaque, comparable within its partition, stable over restarts.

    Keep `str(position)` or the struct itself; `Position.parse` reads the string back.

    Attributes:
        partition: the partition it is in.
        value: sorts as the records do; its form is the driver's.
    """

    partition: str
    value: str

    def __str__(self) -> str:
        """Give the form that `parse` reads."""
        return f"{self.partition}:{self.value}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read what `str(position)` wrote.

        Raises:
            ValueError: the text is not a position.
        """
        partition, colon, value = text.rpartition(":")
        if not colon or not partition or not value:
            raise ValueError(f"{text!r} is not a position")
        return cls(partition, value)


class NewRecord(msgspec.Struct, frozen=True):
    """One record on its way into a stream, before it has a position.

    Attributes:
        data: as for `append`: bytes, str, or a value of the stream's `type`; a driver gets bytes.
        key: records of one key go to one partition, in order.
        attributes: names to values, any UTF-8.
    """

    data: Any
    key: str | None = None
    attributes: dict[str, str] | None = None


class Record(msgspec.Struct, Generic[T], frozen=True):
    """One record of a stream.

    Attributes:
        data: bytes, or a value of the stream's `type`.
        key: what `append` was given, or None.
        attributes: names to values.
        partition: the partition it is in.
        position: where it is; reading after it gives the next one.
        timestamp: when the backend took it, aware, in UTC.
    """

    data: T
    key: str | None
    attributes: dict[str, str]
    partition: str
    position: Position
    timestamp: datetime
