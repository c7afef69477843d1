"""Connections to RabbitMQ: each is served by a thread of its own, because pika may be used by one thread only.

That thread answers heartbeats whatever the application does. Others hand it work, and wait for a future.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import random
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from time import monotonic
from typing import Any

import pika
from pika.adapters.select_connection import IOLoop, SelectConnection

from portable.bindings import Binding
from portable.errors import Closed, DeadlineExceeded, PortableError
from portable_rabbitmq.errors import translated
from portable_rabbitmq.options import RabbitOptions, parameters

__all__ = ["Connection", "Line", "Lines", "Reply", "answered", "failed", "lines"]

SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds before another attempt to connect: spread below a bound that doubles, within these."""

CLOSES_WITHIN, FLUSHES_WITHIN = 5.0, 1.0

MOST_CORKED = 1024 * 1024
"""Bytes that are put together before they are sent."""

Reply = Future[Any]
"""What a caller waits for; a caller that gave up has cancelled it."""

Request = Callable[[Any, Callable[[Any], object]], object]
"""Calls a method of pika's channel, given the channel and what is to be called with the answer."""


class _Corked(SelectConnection):  # type: ignore[misc]  # pika has no types
    """Sends what one piece of work has to send as a whole: pika makes a system call, and so a packet, of each frame."""

    _parts: list[bytes] | None = None
    _size = 0

    @contextlib.contextmanager
    def corked(self) -> Iterator[None]:
        """Keep what is sent until the end of the block, or until it is much."""
        self._parts = []
        try:
            yield
        finally:
            self._pour()
            self._parts = None

    def _adapter_emit_data(self, data: bytes) -> None:
        if self._parts is None:
            super()._adapter_emit_data(data)  # pyright: ignore[reportAttributeAccessIssue]  # its stubs leave it out
            return
        self._parts.append(data)
        self._size += len(data)
        if self._size > MOST_CORKED:
            self._pour()

    def _pour(self) -> None:
        if self._parts:
            super()._adapter_emit_data(b"".join(self._parts))  # pyright: ignore[reportAttributeAccessIssue]  # the same
            self._parts.clear()
        self._size = 0


class Connection:
    """One connection that pika has opened, and the thread that serves it.

    Attributes:
        loop: pika's own, on the connection's thread.
        native: pika's connection; for its thread alone.
        blocked: why the server holds back publishers, if it does.
        settling: held while it is decided who settles a message.
    """

    def __init__(self, settings: pika.ConnectionParameters) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._waiting: set[Reply] = set()
        self._reason: BaseException | None = None
        self._opened: Reply = Future()
        self.loop = IOLoop()
        self.native: Any = None
        self.blocked = ""
        self.settling = threading.Lock()
        self._thread = threading.Thread(target=self._serve, name="portable-rabbitmq", daemon=True)

    @property
    def is_open(self) -> bool:
        """Whether it serves calls."""
        return self._reason is None

    @property
    def version(self) -> tuple[int, ...]:
        """The server's release."""
        text = str((self.native.server_properties or {}).get("version", ""))
        return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())

    def open(self, timeout: float) -> None:
        """Connect.

        Raises:
            PortableError: why it could not.
        """
        self._thread.start()
        try:
            self._opened.result(timeout)
        except TimeoutError as error:
            self.post(self._close)
            raise DeadlineExceeded("the server did not answer in time") from error
        except Exception as error:
            raise translated(error, sent=False) from error

    def ask(self, work: Callable[[Reply], object], timeout: float) -> Any:
        """Have the connection's thread do something, and wait for what it answers.

        Args:
            work: starts it, given what is to be answered.
            timeout: seconds.

        Raises:
            DeadlineExceeded: there was no answer in time; the reply is cancelled then.
            PortableError: the connection ended before, or what the work answered with.
        """
        reply: Reply = Future()
        with self._lock:
            if self._reason is not None:
                raise translated(self._reason, sent=False)
            self._waiting.add(reply)
        try:
            self.post(lambda: _begin(work, reply))
            try:
                return reply.result(max(timeout, 0.0))
            except TimeoutError as error:
                if isinstance(error, PortableError) or not reply.cancel():
                    return reply.result()
                raise DeadlineExceeded("the server did not answer in time", maybe_applied=True) from error
            except BaseException:
                # A caller that is interrupted waits no more, either.
                reply.cancel()
                raise
        finally:
            self._waiting.discard(reply)

    def post(self, work: Callable[[], object]) -> None:
        """Have the connection's thread do something, after what it was asked before; nobody waits for it."""
        self.loop.add_callback_threadsafe(lambda: self._do(work))

    def flush(self) -> None:
        """Wait until what was posted has been done, and handed to the system."""
        with contextlib.suppress(PortableError):
            self.ask(lambda reply: self.post(lambda: answered(reply, None)), FLUSHES_WITHIN)

    def close(self) -> None:
        """Close it in good order, and end its thread."""
        if self.is_open:
            self.post(self._close)
        if self._thread.ident is not None and self._thread is not threading.current_thread():
            self._thread.join(CLOSES_WITHIN)
            if self._thread.is_alive():
                self.post(lambda: self._end(Closed("the resource was closed")))
                self._thread.join(CLOSES_WITHIN)

    def _do(self, work: Callable[[], object]) -> None:
        with self.native.corked():
            work()

    def _serve(self) -> None:
        try:
            self.native = _Corked(
                self._settings,
                on_open_callback=self._on_open,
                on_open_error_callback=lambda _, error: self._end(error),
                on_close_callback=lambda _, error: self._end(error),
                custom_ioloop=self.loop,
            )
            self.loop.start()
        except BaseException as error:  # noqa: BLE001 (whatever ended the thread ends the connection)
            self._end(error)
        finally:
            self.loop.close()

    def _on_open(self, native: Any) -> None:
        native.add_on_connection_blocked_callback(lambda _, frame: self._hold(frame.method.reason))
        native.add_on_connection_unblocked_callback(lambda *_: self._hold(""))
        answered(self._opened, None)

    def _hold(self, reason: str) -> None:
        self.blocked = reason

    def _close(self) -> None:
        # One that is being opened ends with that, too.
        if not self.native.is_closing and not self.native.is_closed:
            self.native.close()

    def _end(self, reason: BaseException) -> None:
        """Tell all who wait that it is over; the thread's last doing."""
        with self._lock:
            if self._reason is None:
                self._reason = reason
            waiting, self._waiting = self._waiting, set()
        if not self._opened.done():
            self._opened.set_exception(reason)
        for reply in waiting:
            failed(reply, reason)
        self.loop.stop()


def answered(reply: Reply, value: Any) -> bool:
    """Answer whoever waits; False where nobody does any more."""
    if reply.done() or not reply.set_running_or_notify_cancel():
        return False
    reply.set_result(value)
    return True


def failed(reply: Reply, error: BaseException, *, sent: bool = True) -> None:
    """Answer whoever waits with an error of pika's, or of ours."""
    if not reply.done() and reply.set_running_or_notify_cancel():
        reply.set_exception(translated(error, sent=sent))


def _begin(work: Callable[[Reply], object], reply: Reply) -> None:
    if reply.done():
        return
    try:
        work(reply)
    except Exception as error:  # noqa: BLE001 (it belongs to whoever asked)
        failed(reply, error, sent=False)


class Line:
    """A connection that comes back: whoever needs it gets the one there is, or a new one.

    Args:
        binding: where the server is.
        purpose: what the connection is for, as the server shows it.
    """

    def __init__(self, binding: Binding[RabbitOptions], purpose: str) -> None:
        self._binding = binding
        self._purpose = purpose
        self._abandoned: list[Any] = []
        self._connection: Connection | None = None
        self._begin()

    def connection(self, deadline: float) -> Connection:
        """Give an open connection, connecting where there is none.

        Args:
            deadline: by the monotonic clock.

        Raises:
            PortableError: the server cannot be reached, or lets nobody in.
        """
        found = self._connection
        if found is not None and found.is_open and not self._closing.is_set():
            return found
        if not self._connecting.acquire(timeout=max(0.0, deadline - monotonic())):
            raise DeadlineExceeded("the server did not answer in time")
        try:
            found = self._connection
            if self._closing.is_set():
                raise Closed("the resource was closed")
            if found is None or not found.is_open:
                found = self._connection = self._connect(deadline)
            return found
        finally:
            self._connecting.release()

    def call(self, request: Request, deadline: float) -> Any:
        """Have one synchronous method of AMQP done, on a channel that is kept for such; gives its answer.

        Args:
            request: calls pika, given a channel and the callback for the answer.
            deadline: by the monotonic clock.

        Raises:
            PortableError: the server refused it.
        """
        if not self._calling.acquire(timeout=max(0.0, deadline - monotonic())):
            raise DeadlineExceeded("the server did not answer in time")
        try:
            connection = self.connection(deadline)
            return connection.ask(lambda reply: self._request(connection, request, reply), deadline - monotonic())
        finally:
            self._calling.release()

    def flush(self) -> None:
        """Wait until what was posted is on its way."""
        found = self._connection
        if found is not None and found.is_open:
            found.flush()

    def close(self) -> None:
        """Close the connection, and open none any more."""
        self._closing.set()
        if self._connection is not None:
            self._connection.close()

    def forget(self) -> None:
        """Start anew in a forked child, without touching what is the parent's."""
        self._abandoned.append((self._connection, self._channel))
        self._begin()

    def _begin(self) -> None:
        self._closing = threading.Event()
        self._connecting = threading.Lock()
        self._calling = threading.Lock()
        self._connection = None
        self._channel: Any = None
        self._requested: Reply | None = None

    def _connect(self, deadline: float) -> Connection:
        settings = parameters(self._binding, purpose=self._purpose)
        bound = SHORTEST_PAUSE
        for attempt in range(self._binding.contract.retries + 1):
            connection = Connection(settings)
            try:
                connection.open(max(0.001, deadline - monotonic()))
            except PortableError as error:
                pause = random.uniform(0, bound)  # noqa: S311 (spreads load, hides nothing)
                last = attempt == self._binding.contract.retries
                if last or not error.retryable or monotonic() + pause > deadline:
                    raise
                self._closing.wait(pause)
                bound = min(2 * bound, LONGEST_PAUSE)
            else:
                return connection
        raise AssertionError("the last attempt has raised")

    def _request(self, connection: Connection, request: Request, reply: Reply) -> None:
        """Send a request on the channel for requests, which an error closes."""
        self._requested = reply
        channel = self._channel
        if channel is not None and channel.is_open and channel.connection is connection.native:
            request(channel, lambda frame: answered(reply, frame.method))
            return

        def opened(fresh: Any) -> None:
            _begin(lambda _: request(fresh, lambda frame: answered(reply, frame.method)), reply)

        self._channel = connection.native.channel(on_open_callback=opened)
        self._channel.add_on_close_callback(self._request_ended)

    def _request_ended(self, channel: Any, reason: BaseException) -> None:
        if channel is self._channel and self._requested is not None:
            failed(self._requested, reason)


class Lines:
    """What the resources of one cloud share of one server: a connection for what they send, and one for the rest.

    A server that holds back publishers stops reading from their connection; acknowledgements go on by the other.
    """

    def __init__(self, binding: Binding[RabbitOptions]) -> None:
        self.sending = Line(binding, "sends")
        self.receiving = Line(binding, "receives")
        # What is known to be at the server, so that it is not declared again.
        self.declared: set[str] = set()
        _all_lines.add(self)

    def forget(self) -> None:
        """Start anew in a forked child."""
        self.sending.forget()
        self.receiving.forget()

    def close(self) -> None:
        """Close both."""
        with contextlib.ExitStack() as stack:
            stack.callback(self.sending.close)
            stack.callback(self.receiving.close)


def lines(binding: Binding[RabbitOptions]) -> Lines:
    """Give the lines to the server of a binding, which its cloud shares."""
    url = binding.url
    place = (url.scheme, url.hosts, url.username, url.password, binding.options, float(binding.contract.retries))
    return binding.shared.get(("rabbitmq", place), lambda: Lines(binding))


_all_lines: weakref.WeakSet[Lines] = weakref.WeakSet()


def _at_exit() -> None:
    """Let no acknowledgement be lost where the application ends without closing: the threads end with it."""
    for found in list(_all_lines):
        found.receiving.flush()


atexit.register(_at_exit)


def _after_fork_in_child() -> None:
    for found in list(_all_lines):
        found.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
