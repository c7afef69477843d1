"""From what an application appends to what a driver takes: checked against every rule, and encoded.

Nothing here does I/O, so that whatever is refused is refused before anything is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from portable.composing import BodyCodec, check_text, checked_attributes
from portable.errors import InvalidArgument, LimitExceeded
from portable.messages import Outgoing
from portable.records import NewRecord, Record

if TYPE_CHECKING:
    from portable.limits import Guard

__all__ = ["RecordComposer", "key_of"]


class RecordComposer:
    """Makes what one stream appends.

    Args:
        codec: how data becomes bytes.
        guard: the limits of other services that are kept, or None.
        max_bytes: what the backend takes of data, key and attributes together, or None.
    """

    def __init__(self, codec: BodyCodec, *, guard: Guard | None, max_bytes: int | None) -> None:
        self._encode = codec.encode
        self._guard = guard
        self._max_bytes = max_bytes

    def record(self, entry: Any) -> NewRecord:
        """Make an entry of a batch (data, an `Outgoing`, a `Record` or a `NewRecord`) a record with bytes, checked.

        Raises:
            InvalidArgument: some part of it is not what any backend takes.
            LimitExceeded: it is larger than this backend, or a guarded cloud, takes.
        """
        if isinstance(entry, Outgoing):
            if entry.delay or entry.dedup_id is not None:
                raise InvalidArgument("a record has no delay and no dedup_id; leave them out, or send it to a queue")
            return self.compose(entry.body, entry.ordering_key, entry.attributes)
        if isinstance(entry, (NewRecord, Record)):
            return self.compose(entry.data, entry.key, entry.attributes)
        return self.compose(entry, None, None)

    def compose(self, data: Any, key: str | None, attributes: Mapping[str, str] | None) -> NewRecord:
        """Check and encode one record; raises as `record` does."""
        encoded = self._encode(data)
        if key is not None:
            check_text(key, "key")
        whole = checked_attributes(attributes) if attributes else None
        if self._guard is not None:
            self._guard.record(encoded, key, whole)
        if self._max_bytes is not None:
            self._check_size(encoded, key, whole)
        return NewRecord(encoded, key, whole)

    def _check_size(self, data: bytes, key: str | None, attributes: Mapping[str, str] | None) -> None:
        size = len(data) + len((key or "").encode())
        if attributes:
            size += sum(len(name.encode()) + len(value.encode()) for name, value in attributes.items())
        if size > (self._max_bytes or size):
            raise LimitExceeded(
                f"data, key and attributes are {size:,} bytes together; this backend takes at most "
                f"{self._max_bytes:,}; append less, or put the data into a bucket and append its key"
            )


def key_of(entry: Any) -> str | None:
    """Give the key of an entry of a batch."""
    if isinstance(entry, Outgoing):
        return entry.ordering_key
    return entry.key if isinstance(entry, (NewRecord, Record)) else None
