"""Topics and their subscriptions in an SQLite file, which any number of processes may share."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from portable.bindings import Binding
from portable.capabilities import TopicCapabilities
from portable.changes import Change
from portable.contracts import SubscriptionContract
from portable.drivers import Options as DriverOptions
from portable.errors import Closed, PortableError, ResourceNotFound, Unavailable
from portable.messages import Outgoing
from portable_embedded import queue_layout
from portable_embedded.attribute_text import encode_attributes
from portable_embedded.queue_layout import decode_filter, encode_filter
from portable_embedded.sqlite_queue import ATTEMPTS, Options, SqliteQueue, line_up
from portable_embedded.store import Durability, Store

__all__ = ["SqliteSubscription", "SqliteTopic", "TopicOptions"]


class TopicOptions(DriverOptions, frozen=True, kw_only=True):
    """`sqlite:PATH` keeps topics in an SQLite file, which other kinds and any number of processes may share.

    Attributes:
        durability: `"power"` (a message is on the disk once it is published) or `"process"` (it survives SIGKILL, not a
            power cut).
    """

    durability: Durability = "power"


class SqliteTopic:
    """A topic in an SQLite file: publishing writes a copy into the queue of every subscription, in one transaction."""

    Options = TopicOptions
    send_concurrency = 1

    def __init__(self, binding: Binding[Any]) -> None:
        self._binding = binding
        self._name = binding.name
        self._path = Path(binding.url.path)
        self._durability: Durability = binding.options.durability
        self._clock = binding.clock
        self._open_store: Store | None = None
        self.capabilities = TopicCapabilities(
            durability=self._durability, ordered=True, max_body_bytes=900_000_000, max_batch=1000
        )

    @property
    def native(self) -> Store:
        """The store, whose `read` and `write` hand over an `sqlite3.Connection`."""
        return self._store

    def open(self) -> None:
        """Open the file; make what is missing, the declared subscriptions included, where the binding says so."""
        if self._open_store is not None:
            return
        if self._binding.create:
            for subscription in self._subscriptions():
                if subscription.plan():
                    subscription.create()
        store = self._opened(create=self._binding.create)
        try:
            if self._binding.create and not self._is_there(store):
                store.write(self._make)
            self._find(store)
        except BaseException:
            store.close()
            raise
        self._open_store = store

    def close(self) -> None:
        """Let go of the file."""
        store, self._open_store = self._open_store, None
        if store is not None:
            store.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Look the topic up; with `write`, take the lock for writing too."""
        self.open()
        self._find(self._store)
        if write:
            self._store.write(lambda _: None, timeout=timeout)

    def plan(self) -> list[Change]:
        """Say what would be made."""
        changes: list[Change] = []
        try:
            with self._borrowed(create=False) as store:
                there = self._is_there(store)
        except ResourceNotFound:
            there = False
        if not there:
            changes.append(Change("create", "topic", self._name, f"in {self._path}"))
        return changes + [change for one in self._subscriptions() for change in one.plan()]

    def create(self) -> None:
        """Make the topic and its declared subscriptions."""
        with self._borrowed(create=True) as store:
            store.write(self._make)
        for subscription in self._subscriptions():
            subscription.create()

    def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Give every subscription that wants it a copy of each message, in one transaction."""
        for _ in range(ATTEMPTS):
            # Two processes can come up with the same number in the same millisecond; the next one is another.
            with contextlib.suppress(sqlite3.IntegrityError):
                ids, reached = self._store.write(lambda connection: self._copy(connection, messages), timeout=timeout)
                for queue in reached:
                    self._store.news.notify(queue_layout.channel(queue))
                return ids
        raise Unavailable("every number for the message was taken; try again")

    def _copy(
        self, connection: sqlite3.Connection, messages: Sequence[Outgoing]
    ) -> tuple[list[str | PortableError], set[str]]:
        subscriptions = connection.execute(
            "SELECT id, name, ordered, filter FROM queue WHERE topic = ?", (self._name,)
        ).fetchall()
        now = int(self._clock() * 1000)
        ids: list[str | PortableError] = []
        rows: list[tuple[object, ...]] = []
        reached: set[str] = set()
        for message in messages:
            number = next(queue_layout.ids.next)
            attributes = encode_attributes(message.attributes)
            key = message.ordering_key
            for queue, name, ordered, wanted in subscriptions:
                if wanted is not None and not _meets(message.attributes or {}, wanted):
                    continue
                row = (queue, now, number, now, key, attributes, message.body)
                if ordered and key is not None:
                    line_up(connection, row)
                else:
                    rows.append(row)
                reached.add(name)
            ids.append(str(number))
        if rows:
            connection.executemany(queue_layout.INSERT, rows)
        return ids, reached

    @property
    def _store(self) -> Store:
        if self._open_store is None:
            raise Closed("the topic is not open")
        return self._open_store

    def _opened(self, *, create: bool) -> Store:
        return Store.open(self._path, durability=self._durability, schema=queue_layout.SCHEMA, create=create)

    @contextlib.contextmanager
    def _borrowed(self, *, create: bool) -> Iterator[Store]:
        store = self._opened(create=create)
        try:
            yield store
        finally:
            store.close()

    def _subscriptions(self) -> list[SqliteSubscription]:
        # One that is bound elsewhere is made by its own driver.
        url = self._binding.url
        here = (one for one in self._binding.subscriptions if (one.url.scheme, one.url.path) == (url.scheme, url.path))
        return [SqliteSubscription(one, topic=self._name) for one in here]

    def _is_there(self, store: Store) -> bool:
        return bool(store.fetch("SELECT 1 FROM topic WHERE name = ?", (self._name,)))

    def _find(self, store: Store) -> None:
        if not self._is_there(store):
            raise ResourceNotFound(f"no topic {self._name!r} in {self._path}; make it with `portable resources create`")

    def _make(self, connection: sqlite3.Connection) -> None:
        connection.execute("INSERT OR IGNORE INTO topic VALUES (?)", (self._name,))


def _meets(attributes: Mapping[str, str], wanted: str) -> bool:
    return all(attributes.get(name) == value for name, value in decode_filter(wanted))


class SqliteSubscription(SqliteQueue):
    """A queue in an SQLite file that a topic feeds."""

    Options = Options

    def __init__(self, binding: Binding[Any], topic: str | None = None) -> None:
        super().__init__(binding)
        contract: Any = binding.contract
        declared: SubscriptionContract = contract
        self._filter = encode_filter(declared.filter)
        self._topic = topic or (binding.topic.name if binding.topic is not None else declared.topic)

    def _missing(self, store: Store) -> list[Change]:
        changes = super()._missing(store)
        name = self._binding.name
        fed = store.fetch("SELECT topic, filter FROM queue WHERE name = ?", (name,))
        if fed and fed[0] != (self._topic, self._filter):
            changes.append(Change("change", "subscription", name, f"fed by {self._topic!r}, filter as declared"))
        return changes

    def _find(self, store: Store) -> None:
        super()._find(store)
        if self._is_complete(store):
            return
        raise ResourceNotFound(
            f"the topic {self._topic!r} does not feed {self._binding.name!r} in {self._path} as declared; "
            "make it so with `portable resources create`"
        )

    def _make(self, connection: sqlite3.Connection) -> None:
        super()._make(connection)
        connection.execute("INSERT OR IGNORE INTO topic VALUES (?)", (self._topic,))
        connection.execute(
            "UPDATE queue SET topic = ?, filter = ? WHERE name = ?", (self._topic, self._filter, self._binding.name)
        )
