"""Topics and their subscriptions: publishing adds a copy to the queue of every subscription, in one transaction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from portable.bindings import Binding
from portable.capabilities import TopicCapabilities
from portable.changes import Change
from portable.contracts import SubscriptionContract
from portable.errors import Closed, PortableError, ResourceNotFound
from portable.messages import Outgoing
from portable_sql.hub import Hub
from portable_sql.options import SCHEMES, ServerOptions, is_postgresql
from portable_sql.outgoing import LARGEST_BATCH, LARGEST_BODY, parts, prepared
from portable_sql.queue import SqlQueue
from portable_sql.queue_layout import New, channel, decode_filter, encode_filter
from portable_sql.queue_statements import checked_name, statements
from portable_sql.servers import Server

__all__ = ["SqlSubscription", "SqlTopic"]


class SqlTopic:
    """Satisfies `portable.drivers.TopicDriver`."""

    Options = ServerOptions
    send_concurrency = 2

    def __init__(self, binding: Binding[Any]) -> None:
        self._binding = binding
        self._name = checked_name(binding)
        self._statements = statements(binding)
        self._open_hub: Hub | None = None
        self.capabilities = TopicCapabilities(
            durability="power",
            ordered=True,
            max_body_bytes=LARGEST_BODY[is_postgresql(binding)],
            max_batch=LARGEST_BATCH,
        )

    @property
    def native(self) -> Any:
        """SQLAlchemy's engine on the database."""
        return self._hub.server.engine

    def open(self) -> None:
        """Find the topic; make what is missing, the declared subscriptions included, where the binding says so."""
        if self._open_hub is not None:
            return
        hub = Hub.of(self._binding)
        if self._binding.create:
            if self.plan():
                self.create()
        elif not self._is_there(hub.server):
            raise ResourceNotFound(
                f"the database has no topic {self._name!r}; make it with `portable resources create`"
            )
        self.capabilities = hub.durable(self.capabilities)
        self._open_hub = hub

    def close(self) -> None:
        """Let go of it; the connections are the cloud's."""
        self._open_hub = None

    def check(self, *, write: bool, timeout: float) -> None:
        """Look the topic up; with `write`, lock it as a writer does."""
        sql = "SELECT name FROM portable_topic WHERE name = %s" + (" FOR UPDATE" if write else "")
        if not self._hub.server.fetch(sql, (self._name,), timeout=timeout, again=True):
            raise ResourceNotFound(f"the topic {self._name!r} is gone from the database")

    def plan(self) -> list[Change]:
        """Say what would be made."""
        there = self._is_there(Hub.of(self._binding).server)
        changes = [] if there else [Change("create", "topic", self._name)]
        return changes + [change for one in self._subscriptions() for change in one.plan()]

    def create(self) -> None:
        """Make the topic and its declared subscriptions."""
        server = Hub.of(self._binding).server
        server.make_tables(self._statements.tables, timeout=self._patience)
        with server.alone("queues", timeout=self._patience) as connection:
            _make_topic(connection, self._name)
        for subscription in self._subscriptions():
            subscription.create()

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Give every subscription that wants it a copy of each message, in one transaction for each few megabytes."""
        answers: list[str | PortableError] = []
        failure: PortableError | None = None
        for rows in parts(prepared(messages)):
            sent = messages[len(answers) : len(answers) + len(rows)]
            good: list[tuple[New, Mapping[str, str]]] = [
                (row, one.attributes or {}) for row, one in zip(rows, sent, strict=True) if isinstance(row, New)
            ]
            given: Iterator[int] = iter(())
            if good and failure is None:
                try:
                    given = iter(self._add(good, timeout))
                except PortableError as error:
                    if not answers:
                        raise
                    failure = error
            answers += [row if isinstance(row, PortableError) else failure or str(next(given)) for row in rows]
        return answers

    def _add(self, messages: list[tuple[New, Mapping[str, str]]], timeout: float) -> list[int]:
        hub = self._hub
        ids, reached = hub.server.transact(lambda connection: self._copy(connection, messages), timeout=timeout)
        hub.tell([channel(queue) for queue in reached], timeout=timeout)
        return ids

    def _copy(self, connection: Any, messages: list[tuple[New, Mapping[str, str]]]) -> tuple[list[int], list[int]]:
        """Add the copies; gives each message's id, and the queues that got any."""
        sql = "SELECT id, ordered, filter FROM portable_queue WHERE topic = %s ORDER BY id"
        wanted = [
            (queue, ordered, [at for at, (_, attributes) in enumerate(messages) if _meets(attributes, wants)])
            for queue, ordered, wants in connection.fetch(sql, (self._name,))
        ]
        keys = [(queue, messages[at][0].key) for queue, ordered, places in wanted if ordered for at in places]
        if locked := [(queue, key) for queue, key in keys if key is not None]:
            self._statements.lock(connection, locked)
        # In an ordered queue ids are the order, and so are given out only now.
        ids = self._statements.new_ids(connection, len(messages))
        copies = [message._replace(id=id_) for (message, _), id_ in zip(messages, ids, strict=True)]
        for queue, ordered, places in wanted:
            if places:
                add = self._statements.line_up if ordered else self._statements.add
                add(connection, queue, [copies[at] for at in places])
        return ids, [queue for queue, _, places in wanted if places]

    @property
    def _hub(self) -> Hub:
        if self._open_hub is None:
            raise Closed("the topic is not open")
        return self._open_hub

    @property
    def _patience(self) -> float:
        return float(self._binding.contract.timeout)

    def _subscriptions(self) -> list[SqlSubscription]:
        # One that is bound elsewhere is made by its own driver.
        own = Server.place(self._binding)
        here = [one for one in self._binding.subscriptions if one.url.scheme in SCHEMES and Server.place(one) == own]
        return [SqlSubscription(one, topic=self._name) for one in here]

    def _is_there(self, server: Server) -> bool:
        if server.missing_tables(list(self._statements.tables), timeout=self._patience):
            return False
        sql = "SELECT 1 FROM portable_topic WHERE name = %s"
        return bool(server.fetch(sql, (self._name,), timeout=self._patience, again=True))


def _meets(attributes: Mapping[str, str], wanted: str | None) -> bool:
    return all(attributes.get(name) == value for name, value in decode_filter(wanted))


def _make_topic(connection: Any, name: str) -> None:
    if not connection.fetch("SELECT 1 FROM portable_topic WHERE name = %s", (name,)):
        connection.execute("INSERT INTO portable_topic (name) VALUES (%s)", (name,))


class SqlSubscription(SqlQueue):
    """A queue that a topic feeds."""

    def __init__(self, binding: Binding[Any], topic: str | None = None) -> None:
        super().__init__(binding)
        contract: Any = binding.contract
        declared: SubscriptionContract = contract
        self._filter = encode_filter(declared.filter)
        self._topic = topic or (binding.topic.name if binding.topic is not None else declared.topic)

    def _differs(self, found: tuple[int, bool, str | None, str | None]) -> list[Change]:
        changes = super()._differs(found)
        if found[2:] != (self._topic, self._filter):
            detail = f"fed by {self._topic!r}, filter as declared"
            changes.append(Change("change", "subscription", self._name, detail))
        return changes

    def _make_rows(self, connection: Any) -> None:
        super()._make_rows(connection)
        _make_topic(connection, self._topic)
        sql = "UPDATE portable_queue SET topic = %s, filter = %s WHERE name = %s"
        connection.execute(sql, (self._topic, self._filter, self._name))
