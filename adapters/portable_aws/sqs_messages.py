"""How a message of SQS or SNS carries bytes, attributes and keys: `docs/wire-formats/aws.md`."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

from portable.errors import LimitExceeded
from portable.messages import Outgoing
from portable.wire import PACKED, RESERVED, unpack_attributes

__all__ = ["Entry", "Unpacked", "carries", "packed", "unpacked"]

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
_MOST = 10
_ATTRIBUTE = re.compile(r"(?!(?i:aws|amazon)\.)(?!\.)(?!.*\.\.)[A-Za-z0-9_.-]{1,256}(?<!\.)")
# What the services call text: https://www.w3.org/TR/xml/#charsets.
_NO_TEXT = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_ID = re.compile("[!-~]{1,128}")

_ENCODING = "portable-encoding"
_KEY = "portable-ordering-key"
_EMPTY = "-"
"""The text of an empty body, for the services take none."""


class Entry(NamedTuple):
    """One message as a batch takes it.

    Attributes:
        text: the body.
        attributes: as boto3 takes them.
        size: its bytes as the services count them.
        group: which message group it belongs to, in FIFO queues and topics.
        repeat: what makes a repeat one, there.
    """

    text: str
    attributes: dict[str, dict[str, str]]
    size: int
    group: str | None = None
    repeat: str | None = None

    def fields(self, id_: str, body: str) -> dict[str, Any]:
        """Give the fields of a batch's entry.

        Args:
            id_: the entry's id in the batch.
            body: what the service calls the body.
        """
        made: dict[str, Any] = {"Id": id_, body: self.text, "MessageAttributes": self.attributes}
        if self.group is not None:
            made |= {"MessageGroupId": self.group, "MessageDeduplicationId": self.repeat}
        return made


class Unpacked(NamedTuple):
    """What a message holds: body, attributes and ordering key."""

    body: bytes
    attributes: dict[str, str]
    ordering_key: str | None


def packed(
    message: Outgoing, *, fifo: bool, keyed: bool, most_bytes: int, ours: Mapping[str, str] | None = None
) -> Entry:
    """Give a message as the services take it.

    Args:
        message: what is sent.
        fifo: whether it goes to a FIFO queue or topic.
        keyed: whether its ordering key travels as an attribute, too, for queues that keep no groups.
        most_bytes: how large it may be.
        ours: attributes to add.

    Raises:
        LimitExceeded: it is larger than that.
    """
    text, encoding = _text(message.body)
    added = dict(ours or {})
    if encoding is not None:
        added[_ENCODING] = encoding
    key = message.ordering_key
    group = repeat = None
    if fifo:
        group = RESERVED + uuid.uuid4().hex if key is None else _id(key)
        repeat = uuid.uuid4().hex if message.dedup_id is None else _id(message.dedup_id)
    if key is not None and (keyed or group != key):
        added[_KEY] = key
    native = _native({**(message.attributes or {}), **added})
    attributes = {name: {"DataType": "String", "StringValue": value} for name, value in native.items()}
    size = len(text.encode()) + sum(len(name) + len("String") + len(value.encode()) for name, value in native.items())
    if size > most_bytes:
        raise LimitExceeded(
            f"the message is {size:,} bytes as it is sent, and {most_bytes:,} is the most; "
            "send less, or name a bucket in `offload`"
        )
    return Entry(text, attributes, size, group, repeat)


def unpacked(text: str, attributes: Mapping[str, Mapping[str, Any]], group: str | None) -> Unpacked:
    """Undo `packed`; what is no message of ours stays as it is.

    Args:
        text: the body.
        attributes: as boto3 gives them.
        group: the message group that it belongs to, in a FIFO queue.
    """
    found = unpack_attributes({name: _value(given) for name, given in attributes.items()})
    key = found.pop(_KEY, None)
    if key is None and group is not None and not group.startswith(RESERVED):
        key = group
    encoding = found.get(_ENCODING)
    body = text.encode()
    if encoding == "empty":
        body = b""
    elif encoding == "base64":
        try:
            body = base64.b64decode(body, validate=True)
        except binascii.Error:
            return Unpacked(body, found, key)
    found.pop(_ENCODING, None)
    return Unpacked(body, found, key)


def _text(body: bytes) -> tuple[str, str | None]:
    if not body:
        return _EMPTY, "empty"
    try:
        text = body.decode()
    except UnicodeDecodeError:
        pass
    else:
        if not _NO_TEXT.search(text):
            return text, None
    return base64.b64encode(body).decode(), "base64"


def _native(attributes: Mapping[str, str]) -> dict[str, str]:
    legal = {name: value for name, value in attributes.items() if carries(name, value)}
    if len(legal) == len(attributes) <= _MOST:
        return legal
    # The first stay, so that filters see them.
    kept = dict(list(legal.items())[: _MOST - 1])
    rest = {name: value for name, value in attributes.items() if name not in kept}
    return {**kept, PACKED: json.dumps(rest, separators=(",", ":"))}


def carries(name: str, value: str) -> bool:
    """Say whether the services take an attribute as it is."""
    return bool(value) and _ATTRIBUTE.fullmatch(name) is not None and not _NO_TEXT.search(value)


def _id(text: str) -> str:
    if _ID.fullmatch(text) and not text.startswith(RESERVED):
        return text
    return RESERVED + hashlib.sha256(text.encode()).hexdigest()


def _value(given: Mapping[str, Any]) -> str:
    value = given.get("StringValue")
    if value is None:
        # Of others: ours are all strings.
        value = base64.b64encode(given.get("BinaryValue", b"")).decode()
    return str(value)
