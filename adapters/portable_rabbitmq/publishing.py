"""Publishing with confirms: what the server has confirmed is on its disk, in every queue that it was routed to."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from time import monotonic
from typing import Any, NamedTuple

import pika

from portable.errors import DeadlineExceeded, PortableError, ResourceNotFound, Throttled, Unavailable
from portable_rabbitmq.connection import Connection, Line, Reply, answered
from portable_rabbitmq.errors import translated

__all__ = ["Entry", "Publisher", "may_publish"]

PRECONDITION_FAILED = 406


class Entry(NamedTuple):
    """One message to publish.

    Attributes:
        exchange: where to; `""` is the one that knows every queue by its name.
        key: the routing key.
        body: the bytes.
        properties: pika's.
    """

    exchange: str
    key: str
    body: bytes
    properties: pika.BasicProperties


class _Batch:
    """Messages under way: who waits for them, and what became of each."""

    __slots__ = ("entries", "left", "outcomes", "reply")

    def __init__(self, entries: Sequence[Entry], reply: Reply) -> None:
        self.entries = entries
        self.outcomes: list[PortableError | None] = [None] * len(entries)
        self.left = len(entries)
        self.reply = reply

    def settle(self, index: int, error: PortableError | None) -> None:
        self.outcomes[index] = error
        self.left -= 1
        if not self.left:
            answered(self.reply, self.outcomes)


class _Confirmed:
    """A channel with confirms, on its connection's thread alone."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._sent = 0
        # By delivery tag, in their order, what is not confirmed yet.
        self._pending: dict[int, tuple[_Batch, int]] = {}
        self._returned: dict[str, PortableError] = {}
        self._early: list[tuple[Sequence[Entry], bool, Reply]] = []
        self._ready = False
        self.channel = connection.native.channel(on_open_callback=self._opened)
        self.channel.add_on_close_callback(self._ended)

    @property
    def is_over(self) -> bool:
        """Whether nothing can be published on it any more."""
        return bool(self.channel.is_closing or self.channel.is_closed)

    def publish(self, entries: Sequence[Entry], reply: Reply, *, mandatory: bool) -> None:
        """Send messages, and answer with an error or None for each once all are confirmed."""
        if not self._ready:
            self._early.append((entries, mandatory, reply))
            return
        batch = _Batch(entries, reply)
        publish = self.channel.basic_publish
        for index, entry in enumerate(entries):
            self._sent += 1
            self._pending[self._sent] = (batch, index)
            try:
                publish(entry.exchange, entry.key, entry.body, entry.properties, mandatory)
            except Exception as error:
                # It was refused before anything of it was sent, and so has no tag.
                del self._pending[self._sent]
                self._sent -= 1
                if not self.channel.is_open:
                    raise
                batch.settle(index, translated(error, sent=False))

    def close(self) -> None:
        """Let go of the channel, once what is under way is confirmed or lost."""
        if self.channel.is_open:
            self.channel.close()

    def _opened(self, channel: Any) -> None:
        channel.add_on_return_callback(self._on_return)
        channel.confirm_delivery(self._on_confirm, self._selected)

    def _selected(self, _: Any) -> None:
        if not self.channel.is_open:
            return
        self._ready = True
        early, self._early = self._early, []
        for entries, mandatory, reply in early:
            if not reply.done():
                self.publish(entries, reply, mandatory=mandatory)

    def _on_return(self, _: Any, method: Any, properties: Any, __: bytes) -> None:
        self._returned[properties.message_id] = ResourceNotFound(
            f"nothing at the server takes what is sent to {method.routing_key!r}; "
            "make it with `portable resources create`"
        )

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        refused = method.NAME == "Basic.Nack"
        tags = self._up_to(method.delivery_tag) if method.multiple else (method.delivery_tag,)
        for tag in tags:
            batch, index = self._pending.pop(tag)
            error: PortableError | None = None
            if self._returned:
                # A return names its message by the id, and comes right before its confirm.
                error = self._returned.pop(str(batch.entries[index].properties.message_id), None)
            if refused:
                error = Unavailable("the server could not take the message")
            batch.settle(index, error)

    def _up_to(self, last: int) -> list[int]:
        return list(itertools.takewhile(lambda tag: tag <= last, self._pending))

    def _ended(self, _: Any, reason: BaseException) -> None:
        pending, self._pending = self._pending, {}
        for batch, index in pending.values():
            batch.settle(index, translated(reason, sent=True))
        for entries, _mandatory, reply in self._early:
            answered(reply, [translated(reason, sent=False) for _ in entries])


class Publisher:
    """Publishes for one resource; it opens its channel when there is something to publish, and again when that ended.

    Args:
        line: the connection.
        mandatory: whether a message that no queue takes is an error.
    """

    def __init__(self, line: Line, *, mandatory: bool) -> None:
        self._line = line
        self._mandatory = mandatory
        self._confirmed: _Confirmed | None = None

    def publish(self, entries: Sequence[Entry], timeout: float) -> list[PortableError | None]:
        """Publish messages, and wait until the server has them for good; give None or an error for each.

        Raises:
            PortableError: the server cannot be reached, or did not confirm in time.
        """
        deadline = monotonic() + timeout
        connection = self._line.connection(deadline)
        try:
            outcomes: list[PortableError | None] = connection.ask(
                lambda reply: self._begin(connection, entries, reply), deadline - monotonic()
            )
        except DeadlineExceeded as error:
            if connection.blocked:
                raise Throttled(
                    f"the server holds back publishers: {connection.blocked}", maybe_applied=True
                ) from error
            raise
        return outcomes

    def close(self) -> None:
        """Let go of the channel."""
        confirmed = self._confirmed
        if confirmed is not None:
            confirmed.connection.post(confirmed.close)

    def _begin(self, connection: Connection, entries: Sequence[Entry], reply: Reply) -> None:
        confirmed = self._confirmed
        if confirmed is None or confirmed.connection is not connection or confirmed.is_over:
            confirmed = self._confirmed = _Confirmed(connection)
        confirmed.publish(entries, reply, mandatory=self._mandatory)


def may_publish(line: Line, exchange: str, key: str, deadline: float) -> None:
    """See whether publishing is allowed, and publish nothing.

    The server looks at permissions first, and then refuses a message whose expiration is no number.

    Raises:
        PermissionDenied: it is not.
        PortableError: the exchange is missing, or the server cannot be reached.
    """
    nothing = pika.BasicProperties(expiration="none")
    try:
        line.call(lambda channel, _: channel.basic_publish(exchange, key, b"", nothing), deadline)
    except PortableError as error:
        if getattr(error.__cause__, "reply_code", None) != PRECONDITION_FAILED:
            raise
