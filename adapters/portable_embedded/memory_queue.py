"""Queues in the memory of this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from portable.bindings import Binding
from portable.capabilities import QueueCapabilities
from portable.changes import Change
from portable.contracts import QueueContract
from portable.dead_letters import NEVER
from portable.drivers import Options as DriverOptions
from portable.errors import PortableError, ResourceNotFound
from portable.messages import Delivery, Outgoing, QueueStats
from portable.wire import dead_letter_name
from portable_embedded.backlog import Backlog, Backlogs, backlogs
from portable_embedded.memory import News, Space, space

__all__ = ["MemoryQueue", "Options"]


CLOCK_SLACK = 1.0
"""How far the clock may go back, in seconds, before anybody cares."""


class Options(DriverOptions, frozen=True, kw_only=True):
    """`memory:` keeps a queue as long as its cloud is open; `memory:NAME` one that all clouds of the process share."""


class MemoryQueue:
    """A queue in memory."""

    Options = Options
    blocking = False
    capabilities = QueueCapabilities(
        durability="none",
        exclusive_lease=True,
        exact_count=True,
        delay=True,
        nack_delay=True,
        lease_per_receive=True,
        ordered=True,
        dedup=True,
        purge=True,
        peek=True,
        max_batch=1000,
        max_receive=1000,
    )
    send_concurrency = 1

    def __init__(self, binding: Binding[Any]) -> None:
        self._binding = binding
        self._name = binding.name
        contract: Any = binding.contract
        self._contract: QueueContract = contract
        self._clock = binding.clock
        self._space = space(binding)
        self._lock = self._space.lock
        # A dead-letter queue that the contract names may live elsewhere.
        self.buries = self._contract.dead_letter is None
        self._max_deliveries = self._contract.max_deliveries if self.buries else 1 << 62
        self._backlog = Backlog(self._space, ordered=False)
        # The latest time that this driver has seen.
        self._latest = 0.0

    @property
    def native(self) -> Space:
        """The space that holds it; there is no client."""
        return self._space

    @property
    def arrivals(self) -> News:
        """News of messages."""
        return self._backlog.news

    def open(self) -> None:
        """Find it, or make it."""
        if self._binding.create:
            self.create()
        with self._lock:
            self._backlog = self._find()
            self._backlog.keep_order(ordered=self._contract.ordered, now=self._now())
        if self._binding.on_clock_moved is not None:
            self._binding.on_clock_moved(self._backlog.news.changed)

    def close(self) -> None:
        """Let go of nothing: the messages belong to the space."""

    def check(self, *, write: bool, timeout: float) -> None:  # noqa: ARG002 (memory is reachable and writable)
        """Raise `ResourceNotFound` when it is not there."""
        with self._lock:
            self._find()

    def plan(self) -> list[Change]:
        """Say which queues would be made."""
        with self._lock:
            there = backlogs(self._space)
            return [Change("create", what, name) for name, what in self._wanted().items() if name not in there]

    def create(self) -> None:
        """Make the queue and its dead-letter queue."""
        with self._lock:
            there = backlogs(self._space)
            for name in self._wanted():
                if name not in there:
                    there[name] = Backlog(self._space, ordered=name == self._name and self._contract.ordered)

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:  # noqa: ARG002 (memory does not wait)
        """Add messages."""
        now = self._now()
        with self._lock:
            backlog = self._backlog
            ids: list[str | PortableError] = [backlog.add(message, now) for message in messages]
            backlog.news.changed()
        return ids

    def receive(self, max_messages: int, *, visibility: float, timeout: float) -> list[Delivery]:  # noqa: ARG002 (memory does not wait)
        """Lease what is ready."""
        now = self._now()
        with self._lock:
            given, exhausted = self._backlog.lease(max_messages, now, visibility, self._max_deliveries)
            for delivery in exhausted:
                self._bury(delivery, self._exhausted(), now)
        return given

    def next_due(self, *, timeout: float) -> float | None:  # noqa: ARG002 (memory does not wait)
        """Look when the next message is due."""
        with self._lock:
            return self._backlog.due_in(self._now())

    def ack(self, deliveries: Sequence[Delivery], *, timeout: float) -> list[PortableError | None]:  # noqa: ARG002 (memory does not wait)
        """Remove messages."""
        now = self._now()
        with self._lock:
            return [self._backlog.remove(delivery, now) for delivery in deliveries]

    def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:  # noqa: ARG002 (memory does not wait)
        """Give messages back, or bury those that have used up their deliveries."""
        now = self._now()
        with self._lock:
            for delivery in deliveries:
                if delivery.count >= self._max_deliveries:
                    self._bury(delivery, self._exhausted(), now)
                else:
                    self._backlog.give_back(delivery, now, delay)
            self._backlog.news.changed()

    def extend(
        self,
        deliveries: Sequence[Delivery],
        *,
        seconds: float,
        timeout: float,  # noqa: ARG002 (memory does not wait)
    ) -> list[PortableError | None]:
        """Hold messages for longer."""
        now = self._now()
        with self._lock:
            return [self._backlog.extend(delivery, now, seconds) for delivery in deliveries]

    def bury(
        self,
        deliveries: Sequence[Delivery],
        *,
        reason: str,
        timeout: float,  # noqa: ARG002 (memory does not wait)
    ) -> list[PortableError | None]:
        """Move messages to the dead-letter queue."""
        now = self._now()
        with self._lock:
            return [self._bury(delivery, reason, now) for delivery in deliveries]

    def stats(self, *, timeout: float) -> QueueStats:  # noqa: ARG002 (memory does not wait)
        """Count messages."""
        with self._lock:
            return self._backlog.stats(self._now())

    def purge(self, *, timeout: float) -> None:  # noqa: ARG002 (memory does not wait)
        """Remove every message."""
        with self._lock:
            self._backlog.clear()

    def peek(self, max_messages: int, *, timeout: float) -> list[Delivery]:  # noqa: ARG002 (memory does not wait)
        """Look at what would be received."""
        with self._lock:
            return self._backlog.peek(max_messages, self._now())

    def _now(self) -> float:
        now = self._clock()
        if now >= self._latest:
            self._latest = now
        elif now < self._latest - CLOCK_SLACK:
            with self._lock:
                self._backlog.unhide(self._latest, now)
            self._latest = now
        return now

    def _wanted(self) -> dict[str, str]:
        wanted = {self._name: self._binding.kind}
        if self.buries and self._max_deliveries < NEVER:
            wanted[dead_letter_name(self._name)] = "dead-letter queue"
        return wanted

    def _find(self) -> Backlog:
        there: Backlogs = backlogs(self._space)
        for name, what in self._wanted().items():
            if name not in there:
                raise ResourceNotFound(f"no {what} {name!r} in this memory; make it with `portable resources create`")
        return there[self._name]

    def _bury(self, delivery: Delivery, reason: str, now: float) -> PortableError | None:
        dead = backlogs(self._space)[dead_letter_name(self._name)]
        answer = self._backlog.bury(delivery, dead, self._binding.resource, reason, now)
        dead.news.changed()
        return answer

    def _exhausted(self) -> str:
        return f"delivered {self._max_deliveries} times without an ack"
