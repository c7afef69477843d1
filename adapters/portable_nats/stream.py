"""Streams on JetStream: one stream, a subject for each partition; `docs/wire-formats/nats.md` names them."""

from __future__ import annotations

import itertools
import random
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from portable.aio.partition_member import PartitionMember
from portable.bindings import Binding
from portable.capabilities import StreamCapabilities
from portable.changes import Change
from portable.contracts import StreamContract
from portable.errors import PortableError, PreconditionFailed, ResourceNotFound
from portable.news import Channel, News
from portable.partitioning import partition_of
from portable.records import START, Edge, NewRecord, Position, Record
from portable_nats.entries import Entries
from portable_nats.errors import ApiError, refused
from portable_nats.escaping import quoted, read_attributes, unquoted, written_attributes
from portable_nats.groups import NatsGroups
from portable_nats.jetstream import JetStream, Message, Stored, nanoseconds
from portable_nats.member import NatsMember
from portable_nats.options import NatsStreamOptions, checked_name
from portable_nats.positions import partition_named, position, sequence_of
from portable_nats.queue import LARGEST_BATCH, OVERHEAD

__all__ = ["NatsStream"]

KEY = "Portable-Key"
"""The header with a record's key, as a JSON string."""

PARTITIONS = "portable-partitions"
"""What the metadata of a stream call the number of its partitions."""

READ_AT_ONCE = 1000
SHORTEST_RETENTION = 0.1
"""Seconds: JetStream takes no less."""


class NatsStream:
    """Satisfies `portable.aio.drivers.StreamDriver`."""

    Options = NatsStreamOptions
    is_async = True
    # The server itself is waited on.
    arrivals = None

    def __init__(self, binding: Binding[NatsStreamOptions]) -> None:
        contract = binding.contract
        assert isinstance(contract, StreamContract)  # noqa: S101 (the config gives a stream its own contract)
        self.binding = binding
        self._contract = contract
        self._usual = float(contract.timeout)
        name = checked_name(binding.name)
        self._js = JetStream(binding)
        self._stream = f"portable-stream-{name}"
        self._subject = f"portable.stream.{name}"
        self._entries = Entries(self._js, self._stream, binding.options)
        self._news = Channel(News(), "")
        self._told = f"portable.news.{self._stream}"
        # Keyless records go around; each process starts somewhere else.
        self._turns = itertools.count(random.randrange(1 << 16))  # noqa: S311 (spreads load, hides nothing)
        self._count = 0
        self.capabilities = StreamCapabilities(
            durability="replicated" if binding.options.replicas > 1 else "process",
            groups=True,
            max_batch=LARGEST_BATCH,
            max_record_bytes=binding.options.max_payload - OVERHEAD,
        )

    @property
    def native(self) -> Any:
        """The client of nats-py."""
        return self._js.client

    async def open(self) -> None:
        """Connect, and find the stream, or make it where the binding says so."""
        await self._js.open()
        found = await self._made(self._usual)
        if found is None and self.binding.create:
            await self._make()
            found = await self._made(self._usual)
        self._count = _partitions(self._found(found))

    async def close(self) -> None:
        """Let go of the connection."""
        await self._js.close()

    async def check(self, *, write: bool, timeout: float) -> None:
        """Look the stream up; with `write`, write something that is gone in a second."""
        self._found(await self._made(timeout))
        if write:
            await self._entries.write([await self._entries.written("check", b"1", 1, timeout=timeout)], timeout=timeout)

    async def plan(self) -> list[Change]:
        """Say whether the stream is missing, or is otherwise than the contract."""
        await self._js.open()
        name, asked = self.binding.name, self._contract.partitions
        found = await self._made(self._usual)
        if found is None:
            return [Change("create", "stream", name, f"with {asked} partitions")]
        changes: list[Change] = []
        if (there := _partitions(found)) != asked:
            detail = f"it has {there} partitions, the contract asks for {asked}; the number stands once it is made"
            changes.append(Change("differs", "stream", name, detail))
        if found["config"]["max_age"] != self._max_age:
            changes.append(Change("change", "stream", name, f"retention of {self._contract.retention}"))
        return changes

    async def create(self) -> None:
        """Make the stream where it is missing, and give it the retention of the contract."""
        await self._js.open()
        await self._make()
        config = self._found(await self._made(self._usual))["config"]
        if config["max_age"] != self._max_age:
            config["max_age"] = self._max_age
            try:
                await self._js.call(f"STREAM.UPDATE.{self._stream}", config, timeout=self._usual)
            except ApiError as error:
                raise refused(error) from error

    async def partitions(self, *, timeout: float) -> list[str]:  # noqa: ARG002 (known since it was opened)
        """Give the names of the partitions."""
        return [str(number) for number in range(self._count)]

    async def append(self, records: Sequence[NewRecord], *, timeout: float) -> list[Position | PortableError]:
        """Append records; those that share keys all together, or none of them."""
        answers: list[Position | PortableError] = []
        batch: list[tuple[int, str, Message]] = []
        spoiled: set[str] = set()
        for index, record in enumerate(records):
            name, message = self._composed(record)
            error = self._js.refuse_larger(message)
            if error is None and record.key in spoiled:
                error = PreconditionFailed("a record of the same key before it was not appended", retryable=True)
            if error is None:
                answers.append(position(name, 0))
                batch.append((index, name, message))
            else:
                answers.append(error)
                spoiled |= {record.key} if record.key is not None else set()
        if batch:
            composed = [message for _, _, message in batch]
            keys = [records[index].key for index, _, _ in batch if records[index].key is not None]
            if len(keys) == len(set(keys)):
                stored = await self._js.publish_each(self._stream, composed, timeout=timeout)
            else:
                # What follows a record of its key must not be there without it.
                stored = await self._stored_together(composed, timeout)
            for (index, name, _), answer in zip(batch, stored, strict=True):
                answers[index] = answer if isinstance(answer, PortableError) else position(name, answer)
        return answers

    async def _stored_together(self, messages: Sequence[Message], timeout: float) -> list[int | PortableError]:
        try:
            last = await self._js.publish(self._stream, messages, timeout=timeout)
        except ApiError as error:
            raise refused(error) from error
        return list(range(last - len(messages) + 1, last + 1))

    async def read(
        self, partition: str, after: Edge | Position | datetime, limit: int, *, timeout: float
    ) -> list[Record[bytes]]:
        """Give records of a partition."""
        name = partition_named(partition, self._count)
        start: dict[str, Any]
        if isinstance(after, Position):
            start = {"seq": sequence_of(after.value) + 1}
        elif isinstance(after, datetime):
            start = {"start_time": after.astimezone(UTC).isoformat()}
        elif after is START:
            start = {"seq": 1}
        else:
            return []
        found = await self._read(name, min(limit, READ_AT_ONCE), timeout, start)
        return [_record(name, stored) for stored in found]

    async def end(self, partition: str, *, timeout: float) -> Position:
        """Give the position after which the next record will be."""
        name = partition_named(partition, self._count)
        return position(name, await self.latest(timeout=timeout))

    async def backlog(self, partition: str, after: str, *, timeout: float) -> int | None:
        """Count the records after a position."""
        name = partition_named(partition, self._count)
        start = sequence_of(after) + 1
        found = await self._read(name, 1, timeout, {"seq": start})
        return found[0].behind + 1 if found else 0

    async def join(self, group: str, start: Edge, *, timeout: float) -> NatsMember:
        """Become a member of a group."""
        await self._js.connection.listen(self._told, self._news.notify, timeout=timeout)
        await self._js.fresh(self._stream, timeout=timeout)
        member = PartitionMember(
            self,
            NatsGroups(self._js, self._entries, self._told),
            group=group,
            member=uuid.uuid4().hex,
            lease=float(self.binding.options.session_timeout),
            clock=self._js.now,
            blocking=False,
        )
        await member.join(start, timeout=timeout)
        return NatsMember(self, member, self._news, usual=self._usual)

    async def latest(self, *, timeout: float) -> int:
        """Give the sequence of the last record of all."""
        last: int = self._found(await self._made(timeout))["state"]["last_seq"]
        return last

    async def wait_for(self, partitions: Sequence[str], after: int, wait: float) -> None:
        """Wait until one of some partitions has a record after a sequence."""
        name = f"wait-{uuid.uuid4().hex}"
        config: Mapping[str, Any] = {
            "name": name,
            "filter_subjects": [f"{self._subject}.{partition}" for partition in partitions],
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": after + 1,
            "ack_policy": "none",
            "headers_only": True,
            "mem_storage": True,
            "num_replicas": 1,
            # Should nobody remove it.
            "inactive_threshold": nanoseconds(wait + self._usual),
        }
        try:
            await self._js.add_consumer(self._stream, name, config, timeout=self._usual)
        except ApiError as error:
            raise refused(error) from error
        try:
            await self._js.pull(self._stream, name, 1, wait=wait, timeout=self._usual)
        finally:
            self._js.connection.in_background(self._js.forget_consumer(self._stream, name, timeout=self._usual))

    async def _read(self, partition: str, count: int, timeout: float, start: Mapping[str, Any]) -> list[Stored]:
        replicas = self.binding.options.replicas
        subject = f"{self._subject}.{partition}"
        return await self._js.read(self._stream, subject, count, timeout=timeout, replicas=replicas, **start)

    @property
    def _max_age(self) -> int:
        return nanoseconds(max(SHORTEST_RETENTION, float(self._contract.retention)))

    def _composed(self, record: NewRecord) -> tuple[str, Message]:
        """Give the partition of a record, and its message."""
        count = self._count
        number = next(self._turns) % count if record.key is None else partition_of(record.key, count)
        headers = written_attributes(record.attributes)
        if record.key is not None:
            headers = {**(headers or {}), KEY: quoted(record.key)}
        return str(number), Message(f"{self._subject}.{number}", record.data, headers)

    async def _make(self) -> None:
        config: Mapping[str, Any] = {
            "name": self._stream,
            "subjects": [f"{self._subject}.*"],
            "retention": "limits",
            "max_age": self._max_age,
            "storage": "file",
            "num_replicas": self.binding.options.replicas,
            "allow_direct": True,
            "allow_atomic": True,
            "metadata": {PARTITIONS: str(self._contract.partitions)},
        }
        await self._entries.make(timeout=self._usual)
        await self._js.make_stream(config, timeout=self._usual)

    async def _made(self, timeout: float) -> Any:
        return await self._js.stream(self._stream, timeout=timeout)

    def _found(self, stream: Any) -> Any:
        if stream is None:
            raise ResourceNotFound(
                f"the server has no stream {self.binding.name!r}; make it with `portable resources create`"
            )
        return stream


def _partitions(stream: Any) -> int:
    return int(stream["config"].get("metadata", {}).get(PARTITIONS, "1"))


def _record(partition: str, stored: Stored) -> Record[bytes]:
    key = stored.headers.get(KEY)
    return Record(
        stored.data,
        None if key is None else unquoted(key),
        read_attributes(stored.headers),
        partition,
        position(partition, stored.sequence),
        datetime.fromtimestamp(stored.time, UTC),
    )
