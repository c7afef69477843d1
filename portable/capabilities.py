"""What a driver declares of its backend: features, as booleans, and limits, as numbers.

A feature that is declared is proven by the conformance suite; one that is not raises `Unsupported` before anything
is sent, and the suite proves that too. Limits are what the driver itself cannot exceed; what a cloud's service
would refuse beyond that is in `limits.toml`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = [
    "BucketCapabilities",
    "CacheCapabilities",
    "Capabilities",
    "CollectionCapabilities",
    "DatabaseCapabilities",
    "Durability",
    "QueueCapabilities",
    "StreamCapabilities",
    "TopicCapabilities",
]


Durability = Literal["none", "process", "power", "replicated"]


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What every kind declares.

    Attributes:
        durability: what survives once a write returned: `"none"` (the process's life), `"process"` (SIGKILL),
            `"power"` (a power cut), `"replicated"` (the loss of a machine).
    """

    durability: Durability = "replicated"

    @classmethod
    def features(cls) -> tuple[str, ...]:
        """The names that `needs` may list: the fields that are booleans."""
        return tuple(field.name for field in msgspec.structs.fields(cls) if field.type is bool)


class BucketCapabilities(Capabilities, frozen=True, kw_only=True):
    """Of a bucket.

    Attributes:
        sign: `sign` gives URLs that work without credentials.
        server_side_copy: `copy` moves no bytes through this process.
        max_key_bytes: the longest stored key, after escaping.
        max_object_bytes: the largest object, or None where only the disk limits it.
        part_bytes: the preferred size of a part of a multipart upload or of a ranged read.
        part_concurrency: how many parts are worth moving at once.
        max_parts: how many parts an upload may have, or None.
        max_delete_batch: how many keys one call to the driver's `delete_many` may delete.
    """

    sign: bool = False
    server_side_copy: bool = False
    max_key_bytes: int = 1024
    max_object_bytes: int | None = None
    part_bytes: int = 8 * 1024 * 1024
    part_concurrency: int = 4
    max_parts: int | None = 10_000
    max_delete_batch: int = 1


class QueueCapabilities(Capabilities, frozen=True, kw_only=True):
    """Of a queue or subscription.

    Attributes:
        exclusive_lease: a message is never shown twice within a lease.
        exact_count: `delivery_count` and `max_deliveries` are exact.
        delay: `send(delay=)`.
        nack_delay: `nack(delay)`.
        lease_per_receive: `receive(visibility_timeout=)`.
        ordered: `ordering_key`; messages of a key one at a time, in order.
        dedup: repeats of a `dedup_id` within five minutes are dropped.
        purge: `purge()`.
        peek: `peek()`.
        max_body_bytes: body and attributes together, or None.
        max_batch: how many messages one call to the driver may send.
        max_receive: how many messages one call to the driver may receive.
        max_delay: seconds, or None.
        max_visibility: seconds, or None.
    """

    exclusive_lease: bool = False
    exact_count: bool = False
    delay: bool = False
    nack_delay: bool = False
    lease_per_receive: bool = False
    ordered: bool = False
    dedup: bool = False
    purge: bool = False
    peek: bool = False
    max_body_bytes: int | None = None
    max_batch: int = 10
    max_receive: int = 10
    max_delay: float | None = None
    max_visibility: float | None = None


class TopicCapabilities(Capabilities, frozen=True, kw_only=True):
    """Of a topic.

    Attributes:
        ordered: `ordering_key`.
        max_body_bytes: body and attributes together, or None.
        max_batch: how many messages one call to the driver may publish.
    """

    ordered: bool = False
    max_body_bytes: int | None = None
    max_batch: int = 10


class StreamCapabilities(Capabilities, frozen=True, kw_only=True):
    """Of a stream.

    Attributes:
        groups: the backend keeps the positions of consumer groups itself; where it does not, `checkpoint` names
            the collection that does.
        max_record_bytes: data, key and attributes together, or None.
        max_batch: how many records one call to the driver may append.
    """

    groups: bool = True
    max_record_bytes: int | None = None
    max_batch: int = 500


class CacheCapabilities(Capabilities, frozen=True, kw_only=True):
    """Of a cache.

    Attributes:
        lock: `lock()`.
        fencing: a lock's `.token` grows with each holder.
        negative_counters: `incr` may go below zero.
        max_key_bytes: the longest key, or None.
        max_value_bytes: the largest value, or None.
    """

    lock: bool = False
    fencing: bool = False
    negative_counters: bool = False
    max_key_bytes: int | None = None
    max_value_bytes: int | None = None


class CollectionCapabilities(Capabilities, frozen=True, kw_only=True):
    """Of a collection.

    Attributes:
        wide_transactions: `transact` may span partitions and hold more than 100 writes.
        big_int: integers beyond 2⁵³ are exact (64 bits).
        query_consistency: a query sees every write that returned before it.
        max_document_bytes: the largest document as JSON, or None.
        max_key_bytes: the longest key, or None.
        max_batch: how many writes one call to the driver may hold.
    """

    wide_transactions: bool = False
    big_int: bool = False
    query_consistency: bool = False
    max_document_bytes: int | None = None
    max_key_bytes: int | None = None
    max_batch: int = 25


class DatabaseCapabilities(Capabilities, frozen=True, kw_only=True):
    """Of a database.

    Attributes:
        transactional_ddl: a migration that fails half way leaves nothing behind.
        token_refresh: passwords are short-lived tokens, fetched anew for each connection.
    """

    transactional_ddl: bool = False
    token_refresh: bool = False
