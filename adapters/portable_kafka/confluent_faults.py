"""What goes wrong on confluent-kafka, as errors of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic, sleep
from typing import Any, TypeVar

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from portable.errors import PortableError
from portable_kafka.engine import Place
from portable_kafka.errors import AUTHENTICATION, PASSING, TLS, meaning
from portable_kafka.tokens import Token, Tokens

__all__ = [
    "LOOK_EVERY",
    "PAUSE",
    "Configure",
    "Faults",
    "answered",
    "check",
    "left",
    "translated",
    "translating",
    "with_offsets",
]

T = TypeVar("T")

LOOK_EVERY = 1.0
"""Seconds between two looks whether the cluster refuses this client for good."""

PAUSE = 0.02
"""Seconds before what cannot be done for a moment is tried again."""


def translated(error: BaseException) -> PortableError:
    """Give the error of ours for one of theirs, which becomes its cause."""
    fault = error.args[0] if error.args and isinstance(error.args[0], KafkaError) else None
    ours = meaning(fault.code(), fault.str()) if fault is not None else PortableError(f"the client failed: {error}")
    ours.__cause__ = error
    return ours


@contextlib.contextmanager
def translating() -> Iterator[None]:
    """Raise errors of ours for theirs."""
    try:
        yield
    except KafkaException as error:
        raise translated(error) from error


def answered(question: Callable[[], T], timeout: float) -> T:
    """Ask the cluster something, again and again while it is about to be able to answer."""
    deadline = monotonic() + timeout
    while True:
        try:
            return question()
        except KafkaException as error:
            if error.args[0].code() not in PASSING or monotonic() > deadline:
                raise translated(error) from error
            sleep(PAUSE)


class Faults:
    """What a client says of its connections: refusals that no waiting helps against."""

    def __init__(self) -> None:
        self._refused: PortableError | None = None
        self._tokenless: PortableError | None = None
        self._fetched: Token | None = None

    def hear(self, error: KafkaError) -> None:
        """Take note of an error; the client's `error_cb`."""
        if error.code() in AUTHENTICATION | TLS:
            self._refused = self._tokenless or meaning(error.code(), error.str())
            self._refused.__cause__ = self._refused.__cause__ or KafkaException(error)

    def fetch(self, tokens: Tokens) -> None:
        """Have the first token at hand: a client that is being made waits ten seconds where there is none."""
        self._fetched = tokens()

    def token(self, tokens: Tokens, _: str) -> tuple[str, float, str, dict[str, str]]:
        """Give a token; the client's `oauth_cb`, which has no other way to say why there is none."""
        fetched, self._fetched = self._fetched, None
        try:
            token = fetched or tokens()
        except PortableError as error:
            self._tokenless = error
            raise
        self._tokenless = None
        return token.value, token.expires_at, token.principal, token.extensions

    def forget(self) -> None:
        """Begin anew."""
        self._refused = None

    def check(self) -> None:
        """Raise what makes waiting useless."""
        refused, self._refused = self._refused, None
        if refused is not None:
            raise refused


Configure = Callable[[Faults], dict[str, Any]]
"""Gives the settings that all clients have, errors of whose connections are told to a `Faults`."""


def check(found: Sequence[TopicPartition]) -> None:
    """Raise what is wrong with one of several partitions."""
    for one in found:
        if one.error is not None:
            raise KafkaException(one.error)


def with_offsets(wanted: Mapping[Place, tuple[int, str]]) -> list[TopicPartition]:
    """Give offsets, each with a text, as the library takes them."""
    return [TopicPartition(*place, offset, text) for place, (offset, text) in wanted.items()]


def left(deadline: float) -> float:
    """Give the seconds that are left, and never none."""
    return max(0.05, deadline - monotonic())
