"""Queues in an SQLite file, which any number of processes may share."""

from __future__ import annotations

import contextlib
import math
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from portable.bindings import Binding
from portable.bridges import undone_by
from portable.capabilities import QueueCapabilities
from portable.changes import Change
from portable.contracts import QueueContract
from portable.dead_letters import NEVER
from portable.drivers import Options as DriverOptions
from portable.errors import Closed, LeaseLost, PortableError, ResourceNotFound, Unavailable
from portable.messages import Delivery, Outgoing, QueueStats
from portable.news import Channel
from portable.wire import dead_letter_attributes, dead_letter_name
from portable_embedded import queue_layout
from portable_embedded.attribute_text import decode_attributes, encode_attributes
from portable_embedded.queue_layout import BLOCKED
from portable_embedded.store import Durability, Store

__all__ = ["Options", "SqliteQueue"]

T = TypeVar("T")


DEDUP_MILLISECONDS = 300_000
ATTEMPTS = 8

CLOCK_SLACK = 1000
"""How far the clock may go back, in milliseconds, before anybody cares."""


class Options(DriverOptions, frozen=True, kw_only=True):
    """`sqlite:PATH` keeps queues in an SQLite file, which other kinds and any number of processes may share.

    Attributes:
        durability: `"power"` (a message is on the disk once it is sent, and gone from it once it is acknowledged; a
            lease is not, which a power cut ends with its holder) or `"process"` (all survives SIGKILL, no power cut).
    """

    durability: Durability = "power"


class _Lease(msgspec.Struct, gc=False):
    """What settles one delivery. `due` moves when the lease is extended."""

    id: int
    due: int
    count: int


class _Missed(Exception):  # noqa: N818 (it never leaves this module)
    """A statement for many did not find all of them."""


class SqliteQueue:
    """A queue in an SQLite file."""

    Options = Options
    send_concurrency = 1

    def __init__(self, binding: Binding[Any]) -> None:
        contract: Any = binding.contract
        self._contract: QueueContract = contract
        self._binding = binding
        self._path = Path(binding.url.path)
        self._durability: Durability = binding.options.durability
        self._clock = binding.clock
        self._channel = queue_layout.channel(binding.name)
        self._open_store: Store | None = None
        self._arrivals: Channel | None = None
        # The latest time that this driver has seen.
        self._latest = 0
        self._queue = 0
        self._dead = 0
        # A dead-letter queue that the contract names may live elsewhere.
        self.buries = self._contract.dead_letter is None
        self._max_deliveries = self._contract.max_deliveries if self.buries else NEVER
        self._ordered = self._contract.ordered
        self.capabilities = QueueCapabilities(
            durability=self._durability,
            exclusive_lease=True,
            exact_count=True,
            delay=True,
            nack_delay=True,
            lease_per_receive=True,
            ordered=True,
            dedup=True,
            purge=True,
            peek=True,
            # SQLite takes no value of a gigabyte.
            max_body_bytes=900_000_000,
            max_batch=1000,
            max_receive=1000,
        )

    # Opening

    @property
    def native(self) -> Store:
        """The store, whose `read` and `write` hand over an `sqlite3.Connection`."""
        return self._store

    @property
    def arrivals(self) -> Channel | None:
        """News of messages."""
        return self._arrivals

    def open(self) -> None:
        """Open the file; make what is missing where the binding says so."""
        if self._open_store is not None:
            return
        store = Store.open(
            self._path, durability=self._durability, schema=queue_layout.SCHEMA, create=self._binding.create
        )
        try:
            if self._binding.create and not self._is_complete(store):
                store.write(self._make)
            self._find(store)
        except BaseException:
            store.close()
            raise
        self._arrivals = Channel(store.news, self._channel)
        if self._binding.on_clock_moved is not None:
            self._binding.on_clock_moved(self._arrivals.notify)
        self._open_store = store
        now = self._now()
        self._unhide(queue_layout.HIDDEN_NEW, queue_layout.UNHIDE_NEW, (self._queue, now))

    def close(self) -> None:
        """Let go of the file."""
        store, self._open_store = self._open_store, None
        if store is not None:
            store.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Look the queue up; with `write`, take the lock for writing too."""
        self.open()
        self._find(self._store)
        if write:
            self._store.write(lambda _: None, timeout=timeout)

    def plan(self) -> list[Change]:
        """Say which queues would be made, and what would change."""
        try:
            with self._borrowed(create=False) as store:
                return self._missing(store)
        except ResourceNotFound:
            return [Change("create", what, name, f"in {self._path}") for name, what in self._wanted().items()]

    def create(self) -> None:
        """Make the queue and its dead-letter queue."""
        with self._borrowed(create=True) as store:
            store.write(self._make)

    # Messages

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Add messages, in one transaction."""
        now = self._now()
        if len(messages) == 1:
            message = messages[0]
            if message.dedup_id is None and (message.ordering_key is None or not self._ordered):
                try:
                    return [self._send_one(message, now, timeout)]
                except sqlite3.IntegrityError:
                    # Two processes can come up with the same number in the same millisecond; the next one is another.
                    pass
        for _ in range(ATTEMPTS):
            with contextlib.suppress(sqlite3.IntegrityError):
                return self._store.write(
                    lambda connection: self._add(connection, messages, now), notify=self._channel, timeout=timeout
                )
        raise Unavailable("every number for the message was taken; try again")

    def _send_one(self, message: Outgoing, now: int, timeout: float) -> str:
        number = next(queue_layout.ids.next)
        due = now + math.ceil(message.delay * 1000) if message.delay else now
        attributes = encode_attributes(message.attributes) if message.attributes else None
        row = (self._queue, due, number, now, message.ordering_key, attributes, message.body)
        self._store.execute(queue_layout.INSERT, row, notify=self._channel, timeout=timeout)
        return str(number)

    def _add(self, connection: sqlite3.Connection, messages: Sequence[Outgoing], now: int) -> list[str | PortableError]:
        ids: list[str | PortableError] = []
        rows: list[tuple[object, ...]] = []
        for message in messages:
            if message.dedup_id is not None:
                first = self._first_of(connection, message.dedup_id, now)
                if first is not None:
                    ids.append(first)
                    continue
            number = next(queue_layout.ids.next)
            due = now + math.ceil(message.delay * 1000) if message.delay else now
            attributes = encode_attributes(message.attributes) if message.attributes else None
            row = (self._queue, due, number, now, message.ordering_key, attributes, message.body)
            if message.ordering_key is not None and self._ordered:
                number = line_up(connection, row)
            else:
                rows.append(row)
            if message.dedup_id is not None:
                connection.execute(
                    "INSERT OR REPLACE INTO queue_dedup VALUES (?, ?, ?, ?)",
                    (self._queue, message.dedup_id, number, now + DEDUP_MILLISECONDS),
                )
            ids.append(str(number))
        if rows:
            connection.executemany(queue_layout.INSERT, rows)
        return ids

    def _first_of(self, connection: sqlite3.Connection, dedup_id: str, now: int) -> str | None:
        connection.execute("DELETE FROM queue_dedup WHERE queue = ? AND expires <= ?", (self._queue, now))
        known = connection.execute(
            "SELECT message FROM queue_dedup WHERE queue = ? AND dedup_id = ?", (self._queue, dedup_id)
        ).fetchone()
        return None if known is None else str(known[0])

    def _unlease(self, deliveries: list[Delivery]) -> None:
        now = self._now()
        rows: list[tuple[int, ...]] = [(now, *self._key(delivery)) for delivery in deliveries]
        # What cannot be given back comes back when its lease ends.
        with contextlib.suppress(PortableError):
            self._change_many(queue_layout.UNLEASE, rows, float(self._contract.timeout))

    @undone_by(_unlease)
    def receive(self, max_messages: int, *, visibility: float, timeout: float) -> list[Delivery]:
        """Lease what is ready, in one statement.

        A lease is not synced: a power cut that undoes it has ended its holder, which is on this machine, too.
        """
        while True:
            now = self._now()
            due = now + math.ceil(visibility * 1000)
            parameters: tuple[int, ...] = (self._queue, now, due)
            sql = queue_layout.LEASE_ONE
            if max_messages != 1:
                sql, parameters = queue_layout.LEASE, (*parameters, max_messages)
            rows = self._store.execute(sql, parameters, timeout=timeout, synced=False)
            if not rows:
                return []
            given = [_delivery(row, due) for row in rows]
            exhausted = [delivery for delivery in given if delivery.count > self._max_deliveries]
            if not exhausted:
                return given
            given = [delivery for delivery in given if delivery.count <= self._max_deliveries]
            try:
                self.bury(exhausted, reason=self._exhausted(), timeout=timeout)
            except BaseException:
                self._unlease(given)
                raise
            if given:
                return given

    def next_due(self, *, timeout: float) -> float | None:
        """Look when the next message is due."""
        rows = self._store.fetch(queue_layout.DUE, (self._queue,), timeout=timeout)
        if not rows or rows[0][0] == BLOCKED:
            return None
        due: int = rows[0][0]
        return max(0.0, (due - self._now()) / 1000)

    def ack(self, deliveries: Sequence[Delivery], *, timeout: float) -> list[PortableError | None]:
        """Remove messages."""
        if len(deliveries) == 1 and (deliveries[0].ordering_key is None or not self._ordered):
            if self._store.execute(queue_layout.ACK_ONE, self._key(deliveries[0]), timeout=timeout):
                return [None]
        elif not self._ordered and self._all_at_once(queue_layout.ACK, [self._key(one) for one in deliveries], timeout):
            return [None] * len(deliveries)

        def remove(connection: sqlite3.Connection, delivery: Delivery) -> bool:
            return connection.execute(queue_layout.ACK, self._key(delivery)).rowcount == 1

        return self._each(deliveries, remove, timeout, frees_key=True)

    def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:
        """Give messages back, or bury those that have used up their deliveries."""
        exhausted = [delivery for delivery in deliveries if delivery.count >= self._max_deliveries]
        if exhausted:
            self.bury(exhausted, reason=self._exhausted(), timeout=timeout)
        due = self._now() + math.ceil(delay * 1000)
        kept = [delivery for delivery in deliveries if delivery.count < self._max_deliveries]

        def give_back(connection: sqlite3.Connection, delivery: Delivery) -> bool:
            return connection.execute(queue_layout.NACK, (due, *self._key(delivery))).rowcount == 1

        if kept:
            # What is no longer held comes back without it.
            self._each(kept, give_back, timeout, news=True)

    def extend(self, deliveries: Sequence[Delivery], *, seconds: float, timeout: float) -> list[PortableError | None]:
        """Hold messages for longer."""
        due = self._now() + math.ceil(seconds * 1000)

        def move(connection: sqlite3.Connection, delivery: Delivery) -> bool:
            return connection.execute(queue_layout.EXTEND, (due, *self._key(delivery))).rowcount == 1

        answers = self._each(deliveries, move, timeout)
        for delivery, answer in zip(deliveries, answers, strict=True):
            if answer is None:
                delivery.receipt.due = due
        return answers

    def bury(self, deliveries: Sequence[Delivery], *, reason: str, timeout: float) -> list[PortableError | None]:
        """Move messages to the dead-letter queue."""
        now = self._now()
        name = self._binding.resource

        def move(connection: sqlite3.Connection, delivery: Delivery) -> bool:
            attributes = dead_letter_attributes(delivery.attributes, queue=name, id=delivery.id, reason=reason)
            row = (self._dead, now, encode_attributes(attributes), *self._key(delivery))
            return connection.execute(queue_layout.BURY, row).rowcount == 1

        answers = self._each(deliveries, move, timeout, frees_key=True)
        self._store.news.notify(queue_layout.channel(dead_letter_name(self._binding.name)))
        return answers

    def stats(self, *, timeout: float) -> QueueStats:
        """Count messages."""
        now = self._now()
        ((total, leased, delayed),) = self._store.fetch(
            queue_layout.STATS, (self._queue, now, BLOCKED), timeout=timeout
        )
        return QueueStats(ready=total - leased - delayed, leased=leased, delayed=delayed)

    def purge(self, *, timeout: float) -> None:
        """Remove every message."""
        self._store.execute("DELETE FROM queue_message WHERE queue = ?", (self._queue,), timeout=timeout)

    def peek(self, max_messages: int, *, timeout: float) -> list[Delivery]:
        """Look at what would be received."""
        now = self._now()
        rows = self._store.fetch(queue_layout.PEEK, (self._queue, now, max_messages), timeout=timeout)
        return [_delivery(row, now) for row in rows]

    # Time

    def _now(self) -> int:
        now = int(self._clock() * 1000)
        if now >= self._latest:
            self._latest = now
        elif now < self._latest - CLOCK_SLACK:
            latest, self._latest = self._latest, now
            self._unhide(queue_layout.HIDDEN_BEFORE, queue_layout.UNHIDE_BEFORE, (self._queue, now, latest))
        return now

    def _unhide(self, hidden: str, unhide: str, numbers: tuple[int, ...]) -> None:
        """Make ready what was ready before the clock was set back; it would be hidden until the clock is there again.

        Leases and delays are left alone: to end one early would deliver twice.
        """
        if self._open_store is not None and self._store.fetch(hidden, numbers):
            self._store.execute(unhide, numbers, notify=self._channel)

    # Settling

    def _key(self, delivery: Delivery) -> tuple[int, int, int, int]:
        lease: _Lease = delivery.receipt
        return (self._queue, lease.due, lease.id, lease.count)

    def _change_many(self, sql: str, rows: list[tuple[int, ...]], timeout: float) -> None:
        """Run a statement for many, of which some may no longer be there."""

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(sql, rows)

        self._store.write(work, notify=self._channel, timeout=timeout)

    def _all_at_once(self, sql: str, rows: list[tuple[int, ...]], timeout: float) -> bool:
        """Run a statement for many; if one of them is not there, none is changed."""

        def work(connection: sqlite3.Connection) -> None:
            if connection.executemany(sql, rows).rowcount != len(rows):
                raise _Missed

        try:
            self._store.write(work, timeout=timeout)
        except _Missed:
            return False
        return True

    def _each(
        self,
        deliveries: Sequence[Delivery],
        change: Callable[[sqlite3.Connection, Delivery], bool],
        timeout: float,
        *,
        frees_key: bool = False,
        news: bool = False,
    ) -> list[PortableError | None]:
        """Change each message that is still held, in one transaction; the rest is `LeaseLost`."""
        now = self._now()

        def work(connection: sqlite3.Connection) -> list[PortableError | None]:
            answers: list[PortableError | None] = []
            for delivery in deliveries:
                if not change(connection, delivery) and not (
                    self._catch_up(connection, delivery) and change(connection, delivery)
                ):
                    text = f"the lease of message {delivery.id} ran out, and the message went on without it"
                    answers.append(LeaseLost(text))
                    continue
                if frees_key and self._ordered and delivery.ordering_key is not None:
                    connection.execute(queue_layout.UNBLOCK, (self._queue, delivery.ordering_key, now, BLOCKED))
                answers.append(None)
            return answers

        news = news or (frees_key and self._ordered)
        return self._store.write(work, notify=self._channel if news else None, timeout=timeout)

    def _catch_up(self, connection: sqlite3.Connection, delivery: Delivery) -> bool:
        """Look whether another thread has extended the lease just now, and has not come to say so."""
        lease: _Lease = delivery.receipt
        row = connection.execute(queue_layout.EXTENDED, self._key(delivery)).fetchone()
        if row is None:
            return False
        lease.due = row[0]
        return True

    def _exhausted(self) -> str:
        return f"delivered {self._max_deliveries} times without an ack"

    # What there is

    @property
    def _store(self) -> Store:
        if self._open_store is None:
            raise Closed("the queue is not open")
        return self._open_store

    @contextlib.contextmanager
    def _borrowed(self, *, create: bool) -> Iterator[Store]:
        store = Store.open(self._path, durability=self._durability, schema=queue_layout.SCHEMA, create=create)
        try:
            yield store
        finally:
            store.close()

    def _wanted(self) -> dict[str, str]:
        wanted = {self._binding.name: self._binding.kind}
        if self.buries and self._max_deliveries < NEVER:
            wanted[dead_letter_name(self._binding.name)] = "dead-letter queue"
        return wanted

    def _missing(self, store: Store) -> list[Change]:
        there = dict(store.fetch("SELECT name, ordered FROM queue"))
        changes = [
            Change("create", what, name, f"in {self._path}")
            for name, what in self._wanted().items()
            if name not in there
        ]
        name = self._binding.name
        if name in there and bool(there[name]) != self._ordered:
            detail = "messages of a key one at a time" if self._ordered else "without order"
            changes.append(Change("change", self._binding.kind, name, detail))
        return changes

    def _is_complete(self, store: Store) -> bool:
        return not self._missing(store)

    def _find(self, store: Store) -> None:
        there = dict(store.fetch("SELECT name, id FROM queue"))
        for name, what in self._wanted().items():
            if name not in there:
                raise ResourceNotFound(f"no {what} {name!r} in {self._path}; make it with `portable resources create`")
        self._queue = there[self._binding.name]
        self._dead = there.get(dead_letter_name(self._binding.name), 0)

    def _make(self, connection: sqlite3.Connection) -> None:
        for name in self._wanted():
            connection.execute("INSERT OR IGNORE INTO queue (name, ordered) VALUES (?, 0)", (name,))
        queue, ordered = connection.execute(
            "SELECT id, ordered FROM queue WHERE name = ?", (self._binding.name,)
        ).fetchone()
        if bool(ordered) != self._ordered:
            connection.execute("UPDATE queue SET ordered = ? WHERE id = ?", (self._ordered, queue))
            keep_order(connection, queue, ordered=self._ordered, now=int(self._clock() * 1000))


def line_up(connection: sqlite3.Connection, row: tuple[Any, ...]) -> int:
    """Insert a message behind those of its ordering key, and give its number, which is greater than theirs."""
    queue, due, number, sent, key, attributes, body = row
    (last,) = connection.execute(queue_layout.LAST_OF_KEY, (queue, key)).fetchone()
    if last is not None:
        due, number = BLOCKED, max(number, last + 1)
    connection.execute(queue_layout.INSERT, (queue, due, number, sent, key, attributes, body))
    return int(number)


def keep_order(connection: sqlite3.Connection, queue: int, *, ordered: bool, now: int) -> None:
    """Begin, or cease, to deliver the messages of a key one at a time."""
    if ordered:
        connection.execute(queue_layout.BLOCK_ALL, (queue, BLOCKED))
    else:
        connection.execute(queue_layout.UNBLOCK_ALL, (now, queue, BLOCKED))


def _delivery(row: tuple[Any, ...], due: int) -> Delivery:
    number, count, sent, key, attributes, body = row
    return Delivery(
        id=str(number),
        receipt=_Lease(number, due, count),
        # Another program may have written text.
        body=body if isinstance(body, bytes) else str(body).encode(),
        attributes=decode_attributes(attributes) if attributes else {},
        count=count,
        sent_at=sent / 1000,
        ordering_key=key,
    )
