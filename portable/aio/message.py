"""A message in the hands of the application, which holds its lease until it is settled."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from portable import wire
from portable.errors import InvalidArgument, LeaseLost, PortableError
from portable.messages import Delivery

if TYPE_CHECKING:
    from portable.aio.queue import Queue

__all__ = ["Message"]

T = TypeVar("T")


class Message(Generic[T]):
    """One message, hidden from other receivers until its lease ends.

    Settle it once with `ack`, `nack` or `reject`, or use it as a context manager: acknowledged when the block ends
    well, given back when it raises. Without either it comes back when its lease has run out.

    Attributes:
        body: bytes, or a value of the queue's `type`.
        delivery: what the driver handed over, raw.
        state: how it was settled: `""` while it is held, then `"acked"`, `"nacked"` or `"rejected"`.
    """

    __slots__ = ("_queue", "body", "delivery", "state")

    def __init__(self, queue: Queue[Any], delivery: Delivery, body: T, state: str = "") -> None:
        """Hold a delivery; `Queue.receive` makes messages.

        Args:
            queue: where it was received.
            delivery: what the driver handed over.
            body: decoded.
            state: `"peeked"` or `"pushed"` where it cannot be settled by itself.
        """
        self._queue = queue
        self.delivery = delivery
        self.state = state
        self.body = body

    @property
    def id(self) -> str:
        """What `send` or `publish` returned for it, where the backend keeps that."""
        return self.delivery.id

    @property
    def attributes(self) -> dict[str, str]:
        """Names to values, as they were sent."""
        attributes = self.delivery.attributes
        return wire.own_attributes(attributes) if attributes else {}

    @property
    def ordering_key(self) -> str | None:
        """The key within which messages keep their order, or None."""
        return self.delivery.ordering_key

    @property
    def delivery_count(self) -> int:
        """Which delivery of the message this is, from 1; 0 where it was only looked at."""
        return self.delivery.count

    @property
    def sent_at(self) -> datetime:
        """When the backend took it (aware, UTC)."""
        return datetime.fromtimestamp(self.delivery.sent_at, UTC)

    @property
    def dead_reason(self) -> str | None:
        """Of a dead letter: why it could not be handled. Else None."""
        default = self._queue._default_reason  # noqa: SLF001 (a message is a part of its queue)
        return self.delivery.attributes.get(wire.DEAD_REASON, default)

    @property
    def original_id(self) -> str | None:
        """Of a dead letter: the id that it had in its own queue. Else None."""
        default = self.delivery.id if self._queue._default_reason else None  # noqa: SLF001 (the same)
        return self.delivery.attributes.get(wire.DEAD_ID, default)

    async def ack(self, *, timeout: float | None = None) -> None:
        """Remove it for good. Again is no error.

        Args:
            timeout: seconds.

        Raises:
            LeaseLost: its lease ran out and somebody else has it, or it was given back before.
        """
        if self.state != "acked":
            self._must_be_held()
            await self._queue._ack(self, timeout=timeout)  # noqa: SLF001 (a message is a part of its queue)
            self.state = "acked"

    async def nack(self, delay: float = 0.0, *, timeout: float | None = None) -> None:
        """Give it back, so that it is delivered again; after its last delivery it goes to the dead-letter queue.

        Again, or after the lease has run out, is no error.

        Args:
            delay: seconds before it can be received again (`nack_delay` capability).
            timeout: seconds.

        Raises:
            LeaseLost: it was acknowledged or rejected before.
            Unsupported: a delay, which the backend cannot keep.
        """
        if self.state != "nacked":
            self._must_be_held()
            await self._queue._nack(self, delay, timeout=timeout)  # noqa: SLF001 (a message is a part of its queue)
            self.state = "nacked"

    async def reject(self, reason: str = "", *, timeout: float | None = None) -> None:
        """Move it to the dead-letter queue at once. Again is no error.

        Args:
            reason: why, in words; it is the dead letter's `dead_reason`.
            timeout: seconds.

        Raises:
            LeaseLost: its lease ran out and somebody else has it, or it was settled otherwise before.
        """
        if self.state != "rejected":
            self._must_be_held()
            await self._queue._reject(self, reason, timeout=timeout)  # noqa: SLF001 (a message is a part of its queue)
            self.state = "rejected"

    async def extend(self, seconds: float, *, timeout: float | None = None) -> None:
        """Hold it for so many seconds from now.

        Args:
            seconds: how long.
            timeout: seconds that the call may take.

        Raises:
            LeaseLost: its lease ran out and somebody else has it, or it was settled before.
        """
        self._must_be_held()
        await self._queue._extend(self, seconds, timeout=timeout)  # noqa: SLF001 (a message is a part of its queue)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.state:
            return
        if error is None:
            await self.ack()
        else:
            # What the block raised says more than a backend that cannot take the message back: its lease will end.
            with contextlib.suppress(PortableError):
                await self.nack()

    def __repr__(self) -> str:
        """Show the id and which delivery it is, never the body."""
        return f"<Message {self.id} delivery {self.delivery_count} of {self._queue.name!r}>"

    def _must_be_held(self) -> None:
        if self.state == "peeked":
            raise InvalidArgument("the message was only looked at; receive it to settle it")
        if self.state == "pushed":
            raise InvalidArgument("the message came in an event, whose answer settles it; return, or raise")
        if self.state:
            raise LeaseLost(f"the message {self.id} was {self.state} already")
