"""The delayed messages of a queue, which one of its consumers moves when they are due.

They lie in a topic of their own, each in the partition of how long it has to wait. Those due within seconds are held in
memory; the others wait, in the order in which they were written, for the time of their partition, and are written anew,
nearer to their time. So no more than the next ones have to be held, however many there are.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from portable.errors import PortableError
from portable_kafka.engine import Consumer, Outbound, Place
from portable_kafka.envelopes import LEVELS, Spread, copy, due_of, level_of, message_of
from portable_kafka.lanes import Message
from portable_kafka.progress import Progress

__all__ = ["Later"]

HELD = 2000
"""How many messages of a partition are held at most."""

MOVED_AT_ONCE = 500


class Later:
    """What is delayed, in the hands of the one consumer that sees to it; it serves one thread.

    Args:
        consumer: one that is in no group.
        topic: where delayed messages are.
        starts: for each of its partitions, what the group has committed.
        queue: the queue's own topic.
        spread: chooses its partitions.
        clock: the wall clock.
    """

    def __init__(
        self,
        consumer: Consumer,
        topic: str,
        starts: Mapping[Place, tuple[int, str]],
        *,
        queue: str,
        spread: Spread,
        clock: Callable[[], float],
    ) -> None:
        self._consumer = consumer
        self._topic = topic
        self._queue = queue
        self._spread = spread
        self._clock = clock
        self._progress = {place: Progress(*start) for place, start in starts.items()}
        self._numbers = itertools.count()
        self._near: list[tuple[float, int, Message]] = []
        self._far: dict[Place, deque[Message]] = {place: deque() for place in starts}
        self._paused: set[Place] = set()
        consumer.assign({place: progress.following for place, progress in self._progress.items()})

    def move(self, write: Callable[[Sequence[Outbound], Mapping[Place, tuple[int, str]]], None]) -> bool:
        """Move what is due.

        Args:
            write: writes messages and commits offsets, in one step.

        Returns:
            False where it could not be moved now.
        """
        self._fetch()
        while self.due() == 0:
            messages, outbound, states = self._take()
            try:
                write(outbound, states)
            except PortableError:
                self._put_back(messages)
                return False
            self._finish(messages)
        return True

    def _fetch(self) -> None:
        """Take in what was written since."""
        for message in self._consumer.poll(MOVED_AT_ONCE, 0.0, message_of):
            if not self._progress[message.place].see(message.offset):
                continue
            if message.place[1] == 0:
                heapq.heappush(self._near, (due_of(message.headers), next(self._numbers), message))
            else:
                self._far[message.place].append(message)
        for place, offset in self._consumer.ends().items():
            self._progress[place].reach(offset)
        lost = self._consumer.astray()
        if lost:
            # Trimmed beyond what was committed: go on at what there is.
            for place in lost:
                self._progress[place] = Progress(self._consumer.edge(place, timeout=5.0)[0])
            self._consumer.assign({place: progress.following for place, progress in self._progress.items()})
        self._pace()

    def due(self) -> float | None:
        """Seconds until something has to be moved; None when there is nothing."""
        now = self._clock()
        moments = [self._near[0][0]] if self._near else []
        moments += [_looked_at(waiting[0]) for waiting in self._far.values() if waiting]
        return max(0.0, min(moments) - now) if moments else None

    def _take(self) -> tuple[list[Message], list[Outbound], dict[Place, tuple[int, str]]]:
        """Give what is due: the messages, their copies, and what has to be committed with them."""
        now = self._clock()
        messages: list[Message] = []
        while self._near and self._near[0][0] <= now and len(messages) < MOVED_AT_ONCE:
            messages.append(heapq.heappop(self._near)[2])
        for waiting in self._far.values():
            while waiting and _looked_at(waiting[0]) <= now and len(messages) < MOVED_AT_ONCE:
                messages.append(waiting.popleft())
        offsets: dict[Place, set[int]] = {}
        for one in messages:
            offsets.setdefault(one.place, set()).add(one.offset)
        states = {place: self._progress[place].state(done) for place, done in offsets.items()}
        return messages, [self._moved(one, now) for one in messages], states

    def _finish(self, messages: list[Message]) -> None:
        """Learn that messages were moved."""
        for one in messages:
            self._progress[one.place].finish(one.offset)

    def _put_back(self, messages: list[Message]) -> None:
        """Learn that messages were not moved."""
        for one in reversed(messages):
            if one.place[1] == 0:
                heapq.heappush(self._near, (due_of(one.headers), next(self._numbers), one))
            else:
                self._far[one.place].appendleft(one)

    def close(self) -> None:
        """Let go of the consumer."""
        self._consumer.close()

    def _moved(self, message: Message, now: float) -> Outbound:
        due = due_of(message.headers)
        if due > now:
            return copy(message, self._topic, level_of(due - now), self._queue, due=due)
        key = None if message.key is None else message.key.decode(errors="replace")
        return copy(message, self._queue, self._spread.of(key), self._queue)

    def _pace(self) -> None:
        for place, waiting in self._far.items():
            held = len(self._near) if place[1] == 0 else len(waiting)
            if held >= HELD and place not in self._paused:
                self._consumer.pause([place])
                self._paused.add(place)
            elif held < HELD // 2 and place in self._paused:
                self._consumer.resume([place])
                self._paused.discard(place)


def _looked_at(message: Message) -> float:
    """Say when a message that waits is looked at again."""
    return min(due_of(message.headers), message.timestamp / 1000 + LEVELS[message.place[1]])
