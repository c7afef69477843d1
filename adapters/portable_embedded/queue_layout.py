"""The tables of queues, topics and subscriptions in an SQLite file, and the statements on them.

`docs/wire-formats/queue.md` describes them for other programs. Messages lie in one tree in the order in which they are
due, so that to send, to lease and to remove one touches no index beside it.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Mapping
from functools import lru_cache

import msgspec

from portable_embedded.schemas import Schema

__all__ = [
    "ACK",
    "ACK_ONE",
    "BLOCKED",
    "BLOCK_ALL",
    "BURY",
    "DUE",
    "EXTEND",
    "EXTENDED",
    "HIDDEN_BEFORE",
    "HIDDEN_NEW",
    "INSERT",
    "LAST_OF_KEY",
    "LEASE",
    "LEASE_ONE",
    "NACK",
    "PEEK",
    "SCHEMA",
    "STATS",
    "UNBLOCK",
    "UNBLOCK_ALL",
    "UNHIDE_BEFORE",
    "UNHIDE_NEW",
    "UNLEASE",
    "Ids",
    "channel",
    "decode_filter",
    "encode_filter",
    "ids",
]

BLOCKED = 1 << 47
"""When a message is due, in milliseconds, that waits for the one before it in its ordering key."""

SCHEMA = Schema(
    name="queue",
    version=1,
    statements=(
        """CREATE TABLE queue (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, ordered INTEGER NOT NULL, topic TEXT, filter TEXT)""",
        "CREATE INDEX queue_topic ON queue (topic) WHERE topic IS NOT NULL",
        "CREATE TABLE topic (name TEXT PRIMARY KEY) WITHOUT ROWID",
        """CREATE TABLE queue_message (
            queue INTEGER NOT NULL, due INTEGER NOT NULL, id INTEGER NOT NULL, leased INTEGER NOT NULL DEFAULT 0,
            count INTEGER NOT NULL DEFAULT 0, sent INTEGER NOT NULL, key TEXT, attributes TEXT, body BLOB NOT NULL,
            PRIMARY KEY (queue, due, id)) WITHOUT ROWID""",
        "CREATE INDEX queue_message_key ON queue_message (queue, key, id) WHERE key IS NOT NULL",
        """CREATE TABLE queue_dedup (
            queue INTEGER NOT NULL, dedup_id TEXT NOT NULL, message INTEGER NOT NULL, expires INTEGER NOT NULL,
            PRIMARY KEY (queue, dedup_id)) WITHOUT ROWID""",
        "CREATE INDEX queue_dedup_expires ON queue_dedup (queue, expires)",
    ),
)

INSERT = "INSERT INTO queue_message (queue, due, id, sent, key, attributes, body) VALUES (?, ?, ?, ?, ?, ?, ?)"

LEASE_ONE = """UPDATE queue_message SET due = ?3, leased = 1, count = count + 1 WHERE queue = ?1 AND (due, id) = (
    SELECT due, id FROM queue_message WHERE queue = ?1 AND due <= ?2 ORDER BY due, id LIMIT 1)
    RETURNING id, count, sent, key, attributes, body"""
LEASE = """UPDATE queue_message SET due = ?3, leased = 1, count = count + 1 WHERE queue = ?1 AND (due, id) IN (
    SELECT due, id FROM queue_message WHERE queue = ?1 AND due <= ?2 ORDER BY due, id LIMIT ?4)
    RETURNING id, count, sent, key, attributes, body"""

# A delivery is known by when its lease ends, beside the id: whoever leased the message since has moved it elsewhere.
ACK = "DELETE FROM queue_message WHERE queue = ? AND due = ? AND id = ? AND count = ? AND leased = 1"
ACK_ONE = "DELETE FROM queue_message WHERE queue = ? AND due = ? AND id = ? AND count = ? AND leased = 1 RETURNING id"
EXTEND = "UPDATE queue_message SET due = ? WHERE queue = ? AND due = ? AND id = ? AND count = ? AND leased = 1"
NACK = """UPDATE queue_message SET due = ?, leased = 0
    WHERE queue = ? AND due = ? AND id = ? AND count = ? AND leased = 1"""
UNLEASE = """UPDATE queue_message SET due = ?, leased = 0, count = count - 1
    WHERE queue = ? AND due = ? AND id = ? AND count = ? AND leased = 1"""
BURY = """UPDATE queue_message SET queue = ?, due = ?, attributes = ?, leased = 0, count = 0
    WHERE queue = ? AND due = ? AND id = ? AND count = ? AND leased = 1"""
EXTENDED = "SELECT due FROM queue_message WHERE queue = ? AND due > ? AND id = ? AND count = ? AND leased = 1"

LAST_OF_KEY = "SELECT max(id) FROM queue_message WHERE queue = ? AND key = ?"
UNBLOCK = """UPDATE queue_message SET due = ?3 WHERE queue = ?1 AND due = ?4 AND id = (
    SELECT id FROM queue_message WHERE queue = ?1 AND key = ?2 ORDER BY id LIMIT 1)"""
BLOCK_ALL = """UPDATE queue_message SET due = ?2 WHERE queue = ?1 AND key IS NOT NULL AND id NOT IN (
    SELECT min(id) FROM queue_message WHERE queue = ?1 AND key IS NOT NULL GROUP BY key)"""
UNBLOCK_ALL = "UPDATE queue_message SET due = ? WHERE queue = ? AND due = ?"

DUE = "SELECT due FROM queue_message WHERE queue = ? ORDER BY due LIMIT 1"
PEEK = """SELECT id, count, sent, key, attributes, body FROM queue_message
    WHERE queue = ? AND due <= ? ORDER BY due, id LIMIT ?"""
STATS = """SELECT count(*), count(*) FILTER (WHERE leased AND due > ?2),
    count(*) FILTER (WHERE NOT leased AND due > ?2 AND due < ?3) FROM queue_message WHERE queue = ?1"""


# What was ready is ready, though the clock was set back: seen by a driver that knows the time before, or, where nobody
# is left who does, by a message without delay that was sent later than now.
HIDDEN_BEFORE = "SELECT 1 FROM queue_message WHERE queue = ?1 AND due > ?2 AND due <= ?3 AND leased = 0 LIMIT 1"
UNHIDE_BEFORE = "UPDATE queue_message SET due = ?2 WHERE queue = ?1 AND due > ?2 AND due <= ?3 AND leased = 0"
HIDDEN_NEW = "SELECT 1 FROM queue_message WHERE queue = ?1 AND due > ?2 AND due = sent AND count = 0 LIMIT 1"
UNHIDE_NEW = "UPDATE queue_message SET due = ?2 WHERE queue = ?1 AND due > ?2 AND due = sent AND count = 0"


class Ids:
    """Numbers that no other message has: they begin with the time and end with a mark of this process."""

    def __init__(self) -> None:
        self.next = self._begin()
        _all_ids.append(self)

    def restart(self) -> None:
        """Begin again, in a forked child, whose parent goes on with these."""
        self.next = self._begin()

    @staticmethod
    def _begin() -> itertools.count[int]:
        mark = random.SystemRandom().randrange(_MARKS)
        return itertools.count(time.time_ns() // 1000 * _MARKS + mark, _MARKS)


_MARKS = 1024
_all_ids: list[Ids] = []

ids = Ids()
"""Those of this process: what is sent and what is published share them, because both lie in the same queues."""


def _after_fork_in_child() -> None:
    for ids in _all_ids:
        ids.restart()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode


def encode_filter(wanted: Mapping[str, str]) -> str | None:
    """Give a subscription's filter as the column holds it: the same filter is the same text."""
    return _encode(dict(sorted(wanted.items()))).decode() if wanted else None


@lru_cache(256)
def decode_filter(text: str | None) -> tuple[tuple[str, str], ...]:
    """Undo `encode_filter`."""
    return tuple(_decode(text).items()) if text else ()


def channel(queue: str) -> str:
    """Give the channel on which a queue's news go."""
    return f"queue:{queue}"
