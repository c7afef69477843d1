"""One cluster, as a driver sees it: the clients that it needs, made when it needs them, and the topics."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic, sleep
from typing import Any, TypeVar

from portable.bindings import Binding
from portable.changes import Change
from portable.errors import Closed, ResourceNotFound
from portable_kafka.engine import Admin, Batch, Engine, NewTopic, Place, Producer, engine
from portable_kafka.options import KafkaOptions, connection
from portable_kafka.reading import Reader
from portable_kafka.restricted import restricted
from portable_kafka.tokens import Tokens

__all__ = ["Cluster"]

T = TypeVar("T")

PAUSE = 0.02
"""Seconds between two looks whether a topic that was made is known."""

IDLE_READERS = 4
"""How many consumers that read by position are kept for the next read."""


class Cluster:
    """The clients of one resource.

    Args:
        binding: what the config says.
        tokens: what gives tokens, where another adapter knows how to get them.
    """

    def __init__(self, binding: Binding[Any], tokens: Tokens | None = None) -> None:
        self._options: KafkaOptions = binding.options
        self._usual = float(binding.contract.timeout)
        where = connection(binding, tokens)
        self.engine: Engine = restricted(engine(self._options.engine, where), where)
        self._lock = threading.Lock()
        self._admin: Admin | None = None
        self._producer: Producer | None = None
        self._readers: list[Reader] = []
        self._closed = False

    @property
    def admin(self) -> Admin:
        """The client for topics."""
        return self._made("_admin", self.engine.admin)

    @property
    def producer(self) -> Producer:
        """The producer."""
        producer = self._producer
        return producer if producer is not None else self._made("_producer", self.engine.producer)

    def close(self) -> None:
        """Drop the connections."""
        with self._lock:
            self._closed = True
            gone = [self._admin, self._producer, *self._readers]
            self._admin = self._producer = None
            self._readers = []
        for client in gone:
            if client is not None:
                client.close()

    def topic(
        self, name: str, partitions: int, *, kept: float | None, config: Mapping[str, str] | None = None
    ) -> NewTopic:
        """Describe a topic as it is made.

        Args:
            name: its name.
            partitions: how many it has.
            kept: seconds that messages stay; None for good.
            config: what else its config says.
        """
        most = int(self._options.max_message_bytes)
        settings = {
            "cleanup.policy": "delete",
            "retention.ms": "-1" if kept is None else str(int(kept * 1000)),
            # The times of a partition's messages only grow, whoever sends them.
            "message.timestamp.type": "LogAppendTime",
        }
        if most > 1_000_000:
            settings["max.message.bytes"] = str(most + 48_588)
        return NewTopic(name, partitions, self._options.replication, {**settings, **(config or {})})

    def missing(self, wanted: Sequence[tuple[str, NewTopic]]) -> list[Change]:
        """Say which of several topics would be made, and which differ in their number of partitions.

        Args:
            wanted: for each what it is to its resource, such as `"queue"`, and the topic.
        """
        found = self.admin.partitions([topic.name for _, topic in wanted], timeout=self._usual)
        changes = []
        for what, topic in wanted:
            there = found.get(topic.name)
            if there is None:
                changes.append(Change("create", what, topic.name, f"with {topic.partitions} partitions"))
            elif there != topic.partitions:
                detail = (
                    f"it has {there} partitions, {topic.partitions} are asked for; the number stands once it is made"
                )
                changes.append(Change("differs", what, topic.name, detail))
        return changes

    def make(self, wanted: Sequence[tuple[str, NewTopic]]) -> None:
        """Make those of several topics that are missing."""
        changes = self.missing(wanted)
        names = {change.name for change in changes if change.action == "create"}
        if not names:
            return
        deadline = monotonic() + self._usual
        self.admin.create([topic for _, topic in wanted if topic.name in names], timeout=self._usual)
        # A broker learns of them a moment later.
        while len(self.admin.partitions(sorted(names), timeout=self._usual)) < len(names) and monotonic() < deadline:
            sleep(PAUSE)

    def find(self, wanted: Sequence[tuple[str, NewTopic]]) -> dict[str, int]:
        """Give the number of partitions of several topics.

        Raises:
            ResourceNotFound: one is missing.
        """
        found = self.admin.partitions([topic.name for _, topic in wanted], timeout=self._usual)
        for what, topic in wanted:
            if not found.get(topic.name):
                raise ResourceNotFound(
                    f"the cluster has no topic {topic.name!r} for this {what}; make it with `portable resources create`"
                )
        return found

    def check(self, wanted: Sequence[tuple[str, NewTopic]], *, write: bool, timeout: float) -> None:
        """Raise what is wrong; with `write`, have the producer reach the brokers too."""
        found = self.admin.partitions([topic.name for _, topic in wanted], timeout=timeout)
        for what, topic in wanted:
            if topic.name not in found:
                raise ResourceNotFound(f"the cluster has no topic {topic.name!r} for this {what} any more")
        if write:
            self.producer.reach([topic.name for _, topic in wanted], timeout=timeout)

    def send(self, messages: Batch, *, timeout: float) -> list[Any]:
        """Send messages; give each one's offset or error."""
        return self.producer.send(messages, timeout=timeout)

    def edges(self, places: Sequence[Place], *, timeout: float) -> dict[Place, tuple[int, int]]:
        """Give the first offset that is kept and the one that will be next."""
        return self.admin.edges(places, timeout=timeout)

    def reading(self, work: Callable[[Reader], T]) -> T:
        """Do something with a reader that is nobody else's meanwhile."""
        with self._lock:
            if self._closed:
                raise Closed("the resource is closed")
            reader = self._readers.pop() if self._readers else None
        if reader is None:
            reader = Reader(self.engine.consumer(None))
        try:
            result = work(reader)
        except BaseException:
            reader.close()
            raise
        if not self._keeps(reader):
            reader.close()
        return result

    def _keeps(self, reader: Reader) -> bool:
        with self._lock:
            keeps = not self._closed and len(self._readers) < IDLE_READERS
            if keeps:
                self._readers.append(reader)
            return keeps

    def _made(self, name: str, make: Callable[[], T]) -> T:
        with self._lock:
            if self._closed:
                raise Closed("the resource is closed")
            client: T | None = getattr(self, name)
            if client is None:
                client = make()
                setattr(self, name, client)
            return client
