# Generated from portable/aio/offload.py by tools/generate_sync.py; change that file, not this one.
"""Bodies that are too large for a queue: kept as objects of a bucket, with a pointer in the message."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from portable.errors import IntegrityError, NotFound, PortableError, ResourceNotFound
from portable.messages import Delivery
from portable.wire import OFFLOADED

if TYPE_CHECKING:
    from portable.bucket import Bucket

__all__ = ["Offload"]


class Offload:
    """The bucket that a queue's `offload` names.

    Args:
        bucket: looks it up, when it is first needed.
        queue: the queue's name, which the keys start with.
    """

    def __init__(self, bucket: Callable[[], Bucket], queue: str) -> None:
        self._bucket = bucket
        self._queue = queue

    def new_key(self) -> str:
        """Give the key for one more body."""
        return f"{self._queue}/{uuid.uuid4().hex}"

    def put(self, key: str, body: bytes, *, timeout: float) -> None:
        """Store a body."""
        self._bucket().put(key, body, timeout=timeout)

    def get(self, delivery: Delivery, *, timeout: float) -> bytes:
        """Fetch the body of a delivery that points to it.

        Raises:
            IntegrityError: the object is gone.
        """
        try:
            return self._bucket().get(delivery.attributes[OFFLOADED], timeout=timeout)
        except ResourceNotFound:
            # Without its bucket no body is there, and no message is to blame.
            raise
        except NotFound as error:
            raise IntegrityError(
                f"the body of message {delivery.id} is gone: no object {delivery.attributes[OFFLOADED]!r} "
                f"in the bucket that {self._queue!r} offloads to"
            ) from error

    def drop(self, key: str, *, timeout: float) -> None:
        """Delete a body whose message is done; one that cannot be deleted is only room lost."""
        with contextlib.suppress(PortableError):
            self._bucket().delete(key, timeout=timeout)
