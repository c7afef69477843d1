"""Sending on confluent-kafka: what many threads send at once, and transactions."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

import confluent_kafka as kafka
from confluent_kafka import KafkaError, KafkaException

from portable.errors import DeadlineExceeded, PortableError
from portable_kafka.confluent_faults import LOOK_EVERY, Configure, Faults, left, translated, translating, with_offsets
from portable_kafka.engine import Batch, Outbound, Place
from portable_kafka.errors import meaning
from portable_kafka.options import Connection
from portable_kafka.sending import Delivering

__all__ = ["ConfluentProducer", "ConfluentTransactions"]

LINGER_MS = 5
"""How long a batch waits for more; `flush` does not wait."""

TRANSACTION_TIMEOUT_MS = 15_000
"""A process that dies within a transaction holds up readers for so long."""


class ConfluentProducer:
    """Satisfies `portable_kafka.engine.Producer`."""

    def __init__(self, configure: Configure, where: Connection) -> None:
        self._faults = Faults()
        config = configure(self._faults) | {
            "enable.idempotence": True,
            "linger.ms": LINGER_MS,
            "compression.type": where.compression,
            # Room for what a batch and a message have around them.
            "message.max.bytes": where.max_message_bytes + 48_588,
            "message.timeout.ms": max(1000, int(where.timeout * 1000)),
            "queue.buffering.max.messages": 1_000_000,
        }
        with translating():
            self._producer = kafka.Producer(config)
        self._delivering = Delivering(self._flush)

    @property
    def native(self) -> kafka.Producer:
        """The library's own."""
        return self._producer

    def send(self, messages: Batch, *, timeout: float) -> list[int | PortableError]:
        """Send messages and wait until the brokers have them."""
        deadline = monotonic() + timeout
        parcel = self._delivering.parcel(len(messages))
        self._faults.forget()
        delivered, produce = parcel.delivered, self._producer.produce
        for index, (topic, partition, key, value, headers) in enumerate(messages):
            report = functools.partial(delivered, index)
            while True:
                try:
                    if headers is None:
                        produce(topic, value, key, partition, report)
                    else:
                        produce(topic, value, key, partition, report, headers=headers)  # type: ignore[arg-type]  # a list is not covariant
                    break
                except BufferError:
                    self._producer.poll(min(0.1, max(0.0, deadline - monotonic())))
                    if monotonic() >= deadline:
                        parcel.fail(index, DeadlineExceeded("this client has too much under way already"))
                        break
                except KafkaException as error:
                    parcel.fail(index, translated(error))
                    break
        self._delivering.wait(parcel, deadline)
        if parcel.done and not parcel.failed:
            return parcel.answers
        return [one if isinstance(one, (int, PortableError)) else _undelivered(one) for one in parcel.answers]

    def reach(self, topics: Sequence[str], *, timeout: float) -> None:
        """Learn where the partitions of topics are."""
        with translating():
            for topic in topics:
                error = self._producer.list_topics(topic, timeout).topics[topic].error
                if error is not None:
                    raise KafkaException(error)

    def close(self) -> None:
        """Drop the connections."""
        with contextlib.suppress(KafkaException):
            self._producer.purge()
            self._producer.flush(0.0)

    def _flush(self, seconds: float) -> None:
        self._producer.flush(min(seconds, LOOK_EVERY))
        self._faults.check()


def _undelivered(fault: KafkaError | None) -> PortableError:
    if fault is None:
        return DeadlineExceeded("the cluster did not answer in time", maybe_applied=True)
    ours = meaning(fault.code(), fault.str())
    ours.__cause__ = KafkaException(fault)
    return ours


class ConfluentTransactions:
    """Satisfies `portable_kafka.engine.Transactions`."""

    def __init__(self, configure: Configure, where: Connection, name: str) -> None:
        self._faults = Faults()
        self._config = configure(self._faults) | {
            "transactional.id": name,
            "transaction.timeout.ms": TRANSACTION_TIMEOUT_MS,
            "linger.ms": 0,
            "compression.type": where.compression,
            "message.max.bytes": where.max_message_bytes + 48_588,
        }
        self._producer: kafka.Producer | None = None

    def write(
        self, messages: Sequence[Outbound], offsets: Mapping[Place, tuple[int, str]], member: Any, *, timeout: float
    ) -> None:
        """Write messages and commit offsets in one step."""
        deadline = monotonic() + timeout
        producer = self._ready(timeout)
        failures: list[KafkaError] = []

        def report(error: KafkaError | None, _: Any) -> None:
            if error is not None:
                failures.append(error)

        try:
            producer.begin_transaction()
            for topic, partition, key, value, headers in messages:
                producer.produce(topic, value, key, partition, report, headers=[*(headers or ())])
            if offsets:
                producer.send_offsets_to_transaction(with_offsets(offsets), member.identity(), left(deadline))
            producer.flush(left(deadline))
            producer.commit_transaction(left(deadline))
        except KafkaException as error:
            # What the broker said of a message says more than that the transaction failed; what is heard of the others
            # as the transaction is undone says nothing.
            told = KafkaException(failures[0]) if failures else error
            self._give_up(error, deadline)
            raise translated(told) from error

    def close(self) -> None:
        """Drop the connections; a transaction that is open is undone by the cluster."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaException):
                producer.purge()
                producer.flush(0.0)

    def _ready(self, timeout: float) -> kafka.Producer:
        if self._producer is None:
            with translating():
                producer = kafka.Producer(self._config)
                self._faults.forget()
                deadline = monotonic() + timeout
                while True:
                    try:
                        producer.init_transactions(min(left(deadline), LOOK_EVERY))
                        break
                    except KafkaException as error:
                        producer.poll(0)
                        self._faults.check()
                        if not error.args[0].retriable() or monotonic() >= deadline:
                            raise
            self._producer = producer
        return self._producer

    def _give_up(self, error: KafkaException, deadline: float) -> None:
        """Undo the transaction; a producer that cannot is replaced, and its transaction undone by the next one."""
        fault = error.args[0]
        producer = self._producer
        if producer is None:
            return
        try:
            if fault.fatal():
                raise error
            producer.abort_transaction(max(1.0, left(deadline)))
        except KafkaException:
            self.close()
