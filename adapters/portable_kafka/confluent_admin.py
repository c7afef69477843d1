"""Looking after topics on confluent-kafka."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from time import monotonic
from typing import Any

import confluent_kafka as kafka
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic as Topic

from portable.errors import DeadlineExceeded
from portable_kafka.confluent_faults import LOOK_EVERY, Configure, Faults, answered, translated, translating
from portable_kafka.engine import NewTopic, Place
from portable_kafka.errors import TOPIC_EXISTS, UNKNOWN_TOPIC

__all__ = ["ConfluentAdmin"]

# Its types are not those of what it takes.
_specs: Any = importlib.import_module("confluent_kafka.admin")


class ConfluentAdmin:
    """Satisfies `portable_kafka.engine.Admin`."""

    def __init__(self, configure: Configure) -> None:
        self._faults = Faults()
        config = configure(self._faults)
        del config["allow.auto.create.topics"]
        with translating():
            self._admin = AdminClient(config)

    def partitions(self, names: Sequence[str], *, timeout: float) -> dict[str, int]:
        """Give how many partitions topics have."""
        asked = self._admin.describe_topics(kafka.TopicCollection(list(names)), request_timeout=timeout)
        found = {}
        for name, future in asked.items():
            try:
                found[name] = len(self._answer(future, timeout).partitions)
            except KafkaException as error:
                if error.args[0].code() not in UNKNOWN_TOPIC:
                    raise translated(error) from error
        return found

    def create(self, topics: Sequence[NewTopic], *, timeout: float) -> None:
        """Make topics."""
        wanted = [Topic(one.name, one.partitions, one.replication or -1, config=one.config) for one in topics]
        for future in self._admin.create_topics(wanted, operation_timeout=timeout, request_timeout=timeout).values():
            try:
                self._answer(future, timeout)
            except KafkaException as error:
                if error.args[0].code() != TOPIC_EXISTS:
                    raise translated(error) from error

    def edges(self, places: Sequence[Place], *, timeout: float) -> dict[Place, tuple[int, int]]:
        """Give first and next offset."""
        first = self._edges(places, _specs.OffsetSpec.earliest(), timeout)
        after = self._edges(places, _specs.OffsetSpec.latest(), timeout)
        return {place: (first[place], after[place]) for place in places}

    def trim(self, places: Mapping[Place, int], *, timeout: float) -> None:
        """Remove what is before offsets."""
        asked = [TopicPartition(*place, offset) for place, offset in places.items()]
        with translating():
            for future in self._admin.delete_records(asked, request_timeout=timeout).values():
                self._answer(future, timeout)

    def close(self) -> None:
        """Drop the connections."""
        del self._admin

    def _edges(self, places: Sequence[Place], spec: Any, timeout: float) -> dict[Place, int]:
        asked = {TopicPartition(*place): spec for place in places}

        def question() -> dict[Place, int]:
            found = self._admin.list_offsets(asked, request_timeout=timeout)
            return {(one.topic, one.partition): self._answer(future, timeout).offset for one, future in found.items()}

        return answered(question, timeout)

    def _answer(self, future: Any, timeout: float) -> Any:
        """Wait for an answer, and no longer than there can be one."""
        self._faults.forget()
        deadline = monotonic() + timeout + LOOK_EVERY
        while True:
            try:
                return future.result(0.002)
            except FutureTimeout:
                # What is heard of refused connections comes here.
                self._admin.poll(0.05)
                self._faults.check()
                if monotonic() > deadline:
                    raise DeadlineExceeded("the cluster did not answer in time", maybe_applied=True) from None
