"""Looking after topics on kafka-python."""

from __future__ import annotations

import contextlib
import functools
import importlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from portable.errors import DeadlineExceeded, PortableError
from portable_kafka.engine import NewTopic, Place
from portable_kafka.errors import PASSING, TOPIC_EXISTS, UNKNOWN_TOPIC, meaning
from portable_kafka.kafka_python_faults import TopicPartition, answered, built, errors, kafka

__all__ = ["PythonAdmin"]

T = TypeVar("T")

# The type checkers know those of another release.
OffsetSpec: Any = importlib.import_module("kafka.admin").OffsetSpec
Topic: Any = importlib.import_module("kafka.admin").NewTopic


class PythonAdmin:
    """Satisfies `portable_kafka.engine.Admin`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._lock = threading.Lock()
        self._admin = built(lambda: kafka.KafkaAdminClient(**config))

    def partitions(self, names: Sequence[str], *, timeout: float) -> dict[str, int]:
        """Give how many partitions topics have."""
        found = self._ask(functools.partial(self._admin.describe_topics, list(names)), timeout)
        counts = {}
        for topic in found:
            code = topic["error_code"]
            if not code:
                counts[topic["name"]] = len(topic["partitions"])
            elif code not in UNKNOWN_TOPIC | PASSING:
                raise meaning(code, topic["name"])
        return counts

    def create(self, topics: Sequence[NewTopic], *, timeout: float) -> None:
        """Make topics."""
        wanted = [Topic(one.name, one.partitions, one.replication or -1, topic_configs=one.config) for one in topics]
        made = self._ask(
            lambda: self._admin.create_topics(wanted, timeout_ms=int(timeout * 1000), raise_errors=False), timeout
        )
        for topic in made["topics"]:
            if topic["error_code"] not in {0, TOPIC_EXISTS}:
                raise meaning(topic["error_code"], topic.get("error_message") or topic["name"])

    def edges(self, places: Sequence[Place], *, timeout: float) -> dict[Place, tuple[int, int]]:
        """Give first and next offset."""
        first = self._edges(places, OffsetSpec.EARLIEST, timeout)
        after = self._edges(places, OffsetSpec.LATEST, timeout)
        return {place: (first[place], after[place]) for place in places}

    def trim(self, places: Mapping[Place, int], *, timeout: float) -> None:
        """Remove what is before offsets."""
        asked = {TopicPartition(*place): offset for place, offset in places.items()}
        self._ask(lambda: self._admin.delete_records(asked, timeout_ms=int(timeout * 1000)), timeout)

    def close(self) -> None:
        """Drop the connections."""
        with contextlib.suppress(errors.KafkaError, OSError):
            self._admin.close()

    def _edges(self, places: Sequence[Place], spec: Any, timeout: float) -> dict[Place, int]:
        asked = {TopicPartition(*place): spec for place in places}
        found = self._ask(lambda: self._admin.list_partition_offsets(asked, timeout_ms=int(timeout * 1000)), timeout)
        return {(one.topic, one.partition): at.offset for one, at in found.items()}

    def _ask(self, question: Callable[[], T], timeout: float) -> T:
        def locked() -> T:
            with self._lock:
                return question()

        try:
            return answered(locked, timeout)
        except TimeoutError as error:
            if isinstance(error, PortableError):
                raise
            raise DeadlineExceeded("the cluster did not answer in time", maybe_applied=True) from error
