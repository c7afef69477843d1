# Generated from portable/aio/stream.py by tools/generate_sync.py; change that file, not this one.
"""A stream: records in partitions, in order, that stay until their retention ends."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from time import monotonic
from typing import Any, ClassVar, Generic, TypeVar

from portable._concurrency import Host, long_operation, obtaining, operation
from portable.appending import append_in_batches
from portable.batches import BatchResult
from portable.bindings import Binding
from portable.capabilities import StreamCapabilities
from portable.composing import BodyCodec, at_least_one
from portable.drivers import StreamDriver
from portable.errors import IntegrityError, InvalidArgument, PortableError
from portable.hooks import Hook
from portable.record_composing import RecordComposer
from portable.records import END, START, Edge, Position, Record
from portable.resource import Resource
from portable.stream_consumer import StreamConsumer

__all__ = ["Stream"]

T = TypeVar("T")
R = TypeVar("R")

LIMIT = 1000
"""How many records `read` gives at most where it is not told."""

SESSION_TIMEOUT = 10.0
"""Seconds after its last sign of life when a member's partitions go to others, for groups kept in a collection."""


class Stream(Resource[StreamDriver], Generic[T]):
    """Records in partitions, in order, that stay until their retention ends, whoever has read them.

    A key maps to one partition, so that its records stay in order. A position is a place in one partition: opaque,
    comparable there, and the same after a restart. Consumers of a group share the partitions between them, in any
    number of processes, and go on where the group committed.
    """

    kind: ClassVar[str] = "stream"
    needs_cloud: ClassVar[bool] = True

    def __init__(
        self,
        binding: Binding[Any],
        make: Callable[[], StreamDriver],
        *,
        host: Host,
        hooks: tuple[Hook, ...] = (),
        strict: bool = False,
        limits: tuple[str, ...] = (),
        type: Any = None,
    ) -> None:
        """Bind the portable type to a driver; `Cloud` calls this.

        Args:
            binding: what the config says.
            make: makes the driver, without any I/O.
            host: the threads that serve the driver.
            hooks: what stands around every operation.
            strict: whether capabilities that the contract does not declare are refused.
            limits: the clouds whose limits this stream keeps to.
            type: what data is encoded from and decoded to, as JSON; bytes when left out.
        """
        super().__init__(binding, make, host=host, hooks=hooks, strict=strict, limits=limits)
        self._codec = BodyCodec(type)
        guard = None
        if limits:
            from portable.limits import guard as guard_of  # noqa: PLC0415 (its table is read only where it is asked for)

            guard = guard_of(limits, self.kind)
            if guard is not None:
                guard.retention(float(binding.contract.retention))  # type: ignore[attr-defined]  # a StreamContract
        self._composer = RecordComposer(self._codec, guard=guard, max_bytes=self.capabilities.max_record_bytes)
        self._consumers: set[StreamConsumer[Any]] = set()

    @property
    def capabilities(self) -> StreamCapabilities:
        """What the driver can do: whether it keeps groups itself, and its limits."""
        return self._driver.capabilities

    @operation
    def append(
        self,
        data: Any,
        *,
        key: str | None = None,
        attributes: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Position:
        """Append one record; when this returns, the backend has it.

        Args:
            data: bytes, a str (sent as UTF-8), or a value of the stream's `type`.
            key: records of one key go to one partition, in order; without one they are spread.
            attributes: names to values, any UTF-8; names that start with `portable-` are reserved.
            timeout: seconds.

        Returns:
            Where it is.

        Raises:
            InvalidArgument: an argument that no backend takes; `LimitExceeded` where it is too large.
        """
        record = self._composer.compose(data, key, attributes)
        (answer,) = self._driver.append([record], timeout=self._limit(timeout))
        if isinstance(answer, PortableError):
            raise answer
        return answer

    @operation
    def append_many(
        self, records: Iterable[Any], *, return_errors: bool = False, timeout: float | None = None
    ) -> BatchResult[Position]:
        """Append any number of records, in as many calls as the backend needs, in order within each key.

        Args:
            records: data as `append` takes it; an `Outgoing`, whose `ordering_key` is the key; or a `Record`, to copy
                what was read elsewhere.
            return_errors: give failures in the result instead of raising.
            timeout: seconds, for all of it.

        Returns:
            In input order, each record's position, or the error that kept it from being appended. After a failure
            the rest of that key is not appended.

        Raises:
            BatchError: a record failed, and `return_errors` is false; its `result` says which.
        """
        deadline = monotonic() + self._limit(timeout)

        def append(chunk: list[Any]) -> list[Position | PortableError]:
            return self._driver.append(chunk, timeout=max(0.0, deadline - monotonic()))

        return append_in_batches(
            records, self._composer, append, max_batch=self.capabilities.max_batch, return_errors=return_errors
        )

    @operation
    def partitions(self, *, timeout: float | None = None) -> list[str]:
        """Give the names of the partitions, in their order.

        Args:
            timeout: seconds.
        """
        return self._driver.partitions(timeout=self._limit(timeout))

    @operation
    def read(
        self,
        partition: str,
        *,
        after: Edge | Position | datetime = START,
        limit: int = LIMIT,
        timeout: float | None = None,
    ) -> list[Record[T]]:
        """Read one partition from a place on, outside of any group.

        Args:
            partition: one of `partitions()`.
            after: `START` (the oldest record that is kept), `END` (nothing that is there now), a position (what follows
                it), or an aware datetime (records taken then or later).
            limit: how many records at most, from 1.
            timeout: seconds.

        Returns:
            Records in order; fewer than `limit` does not mean the end, an empty list does, for now.

        Raises:
            NotFound: there is no such partition.
            InvalidArgument: the position is of another partition or stream, or the datetime has no time zone.
            IntegrityError: the first record does not fit the stream's `type`; the message says how to go past it.
        """
        _check_place(partition, after)
        limit = at_least_one(limit, "limit")
        records = self._driver.read(partition, after, limit, timeout=self._limit(timeout))
        return records if self._codec.plain else self._decoded(records)  # type: ignore[return-value]  # T is bytes where the codec is plain

    @obtaining
    @operation
    def consumer(
        self,
        group: str,
        *,
        start: Edge = START,
        checkpoint: Any = None,
        timeout: float | None = None,
    ) -> StreamConsumer[T]:
        """Become a member of a consumer group, which shares the partitions with the group's other members.

        Args:
            group: the group's name; each group reads all records for itself.
            start: where a group starts that has never been: `START`, or `END` (what is appended from now on).
            checkpoint: the collection resource (its name, or itself) that keeps the group's positions where the
                backend does not, or keeps them in another service; the contract's `checkpoint` when left out.
            timeout: seconds.

        Returns:
            The consumer; close it, or use it as a context manager, so that its partitions are free at once.

        Raises:
            InvalidArgument: the group has no name, or `start` is none of the two.
            Unsupported: the backend keeps no groups, and no `checkpoint` is named.
            ConfigError: `checkpoint` names no collection.
        """
        _check_group(group)
        if start not in {START, END}:
            raise InvalidArgument(f"start={start!r} is neither START nor END; `seek` goes to a position")
        checkpoint = checkpoint or self._binding.contract.checkpoint  # type: ignore[attr-defined]  # a StreamContract
        if not checkpoint:
            self._require("groups", "consumer(…) without a `checkpoint` collection")
        limit = self._limit(timeout)
        # A driver that keeps groups beside the stream, and not in it, leaves the place to the application.
        elsewhere = bool(checkpoint) and getattr(self._driver, "groups_beside", False)
        if self.capabilities.groups and not elsewhere:
            member = self._host.face(self._driver.join(group, start, timeout=limit))
        else:
            member = self._join_by_checkpoint(checkpoint, group, start, limit)
        consumer: StreamConsumer[T] = StreamConsumer(self, member, group)
        self._consumers.add(consumer)
        return consumer

    def close(self) -> None:
        """Close it and its consumers; closing twice is no error. Operations raise `Closed` from then on."""
        for consumer in list(self._consumers):
            consumer.close()
        super().close()

    def _join_by_checkpoint(self, checkpoint: Any, group: str, start: Edge, timeout: float) -> Any:
        from portable.group_positions import CollectionLedger  # noqa: PLC0415 (only where the backend keeps no groups)
        from portable.partition_member import PartitionMember  # noqa: PLC0415 (the same)

        if isinstance(checkpoint, str):
            checkpoint = self._cloud.collection(checkpoint)
        member = PartitionMember(
            self._driver,
            CollectionLedger(checkpoint, self._binding.name),
            group=group,
            member=uuid.uuid4().hex,
            lease=float(getattr(self._binding.options, "session_timeout", SESSION_TIMEOUT)),
            clock=self._binding.clock,
        )
        member.join(start, timeout=timeout)
        return member

    def _forked(self) -> Any:
        """Start anew in a forked child, where the parent's consumers are nobody's."""
        for consumer in self._consumers:
            consumer._abandon()  # noqa: SLF001 (a consumer is a part of its stream)
        self._consumers = set()
        return super()._forked()

    def _limit(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout

    def _decoded(self, records: list[Record[bytes]]) -> list[Record[T]]:
        """Decode records up to the first that does not fit the type; raise where that is the very first."""
        if self._codec.plain:
            return records  # type: ignore[return-value]  # T is bytes here
        decode = self._codec.decode
        decoded: list[Record[T]] = []
        for one in records:
            try:
                data = decode(one.data)
            except ValueError as error:
                if decoded:
                    break
                raise IntegrityError(
                    f"the record at {one.position} does not fit the stream's type: {error}; "
                    f"read or seek after Position.parse({str(one.position)!r}) to go past it"
                ) from error
            decoded.append(Record(data, one.key, one.attributes, one.partition, one.position, one.timestamp))
        return decoded

    # What a consumer does is an operation of its stream.

    @long_operation
    def _poll(self, work: Callable[[], R]) -> R:
        return work()

    @operation
    def _commit(self, work: Callable[[], R], *, timeout: float | None = None) -> R:  # noqa: ARG002 (the decorator keeps it)
        return work()

    @operation
    def _seek(self, work: Callable[[], R], *, timeout: float | None = None) -> R:  # noqa: ARG002 (the same)
        return work()

    @operation
    def _lag(self, work: Callable[[], R], *, timeout: float | None = None) -> R:  # noqa: ARG002 (the same)
        return work()


def _check_place(partition: object, after: object) -> None:
    if not isinstance(partition, str):
        raise InvalidArgument(f"partition={partition!r} is not one of partitions(), which are strings")
    if isinstance(after, Position):
        if after.partition != partition:
            raise InvalidArgument(f"the position {after} is in the partition {after.partition!r}, not in {partition!r}")
    elif isinstance(after, datetime):
        if after.tzinfo is None:
            raise InvalidArgument(f"after={after!r} has no time zone; give an aware datetime, such as one in UTC")
    elif not isinstance(after, Edge):
        raise InvalidArgument(f"after={after!r} is none of START, END, a Position and an aware datetime")


def _check_group(group: object) -> None:
    if not isinstance(group, str) or not group:
        raise InvalidArgument(f"group={group!r} is not a string of at least one character")
    try:
        group.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"the group's name is not valid UTF-8: {error}") from error
