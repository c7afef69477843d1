"""One consumer of a stream's group, on Kafka's own groups."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, sleep

from portable.bridges import stays_sync
from portable.errors import Closed, DeadlineExceeded, LeaseLost, PortableError
from portable.records import Position, Record
from portable_kafka.cluster import Cluster
from portable_kafka.engine import Consumer, Place, Rebalancing
from portable_kafka.offsets import next_offset

__all__ = ["KafkaMember"]

SLICE = 0.2
"""Seconds that one look takes at most, so that closing does not wait for longer."""


PAUSE = 0.02
"""Seconds of a poll that only takes part in a rebalance."""


class _Held:
    """A partition of this member: up to where its consumer has the records, and up to where it has committed."""

    __slots__ = ("committed", "given")

    def __init__(self) -> None:
        self.given = self.committed = ""


class KafkaMember:
    """Satisfies `portable.drivers.StreamMember`.

    Args:
        cluster: the clients of the stream.
        consumer: in the group already, with positions for each partition, and not yet subscribed.
        topic: the topic.
        count: how many partitions it has.
        make: makes a record of what Kafka has.
        grace: seconds without a poll after which Kafka gives the partitions to others.
    """

    def __init__(
        self,
        cluster: Cluster,
        consumer: Consumer,
        topic: str,
        count: int,
        *,
        make: Callable[..., Record[bytes]],
        grace: float,
    ) -> None:
        self.heartbeat_every = grace / 6
        self._cluster = cluster
        self._consumer = consumer
        self._topic = topic
        self._places = [(topic, number) for number in range(count)]
        self._make = make
        self._grace = grace
        self._busy = threading.Lock()
        self._held: dict[str, _Held] = {}
        # Fetched, and either not yet handed out or not yet taken.
        self._fetched: list[Record[bytes]] = []
        self._changed = False
        self._seeks: dict[str, int] = {}
        # What the application wants committed, while it is being committed.
        self._due: dict[str, Position] = {}
        self._until = 0.0
        self._lost: set[str] = set()
        self._subscribed = self._joined = self._left = False
        self._polled = monotonic()

    def fetch(self, max_records: int, *, timeout: float) -> list[Record[bytes]]:
        """Wait for its share of the partitions, and give what is there now."""
        deadline = monotonic() + timeout
        while True:
            records = self._look(max_records, 0.0 if self._joined else SLICE)
            if records or self._joined:
                return records
            if monotonic() > deadline:
                raise DeadlineExceeded("the group did not come together in time")

    def wait_fetch(self, max_records: int, *, timeout: float) -> list[Record[bytes]]:
        """Wait for the first record."""
        deadline = monotonic() + timeout
        while True:
            left = deadline - monotonic()
            records = self._look(max_records, min(SLICE, max(0.0, left)))
            if records or left <= 0:
                return records

    @stays_sync
    def took(self, records: Sequence[Record[bytes]]) -> None:
        """Learn that the consumer has what a fetch gave."""
        last: dict[str, Record[bytes]] = {}
        for one in reversed(records):
            if last.setdefault(one.partition, one) is one and len(last) == len(self._held):
                break
        for name, one in last.items():
            held = self._held.get(name)
            if held is not None:
                held.given = one.position.value
        if not records:
            return
        count = len(records)
        if len(self._fetched) >= count and self._fetched[0] is records[0] and self._fetched[count - 1] is records[-1]:
            del self._fetched[:count]
        else:
            # Some went with their partition meanwhile.
            taken = {id(one) for one in records}
            self._keep(lambda one: id(one) not in taken)

    @stays_sync
    def seek(self, position: Position) -> bool:
        """Fetch what follows a position next; False where the partition is not this member's."""
        held = self._held.get(position.partition)
        if held is None:
            return False
        self._seeks[position.partition] = next_offset(position.value)
        held.given = position.value
        return True

    @stays_sync
    def holds(self, partition: str) -> bool:
        """Whether a partition is this member's for sure."""
        return partition in self._held and monotonic() - self._polled < self._grace

    @stays_sync
    def lost(self) -> set[str]:
        """Give, once, the partitions that went before it had committed what it was given of them."""
        lost, self._lost = self._lost, set()
        return lost

    @stays_sync
    def due(self) -> float:
        """Seconds until it has to look again though nothing arrives."""
        return SLICE

    def heartbeat(self, *, timeout: float) -> None:  # noqa: ARG002 (it does not wait)
        """Show Kafka that it is not stuck: at once where all is committed, else when it is high time."""
        with self._busy:
            # What was handed out stays among what is fetched until it is taken, and counts as given by then.
            if self._fetched or self._left or not self._subscribed:
                return
            behind = any(held.given != held.committed for held in self._held.values())
            if not behind or monotonic() - self._polled > self._grace / 2:
                self._be_there()
                self._poll(1, 0.0)

    def commit(self, positions: Mapping[str, Position], *, timeout: float) -> set[str]:
        """Keep positions; gives the partitions that are not its own any more."""
        self._due = due = dict(positions)
        self._until = monotonic() + timeout
        try:
            # A partition may be revoked while this takes part in a rebalance, and is committed there.
            while mine := {name: one for name, one in due.copy().items() if name in self._held}:
                try:
                    self._commit(mine)
                    break
                except Rebalancing:
                    if monotonic() > self._until:
                        raise
                    self._take_part()
            lost = set(due) - set(mine)
        except LeaseLost:
            return set(positions)
        finally:
            self._due = {}
        self._lost -= lost
        return lost

    def lag(self, *, timeout: float) -> int | None:
        """Count the offsets of all partitions after what the group committed."""
        committed = self._consumer.committed(self._places, timeout=timeout)
        edges = self._cluster.admin.edges(self._places, timeout=timeout)
        return sum(
            max(0, following - max(first, committed.get(place, (first, ""))[0]))
            for place, (first, following) in edges.items()
        )

    def close(self, *, timeout: float) -> None:  # noqa: ARG002 (the client bounds it)
        """Leave the group."""
        self._left = True
        with self._busy:
            self._held = {}
            self._consumer.close()

    def _look(self, count: int, wait: float) -> list[Record[bytes]]:
        with self._busy:
            self._be_there()
            if not self._fetched:
                self._poll(count, wait)
            return self._fetched[:count]

    def _commit(self, positions: Mapping[str, Position]) -> None:
        offsets = {self._place(name): (next_offset(one.value), "") for name, one in positions.items()}
        self._consumer.commit(offsets, timeout=max(0.0, self._until - monotonic()))
        for name, one in positions.items():
            held = self._held.get(name)
            if held is not None:
                held.committed = one.value

    def _take_part(self) -> None:
        """Poll for the sake of a rebalance; what comes along is kept."""
        with self._busy:
            self._be_there()
            self._poll(1, PAUSE)

    # With `_busy` in hand.

    def _be_there(self) -> None:
        """Be in the group, and at the places that were sought."""
        if self._left:
            raise Closed("the consumer has left its group")
        if not self._subscribed:
            self._subscribed = True
            self._consumer.subscribe([self._topic], assigned=self._assigned, revoked=self._revoked, lost=self._gone)
        self._go_to_places()

    def _poll(self, count: int, wait: float) -> None:
        self._polled = monotonic()
        self._changed = bool(self._seeks)
        self._fetched += self._consumer.poll(count, wait, self._make)
        if self._changed:
            # It may have been revoked in the same look.
            self._keep(lambda one: one.partition in self._held and one.partition not in self._seeks)

    def _go_to_places(self) -> None:
        for name in list(self._seeks):
            self._drop(name)
            try:
                self._consumer.seek(self._place(name), self._seeks[name])
            except PortableError:
                # A partition that was assigned this moment cannot be moved in yet.
                continue
            del self._seeks[name]

    def _keep(self, wanted: Callable[[Record[bytes]], bool]) -> None:
        self._fetched = [one for one in self._fetched if wanted(one)]

    def _drop(self, name: str) -> None:
        self._keep(lambda one: one.partition != name)

    # The client calls these within `poll`.

    def _assigned(self, places: list[Place]) -> None:
        self._joined = True
        for _, number in places:
            self._held.setdefault(str(number), _Held())

    def _revoked(self, places: list[Place]) -> None:
        due = self._due
        while mine := {name: one for name, one in due.copy().items() if self._place(name) in places}:
            # They are this member's until the callback ends.
            try:
                self._commit(mine)
            except Rebalancing:
                if monotonic() < self._until:
                    sleep(PAUSE)
                    continue
            except PortableError:
                # It is told as lost partitions are.
                pass
            else:
                for name in mine:
                    due.pop(name, None)
            break
        self._gone(places)

    def _gone(self, places: list[Place]) -> None:
        self._changed = True
        for _, number in places:
            name = str(number)
            held = self._held.pop(name, None)
            self._seeks.pop(name, None)
            if held is not None and held.given != held.committed:
                self._lost.add(name)
            self._drop(name)

    def _place(self, name: str) -> Place:
        return self._topic, int(name)
