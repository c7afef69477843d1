"""Queues in tables of a database server, whose rows receivers lease past each other (`FOR UPDATE SKIP LOCKED`)."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from portable.bindings import Binding
from portable.bridges import undone_by
from portable.capabilities import QueueCapabilities
from portable.changes import Change
from portable.contracts import QueueContract
from portable.dead_letters import NEVER
from portable.errors import Closed, LeaseLost, PortableError, ResourceNotFound
from portable.messages import Delivery, Outgoing, QueueStats
from portable.news import Channel
from portable.wire import dead_letter_attributes, dead_letter_name
from portable_sql.hub import Hub
from portable_sql.options import ServerOptions, is_postgresql
from portable_sql.outgoing import LARGEST_BATCH, LARGEST_BODY, parts, prepared
from portable_sql.queue_layout import BLOCKED, Held, New, channel, decode_attributes, encode_attributes
from portable_sql.queue_statements import checked_name, statements
from portable_sql.servers import Server

__all__ = ["SqlQueue"]

T = TypeVar("T")

DEDUP_MILLISECONDS = 300_000
PURGED_AT_ONCE = 5000


class SqlQueue:
    """Satisfies `portable.drivers.BuryingQueueDriver`."""

    Options = ServerOptions
    # Batches are single statements, which cost the server more than the way to it.
    send_concurrency = 2

    def __init__(self, binding: Binding[Any]) -> None:
        contract: Any = binding.contract
        self._contract: QueueContract = contract
        self._binding = binding
        self._name = checked_name(binding)
        self._statements = statements(binding)
        self._open_hub: Hub | None = None
        self._arrivals: Channel | None = None
        self._queue = 0
        self._dead = 0
        # A dead-letter queue that the contract names may live elsewhere.
        self.buries = self._contract.dead_letter is None
        self._max_deliveries = self._contract.max_deliveries if self.buries else NEVER
        self._ordered = self._contract.ordered
        self.capabilities = QueueCapabilities(
            durability="power",
            exclusive_lease=True,
            exact_count=True,
            delay=True,
            nack_delay=True,
            lease_per_receive=True,
            ordered=True,
            dedup=True,
            purge=True,
            peek=True,
            max_body_bytes=LARGEST_BODY[is_postgresql(binding)],
            max_batch=LARGEST_BATCH,
            max_receive=LARGEST_BATCH,
        )

    # Opening

    @property
    def native(self) -> Any:
        """SQLAlchemy's engine on the database."""
        return self._server.engine

    @property
    def arrivals(self) -> Channel | None:
        """News of messages."""
        return self._arrivals

    def open(self) -> None:
        """Find the queue; make what is missing where the binding says so."""
        if self._open_hub is not None:
            return
        hub = Hub.of(self._binding)
        if self._binding.create:
            if self._missing(hub.server):
                self._make(hub.server)
        elif missing := self._missing(hub.server):
            change = missing[0]
            raise ResourceNotFound(
                f"the database has no {change.what} {change.name!r}{change.detail and ' that is '}{change.detail}; "
                "make it with `portable resources create`"
            )
        there = self._there(hub.server)
        self._queue = there[self._name][0]
        self._dead = there.get(dead_letter_name(self._name), (0,))[0]
        self._arrivals = Channel(hub.news, channel(self._queue))
        self.capabilities = hub.durable(self.capabilities)
        self._open_hub = hub

    def close(self) -> None:
        """End the waits; the connections are the cloud's."""
        self._open_hub = None
        if self._arrivals is not None:
            self._arrivals.notify()

    def check(self, *, write: bool, timeout: float) -> None:
        """Look the queue up; with `write`, lock it as a writer does."""
        for_update = " FOR UPDATE" if write else ""
        sql = f"SELECT id FROM portable_queue WHERE name = %s{for_update}"
        if not self._server.fetch(sql, (self._name,), timeout=timeout, again=True):
            raise ResourceNotFound(f"the {self._binding.kind} {self._name!r} is gone from the database")

    def plan(self) -> list[Change]:
        """Say what would be made, and what would change."""
        return self._missing(Hub.of(self._binding).server)

    def create(self) -> None:
        """Make the queue and its dead-letter queue."""
        self._make(Hub.of(self._binding).server)

    # Messages

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Add messages, in one transaction for each few megabytes."""
        answers: list[str | PortableError] = []
        failure: PortableError | None = None
        for rows in parts(prepared(messages)):
            good = [row for row in rows if isinstance(row, New)]
            given: Iterator[int] = iter(())
            if good and failure is None:
                try:
                    given = iter(self._add(good, timeout))
                except PortableError as error:
                    if not answers:
                        raise
                    failure = error
            answers += [row if isinstance(row, PortableError) else failure or str(next(given)) for row in rows]
        self._tell(timeout)
        return answers

    def _add(self, messages: list[New], timeout: float) -> list[int]:
        if self._ordered or any(one.dedup_id is not None for one in messages):
            return self._transact(lambda connection: self._add_locked(connection, messages), timeout=timeout)
        if len(messages) == 1 and messages[0].key is None:
            (message,) = messages
            number = self._run(
                lambda connection: self._statements.add_one(connection, self._queue, message), timeout=timeout
            )
            return [number]
        return self._run(lambda connection: self._statements.add(connection, self._queue, messages), timeout=timeout)

    def _add_locked(self, connection: Any, messages: list[New]) -> list[int]:
        """Add messages while nobody else does anything with their keys and dedup ids; repeats get the first's id."""
        dedup_ids = list(dict.fromkeys(one.dedup_id for one in messages if one.dedup_id is not None))
        # No key has a byte that UTF-8 has not, so it is no dedup id.
        names = [*(one.key for one in messages if one.key is not None), *(b"\xff" + one for one in dedup_ids)]
        self._statements.lock(connection, [(self._queue, name) for name in names])
        known = self._statements.known(connection, self._queue, dedup_ids) if dedup_ids else {}
        fresh: list[New] = []
        first: dict[bytes, int] = {}
        places: list[int | None] = []
        for one in messages:
            if one.dedup_id in known:
                places.append(None)
                continue
            place = len(fresh) if one.dedup_id is None else first.setdefault(one.dedup_id, len(fresh))
            if place == len(fresh):
                fresh.append(one)
            places.append(place)
        add = self._statements.line_up if self._ordered else self._statements.add
        numbers = add(connection, self._queue, fresh) if fresh else []
        if first:
            seen = {dedup_id: numbers[place] for dedup_id, place in first.items()}
            self._statements.remember(connection, self._queue, seen, DEDUP_MILLISECONDS)
        return [
            known[one.dedup_id or b""] if place is None else numbers[place]
            for one, place in zip(messages, places, strict=True)
        ]

    def _unlease(self, deliveries: list[Delivery]) -> None:
        def uncount(connection: Any, queue: int, held: Held) -> set[int]:
            return self._statements.give_back(connection, queue, held, 0, 1)

        if deliveries:
            # What cannot be given back comes back when its lease ends.
            with contextlib.suppress(PortableError):
                self._settle(deliveries, uncount, self._patience, news=True)

    @undone_by(_unlease)
    def receive(self, max_messages: int, *, visibility: float, timeout: float) -> list[Delivery]:
        """Lease what is ready, in one step."""
        milliseconds = math.ceil(visibility * 1000)
        while True:
            # A lease whose answer was lost ends by itself; the repeated one leases others.
            rows = self._run(
                lambda connection: self._statements.lease(connection, self._queue, max_messages, milliseconds),
                timeout=timeout,
                again=True,
            )
            if not rows:
                return []
            given = [_delivery(row) for row in rows]
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
        sql = f"SELECT due, {self._statements.now} FROM portable_queue_message WHERE queue = %s ORDER BY due LIMIT 1"
        rows = self._server.fetch(sql, (self._queue,), timeout=timeout, again=True)
        if not rows or rows[0][0] == BLOCKED:
            return None
        due, now = rows[0]
        # The clock ticks at the milliseconds: what is due in none is due in the next.
        return max(0.0, (due - now + 1) / 1000) if due > now else 0.0

    def ack(self, deliveries: Sequence[Delivery], *, timeout: float) -> list[PortableError | None]:
        """Remove messages."""
        return self._settle(deliveries, self._statements.remove, timeout, frees=True)

    def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:
        """Give messages back, or bury those that have used up their deliveries."""
        exhausted = [delivery for delivery in deliveries if delivery.count >= self._max_deliveries]
        if exhausted:
            self.bury(exhausted, reason=self._exhausted(), timeout=timeout)
        kept = [delivery for delivery in deliveries if delivery.count < self._max_deliveries]
        if kept:
            milliseconds = math.ceil(delay * 1000)
            # What is no longer held comes back without it.
            self._settle(
                kept,
                lambda c, queue, held: self._statements.give_back(c, queue, held, milliseconds, 0),
                timeout,
                news=True,
            )

    def extend(self, deliveries: Sequence[Delivery], *, seconds: float, timeout: float) -> list[PortableError | None]:
        """Hold messages for longer."""
        milliseconds = math.ceil(seconds * 1000)
        return self._settle(
            deliveries,
            lambda c, queue, held: self._statements.extend(c, queue, held, milliseconds),
            timeout,
            again=True,
        )

    def bury(self, deliveries: Sequence[Delivery], *, reason: str, timeout: float) -> list[PortableError | None]:
        """Move messages to the dead-letter queue."""
        name = self._binding.resource
        texts = [
            encode_attributes(dead_letter_attributes(one.attributes, queue=name, id=one.id, reason=reason)) or ""
            for one in deliveries
        ]

        def move(connection: Any, queue: int, held: Held) -> set[int]:
            return self._statements.bury(connection, queue, held, self._dead, texts)

        answers = self._settle(deliveries, move, timeout, frees=True, together=True)
        self._hub.tell([channel(self._dead)], timeout=timeout)
        return answers

    def stats(self, *, timeout: float) -> QueueStats:
        """Count messages."""
        now = self._statements.now
        sql = f"""SELECT count(*), sum(CASE WHEN leased AND due > {now} THEN 1 ELSE 0 END),
            sum(CASE WHEN NOT leased AND due > {now} AND due < {BLOCKED} THEN 1 ELSE 0 END)
            FROM portable_queue_message WHERE queue = %s"""
        ((total, leased, delayed),) = self._server.fetch(sql, (self._queue,), timeout=timeout, again=True)
        total, leased, delayed = (int(number or 0) for number in (total, leased, delayed))
        return QueueStats(ready=total - leased - delayed, leased=leased, delayed=delayed)

    def purge(self, *, timeout: float) -> None:
        """Remove every message that was there when this began, many at once."""
        sql = "SELECT max(id) FROM portable_queue_message WHERE queue = %s"
        last = self._server.fetch(sql, (self._queue,), timeout=timeout, again=True)[0][0]
        some = f"SELECT id FROM portable_queue_message WHERE queue = %s AND id <= %s ORDER BY id LIMIT {PURGED_AT_ONCE}"
        sql = f"""DELETE FROM portable_queue_message WHERE queue = %s AND id <= (
            SELECT max(id) FROM ({some}) AS purged)"""
        while last is not None:
            if not self._server.execute(sql, (self._queue, self._queue, last), timeout=timeout, again=True):
                return

    def peek(self, max_messages: int, *, timeout: float) -> list[Delivery]:
        """Look at what would be received."""
        key = "key" if self._server.is_postgresql else "`key`"
        sql = f"""SELECT id, 0, sent, {key}, attributes, body FROM portable_queue_message
            WHERE queue = %s AND due <= {self._statements.now} ORDER BY due, id LIMIT %s"""
        rows = self._server.fetch(sql, (self._queue, max_messages), timeout=timeout, again=True)
        return [_delivery(row) for row in rows]

    # Settling

    def _settle(
        self,
        deliveries: Sequence[Delivery],
        change: Callable[[Any, int, Held], set[int]],
        timeout: float,
        *,
        frees: bool = False,
        news: bool = False,
        again: bool = False,
        together: bool = False,
    ) -> list[PortableError | None]:
        """Change each message that is still held, in one step; the rest is `LeaseLost`."""
        held = [delivery.receipt for delivery in deliveries]
        keys = {one.ordering_key.encode() for one in deliveries if one.ordering_key is not None} if frees else set()
        keys = keys if self._ordered else set()

        def work(connection: Any) -> set[int]:
            if keys:
                self._statements.lock(connection, [(self._queue, key) for key in keys])
            changed = change(connection, self._queue, held)
            if keys:
                self._statements.free(connection, self._queue, sorted(keys))
            return changed

        # MySQL looks before it changes several.
        several = together or (len(held) > 1 and not self._server.is_postgresql)
        run = self._transact if keys or several else self._run
        changed = run(work, timeout=timeout, again=again)
        if news or keys:
            self._tell(timeout)
        return [
            None
            if delivery.receipt[0] in changed
            else LeaseLost(f"the lease of message {delivery.id} ran out, and the message went on without it")
            for delivery in deliveries
        ]

    def _exhausted(self) -> str:
        return f"delivered {self._max_deliveries} times without an ack"

    # What there is

    @property
    def _hub(self) -> Hub:
        if self._open_hub is None:
            raise Closed(f"the {self._binding.kind} is not open")
        return self._open_hub

    @property
    def _server(self) -> Server:
        return self._hub.server

    @property
    def _patience(self) -> float:
        return float(self._contract.timeout)

    def _run(self, work: Callable[[Any], T], *, timeout: float, again: bool = False) -> T:
        return self._server.run(work, timeout=timeout, again=again)

    def _transact(self, work: Callable[[Any], T], *, timeout: float, again: bool = False) -> T:
        return self._server.transact(work, timeout=timeout, again=again)

    def _tell(self, timeout: float) -> None:
        self._hub.tell([channel(self._queue)], timeout=timeout)

    def _wanted(self) -> dict[str, str]:
        wanted = {self._name: self._binding.kind}
        if self.buries and self._max_deliveries < NEVER:
            wanted[dead_letter_name(self._name)] = "dead-letter queue"
        return wanted

    def _there(self, server: Server) -> dict[str, tuple[int, bool, str | None, str | None]]:
        """Give id, order, topic and filter of those of the wanted queues that are there, by name."""
        names = list(self._wanted())
        marks = ", ".join(["%s"] * len(names))
        sql = f"SELECT name, id, ordered, topic, filter FROM portable_queue WHERE name IN ({marks})"
        rows = server.fetch(sql, names, timeout=self._patience, again=True)
        return {row[0]: (row[1], bool(row[2]), row[3], row[4]) for row in rows}

    def _missing(self, server: Server) -> list[Change]:
        if server.missing_tables(list(self._statements.tables), timeout=self._patience):
            return [Change("create", what, name) for name, what in self._wanted().items()]
        there = self._there(server)
        changes = [Change("create", what, name) for name, what in self._wanted().items() if name not in there]
        if self._name in there:
            changes += self._differs(there[self._name])
        return changes

    def _differs(self, found: tuple[int, bool, str | None, str | None]) -> list[Change]:
        if found[1] == self._ordered:
            return []
        detail = "messages of a key one at a time" if self._ordered else "without order"
        return [Change("change", self._binding.kind, self._name, detail)]

    def _make(self, server: Server) -> None:
        server.make_tables(self._statements.tables, timeout=self._patience)
        with server.alone("queues", timeout=self._patience) as connection:
            self._make_rows(connection)

    def _make_rows(self, connection: Any) -> None:
        for name in self._wanted():
            row = connection.fetch("SELECT id, ordered FROM portable_queue WHERE name = %s", (name,))
            ordered = self._ordered and name == self._name
            if not row:
                connection.execute("INSERT INTO portable_queue (name, ordered) VALUES (%s, %s)", (name, ordered))
            elif bool(row[0][1]) != ordered and name == self._name:
                self._reorder(connection, row[0][0])

    def _reorder(self, connection: Any, queue: int) -> None:
        connection.execute("UPDATE portable_queue SET ordered = %s WHERE id = %s", (self._ordered, queue))
        if self._ordered:
            self._statements.block_all(connection, queue)
        else:
            sql = f"UPDATE portable_queue_message SET due = {self._statements.now} WHERE queue = %s AND due = {BLOCKED}"
            connection.execute(sql, (queue,))


def _delivery(row: Sequence[Any]) -> Delivery:
    id_, count, sent, key, attributes, body = row
    return Delivery(
        id=str(id_),
        receipt=(id_, count),
        body=body,
        attributes=decode_attributes(attributes),
        count=count,
        sent_at=sent / 1000,
        ordering_key=None if key is None else key.decode(errors="replace"),
    )
