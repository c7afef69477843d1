"""Records and positions as Kinesis has them: `docs/wire-formats/aws.md`."""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime
from typing import Any

import msgspec

from portable.errors import InvalidArgument, LimitExceeded
from portable.records import NewRecord, Position, Record
from portable.wire import own_attributes

__all__ = ["LARGEST", "MOST_BYTES", "Entry", "moment_of", "moment_value", "packed", "record", "sequence", "value"]

# https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html and large-records.html: a stream is made
# with records of 1 MiB, partition key included; a call takes 5 MiB everywhere.
MOST_BYTES = 1024 * 1024

LARGEST = 1_048_000
"""Bytes of data, key and attributes together that fit as a rule; what attributes cost as JSON comes on top."""

_MARK = b"portable1:"
_KEY = "portable-ordering-key"
_OURS = "portable-"
_KEYLESS = re.compile(r"portable-[0-9a-f]{32}")
_LONGEST_KEY = 256

# The number of digits sorts before the digits, so that text sorts as the numbers do, whatever it is padded with.
_VALUE = re.compile(r"([0-9]{3})-([0-9]{1,129})")
_MOMENT = "000-"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode


class Entry(msgspec.Struct, frozen=True):
    """One record as it is put.

    Attributes:
        data: what Kinesis keeps.
        key: the partition key.
        size: how many bytes both are.
    """

    data: bytes
    key: str
    size: int

    def fields(self) -> dict[str, Any]:
        """Give the entry of a call."""
        return {"Data": self.data, "PartitionKey": self.key}


def packed(new: NewRecord) -> Entry:
    """Give a record as it is put: its data as it is, or behind an envelope where something else has no place.

    Raises:
        LimitExceeded: it is larger than Kinesis takes.
    """
    head = dict(new.attributes or {})
    if new.key is None:
        key = _OURS + secrets.token_hex(16)
    elif len(new.key) > _LONGEST_KEY or new.key.startswith(_OURS):
        key = _OURS + hashlib.sha256(new.key.encode()).hexdigest()
        head[_KEY] = new.key
    else:
        key = new.key
    data: bytes = new.data
    if head or data.startswith(_MARK):
        data = b"".join((_MARK, _encode(head), b"\n", data))
    size = len(data) + len(key.encode())
    if size > MOST_BYTES:
        raise LimitExceeded(
            f"the record is {size:,} bytes with its partition key and its attributes as JSON; Kinesis takes "
            f"{MOST_BYTES:,}; append less, or put the data into a bucket and append its key"
        )
    return Entry(data, key, size)


def record(shard: str, found: dict[str, Any]) -> Record[bytes]:
    """Give a record that was read; what is not in an envelope of ours is the data as it is."""
    data, attributes = _opened(found["Data"])
    wire_key: str = found["PartitionKey"]
    key = attributes.get(_KEY)
    if key is None and not _KEYLESS.fullmatch(wire_key):
        key = wire_key
    taken: datetime = found["ApproximateArrivalTimestamp"]
    place = Position(shard, value(found["SequenceNumber"]))
    return Record(data, key, own_attributes(attributes), shard, place, taken.astimezone(UTC))


def value(number: str) -> str:
    """Give the value of the position of a record by its sequence number."""
    return f"{len(number):03d}-{number}"


def sequence(text: str) -> str:
    """Read the sequence number of a position's value.

    Raises:
        InvalidArgument: no stream in Kinesis made it.
    """
    match = _VALUE.fullmatch(text)
    if match is None or int(match[1]) != len(match[2]):
        raise InvalidArgument(f"the position {text!r} is not one of this stream's, which are LENGTH-SEQUENCENUMBER")
    return match[2]


def moment_value(seconds: int) -> str:
    """Give the value of the place before all that is taken in a second or later."""
    return f"{_MOMENT}{seconds:015d}"


def moment_of(text: str) -> datetime | None:
    """Give the moment that a value stands for; None where it is a sequence number."""
    match = _VALUE.fullmatch(text)
    if match is None or not text.startswith(_MOMENT):
        return None
    return datetime.fromtimestamp(int(match[2]), UTC)


def _opened(data: bytes) -> tuple[bytes, dict[str, str]]:
    if data.startswith(_MARK):
        head, newline, body = data[len(_MARK) :].partition(b"\n")
        if newline:
            try:
                return body, _decode(head)
            except msgspec.DecodeError:
                pass
    return data, {}
