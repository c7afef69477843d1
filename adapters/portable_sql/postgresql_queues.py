"""What is done to queues on PostgreSQL, statement by statement; each is one round trip whatever the number of messages.

PostgreSQL's page on what makes this work: https://www.postgresql.org/docs/current/sql-select.html#SQL-FOR-UPDATE-SHARE.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from portable_sql.queue_layout import BLOCKED, POSTGRESQL_TABLES, Held, New, behind

__all__ = ["PostgresqlQueues"]

NOW = "floor(extract(epoch FROM statement_timestamp()) * 1000)::bigint"

_COLUMNS = "m.id, m.count, m.sent, m.key, m.attributes, m.body"

_ADD_ONE = f"""INSERT INTO portable_queue_message (queue, due, sent, attributes, body)
    VALUES (%s, {NOW} + %s, {NOW}, %s, %s) RETURNING id"""

# The clock is asked once for all rows.
_ONCE = f"(SELECT {NOW})"
_ADD_BODIES = f"""INSERT INTO portable_queue_message (queue, due, sent, body)
    SELECT %s, {_ONCE}, {_ONCE}, unnest(%b::bytea[]) RETURNING id"""
_ADD = f"""INSERT INTO portable_queue_message (queue, due, sent, key, attributes, body)
    SELECT %s, {_ONCE} + new.delay, {_ONCE}, new.key, new.attributes, new.body
    FROM unnest(%b::bigint[], %b::bytea[], %b::text[], %b::bytea[])
        WITH ORDINALITY AS new (delay, key, attributes, body, position)
    ORDER BY new.position RETURNING id"""
_ADD_COPIES = f"""INSERT INTO portable_queue_message (queue, due, sent, key, attributes, body, id)
    SELECT %s, {_ONCE} + new.delay, {_ONCE}, new.key, new.attributes, new.body, new.id
    FROM unnest(%b::bigint[], %b::bytea[], %b::text[], %b::bytea[], %b::bigint[])
        AS new (delay, key, attributes, body, id) RETURNING id"""
_NEW_IDS = """SELECT nextval(pg_get_serial_sequence('portable_queue_message', 'id')) FROM generate_series(1, %s)"""

# Of the messages of a key only the first that is there, or else the first of these, can be due.
_WHEN = f"""CASE WHEN new.behind OR EXISTS (
        SELECT FROM portable_queue_message m WHERE m.queue = %s AND m.key = new.key) THEN {BLOCKED} ELSE {_ONCE} END"""
_LINE_UP = f"""INSERT INTO portable_queue_message (queue, due, sent, key, attributes, body)
    SELECT %s, {_WHEN}, {_ONCE}, new.key, new.attributes, new.body
    FROM unnest(%b::boolean[], %b::bytea[], %b::text[], %b::bytea[])
        WITH ORDINALITY AS new (behind, key, attributes, body, position)
    ORDER BY new.position RETURNING id"""
_LINE_UP_COPIES = f"""INSERT INTO portable_queue_message (queue, due, sent, key, attributes, body, id)
    SELECT %s, {_WHEN}, {_ONCE}, new.key, new.attributes, new.body, new.id
    FROM unnest(%b::boolean[], %b::bytea[], %b::text[], %b::bytea[], %b::bigint[])
        AS new (behind, key, attributes, body, id) RETURNING id"""

_LEASE = f"""WITH picked AS MATERIALIZED (
        SELECT m.id, m.due FROM portable_queue_message m WHERE m.queue = %s AND m.due <= {_ONCE}
        ORDER BY m.due, m.id LIMIT %s FOR UPDATE SKIP LOCKED)
    UPDATE portable_queue_message m SET due = {_ONCE} + %s, leased = true, count = m.count + 1
    FROM picked WHERE m.queue = %s AND m.id = picked.id RETURNING picked.due, {_COLUMNS}"""

_HELD_ONE = "m.queue = %s AND m.id = %s AND m.count = %s AND m.leased"
_HELD = "m.queue = %s AND m.id = held.id AND m.count = held.count AND m.leased"
_DELIVERIES = "unnest(%b::bigint[], %b::bigint[]) AS held (id, count)"
_LETTERS = "unnest(%b::bigint[], %b::bigint[], %b::text[]) AS held (id, count, attributes)"
_CHANGE = "UPDATE portable_queue_message m SET"
_GIVE_BACK = f"due = {_ONCE} + %s, leased = false, count = m.count - %s"
_EXTEND = f"due = {_ONCE} + %s"
_BURY = f"queue = %s, due = {NOW}, leased = false, count = 0, attributes = held.attributes"

_FREE = f"""UPDATE portable_queue_message m SET due = {NOW} WHERE m.due = {BLOCKED} AND m.queue = %s AND m.id IN (
    SELECT (SELECT min(f.id) FROM portable_queue_message f WHERE f.queue = %s AND f.key = freed.key)
    FROM unnest(%b::bytea[]) AS freed (key))"""
_BLOCK_ALL = f"""UPDATE portable_queue_message m SET due = {BLOCKED} WHERE m.queue = %s AND m.key IS NOT NULL
    AND EXISTS (SELECT FROM portable_queue_message f WHERE f.queue = m.queue AND f.key = m.key AND f.id < m.id)"""

_KNOWN = (
    """SELECT dedup_id, message FROM portable_queue_dedup
    WHERE queue = %s AND dedup_id = ANY(%b::bytea[]) AND expires > """
    + NOW
)
_FORGET = f"""DELETE FROM portable_queue_dedup WHERE (queue, dedup_id) IN (
    SELECT queue, dedup_id FROM portable_queue_dedup WHERE queue = %s AND expires <= {NOW}
    ORDER BY expires LIMIT 1000 FOR UPDATE SKIP LOCKED)"""
_REMEMBER = f"""INSERT INTO portable_queue_dedup (queue, dedup_id, message, expires)
    SELECT %s, seen.dedup_id, seen.message, {NOW} + %s
    FROM unnest(%b::bytea[], %b::bigint[]) AS seen (dedup_id, message)
    ON CONFLICT (queue, dedup_id) DO UPDATE SET message = excluded.message, expires = excluded.expires"""


class PostgresqlQueues:
    """Satisfies `portable_sql.queue_statements.Statements`."""

    now = NOW
    tables = POSTGRESQL_TABLES

    def add_one(self, connection: Any, queue: int, message: New) -> int:
        """Add a message that has no key."""
        row = (queue, message.delay, message.attributes, message.body)
        return int(connection.fetch(_ADD_ONE, row)[0][0])

    def new_ids(self, connection: Any, count: int) -> list[int]:
        """Give ids, one greater than the other, that no message has."""
        return [row[0] for row in connection.fetch(_NEW_IDS, (count,))]

    def add(self, connection: Any, queue: int, messages: Sequence[New]) -> list[int]:
        """Add messages, each due by its own delay; either all or none of them have an id."""
        delays, keys, attributes, bodies = ([one[at] for one in messages] for at in (3, 2, 1, 0))
        if messages[0].id is None and not any(delays) and not any(keys) and not any(attributes):
            rows = connection.fetch(_ADD_BODIES, (queue, bodies))
        elif messages[0].id is None:
            rows = connection.fetch(_ADD, (queue, delays, keys, attributes, bodies))
        else:
            ids = [one.id for one in messages]
            rows = connection.fetch(_ADD_COPIES, (queue, delays, keys, attributes, bodies, ids))
        return [row[0] for row in rows]

    def line_up(self, connection: Any, queue: int, messages: Sequence[New]) -> list[int]:
        """Add messages that have keys, each behind those of its key, which the transaction has locked."""
        keys, attributes, bodies = ([one[at] for one in messages] for at in (2, 1, 0))
        columns = [behind(messages), keys, attributes, bodies]
        if messages[0].id is None:
            rows = connection.fetch(_LINE_UP, (queue, queue, *columns))
        else:
            rows = connection.fetch(_LINE_UP_COPIES, (queue, queue, *columns, [one.id for one in messages]))
        return [row[0] for row in rows]

    def lock(self, connection: Any, names: Iterable[tuple[int, bytes]]) -> None:
        """Keep others from what has these keys or dedup ids in these queues until the transaction ends."""
        digests = {hashlib.blake2b(b"%d\0%b" % name, digest_size=8).digest() for name in names}
        # Always in the same order, so that nobody waits for each other.
        locks = sorted(int.from_bytes(digest, signed=True) for digest in digests)
        connection.fetch("SELECT pg_advisory_xact_lock(lock) FROM unnest(%b::bigint[]) AS lock", (locks,))

    def lease(self, connection: Any, queue: int, count: int, milliseconds: int) -> list[Any]:
        """Lease what is due, the oldest first."""
        rows = connection.fetch(_LEASE, (queue, count, milliseconds, queue))
        if len(rows) > 1:
            rows.sort(key=lambda row: row[:2])
        return [row[1:] for row in rows]

    def remove(self, connection: Any, queue: int, held: Held) -> set[int]:
        """Remove those that are still held; gives their ids."""
        if len(held) == 1:
            sql = f"DELETE FROM portable_queue_message m WHERE {_HELD_ONE}"
            return {held[0][0]} if connection.execute(sql, (queue, *held[0])) else set()
        sql = f"DELETE FROM portable_queue_message m USING {_DELIVERIES} WHERE {_HELD} RETURNING m.id"
        return {row[0] for row in connection.fetch(sql, (*_columns(held), queue))}

    def give_back(self, connection: Any, queue: int, held: Held, milliseconds: int, uncount: int) -> set[int]:
        """Let go of those that are still held."""
        return self._change(connection, _GIVE_BACK, (milliseconds, uncount), queue, held)

    def extend(self, connection: Any, queue: int, held: Held, milliseconds: int) -> set[int]:
        """Hold those that are still held for so long from now."""
        return self._change(connection, _EXTEND, (milliseconds,), queue, held)

    def bury(self, connection: Any, queue: int, held: Held, dead: int, attributes: Sequence[str]) -> set[int]:
        """Move those that are still held to the dead-letter queue."""
        sql = f"{_CHANGE} {_BURY} FROM {_LETTERS} WHERE {_HELD} RETURNING m.id"
        return {row[0] for row in connection.fetch(sql, (dead, *_columns(held), list(attributes), queue))}

    def free(self, connection: Any, queue: int, keys: Sequence[bytes]) -> None:
        """Make the first message of each of these keys due, if it waits."""
        connection.execute(_FREE, (queue, queue, list(keys)))

    def block_all(self, connection: Any, queue: int) -> None:
        """Line up all that have keys."""
        connection.execute(_BLOCK_ALL, (queue,))

    def known(self, connection: Any, queue: int, dedup_ids: Sequence[bytes]) -> dict[bytes, int]:
        """Give the messages that were sent with these ids lately, and forget those of earlier."""
        connection.execute(_FORGET, (queue,))
        return dict(connection.fetch(_KNOWN, (queue, list(dedup_ids))))

    def remember(self, connection: Any, queue: int, seen: dict[bytes, int], milliseconds: int) -> None:
        """Remember dedup ids and their messages for so long."""
        connection.execute(_REMEMBER, (queue, milliseconds, list(seen), list(seen.values())))

    def _change(self, connection: Any, what: str, values: tuple[int, ...], queue: int, held: Held) -> set[int]:
        if len(held) == 1:
            changed = connection.execute(f"{_CHANGE} {what} WHERE {_HELD_ONE}", (*values, queue, *held[0]))
            return {held[0][0]} if changed else set()
        sql = f"{_CHANGE} {what} FROM {_DELIVERIES} WHERE {_HELD} RETURNING m.id"
        return {row[0] for row in connection.fetch(sql, (*values, *_columns(held), queue))}


def _columns(held: Held) -> list[list[int]]:
    return [[id_ for id_, _ in held], [count for _, count in held]]
