"""How messages are carried; `docs/wire-formats/rabbitmq.md` says the same for other programs."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
import pika

from portable.errors import LimitExceeded
from portable.messages import Delivery, Outgoing
from portable.wire import PACKED, RESERVED, unpack_attributes
from portable_rabbitmq.leases import Held

__all__ = ["attributes_of", "copied", "delivery", "header_name", "outgoing"]

DELIVERIES = "portable-deliveries"
"""How often a message had been delivered before it was sent again as a copy."""

ESCAPED = "portable-name:"
"""What stands before the name of an attribute that RabbitMQ itself would read as something else."""

LONGEST_NAME = 255
MOST_HEADERS = 96 * 1024
"""Bytes of attributes: all headers of a message travel in one frame, of 128 KiB at most."""

_PERSISTENT = 2
_KEPT = ("content_type", "content_encoding", "priority", "correlation_id", "reply_to", "timestamp", "type", "app_id")
_COUNT = "x-delivery-count"
# What RabbitMQ adds to a message that came by a queue of delays, or that it has delivered before.
_SERVERS_OWN = ("x-death", "x-first-death-", "x-last-death-", _COUNT, "x-acquired-count", "x-opt-rabbitmq-")

_encode = msgspec.json.Encoder(enc_hook=str).encode


def outgoing(message: Outgoing) -> pika.BasicProperties:
    """Give the properties that a message is sent with.

    Raises:
        LimitExceeded: its attributes do not fit.
    """
    return pika.BasicProperties(
        message_id=uuid.uuid4().hex,
        timestamp=int(time.time()),
        delivery_mode=_PERSISTENT,
        headers=_headers(message.attributes) if message.attributes else None,
    )


def copied(properties: pika.BasicProperties, id: str, count: int) -> pika.BasicProperties:
    """Give the properties of a message that is sent again.

    Args:
        properties: those that it came with.
        id: the id that was told of it.
        count: how many of its deliveries count.
    """
    headers = {name: value for name, value in (properties.headers or {}).items() if not _is_servers_own(name)}
    return pika.BasicProperties(
        message_id=id,
        delivery_mode=_PERSISTENT,
        headers={**headers, DELIVERIES: count},
        **{name: getattr(properties, name) for name in _KEPT},
    )


def header_name(attribute: str) -> str | None:
    """Give the header that carries an attribute; None where its name is too long for one."""
    name = attribute
    if name[:2].lower() == "x-" or name in {"CC", "BCC"}:
        name = ESCAPED + name
    return name if len(name) * 4 <= LONGEST_NAME or len(name.encode()) <= LONGEST_NAME else None


def delivery(held: Held) -> Delivery:
    """Give a delivery as the portable type takes it; a message of another program arrives as it is."""
    properties, body = held.properties, held.body
    held.body = b""
    headers: dict[str, Any] = properties.headers or {}
    count = headers.get(_COUNT)
    if not isinstance(count, int):
        # A queue that is no quorum queue tells only that it was not the first.
        count = int(held.redelivered)
    before = headers.get(DELIVERIES)
    if isinstance(before, int):
        count += before
    return Delivery(
        id=_id(properties, body),
        receipt=held,
        body=body,
        attributes=attributes_of(headers) if headers else {},
        count=count + 1,
        sent_at=float(_seconds(properties.timestamp)),
    )


def _headers(attributes: Mapping[str, str]) -> dict[str, Any]:
    headers: dict[str, Any] = {}
    packed: dict[str, str] = {}
    size = 0
    for attribute, value in attributes.items():
        name = header_name(attribute)
        if name is None:
            packed[attribute] = value
        else:
            headers[name] = value
        if not attribute.startswith(RESERVED):
            size += len(attribute.encode()) + len(value.encode())
    if size > MOST_HEADERS:
        raise LimitExceeded(
            f"the attributes are {size:,} bytes; RabbitMQ takes {MOST_HEADERS:,} at most, in one frame; "
            "put more into the body"
        )
    if packed:
        headers[PACKED] = _encode(packed).decode()
    return headers


def attributes_of(headers: Mapping[str, Any]) -> dict[str, str]:
    """Give the attributes of a message, as they were set; what the server added is left out."""
    attributes = {
        name.removeprefix(ESCAPED): value if isinstance(value, str) else _text(value)
        for name, value in headers.items()
        if name != DELIVERIES and not _is_servers_own(name)
    }
    return unpack_attributes(attributes) if PACKED in attributes else attributes


def _is_servers_own(name: str) -> bool:
    return name.startswith("x-") and name.startswith(_SERVERS_OWN)


def _text(value: Any) -> str:
    """Give what another program set as a header that is no text."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value).decode("utf-8", "replace")
    return _encode(value).decode()


def _id(properties: pika.BasicProperties, body: bytes) -> str:
    if properties.message_id:
        return str(properties.message_id)
    # The same for each delivery of the same message.
    known = f"{properties.timestamp} {properties.correlation_id} {properties.type}".encode()
    return hashlib.sha256(known + b"\0" + body).hexdigest()[:32]


def _seconds(timestamp: Any) -> int:
    # Another program may have set none, or one that no clock shows.
    return timestamp if isinstance(timestamp, int) and 0 <= timestamp < 253402300800 else 0
