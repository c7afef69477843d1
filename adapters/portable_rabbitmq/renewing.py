"""Holding a message for longer than the server's `consumer_timeout`, after which it takes back what is unacknowledged.

Vendor page: https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout
"""

from __future__ import annotations

import functools
import threading
import uuid
from time import monotonic
from typing import Any

from portable.messages import Delivery
from portable_rabbitmq import wire
from portable_rabbitmq.connection import Lines, Reply, answered
from portable_rabbitmq.declaring import Declarer, quorum
from portable_rabbitmq.leases import Held
from portable_rabbitmq.publishing import Entry, Publisher
from portable_rabbitmq.reading import Readers

__all__ = ["Renewer"]

USABLE = 0.9
"""The part of the server's time that is used: it looks now and then only, and clocks differ."""

LEAVES_AFTER = 10_000
"""Milliseconds after which a message that nobody holds goes back to its queue."""


class Renewer:
    """Moves messages of one queue, before the server takes them back, to a queue of this process's own.

    There they are received anew. When this process ends, they go from there back to their queue.

    Args:
        lines: the connections.
        declarer: what makes the queue.
        queue: the queue's name at the server.
        consumer_timeout: seconds after which the server takes a message back.
    """

    def __init__(self, lines: Lines, declarer: Declarer, queue: str, consumer_timeout: float) -> None:
        self.longest = USABLE * consumer_timeout
        # Long after the last message in it can have been held.
        self._gone_after = int((2 * consumer_timeout + 3600) * 1000)
        self._declarer = declarer
        self._queue = queue
        self._own = f"portable.held.{uuid.uuid4().hex}"
        self._publisher = Publisher(lines.sending, mandatory=True)
        self._readers = Readers(lines.receiving, self._own)
        # One at a time, so that each finds its own message in the queue.
        self._moving = threading.Lock()

    def renew(self, delivery: Delivery, seconds: float, deadline: float) -> None:
        """Move a message that could not be held for so many seconds more; one that was lost stays as it is."""
        held = delivery.receipt
        if monotonic() - held.since + seconds <= self.longest or not held.is_held:
            return
        with self._moving:
            self._make(deadline)
            copy = wire.copied(held.properties, delivery.id, delivery.count)
            (outcome,) = self._publisher.publish([Entry("", self._own, delivery.body, copy)], deadline - monotonic())
            if outcome is not None:
                raise outcome
            left = max(0.0, deadline - monotonic())
            found = self._readers.receive(1, visibility=seconds, wait=left, timeout=left + 1)
        for fresh in found:
            fresh.connection.ask(functools.partial(_moved, held, fresh), deadline - monotonic())

    def close(self) -> None:
        """Let go of the channels."""
        self._readers.close()
        self._publisher.close()

    def _make(self, deadline: float) -> None:
        back: dict[str, Any] = {
            "x-message-ttl": LEAVES_AFTER,
            "x-expires": self._gone_after,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": self._queue,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        self._declarer.queue(self._own, quorum(back), deadline)


def _moved(held: Held, fresh: Held, reply: Reply) -> None:
    held.move(fresh)
    answered(reply, None)
