"""Receiving: messages are taken when they are asked for, and never more than are asked for."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

from pika import spec

from portable.errors import Closed, PortableError, ResourceNotFound
from portable_rabbitmq.connection import Connection, Line, Reply, answered, failed
from portable_rabbitmq.leases import Held, Lease

__all__ = ["Reader", "Readers"]


class _Taking:
    """One receive under way."""

    def __init__(self, wanted: int, visibility: float, wait: float, reply: Reply) -> None:
        self.wanted = wanted
        self.visibility = visibility
        self.until = monotonic() + wait
        self.reply = reply
        self.found: list[Held] = []
        self.consumer = ""
        # How many there will be once the consumer has brought all that it is sent.
        self.most = 0
        # Whether the server's answer is awaited by which all that was ready has come.
        self.fenced = False
        self.cancelled = False
        self.timer: Any = None

    @property
    def is_full(self) -> bool:
        return len(self.found) == self.most


class Reader:
    """A channel that serves one receive at a time, and on which what was received is settled.

    The first message is asked for with `basic.get`, which also tells how many more are ready. Those, or the first where
    it has to be waited for, come by a consumer that is cancelled as soon as it has brought them. Its prefetch count is
    what the server sends at most: so that nothing is on its way to a consumer that is being cancelled, for the server
    takes that back, and counts it as a delivery. The channel's methods are answered in order, so that one which changes
    nothing tells when all that was ready has come, though others took a part of it.

    Args:
        line: the connection.
        queue: the queue's name at the server.
    """

    def __init__(self, line: Line, queue: str) -> None:
        self._line = line
        self._queue = queue
        self._connection: Connection | None = None
        self._channel: Any = None
        self._prefetch = 0
        self._taking: _Taking | None = None
        self._busy = False
        self._closed = False

    @property
    def is_free(self) -> bool:
        """Whether it can serve a receive."""
        return not self._busy

    def claim(self) -> None:
        """Be nobody else's until the next receive has ended."""
        self._busy = True

    def receive(self, wanted: int, *, visibility: float, wait: float, timeout: float) -> list[Held]:
        """Take messages: what is ready or, where that is nothing, the first to come within `wait` seconds.

        Raises:
            PortableError: the server cannot be reached, or has no such queue.
        """
        deadline = monotonic() + timeout
        try:
            connection = self._connection = self._line.connection(deadline)
        except PortableError:
            self._busy = False
            raise
        found: list[Held] = []
        try:
            found = connection.ask(
                lambda reply: self._begin(connection, _Taking(wanted, visibility, wait, reply)), deadline - monotonic()
            )
        except BaseException:
            if connection.is_open:
                connection.post(self._abandon)
            else:
                self._busy = False
            raise
        return found

    def close(self) -> None:
        """Let go of the channel, and with it of all that is held; a receive that goes on ends with `Closed`."""
        self._closed = True
        if self._connection is not None:
            self._connection.post(self._close)

    # What follows is for the connection's thread. On a channel that is being closed nothing goes on: its end is told.

    def _begin(self, connection: Connection, taking: _Taking) -> None:
        self._taking = taking
        if self._closed:
            self._fail(taking, Closed("the resource was closed"))
            return
        channel = self._channel
        if channel is not None and channel.is_open and channel.connection is connection.native:
            self._take()
            return
        self._prefetch = 0
        self._channel = connection.native.channel(on_open_callback=lambda channel: self._opened(channel, taking))
        self._channel.add_on_close_callback(self._ended)

    def _opened(self, channel: Any, taking: _Taking) -> None:
        if self._closed:
            self._close()
            return
        channel.add_callback(self._on_empty, [spec.Basic.GetEmpty], False)
        channel.add_on_cancel_callback(self._on_server_cancel)
        if self._taking is taking:
            self._take()

    def _take(self) -> None:
        self._channel.basic_get(self._queue, self._on_first)

    def _on_first(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        taking = self._taking
        held = self._held(channel, method, properties, body)
        if taking is None:
            held.give_back()
            return
        taking.found.append(held)
        more = min(method.message_count, taking.wanted - 1)
        if more and not taking.reply.done():
            self._consume(taking, more)
        else:
            self._finish(taking)

    def _on_more(self, taking: _Taking, held: Held) -> None:
        if self._taking is not taking:
            held.give_back()
            return
        taking.found.append(held)
        if not taking.fenced and taking.is_full:
            self._cancel(taking)

    def _on_empty(self, _: Any) -> None:
        taking = self._taking
        if taking is None:
            return
        if taking.until > monotonic() and not taking.reply.done():
            self._consume(taking, 1)
        else:
            self._finish(taking)

    def _consume(self, taking: _Taking, count: int) -> None:
        if not self._channel.is_open:
            return
        taking.most = len(taking.found) + count
        if self._prefetch == count:
            self._start(taking)
        else:
            self._prefetch = count
            self._channel.basic_qos(prefetch_count=count, callback=lambda _: self._start(taking))

    def _start(self, taking: _Taking) -> None:
        if not self._channel.is_open:
            return

        def on_message(channel: Any, method: Any, properties: Any, body: bytes) -> None:
            self._on_more(taking, self._held(channel, method, properties, body))

        taking.fenced = True
        taking.consumer = self._channel.basic_consume(self._queue, on_message, callback=lambda _: self._fence(taking))

    def _fence(self, taking: _Taking) -> None:
        if not self._channel.is_open:
            return
        self._channel.basic_qos(prefetch_count=self._prefetch, callback=lambda _: self._on_fence(taking))

    def _on_fence(self, taking: _Taking) -> None:
        taking.fenced = False
        left = taking.until - monotonic()
        if self._taking is not taking or taking.found or left <= 0 or taking.reply.done():
            self._cancel(taking)
        else:
            taking.timer = self._served.loop.call_later(left, lambda: self._cancel(taking))

    def _cancel(self, taking: _Taking) -> None:
        if taking.cancelled or not self._channel.is_open:
            return
        taking.cancelled = True
        # pika's own `basic_cancel` gives back what comes before the answer, which would count as a delivery.
        self._channel._rpc(  # noqa: SLF001 (the same that `basic_cancel` does)
            spec.Basic.Cancel(consumer_tag=taking.consumer, nowait=False),
            lambda frame: self._on_cancelled(taking, frame),
            [(spec.Basic.CancelOk, {"consumer_tag": taking.consumer})],
        )
        if taking.is_full:
            # More cannot come: what makes room for it, an ack, is behind the cancelling.
            self._finish(taking)

    def _on_cancelled(self, taking: _Taking, frame: Any) -> None:
        self._channel._on_cancelok(frame)  # noqa: SLF001 (what `basic_cancel` has pika do)
        if self._taking is taking:
            self._finish(taking)

    def _on_server_cancel(self, _: Any) -> None:
        taking = self._taking
        if taking is not None and taking.consumer:
            self._fail(taking, ResourceNotFound(f"the queue {self._queue!r} was deleted"))

    def _finish(self, taking: _Taking) -> None:
        self._release(taking)
        if taking.found:
            Lease(self._served, taking.found, taking.visibility)
        if not answered(taking.reply, taking.found):
            for held in taking.found:
                held.give_back()

    def _fail(self, taking: _Taking, error: BaseException) -> None:
        self._release(taking)
        for held in taking.found:
            held.give_back()
        failed(taking.reply, error, sent=False)

    def _release(self, taking: _Taking) -> None:
        if taking.timer is not None:
            self._served.loop.remove_timeout(taking.timer)
            taking.timer = None
        self._taking = None
        self._busy = False

    def _abandon(self) -> None:
        """End the receive whose caller has gone."""
        taking = self._taking
        if taking is None:
            self._busy = False
        elif taking.consumer and not taking.fenced:
            self._cancel(taking)
        # Else it ends with the answer that is awaited.

    def _ended(self, channel: Any, reason: BaseException) -> None:
        taking = self._taking
        if channel is self._channel and taking is not None:
            self._fail(taking, reason)

    def _close(self) -> None:
        if self._channel is not None and self._channel.is_open:
            self._channel.close()

    def _held(self, channel: Any, method: Any, properties: Any, body: bytes) -> Held:
        return Held(self._served, channel, method, properties, body)

    @property
    def _served(self) -> Connection:
        if self._connection is None:
            raise Closed("the reader has no connection")
        return self._connection


class Readers:
    """As many readers of one queue as receives go on at once.

    Args:
        line: the connection.
        queue: the queue's name at the server.
    """

    def __init__(self, line: Line, queue: str) -> None:
        self._line = line
        self._queue = queue
        self._lock = threading.Lock()
        self._all: list[Reader] = []
        self._closed = False

    def receive(self, wanted: int, *, visibility: float, wait: float, timeout: float) -> list[Held]:
        """Take messages by whichever reader is free; as `Reader.receive`."""
        return self._free().receive(wanted, visibility=visibility, wait=wait, timeout=timeout)

    def close(self) -> None:
        """Close all."""
        with self._lock:
            self._closed = True
            readers, self._all = self._all, []
        for reader in readers:
            reader.close()

    def _free(self) -> Reader:
        with self._lock:
            if self._closed:
                raise Closed("the resource was closed")
            found = next((reader for reader in self._all if reader.is_free), None)
            if found is None:
                found = Reader(self._line, self._queue)
                self._all.append(found)
            found.claim()
            return found
