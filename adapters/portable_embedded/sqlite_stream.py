"""Streams in an SQLite file; `docs/wire-formats/stream.md` describes the tables."""

from __future__ import annotations

import itertools
import random
import sqlite3
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from portable.bindings import Binding
from portable.capabilities import StreamCapabilities
from portable.changes import Change
from portable.contracts import StreamContract
from portable.drivers import Options
from portable.errors import Closed, PortableError, ResourceNotFound
from portable.group_state import GroupState
from portable.news import Channel
from portable.partition_member import PartitionMember
from portable.partitioning import partition_of
from portable.quantities import Duration
from portable.records import START, Edge, NewRecord, Position, Record
from portable_embedded.attribute_text import decode_attributes, encode_attributes
from portable_embedded.offsets import offset_of, partition_number, position
from portable_embedded.store import Schema, Store

__all__ = ["SqliteStream", "SqliteStreamOptions"]

# The records of a partition lie together, in order, without another index: the upper bits of the row's number say
# which partition, the lower 40 which offset. Measured against a table WITHOUT ROWID keyed by (stream, partition,
# offset): the same at 200 bytes a record, 1.6 times as fast and less than half as large at 2,000.
OFFSET_BITS = 40

SCHEMA = Schema(
    name="stream",
    version=1,
    statements=(
        "CREATE TABLE stream (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, partitions INTEGER NOT NULL)",
        """CREATE TABLE stream_partition (
            id INTEGER PRIMARY KEY, stream INTEGER NOT NULL REFERENCES stream (id), number INTEGER NOT NULL,
            UNIQUE (stream, number))""",
        """CREATE TABLE stream_record (
            id INTEGER PRIMARY KEY, time INTEGER NOT NULL, key TEXT, data BLOB NOT NULL, attributes TEXT)""",
        """CREATE TABLE stream_group (
            stream INTEGER NOT NULL REFERENCES stream (id), name TEXT NOT NULL, state TEXT NOT NULL,
            PRIMARY KEY (stream, name)) WITHOUT ROWID""",
        """CREATE VIEW stream_records AS
            SELECT s.name AS stream, p.number AS partition, r.id & 0xFFFFFFFFFF AS "offset",
                r.time, r.key, r.data, r.attributes
            FROM stream s JOIN stream_partition p ON p.stream = s.id
            JOIN stream_record r ON r.id > p.id << 40 AND r.id < (p.id + 1) << 40""",
    ),
)

APPEND = """INSERT INTO stream_record (id, time, key, data, attributes)
    SELECT coalesce(last.id, ?1) + 1, max(?3, coalesce(last.time, 0)), ?4, ?5, ?6 FROM (SELECT 1)
    LEFT JOIN (SELECT id, time FROM stream_record WHERE id > ?1 AND id < ?2 ORDER BY id DESC LIMIT 1) AS last
    RETURNING id"""
MAKE_PARTITIONS = """INSERT OR IGNORE INTO stream_partition (stream, number)
    WITH RECURSIVE numbers (n) AS (
        VALUES (0) UNION ALL SELECT n + 1 FROM numbers WHERE n + 1 < (SELECT partitions FROM stream WHERE name = ?1))
    SELECT id, n FROM stream, numbers WHERE name = ?1"""
PARTITIONS = """SELECT s.id, p.id FROM stream s JOIN stream_partition p ON p.stream = s.id
    WHERE s.name = ? ORDER BY p.number"""
LAST = "SELECT id, time FROM stream_record WHERE id > ? AND id < ? ORDER BY id DESC LIMIT 1"
FIRST = "SELECT id, time FROM stream_record WHERE id > ? AND id < ? ORDER BY id LIMIT 1"
READ = "SELECT id, time, key, data, attributes FROM stream_record WHERE id > ? AND id < ? ORDER BY id LIMIT ?"

TRIMMED_AT_ONCE = 10_000
"""How many records of a partition one append removes at most, so that none takes long."""

SHORTEST_TRIM_PAUSE = 0.05
LONGEST_TRIM_PAUSE = 60.0
"""Seconds between two looks for records whose retention has ended: a hundredth of the retention, within these."""


class SqliteStreamOptions(Options, frozen=True, kw_only=True):
    """`sqlite:PATH` keeps streams in an SQLite file, which other kinds and any number of processes may share.

    Attributes:
        durability: `"power"` (a commit is on the disk) or `"process"` (it survives SIGKILL, not a power cut).
        session_timeout: after so long without a sign of life a consumer's partitions go to others, such as `10s`.
    """

    durability: Literal["power", "process"] = "power"
    session_timeout: Duration = Duration(10)


class SqliteGroups:
    """The groups of a stream; satisfies `portable.partition_member.GroupLedger`."""

    def __init__(self, store: Store, stream: int, channel: str) -> None:
        self._store = store
        self._stream = stream
        self._channel = channel

    def read(self, group: str, *, timeout: float) -> GroupState:
        """Give a group's state."""
        rows = self._store.fetch(_GROUP, (self._stream, group), timeout=timeout)
        return _decode_group(rows[0][0]) if rows else GroupState()

    def update(
        self, group: str, change: Callable[[GroupState], object], *, quiet: bool = False, timeout: float
    ) -> GroupState:
        """Change a group's state."""

        def work(connection: sqlite3.Connection) -> GroupState:
            row = connection.execute(_GROUP, (self._stream, group)).fetchone()
            state = _decode_group(row[0]) if row else GroupState()
            change(state)
            text = msgspec.json.encode(state).decode()
            if row is None or text != row[0]:
                connection.execute("INSERT OR REPLACE INTO stream_group VALUES (?, ?, ?)", (self._stream, group, text))
            return state

        return self._store.write(work, notify=None if quiet else self._channel, timeout=timeout)


class SqliteStream:
    """Satisfies `portable.drivers.StreamDriver`."""

    Options = SqliteStreamOptions

    def __init__(self, binding: Binding[SqliteStreamOptions]) -> None:
        contract = binding.contract
        assert isinstance(contract, StreamContract)  # noqa: S101 (the config gives a stream its own contract)
        self._binding = binding
        self._contract = contract
        self._path = Path(binding.url.path)
        self._channel = f"stream:{binding.name}"
        self._clock = binding.clock
        self._retention = int(contract.retention * 1_000_000)
        self._trim_pause = min(max(float(contract.retention) / 100, SHORTEST_TRIM_PAUSE), LONGEST_TRIM_PAUSE)
        self._trim_at = 0.0
        # Keyless records go around; each process starts somewhere else.
        self._turns = itertools.count(random.randrange(1 << 16))  # noqa: S311 (spreads load, hides nothing)
        self._open_store: Store | None = None
        self._arrivals: Channel | None = None
        self._stream = 0
        # Of each partition, in order: the number before its first record's.
        self._bases: list[int] = []
        self.capabilities = StreamCapabilities(
            durability=binding.options.durability, groups=True, max_batch=5_000, max_record_bytes=500_000_000
        )

    @property
    def native(self) -> Store:
        """The store, whose `read` and `write` hand over an `sqlite3.Connection`."""
        return self._store

    @property
    def arrivals(self) -> Channel | None:
        """News of records and of groups."""
        return self._arrivals

    def open(self) -> None:
        """Open the file; make what is missing where the binding says so."""
        store = Store.open(
            self._path, durability=self._binding.options.durability, schema=SCHEMA, create=self._binding.create
        )
        try:
            if self._binding.create:
                store.write(self._make)
            partitions = store.fetch(PARTITIONS, (self._binding.name,))
        except BaseException:
            store.close()
            raise
        if not partitions:
            store.close()
            raise ResourceNotFound(
                f"there is no stream {self._binding.name!r} in {self._path}; make it with `portable resources create`"
            )
        self._stream = partitions[0][0]
        self._bases = [row[1] << OFFSET_BITS for row in partitions]
        self._arrivals = Channel(store.news, self._channel)
        if self._binding.on_clock_moved is not None:
            self._binding.on_clock_moved(self._arrivals.notify)
        self._open_store = store

    def close(self) -> None:
        """Let go of the file."""
        store, self._open_store = self._open_store, None
        if store is not None:
            store.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Look the stream up; with `write`, take the lock for writing too."""
        if self._open_store is None:
            self.open()
        self._store.fetch("SELECT id FROM stream WHERE id = ?", (self._stream,), timeout=timeout)
        if write:
            self._store.write(lambda _: None, timeout=timeout)

    def plan(self) -> list[Change]:
        """Say whether the stream is missing, or has another number of partitions than the contract."""
        name, asked = self._binding.name, self._contract.partitions
        missing = [Change("create", "stream", name, f"with {asked} partitions in {self._path}")]
        try:
            store = Store.open(self._path, durability=self._binding.options.durability, schema=SCHEMA, create=False)
        except ResourceNotFound:
            return missing
        try:
            rows = store.fetch("SELECT partitions FROM stream WHERE name = ?", (name,))
        finally:
            store.close()
        if not rows:
            return missing
        if rows[0][0] != asked:
            detail = f"it has {rows[0][0]} partitions, the contract asks for {asked}; the number stands once it is made"
            return [Change("differs", "stream", name, detail)]
        return []

    def create(self) -> None:
        """Make the file, the tables and the stream where they are missing."""
        store = Store.open(self._path, durability=self._binding.options.durability, schema=SCHEMA, create=True)
        try:
            store.write(self._make)
        finally:
            store.close()

    def partitions(self, *, timeout: float) -> list[str]:  # noqa: ARG002 (known since it was opened)
        """Give the names of the partitions."""
        return [str(number) for number in range(len(self._bases))]

    def append(self, records: Sequence[NewRecord], *, timeout: float) -> list[Position | PortableError]:
        """Append records, all of them or none."""
        bases = self._bases
        count = len(bases)
        rows = [
            (
                next(self._turns) % count if record.key is None else partition_of(record.key, count),
                record.key,
                record.data,
                encode_attributes(record.attributes),
            )
            for record in records
        ]
        now = self._clock()
        if now >= self._trim_at or now < self._trim_at - self._trim_pause or len(rows) > 1:
            offsets = self._store.write(
                lambda connection: self._append(connection, rows, now), notify=self._channel, timeout=timeout
            )
            return [position(str(row[0]), offset) for row, offset in zip(rows, offsets, strict=True)]
        number, key, data, attributes = rows[0]
        base = bases[number]
        ((identity,),) = self._store.execute(
            APPEND,
            (base, base + (1 << OFFSET_BITS), int(now * 1_000_000), key, data, attributes),
            notify=self._channel,
            timeout=timeout,
        )
        return [position(str(number), identity - base)]

    def read(
        self, partition: str, after: Edge | Position | datetime, limit: int, *, timeout: float
    ) -> list[Record[bytes]]:
        """Give records of a partition."""
        base = self._bases[partition_number(partition, len(self._bases))]
        end = base + (1 << OFFSET_BITS)
        oldest = int(self._clock() * 1_000_000) - self._retention
        if isinstance(after, Position):
            start = base + offset_of(after.value)
        elif isinstance(after, datetime):
            oldest = max(oldest, round(after.timestamp() * 1_000_000))
            start = base
        elif after is START:
            start = base
        else:
            return []
        if not base <= start < end:
            return []
        rows = self._store.fetch(READ, (start, end, limit), timeout=timeout)
        if rows and rows[0][1] < oldest:
            start = self._store.read(lambda connection: _before(connection, start, end, oldest), timeout=timeout)
            rows = self._store.fetch(READ, (start, end, limit), timeout=timeout)
        return [
            Record(
                data,
                key,
                decode_attributes(attributes) if attributes else {},
                partition,
                position(partition, identity - base),
                datetime.fromtimestamp(time / 1_000_000, UTC),
            )
            for identity, time, key, data, attributes in rows
        ]

    def end(self, partition: str, *, timeout: float) -> Position:
        """Give the position after which the next record will be."""
        base = self._bases[partition_number(partition, len(self._bases))]
        rows = self._store.fetch(LAST, (base, base + (1 << OFFSET_BITS)), timeout=timeout)
        return position(partition, rows[0][0] - base if rows else 0)

    def backlog(self, partition: str, after: str, *, timeout: float) -> int:
        """Count the records after a position."""
        base = self._bases[partition_number(partition, len(self._bases))]
        start, end = base + offset_of(after), base + (1 << OFFSET_BITS)
        oldest = int(self._clock() * 1_000_000) - self._retention

        def count(connection: sqlite3.Connection) -> int:
            last = connection.execute(LAST, (base, end)).fetchone()
            return 0 if last is None else max(0, last[0] - max(start, _before(connection, base, end, oldest)))

        return self._store.read(count, timeout=timeout, snapshot=True)

    def join(self, group: str, start: Edge, *, timeout: float) -> PartitionMember:
        """Become a member of a group."""
        member = PartitionMember(
            self,
            SqliteGroups(self._store, self._stream, self._channel),
            group=group,
            member=uuid.uuid4().hex,
            lease=float(self._binding.options.session_timeout),
            clock=self._clock,
        )
        member.join(start, timeout=timeout)
        return member

    @property
    def _store(self) -> Store:
        if self._open_store is None:
            raise Closed("the stream is not open")
        return self._open_store

    def _make(self, connection: sqlite3.Connection) -> None:
        name, count = self._binding.name, self._contract.partitions
        connection.execute("INSERT OR IGNORE INTO stream (name, partitions) VALUES (?, ?)", (name, count))
        connection.execute(MAKE_PARTITIONS, (name,))

    def _append(
        self, connection: sqlite3.Connection, rows: list[tuple[int, str | None, bytes, str | None]], now: float
    ) -> list[int]:
        moment = int(now * 1_000_000)
        ends: dict[int, tuple[int, int]] = {}
        inserted = []
        offsets = []
        for number, key, data, attributes in rows:
            base = self._bases[number]
            if number not in ends:
                last = connection.execute(LAST, (base, base + (1 << OFFSET_BITS))).fetchone()
                # A clock that was set back must not bring the order of the timestamps into disorder.
                ends[number] = (base, moment) if last is None else (last[0], max(moment, last[1]))
            identity, time = ends[number]
            identity += 1
            ends[number] = (identity, time)
            inserted.append((identity, time, key, data, attributes))
            offsets.append(identity - base)
        connection.executemany("INSERT INTO stream_record VALUES (?, ?, ?, ?, ?)", inserted)
        if now >= self._trim_at or now < self._trim_at - self._trim_pause:
            self._trim(connection, now)
        return offsets

    def _trim(self, connection: sqlite3.Connection, now: float) -> None:
        """Remove records whose retention has ended, but never the newest: the next offset follows from it."""
        oldest = int(now * 1_000_000) - self._retention
        self._trim_at = now + self._trim_pause
        for base in self._bases:
            end = base + (1 << OFFSET_BITS)
            first = connection.execute(FIRST, (base, end)).fetchone()
            if first is None or first[1] >= oldest:
                continue
            last = connection.execute(LAST, (base, end)).fetchone()
            until = min(_before(connection, base, end, oldest) + 1, last[0])
            if until - first[0] > TRIMMED_AT_ONCE:
                until = first[0] + TRIMMED_AT_ONCE
                self._trim_at = now
            connection.execute("DELETE FROM stream_record WHERE id > ? AND id < ?", (base, until))


def _before(connection: sqlite3.Connection, start: int, end: int, oldest: int) -> int:
    """Give the number before that of the first record, after `start`, that was taken at a moment or later.

    The times of a partition's records only grow, and their numbers have no gaps.
    """
    first = connection.execute(FIRST, (start, end)).fetchone()
    if first is None:
        return start
    if first[1] >= oldest:
        return int(first[0]) - 1
    last = connection.execute(LAST, (start, end)).fetchone()
    low, high = first[0], last[0] + 1
    while high - low > 1:
        middle = (low + high) // 2
        row = connection.execute("SELECT time FROM stream_record WHERE id = ?", (middle,)).fetchone()
        if row is None or row[0] < oldest:
            # A missing one was trimmed meanwhile: it was older.
            low = middle
        else:
            high = middle
    return int(low)


_GROUP = "SELECT state FROM stream_group WHERE stream = ? AND name = ?"
_decode_group = msgspec.json.Decoder(GroupState).decode
