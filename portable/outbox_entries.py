"""What the outbox of a database holds until it is relayed."""

from __future__ import annotations

import msgspec

__all__ = ["FailedEntry", "OutboxEntry"]


class OutboxEntry(msgspec.Struct, frozen=True):
    """One message, event or record on its way out.

    Attributes:
        kind: `"queue"`, `"topic"` or `"stream"`.
        resource: the resource it goes to.
        body: the encoded body.
        attributes: names to values.
        delay: seconds, for a queue.
        ordering_key: or None; for a stream the record's key.
        dedup_id: or None.
        attempts: how often the relay has tried.
    """

    kind: str
    resource: str
    body: bytes
    attributes: dict[str, str] = msgspec.field(default_factory=dict)
    delay: float = 0.0
    ordering_key: str | None = None
    dedup_id: str | None = None
    attempts: int = 0


class FailedEntry(msgspec.Struct, frozen=True):
    """What became of an entry that could not be sent.

    Attributes:
        number: the entry.
        error: why, in words.
        retry_in: seconds until it is due again; None keeps it aside for good, as `failed`.
    """

    number: int
    error: str
    retry_in: float | None
