"""Kafka: stream, topic and queue against confluent-kafka doing the same work, one call after the other."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import portable
from benchmarks.sampling import Contender, Figure, Plan, compare, interleave
from benchmarks.servers import serving
from portable.messages import Outgoing

__all__ = ["measure"]

VALUE = b"\xff" * 200
BATCH = 5_000
AT_ONCE = 500
UNDER_WAY = 50_000
"""The client takes no more than 100,000 messages at once."""

READ = 20_000
"""Messages that a turn reads: the client has room for them, and does not pause in fetching them."""

TURN = 0.5
KEYS = [f"key{number}" for number in range(100)]
MAKE: Any = {"create": "if_missing"}


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure all of it on one broker."""
    with serving("kafka", folder) as url:
        brokers = url.partition("://")[2].partition("/")[0]
        yield from _sending(plan, url, brokers)
        yield from _consuming(plan, url, brokers)
        yield from _queue(plan, url, brokers)


class _Raw:
    """What an application would write with the client itself, for the same answers."""

    def __init__(self, brokers: str, topic: str) -> None:
        import confluent_kafka

        self._topic = topic
        self._producer = confluent_kafka.Producer(
            {"bootstrap.servers": brokers, "enable.idempotence": True, "linger.ms": 5}
        )

    def send(self, count: int, keys: list[str]) -> None:
        """Send so many messages, and learn where each is."""
        found: list[tuple[int, int]] = []

        def delivered(error: Any, message: Any) -> None:
            assert error is None, error
            found.append((message.partition(), message.offset()))

        produce, topic = self._producer.produce, self._topic
        for number in range(count):
            if number and number % UNDER_WAY == 0:
                self._producer.flush()
            produce(topic, VALUE, keys[number % len(keys)], on_delivery=delivered)
        self._producer.flush()
        assert len(found) == count


def _sending(plan: Plan, url: str, brokers: str) -> Iterator[Figure]:
    name = f"b{uuid.uuid4().hex[:8]}"
    entries = [Outgoing(VALUE, ordering_key=KEYS[number % len(KEYS)]) for number in range(BATCH)]
    with (
        portable.open_stream(url, name=name, **MAKE) as stream,
        portable.open_topic(url, name=f"{name}-t", **MAKE) as topic,
    ):
        stream.append_many(entries)
        topic.publish_many(entries)
        raw = _Raw(brokers, name)
        contenders = {
            "portable": Contender(_whole(lambda: stream.append_many(entries))),
            "confluent-kafka": Contender(_whole(lambda: raw.send(BATCH, KEYS))),
        }
        samples = interleave(contenders, rounds=plan.rounds, seconds=plan.slice(TURN))
        yield from compare(samples, f"kafka stream: append {BATCH:,}", clock="wall")
        contenders["portable"] = Contender(_whole(lambda: topic.publish_many(entries)))
        samples = interleave(contenders, rounds=plan.rounds, seconds=plan.slice(TURN))
        yield from compare(samples, f"kafka topic: publish {BATCH:,}", clock="wall")
        contenders = {
            "portable": Contender(_whole(lambda: stream.append(VALUE, key="key1"))),
            "confluent-kafka": Contender(_whole(lambda: raw.send(1, ["key1"]))),
        }
        samples = interleave(contenders, rounds=plan.rounds, seconds=plan.slice(TURN))
        yield from compare(samples, "kafka stream: append one, flushed", clock="wall")


def _consuming(plan: Plan, url: str, brokers: str) -> Iterator[Figure]:
    name = f"b{uuid.uuid4().hex[:8]}"
    with portable.open_stream(url, name=name, **MAKE) as stream:
        stream.partitions()
        raw = _Raw(brokers, name)
        consumer, theirs = stream.consumer("ours"), _consumer(brokers, name, f"{name}.theirs")

        def consume(count: int) -> None:
            left = count
            while left > 0:
                left -= len(consumer.poll(timeout=10, max_records=min(left, AT_ONCE)))
            consumer.commit()

        def consume_raw(count: int) -> None:
            left = count
            while left > 0:
                left -= len(_read(theirs, min(left, AT_ONCE)))
            theirs.commit(asynchronous=False)

        def more(count: int) -> None:
            # Each of the two groups reads all of it; what the other has read before is passed over here.
            raw.send(count, KEYS)

        contenders = {
            "portable": Contender(consume, prepare=_for_both(more, consume_raw), calls=READ),
            "confluent-kafka": Contender(consume_raw, prepare=_for_both(more, consume), calls=READ),
        }
        samples = interleave(contenders, rounds=plan.rounds, seconds=plan.slice(TURN))
        yield from compare(samples, "kafka stream: consume", clock="wall")
        consumer.close()
        theirs.close()


def _queue(plan: Plan, url: str, brokers: str) -> Iterator[Figure]:
    name = f"b{uuid.uuid4().hex[:8]}"
    # What the queue has done is removed from its topic, so each contender reads its own.
    with (
        portable.open_queue(url, name=name, visibility_timeout="1h", **MAKE) as queue,
        portable.open_topic(url, name=f"{name}-raw", **MAKE) as topic,
    ):
        topic.publish(b"made")
        raw, other = _Raw(brokers, name), _Raw(brokers, f"{name}-raw")
        # A member that holds nothing and is not asked leaves its group; one message keeps it there.
        queue.send(b"held")
        held = queue.receive(wait=30)
        theirs = _consumer(brokers, f"{name}-raw", f"{name}.theirs")

        def handle(count: int) -> None:
            left = count
            while left > 0:
                messages = queue.receive(min(left, AT_ONCE), wait=10)
                queue.ack_many(messages)
                left -= len(messages)

        def handle_raw(count: int) -> None:
            left = count
            while left > 0:
                left -= len(_read(theirs, min(left, AT_ONCE)))
                theirs.commit(asynchronous=False)

        contenders = {
            "portable": Contender(handle, prepare=lambda count: raw.send(count, KEYS), calls=READ),
            "confluent-kafka": Contender(handle_raw, prepare=lambda count: other.send(count, KEYS), calls=READ),
        }
        samples = interleave(contenders, rounds=plan.rounds, seconds=plan.slice(TURN))
        yield from compare(samples, "kafka queue: receive and ack", clock="wall")
        queue.ack_many(held)
        theirs.close()


def _consumer(brokers: str, topic: str, group: str) -> Any:
    import confluent_kafka

    consumer = confluent_kafka.Consumer(
        {
            "bootstrap.servers": brokers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "partition.assignment.strategy": "cooperative-sticky",
        }
    )
    consumer.subscribe([topic])
    return consumer


def _read(consumer: Any, count: int) -> list[Any]:
    """Read what there is, and every field of it, as an application wants them."""
    first = consumer.poll(10)
    found = [] if first is None else [first, *(consumer.consume(count - 1, 0) if count > 1 else ())]
    records = []
    for one in found:
        assert one.error() is None, one.error()
        key, headers = one.key(), one.headers()
        records.append(
            (
                one.partition(),
                one.offset(),
                one.timestamp()[1],
                None if key is None else key.decode(),
                one.value(),
                {name: value.decode() for name, value in headers} if headers else {},
            )
        )
    return records


def _whole(call: Callable[[], object]) -> Callable[[int], object]:
    def run(calls: int) -> None:
        for _ in itertools.repeat(None, calls):
            call()

    return run


def _for_both(more: Callable[[int], object], other: Callable[[int], object]) -> Callable[[int], object]:
    def prepare(calls: int) -> None:
        more(calls)
        other(calls)

    return prepare
