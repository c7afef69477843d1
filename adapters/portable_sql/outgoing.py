"""Messages on their way into the tables: encoded, checked for what the tables cannot index, and cut into statements."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from portable.errors import LimitExceeded, PortableError
from portable.messages import Outgoing
from portable_sql.queue_layout import New, encode_attributes

__all__ = ["LARGEST_BATCH", "LARGEST_BODY", "parts", "prepared"]

LARGEST_BATCH = 1000
LARGEST_BODY = {True: 400_000_000, False: 8_000_000}
"""Bytes of a message, on PostgreSQL and on others: the one takes no statement of a gigabyte, the others by default none
of 16 MiB, and both may take twice the room for it that it has."""

LARGEST_KEY = 1024
SENT_AT_ONCE = 4_000_000


def parts(rows: Sequence[New | PortableError]) -> Iterator[Sequence[New | PortableError]]:
    """Cut a batch so that no statement is much larger than a few megabytes."""
    start = size = 0
    for at, row in enumerate(rows):
        own = len(row.body) + 4 * len(row.attributes or "") if isinstance(row, New) else 0
        if size + own > SENT_AT_ONCE and at > start:
            yield rows[start:at]
            start, size = at, 0
        size += own
    yield rows[start:]


def prepared(messages: Sequence[Outgoing]) -> list[New | PortableError]:
    """Give each message as it is added, or why it cannot be; what follows one that cannot waits with its key."""
    refused: set[str] = set()
    found: list[New | PortableError] = []
    for message in messages:
        key = message.ordering_key
        if key is not None and key in refused:
            found.append(PortableError("an earlier message of the same ordering key was refused", retryable=True))
            continue
        try:
            found.append(_new(message))
        except LimitExceeded as error:
            found.append(error)
            if key is not None:
                refused.add(key)
    return found


def _new(message: Outgoing) -> New:
    key = None if message.ordering_key is None else message.ordering_key.encode()
    dedup_id = None if message.dedup_id is None else message.dedup_id.encode()
    for what, value in (("ordering_key", key), ("dedup_id", dedup_id)):
        if value is not None and len(value) > LARGEST_KEY:
            raise LimitExceeded(f"the {what} has {len(value)} bytes; this backend takes at most {LARGEST_KEY}")
    delay = math.ceil(message.delay * 1000) if message.delay else 0
    return New(bytes(message.body), encode_attributes(message.attributes), key, delay, dedup_id)
