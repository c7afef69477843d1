"""Messages of queues and topics as Kafka has them; `docs/wire-formats/kafka.md` says the same for other programs."""

from __future__ import annotations

import functools
import itertools
import random
from collections.abc import Mapping, Sequence

from portable.messages import Delivery, Outgoing
from portable.partitioning import partition_of
from portable_kafka.engine import Headers, Outbound
from portable_kafka.headers import attributes_of, headers_of
from portable_kafka.lanes import Message, Receipt

__all__ = [
    "COUNT",
    "DUE",
    "LEVELS",
    "Spread",
    "copy",
    "delayed",
    "deliveries",
    "due_of",
    "identity",
    "later_name",
    "letter",
    "level_of",
    "message_of",
]

ID = "portable-id"
COUNT = "portable-count"
DUE = "portable-due"
SENT = "portable-sent"
_OURS = frozenset({ID, COUNT, DUE, SENT})

LEVELS = (0, 8, 64, 512, 4096, 32768)
"""Seconds that messages wait in each partition of the topic of delayed ones before they are looked at again."""


def later_name(queue: str) -> str:
    """Give the topic of a queue's delayed messages."""
    return f"{queue}-later"


class Spread:
    """Chooses partitions: by key as every Kafka client does, else one after the other.

    Args:
        partitions: how many the topic has.
    """

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        # Each process starts somewhere else.
        self._turns = itertools.count(random.randrange(1 << 16))  # noqa: S311 (spreads load, hides nothing)
        self._keyed = functools.lru_cache(maxsize=4096)(
            lambda key: (partition_of(key, partitions), key.encode()),
        )

    def of(self, key: str | None) -> int:
        """Give a partition for a message."""
        return next(self._turns) % self._partitions if key is None else partition_of(key, self._partitions)

    def place(self, key: str | None) -> tuple[int, bytes | None]:
        """Give a partition for a message, and its key as it is stored."""
        return (next(self._turns) % self._partitions, None) if key is None else self._keyed(key)

    def outbound(self, topic: str, message: Outgoing) -> Outbound:
        """Give a message as it is sent at once."""
        number, key = self.place(message.ordering_key)
        return topic, number, key, message.body, headers_of(message.attributes) if message.attributes else None


def level_of(seconds: float) -> int:
    """Give the partition where a message waits that is due in so many seconds."""
    return max(level for level, wait in enumerate(LEVELS) if wait <= max(0.0, seconds))


def delayed(topic: str, message: Outgoing, now: float) -> Outbound:
    """Give a message as it waits for its time."""
    key = message.ordering_key
    headers = headers_of(message.attributes) or []
    headers.append((DUE, b"%d" % round((now + message.delay) * 1000)))
    return (topic, level_of(message.delay), None if key is None else key.encode(), message.body, headers)


def identity(topic: str, partition: int, offset: int, own: str) -> str:
    """Give the id of a message by where it was first written; `own` is the queue that it is in."""
    return f"{partition}-{offset}" if topic == own else f"{topic}-{partition}-{offset}"


def copy(
    message: Message, topic: str, partition: int, own: str, *, count: int | None = None, due: float | None = None
) -> Outbound:
    """Give the copy that takes a message's place.

    Args:
        message: what was read.
        topic: where the copy goes.
        partition: where in it.
        own: the queue.
        count: how often it was delivered; as before when left out.
        due: when it can be received, in seconds since the epoch; at once when left out.
    """
    before = dict(message.headers or ())
    headers: Headers = [(name, value) for name, value in message.headers or () if name not in _OURS]
    known = before.get(ID) or identity(*message.place, message.offset, own).encode()
    headers.append((ID, known))
    headers.append((SENT, before.get(SENT) or b"%d" % message.timestamp))
    count = message.count if count is None else count
    if count:
        headers.append((COUNT, b"%d" % count))
    if due is not None:
        headers.append((DUE, b"%d" % round(due * 1000)))
    return topic, partition, message.key, message.value, headers


def letter(message: Message, topic: str, partition: int, more: Mapping[str, str]) -> Outbound:
    """Give the dead letter of a message."""
    headers: Headers = [(name, value) for name, value in message.headers or () if name not in _OURS]
    headers += headers_of(more) or []
    return topic, partition, message.key, message.value, headers


def message_of(  # noqa: PLR0917 (called for each message)
    topic: str,
    partition: int,
    offset: int,
    timestamp: int,
    key: bytes | None,
    value: bytes | None,
    headers: Headers | None,
) -> Message:
    """Make a message of what Kafka has."""
    count = _number(headers, COUNT) if headers else 0
    return Message((topic, partition), offset, timestamp, key, value or b"", headers, count)


def due_of(headers: Headers | None) -> float:
    """Say when a message can be received, in seconds since the epoch; 0 where it does not say."""
    return _number(headers, DUE) / 1000


def deliveries(receipts: Sequence[Receipt], own: str) -> list[Delivery]:
    """Give messages as they are delivered; `own` is the queue that they are in."""
    found: list[Delivery] = []
    for receipt in receipts:
        message = receipt[0]
        headers, key = message.headers, message.key
        sent = message.timestamp
        known = None
        attributes: dict[str, str] = {}
        if headers:
            attributes = attributes_of(headers)
            known = attributes.pop(ID, None)
            written = attributes.pop(SENT, "")
            sent = int(written) if written.isdecimal() and len(written) < 16 else sent
            attributes.pop(COUNT, None)
            attributes.pop(DUE, None)
        topic, partition = message.place
        offset = message.offset
        found.append(
            Delivery(
                id=known or (f"{partition}-{offset}" if topic == own else f"{topic}-{partition}-{offset}"),
                receipt=receipt,
                body=message.value,
                attributes=attributes,
                count=message.count + 1,
                sent_at=sent / 1000,
                ordering_key=None if key is None else key.decode("utf-8", "replace"),
            )
        )
    return found


def _number(headers: Headers | None, wanted: str) -> int:
    if headers:
        for name, value in headers:
            if name == wanted and value is not None and value.isdigit() and len(value) < 16:
                return int(value)
    return 0
