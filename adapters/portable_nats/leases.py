"""Deliveries of a consumer: what its messages say, and who still holds them."""

from __future__ import annotations

from time import monotonic

import msgspec
from nats.aio.msg import Msg

from portable.messages import Delivery
from portable_nats.escaping import read_attributes

__all__ = ["ID", "SENT", "Lease", "delivery", "held_for"]

ID = "Portable-Id"
"""The header with a message's id, where that is not its sequence."""

SENT = "Portable-Sent"
"""The header that says when a delayed message was sent, in milliseconds since the epoch."""

_encode = msgspec.json.Encoder().encode


class Lease:
    """One delivery of a message.

    JetStream does not say whose a message is: whoever answers to any delivery of it settles it. So a holder whose lease
    has run out, by its own clock, leaves the message alone, for somebody else may have it.

    Attributes:
        reply: where the delivery is settled.
        until: when it runs out, by the monotonic clock.
        generation: that of the connection it came on.
        lost: whether its holder was told that it is lost.
    """

    __slots__ = ("generation", "lost", "reply", "until")

    def __init__(self, reply: str, until: float, generation: int) -> None:
        self.reply = reply
        self.until = until
        self.generation = generation
        self.lost = False

    def runs(self) -> bool:
        """Whether the message is this holder's for sure."""
        return not self.lost and monotonic() < self.until


def held_for(seconds: float) -> bytes:
    """Give the answer that has a message delivered again after so many seconds, and not before."""
    return b"-NAK " + _encode({"delay": max(1, round(seconds * 1_000_000_000))}) if seconds > 0 else b"-NAK"


def delivery(message: Msg, visibility: float, generation: int) -> Delivery:
    """Give what a message says."""
    # $JS.ACK.[domain.account.]stream.consumer.count.sequence.delivery.time.pending[.random]
    tokens = message.reply.split(".")
    count, sequence, _, time = tokens[4:8] if len(tokens) == 9 else tokens[6:10]
    headers = message.headers or {}
    sent = headers.get(SENT, "")
    return Delivery(
        id=headers.get(ID, sequence),
        receipt=Lease(message.reply, monotonic() + visibility, generation),
        body=message.data,
        attributes=read_attributes(headers),
        count=int(count),
        sent_at=int(sent) / 1000 if sent.isdecimal() else int(time) / 1_000_000_000,
    )
