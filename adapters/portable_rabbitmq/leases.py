"""What was received and not settled yet.

RabbitMQ leaves a delivery to its channel without a time limit that a receiver could set. The limit is a timer on the
connection's thread, which gives back what was held for too long.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from typing import Any

from portable_rabbitmq.connection import Connection

__all__ = ["Held", "Lease"]


class Held:
    """One delivery; all but its attributes is for the connection's thread alone.

    Attributes:
        connection: the connection that it came by.
        properties: pika's.
        body: the bytes, until they are handed over.
        redelivered: whether the queue has delivered it before.
        since: when it came, by the monotonic clock.
    """

    __slots__ = ("_channel", "_lease", "_open", "_tag", "body", "connection", "properties", "redelivered", "since")

    def __init__(self, connection: Connection, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self.connection = connection
        self.properties = properties
        self.body = body
        self.redelivered: bool = method.redelivered
        self.since = monotonic()
        self._channel = channel
        self._tag: int = method.delivery_tag
        self._lease: Lease | None = None
        self._open = True

    @property
    def is_held(self) -> bool:
        """Whether the message is still this receiver's."""
        return self._open and bool(self._channel.is_open)

    def claim(self) -> bool:
        """Decide that this call settles the message, from whichever thread; False where it is no longer held."""
        with self.connection.settling:
            claimed, self._open = self.is_held, False
        return claimed

    def remove(self) -> None:
        """Acknowledge the message, which was claimed."""
        if self._channel.is_open:
            self._channel.basic_ack(self._tag)
        self.enter(None)

    def ack(self) -> bool:
        """Remove the message; False where it is no longer held."""
        claimed = self.claim()
        if claimed:
            self.remove()
        return claimed

    def give_back(self) -> None:
        """Let the queue deliver the message again at once."""
        if self.claim():
            self._channel.basic_nack(self._tag)
            self.enter(None)

    def hold(self, seconds: float) -> bool:
        """Have the lease end in so many seconds; False where the message is no longer held."""
        if not self.is_held:
            return False
        Lease(self.connection, (self,), seconds)
        return True

    def move(self, to: Held) -> None:
        """Go on as another delivery of the same message, and remove this one; where it is lost, remove the other."""
        if not self.ack():
            to.ack()
            return
        self.connection, self._channel, self._tag = to.connection, to._channel, to._tag
        self.since, self._open = to.since, to._open
        self._lease, to._lease = to._lease, None
        if self._lease is not None:
            self._lease.exchange(to, self)

    def enter(self, lease: Lease | None) -> None:
        """Be watched by a lease, and by no other any more."""
        if self._lease is not None:
            self._lease.leave()
        self._lease = lease

    def is_of(self, lease: Lease) -> bool:
        """Whether it is this lease that ends its time."""
        return self._lease is lease


class Lease:
    """One timer for the messages of one receive."""

    def __init__(self, connection: Connection, held: Sequence[Held], seconds: float) -> None:
        self._loop = connection.loop
        self._held = list(held)
        self._left = len(held)
        self._timer = self._loop.call_later(seconds, self._over)
        for one in held:
            one.enter(self)

    def leave(self) -> None:
        """Learn that one of the messages needs no watching any more."""
        self._left -= 1
        if not self._left:
            self._loop.remove_timeout(self._timer)
            self._held.clear()

    def exchange(self, one: Held, other: Held) -> None:
        """Watch another delivery in the place of one."""
        self._held[self._held.index(one)] = other

    def _over(self) -> None:
        for one in list(self._held):
            if one.is_of(self):
                one.give_back()
