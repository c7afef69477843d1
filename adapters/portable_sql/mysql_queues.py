"""What is done to queues on MySQL and MariaDB, statement by statement.

MySQL's page on what makes this work: https://dev.mysql.com/doc/refman/8.4/en/innodb-locking-reads.html.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from portable_sql.queue_layout import BLOCKED, MYSQL_TABLES, Held, New, behind

__all__ = ["MysqlQueues"]

NOW = "CAST(FLOOR(UNIX_TIMESTAMP(NOW(3)) * 1000) AS SIGNED)"

_TABLE = "portable_queue_message"
_ADD = f"INSERT INTO {_TABLE} (queue, id, due, sent, `key`, attributes, body) VALUES "
_LEASE = f"""SELECT id, count + 1, sent, `key`, attributes, body FROM {_TABLE}
    WHERE queue = %s AND due <= {NOW} ORDER BY due, id LIMIT %s FOR UPDATE SKIP LOCKED"""
_GIVE_BACK = f"due = {NOW} + %s, leased = false, count = count - %s"
_EXTEND = f"due = {NOW} + %s"
_BURY = f"""UPDATE {_TABLE} SET queue = %s, due = {NOW}, leased = false, count = 0, attributes = %s
    WHERE queue = %s AND id = %s AND count = %s AND leased"""
_FREE = f"UPDATE {_TABLE} SET due = {NOW} WHERE queue = %s AND due = {BLOCKED} AND id IN "
_FIRST = f"SELECT min(id) FROM {_TABLE} WHERE queue = %s AND `key` IN "
_BLOCK_ALL = f"""UPDATE {_TABLE} m JOIN (SELECT `key`, min(id) AS first FROM {_TABLE}
        WHERE queue = %s AND `key` IS NOT NULL GROUP BY `key`) heads ON heads.`key` = m.`key`
    SET m.due = {BLOCKED} WHERE m.queue = %s AND m.id > heads.first"""
_FORGET = f"DELETE FROM portable_queue_dedup WHERE queue = %s AND expires <= {NOW} LIMIT 1000"
_KNOWN = f"SELECT dedup_id, message FROM portable_queue_dedup WHERE queue = %s AND expires > {NOW} AND dedup_id IN "


class MysqlQueues:
    """Satisfies `portable_sql.queue_statements.Statements`."""

    now = NOW
    tables = MYSQL_TABLES

    def add_one(self, connection: Any, queue: int, message: New) -> int:
        """Add a message that has no key."""
        return self.add(connection, queue, [message])[0]

    def new_ids(self, connection: Any, count: int) -> list[int]:
        """Give ids, one greater than the other, that no message has."""
        # Only rows are given numbers; no queue has the number 0.
        ids = self._insert(connection, 0, [New(b"", None)] * count, [NOW] * count)
        connection.execute(f"DELETE FROM {_TABLE} WHERE queue = 0 AND id IN {_marks(ids)}", ids)
        return ids

    def add(self, connection: Any, queue: int, messages: Sequence[New]) -> list[int]:
        """Add messages, each due by its own delay; either all or none of them have an id."""
        return self._insert(connection, queue, messages, [f"{NOW} + {one.delay:d}" for one in messages])

    def line_up(self, connection: Any, queue: int, messages: Sequence[New]) -> list[int]:
        """Add messages that have keys, each behind those of its key, which the transaction has locked."""
        keys = sorted({one.key for one in messages if one.key is not None})
        sql = f"SELECT DISTINCT `key` FROM {_TABLE} WHERE queue = %s AND `key` IN {_marks(keys)}"
        taken = {row[0] for row in connection.fetch(sql, (queue, *keys))}
        waits = [late or one.key in taken for late, one in zip(behind(messages), messages, strict=True)]
        return self._insert(connection, queue, messages, [str(BLOCKED) if late else NOW for late in waits])

    def lock(self, connection: Any, names: Iterable[tuple[int, bytes]]) -> None:
        """Keep others from what has keys or dedup ids in these queues until the transaction ends."""
        queues = sorted({queue for queue, _ in names})
        connection.fetch(f"SELECT id FROM portable_queue WHERE id IN {_marks(queues)} ORDER BY id FOR UPDATE", queues)

    def lease(self, connection: Any, queue: int, count: int, milliseconds: int) -> list[Any]:
        """Lease what is due, the oldest first."""
        connection.begin()
        rows: list[Any] = connection.fetch(_LEASE, (queue, count))
        if rows:
            ids = [row[0] for row in rows]
            sql = f"UPDATE {_TABLE} SET due = {NOW} + %s, leased = true, count = count + 1 WHERE queue = %s AND id IN "
            connection.execute(sql + _marks(ids), (milliseconds, queue, *ids))
        connection.commit()
        return rows

    def remove(self, connection: Any, queue: int, held: Held) -> set[int]:
        """Remove those that are still held; gives their ids."""
        return self._each(connection, f"DELETE FROM {_TABLE}", (), queue, held)

    def give_back(self, connection: Any, queue: int, held: Held, milliseconds: int, uncount: int) -> set[int]:
        """Let go of those that are still held."""
        return self._each(connection, f"UPDATE {_TABLE} SET {_GIVE_BACK}", (milliseconds, uncount), queue, held)

    def extend(self, connection: Any, queue: int, held: Held, milliseconds: int) -> set[int]:
        """Hold those that are still held for so long from now."""
        return self._each(connection, f"UPDATE {_TABLE} SET {_EXTEND}", (milliseconds,), queue, held)

    def bury(self, connection: Any, queue: int, held: Held, dead: int, attributes: Sequence[str]) -> set[int]:
        """Move those that are still held to the dead-letter queue."""
        return {
            one[0]
            for one, text in zip(held, attributes, strict=True)
            if connection.execute(_BURY, (dead, text, queue, *one))
        }

    def free(self, connection: Any, queue: int, keys: Sequence[bytes]) -> None:
        """Make the first message of each of these keys due, if it waits."""
        heads = connection.fetch(f"{_FIRST}{_marks(keys)} GROUP BY `key`", (queue, *keys))
        if heads:
            connection.execute(_FREE + _marks(heads), (queue, *(row[0] for row in heads)))

    def block_all(self, connection: Any, queue: int) -> None:
        """Line up all that have keys."""
        connection.execute(_BLOCK_ALL, (queue, queue))

    def known(self, connection: Any, queue: int, dedup_ids: Sequence[bytes]) -> dict[bytes, int]:
        """Give the messages that were sent with these ids lately, and forget those of earlier."""
        connection.execute(_FORGET, (queue,))
        return dict(connection.fetch(_KNOWN + _marks(dedup_ids), (queue, *dedup_ids)))

    def remember(self, connection: Any, queue: int, seen: dict[bytes, int], milliseconds: int) -> None:
        """Remember dedup ids and their messages for so long."""
        rows = ", ".join([f"(%s, %s, %s, {NOW} + %s)"] * len(seen))
        values = [value for known, message in seen.items() for value in (queue, known, message, milliseconds)]
        connection.execute(
            f"REPLACE INTO portable_queue_dedup (queue, dedup_id, message, expires) VALUES {rows}", values
        )

    def _insert(self, connection: Any, queue: int, messages: Sequence[New], due: Sequence[str]) -> list[int]:
        rows = ", ".join(f"(%s, %s, {when}, {NOW}, %s, %s, %s)" for when in due)
        values = [value for one in messages for value in (queue, one.id, one.key, one.attributes, one.body)]
        connection.execute(_ADD + rows, values)
        if messages[0].id is not None:
            return [one.id or 0 for one in messages]
        # The rows of one statement are numbered one after the other.
        return list(range(connection.last_id, connection.last_id + len(messages) * connection.step, connection.step))

    def _each(self, connection: Any, what: str, values: tuple[int, ...], queue: int, held: Held) -> set[int]:
        ids = [id_ for id_, _ in held]
        where = f" WHERE queue = %s AND leased AND id IN {_marks(held)}"
        where += f" AND (id, count) IN ({', '.join(['(%s, %s)'] * len(held))})"
        named = (queue, *ids, *(number for one in held for number in one))
        if len(held) == 1:
            return set(ids) if connection.execute(what + where, (*values, *named)) else set()
        # Only a look before tells which of them it was.
        there = {row[0] for row in connection.fetch(f"SELECT id FROM {_TABLE}{where} FOR UPDATE", named)}
        if there:
            connection.execute(f"{what} WHERE queue = %s AND id IN {_marks(there)}", (*values, queue, *sorted(there)))
        return there


def _marks(values: Sequence[object] | set[int]) -> str:
    return f"({', '.join(['%s'] * len(values))})"
