"""What is sent to a queue or topic, what a driver hands back of it, and what a queue says of itself."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["Delivery", "Outgoing", "QueueStats"]


class Outgoing(msgspec.Struct, frozen=True):
    """One entry of `send_many` or `publish_many` that needs more than a body.

    Attributes:
        body: as for `send`: bytes, str, or a value of the queue's `type`. A driver is given bytes.
        attributes: names to values, any UTF-8.
        delay: seconds before it can be received (`delay` capability).
        ordering_key: messages of one key keep their order (`ordered` capability).
        dedup_id: a repeat within five minutes is dropped (`dedup` capability).
    """

    body: Any
    attributes: dict[str, str] | None = None
    delay: float = 0.0
    ordering_key: str | None = None
    dedup_id: str | None = None


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One message as a driver received it.

    Attributes:
        id: what `send` returned for it.
        receipt: what the driver needs to settle this very delivery; opaque to everybody else.
        body: the bytes.
        attributes: names to values, those of `portable.wire` included.
        count: which delivery it is, from 1; 0 where it was only looked at.
        sent_at: seconds since the epoch.
        ordering_key: or None.
    """

    id: str
    receipt: Any
    body: bytes
    attributes: dict[str, str]
    count: int
    sent_at: float
    ordering_key: str | None = None


class QueueStats(msgspec.Struct, frozen=True):
    """How many messages a queue holds; approximate, and None where the backend cannot say.

    Attributes:
        ready: can be received now, or as soon as those before them in their ordering key are done.
        leased: received and neither acknowledged nor given back yet.
        delayed: sent or nacked with a delay that has not passed.
        dead: in the dead-letter queue.
    """

    ready: int | None = None
    leased: int | None = None
    delayed: int | None = None
    dead: int | None = None
