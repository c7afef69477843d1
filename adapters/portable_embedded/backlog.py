"""The messages of one queue in the memory of this process."""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import TypeAlias

import msgspec

from portable.errors import LeaseLost, PortableError
from portable.messages import Delivery, Outgoing, QueueStats
from portable.wire import dead_letter_attributes
from portable_embedded.memory import News, Space

__all__ = ["Backlog", "Backlogs", "backlogs"]

BLOCKED = math.inf
"""When a message is due that waits for the one before it in its ordering key."""

DEDUP_SECONDS = 300.0

Backlogs: TypeAlias = "dict[str, Backlog]"


class _Entry(msgspec.Struct):
    id: str
    body: bytes
    attributes: dict[str, str] | None
    key: str | None
    sent_at: float
    due: float
    count: int = 0
    leased: bool = False


class Backlog:
    """One queue's messages. Every method is called with the lock of the space held.

    Attributes:
        space: where it is kept; its lock guards the backlog.
        news: told of everything that a waiting receiver may want.
        ordered: whether messages of one key are delivered one at a time.
    """

    def __init__(self, space: Space, *, ordered: bool) -> None:
        self.space = space
        self.news = News()
        self.ordered = ordered
        self._next = 1
        self._entries: dict[int, _Entry] = {}
        # What is due when; an entry that was settled or moved leaves its old place here until it comes up.
        self._schedule: list[tuple[float, int]] = []
        self._keys: dict[str, deque[int]] = {}
        self._sent: dict[str, tuple[str, float]] = {}

    def add(self, message: Outgoing, now: float, id: str | None = None) -> str:
        """Take a message, and give its id: the one it comes with, or a new one."""
        if message.dedup_id is not None:
            first = self._first_of(message.dedup_id, now)
            if first is not None:
                return first
        number = self._next
        self._next = number + 1
        if id is None:
            id = str(number)  # noqa: A001 (the field's own word)
        due = now + message.delay
        if message.ordering_key is not None and self.ordered:
            due = self._line_up(message.ordering_key, number, due)
        self._entries[number] = _Entry(id, message.body, message.attributes, message.ordering_key, now, due)
        if due != BLOCKED:
            heapq.heappush(self._schedule, (due, number))
        if message.dedup_id is not None:
            self._sent[message.dedup_id] = (id, now + DEDUP_SECONDS)
        return id

    def lease(
        self, max_messages: int, now: float, visibility: float, max_deliveries: int
    ) -> tuple[list[Delivery], list[Delivery]]:
        """Give what is ready, and beside it what has used up its deliveries."""
        given: list[Delivery] = []
        exhausted: list[Delivery] = []
        schedule = self._schedule
        again: list[tuple[float, int]] = []
        while schedule and len(given) < max_messages and schedule[0][0] <= now:
            due, number = heapq.heappop(schedule)
            entry = self._entries.get(number)
            if entry is None or entry.due != due:
                continue
            entry.due = now + visibility
            again.append((entry.due, number))
            if entry.count >= max_deliveries:
                exhausted.append(_delivery(number, entry))
                continue
            entry.count += 1
            entry.leased = True
            given.append(_delivery(number, entry))
        # Afterwards, or a lease of no length would be given again at once.
        for place in again:
            heapq.heappush(schedule, place)
        if len(schedule) > 64 + 2 * len(self._entries):
            self._compact()
        return given, exhausted

    def remove(self, delivery: Delivery, now: float) -> PortableError | None:
        """Remove a message that is still held by this delivery."""
        number = delivery.receipt
        if self._held(delivery) is None:
            return LeaseLost(f"the lease of message {delivery.id} ran out, and the message went on without it")
        self._drop(number, now)
        return None

    def give_back(self, delivery: Delivery, now: float, delay: float, *, uncounted: bool = False) -> None:
        """Let a message be received again; what is no longer held by this delivery stays as it is."""
        entry = self._held(delivery)
        if entry is not None:
            entry.leased = False
            entry.count -= uncounted
            self._move(delivery.receipt, entry, now + delay)

    def extend(self, delivery: Delivery, now: float, seconds: float) -> PortableError | None:
        """Hold a message for longer."""
        entry = self._held(delivery)
        if entry is None:
            return LeaseLost(f"the lease of message {delivery.id} ran out, and the message went on without it")
        self._move(delivery.receipt, entry, now + seconds)
        return None

    def bury(self, delivery: Delivery, dead: Backlog, queue: str, reason: str, now: float) -> PortableError | None:
        """Move a message to the dead-letter queue, unless somebody else holds it by now."""
        entry = self._entries.get(delivery.receipt)
        if entry is None or entry.count != delivery.count:
            return LeaseLost(f"the lease of message {delivery.id} ran out, and the message went on without it")
        attributes = dead_letter_attributes(entry.attributes or {}, queue=queue, id=entry.id, reason=reason)
        dead.add(Outgoing(entry.body, attributes, 0.0, entry.key), now)
        self._drop(delivery.receipt, now)
        return None

    def peek(self, max_messages: int, now: float) -> list[Delivery]:
        """Look at what would be received first."""
        ready = sorted((entry.due, number) for number, entry in self._entries.items() if entry.due <= now)
        return [_delivery(number, self._entries[number]) for _, number in ready[:max_messages]]

    def due_in(self, now: float) -> float | None:
        """Give the seconds until a message can be received, None when there is none."""
        schedule = self._schedule
        while schedule:
            due, number = schedule[0]
            entry = self._entries.get(number)
            if entry is not None and entry.due == due:
                return max(0.0, due - now)
            heapq.heappop(schedule)
        return None

    def stats(self, now: float) -> QueueStats:
        """Count the messages."""
        leased = sum(entry.leased and entry.due > now for entry in self._entries.values())
        delayed = sum(not entry.leased and now < entry.due < BLOCKED for entry in self._entries.values())
        return QueueStats(ready=len(self._entries) - leased - delayed, leased=leased, delayed=delayed)

    def clear(self) -> None:
        """Remove every message."""
        self._entries.clear()
        self._schedule.clear()
        self._keys.clear()

    def keep_order(self, *, ordered: bool, now: float) -> None:
        """Begin, or cease, to deliver the messages of a key one at a time."""
        if ordered == self.ordered:
            return
        self.ordered = ordered
        self._keys.clear()
        for number, entry in self._entries.items():
            if ordered and entry.key is not None:
                entry.due = self._line_up(entry.key, number, entry.due)
            elif entry.due == BLOCKED:
                entry.due = now
        self._compact()

    def unhide(self, latest: float, now: float) -> None:
        """Make ready what was ready before the clock was set back from `latest`; leases and delays stay."""
        for entry in self._entries.values():
            if not entry.leased and now < entry.due <= latest:
                entry.due = now
        self._compact()
        self.news.changed()

    def _line_up(self, key: str, number: int, due: float) -> float:
        line = self._keys.get(key)
        if line is None:
            self._keys[key] = deque((number,))
            return due
        line.append(number)
        return BLOCKED

    def _drop(self, number: int, now: float) -> None:
        entry = self._entries.pop(number)
        line = self._keys.get(entry.key) if entry.key is not None else None
        if line is None or entry.key is None:
            return
        line.remove(number)
        if not line:
            del self._keys[entry.key]
            return
        following = self._entries[line[0]]
        if following.due == BLOCKED:
            self._move(line[0], following, now)
            self.news.changed()

    def _held(self, delivery: Delivery) -> _Entry | None:
        entry = self._entries.get(delivery.receipt)
        return entry if entry is not None and entry.leased and entry.count == delivery.count else None

    def _move(self, number: int, entry: _Entry, due: float) -> None:
        if due != entry.due:
            entry.due = due
            heapq.heappush(self._schedule, (due, number))

    def _compact(self) -> None:
        self._schedule = [(entry.due, number) for number, entry in self._entries.items() if entry.due != BLOCKED]
        heapq.heapify(self._schedule)

    def _first_of(self, dedup_id: str, now: float) -> str | None:
        sent = self._sent
        # The oldest stand first, so that what is over is found without looking at the rest.
        while sent:
            oldest = next(iter(sent))
            if sent[oldest][1] > now:
                break
            del sent[oldest]
        known = sent.get(dedup_id)
        if known is None:
            return None
        if known[1] > now:
            return known[0]
        del sent[dedup_id]
        return None


def _delivery(number: int, entry: _Entry) -> Delivery:
    return Delivery(
        id=entry.id,
        receipt=number,
        body=entry.body,
        attributes=entry.attributes.copy() if entry.attributes else {},
        count=entry.count,
        sent_at=entry.sent_at,
        ordering_key=entry.key,
    )


def backlogs(space: Space) -> Backlogs:
    """Give the queues of a space, by name; look at them with its lock held."""
    found: Backlogs = space.get("queues", dict)
    return found
