"""Messages that can be received later, without a plugin: queues whose messages expire after a fixed time.

A delay in milliseconds is written with eight hexadecimal digits, most significant first. Each digit but 0 is one stay
in the queue for that digit at that place, from which the message goes on to the next place by being dead-lettered, and
from the last place to its own queue. So a hundred and twenty queues, made when they are first needed, serve every
delay and every queue of a virtual host.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from time import monotonic
from typing import Any

import pika

from portable.errors import LimitExceeded, PortableError, ResourceNotFound, Unavailable
from portable_rabbitmq.connection import Lines
from portable_rabbitmq.declaring import Declarer, quorum
from portable_rabbitmq.publishing import Entry, Publisher

__all__ = ["LONGEST_DELAY", "Delays", "due_key"]

PLACES = 8
LONGEST_DELAY = float(15 * 16**7 / 1000)
"""Seconds; a queue's messages may live for 2³² - 1 ms."""

DUE = "portable.delay.due"
"""The exchange that brings what is due to its queue."""


def due_key(queue: str) -> str:
    """Give a queue's name as it stands in routing keys: `*` and `#` mean something else there.

    Raises:
        LimitExceeded: it is too long.
    """
    key = queue.replace("%", "%25").replace("*", "%2A").replace("#", "%23")
    if len(key.encode()) + 2 * PLACES > 255:
        raise LimitExceeded(f"the name {queue!r:.80} is too long to be used with delays; choose one below 200 bytes")
    return key


def rounded(delay: float) -> str:
    """Give the eight digits of a delay: rounded up so that at most three of them are not 0, to 0.4 % at most."""
    milliseconds = max(1, math.ceil(delay * 1000))
    unit = 16 ** max(0, len(f"{milliseconds:x}") - 3)
    return f"{math.ceil(milliseconds / unit) * unit:0{PLACES}x}"


class Delays:
    """Sends what is for one queue, and for later."""

    def __init__(self, lines: Lines, declarer: Declarer, queue: str) -> None:
        self._declared = lines.declared
        self._declarer = declarer
        self._queue = queue
        self._publisher = Publisher(lines.sending, mandatory=True)

    def send(
        self, messages: Sequence[tuple[float, bytes, pika.BasicProperties]], timeout: float
    ) -> list[PortableError | None]:
        """Send messages, each with its delay in seconds, body and properties; give None or an error for each."""
        deadline = monotonic() + timeout
        digits = [rounded(delay) for delay, *_ in messages]
        for one in dict.fromkeys(digits):
            self._prepare(one, deadline)
        key = due_key(self._queue)
        entries = [
            Entry(_exchange(_first(one)), f"{'.'.join(one)}.{key}", body, properties)
            for one, (_, body, properties) in zip(digits, messages, strict=True)
        ]
        outcomes = self._publisher.publish(entries, deadline - monotonic())
        if any(isinstance(outcome, ResourceNotFound) for outcome in outcomes):
            # Somebody removed what was made before; the next attempt makes it again.
            self._declared.clear()
        return [
            Unavailable("the queues for delays were gone; they are made again") if _is_gone(outcome) else outcome
            for outcome in outcomes
        ]

    def close(self) -> None:
        """Let go of the channel."""
        self._publisher.close()

    def _prepare(self, digits: str, deadline: float) -> None:
        """Make what a delay needs, where this process has not yet seen that it is there."""
        bound = f"due {self._queue}"
        stays = [place for place in range(PLACES) if digits[place] != "0"]
        missing = [place for place in stays if _stay(place, digits[place]) not in self._declared]
        if bound in self._declared and not missing:
            return
        if DUE not in self._declared:
            self._chain(deadline)
        if bound not in self._declared:
            pattern = f"{'*.' * PLACES}{due_key(self._queue)}"
            self._declarer.bind(self._queue, DUE, pattern, None, deadline)
            self._declared.add(bound)
        for place in missing:
            name = _stay(place, digits[place])
            arguments = {
                "x-message-ttl": int(digits[place], 16) * 16 ** (PLACES - 1 - place),
                "x-dead-letter-exchange": _exchange(place + 1),
                # What is on its way from one queue to the next is in one of them at least.
                "x-dead-letter-strategy": "at-least-once",
                "x-overflow": "reject-publish",
            }
            self._declarer.queue(name, quorum(arguments), deadline)
            self._declarer.bind(name, _exchange(place), f"{'*.' * place}{digits[place]}.#", None, deadline)
            self._declared.add(name)

    def _chain(self, deadline: float) -> None:
        self._declarer.exchange(DUE, "topic", deadline)
        for place in reversed(range(PLACES)):
            self._declarer.exchange(_exchange(place), "topic", deadline)
            self._declarer.chain(_exchange(place), _exchange(place + 1), f"{'*.' * place}0.#", None, deadline)
        self._declared.add(DUE)


def _first(digits: str) -> int:
    return next(place for place in range(PLACES) if digits[place] != "0")


def _exchange(place: int) -> str:
    return DUE if place == PLACES else f"portable.delay.{place}"


def _stay(place: int, digit: str) -> str:
    return f"portable.delay.{place}.{digit}"


def _is_gone(outcome: Any) -> bool:
    return isinstance(outcome, ResourceNotFound)
