"""The engine on kafka-python, for where nothing but Python can be installed."""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic, sleep
from typing import Any, TypeVar

from portable.errors import DeadlineExceeded, LimitExceeded, PortableError
from portable_kafka.engine import Made, NewTopic, Outbound, Place
from portable_kafka.errors import AUTHENTICATION, PASSING, REBALANCING, TOPIC_EXISTS, UNKNOWN_TOPIC, meaning
from portable_kafka.options import Connection
from portable_kafka.tokens import Tokens

__all__ = ["KafkaPythonEngine"]

T = TypeVar("T")

# The type checkers know those of another release.
_kafka: Any = importlib.import_module("kafka")
_subscriptions: Any = importlib.import_module("kafka.consumer.subscription_state")
_assignors: Any = importlib.import_module("kafka.coordinator.assignors.cooperative_sticky")
_oauth: Any = importlib.import_module("kafka.net.sasl.oauth")
Future: Any = importlib.import_module("kafka.future").Future
OffsetAndMetadata: Any = importlib.import_module("kafka.structs").OffsetAndMetadata
OffsetSpec: Any = importlib.import_module("kafka.admin").OffsetSpec
Topic: Any = importlib.import_module("kafka.admin").NewTopic
TopicPartition: Any = _kafka.TopicPartition
errors: Any = importlib.import_module("kafka.errors")

PAUSE = 0.02
"""Seconds before what cannot be done for a moment is tried again."""

LINGER_MS = 0
TRANSACTION_TIMEOUT_MS = 15_000
"""A process that dies within a transaction holds up readers for so long."""

OVERHEAD = 48_588
"""Bytes of room for what a batch and a message have around them."""


def _code(error: BaseException) -> int:
    """Give the protocol's code, or librdkafka's for what only a client meets."""
    cause: BaseException | None = error
    while cause is not None:
        number = getattr(cause, "errno", None)
        if isinstance(cause, errors.KafkaError) and isinstance(number, int) and number > 0:
            return number
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, errors.KafkaTimeoutError):
        return -185
    if isinstance(error, errors.CommitFailedError):
        return 25
    if isinstance(error, (errors.RetriableError, OSError)):
        return -195
    return -196


def _translated(error: BaseException) -> PortableError:
    if isinstance(error, PortableError):
        return error
    ours = meaning(_code(error), str(error))
    ours.__cause__ = error
    return ours


@contextlib.contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except (errors.KafkaError, OSError) as error:
        raise _translated(error) from error


class _Refusals(logging.Handler):
    """Hears why connections fail: the library tries again until the time is over, and then says only that it is."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the error, where it is one that no waiting helps against."""
        told: Any = record.args if isinstance(record.args, tuple) else ()
        for one in told:
            if isinstance(one, errors.BrokerResponseError) and _code(one) in AUTHENTICATION:
                self.heard = one


def _built(make: Callable[[], T]) -> T:
    """Make a client, which connects."""
    refusals, log = _Refusals(), logging.getLogger("kafka.net.manager")
    log.addHandler(refusals)
    try:
        return make()
    except (errors.KafkaError, OSError) as error:
        raise _translated(refusals.heard or error) from error
    finally:
        log.removeHandler(refusals)


def _asked(question: Callable[[], T], timeout: float) -> T:
    """Ask the cluster something, again and again while it is about to be able to answer."""
    deadline = monotonic() + timeout
    while True:
        try:
            return question()
        except (errors.KafkaError, OSError) as error:
            if _code(error) not in PASSING or monotonic() > deadline:
                raise _translated(error) from error
            sleep(PAUSE)


class _Provider(_oauth.AbstractTokenProvider):  # type: ignore[misc]  # the library has no types
    """Tokens, as kafka-python asks for them."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self._tokens = tokens
        self._extensions: dict[str, str] = {}

    def token(self) -> str:
        """Give a token."""
        token = self._tokens()
        self._extensions = token.extensions
        return token.value

    def extensions(self) -> dict[str, str]:
        """Give what the server wants besides."""
        return self._extensions


class KafkaPythonEngine:
    """Satisfies `portable_kafka.engine.Engine`."""

    def __init__(self, where: Connection) -> None:
        self._where = where

    def producer(self) -> PythonProducer:
        """Make a producer."""
        return PythonProducer(self._config(), self._where)

    def transactions(self, name: str) -> PythonTransactions:
        """Make a producer with transactions."""
        return PythonTransactions(self._config(), self._where, name)

    def consumer(self, group: str | None) -> PythonConsumer:
        """Make a consumer."""
        return PythonConsumer(self._config(), self._where, group)

    def admin(self) -> PythonAdmin:
        """Make a client for topics."""
        return PythonAdmin(self._config())

    def _config(self) -> dict[str, Any]:
        where = self._where
        config: dict[str, Any] = {
            "bootstrap_servers": list(where.servers),
            "client_id": "portable",
            "security_protocol": ("SASL_" if where.mechanism else "") + ("SSL" if where.tls else "PLAINTEXT"),
            "reconnect_backoff_ms": 50,
            "reconnect_backoff_max_ms": 1000,
            "retry_backoff_ms": 50,
            "bootstrap_timeout_ms": max(1000, int(where.timeout * 1000)),
        }
        if where.mechanism:
            config["sasl_mechanism"] = where.mechanism
        if where.tokens is not None:
            config["sasl_oauth_token_provider"] = _Provider(where.tokens)
        elif where.mechanism:
            config |= {"sasl_plain_username": where.username, "sasl_plain_password": where.password}
        files = {"ssl_cafile": where.ca, "ssl_certfile": where.certificate, "ssl_keyfile": where.private_key}
        return config | {name: str(path) for name, path in files.items() if path is not None}


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
        self._producer = _built(lambda: _kafka.KafkaProducer(**config, **_producing(where)))

    @property
    def native(self) -> Any:
        """The library's own."""
        return self._producer

    def send(self, messages: Sequence[Outbound], *, timeout: float) -> list[int | PortableError]:
        """Send messages and wait until the brokers have them."""
        deadline = monotonic() + timeout
        answers: list[Any] = []
        for message in messages:
            try:
                answers.append(_sent(self._producer, message))
            except errors.MessageSizeTooLargeError as error:
                answers.append(LimitExceeded(f"it is larger than the client takes: {error}; see max_message_bytes="))
            except (errors.KafkaError, OSError) as error:
                answers.append(_translated(error))
        for index, future in enumerate(answers):
            if isinstance(future, PortableError):
                continue
            try:
                answers[index] = future.get(max(0.0, deadline - monotonic())).offset
            except (errors.KafkaError, OSError) as error:
                answers[index] = _translated(error)
        return answers

    def reach(self, topics: Sequence[str], *, timeout: float) -> None:  # noqa: ARG002 (the client bounds it)
        """Learn where the partitions of topics are."""
        with _translating():
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
                producer = _kafka.KafkaProducer(**self._config)
                producer.init_transactions()
                self._producer = producer
            producer = self._producer
            producer.begin_transaction()
            sent = [_sent(producer, message) for message in messages]
            if offsets:
                producer.send_offsets_to_transaction(_offsets(offsets), member.identity())
            for future in sent:
                future.get(max(0.05, deadline - monotonic()))
            producer.commit_transaction()
        except (errors.KafkaError, OSError) as error:
            self._give_up()
            raise _translated(error) from error

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


class _Listener(_subscriptions.AsyncConsumerRebalanceListener):  # type: ignore[misc]  # the library has no types
    """Has what a rebalance means done by the thread that polls, while the library's own goes on."""

    def __init__(self, told: Callable[[Callable[[], None]], Any], **what: Callable[[list[Place]], None]) -> None:
        self._told = told
        self._what = what

    async def on_partitions_assigned(self, assigned: Any) -> None:
        """Tell of partitions that came."""
        await self._told(functools.partial(self._what["assigned"], _places(assigned)))

    async def on_partitions_revoked(self, revoked: Any) -> None:
        """Tell of partitions that have to go."""
        await self._told(functools.partial(self._what["revoked"], _places(revoked)))

    async def on_partitions_lost(self, lost: Any) -> None:
        """Tell of partitions that are gone."""
        await self._told(functools.partial(self._what["lost"], _places(lost)))


async def _settle(done: Any) -> None:
    done.success(None)


class PythonConsumer:
    """Satisfies `portable_kafka.engine.Consumer`. The library's serves one thread at a time, and so does this."""

    def __init__(self, config: dict[str, Any], where: Connection, group: str | None) -> None:
        more: dict[str, Any] = {
            "group_id": group,
            "metrics_enabled": False,
            "metadata_max_age_ms": 10_000,
            "enable_auto_commit": False,
            "isolation_level": "read_committed",
            "auto_offset_reset": "earliest" if group else "none",
            "allow_auto_create_topics": False,
            "max_partition_fetch_bytes": max(1_048_576, where.max_message_bytes + OVERHEAD),
            # Whoever reads by position wants to know soon that there is no more.
            "fetch_max_wait_ms": 500 if group else 50,
        }
        if group:
            more |= {
                "partition_assignment_strategy": (_assignors.CooperativeStickyAssignor,),
                "session_timeout_ms": int(where.session_timeout * 1000),
                "heartbeat_interval_ms": max(100, int(where.session_timeout * 1000 / 10)),
                "max_poll_interval_ms": int(where.max_poll_interval * 1000),
            }
        self._consumer = _built(lambda: _kafka.KafkaConsumer(**config, **more))
        self._lock = threading.RLock()
        # The library runs a rebalance in its own thread, which must not wait for leases to end.
        self._library = ThreadPoolExecutor(1, thread_name_prefix="portable-kafka-poll") if group else None
        self._wanted: queue.SimpleQueue[tuple[Callable[[], None], Any] | None] = queue.SimpleQueue()
        self._ends: dict[Place, int] = {}
        # What was said to be the end of a partition already.
        self._said: dict[Place, tuple[int, int]] = {}
        self._astray: set[Place] = set()

    def assign(self, places: Mapping[Place, int]) -> None:
        """Read exactly these partitions."""
        with self._lock, _translating():
            self._ends, self._said, self._astray = {}, {}, set()
            if not places:
                self._consumer.unsubscribe()
                return
            self._consumer.assign([TopicPartition(*place) for place in places])
            for place, offset in places.items():
                self._consumer.seek(TopicPartition(*place), offset)

    def subscribe(
        self,
        topics: Sequence[str],
        *,
        assigned: Callable[[list[Place]], None],
        revoked: Callable[[list[Place]], None],
        lost: Callable[[list[Place]], None],
    ) -> None:
        """Share partitions with the group."""
        with self._lock, _translating():
            for topic in topics:
                # Who leads the group shares out what it knows of, and what it learns later it may not look at again.
                self._consumer.partitions_for_topic(topic)
            listener = _Listener(self._told, assigned=assigned, revoked=revoked, lost=lost)
            self._consumer.subscribe(list(topics), listener=listener)

    def poll(self, count: int, timeout: float, make: Made[T]) -> list[T]:
        """Give messages; wait for the first only."""
        made: list[T] = []
        with self._lock:
            try:
                found = self._run(
                    functools.partial(self._consumer.poll, timeout_ms=int(timeout * 1000), max_records=count)
                )
            except (errors.OffsetOutOfRangeError, errors.NoOffsetForPartitionError):
                self._astray |= set(_places(self._consumer.assignment()))
                return made
            except (errors.KafkaError, OSError) as error:
                if _code(error) in PASSING | UNKNOWN_TOPIC:
                    return made
                raise _translated(error) from error
            for (topic, partition), records in found.items():
                made += [
                    make(topic, partition, one.offset, one.timestamp, one.key, one.value, list(one.headers) or None)
                    for one in records
                ]
            self._look_for_ends()
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
        with self._lock:
            try:
                self._consumer.seek(TopicPartition(*place), offset)
            except (errors.KafkaError, AssertionError) as error:
                raise _translated(error) from error

    def pause(self, places: Sequence[Place]) -> None:
        """Fetch nothing of partitions for now."""
        with self._lock, _translating():
            self._consumer.pause(*(TopicPartition(*place) for place in places))

    def resume(self, places: Sequence[Place]) -> None:
        """Fetch from partitions again."""
        with self._lock, _translating():
            self._consumer.resume(*(TopicPartition(*place) for place in places))

    def commit(self, offsets: Mapping[Place, tuple[int, str]], *, timeout: float) -> None:
        """Keep offsets for the group."""
        deadline = monotonic() + timeout
        while True:
            try:
                with self._lock:
                    self._consumer.commit(_offsets(offsets), timeout_ms=int(timeout * 1000))
            except (errors.KafkaError, OSError) as error:
                # While the members come together anew nothing can be committed; that is soon over.
                if _code(error) not in REBALANCING or monotonic() > deadline:
                    raise _translated(error) from error
                sleep(PAUSE)
            else:
                return

    def committed(self, places: Sequence[Place], *, timeout: float) -> dict[Place, tuple[int, str]]:
        """Give what the group has kept."""

        def question() -> dict[Place, tuple[int, str]]:
            found = {}
            for place in places:
                with self._lock:
                    kept = self._consumer.committed(
                        TopicPartition(*place), metadata=True, timeout_ms=int(timeout * 1000)
                    )
                if kept is not None and kept.offset >= 0:
                    found[place] = (kept.offset, kept.metadata or "")
            return found

        return _asked(question, timeout)

    def edge(self, place: Place, *, timeout: float) -> tuple[int, int]:
        """Give first and next offset."""
        one = TopicPartition(*place)

        def question() -> tuple[int, int]:
            with self._lock:
                first = self._consumer.beginning_offsets([one], timeout_ms=int(timeout * 1000))[one]
                return first, self._consumer.end_offsets([one], timeout_ms=int(timeout * 1000))[one]

        return _asked(question, timeout)

    def moments(self, places: Mapping[Place, int], *, timeout: float) -> dict[Place, int | None]:
        """Give the first offset at or after a moment."""

        def question() -> dict[Place, int | None]:
            with self._lock:
                asked = {TopicPartition(*place): moment for place, moment in places.items()}
                found = self._consumer.offsets_for_times(asked, timeout_ms=int(timeout * 1000))
            return {
                (one.topic, one.partition): None if at is None or at.offset < 0 else at.offset
                for one, at in found.items()
            }

        return _asked(question, timeout)

    def identity(self) -> Any:
        """What a transaction needs to know of this member."""
        return self._consumer.group_metadata()

    def close(self) -> None:
        """Leave the group and drop the connections."""
        with self._lock, contextlib.suppress(errors.KafkaError, OSError):
            self._run(functools.partial(self._consumer.close, autocommit=False, timeout_ms=2000))
        if self._library is not None:
            self._library.shutdown()

    def _run(self, call: Callable[[], T]) -> T:
        """Call the library in another thread, and serve in this one what it wants done of a rebalance."""
        if self._library is None:
            return call()
        running = self._library.submit(call)
        running.add_done_callback(lambda _: self._wanted.put(None))
        failure: BaseException | None = None
        while (wanted := self._wanted.get()) is not None:
            work, done = wanted
            try:
                work()
            except BaseException as error:  # noqa: BLE001 (it belongs to whoever polls)
                failure = error
            # The library's futures are its own thread's.
            self._consumer._net.call_soon_threadsafe(functools.partial(_settle, done))  # noqa: SLF001 (no other way)
        result = running.result()
        if failure is not None:
            raise failure
        return result

    def _told(self, work: Callable[[], None]) -> Any:
        done = Future()
        self._wanted.put((work, done))
        return done

    def _look_for_ends(self) -> None:
        for one in self._consumer.assignment():
            high = self._consumer.highwater(one)
            if high is None:
                continue
            place = (one.topic, one.partition)
            with contextlib.suppress(errors.KafkaError, AssertionError):
                at = self._consumer.position(one, timeout_ms=0)
                if at is not None and at >= high and self._said.get(place) != (at, high):
                    self._said[place] = (at, high)
                    self._ends[place] = at


class PythonAdmin:
    """Satisfies `portable_kafka.engine.Admin`."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._lock = threading.Lock()
        self._admin = _built(lambda: _kafka.KafkaAdminClient(**config))

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
        first = self._offsets(places, OffsetSpec.EARLIEST, timeout)
        after = self._offsets(places, OffsetSpec.LATEST, timeout)
        return {place: (first[place], after[place]) for place in places}

    def trim(self, places: Mapping[Place, int], *, timeout: float) -> None:
        """Remove what is before offsets."""
        asked = {TopicPartition(*place): offset for place, offset in places.items()}
        self._ask(lambda: self._admin.delete_records(asked, timeout_ms=int(timeout * 1000)), timeout)

    def close(self) -> None:
        """Drop the connections."""
        with contextlib.suppress(errors.KafkaError, OSError):
            self._admin.close()

    def _offsets(self, places: Sequence[Place], spec: Any, timeout: float) -> dict[Place, int]:
        asked = {TopicPartition(*place): spec for place in places}
        found = self._ask(lambda: self._admin.list_partition_offsets(asked, timeout_ms=int(timeout * 1000)), timeout)
        return {(one.topic, one.partition): at.offset for one, at in found.items()}

    def _ask(self, question: Callable[[], T], timeout: float) -> T:
        def locked() -> T:
            with self._lock:
                return question()

        try:
            return _asked(locked, timeout)
        except TimeoutError as error:
            if isinstance(error, PortableError):
                raise
            raise DeadlineExceeded("the cluster did not answer in time", maybe_applied=True) from error


def _offsets(offsets: Mapping[Place, tuple[int, str]]) -> dict[Any, Any]:
    return {TopicPartition(*place): OffsetAndMetadata(offset, text, -1) for place, (offset, text) in offsets.items()}


def _places(found: Any) -> list[Place]:
    return [(one.topic, one.partition) for one in found]
