"""The messages that a consumer has: which of them are ready, which are leased, and until when."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from portable_kafka.engine import Headers, Place

__all__ = ["Lanes", "Message", "Receipt"]


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
        acked: whether it was acknowledged.
        lost: whether its partition went to another consumer.
        lane: those of its key, in order; alone in an unordered queue.
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
        self.leased = self.busy = self.acked = self.lost = False
        self.lane: deque[Message] = deque((self,))


class Receipt(NamedTuple):
    """One delivery: a message, and which lease of it."""

    message: Message
    turn: int


class Lanes:
    """The messages of the partitions that a consumer has; it is changed under its owner's lock.

    Args:
        ordered: whether messages of a key are given one at a time, in order.
        clock: the monotonic clock.
    """

    def __init__(self, *, ordered: bool, clock: Callable[[], float]) -> None:
        self._ordered = ordered
        self._clock = clock
        self._ready: deque[deque[Message]] = deque()
        self._lanes: dict[tuple[Place, bytes | None], deque[Message]] = {}
        self._leased: set[Message] = set()
        # When leases end, and when messages that were given back are due; some of it is over by then.
        self._ends: list[tuple[float, int, Message, int]] = []
        self._dues: list[tuple[float, int, deque[Message]]] = []
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
            self._ready.append(message.lane)
            return
        key = (message.place, message.key)
        lane = self._lanes.get(key)
        if lane is None:
            self._lanes[key] = message.lane
            self._ready.append(message.lane)
        else:
            lane.append(message)
            message.lane = lane

    def lease(self, count: int, visibility: float) -> list[Receipt]:
        """Lease what is ready."""
        now = self._clock()
        while self._dues and self._dues[0][0] <= now:
            self._ready.append(heapq.heappop(self._dues)[2])
        until = now + visibility
        receipts: list[Receipt] = []
        while self._ready and len(receipts) < count:
            lane = self._ready.popleft()
            if not lane:
                continue
            message = lane[0]
            message.turn += 1
            message.leased = True
            self._leased.add(message)
            self._until(message, until)
            receipts.append(Receipt(message, message.turn))
        return receipts

    def extend(self, receipt: Receipt, seconds: float) -> bool:
        """Let a lease end so many seconds from now; False where it is over."""
        if not self.holds(receipt):
            return False
        self._until(receipt.message, self._clock() + seconds)
        return True

    def holds(self, receipt: Receipt) -> bool:
        """Whether a lease still is."""
        message = receipt.message
        return message.leased and not message.busy and not message.lost and message.turn == receipt.turn

    def finish(self, message: Message) -> None:
        """Let go of a message that is done; the next of its key is ready."""
        self._release(message)
        self.held -= 1
        lane = message.lane
        if lane and lane[0] is message:
            lane.popleft()
            if lane:
                self._ready.append(lane)
            elif self._ordered:
                self._lanes.pop((message.place, message.key), None)

    def give_back(self, message: Message, delay: float = 0.0, *, first: bool = False) -> None:
        """Have a message given again, after a delay; with `first` before all others."""
        self._release(message)
        if delay > 0:
            heapq.heappush(self._dues, (self._clock() + delay, next(self._numbers), message.lane))
        elif first:
            self._ready.appendleft(message.lane)
        else:
            self._ready.append(message.lane)

    def hold_again(self, message: Message) -> None:
        """Leave a message that could not be settled with its holder, for a moment from now at least."""
        if message.leased and not message.lost:
            message.busy = False
            self._until(message, max(message.until, self._clock() + 1.0))

    def expired(self) -> Iterator[Message]:
        """Give the messages whose lease has ended."""
        now = self._clock()
        while self._ends and self._ends[0][0] <= now:
            until, _, message, turn = heapq.heappop(self._ends)
            if message.leased and message.turn == turn and message.until == until and not message.busy:
                yield message

    def next_change(self) -> float | None:
        """Seconds until a lease ends or a message is due."""
        moments = [heap[0][0] for heap in (self._ends, self._dues) if heap]
        return max(0.0, min(moments) - self._clock()) if moments else None

    def drop(self, places: set[Place]) -> None:
        """Forget the messages of partitions that go to another consumer, but for those that somebody holds."""
        lanes = [lane for lane in self._ready if not lane or lane[0].place not in places]
        waiting = [one for one in self._dues if not one[2] or one[2][0].place not in places]
        gone = 0
        for lane in {id(one): one for one in (*self._ready, *(due[2] for due in self._dues))}.values():
            if lane and lane[0].place in places:
                gone += len(lane)
                lane.clear()
        for message in self.leases_of(places):
            gone += len(message.lane) - 1
            message.lane = deque((message,))
        self.held -= gone
        self._ready = deque(lanes)
        self._dues = waiting
        heapq.heapify(self._dues)
        self._lanes = {key: lane for key, lane in self._lanes.items() if key[0] not in places}

    def lose(self, places: set[Place]) -> None:
        """Forget the messages of partitions that went to another consumer, those that somebody holds included."""
        self.drop(places)
        for message in self.leases_of(places):
            message.lost = True
            self._release(message)
            self.held -= 1

    def _release(self, message: Message) -> None:
        message.leased = message.busy = False
        self._leased.discard(message)

    def _until(self, message: Message, until: float) -> None:
        message.until = until
        heapq.heappush(self._ends, (until, next(self._numbers), message, message.turn))
