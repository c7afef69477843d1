"""What goes wrong on kafka-python, as errors of ours, and what it takes and gives."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping
from time import monotonic, sleep
from typing import Any, TypeVar

from portable.errors import PortableError
from portable_kafka.engine import Place
from portable_kafka.errors import AUTHENTICATION, PASSING, meaning

__all__ = [
    "OVERHEAD",
    "TopicPartition",
    "answered",
    "built",
    "code_of",
    "errors",
    "kafka",
    "places_of",
    "translated",
    "translating",
    "with_offsets",
]

T = TypeVar("T")

# The type checkers know those of another release.
kafka: Any = importlib.import_module("kafka")
errors: Any = importlib.import_module("kafka.errors")
OffsetAndMetadata: Any = importlib.import_module("kafka.structs").OffsetAndMetadata
TopicPartition: Any = kafka.TopicPartition

PAUSE = 0.02
"""Seconds before what cannot be done for a moment is tried again."""

OVERHEAD = 46_000
"""Bytes of room for what a batch and a message have around them; with 1 MB of them Event Hubs takes a request, too."""

UNVERIFIED, CERTIFICATE = "CERTIFICATE_VERIFY_FAILED", -181
"""What OpenSSL says of a certificate that it does not believe, and the code that librdkafka has for it."""


def code_of(error: BaseException) -> int:
    """Give the protocol's code, or librdkafka's for what only a client meets."""
    cause: BaseException | None = error
    while cause is not None:
        number = getattr(cause, "errno", None)
        if isinstance(cause, errors.KafkaError) and isinstance(number, int) and number > 0:
            return number
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, errors.KafkaTimeoutError):
        return -185
    if isinstance(error, errors.CommitFailedError):
        return 25
    if isinstance(error, (errors.RetriableError, OSError)):
        return -195
    return -196


def translated(error: BaseException) -> PortableError:
    """Give the error of ours for one of theirs, which becomes its cause."""
    if isinstance(error, PortableError):
        return error
    ours = meaning(code_of(error), str(error))
    ours.__cause__ = error
    return ours


@contextlib.contextmanager
def translating() -> Iterator[None]:
    """Raise errors of ours for theirs."""
    try:
        yield
    except (errors.KafkaError, OSError) as error:
        raise translated(error) from error


class _Refusals(logging.Handler):
    """Hears why connections fail: the library tries again until the time is over, and then says only that it is."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the error, where it is one that no waiting helps against, and have the library give up."""
        told: Any = record.args if isinstance(record.args, tuple) else ()
        for one in told:
            if isinstance(one, errors.BrokerResponseError) and code_of(one) in AUTHENTICATION:
                self.heard = one
            elif isinstance(one, errors.KafkaConnectionError) and UNVERIFIED in str(one):
                self.heard = meaning(CERTIFICATE, str(one))
            elif isinstance(one, PortableError):
                # No token could be had.
                self.heard = one
        if self.heard is not None and record.msg.startswith("Bootstrap"):
            raise errors.KafkaError(str(self.heard))


def built(make: Callable[[], T]) -> T:
    """Make a client, which connects."""
    refusals, log = _Refusals(), logging.getLogger("kafka.net.manager")
    log.addHandler(refusals)
    try:
        return make()
    except (errors.KafkaError, OSError) as error:
        raise translated(refusals.heard or error) from error
    finally:
        log.removeHandler(refusals)


def answered(question: Callable[[], T], timeout: float) -> T:
    """Ask the cluster something, again and again while it is about to be able to answer."""
    deadline = monotonic() + timeout
    while True:
        try:
            return question()
        except (errors.KafkaError, OSError) as error:
            if code_of(error) not in PASSING or monotonic() > deadline:
                raise translated(error) from error
            sleep(PAUSE)


def with_offsets(wanted: Mapping[Place, tuple[int, str]]) -> dict[Any, Any]:
    """Give offsets, each with a text, as the library takes them."""
    return {TopicPartition(*place): OffsetAndMetadata(offset, text, -1) for place, (offset, text) in wanted.items()}


def places_of(found: Any) -> list[Place]:
    """Give partitions as ours."""
    return [(one.topic, one.partition) for one in found]
