"""What waits for messages that the server sends back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from nats.aio.client import Client
from nats.aio.msg import Msg

__all__ = ["Answer", "Answers", "Line", "Waiting", "status_of"]

SEQUENCE = "Nats-Sequence"


def status_of(message: Msg) -> int:
    """Give the status that a message is about, as of HTTP; 0 where it is about none."""
    headers = message.headers
    text = headers.get("Status", "") if headers and not message.reply and SEQUENCE not in headers else ""
    return int(text) if text.isdigit() else 0


class Waiting(Protocol):
    """Somebody who waits.

    Attributes:
        subject: what was asked.
        done: what is waited for.
    """

    subject: str
    done: asyncio.Future[Msg | None]

    def put(self, message: Msg) -> None:
        """Take a message."""
        ...

    def fail(self, error: Exception) -> None:
        """End the wait."""
        ...

    def drop(self) -> None:
        """Nobody waits any more."""
        ...


class Answer:
    """Waits for one message."""

    def __init__(self, subject: str) -> None:
        """Wait for the answer to a subject."""
        self.subject = subject
        self.done: asyncio.Future[Msg | None] = asyncio.get_running_loop().create_future()

    def put(self, message: Msg) -> None:
        """Take the answer."""
        self.done.set_result(message)

    def fail(self, error: Exception) -> None:
        """End the wait."""
        if not self.done.done():
            self.done.set_exception(error)

    def drop(self) -> None:
        """Nobody waits any more, and whatever ended the wait is seen."""
        if not self.done.cancel() and not self.done.cancelled():
            self.done.exception()


class Answers(Answer):
    """Waits for a number of messages, or for the word that there are no more.

    Attributes:
        messages: those that came.
        status: why there are no more, as of HTTP; 0 where all came.
        reason: the same, in the server's words.
    """

    def __init__(self, subject: str, count: int, *, leased: bool) -> None:
        """Wait for the answers to a subject.

        Args:
            subject: what was asked.
            count: how many messages at most.
            leased: whether they are those of a consumer, or were read from a stream.
        """
        super().__init__(subject)
        self._count = count
        self._leased = leased
        self.messages: list[Msg] = []
        self.status = 0
        self.reason = ""

    def put(self, message: Msg) -> None:
        """Take a message, or the word."""
        if message.reply if self._leased else message.headers and SEQUENCE in message.headers:
            self.messages.append(message)
            if len(self.messages) == self._count:
                self.done.set_result(None)
            return
        self.status = status_of(message)
        self.reason = (message.headers or {}).get("Description", "")
        self.done.set_result(None)


class Line:
    """A subscription for the messages of one request after the other.

    Attributes:
        inbox: where the server sends them.
        answers: who waits for them now.
    """

    def __init__(self, inbox: str, give_back: Callable[[Sequence[Msg]], object]) -> None:
        """Subscribe to nothing yet.

        Args:
            inbox: where the server sends messages.
            give_back: called with what comes when nobody waits.
        """
        self.inbox = inbox
        self.answers: Answers | None = None
        self._give_back = give_back
        self._subscription: Any = None

    async def open(self, client: Client) -> None:
        """Subscribe."""
        # However much comes, it was asked for.
        self._subscription = await client.subscribe(
            self.inbox, cb=self._heard, pending_msgs_limit=0, pending_bytes_limit=0
        )

    async def drain(self) -> None:
        """Unsubscribe, once what is on its way has come."""
        await self._subscription.drain()

    async def _heard(self, message: Msg) -> None:
        if self.answers is not None and not self.answers.done.done():
            self.answers.put(message)
        elif message.reply:
            self._give_back([message])
