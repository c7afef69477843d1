"""JetStream's own requests: streams, consumers, messages that are stored, and the server's clock."""

from __future__ import annotations

import asyncio
import base64
import random
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from time import monotonic
from typing import Any, NamedTuple

import msgspec
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError

from portable.bindings import Binding
from portable.errors import DeadlineExceeded, LimitExceeded, PortableError, ResourceNotFound, Throttled, Unavailable
from portable_nats.connection import Connection, Message
from portable_nats.errors import CONSUMER_MISSING, FULL, STREAM_MISSING, ApiError, refused
from portable_nats.inbox import Answers, status_of
from portable_nats.options import NatsOptions

__all__ = ["JetStream", "Message", "Stored", "nanoseconds", "size_of"]

CLOCK_HOLDS = 30.0
"""Seconds after which the server's clock is asked for again."""

LONGEST_PAUSE = 0.1
"""Seconds before a batch that JetStream had no room for is sent again."""

BATCH_FROM = 500
"""Messages from which on a batch is faster than as many messages on their own."""

EPOCH = "1970-01-01T00:00:00+00:00"

_ENVELOPE = 12

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Stored(NamedTuple):
    """A message as a stream has it.

    Attributes:
        sequence: its number in the stream.
        time: when it was stored, by the server's clock, in seconds since the epoch.
        subject: which one it came on.
        headers: its own.
        data: its body.
        behind: how many more there are, where that was asked for.
    """

    sequence: int
    time: float
    subject: str
    headers: dict[str, str]
    data: bytes
    behind: int = 0


def nanoseconds(seconds: float) -> int:
    """Give what JetStream counts time in."""
    return max(1, round(seconds * 1_000_000_000))


def size_of(message: Message) -> int:
    """Give what the server counts of a message: body and headers."""
    if not message.headers:
        return len(message.data)
    return (
        len(message.data)
        + _ENVELOPE
        + sum(len(name) + len(value.encode()) + 4 for name, value in message.headers.items())
    )


class JetStream:
    """JetStream at one server or cluster, for one resource."""

    def __init__(self, binding: Binding[NatsOptions]) -> None:
        """Read what the URL says, and connect to nothing yet."""
        domain = binding.options.domain
        self._prefix = "$JS.API" if domain is None else f"$JS.{domain}.API"
        self._usual = float(binding.contract.timeout)
        self.connection = Connection(binding)
        self._ahead = 0.0
        self._heard_at = -CLOCK_HOLDS

    @property
    def client(self) -> Client:
        """The client of nats-py."""
        return self.connection.client

    async def open(self) -> None:
        """Connect."""
        await self.connection.open(self._usual)

    async def close(self) -> None:
        """Let go of the connection."""
        await self.connection.close()

    async def call(self, verb: str, what: Mapping[str, Any] | None, *, timeout: float, again: bool = True) -> Any:
        """Have JetStream do something.

        Raises:
            ApiError: it did not, for a reason that only the caller can tell.
        """
        data = b"" if what is None else _encode(what)
        reply = await self.connection.request(
            [Message(f"{self._prefix}.{verb}", data)], timeout=timeout, again=again, refusable=True
        )
        if status_of(reply) == 503:
            raise refused(ApiError(503, 10076, "JetStream does not answer"))
        return _answer(reply)

    async def stream(self, name: str, *, timeout: float) -> Any:
        """Describe a stream; None where there is none."""
        try:
            found = await self.call(f"STREAM.INFO.{name}", None, timeout=timeout)
        except ApiError as error:
            if error.number == STREAM_MISSING:
                return None
            raise refused(error) from error
        self._hear(found.get("ts"))
        return found

    async def make_stream(self, config: Mapping[str, Any], *, timeout: float) -> None:
        """Make a stream, where there is none of that name."""
        name = config["name"]
        try:
            await self.call(f"STREAM.CREATE.{name}", config, timeout=timeout)
        except ApiError as error:
            if await self.stream(name, timeout=timeout) is None:
                raise refused(error) from error

    async def consumer(self, stream: str, name: str, *, timeout: float) -> Any:
        """Describe a consumer; None where there is none."""
        try:
            found = await self.call(f"CONSUMER.INFO.{stream}.{name}", None, timeout=timeout)
        except ApiError as error:
            if error.number in {CONSUMER_MISSING, STREAM_MISSING}:
                return None
            raise refused(error) from error
        self._hear(found.get("ts"))
        return found

    async def make_consumer(self, stream: str, config: Mapping[str, Any], *, timeout: float) -> None:
        """Make a durable consumer, where there is none of that name."""
        name = config["durable_name"]
        try:
            await self.add_consumer(stream, name, config, timeout=timeout)
        except ApiError as error:
            if await self.consumer(stream, name, timeout=timeout) is None:
                raise refused(error) from error

    async def add_consumer(self, stream: str, name: str, config: Mapping[str, Any], *, timeout: float) -> Any:
        """Make a consumer.

        Raises:
            ApiError: there is one that is otherwise, or it cannot be made.
        """
        what = {"stream_name": stream, "config": config, "action": "create"}
        return await self.call(f"CONSUMER.CREATE.{stream}.{name}", what, timeout=timeout)

    async def forget_consumer(self, stream: str, name: str, *, timeout: float) -> None:
        """Remove a consumer, if it is still there."""
        with suppress(ApiError):
            await self.call(f"CONSUMER.DELETE.{stream}.{name}", None, timeout=timeout)

    async def purge(self, stream: str, subject: str, *, timeout: float) -> None:
        """Remove every message of a subject."""
        try:
            await self.call(f"STREAM.PURGE.{stream}", {"filter": subject}, timeout=timeout)
        except ApiError as error:
            raise refused(error) from error

    async def request(self, stream: str, messages: Sequence[Message], *, timeout: float, again: bool = False) -> Msg:
        """Send messages to a stream or one of its consumers, and give the answer to the last.

        Raises:
            ResourceNotFound: there is no such stream.
        """
        try:
            return await self.connection.request(messages, timeout=timeout, again=again)
        except Unavailable as error:
            await self._refuse_missing(stream, error, timeout)
            raise

    async def _refuse_missing(self, stream: str, error: BaseException, timeout: float) -> None:
        """Say that a stream is not there, where that is why nobody answers: in a cluster it may be without a leader."""
        if isinstance(error.__cause__, NoRespondersError) and await self.stream(stream, timeout=timeout) is None:
            raise _missing(stream) from error

    async def publish(self, stream: str, messages: Sequence[Message], *, timeout: float) -> int:
        """Store messages, all of them or none, one behind the other; give the sequence of the last.

        Raises:
            ApiError: a condition on a last message did not hold, or something else that only the caller can tell.
        """
        deadline = monotonic() + timeout
        while True:
            sent = _batch(messages) if len(messages) > 1 else messages
            try:
                answer = _answer(await self.request(stream, sent, timeout=max(0.001, deadline - monotonic())))
            except ApiError as error:
                if error.number != FULL or deadline - monotonic() < LONGEST_PAUSE:
                    raise
            else:
                sequence: int = answer["seq"]
                return sequence
            # Nothing of it was stored: JetStream works on as many batches as it takes.
            await asyncio.sleep(random.uniform(0.1, 1.0) * LONGEST_PAUSE)  # noqa: S311 (spreads load, hides nothing)

    async def publish_each(
        self, stream: str, messages: Sequence[Message], *, timeout: float
    ) -> list[int | PortableError]:
        """Store messages, each for itself; give the sequence of each, or why it was not stored.

        A batch costs the server a file, so that it is worth its while for many messages only.
        """
        if len(messages) >= BATCH_FROM or len(messages) == 1:
            try:
                last = await self.publish(stream, messages, timeout=timeout)
            except ApiError as error:
                raise refused(error) from error
            return list(range(last - len(messages) + 1, last + 1))
        answers: list[int | PortableError] = []
        for reply in await self.connection.request_each(messages, timeout=timeout):
            try:
                answers.append(reply if isinstance(reply, PortableError) else _answer(reply)["seq"])
            except ApiError as error:
                answers.append(refused(error))
        for answer in answers:
            if isinstance(answer, PortableError):
                await self._refuse_missing(stream, answer, timeout)
        return answers

    def refuse_larger(self, message: Message) -> PortableError | None:
        """Give the error for a message that is larger than the server takes; it would cut the connection."""
        size, limit = size_of(message), self.connection.max_payload
        if size <= limit:
            return None
        return LimitExceeded(f"{size} bytes, headers included, are more than the server's max_payload of {limit}")

    async def pull(self, stream: str, consumer: str, count: int, *, wait: float, timeout: float) -> list[Msg]:
        """Lease up to `count` messages that are there; where none is, wait up to `wait` seconds for the first."""

        async def ask(count: int, **how: Any) -> Answers:
            request = Message(f"{self._prefix}.CONSUMER.MSG.NEXT.{stream}.{consumer}", _encode({"batch": count, **how}))
            return await self.connection.pull(request, count, wait=wait, timeout=timeout)

        expires = {"expires": nanoseconds(wait)} if wait > 0 else {}
        answers = await ask(count, no_wait=True, **expires)
        if expires and not answers.messages and answers.status == 408 and "Pending" in answers.reason:
            # Others wait for as many messages as there are.
            answers = await ask(1, **expires)
        if not answers.messages and answers.status not in {404, 408}:
            if await self.consumer(stream, consumer, timeout=timeout) is None:
                raise _missing(stream)
            raise _no_pull(answers)
        return answers.messages

    async def last(self, stream: str, subject: str, *, timeout: float, replicas: int = 1) -> Stored | None:
        """Give the last message of a subject; None where there is none."""
        if replicas > 1:
            # Any replica may answer otherwise, though it has not heard of the last write.
            return await self._last_at_leader(stream, subject, timeout)
        request = Message(f"{self._prefix}.DIRECT.GET.{stream}.{subject}", b"")
        reply = await self.request(stream, [request], timeout=timeout, again=True)
        status = status_of(reply)
        if status == 404:
            return None
        if status:
            raise refused(ApiError(status, 0, (reply.headers or {}).get("Description", "")))
        return _stored(reply)

    async def _last_at_leader(self, stream: str, subject: str, timeout: float) -> Stored | None:
        try:
            found = await self.call(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject}, timeout=timeout)
        except ApiError as error:
            if error.number == STREAM_MISSING or error.code != 404:
                raise refused(error) from error
            return None
        message = found["message"]
        lines = base64.b64decode(message.get("hdrs", "")).decode(errors="replace").split("\r\n")[1:]
        headers = {name: value.strip() for name, colon, value in (line.partition(":") for line in lines) if colon}
        data = base64.b64decode(message.get("data", ""))
        return Stored(message["seq"], _seconds(message["time"]), message["subject"], headers, data)

    async def read(
        self, stream: str, subject: str, count: int, *, timeout: float, replicas: int = 1, **start: Any
    ) -> list[Stored]:
        """Give up to `count` messages of a subject in order, from a sequence (`seq`) or a moment (`start_time`)."""
        deadline = monotonic() + timeout
        while True:
            left = max(0.001, deadline - monotonic())
            found = await self._read(stream, subject, count, left, start)
            if found or replicas == 1:
                return found
            # The replica that answered may not have heard of what the leader has.
            last = await self._last_at_leader(stream, subject, left)
            if (
                last is None
                or last.sequence < start.get("seq", 0)
                or last.time < _seconds(start.get("start_time", EPOCH))
            ):
                return found
            if monotonic() > deadline:
                raise DeadlineExceeded("no replica had what the leader has in time")
            await asyncio.sleep(LONGEST_PAUSE)

    async def _read(
        self, stream: str, subject: str, count: int, timeout: float, start: Mapping[str, Any]
    ) -> list[Stored]:
        request = Message(
            f"{self._prefix}.DIRECT.GET.{stream}", _encode({"batch": count, "next_by_subj": subject, **start})
        )
        answers = await self.connection.collect(request, count, timeout=timeout)
        if not answers.messages and answers.status not in {204, 404}:
            if answers.status == 503:
                error = Unavailable("nothing at the server answers")
                error.__cause__ = NoRespondersError()
                await self._refuse_missing(stream, error, timeout)
                raise error
            raise refused(ApiError(answers.status, 0, answers.reason))
        return [_stored(message) for message in answers.messages]

    def now(self) -> float:
        """Give the server's wall clock, in seconds, as it was last heard of: nobody's own clock counts."""
        return monotonic() + self._ahead

    async def fresh(self, stream: str, *, timeout: float) -> float:
        """Give the server's wall clock, which is asked for anew where that was long ago."""
        if monotonic() - self._heard_at > CLOCK_HOLDS:
            await self.stream(stream, timeout=timeout)
        return self.now()

    def _hear(self, time: str | None) -> None:
        if time is not None:
            self._heard_at = monotonic()
            self._ahead = _seconds(time) - self._heard_at


def _batch(messages: Sequence[Message]) -> list[Message]:
    """Mark messages as one batch, whose last one commits it."""
    batch = uuid.uuid4().hex
    marked: list[Message] = []
    for number, message in enumerate(messages, 1):
        headers = {**(message.headers or {}), "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
        if number == len(messages):
            headers["Nats-Batch-Commit"] = "1"
        marked.append(Message(message.subject, message.data, headers))
    return marked


def _answer(reply: Msg) -> Any:
    answer = _decode(reply.data)
    error = answer.get("error")
    if error is not None:
        raise ApiError(error.get("code", 0), error.get("err_code", 0), error.get("description", ""))
    return answer


def _missing(stream: str) -> ResourceNotFound:
    return ResourceNotFound(f"the server has no stream {stream!r}; make it with `portable resources create`")


def _no_pull(answers: Answers) -> PortableError:
    if "MaxWaiting" in answers.reason:
        return Throttled("more receivers wait than the consumer takes")
    return Unavailable(f"the server gave no messages: {answers.reason or answers.status}")


def _stored(message: Msg) -> Stored:
    headers = message.headers or {}
    return Stored(
        int(headers["Nats-Sequence"]),
        _seconds(headers["Nats-Time-Stamp"]),
        headers["Nats-Subject"],
        headers,
        message.data,
        int(headers.get("Nats-Num-Pending", "0")),
    )


def _seconds(text: str) -> float:
    """Read a moment that has nanoseconds."""
    return datetime.fromisoformat(text).timestamp()
