"""The messages that a consumer has: which of them are ready, which are leased, and until when."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from portable_kafka.engine import Headers, Place
from portable_kafka.progress import Progress

__all__ = ["Lanes", "Message", "Receipt"]

MOST_NOTED = 1000
"""How many ends of leases are kept in mind that may be over, besides twice those that are not."""


class Message:
    """One message in the hands of this consumer.

    Attributes:
        place: its partition.
        offset: its offset there.
        timestamp: milliseconds since the epoch when it was written there.
        key: as it is stored.
        value: the body.
        headers: as they are stored.
        count: how often it was delivered before.
        turn: which lease it has or had last; counts from 1.
        leased: whether somebody holds it.
        until: when its lease ends, on the monotonic clock.
        busy: whether it is being settled at this moment.
        acked: with which commit it was acknowledged; 0 where it was not.
        lost: whether its partition went to another consumer.
        lane: those of its key, in order; None where it waits for no other.
        progress: of its partition, once it was taken in.
    """

    __slots__ = (
        "acked",
        "busy",
        "count",
        "headers",
        "key",
        "lane",
        "leased",
        "lost",
        "offset",
        "place",
        "progress",
        "timestamp",
        "turn",
        "until",
        "value",
    )

    def __init__(  # noqa: PLR0917 (made of what Kafka gives, once for each message)
        self,
        place: Place,
        offset: int,
        timestamp: int,
        key: bytes | None,
        value: bytes,
        headers: Headers | None,
        count: int,
    ) -> None:
        self.place = place
        self.offset = offset
        self.timestamp = timestamp
        self.key = key
        self.value = value
        self.headers = headers
        self.count = count
        self.turn = 0
        self.until = 0.0
        self.leased = self.busy = self.lost = False
        self.acked = 0
        self.lane: deque[Message] | None = None
        self.progress: Progress | None = None


Receipt = tuple[Message, int]
"""One delivery: a message, and which lease of it. A plain tuple, for it is made for each delivery."""


class Lanes:
    """The messages of the partitions that a consumer has; it is changed under its owner's lock.

    Args:
        ordered: whether messages of a key are given one at a time, in order.
        clock: the monotonic clock.
    """

    def __init__(self, *, ordered: bool, clock: Callable[[], float]) -> None:
        self._ordered = ordered
        self._clock = clock
        # Each message is in one of these three, or behind another in its lane.
        self._ready: deque[Message] = deque()
        self._dues: list[tuple[float, int, Message]] = []
        self._leased: set[Message] = set()
        self._lanes: dict[tuple[Place, bytes], deque[Message]] = {}
        # When leases end; most of them are over by then.
        self._ends: list[tuple[float, int, Sequence[Message]]] = []
        self._noted = 0
        # Partitions that are about to go: what is given back of them is for the next consumer.
        self._going: set[Place] = set()
        self._numbers = itertools.count()
        self.held = 0

    @property
    def leases(self) -> int:
        """How many messages somebody holds."""
        return len(self._leased)

    def leases_of(self, places: set[Place]) -> list[Message]:
        """Give the messages of partitions that somebody holds."""
        return [one for one in self._leased if one.place in places]

    def add(self, message: Message) -> None:
        """Take in a message that was fetched."""
        self.held += 1
        if not self._ordered or message.key is None:
            self._ready.append(message)
            return
        key = (message.place, message.key)
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = deque()
            self._ready.append(message)
        lane.append(message)
        message.lane = lane

    def lease(self, count: int, visibility: float) -> list[Receipt]:
        """Lease what is ready."""
        now = self._clock()
        ready, dues = self._ready, self._dues
        while dues and dues[0][0] <= now:
            ready.append(heapq.heappop(dues)[2])
        if not ready:
            return []
        until = now + visibility
        messages = [ready.popleft() for _ in range(min(count, len(ready)))]
        receipts: list[Receipt] = []
        for message in messages:
            message.turn = turn = message.turn + 1
            message.leased = True
            message.until = until
            receipts.append((message, turn))
        self._leased.update(messages)
        self._note(until, messages)
        return receipts

    def extend(self, receipt: Receipt, seconds: float) -> bool:
        """Let a lease end so many seconds from now; False where it is over."""
        if not self.holds(receipt):
            return False
        self._until(receipt[0], self._clock() + seconds)
        return True

    def holds(self, receipt: Receipt) -> bool:
        """Whether a lease still is."""
        message, turn = receipt
        return message.turn == turn and message.leased and not message.busy and not message.lost

    def finish(self, messages: Iterable[Message]) -> None:
        """Let go of leased messages that are done; the next of their keys are ready."""
        for message in messages:
            message.leased = message.busy = False
            self._leased.discard(message)
            self.held -= 1
            lane = message.lane
            if lane is not None:
                lane.popleft()
                if lane:
                    self._ready.append(lane[0])
                elif message.key is not None:
                    del self._lanes[message.place, message.key]

    def give_back(self, message: Message, delay: float = 0.0, *, first: bool = False) -> None:
        """Have a message given again, after a delay; with `first` before all others."""
        self._release(message)
        if message.place in self._going:
            self.held -= 1
        elif delay > 0:
            heapq.heappush(self._dues, (self._clock() + delay, next(self._numbers), message))
        elif first:
            self._ready.appendleft(message)
        else:
            self._ready.append(message)

    def hold_again(self, message: Message) -> None:
        """Leave a message that could not be settled with its holder, for a moment from now at least."""
        if message.leased and not message.lost:
            message.busy = False
            self._until(message, max(message.until, self._clock() + 1.0))

    def expired(self) -> Iterator[Message]:
        """Give the messages whose lease has ended."""
        now = self._clock()
        while self._ends and self._ends[0][0] <= now:
            until, _, messages = heapq.heappop(self._ends)
            self._noted -= len(messages)
            for message in messages:
                if message.leased and message.until == until and not message.busy:
                    yield message

    def next_change(self) -> float | None:
        """Seconds until a lease ends or a message is due."""
        moments = [heap[0][0] for heap in (self._ends, self._dues) if heap]
        return max(0.0, min(moments) - self._clock()) if moments else None

    def drop(self, places: set[Place]) -> None:
        """Forget the messages of partitions that go to another consumer, but for those that somebody holds."""
        self._going |= places
        self._ready = deque(one for one in self._ready if one.place not in places)
        self._dues = [one for one in self._dues if one[2].place not in places]
        heapq.heapify(self._dues)
        self._lanes = {key: lane for key, lane in self._lanes.items() if key[0] not in places}
        for message in self.leases_of(places):
            message.lane = None
        behind = sum(len(lane) - 1 for lane in self._lanes.values())
        self.held = len(self._ready) + len(self._dues) + len(self._leased) + behind

    def lose(self, places: set[Place]) -> None:
        """Forget the messages of partitions that went to another consumer, those that somebody holds included."""
        self.drop(places)
        for message in self.leases_of(places):
            message.lost = True
            self._release(message)
            self.held -= 1
        self._going -= places

    def _release(self, message: Message) -> None:
        message.leased = message.busy = False
        self._leased.discard(message)

    def _until(self, message: Message, until: float) -> None:
        message.until = until
        self._note(until, (message,))

    def _note(self, until: float, messages: Sequence[Message]) -> None:
        heapq.heappush(self._ends, (until, next(self._numbers), messages))
        self._noted += len(messages)
        if self._noted > MOST_NOTED + 2 * len(self._leased):
            # Long leases that are over would keep all that was ever read.
            self._ends = [(one.until, next(self._numbers), (one,)) for one in self._leased]
            heapq.heapify(self._ends)
            self._noted = len(self._ends)
