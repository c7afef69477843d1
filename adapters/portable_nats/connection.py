"""One connection to NATS, as the drivers see it: requests and what comes back on them, made anew when it is lost.

nats-py could reconnect by itself, but then it would send later what was given up on meanwhile, and tell nobody that an
answer will not come. So a connection that is lost ends the calls under way, and the next call makes another.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from portable.bindings import Binding
from portable.errors import (
    Closed,
    DeadlineExceeded,
    PermissionDenied,
    PortableError,
    Unavailable,
    Unsupported,
)
from portable_nats.errors import FAILURES, ConnectionLostError, unreached
from portable_nats.inbox import Answer, Answers, Line, Waiting, status_of
from portable_nats.options import NatsOptions, credentials, servers, tls_context

__all__ = ["Connection", "Message"]

OLDEST = (2, 12)
"""The first release that has all that is used here: atomic batches, schedules, and a TTL for each message."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
"""Seconds before a failed call is repeated: spread between half of a bound that doubles and the bound."""

LOOK_EVERY = 0.5
"""Seconds between two looks whether the connection still is one, while an answer is awaited."""

UNSETTLED_WITHIN = 5.0
CLOSED_WITHIN = 1.0
NO_RESPONDERS = 503
_GIVE_BACK = b"-NAK"


class Message(NamedTuple):
    """One message on its way to the server."""

    subject: str
    data: bytes
    headers: dict[str, str] | None = None


class Connection:
    """The connection of one resource; one event loop uses it.

    Attributes:
        generation: grows whenever the connection is made anew.
    """

    def __init__(self, binding: Binding[NatsOptions]) -> None:
        """Read what the URL says, and connect to nothing yet."""
        self._binding = binding
        self._servers = servers(binding)
        self._tls: ssl.SSLContext | None = None
        self._name = f"portable {binding.kind} {binding.name}"
        self._retries = binding.contract.retries
        self._client: Client | None = None
        self.generation = 0
        self._connecting = asyncio.Lock()
        self._closed = False
        self._inbox = ""
        self._numbers = itertools.count()
        self._waiting: dict[str, Waiting] = {}
        self._idle: list[Line] = []
        self._listeners: dict[str, Callable[[], None]] = {}
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def client(self) -> Client:
        """The client of nats-py, for the application."""
        if self._client is None:
            raise Closed("the connection is not open; use the resource first")
        return self._client

    async def open(self, timeout: float) -> None:
        """Connect.

        Raises:
            Unsupported: the server is too old.
        """
        await self._attempts(self._connected, timeout, again=True)

    async def close(self) -> None:
        """Drop the connection; whatever waits on it ends with `Closed`."""
        self._closed = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=UNSETTLED_WITHIN)
        client, self._client = self._client, None
        self._lose(Closed("the resource was closed meanwhile"))
        if client is not None:
            await _dropped(client)

    async def request(
        self, messages: Sequence[Message], *, timeout: float, again: bool = False, refusable: bool = False
    ) -> Msg:
        """Send messages, in order, and give the answer to the last.

        Args:
            messages: what to send.
            timeout: seconds, for all attempts.
            again: whether they may be sent again though they may have arrived.
            refusable: whether it is an answer, too, that nobody answers to the subject.

        Raises:
            Unavailable: nobody answers to the subject, which is its cause (`NoRespondersError`), or something else.
            PortableError: no answer came.
        """

        async def attempt(left: float) -> Msg:
            answer = Answer(messages[-1].subject)
            reply: Msg = await self._exchange(messages, answer, left, left)
            if status_of(reply) == NO_RESPONDERS and not refusable:
                raise Unavailable("nothing at the server answers") from NoRespondersError()
            return reply

        answered: Msg = await self._attempts(attempt, timeout, again=again)
        return answered

    async def request_each(self, messages: Sequence[Message], *, timeout: float) -> list[Msg | PortableError]:
        """Send messages, in order, without waiting for the answer to one before the next; give each one's, or why not.

        Where the connection is lost, what was sent before a message that arrived has arrived too.
        """

        async def attempt(left: float) -> list[Msg | PortableError]:
            client = await self._connected(left)
            waiting = {f"{self._inbox}.{next(self._numbers)}": Answer(message.subject) for message in messages}
            self._waiting |= waiting
            try:
                return await self._answers(client, messages, waiting, left)
            finally:
                for reply, answer in waiting.items():
                    del self._waiting[reply]
                    answer.drop()

        answers: list[Msg | PortableError] = await self._attempts(attempt, timeout, again=False)
        return answers

    async def _answers(
        self, client: Client, messages: Sequence[Message], waiting: Mapping[str, Answer], wait: float
    ) -> list[Msg | PortableError]:
        deadline = monotonic() + wait
        pending = {answer.done for answer in waiting.values()}
        failure: PortableError = DeadlineExceeded("the server did not answer in time", maybe_applied=True)
        try:
            for reply, message in zip(waiting, messages, strict=True):
                await client.publish(message.subject, message.data, reply=reply, headers=message.headers)
            while pending and client.is_connected and (left := deadline - monotonic()) > 0:
                _, pending = await asyncio.wait(pending, timeout=min(left, LOOK_EVERY))
        except FAILURES as error:
            failure.__cause__ = error
        if not client.is_connected:
            failure = _answer_lost(failure.__cause__ or ConnectionLostError())
        return [_answer_of(answer, failure) for answer in waiting.values()]

    async def collect(self, message: Message, count: int, *, timeout: float) -> Answers:
        """Send a request that is answered by any number of messages, and collect up to `count` of them."""

        async def attempt(left: float) -> Answers:
            answers = Answers(message.subject, count, leased=False)
            await self._exchange([message], answers, left, left)
            return answers

        answers: Answers = await self._attempts(attempt, timeout, again=True)
        return answers

    async def pull(self, message: Message, count: int, *, wait: float, timeout: float) -> Answers:
        """Send a request for messages of a consumer, and collect up to `count` of them.

        Args:
            message: the request.
            count: how many at most.
            wait: seconds that the server may take until it says that there are no more.
            timeout: seconds, for all attempts, besides.
        """

        async def attempt(left: float) -> Answers:
            answers = Answers(message.subject, count, leased=True)
            try:
                await self._lease(message, answers, wait + left, left)
            except (ConnectionLostError, DeadlineExceeded):
                # What is leased already can be settled later.
                if not answers.messages:
                    raise
            except BaseException:
                self.give_back(answers.messages)
                raise
            return answers

        # Messages that were leased and lost come again by themselves, but a wait is not begun anew.
        answers: Answers = await self._attempts(attempt, timeout, again=wait <= 0)
        return answers

    async def tell(self, messages: Sequence[Message], *, timeout: float) -> None:
        """Send messages that nobody answers."""
        client = await self._connected(timeout)
        try:
            for message in messages:
                await client.publish(message.subject, message.data, headers=message.headers)
        except FAILURES as error:
            raise unreached(error, client.last_error) from error

    def give_back(self, messages: Sequence[Msg]) -> None:
        """Give leased messages back that nobody got, as soon as may be."""
        told = [Message(message.reply, _GIVE_BACK) for message in messages if message.reply]
        if told:
            self.in_background(self.tell(told, timeout=UNSETTLED_WITHIN))

    def in_background(self, call: Awaitable[Any]) -> None:
        """Run a call that nobody waits for, but `close`."""

        async def run() -> None:
            with suppress(PortableError, *FAILURES):
                await call

        task = asyncio.ensure_future(run())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def listen(self, subject: str, call: Callable[[], None], *, timeout: float) -> None:
        """Call `call` for every message of a subject, once this returns, and whenever some may have been missed."""
        client = await self._connected(timeout)
        if subject not in self._listeners:
            self._listeners[subject] = call
            await self._listen(client, subject)
            await _flushed(client, timeout)

    @property
    def max_payload(self) -> int:
        """Bytes that the server takes in one message, its headers included."""
        return self.client.max_payload

    async def _attempts(self, attempt: Callable[[float], Awaitable[Any]], timeout: float, *, again: bool) -> Any:
        deadline, failures = monotonic() + timeout, 0
        while True:
            try:
                return await attempt(max(0.001, deadline - monotonic()))
            except ConnectionLostError as error:
                failure: PortableError = _answer_lost(error)
                repeats = again
            except Unavailable as error:
                # Nothing was done.
                failure, repeats = error, error.retryable
            failures += 1
            bound = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2**failures)
            pause = bound * random.uniform(0.5, 1.0)  # noqa: S311 (spreads load, hides nothing)
            if self._closed:
                raise Closed("the resource was closed meanwhile") from failure
            if not repeats or failures > self._retries or monotonic() + pause >= deadline:
                raise failure
            await asyncio.sleep(pause)

    async def _exchange(self, messages: Sequence[Message], waiting: Waiting, wait: float, left: float) -> Any:
        client = await self._connected(left)
        token = str(next(self._numbers))
        return await self._answered(client, messages, waiting, f"{self._inbox}.{token}", wait)

    async def _lease(self, message: Message, answers: Answers, wait: float, left: float) -> None:
        client = await self._connected(left)
        # A message of a consumer comes under its own subject, so that only the subscription says who asked for it.
        line = self._idle.pop() if self._idle else await self._new_line(client)
        line.answers = answers
        ended = False
        try:
            await self._answered(client, [message], answers, line.inbox, wait)
            ended = True
        finally:
            line.answers = None
            if ended and client is self._client:
                self._idle.append(line)
            elif client.is_connected:
                # The server forgets the request, and what it has sent already is given back.
                self.in_background(line.drain())

    async def _new_line(self, client: Client) -> Line:
        line = Line(client.new_inbox(), self.give_back)
        try:
            await line.open(client)
        except FAILURES as error:
            raise ConnectionLostError from error
        return line

    async def _answered(
        self, client: Client, messages: Sequence[Message], waiting: Waiting, reply: str, wait: float
    ) -> Any:
        self._waiting[reply] = waiting
        deadline = monotonic() + wait
        try:
            for message in messages[:-1]:
                await client.publish(message.subject, message.data, headers=message.headers)
            last = messages[-1]
            await client.publish(last.subject, last.data, reply=reply, headers=last.headers)
            while True:
                left = deadline - monotonic()
                await asyncio.wait((waiting.done,), timeout=max(0.0, min(left, LOOK_EVERY)))
                if waiting.done.done():
                    return waiting.done.result()
                if not client.is_connected:
                    raise ConnectionLostError
                if left <= 0:
                    raise DeadlineExceeded("the server did not answer in time", maybe_applied=True)
        except FAILURES as error:
            # Some of ours are kinds of OSError, too.
            if isinstance(error, PortableError):
                raise
            raise ConnectionLostError from error
        finally:
            del self._waiting[reply]
            waiting.drop()

    async def _connected(self, timeout: float) -> Client:
        client = self._client
        if client is not None and client.is_connected:
            return client
        try:
            async with asyncio.timeout(timeout), self._connecting:
                client = self._client
                if client is None or not client.is_connected:
                    client = await self._connect(timeout)
                return client
        except TimeoutError as error:
            if isinstance(error, PortableError):
                raise
            raise DeadlineExceeded("the server did not answer in time") from error

    async def _connect(self, timeout: float) -> Client:
        if self._closed:
            raise Closed("the resource is closed")
        if self._client is not None:
            await _dropped(self._client)
        client = Client()
        if self._tls is None:
            self._tls = tls_context(self._binding)
        login = credentials(self._binding)

        async def lost() -> None:
            if client is self._client:
                self._lose(ConnectionLostError())

        how: dict[str, Any] = {name: self._told_safely(client, name, value) for name, value in login.items()}
        if self._tls is not None:
            how["tls"] = self._tls
        try:
            await client.connect(
                self._servers,
                error_cb=self._heard_error,
                disconnected_cb=lost,
                name=self._name,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=SHORTEST_PAUSE,  # type: ignore[arg-type]  # it only sleeps so long
                connect_timeout=timeout,  # type: ignore[arg-type]  # the same
                ping_interval=20,
                **how,
            )
            self._check(client)
            self._inbox = client.new_inbox()
            await client.subscribe(f"{self._inbox}.*", cb=self._heard, pending_msgs_limit=0, pending_bytes_limit=0)
            for subject, call in self._listeners.items():
                await self._listen(client, subject)
                call()
        except (*FAILURES, PortableError) as error:
            await _dropped(client)
            raise error if isinstance(error, PortableError) else unreached(error, client.last_error) from error
        except BaseException:
            await _dropped(client)
            raise
        self._client = client
        self._idle.clear()
        self.generation += 1
        return client

    def _told_safely(self, client: Client, name: str, secret: Any) -> Any:
        """Give what tells a secret once the connection is what it should be; keys in files never leave this machine."""
        if self._tls is None or name not in {"user", "password", "token"}:
            return secret

        def tell() -> Any:
            self._check_tls(client)
            return secret

        return tell

    @staticmethod
    def _check_tls(client: Client) -> None:
        # nats-py goes on in the clear where the server wants no TLS, and says so nowhere else.
        about = getattr(client, "_server_info", {})
        if not about.get("tls_required"):
            raise Unavailable("the server offers no TLS, and tls=true asks for it", retryable=False)

    def _check(self, client: Client) -> None:
        if self._tls is not None:
            self._check_tls(client)
        version = client.connected_server_version
        if (version.major, version.minor) < OLDEST:
            raise Unsupported(f"the server is NATS {version.major}.{version.minor}; 2.12 is the first that will do")

    async def _listen(self, client: Client, subject: str) -> None:
        call = self._listeners[subject]

        async def heard(_: Msg) -> None:
            call()

        await client.subscribe(subject, cb=heard)

    async def _heard(self, message: Msg) -> None:
        waiting = self._waiting.get(message.subject)
        if waiting is not None and not waiting.done.done():
            waiting.put(message)

    async def _heard_error(self, error: Exception) -> None:
        text = str(error)
        if "permissions violation" not in text.lower():
            return
        for waiting in list(self._waiting.values()):
            if waiting.subject in text or "subscription" in text.lower():
                waiting.fail(PermissionDenied(f"the server forbids it: {text.removeprefix('nats: ')}"))

    def _lose(self, error: Exception) -> None:
        for waiting in list(self._waiting.values()):
            waiting.fail(error)
        for call in self._listeners.values():
            call()


def _answer_lost(cause: BaseException) -> Unavailable:
    lost = Unavailable("the connection was lost before the answer came", maybe_applied=True)
    lost.__cause__ = cause
    return lost


def _answer_of(answer: Answer, failure: PortableError) -> Msg | PortableError:
    """Give what came, or why nothing did."""
    if not answer.done.done():
        return failure
    error = answer.done.exception()
    if error is not None:
        return error if isinstance(error, PortableError) else _answer_lost(error)
    reply = answer.done.result()
    assert reply is not None  # noqa: S101 (what an `Answer` waits for is a message)
    if status_of(reply) == NO_RESPONDERS:
        nobody = Unavailable("nothing at the server answers")
        nobody.__cause__ = NoRespondersError()
        return nobody
    return reply


async def _dropped(client: Client) -> None:
    # What is gone already cannot be closed, and need not be; after a handshake that failed nats-py would wait for ever.
    with suppress(Exception):
        async with asyncio.timeout(CLOSED_WITHIN):
            await client.close()


async def _flushed(client: Client, timeout: float) -> None:
    try:
        await client.flush(timeout)  # type: ignore[arg-type]  # it only waits so long
    except FAILURES as error:
        raise unreached(error, client.last_error) from error
