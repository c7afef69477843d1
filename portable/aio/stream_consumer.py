"""A member of a consumer group, in the hands of the application."""

from __future__ import annotations

import contextlib
from collections import deque
from itertools import islice
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Generic, Self, TypeVar

from portable.aio._concurrency import Lock, kept, wait_for_arrival
from portable.composing import at_least_one, seconds
from portable.errors import Closed, InvalidArgument, LeaseLost, PortableError, PreconditionFailed
from portable.records import Position, Record

if TYPE_CHECKING:
    from portable.aio.drivers import StreamMember
    from portable.aio.stream import Stream

__all__ = ["StreamConsumer"]

T = TypeVar("T")

PREFETCH = 500
"""How many records iterating fetches at once."""

ITERATION_WAIT = 3600.0
"""Seconds that iterating waits in one go."""

MAX_POLL_INTERVAL = 300.0
"""Seconds without `poll` or iterating after which a consumer counts as stuck, and its partitions go to others."""


class StreamConsumer(Generic[T]):
    """One member of a consumer group; `Stream.consumer` makes it.

    Iterate over it, or `poll`, and `commit` once the records are dealt with: whoever reads the partition next goes on
    there. The partitions are shared evenly between the members of the group, and dealt out again when one joins,
    closes or dies. A partition is with one live member at a time; what it had not committed when it lost a partition
    is given again.

    It is safe with threads, which then share its records. It belongs to the process that made it.

    Attributes:
        group: the group's name.
    """

    def __init__(self, stream: Stream[T], member: StreamMember, group: str) -> None:
        """Hold a member that has joined; `Stream.consumer` calls this.

        Args:
            stream: what it reads.
            member: the driver's half.
            group: the group's name.
        """
        self.group = group
        self._stream = stream
        self._member = member
        self._fetching = Lock()
        self._fetched: deque[Record[bytes]] = deque()
        # By partition: the last record that the application was given and has not committed.
        self._given: dict[str, Position] = {}
        self._lost: set[str] = set()
        self._keeper = contextlib.AsyncExitStack()
        self._kept = False
        self._polled = 0.0
        self._closed = ""

    async def poll(self, timeout: float = 1.0, max_records: int = 500) -> list[Record[T]]:
        """Give the next records of this consumer's partitions, in order within each.

        Args:
            timeout: how many seconds to wait for the first one; 0 only looks.
            max_records: how many at most.

        Returns:
            Records; an empty list when none came in time.

        Raises:
            Closed: the consumer is closed.
            IntegrityError: the next record does not fit the stream's `type`; `seek` to its position to go past it.
        """
        max_records = at_least_one(max_records, "max_records")
        timeout = seconds(timeout, "timeout")
        return await self._stream._poll(lambda: self._next(timeout, max_records, max_records))  # noqa: SLF001 (a consumer is a part of its stream)

    def __aiter__(self) -> Self:
        """Iterate over the records as they come, waiting for more, until the consumer is closed."""
        return self

    async def __anext__(self) -> Record[T]:
        while True:
            if self._closed and self._closed != _FORKED:
                raise StopAsyncIteration
            try:
                records = await self._stream._poll(lambda: self._next(ITERATION_WAIT, 1, PREFETCH))  # noqa: SLF001 (a consumer is a part of its stream)
            except Closed:
                if not self._closed or self._closed == _FORKED:
                    raise
                raise StopAsyncIteration from None
            if records:
                return records[0]

    async def commit(self, *, timeout: float | None = None) -> None:
        """Keep, for the group, that all records this consumer gave so far are dealt with.

        Args:
            timeout: seconds.

        Raises:
            LeaseLost: another member has some of the partitions, because this one gave no sign of life, or kept one too
                long after a member joined; the rest is committed, and those records are given to the other member.
            Closed: the consumer is closed.
        """
        self._must_be_open()
        await self._stream._commit(lambda: self._commit(timeout), timeout=timeout)  # noqa: SLF001 (a consumer is a part of its stream)

    async def seek(self, position: Position, *, timeout: float | None = None) -> None:
        """Go to a place: the next records of its partition are those after it.

        Args:
            position: of a record of one of this consumer's partitions, given or not, further on or back.
            timeout: seconds.

        Raises:
            PreconditionFailed: the partition is with another member.
            InvalidArgument: it is no position, or none of this stream.
            NotFound: there is no such partition.
            Closed: the consumer is closed.
        """
        if not isinstance(position, Position):
            raise InvalidArgument(f"{position!r} is not a Position; take a record's, or Position.parse(text)")
        self._must_be_open()
        await self._stream._seek(lambda: self._seek(position, timeout), timeout=timeout)  # noqa: SLF001 (a consumer is a part of its stream)

    async def lag(self, *, timeout: float | None = None) -> int | None:
        """Count the records, in all partitions, that the group has not committed yet; approximate.

        Args:
            timeout: seconds.

        Returns:
            How many, or None where the backend cannot say.
        """
        self._must_be_open()
        limit = self._stream._limit(timeout)  # noqa: SLF001 (a consumer is a part of its stream)
        return await self._stream._lag(lambda: self._member.lag(timeout=limit), timeout=timeout)  # noqa: SLF001 (the same)

    async def close(self) -> None:
        """Leave the group, so that others have its partitions at once; what is not committed is given again.

        Closing twice is no error.
        """
        if self._closed:
            return
        self._closed = "the consumer is closed; get another one from the stream"
        self._stream._consumers.discard(self)  # noqa: SLF001 (a consumer is a part of its stream)
        await self._keeper.aclose()
        # A member that cannot say goodbye is gone once its lease has ended.
        with contextlib.suppress(PortableError):
            await self._member.close(timeout=self._stream._limit(None))  # noqa: SLF001 (the same)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        """Show the group and the stream."""
        return f"<StreamConsumer of group {self.group!r} on {self._stream.name!r}>"

    def _abandon(self) -> None:
        """Be of no use in a forked child: the member is the parent's."""
        self._closed = _FORKED

    def _must_be_open(self) -> None:
        if self._closed:
            raise Closed(self._closed)

    async def _next(self, wait: float, max_records: int, prefetch: int) -> list[Record[T]]:
        deadline = monotonic() + wait
        arrivals = self._stream._driver.arrivals  # noqa: SLF001 (a consumer is a part of its stream)
        while True:
            self._must_be_open()
            self._polled = monotonic()
            version = arrivals.version() if arrivals is not None else 0
            left = max(0.0, deadline - self._polled)
            async with self._fetching:
                if not self._fetched:
                    await self._fetch(prefetch, left if arrivals is None else None)
                records = await self._give(max_records)
            if records or left <= 0:
                return records
            if arrivals is not None:
                await wait_for_arrival(arrivals, version, min(left, self._member.due()))

    async def _fetch(self, max_records: int, wait: float | None) -> None:
        if not self._kept:
            await self._keep()
        if wait is None:
            limit = self._stream._limit(None)  # noqa: SLF001 (a consumer is a part of its stream)
            records = await self._member.fetch(max_records, timeout=limit)
        else:
            records = await self._member.wait_fetch(max_records, timeout=wait)
        # Not before they are here: a cancelled fetch goes on in its thread, for nobody.
        self._member.took(records)
        self._fetched.extend(records)
        # What was fetched ahead and never given is nobody's loss.
        self._lost |= {name for name in self._member.lost() if self._given.pop(name, None) is not None}

    async def _give(self, max_records: int) -> list[Record[T]]:
        """Take records that were fetched; those of partitions that went to others since are dropped."""
        sure: set[str] = set()
        while unsure := {one.partition for one in islice(self._fetched, max_records)} - sure:
            for name in unsure:
                if not self._member.holds(name):
                    await self._member.heartbeat(timeout=self._stream._limit(None))  # noqa: SLF001 (a consumer is a part of its stream)
                if not self._member.holds(name):
                    self._fetched = deque(one for one in self._fetched if one.partition != name)
            sure |= unsure
        chosen = [self._fetched.popleft() for _ in range(min(max_records, len(self._fetched)))]
        try:
            given = self._stream._decoded(chosen)  # noqa: SLF001 (a consumer is a part of its stream)
        except PortableError:
            self._fetched.extendleft(reversed(chosen))
            raise
        self._fetched.extendleft(reversed(chosen[len(given) :]))
        for one in given:
            self._given[one.partition] = one.position
        return given

    async def _commit(self, timeout: float | None) -> None:
        limit = self._stream._limit(timeout)  # noqa: SLF001 (a consumer is a part of its stream)
        positions = dict(self._given)
        lost = await self._member.commit(positions, timeout=limit) if positions else set()
        for name, position in positions.items():
            if self._given.get(name) == position:
                del self._given[name]
        lost |= self._lost
        self._lost = set()
        if lost:
            raise LeaseLost(
                f"the partitions {', '.join(sorted(lost))} went to another member before this one had committed; "
                "what it was given of them is given again there"
            )

    async def _seek(self, position: Position, timeout: float | None) -> None:
        limit = self._stream._limit(timeout)  # noqa: SLF001 (a consumer is a part of its stream)
        async with self._fetching:
            if not self._kept:
                await self._keep()
            name = position.partition
            # A position that is none, or of another stream, is refused here rather than by every poll after it.
            await self._stream._driver.read(name, position, 1, timeout=limit)  # noqa: SLF001 (a consumer is a part of its stream)
            if not self._member.holds(name):
                # A fetch takes this member's share of the partitions; what it gives is not taken.
                await self._member.fetch(1, timeout=limit)
            if not self._member.seek(position):
                raise PreconditionFailed(f"the partition {name!r} is not with this consumer; seek where it is read")
            self._fetched = deque(one for one in self._fetched if one.partition != name)
            self._given[name] = position

    async def _keep(self) -> None:
        self._kept = True
        self._polled = monotonic()
        every = self._member.heartbeat_every
        if every > 0:
            await self._keeper.enter_async_context(kept(every, self._heartbeat))
        if self._closed:
            await self._keeper.aclose()
            self._must_be_open()

    async def _heartbeat(self) -> None:
        if monotonic() - self._polled > MAX_POLL_INTERVAL:
            return
        try:
            await self._member.heartbeat(timeout=self._stream._limit(None))  # noqa: SLF001 (a consumer is a part of its stream)
        except PortableError as error:
            # A backend that does not answer now may answer the next time; until then the lease tells.
            if not error.retryable:
                raise


_FORKED = "the consumer belongs to the process that this one was forked from; get one of your own from the stream"
