"""What a queue reads, and by which rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from portable_kafka.engine import Headers
from portable_kafka.envelopes import Spread

__all__ = ["Group"]


class Group(NamedTuple):
    """What a queue reads.

    Attributes:
        name: of the consumer group.
        queue: the queue's own topic.
        topics: what is read: the queue's topic, and that of a subscription.
        later: the topic of delayed messages.
        spread: chooses partitions of the queue's topic.
        ordered: whether messages of a key are given one at a time.
        wanted: whether a message of another topic than the queue's own is wanted.
        patience: seconds that a rebalance waits for a member.
        clock: the wall clock.
    """

    name: str
    queue: str
    topics: tuple[str, ...]
    later: str
    spread: Spread
    ordered: bool
    wanted: Callable[[Headers | None], bool]
    patience: float
    clock: Callable[[], float]
