"""Streams on Kafka: a stream is a topic, its groups are Kafka's own; see `docs/wire-formats/kafka.md`."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from portable.bindings import Binding
from portable.capabilities import StreamCapabilities
from portable.changes import Change
from portable.contracts import StreamContract
from portable.errors import LeaseLost, PortableError
from portable.records import START, Edge, NewRecord, Position, Record
from portable_kafka.cluster import Cluster
from portable_kafka.engine import Headers, Made, NewTopic, Outbound, Place, Rebalancing
from portable_kafka.envelopes import Spread
from portable_kafka.headers import attributes_of, headers_of
from portable_kafka.member import KafkaMember
from portable_kafka.offsets import next_offset, partition_number, position
from portable_kafka.options import KafkaOptions
from portable_kafka.sending import Streamed
from portable_kafka.tokens import Tokens

__all__ = ["KafkaStream"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class KafkaStream:
    """Satisfies `portable.drivers.StreamDriver`."""

    Options = KafkaOptions
    # The brokers themselves are waited on.
    arrivals = None

    def __init__(self, binding: Binding[KafkaOptions], tokens: Tokens | None = None) -> None:
        contract = binding.contract
        assert isinstance(contract, StreamContract)  # noqa: S101 (the config gives a stream its own contract)
        self._binding = binding
        self._usual = float(contract.timeout)
        self._name = binding.name
        self._cluster = Cluster(binding, tokens)
        asked = binding.options.partitions or contract.partitions
        self._topic: list[tuple[str, NewTopic]] = [
            ("stream", self._cluster.topic(binding.name, asked, kept=float(contract.retention)))
        ]
        self._spread = Spread(1)
        self._count = 0
        self._names: list[str] = []
        self._make = _recorder(())
        self._numbered = _numbered(self._make)
        self.capabilities = StreamCapabilities(
            durability="replicated",
            groups=True,
            max_batch=10_000,
            max_record_bytes=int(binding.options.max_message_bytes),
        )

    @property
    def native(self) -> Any:
        """The producer of the client library."""
        return self._cluster.producer.native

    def open(self) -> None:
        """Find the topic, or make it where the binding says so."""
        if self._binding.create:
            self.create()
        self._count = self._cluster.find(self._topic)[self._name]
        self._names = [str(number) for number in range(self._count)]
        self._spread = Spread(self._count)
        self._make = _recorder(self._names)
        self._numbered = _numbered(self._make)

    def close(self) -> None:
        """Let go of the connections."""
        self._cluster.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Look the topic up; with `write`, have the producer reach the brokers too."""
        self._cluster.check(self._topic, write=write, timeout=timeout)

    def plan(self) -> list[Change]:
        """Say whether the topic is missing, or has another number of partitions than the contract."""
        return self._cluster.missing(self._topic)

    def create(self) -> None:
        """Make the topic where it is missing."""
        self._cluster.make(self._topic)

    def partitions(self, *, timeout: float) -> list[str]:  # noqa: ARG002 (known since it was opened)
        """Give the names of the partitions."""
        return list(self._names)

    def append(self, records: Sequence[NewRecord], *, timeout: float) -> list[Position | PortableError]:
        """Append records; when this returns, the brokers have them."""
        numbers: list[int] = []
        answers = self._cluster.send(Streamed(self._outbound(records, numbers), len(records)), timeout=timeout)
        names = self._names
        return [
            Position(names[number], str(answer + 1).zfill(20)) if answer.__class__ is int else answer
            for number, answer in zip(numbers, answers, strict=True)
        ]

    def _outbound(self, records: Sequence[NewRecord], numbers: list[int]) -> Iterator[Outbound]:
        """Give records as they are sent, while those before are on their way; note each one's partition."""
        topic, place = self._name, self._spread.place
        for record in records:
            number, key = place(record.key)
            numbers.append(number)
            yield topic, number, key, record.data, headers_of(record.attributes) if record.attributes else None

    def read(
        self, partition: str, after: Edge | Position | datetime, limit: int, *, timeout: float
    ) -> list[Record[bytes]]:
        """Give records of a partition."""
        deadline = monotonic() + timeout
        place = (self._name, partition_number(partition, self._count))
        if isinstance(after, Position):
            start = next_offset(after.value)
        elif isinstance(after, datetime):
            moment = max(0, -((_EPOCH - after) // _MILLISECOND))
            found = self._cluster.reading(lambda reader: reader.consumer.moments({place: moment}, timeout=timeout))
            if found[place] is None:
                return []
            start = found[place] or 0
        elif after is START:
            start = 0
        else:
            return []
        return self._cluster.reading(
            lambda reader: reader.read(place, start, limit, self._numbered, timeout=max(0.0, deadline - monotonic()))
        )

    def end(self, partition: str, *, timeout: float) -> Position:
        """Give the position after which the next record will be."""
        place = (self._name, partition_number(partition, self._count))
        return position(partition, self._edge(place, timeout)[1])

    def backlog(self, partition: str, after: str, *, timeout: float) -> int:
        """Count the offsets after a position; those that a transaction used are among them."""
        first, following = self._edge((self._name, partition_number(partition, self._count)), timeout)
        return max(0, following - max(first, next_offset(after)))

    def join(self, group: str, start: Edge, *, timeout: float) -> KafkaMember:
        """Become a member of a group, which Kafka knows as `STREAM.GROUP`."""
        places = self._places()
        consumer = self._cluster.engine.consumer(f"{self._name}.{group}")
        try:
            known = consumer.committed(places, timeout=timeout)
            new = [place for place in places if place not in known]
            if new:
                edges = self._cluster.admin.edges(new, timeout=timeout)
                side = 0 if start is START else 1
                # A group that has members has begun.
                with contextlib.suppress(LeaseLost, Rebalancing):
                    consumer.commit({place: (edges[place][side], "") for place in new}, timeout=timeout)
        except BaseException:
            consumer.close()
            raise
        return KafkaMember(
            self._cluster,
            consumer,
            self._name,
            self._count,
            make=self._make,
            grace=float(self._binding.options.max_poll_interval),
        )

    def _places(self) -> list[Place]:
        return [(self._name, number) for number in range(self._count)]

    def _edge(self, place: Place, timeout: float) -> tuple[int, int]:
        return self._cluster.reading(lambda reader: reader.consumer.edge(place, timeout=timeout))


@functools.lru_cache(maxsize=64)
def _moment(milliseconds: int) -> datetime:
    """Give a time; those of one batch are the same."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _recorder(names: Sequence[str]) -> Made[Record[bytes]]:
    """Give what makes a record of what Kafka has.

    Args:
        names: of the partitions.
    """

    def make(  # noqa: PLR0917 (called for each message)
        _: str,
        partition: int,
        offset: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
    ) -> Record[bytes]:
        # A topic can have got more partitions since it was opened.
        name = names[partition] if partition < len(names) else str(partition)
        return Record(
            value or b"",
            None if key is None else key.decode("utf-8", "replace"),
            attributes_of(headers) if headers else {},
            name,
            Position(name, str(offset + 1).zfill(20)),
            _moment(timestamp),
        )

    return make


def _numbered(make: Made[Record[bytes]]) -> Made[tuple[int, Record[bytes]]]:
    """Give what makes an offset and a record."""

    def made(  # noqa: PLR0917 (the same)
        topic: str,
        partition: int,
        offset: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Headers | None,
    ) -> tuple[int, Record[bytes]]:
        return offset, make(topic, partition, offset, timestamp, key, value, headers)

    return made
