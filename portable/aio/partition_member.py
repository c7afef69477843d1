"""A member of a consumer group whose state is kept as one small document: by an embedded driver, or in a collection.

A member keeps to three rules. It gives records only of partitions that it holds, while its lease has long to run. It
gives up a partition only between two fetches, once all that was given of it is committed, or after a grace time. And
what it was given counts only after `took`, so that a fetch whose caller was cancelled loses nothing.

Where partitions end and others continue them, those begin once all that came before them is committed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from time import monotonic
from typing import Any, Protocol

from portable.aio._concurrency import Lock, sleep
from portable.bridges import stays_sync
from portable.errors import Closed, NotFound, ResourceNotFound
from portable.group_state import FINISHED, GroupState
from portable.records import START, Edge, Position, Record

__all__ = ["BranchingSource", "GroupLedger", "PartitionMember", "PartitionSource"]

LOOK_EVERY = 0.25
"""Seconds between two looks at a backend that gives no news, unless the source has a `look_every` of its own."""

LINEAGE_EVERY = 10.0
"""Seconds between two looks for partitions that continue others; a member also looks when it finishes one."""


class PartitionSource(Protocol):
    """What a member reads: a part of `StreamDriver`."""

    async def read(self, partition: str, after: Edge | Position, limit: int, *, timeout: float) -> list[Record[bytes]]:
        """Give records of a partition in order."""
        ...

    async def end(self, partition: str, *, timeout: float) -> Position:
        """Give the position after which the next record will be."""
        ...

    async def backlog(self, partition: str, after: str, *, timeout: float) -> int | None:
        """Count the records after a position's value."""
        ...

    async def partitions(self, *, timeout: float) -> list[str]:
        """Give the names of the partitions."""
        ...


class BranchingSource(PartitionSource, Protocol):
    """A source whose partitions end, and are continued by others."""

    async def lineage(self, *, timeout: float) -> dict[str, tuple[str, ...]]:
        """Give, by the name of each partition, the oldest first, those that it continues, gone ones included."""
        ...

    def ended(self, partition: str, position: str) -> bool:
        """Whether reading found that nothing will ever be after a position's value; marked `@bridges.stays_sync`."""
        ...


class GroupLedger(Protocol):
    """What keeps the state of a stream's groups."""

    async def read(self, group: str, *, timeout: float) -> GroupState:
        """Give a group's state; an empty one where there is none."""
        ...

    async def update(
        self, group: str, change: Callable[[GroupState], object], *, quiet: bool = False, timeout: float
    ) -> GroupState:
        """Change a group's state atomically between processes, and give the new one.

        `change` changes the state that it is given, may be called several times, and counts once. With `quiet` nobody
        needs to be woken for it.
        """
        ...


class _Held:
    """A partition that the member holds.

    Attributes:
        given: the position's value up to which the consumer has its records.
        committed: the one that the group has committed.
        surplus: since when another member should have it; None while it is rightly here.
    """

    __slots__ = ("committed", "given", "surplus")

    def __init__(self, position: str) -> None:
        self.given = self.committed = position
        self.surplus: float | None = None


class PartitionMember:
    """One consumer of a group.

    Attributes:
        heartbeat_every: seconds between calls of `heartbeat`.
        blocking: whether its calls may block a thread.
    """

    def __init__(
        self,
        source: PartitionSource,
        ledger: GroupLedger,
        *,
        group: str,
        member: str,
        lease: float,
        clock: Callable[[], float],
        blocking: bool = True,
    ) -> None:
        """Make a member that is in no group yet; `join` it.

        Args:
            source: where records are read.
            ledger: where the group's state is kept.
            group: the group's name.
            member: an id that nobody else has.
            lease: seconds after its last sign of life when others take its partitions; also how long it may keep a
                partition that another member should have, while it has not committed what it was given.
            clock: the wall clock, in seconds since the epoch, that all members share.
            blocking: whether source and ledger may block a thread.
        """
        self.heartbeat_every = lease / 3
        self.blocking = blocking
        self._source = source
        # What has no `lineage` keeps the partitions that it has.
        self._branching: Any = source if getattr(source, "lineage", None) is not None else None
        self._look_every = float(getattr(source, "look_every", LOOK_EVERY))
        self._lineage_at = 0.0
        self._ledger = ledger
        self._group = group
        self._member = member
        self._lease = lease
        self._clock = clock
        self._busy = Lock()
        self._held: dict[str, _Held] = {}
        # Partitions of which a fetch gave records that the consumer has not taken yet.
        self._outstanding: set[str] = set()
        self._lost: set[str] = set()
        self._until = 0.0
        self._due = 0.0
        self._turn = 0
        self._left = False

    async def join(self, start: Edge, *, timeout: float) -> None:
        """Make the group known, with the positions it starts from, if it is new; hold nothing yet."""
        if self._branching is not None:
            await self._join_branching(start, timeout)
            return
        names = await self._source.partitions(timeout=timeout)
        state = await self._ledger.read(self._group, timeout=timeout)
        missing = [name for name in names if name not in state.partitions]
        if missing:
            starts = dict.fromkeys(missing, "")
            if start is not START:
                for name in missing:
                    starts[name] = (await self._source.end(name, timeout=timeout)).value
            await self._ledger.update(self._group, lambda state: state.add(starts), timeout=timeout)

    async def fetch(self, max_records: int, *, timeout: float) -> list[Record[bytes]]:
        """Take its share of the partitions, give up what is over, and give what is there now."""
        deadline = monotonic() + timeout
        async with self._busy:
            self._outstanding = set()
            while True:
                await self._take_part(timeout)
                records = await self._read(max_records, deadline)
                # What ended a partition may be behind it already.
                if records or not self._done():
                    return records

    async def wait_fetch(self, max_records: int, *, timeout: float) -> list[Record[bytes]]:
        """As `fetch`, but look again and again for `timeout` seconds until there is a record."""
        deadline = monotonic() + timeout
        while True:
            records = await self.fetch(max_records, timeout=max(self._look_every, deadline - monotonic()))
            left = deadline - monotonic()
            if records or left <= 0:
                return records
            await sleep(min(self._look_every, left))

    @stays_sync
    def took(self, records: Sequence[Record[bytes]]) -> None:
        """Learn that the consumer has what a fetch gave."""
        for name, position in {one.partition: one.position for one in records}.items():
            held = self._held.get(name)
            if held is not None:
                held.given = position.value
        self._outstanding = set()

    @stays_sync
    def seek(self, position: Position) -> bool:
        """Fetch what follows a position next; False where the partition is not this member's."""
        held = self._held.get(position.partition)
        if held is None:
            return False
        held.given = position.value
        return True

    @stays_sync
    def holds(self, partition: str) -> bool:
        """Whether a partition is this member's for sure."""
        return partition in self._held and self._clock() < self._until

    @stays_sync
    def lost(self) -> set[str]:
        """Give, once, the partitions that went before it had committed what it was given of them."""
        lost, self._lost = self._lost, set()
        return lost

    @stays_sync
    def due(self) -> float:
        """Seconds until it has to look again though nothing arrives."""
        return max(0.01, min(self._due - self._clock(), self._lease))

    async def heartbeat(self, *, timeout: float) -> None:
        """Extend its lease, and learn what was taken from it."""
        async with self._busy:
            if not self._left:
                self._follow(await self._ledger.update(self._group, self._renew, quiet=True, timeout=timeout))

    async def commit(self, positions: Mapping[str, Position], *, timeout: float) -> set[str]:
        """Keep positions; gives the partitions that are not its own any more."""
        lost: set[str] = set()
        values = {name: position.value for name, position in positions.items()}

        def change(state: GroupState) -> None:
            lost.clear()
            lost.update(state.commit(self._member, values))
            state.release(self._member, done)

        async with self._busy:
            # A partition that is not read any more, and of which nothing else is out, is free with its last commit.
            done = [
                name
                for name, held in self._held.items()
                if held.surplus is not None and name not in self._outstanding and values.get(name) == held.given
            ]
            state = await self._ledger.update(self._group, change, quiet=not done, timeout=timeout)
            for name, value in values.items():
                if name in self._held and name not in lost:
                    self._held[name].committed = value
            self._follow(state)
            self._lost -= lost
        return lost

    async def lag(self, *, timeout: float) -> int | None:
        """Count the records of all partitions after what the group committed."""
        state = await self._ledger.read(self._group, timeout=timeout)
        total = 0
        for name, share in state.partitions.items():
            if share.finished:
                continue
            count = await self._source.backlog(name, share.position, timeout=timeout)
            if count is None:
                return None
            total += count
        return total

    async def close(self, *, timeout: float) -> None:
        """Leave the group."""
        async with self._busy:
            self._held = {}
            self._left = True
            await self._ledger.update(self._group, lambda state: state.leave(self._member), timeout=timeout)

    # What follows is called by whoever is `busy`.

    async def _take_part(self, timeout: float) -> None:
        if self._left:
            raise Closed("the consumer has left its group")
        state = await self._ledger.read(self._group, timeout=timeout)
        self._follow(state)
        done = self._done()
        lineage: dict[str, tuple[str, ...]] | None = None
        if self._branching is not None and (done or monotonic() >= self._lineage_at):
            lineage = await self._branching.lineage(timeout=timeout)
            self._lineage_at = monotonic() + LINEAGE_EVERY

        def change(state: GroupState) -> None:
            self._renew(state)
            state.release(self._member, self._leaving())
            if lineage is not None:
                state.finish(self._member, done)
                state.grow(lineage)
            state.claim(self._member)

        if done or self._must_change(state) or (lineage is not None and _outgrown(state, lineage)):
            self._follow(await self._ledger.update(self._group, change, timeout=timeout))

    def _must_change(self, state: GroupState) -> bool:
        now = self._clock()
        return (
            state.members.get(self._member, 0.0) - now < self._lease * 2 / 3
            or any(end <= now for end in state.members.values())
            or bool(self._leaving())
            or (bool(state.free()) and state.target(self._member) > len(self._held))
        )

    def _renew(self, state: GroupState) -> None:
        state.renew(self._member, self._clock(), self._lease)

    async def _join_branching(self, start: Edge, timeout: float) -> None:
        lineage = await self._branching.lineage(timeout=timeout)
        state = await self._ledger.read(self._group, timeout=timeout)
        starts: dict[str, str] = {}
        if not state.partitions and start is not START:
            # What was continued has ended: all of it was before now.
            ended = {parent for parents in lineage.values() for parent in parents}
            for name in lineage:
                starts[name] = FINISHED if name in ended else (await self._source.end(name, timeout=timeout)).value

        def begin(state: GroupState) -> None:
            if not state.partitions:
                state.add(starts)
            state.grow(lineage)

        if not state.partitions or _outgrown(state, lineage):
            await self._ledger.update(self._group, begin, timeout=timeout)

    def _done(self) -> list[str]:
        """Name the partitions that have ended, and of which everything is committed."""
        if self._branching is None:
            return []
        return [
            name
            for name, held in self._held.items()
            if held.given == held.committed and self._branching.ended(name, held.given)
        ]

    def _leaving(self) -> list[str]:
        """Name the partitions to give up now."""
        late = self._clock() - self._lease
        return [
            name
            for name, held in self._held.items()
            if held.surplus is not None and (held.given == held.committed or held.surplus <= late)
        ]

    def _follow(self, state: GroupState) -> None:
        """Make one's own what the group's state says."""
        mine = state.held(self._member)
        for name in [name for name in self._held if name not in mine]:
            held = self._held.pop(name)
            if held.given != held.committed or name in self._outstanding:
                self._lost.add(name)
        for name in mine:
            if name not in self._held:
                self._held[name] = _Held(state.partitions[name].position)
        self._until = state.members.get(self._member, 0.0)
        self._due = min([self._until - self._lease / 2, *(end for end in state.members.values())])
        now = self._clock()
        keep = state.target(self._member) if self._member in state.members else len(mine)
        for number, name in enumerate(mine):
            held = self._held[name]
            if number < keep:
                held.surplus = None
            else:
                held.surplus = now if held.surplus is None else held.surplus
                self._due = min(self._due, held.surplus + self._lease)

    async def _read(self, max_records: int, deadline: float) -> list[Record[bytes]]:
        names = [name for name, held in self._held.items() if held.surplus is None]
        if not names:
            return []
        # Each fetch starts at another partition, so that a busy one does not keep the others waiting.
        self._turn = (self._turn + 1) % len(names)
        records: list[Record[bytes]] = []
        for name in _from(names, self._turn):
            given = self._held[name].given
            after = Position(name, given) if given else START
            left = max(0.0, deadline - monotonic())
            try:
                found = await self._source.read(name, after, max_records - len(records), timeout=left)
            except NotFound as error:
                if self._branching is None or isinstance(error, ResourceNotFound):
                    raise
                # Its last record was kept for long enough; the next fetch sees what there is instead.
                self._lineage_at = 0.0
                continue
            if found:
                self._outstanding.add(name)
                records += found
                if len(records) >= max_records:
                    break
        return records


def _outgrown(state: GroupState, lineage: Mapping[str, Sequence[str]]) -> bool:
    return bool(state.ready(lineage)) or any(name not in lineage for name in state.partitions)


def _from(names: list[str], start: int) -> Iterable[str]:
    return names[start:] + names[:start]
