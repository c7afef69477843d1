"""Reading a partition from an offset on, outside of any group."""

from __future__ import annotations

from time import monotonic
from typing import TypeVar

from portable.errors import DeadlineExceeded
from portable_kafka.engine import Consumer, Made, Place

__all__ = ["Reader"]

T = TypeVar("T")


class Reader:
    """A consumer that reads now here, now there; it serves one thread at a time.

    Args:
        consumer: one that is in no group.
    """

    def __init__(self, consumer: Consumer) -> None:
        self.consumer = consumer
        # Where it stands, so that the next page needs no new beginning.
        self._at: tuple[Place, int] | None = None

    def read(self, place: Place, offset: int, limit: int, make: Made[tuple[int, T]], *, timeout: float) -> list[T]:
        """Give what follows, as much as is at hand; an empty list only where there is nothing now.

        Args:
            place: the partition.
            offset: the first to read; one that is no longer kept means the first that is.
            limit: how many at most.
            make: makes of a message its offset and what the caller wants.
            timeout: seconds.
        """
        deadline = monotonic() + timeout
        consumer = self.consumer
        goes_on = self._at == (place, offset)
        self._at = None
        if not goes_on:
            first, after = consumer.edge(place, timeout=timeout)
            if offset >= after:
                return []
            consumer.assign({place: max(offset, first)})
        while True:
            found = consumer.poll(limit, max(0.0, deadline - monotonic()), make)
            at_end = place in consumer.ends()
            if found:
                if at_end:
                    consumer.assign({})
                else:
                    self._at = (place, found[-1][0] + 1)
                return [one for _, one in found]
            if at_end and not goes_on:
                consumer.assign({})
                return []
            if place in consumer.astray() or at_end:
                # The retention took it meanwhile; or the end that was met is one of a while ago.
                goes_on = False
                consumer.assign({place: max(offset, consumer.edge(place, timeout=timeout)[0])})
            if monotonic() >= deadline:
                raise DeadlineExceeded("the cluster did not answer in time")

    def close(self) -> None:
        """Drop the connections."""
        self.consumer.close()
