"""Queues on JetStream: a work queue and its one consumer; `docs/wire-formats/nats.md` names the subjects."""

from __future__ import annotations

import asyncio
import hashlib
import math
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from portable.bindings import Binding
from portable.capabilities import QueueCapabilities
from portable.changes import Change
from portable.contracts import QueueContract
from portable.dead_letters import NEVER, dead_letter_binding
from portable.errors import DeadlineExceeded, LeaseLost, PortableError, ResourceNotFound, Unavailable
from portable.messages import Delivery, Outgoing, QueueStats
from portable_nats.errors import WRONG_LAST, ApiError, refused
from portable_nats.escaping import written_attributes
from portable_nats.jetstream import JetStream, Message, nanoseconds
from portable_nats.leases import ID, SENT, Lease, delivery, held_for
from portable_nats.options import NatsOptions, checked_name

__all__ = ["CONSUMER", "OVERHEAD", "NatsQueue", "consumer_config", "stream_config"]

OVERHEAD = 1024
"""Bytes for the headers that are ours and JetStream's."""

LARGEST_BATCH = 1000
LARGEST_RECEIVE = 256
REMEMBERED = 300
"""Seconds that the id of a message which must not be repeated is remembered."""

SETTLED_WITHIN = 2.0
"""Seconds in which a delivery of an earlier connection is answered: a restarted server may know nothing of it."""

CONSUMER = "portable"


class NatsQueue:
    """Satisfies `portable.aio.drivers.WaitingQueueDriver`."""

    Options = NatsOptions
    is_async = True
    # The server itself is waited on.
    arrivals = None
    buries = False
    send_concurrency = 4

    def __init__(self, binding: Binding[Any]) -> None:
        contract: Any = binding.contract
        self._contract: QueueContract = contract
        self.binding = binding
        name = checked_name(binding.name)
        self._js = JetStream(binding)
        self._stream = f"portable-queue-{name}"
        self._consumer = CONSUMER
        # Where what is sent goes: at once, later; and where what must not be repeated is remembered.
        self._ready = f"portable.queue.{name}"
        self._later = f"{self._ready}.later"
        self._seen = f"{self._ready}.seen"
        # As long as leases of the consumer last by themselves.
        self._ack_wait = 0.0
        self.capabilities = QueueCapabilities(
            durability="replicated" if binding.options.replicas > 1 else "process",
            exclusive_lease=True,
            exact_count=True,
            delay=True,
            nack_delay=True,
            lease_per_receive=True,
            dedup=True,
            purge=True,
            max_body_bytes=binding.options.max_payload - OVERHEAD,
            max_batch=LARGEST_BATCH,
            max_receive=LARGEST_RECEIVE,
        )

    @property
    def native(self) -> Any:
        """The client of nats-py."""
        return self._js.client

    async def open(self) -> None:
        """Connect, and find the queue, or make it where the binding says so."""
        await self._js.open()
        missing = await self._missing()
        if missing and self.binding.create:
            await self.create()
        elif missing:
            change = missing[0]
            raise ResourceNotFound(
                f"the server has no {change.what} {change.name!r}; make it with `portable resources create`"
            )
        await self._find(self._usual)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._js.close()

    async def check(self, *, write: bool, timeout: float) -> None:
        """Look the queue up; with `write`, write something that is gone in a second."""
        await self._find(timeout)
        if write:
            check = Message(f"{self._seen}.check", b"", {"Nats-TTL": "1s"})
            await self._js.publish_each(self._stream, [check], timeout=timeout)

    async def plan(self) -> list[Change]:
        """Say what would be made."""
        await self._js.open()
        return await self._missing()

    async def create(self) -> None:
        """Make the queue and its dead-letter queue."""
        await self._js.open()
        await self._make()
        if self._has_dead:
            dead = NatsQueue(dead_letter_binding(self.binding))
            try:
                await dead.create()
            finally:
                await dead.close()

    async def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Store messages, those first that no `dedup_id` sets apart."""
        answers: list[str | PortableError] = [""] * len(messages)
        batch: list[tuple[int, str, Message]] = []
        once: list[tuple[int, str, Message, str]] = []
        for index, outgoing in enumerate(messages):
            known, message = await self._composed(outgoing, timeout)
            if (error := self._js.refuse_larger(message)) is not None:
                answers[index] = error
            elif outgoing.dedup_id is None:
                batch.append((index, known, message))
            else:
                once.append((index, known, message, outgoing.dedup_id))
        if batch:
            composed = [message for _, _, message in batch]
            stored = await self._js.publish_each(self._stream, composed, timeout=timeout)
            for (index, known, _), answer in zip(batch, stored, strict=True):
                answers[index] = answer if isinstance(answer, PortableError) else known or str(answer)
        # One behind the other: a batch may hold the same twice.
        for index, known, message, dedup_id in once:
            answers[index] = await self._sent_once(known, message, dedup_id, timeout)
        return answers

    async def receive(self, max_messages: int, *, visibility: float, timeout: float) -> list[Delivery]:
        """Lease what is ready."""
        return await self._lease(max_messages, visibility, 0.0, timeout)

    async def wait_receive(
        self, max_messages: int, *, visibility: float, wait: float, timeout: float
    ) -> list[Delivery]:
        """Lease what is ready; when nothing is, wait at the server for the first."""
        deadline = monotonic() + wait
        while True:
            left = deadline - monotonic()
            given = await self._lease(max_messages, visibility, max(0.0, left), timeout)
            if given or deadline <= monotonic():
                return given

    async def next_due(self, *, timeout: float) -> float | None:
        """Say when a message can be received; nobody asks, for the server is waited on."""
        counted = await self.stats(timeout=timeout)
        return 0.0 if counted.ready else None

    async def ack(self, deliveries: Sequence[Delivery], *, timeout: float) -> list[PortableError | None]:
        """Remove messages."""
        return await self._settle(deliveries, b"+ACK", timeout)

    async def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:
        """Give messages back, but for those whose lease has run out: they are back already."""
        given = [one for one in deliveries if one.receipt.runs()]
        if given:
            await self._settle(given, held_for(delay), timeout)

    async def extend(
        self, deliveries: Sequence[Delivery], *, seconds: float, timeout: float
    ) -> list[PortableError | None]:
        """Hold messages for longer, but for those whose lease has run out."""
        for one in deliveries:
            one.receipt.lost = not one.receipt.runs()
        until = monotonic() + seconds
        answers = await self._settle(deliveries, held_for(seconds), timeout)
        for one, answer in zip(deliveries, answers, strict=True):
            if answer is None:
                one.receipt.until = until
        return answers

    async def stats(self, *, timeout: float) -> QueueStats:
        """Count messages; those that were given back count as leased until they are received again."""
        found = await self._find(timeout)
        delayed = await self._js.read(self._stream, f"{self._later}.*", 1, timeout=timeout, seq=1)
        return QueueStats(
            ready=found["num_pending"],
            leased=found["num_ack_pending"],
            delayed=delayed[0].behind + 1 if delayed else 0,
        )

    async def purge(self, *, timeout: float) -> None:
        """Remove every message."""
        for subject in (self._ready, f"{self._later}.*"):
            await self._js.purge(self._stream, subject, timeout=timeout)

    async def peek(self, max_messages: int, *, timeout: float) -> list[Delivery]:
        """Nobody asks: JetStream does not say which of its messages are leased."""
        raise NotImplementedError

    def _wants(self, given: Delivery) -> bool:  # noqa: ARG002 (that of a subscription looks at it)
        """Whether a message is for this queue."""
        return True

    async def _lease(self, count: int, visibility: float, wait: float, timeout: float) -> list[Delivery]:
        messages = await self._js.pull(self._stream, self._consumer, count, wait=wait, timeout=timeout)
        if not messages:
            return []
        connection = self._js.connection
        try:
            given: list[Delivery] = []
            told: list[Message] = []
            for message in messages:
                one = delivery(message, visibility, connection.generation)
                if not self._wants(one):
                    told.append(Message(message.reply, b"+ACK"))
                    continue
                given.append(one)
                if visibility != self._ack_wait:
                    told.append(Message(message.reply, held_for(visibility)))
            if told:
                await connection.tell(told, timeout=timeout)
        except BaseException:
            connection.give_back(messages)
            raise
        return given

    async def _settle(
        self, deliveries: Sequence[Delivery], answer: bytes, timeout: float
    ) -> list[PortableError | None]:
        """Answer to deliveries; the server takes the answers in order, and says so after the last."""
        generation = self._js.connection.generation
        answers: list[PortableError | None] = [None] * len(deliveries)
        current: list[int] = []
        earlier: list[int] = []
        for index, one in enumerate(deliveries):
            lease: Lease = one.receipt
            if lease.lost:
                answers[index] = _lost(one)
            elif lease.generation == generation:
                current.append(index)
            else:
                earlier.append(index)
        if current:
            settled = [Message(deliveries[index].receipt.reply, answer) for index in current]
            try:
                await self._js.request(self._stream, settled, timeout=timeout)
            except Unavailable as error:
                if not error.maybe_applied:
                    raise
                earlier += current
        if earlier:
            outcomes = await asyncio.gather(*(self._settle_late(deliveries[one], answer, timeout) for one in earlier))
            for index, outcome in zip(earlier, outcomes, strict=True):
                answers[index] = outcome
        return answers

    async def _settle_late(self, one: Delivery, answer: bytes, timeout: float) -> PortableError | None:
        try:
            settled = [Message(one.receipt.reply, answer)]
            await self._js.request(self._stream, settled, timeout=min(timeout, SETTLED_WITHIN), again=True)
        except DeadlineExceeded:
            # What a restarted server does not remember having delivered it delivers again.
            one.receipt.lost = True
            return _lost(one)
        return None

    async def _composed(self, outgoing: Outgoing, timeout: float) -> tuple[str, Message]:
        """Give a message, and its id where that is not its sequence."""
        headers = written_attributes(outgoing.attributes)
        if outgoing.dedup_id is None and not outgoing.delay:
            return "", Message(self._ready, outgoing.body, headers)
        known = uuid.uuid4().hex
        headers = {**(headers or {}), ID: known}
        if not outgoing.delay:
            return known, Message(self._ready, outgoing.body, headers)
        now = await self._js.fresh(self._stream, timeout=timeout)
        due = datetime.fromtimestamp(math.ceil((now + outgoing.delay) * 1000) / 1000, UTC)
        headers |= {
            SENT: str(round(now * 1000)),
            "Nats-Schedule": f"@at {due.isoformat(timespec='milliseconds').replace('+00:00', 'Z')}",
            "Nats-Schedule-Target": self._ready,
        }
        return known, Message(f"{self._later}.{known}", outgoing.body, headers)

    async def _sent_once(self, known: str, message: Message, dedup_id: str, timeout: float) -> str | PortableError:
        """Store a message together with the note that it was, if there is no such note yet."""
        subject = f"{self._seen}.{hashlib.sha256(dedup_id.encode()).hexdigest()}"
        note = {"Nats-TTL": f"{REMEMBERED}s", "Nats-Expected-Last-Subject-Sequence": "0"}
        try:
            while True:
                try:
                    await self._js.publish(
                        self._stream, [Message(subject, known.encode(), note), message], timeout=timeout
                    )
                except ApiError as error:
                    if error.number not in WRONG_LAST:
                        raise refused(error) from error
                else:
                    return known
                first = await self._js.last(
                    self._stream, subject, timeout=timeout, replicas=self.binding.options.replicas
                )
                # One that is gone by now was five minutes old.
                if first is not None:
                    return first.data.decode()
        except PortableError as error:
            return error

    @property
    def _has_dead(self) -> bool:
        return self._contract.dead_letter is None and self._contract.max_deliveries < NEVER

    @property
    def _usual(self) -> float:
        return float(self._contract.timeout)

    async def _missing(self) -> list[Change]:
        timeout = self._usual
        name = self.binding.name
        changes: list[Change] = []
        if await self._js.consumer(self._stream, self._consumer, timeout=timeout) is None:
            changes.append(Change("create", self.binding.kind, name))
        if self._has_dead:
            dead = dead_letter_binding(self.binding).name
            if await self._js.consumer(f"portable-queue-{dead}", CONSUMER, timeout=timeout) is None:
                changes.append(Change("create", "dead-letter queue", dead))
        return changes

    async def _make(self) -> None:
        subjects = [self._ready, f"{self._later}.*", f"{self._seen}.*"]
        config = stream_config(self._stream, subjects, "workqueue", self.binding.options)
        await self._js.make_stream(config, timeout=self._usual)
        consumer = consumer_config(self._consumer, [self._ready], "all", float(self._contract.visibility_timeout))
        await self._js.make_consumer(self._stream, consumer, timeout=self._usual)

    async def _find(self, timeout: float) -> Any:
        """Describe the consumer, which has what the queue has."""
        found = await self._js.consumer(self._stream, self._consumer, timeout=timeout)
        if found is None:
            raise ResourceNotFound(
                f"the server has no {self.binding.kind} {self.binding.name!r}; make it with `portable resources create`"
            )
        self._ack_wait = found["config"]["ack_wait"] / 1_000_000_000
        return found


def _lost(one: Delivery) -> LeaseLost:
    return LeaseLost(f"the lease of message {one.id} ran out, and the message went on without it")


def stream_config(name: str, subjects: Sequence[str], retention: str, options: NatsOptions) -> Mapping[str, Any]:
    """Give the config of a stream of messages."""
    return {
        "name": name,
        "subjects": list(subjects),
        "retention": retention,
        "storage": "file",
        "num_replicas": options.replicas,
        "allow_direct": True,
        "allow_msg_ttl": True,
        "allow_msg_schedules": True,
        "allow_atomic": True,
    }


def consumer_config(name: str, subjects: Sequence[str], start: str, ack_wait: float) -> Mapping[str, Any]:
    """Give the config of a consumer that receivers share."""
    return {
        "durable_name": name,
        "filter_subjects": list(subjects),
        "deliver_policy": start,
        "ack_policy": "explicit",
        "ack_wait": nanoseconds(ack_wait),
        "max_deliver": -1,
        # Any number may be leased, given back with a delay, and waited for.
        "max_ack_pending": -1,
        "max_waiting": 1_000_000,
    }
