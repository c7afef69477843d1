"""Reading on confluent-kafka: by offset, or as a member of a group."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import confluent_kafka as kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from portable.errors import LeaseLost, PortableError
from portable_kafka.confluent_faults import (
    Configure,
    Faults,
    answered,
    check,
    translated,
    translating,
    with_offsets,
)
from portable_kafka.engine import Made, Place, Rebalancing
from portable_kafka.errors import OUT_OF_RANGE, REBALANCING, UNKNOWN_TOPIC
from portable_kafka.options import Connection

__all__ = ["ConfluentConsumer"]

T = TypeVar("T")


class ConfluentConsumer:
    """Satisfies `portable_kafka.engine.Consumer`."""

    def __init__(self, configure: Configure, where: Connection, group: str | None) -> None:
        self._faults = Faults()
        config = configure(self._faults) | {
            # librdkafka wants a group even where none is used.
            "group.id": group or "portable",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest" if group else "error",
            "fetch.error.backoff.ms": 50,
            "fetch.message.max.bytes": max(1_048_576, where.max_message_bytes + 48_588),
            # What is fetched ahead is held in memory, for each of the consumers of a process.
            "queued.max.messages.kbytes": 16_384,
            # Whoever reads by position wants to know soon that there is no more.
            "fetch.wait.max.ms": 500 if group else 50,
        }
        if group:
            config |= {
                "partition.assignment.strategy": "cooperative-sticky",
                "session.timeout.ms": int(where.session_timeout * 1000),
                "heartbeat.interval.ms": max(100, int(where.session_timeout * 1000 / 10)),
                "max.poll.interval.ms": int(where.max_poll_interval * 1000),
            }
        with translating():
            self._consumer = kafka.Consumer(config)
        self._ends: dict[Place, int] = {}
        self._astray: set[Place] = set()
        self._identity: Any = None
        self._failed: PortableError | None = None

    def assign(self, places: Mapping[Place, int]) -> None:
        """Read exactly these partitions."""
        self._ends, self._astray = {}, set()
        with translating():
            self._consumer.assign([TopicPartition(*place, offset) for place, offset in places.items()])

    def subscribe(
        self,
        topics: Sequence[str],
        *,
        assigned: Callable[[list[Place]], None],
        revoked: Callable[[list[Place]], None],
        lost: Callable[[list[Place]], None],
    ) -> None:
        """Share partitions with the group."""

        def told(callback: Callable[[list[Place]], None]) -> Callable[[Any, list[TopicPartition]], None]:
            def tell(consumer: Any, found: list[TopicPartition]) -> None:
                # Asked for by another thread than the one that polls, librdkafka may not answer. Each rebalance
                # comes by here, be it with no partitions.
                try:
                    self._identity = consumer.consumer_group_metadata()
                    callback([(one.topic, one.partition) for one in found])
                except (PortableError, KafkaException) as error:
                    # Not through librdkafka, which takes it badly where it closes.
                    self._failed = error if isinstance(error, PortableError) else translated(error)

            return tell

        self._faults.forget()
        with translating():
            self._consumer.subscribe(
                list(topics), on_assign=told(assigned), on_revoke=told(revoked), on_lost=told(lost)
            )

    def poll(self, count: int, timeout: float, make: Made[T]) -> list[T]:
        """Give messages; wait for the first only."""
        consumer = self._consumer
        made: list[T] = []
        with translating():
            first = consumer.poll(timeout)
            if first is not None:
                self._take((first,), make, made)
                if count > 1:
                    self._take(consumer.consume(count - 1, 0), make, made)
        self._faults.check()
        failed, self._failed = self._failed, None
        if failed is not None:
            raise failed
        return made

    def ends(self) -> dict[Place, int]:
        """Give, once, the partitions that were read to their end."""
        ends, self._ends = self._ends, {}
        return ends

    def astray(self) -> set[Place]:
        """Give, once, the partitions whose offset is out of range."""
        astray, self._astray = self._astray, set()
        return astray

    def seek(self, place: Place, offset: int) -> None:
        """Go on at an offset."""
        with translating():
            self._consumer.seek(TopicPartition(*place, offset))

    def pause(self, places: Sequence[Place]) -> None:
        """Fetch nothing of partitions for now."""
        with translating():
            self._consumer.pause([TopicPartition(*place) for place in places])

    def resume(self, places: Sequence[Place]) -> None:
        """Fetch from partitions again."""
        with translating():
            self._consumer.resume([TopicPartition(*place) for place in places])

    def commit(self, offsets: Mapping[Place, tuple[int, str]], *, timeout: float) -> None:  # noqa: ARG002 (the client bounds it)
        """Keep offsets for the group."""
        try:
            check(self._consumer.commit(offsets=with_offsets(offsets), asynchronous=False) or ())
        except KafkaException as error:
            if error.args[0].code() in REBALANCING:
                raise Rebalancing(f"the group comes together anew: {error}") from error
            raise translated(error) from error

    def committed(self, places: Sequence[Place], *, timeout: float) -> dict[Place, tuple[int, str]]:
        """Give what the group has kept."""

        def question() -> list[TopicPartition]:
            found = self._consumer.committed([TopicPartition(*place) for place in places], timeout)
            check(found)
            return found

        found = answered(question, timeout)
        return {(one.topic, one.partition): (one.offset, one.metadata or "") for one in found if one.offset >= 0}

    def edge(self, place: Place, *, timeout: float) -> tuple[int, int]:
        """Give first and next offset."""
        return answered(lambda: self._consumer.get_watermark_offsets(TopicPartition(*place), timeout), timeout)

    def moments(self, places: Mapping[Place, int], *, timeout: float) -> dict[Place, int | None]:
        """Give the first offset at or after a moment."""
        asked = [TopicPartition(*place, moment) for place, moment in places.items()]
        found = answered(lambda: self._consumer.offsets_for_times(asked, timeout), timeout)
        return {(one.topic, one.partition): one.offset if one.offset >= 0 else None for one in found}

    def identity(self) -> Any:
        """What a transaction needs to know of this member."""
        if self._identity is None:
            raise LeaseLost("this consumer is no member of its group yet")
        return self._identity

    def close(self) -> None:
        """Leave the group and drop the connections."""
        with contextlib.suppress(KafkaException, RuntimeError):
            self._consumer.close()

    def _take(self, messages: Sequence[Any], make: Made[T], made: list[T]) -> None:
        before = len(made)
        made += [
            make(
                one.topic(),
                one.partition(),
                one.offset(),
                one.timestamp()[1],
                one.key(),
                one.value(),
                one.headers(),
            )
            for one in messages
            if one.error() is None
        ]
        if len(made) - before == len(messages):
            return
        for one in messages:
            error = one.error()
            if error is None:
                continue
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 (its public name)
                self._ends[one.topic(), one.partition()] = one.offset()
            elif error.code() in OUT_OF_RANGE:
                self._astray.add((one.topic(), one.partition()))
            elif not (error.retriable() or error.code() in UNKNOWN_TOPIC or error.code() < 0):
                # What librdkafka reports of its own troubles it also sees to.
                raise KafkaException(error)
