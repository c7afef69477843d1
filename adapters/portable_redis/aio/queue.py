"""Queues on Redis: sorted sets by when a message is due, changed by scripts in one step.

`docs/wire-formats/redis.md` names the keys. Streams with consumer groups would know neither delays nor leases of
different lengths, nor who of several deliveries holds a message.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from time import monotonic
from typing import Any

import msgspec

from portable.bindings import Binding
from portable.capabilities import QueueCapabilities
from portable.changes import Change
from portable.contracts import QueueContract
from portable.dead_letters import NEVER
from portable.errors import LeaseLost, PortableError, ResourceNotFound
from portable.messages import Delivery, Outgoing, QueueStats
from portable.wire import dead_letter_attributes, dead_letter_name
from portable_redis.aio._concurrency import IS_ASYNC, Undoing, async_twin
from portable_redis.aio.server import Server
from portable_redis.keys import Ids, queue_base
from portable_redis.options import RedisOptions
from portable_redis.scripts import Script

__all__ = ["LARGEST", "LARGEST_BATCH", "RedisQueue", "outgoing", "send_script"]

LARGEST = 500_000_000
"""Bytes of a body: a little less than what a string of Redis takes."""

LARGEST_BATCH = 1000
PURGED_AT_ONCE = 1000

_RECEIVE = Script("receive", after="queue")
_ACK = Script("ack", after="queue")
_NACK = Script("nack", after="queue")
_EXTEND = Script("extend", after="queue")
_BURY = Script("bury", after="queue")
_PEEK = Script("peek", after="queue")
_STATS = Script("stats", after="queue")
_PURGE = Script("purge", after="queue")
_MAKE = Script("make_queue", after="queue")
_FACTS = Script("queue_facts")
send_script = Script("send", after="queue")
"""What adds messages to a queue, from wherever they come."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode
_ids = Ids()


class RedisQueue:
    """Satisfies `portable.drivers.WaitingQueueDriver` and `BuryingQueueDriver`."""

    Options = RedisOptions
    is_async = IS_ASYNC
    async_twin = async_twin
    # The server itself is waited on.
    arrivals = None
    # Scripts run one after the other.
    send_concurrency = 1

    def __init__(self, binding: Binding[Any]) -> None:
        contract: Any = binding.contract
        self._contract: QueueContract = contract
        self.binding = binding
        self._server = Server(binding)
        self._base = queue_base(binding.name)
        self._dead = queue_base(dead_letter_name(binding.name))
        self._both = (self._base, self._dead)
        self._undoing = Undoing()
        # A dead-letter queue that the contract names may live elsewhere.
        self.buries = self._contract.dead_letter is None
        self._max_deliveries = self._contract.max_deliveries if self.buries else NEVER
        self._exhausted = self._letter(f"delivered {self._max_deliveries} times without an ack")
        self.capabilities = QueueCapabilities(
            durability=self._server.durability,
            exclusive_lease=True,
            exact_count=True,
            delay=True,
            nack_delay=True,
            lease_per_receive=True,
            ordered=True,
            dedup=True,
            purge=True,
            peek=True,
            max_body_bytes=LARGEST,
            max_batch=LARGEST_BATCH,
            max_receive=LARGEST_BATCH,
        )

    @property
    def native(self) -> Any:
        """The client of redis-py."""
        return self._server.client

    async def open(self) -> None:
        """Connect, and find the queue, or make it where the binding says so."""
        await self._server.open()
        self.capabilities = msgspec.structs.replace(self.capabilities, durability=self._server.durability)
        missing = await self._missing()
        if missing and self.binding.create:
            await self.create()
        elif missing:
            change = missing[0]
            raise ResourceNotFound(
                f"the server has no {change.what} {change.name!r}{change.detail and ' that is '}{change.detail}; "
                "make it with `portable resources create`"
            )

    async def close(self) -> None:
        """Let go of the connections."""
        await self._undoing.settle()
        await self._server.close()

    async def check(self, *, write: bool, timeout: float) -> None:
        """Look the queue up; with `write`, write something that is gone at once."""
        await self._server.run(_FACTS, self._both, timeout=timeout, again=True)
        if write:
            await self._server.call("SET", f"{self._base}:check", "1", "PX", 1, timeout=timeout, again=True)

    async def plan(self) -> list[Change]:
        """Say what would be made or changed."""
        await self._server.open()
        return await self._missing()

    async def create(self) -> None:
        """Make the queue and its dead-letter queue."""
        await self._server.open()
        timeout = float(self._contract.timeout)
        if self._has_dead:
            await self._server.run(_MAKE, (self._dead,), "0", "", "", timeout=timeout, again=True)
        await self._server.run(
            _MAKE, (self._base,), "1" if self._contract.ordered else "0", *self._feed(), timeout=timeout, again=True
        )

    async def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Add messages, all of them or none."""
        arguments: list[Any] = []
        for message in messages:
            delay = math.ceil(message.delay * 1000) if message.delay else 0
            arguments += (*outgoing(message), delay, message.dedup_id or "")
        ids = await self._server.run(send_script, (self._base,), *arguments, timeout=timeout, again=True)
        return [known.decode() for known in ids]

    async def receive(self, max_messages: int, *, visibility: float, timeout: float) -> list[Delivery]:
        """Lease what is ready, in one step."""
        given, *_ = await self._undoing.guard(self._lease(max_messages, visibility, timeout), self._give_back)
        return [_delivery(entry) for entry in given]

    async def wait_receive(
        self, max_messages: int, *, visibility: float, wait: float, timeout: float
    ) -> list[Delivery]:
        """Lease what is ready; when nothing is, block at the server until there are news or a message is due."""
        deadline = monotonic() + wait
        while True:
            answer = await self._undoing.guard(self._lease(max_messages, visibility, timeout), self._give_back)
            left = deadline - monotonic()
            if answer[0] or left <= 0:
                return [_delivery(entry) for entry in answer[0]]
            _, news, due = answer
            if due >= 0:
                # The clocks tick at the milliseconds: what is due in none is due in the next.
                left = min(left, (due + 1) / 1000)
            await self._server.news(f"{self._base}:news", news.decode(), left)

    async def next_due(self, *, timeout: float) -> float | None:
        """Say when a message can be received; nobody asks, for the server is waited on."""
        seen = await self.peek(1, timeout=timeout)
        return 0.0 if seen else None

    async def ack(self, deliveries: Sequence[Delivery], *, timeout: float) -> list[PortableError | None]:
        """Remove messages."""
        answers = await self._server.run(_ACK, (self._base,), *_receipts(deliveries), timeout=timeout)
        return _lost(deliveries, answers)

    async def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:
        """Give messages back, or bury those that have used up their deliveries."""
        arguments = (math.ceil(delay * 1000), "0", self._max_deliveries, self._exhausted, *_receipts(deliveries))
        await self._server.run(_NACK, self._both, *arguments, timeout=timeout, again=True)

    async def extend(
        self, deliveries: Sequence[Delivery], *, seconds: float, timeout: float
    ) -> list[PortableError | None]:
        """Hold messages for longer."""
        arguments = (math.ceil(seconds * 1000), *_receipts(deliveries))
        answers = await self._server.run(_EXTEND, (self._base,), *arguments, timeout=timeout, again=True)
        return _lost(deliveries, answers)

    async def bury(self, deliveries: Sequence[Delivery], *, reason: str, timeout: float) -> list[PortableError | None]:
        """Move messages to the dead-letter queue."""
        arguments = (self._letter(reason), *_receipts(deliveries))
        return _lost(deliveries, await self._server.run(_BURY, self._both, *arguments, timeout=timeout))

    async def stats(self, *, timeout: float) -> QueueStats:
        """Count messages."""
        ready, leased, delayed = await self._server.run(_STATS, (self._base,), timeout=timeout, again=True)
        return QueueStats(ready=ready, leased=leased, delayed=delayed)

    async def purge(self, *, timeout: float) -> None:
        """Remove every message that was there when this began, many at once."""
        deadline = monotonic() + timeout
        ready, leased, delayed = await self._server.run(_STATS, (self._base,), timeout=timeout, again=True)
        left = ready + leased + delayed
        while left > 0:
            gone = await self._server.run(
                _PURGE,
                (self._base,),
                min(left, PURGED_AT_ONCE),
                timeout=max(0.001, deadline - monotonic()),
                again=True,
            )
            left = left - gone if gone else 0

    async def peek(self, max_messages: int, *, timeout: float) -> list[Delivery]:
        """Look at what would be received."""
        seen = await self._server.run(_PEEK, (self._base,), max_messages, timeout=timeout, again=True)
        return [_delivery(entry) for entry in seen]

    async def _lease(self, max_messages: int, visibility: float, timeout: float) -> Any:
        # A lease whose answer was lost ends by itself; the repeated call leases others.
        return await self._server.run(
            _RECEIVE,
            self._both,
            max_messages,
            math.ceil(visibility * 1000),
            self._max_deliveries,
            self._exhausted,
            timeout=timeout,
            again=True,
        )

    async def _give_back(self, answer: Any) -> None:
        """Make undone what nobody got: it does not count as a delivery."""
        receipts = [part for entry in answer[0] for part in entry[:2]]
        if receipts:
            arguments = (0, "1", self._max_deliveries, self._exhausted, *receipts)
            await self._server.run(_NACK, self._both, *arguments, timeout=float(self._contract.timeout), again=True)

    def _letter(self, reason: str) -> bytes:
        """Give the attributes that a message has besides its own once it is dead; the script adds its id."""
        return _encode(dead_letter_attributes({}, queue=self.binding.resource, id="", reason=reason))

    @property
    def _has_dead(self) -> bool:
        return self.buries and self._max_deliveries < NEVER

    def _feed(self) -> tuple[str, str]:
        """Give topic and filter, of a subscription."""
        return "", ""

    async def _missing(self) -> list[Change]:
        timeout = float(self._contract.timeout)
        ordered, topic, wanted, dead = await self._server.run(_FACTS, self._both, timeout=timeout, again=True)
        name = self.binding.name
        changes: list[Change] = []
        if ordered is None:
            changes.append(Change("create", self.binding.kind, name))
        elif (ordered == b"1") != self._contract.ordered:
            detail = "messages of a key one at a time" if self._contract.ordered else "without order"
            changes.append(Change("change", self.binding.kind, name, detail))
        elif self._feed() != (_text(topic), _text(wanted)):
            detail = f"fed by {self._feed()[0]!r}, filter as declared"
            changes.append(Change("change", self.binding.kind, name, detail))
        if self._has_dead and not dead:
            changes.append(Change("create", "dead-letter queue", dead_letter_name(name)))
        return changes


def outgoing(message: Outgoing) -> tuple[Any, ...]:
    """Give id, body, attributes and ordering key of a message, as the scripts take them."""
    attributes = _encode(message.attributes) if message.attributes else b""
    return _ids.next(), message.body, attributes, message.ordering_key or ""


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode()


def _receipts(deliveries: Sequence[Delivery]) -> Iterator[Any]:
    for delivery in deliveries:
        yield delivery.id
        yield delivery.receipt


def _lost(deliveries: Sequence[Delivery], answers: Sequence[int]) -> list[PortableError | None]:
    return [
        None if answer else LeaseLost(f"the lease of message {delivery.id} ran out, and the message went on without it")
        for delivery, answer in zip(deliveries, answers, strict=True)
    ]


def _delivery(entry: Sequence[Any]) -> Delivery:
    known, count, sent, key, attributes, body = entry
    return Delivery(
        id=known.decode(),
        receipt=int(count),
        body=body,
        attributes=_decode(attributes) if attributes else {},
        count=int(count),
        sent_at=int(sent) / 1000,
        ordering_key=None if key is None else key.decode(),
    )
