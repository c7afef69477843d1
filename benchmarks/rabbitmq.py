"""RabbitMQ: the queue against pika doing the same work, on quorum queues, persistent messages, each confirmed.

One message at a time pika is used as its documentation does it, on a `BlockingConnection`. For batches it is driven by
callbacks, which is the fastest that it can: a batch is published as a whole and then its confirms are waited for, and a
consumer that stays acknowledges each message as it comes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika

import portable
from benchmarks.sampling import Contender, Figure, Plan, compare, interleave
from benchmarks.servers import serving

__all__ = ["measure"]

BODY = b"x" * 200
BATCH = 1000
TURN = 0.5


def _properties() -> pika.BasicProperties:
    """What every message has that can be told from others: an id, when it was sent, and that it is kept."""
    return pika.BasicProperties(message_id=uuid.uuid4().hex, timestamp=int(time.time()), delivery_mode=2)


class Blocking:
    def __init__(self, url: str, queue: str) -> None:
        self.connection = pika.BlockingConnection(pika.URLParameters(f"{url}/%2F?heartbeat=0"))
        self.channel = self.connection.channel()
        self.channel.confirm_delivery()
        self.queue = queue

    def send(self) -> None:
        self.channel.basic_publish("", self.queue, BODY, _properties(), mandatory=True)

    def receive(self) -> None:
        method, properties, body = self.channel.basic_get(self.queue)
        assert method is not None
        assert properties.message_id
        assert body == BODY
        self.channel.basic_ack(method.delivery_tag)


class Driven:
    """pika by callbacks; the loop runs in the calling thread, for as long as there is something to wait for."""

    def __init__(self, url: str, queue: str) -> None:
        self.queue = queue
        self.channel: Any = None
        self.confirmed = self.published = self.received = self.wanted = 0
        self.connection = pika.SelectConnection(
            pika.URLParameters(f"{url}/%2F?heartbeat=0"), on_open_callback=self._opened
        )
        self.connection.ioloop.start()

    def send_many(self) -> None:
        for _ in range(BATCH):
            self.channel.basic_publish("", self.queue, BODY, _properties(), mandatory=True)
        self.published += BATCH
        self.connection.ioloop.start()

    def receive_many(self, count: int) -> None:
        """Receive so many by one consumer, which is cancelled behind the last."""
        self.received, self.wanted = 0, count
        consumer = self.channel.basic_consume(self.queue, self._received)
        self.connection.ioloop.start()
        self.channel.basic_cancel(consumer, lambda _: self.connection.ioloop.stop())
        self.connection.ioloop.start()

    def _opened(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._prepare)

    def _prepare(self, channel: Any) -> None:
        self.channel = channel
        channel.basic_qos(prefetch_count=BATCH)
        channel.confirm_delivery(self._on_confirm, lambda _: self.connection.ioloop.stop())

    def _on_confirm(self, frame: Any) -> None:
        self.confirmed = max(self.confirmed, frame.method.delivery_tag)
        if self.confirmed == self.published:
            self.connection.ioloop.stop()

    def _received(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        assert properties.message_id
        assert body == BODY
        channel.basic_ack(method.delivery_tag)
        self.received += 1
        if self.received == self.wanted:
            self.connection.ioloop.stop()


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure one message at a time, then batches."""
    with serving("rabbitmq", folder) as url, _opened(url, "ours") as ours, _opened(url, "theirs") as theirs:
        ours.stats()
        theirs.stats()
        yield from _one_by_one(plan, ours, Blocking(url, "theirs"))
        yield from _batches(plan, ours, Driven(url, "theirs"), theirs)


def _opened(url: str, name: str) -> portable.Queue[bytes]:
    return portable.open_queue(url, name=name, create="if_missing", visibility_timeout="10m")


def _one_by_one(plan: Plan, ours: portable.Queue[bytes], theirs: Blocking) -> Iterator[Figure]:
    def receive() -> None:
        (message,) = ours.receive(wait=0)
        message.ack()

    sending = {
        "portable": Contender(_repeated(lambda: ours.send(BODY))),
        "pika": Contender(_repeated(theirs.send)),
    }
    seconds = plan.slice(TURN)
    yield from compare(interleave(sending, rounds=plan.rounds, seconds=seconds), "rabbitmq queue: send", clock="wall")
    receiving = {
        "portable": Contender(_repeated(receive), _repeated(lambda: ours.send(BODY))),
        "pika": Contender(_repeated(theirs.receive), _repeated(theirs.send)),
    }
    samples = interleave(receiving, rounds=plan.rounds, seconds=seconds)
    yield from compare(samples, "rabbitmq queue: receive and ack", clock="wall")


def _batches(plan: Plan, ours: portable.Queue[bytes], raw: Driven, theirs: portable.Queue[bytes]) -> Iterator[Figure]:
    bodies = [BODY] * BATCH

    def drain(queue: portable.Queue[bytes]) -> Callable[[int], None]:
        def empty(_: int) -> None:
            while messages := queue.receive(BATCH, wait=0):
                queue.ack_many(messages)

        return empty

    def fill(queue: portable.Queue[bytes]) -> Callable[[int], None]:
        def prepare(batches: int) -> None:
            drain(queue)(0)
            for _ in range(batches):
                queue.send_many(bodies)

        return prepare

    def receive(batches: int) -> None:
        left = batches * BATCH
        while left:
            messages = ours.receive(BATCH, wait=0)
            ours.ack_many(messages)
            left -= len(messages)

    rounds, calls = max(3, plan.rounds // 2), plan.size(4, 1)
    sending = {
        "portable": Contender(_repeated(lambda: ours.send_many(bodies)), drain(ours), calls=calls),
        "pika": Contender(_repeated(raw.send_many), drain(theirs), calls=calls),
    }
    samples = interleave(sending, rounds=rounds, seconds=1.0)
    yield from compare(samples, f"rabbitmq queue: send {BATCH} in a batch", clock="wall")
    receiving = {
        "portable": Contender(receive, fill(ours), calls=calls),
        "pika": Contender(lambda batches: raw.receive_many(batches * BATCH), fill(theirs), calls=calls),
    }
    samples = interleave(receiving, rounds=rounds, seconds=1.0)
    yield from compare(samples, f"rabbitmq queue: receive and ack in batches of {BATCH}", clock="wall")


def _repeated(call: Callable[[], object]) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for _ in range(calls):
            call()

    return run
