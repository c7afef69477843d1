"""Sending on kafka-python, alone and in transactions."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from portable.errors import LimitExceeded, PortableError
from portable_kafka.engine import Batch, Outbound, Place
from portable_kafka.kafka_python_faults import OVERHEAD, built, errors, kafka, translated, translating, with_offsets
from portable_kafka.options import Connection

__all__ = ["PythonProducer", "PythonTransactions"]

LINGER_MS = 0
TRANSACTION_TIMEOUT_MS = 15_000
"""A process that dies within a transaction holds up readers for so long."""


def _producing(where: Connection) -> dict[str, Any]:
    return {
        "acks": "all",
        "metrics_enabled": False,
        "enable_idempotence": True,
        "linger_ms": LINGER_MS,
        "compression_type": None if where.compression == "none" else where.compression,
        "max_request_size": where.max_message_bytes + OVERHEAD,
        "delivery_timeout_ms": max(31_000, int(where.timeout * 1000)),
        "max_block_ms": max(1000, int(where.timeout * 1000)),
        "allow_auto_create_topics": False,
    }


def _sent(producer: Any, message: Outbound) -> Any:
    topic, partition, key, value, headers = message
    return producer.send(topic, value, key, [(name, one or b"") for name, one in headers or ()], partition)


class PythonProducer:
    """Satisfies `portable_kafka.engine.Producer`."""

    def __init__(self, config: dict[str, Any], where: Connection) -> None:
        self._producer = built(lambda: kafka.KafkaProducer(**config, **_producing(where)))

    @property
    def native(self) -> Any:
        """The library's own."""
        return self._producer

    def send(self, messages: Batch, *, timeout: float) -> list[int | PortableError]:
        """Send messages and wait until the brokers have them."""
        deadline = monotonic() + timeout
        answers: list[Any] = []
        for message in messages:
            try:
                answers.append(_sent(self._producer, message))
            except errors.MessageSizeTooLargeError as error:
                answers.append(LimitExceeded(f"it is larger than the client takes: {error}; see max_message_bytes="))
            except (errors.KafkaError, OSError) as error:
                answers.append(translated(error))
        for index, future in enumerate(answers):
            if isinstance(future, PortableError):
                continue
            try:
                answers[index] = future.get(max(0.0, deadline - monotonic())).offset
            except (errors.KafkaError, OSError) as error:
                answers[index] = translated(error)
        return answers

    def reach(self, topics: Sequence[str], *, timeout: float) -> None:  # noqa: ARG002 (the client bounds it)
        """Learn where the partitions of topics are."""
        with translating():
            for topic in topics:
                self._producer.partitions_for(topic)

    def close(self) -> None:
        """Drop the connections."""
        with contextlib.suppress(errors.KafkaError, OSError):
            self._producer.close(timeout=2.0)


class PythonTransactions:
    """Satisfies `portable_kafka.engine.Transactions`."""

    def __init__(self, config: dict[str, Any], where: Connection, name: str) -> None:
        self._config = (
            config | _producing(where) | {"transactional_id": name, "transaction_timeout_ms": TRANSACTION_TIMEOUT_MS}
        )
        self._producer: Any = None

    def write(
        self,
        messages: Sequence[Outbound],
        offsets: Mapping[Place, tuple[int, str]],
        member: Any,
        *,
        timeout: float,
    ) -> None:
        """Write messages and commit offsets in one step."""
        deadline = monotonic() + timeout
        try:
            if self._producer is None:
                producer = kafka.KafkaProducer(**self._config)
                producer.init_transactions()
                self._producer = producer
            producer = self._producer
            producer.begin_transaction()
            sent = [_sent(producer, message) for message in messages]
            if offsets:
                producer.send_offsets_to_transaction(with_offsets(offsets), member.identity())
            for future in sent:
                future.get(max(0.05, deadline - monotonic()))
            producer.commit_transaction()
        except (errors.KafkaError, OSError) as error:
            self._give_up()
            raise translated(error) from error

    def close(self) -> None:
        """Drop the connections; a transaction that is open is undone by the cluster."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(errors.KafkaError, OSError):
                producer.close(timeout=2.0)

    def _give_up(self) -> None:
        """Undo the transaction; a producer that cannot is replaced, and its transaction undone by the next one."""
        if self._producer is None:
            return
        try:
            self._producer.abort_transaction()
        except (errors.KafkaError, OSError):
            self.close()
