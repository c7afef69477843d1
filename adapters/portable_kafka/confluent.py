"""The engine on confluent-kafka (librdkafka): the default, for it is many times as fast."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from time import monotonic, sleep
from typing import Any, TypeVar

import confluent_kafka as kafka
from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic as Topic

from portable.errors import DeadlineExceeded, LeaseLost, PortableError
from portable_kafka.engine import Made, NewTopic, Outbound, Place
from portable_kafka.errors import (
    AUTHENTICATION,
    OUT_OF_RANGE,
    PASSING,
    REBALANCING,
    TLS,
    TOPIC_EXISTS,
    UNKNOWN_TOPIC,
    meaning,
)
from portable_kafka.options import Connection
from portable_kafka.sending import Delivering
from portable_kafka.tokens import Tokens

__all__ = ["ConfluentEngine"]

T = TypeVar("T")

# Its types are not those of what it takes.
_specs: Any = importlib.import_module("confluent_kafka.admin")

LOOK_EVERY = 1.0
"""Seconds between two looks whether the cluster refuses this client for good."""

PAUSE = 0.02
"""Seconds before what cannot be done for a moment is tried again."""

LINGER_MS = 5
"""How long a batch waits for more; `flush` does not wait."""

TRANSACTION_TIMEOUT_MS = 15_000
"""A process that dies within a transaction holds up readers for so long."""

# What librdkafka has to say besides errors is of use to those who look for it.
_log = logging.getLogger("portable.kafka")
_log.addHandler(logging.NullHandler())
_log.propagate = False


def _translated(error: BaseException) -> PortableError:
    fault = error.args[0] if error.args and isinstance(error.args[0], KafkaError) else None
    ours = meaning(fault.code(), fault.str()) if fault is not None else PortableError(f"the client failed: {error}")
    ours.__cause__ = error
    return ours


@contextlib.contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise _translated(error) from error


def _asked(question: Callable[[], T], timeout: float) -> T:
    """Ask the cluster something, again and again while it is about to be able to answer."""
    deadline = monotonic() + timeout
    while True:
        try:
            return question()
        except KafkaException as error:
            if error.args[0].code() not in PASSING or monotonic() > deadline:
                raise _translated(error) from error
            sleep(PAUSE)


class _Faults:
    """What a client says of its connections: refusals that no waiting helps against."""

    def __init__(self) -> None:
        self._refused: PortableError | None = None

    def hear(self, error: KafkaError) -> None:
        """Take note of an error; the client's `error_cb`."""
        if error.code() in AUTHENTICATION | TLS:
            self._refused = meaning(error.code(), error.str())
            self._refused.__cause__ = KafkaException(error)

    def forget(self) -> None:
        """Begin anew."""
        self._refused = None

    def check(self) -> None:
        """Raise what makes waiting useless."""
        refused, self._refused = self._refused, None
        if refused is not None:
            raise refused


class ConfluentEngine:
    """Satisfies `portable_kafka.engine.Engine`."""

    def __init__(self, where: Connection) -> None:
        self._where = where

    def producer(self) -> ConfluentProducer:
        """Make a producer."""
        return ConfluentProducer(self._config, self._where)

    def transactions(self, name: str) -> ConfluentTransactions:
        """Make a producer with transactions."""
        return ConfluentTransactions(self._config, self._where, name)

    def consumer(self, group: str | None) -> ConfluentConsumer:
        """Make a consumer."""
        return ConfluentConsumer(self._config, self._where, group)

    def admin(self) -> ConfluentAdmin:
        """Make a client for topics."""
        return ConfluentAdmin(self._config)

    def _config(self, faults: _Faults) -> dict[str, Any]:
        where = self._where
        protocol = ("SASL_" if where.mechanism else "") + ("SSL" if where.tls else "PLAINTEXT")
        config: dict[str, Any] = {
            "bootstrap.servers": ",".join(where.servers),
            "security.protocol": protocol,
            "client.id": "portable",
            "error_cb": faults.hear,
            "logger": _log,
            # A broker that is back is found soon.
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            "retry.backoff.ms": 50,
            "allow.auto.create.topics": False,
        }
        if where.mechanism:
            config["sasl.mechanism"] = where.mechanism
        if where.tokens is not None:
            config["oauth_cb"] = functools.partial(_token, where.tokens)
        elif where.mechanism:
            config |= {"sasl.username": where.username, "sasl.password": where.password}
        files = {
            "ssl.ca.location": where.ca,
            "ssl.certificate.location": where.certificate,
            "ssl.key.location": where.private_key,
        }
        return config | {name: str(path) for name, path in files.items() if path is not None}


def _token(tokens: Tokens, _: str) -> tuple[str, float, str, dict[str, str]]:
    token = tokens()
    return token.value, token.expires_at, token.principal, token.extensions


Configure = Callable[[_Faults], dict[str, Any]]


class ConfluentProducer:
    """Satisfies `portable_kafka.engine.Producer`."""

    def __init__(self, configure: Configure, where: Connection) -> None:
        self._faults = _Faults()
        config = configure(self._faults) | {
            "enable.idempotence": True,
            "linger.ms": LINGER_MS,
            "compression.type": where.compression,
            # Room for what a batch and a message have around them.
            "message.max.bytes": where.max_message_bytes + 48_588,
            "message.timeout.ms": max(1000, int(where.timeout * 1000)),
            "queue.buffering.max.messages": 1_000_000,
        }
        with _translating():
            self._producer = kafka.Producer(config)
        self._delivering = Delivering(self._flush)

    @property
    def native(self) -> kafka.Producer:
        """The library's own."""
        return self._producer

    def send(self, messages: Sequence[Outbound], *, timeout: float) -> list[int | PortableError]:
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
                    parcel.fail(index, _translated(error))
                    break
        self._delivering.wait(parcel, deadline)
        return [one if isinstance(one, (int, PortableError)) else _undelivered(one) for one in parcel.answers]

    def reach(self, topics: Sequence[str], *, timeout: float) -> None:
        """Learn where the partitions of topics are."""
        with _translating():
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
        self._faults = _Faults()
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
                producer.send_offsets_to_transaction(_offsets(offsets), member.identity(), _left(deadline))
            producer.flush(_left(deadline))
            producer.commit_transaction(_left(deadline))
        except KafkaException as error:
            self._give_up(error, deadline)
            # What the broker said of a message says more than that the transaction failed.
            raise _translated(KafkaException(failures[0]) if failures else error) from error

    def close(self) -> None:
        """Drop the connections; a transaction that is open is undone by the cluster."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaException):
                producer.purge()
                producer.flush(0.0)

    def _ready(self, timeout: float) -> kafka.Producer:
        if self._producer is None:
            with _translating():
                producer = kafka.Producer(self._config)
                self._faults.forget()
                deadline = monotonic() + timeout
                while True:
                    try:
                        producer.init_transactions(min(_left(deadline), LOOK_EVERY))
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
            producer.purge()
            producer.abort_transaction(max(1.0, _left(deadline)))
        except KafkaException:
            self.close()


class ConfluentConsumer:
    """Satisfies `portable_kafka.engine.Consumer`."""

    def __init__(self, configure: Configure, where: Connection, group: str | None) -> None:
        self._faults = _Faults()
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
        with _translating():
            self._consumer = kafka.Consumer(config)
        self._ends: dict[Place, int] = {}
        self._astray: set[Place] = set()
        self._identity: Any = None
        self._failed: PortableError | None = None

    def assign(self, places: Mapping[Place, int]) -> None:
        """Read exactly these partitions."""
        self._ends, self._astray = {}, set()
        with _translating():
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
                    self._failed = error if isinstance(error, PortableError) else _translated(error)

            return tell

        self._faults.forget()
        with _translating():
            self._consumer.subscribe(
                list(topics), on_assign=told(assigned), on_revoke=told(revoked), on_lost=told(lost)
            )

    def poll(self, count: int, timeout: float, make: Made[T]) -> list[T]:
        """Give messages; wait for the first only."""
        consumer = self._consumer
        made: list[T] = []
        with _translating():
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
        with _translating():
            self._consumer.seek(TopicPartition(*place, offset))

    def pause(self, places: Sequence[Place]) -> None:
        """Fetch nothing of partitions for now."""
        with _translating():
            self._consumer.pause([TopicPartition(*place) for place in places])

    def resume(self, places: Sequence[Place]) -> None:
        """Fetch from partitions again."""
        with _translating():
            self._consumer.resume([TopicPartition(*place) for place in places])

    def commit(self, offsets: Mapping[Place, tuple[int, str]], *, timeout: float) -> None:
        """Keep offsets for the group."""
        deadline = monotonic() + timeout
        while True:
            try:
                _check(self._consumer.commit(offsets=_offsets(offsets), asynchronous=False) or ())
            except KafkaException as error:
                # While the members come together anew nothing can be committed; that is soon over.
                if error.args[0].code() not in REBALANCING or monotonic() > deadline:
                    raise _translated(error) from error
                sleep(PAUSE)
            else:
                return

    def committed(self, places: Sequence[Place], *, timeout: float) -> dict[Place, tuple[int, str]]:
        """Give what the group has kept."""

        def question() -> list[TopicPartition]:
            found = self._consumer.committed([TopicPartition(*place) for place in places], timeout)
            _check(found)
            return found

        found = _asked(question, timeout)
        return {(one.topic, one.partition): (one.offset, one.metadata or "") for one in found if one.offset >= 0}

    def edge(self, place: Place, *, timeout: float) -> tuple[int, int]:
        """Give first and next offset."""
        return _asked(lambda: self._consumer.get_watermark_offsets(TopicPartition(*place), timeout), timeout)

    def moments(self, places: Mapping[Place, int], *, timeout: float) -> dict[Place, int | None]:
        """Give the first offset at or after a moment."""
        asked = [TopicPartition(*place, moment) for place, moment in places.items()]
        found = _asked(lambda: self._consumer.offsets_for_times(asked, timeout), timeout)
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
        for one in messages:
            error = one.error()
            if error is None:
                made.append(
                    make(
                        one.topic(),
                        one.partition(),
                        one.offset(),
                        one.timestamp()[1],
                        one.key(),
                        one.value(),
                        one.headers(),
                    )
                )
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 (its public name)
                self._ends[one.topic(), one.partition()] = one.offset()
            elif error.code() in OUT_OF_RANGE:
                self._astray.add((one.topic(), one.partition()))
            elif not (error.retriable() or error.code() in UNKNOWN_TOPIC or error.code() < 0):
                # What librdkafka reports of its own troubles it also sees to.
                raise KafkaException(error)


class ConfluentAdmin:
    """Satisfies `portable_kafka.engine.Admin`."""

    def __init__(self, configure: Configure) -> None:
        self._faults = _Faults()
        config = configure(self._faults)
        del config["allow.auto.create.topics"]
        with _translating():
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
                    raise _translated(error) from error
        return found

    def create(self, topics: Sequence[NewTopic], *, timeout: float) -> None:
        """Make topics."""
        wanted = [Topic(one.name, one.partitions, one.replication or -1, config=one.config) for one in topics]
        for future in self._admin.create_topics(wanted, operation_timeout=timeout, request_timeout=timeout).values():
            try:
                self._answer(future, timeout)
            except KafkaException as error:
                if error.args[0].code() != TOPIC_EXISTS:
                    raise _translated(error) from error

    def edges(self, places: Sequence[Place], *, timeout: float) -> dict[Place, tuple[int, int]]:
        """Give first and next offset."""
        first = self._offsets(places, _specs.OffsetSpec.earliest(), timeout)
        after = self._offsets(places, _specs.OffsetSpec.latest(), timeout)
        return {place: (first[place], after[place]) for place in places}

    def trim(self, places: Mapping[Place, int], *, timeout: float) -> None:
        """Remove what is before offsets."""
        asked = [TopicPartition(*place, offset) for place, offset in places.items()]
        with _translating():
            for future in self._admin.delete_records(asked, request_timeout=timeout).values():
                self._answer(future, timeout)

    def close(self) -> None:
        """Drop the connections."""
        del self._admin

    def _offsets(self, places: Sequence[Place], spec: Any, timeout: float) -> dict[Place, int]:
        asked = {TopicPartition(*place): spec for place in places}

        def question() -> dict[Place, int]:
            found = self._admin.list_offsets(asked, request_timeout=timeout)
            return {(one.topic, one.partition): self._answer(future, timeout).offset for one, future in found.items()}

        return _asked(question, timeout)

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


def _check(found: Sequence[TopicPartition]) -> None:
    for one in found:
        if one.error is not None:
            raise KafkaException(one.error)


def _offsets(offsets: Mapping[Place, tuple[int, str]]) -> list[TopicPartition]:
    return [TopicPartition(*place, offset, text) for place, (offset, text) in offsets.items()]


def _left(deadline: float) -> float:
    return max(0.05, deadline - monotonic())
