"""The protocols that adapters implement: for each kind the least set of operations that one backend must offer.

A driver takes and returns neutral types, maps its vendor's errors to `portable.errors`, and knows nothing of config
files. It is made without any I/O (`Class(binding)`), opened by the first operation, and closed with its resource.
Class attributes say how it runs: `is_async = True` for coroutine methods, `blocking = False` for sync methods that
never block and so may be called on an event loop. A sync driver whose backend has an async client too gives the driver
on that by a method `async_twin()`. `timeout` is what is left of the call's time, in seconds.

`portable.drivers` holds the same protocols for sync drivers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from portable.arrivals import Arrivals
from portable.batches import Page
from portable.bindings import Binding, Options, Shared
from portable.capabilities import (
    BucketCapabilities,
    CacheCapabilities,
    Capabilities,
    CollectionCapabilities,
    DatabaseCapabilities,
    QueueCapabilities,
    StreamCapabilities,
    TopicCapabilities,
)
from portable.changes import Change
from portable.document_writes import DocumentId, Modify, Remove, Save, Stored, Write
from portable.errors import PortableError
from portable.leases import Attempt
from portable.messages import Delivery, Outgoing, QueueStats
from portable.objects import Condition, ObjectHeaders, ObjectInfo, Part, Prefix, SignedRequest
from portable.outbox_entries import FailedEntry, OutboxEntry
from portable.query_plan import Plan, SortPosition
from portable.records import Edge, NewRecord, Position, Record

if TYPE_CHECKING:
    from sqlalchemy import Executable

    from portable.aio._engine import AsyncEngine, AsyncSession

__all__ = [
    "AheadQueueDriver",
    "Binding",
    "BucketCapabilities",
    "BucketDriver",
    "BuryingQueueDriver",
    "CacheCapabilities",
    "CacheDriver",
    "Capabilities",
    "Change",
    "CollectionCapabilities",
    "CollectionDriver",
    "DatabaseCapabilities",
    "DatabaseDriver",
    "Driver",
    "Options",
    "PushedQueueDriver",
    "QueueCapabilities",
    "QueueDriver",
    "Shared",
    "StreamCapabilities",
    "StreamDriver",
    "StreamMember",
    "TopicCapabilities",
    "TopicDriver",
    "WaitingQueueDriver",
]


class Driver(Protocol):
    """What every kind's driver has."""

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; known without I/O."""
        ...

    @property
    def native(self) -> Any:
        """The vendor's own client."""
        ...

    async def open(self) -> None:
        """Connect; where `binding.create` is set make what is missing, else raise `ResourceNotFound` for it."""
        ...

    async def close(self) -> None:
        """Let go of everything it holds; called once."""
        ...

    async def check(self, *, write: bool, timeout: float) -> None:
        """Raise what is wrong: not reachable, not authorised, missing, or (with `write`) not writable."""
        ...

    async def plan(self) -> list[Change]:
        """Say what `create` would make or change; empty when all is as the contract asks."""
        ...

    async def create(self) -> None:
        """Make what `plan` names; idempotent."""
        ...


class BucketDriver(Driver, Protocol):
    """A bucket: objects under keys of 1 to 1,024 bytes of UTF-8.

    What is missing is `NotFound`; an unmet `condition` or `etag` is `AlreadyExists` (absent) or `PreconditionFailed`,
    a missing target included. Every write is all or nothing. A driver checks with the backend's own checksum what it
    writes, and what one `get` of a whole object returns; with `ObjectInfo.checksum` callers check what they read in
    ranges. A class attribute `one_per_url = True` says that the URL alone names the bucket, whatever its `name`.
    """

    @property
    def capabilities(self) -> BucketCapabilities:
        """What it can do."""
        ...

    async def put(
        self, key: str, data: bytes | memoryview, headers: ObjectHeaders, condition: Condition | None, *, timeout: float
    ) -> ObjectInfo:
        """Write an object in one go; what it gets is at most a few times `part_bytes`."""
        ...

    async def get(self, key: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> bytes:
        """Read a range: to the end with `length` None, cut at the end, `b""` past it; with `etag` of that version."""
        ...

    async def head(self, key: str, *, timeout: float) -> ObjectInfo:
        """Describe an object, its metadata included."""
        ...

    async def delete(self, key: str, etag: str | None, *, timeout: float) -> None:
        """Delete an object; without `etag` a missing one is no error."""
        ...

    async def delete_many(self, keys: Sequence[str], *, timeout: float) -> Sequence[PortableError | None]:
        """Delete up to `max_delete_batch` objects; for each, in order, None or its error."""
        ...

    def list_pages(
        self,
        prefix: str,
        delimiter: str | None,
        start_after: str | None,
        cursor: str | None,
        limit: int,
        *,
        timeout: float,
    ) -> AsyncIterator[Page[ObjectInfo | Prefix]]:
        """Yield pages in the byte order of the keys, objects and prefixes merged, in constant memory.

        Only keys after `start_after` count, then those with `delimiter` behind the prefix become one `Prefix`. A
        page's cursor starts a new listing behind its last item, whatever was written or deleted meanwhile; the last
        page has none. There is at least one page, of at most `limit` items. `timeout` is for each page. A cursor that
        is none of ours is `InvalidArgument`.
        """
        ...

    async def copy(self, source: str, target: str, origin: Binding[Any] | None, *, timeout: float) -> ObjectInfo | None:
        """Copy an object with its headers, from the bucket `origin` (None: from this one).

        None comes back where the provider cannot do that itself; then the bytes are streamed.
        """
        ...

    async def sign(
        self, key: str, method: str, expires: float, content_type: str | None, *, timeout: float
    ) -> SignedRequest:
        """Make a request that anybody may send for `expires` seconds."""
        ...

    async def begin_upload(self, key: str, headers: ObjectHeaders, *, timeout: float) -> str:
        """Begin a multipart upload, and give its id; another process may go on with it."""
        ...

    async def write_part(
        self, key: str, upload: str, number: int, offset: int, data: bytes | memoryview, *, timeout: float
    ) -> Part:
        """Write one part; parts come in any order and side by side, the same number again replaces it."""
        ...

    async def kept_parts(self, key: str, upload: str, parts: Sequence[Part], *, timeout: float) -> list[Part]:
        """Say which of these parts the backend still has, whole; `NotFound` when the upload is gone."""
        ...

    async def commit_upload(
        self,
        key: str,
        upload: str,
        parts: Sequence[Part],
        headers: ObjectHeaders,
        condition: Condition | None,
        *,
        timeout: float,
    ) -> ObjectInfo:
        """Make the parts, in order and without gaps, the object; on an error the upload stays as it was."""
        ...

    async def abort_upload(self, key: str, upload: str, *, timeout: float) -> None:
        """Drop an upload and its parts; one that is gone is no error."""
        ...


class CacheDriver(Driver, Protocol):
    """A cache: encoded values under keys, and locks, in a namespace of its own.

    Keys and the names of locks are any text that is not empty; where the backend cannot carry one the driver escapes it
    reversibly. `ttl` is in seconds, above 0, and None for what does not expire; a backend that counts whole seconds
    rounds up. What has expired is as good as gone for every method.
    """

    @property
    def capabilities(self) -> CacheCapabilities:
        """What it can do."""
        ...

    async def get(self, key: str, *, timeout: float) -> bytes | None:
        """Give the value, or None."""
        ...

    async def get_many(self, keys: Sequence[str], *, timeout: float) -> dict[str, bytes]:
        """Give the values that are there, in as few round trips as can be."""
        ...

    async def set(self, key: str, value: bytes, ttl: float | None, *, timeout: float) -> None:
        """Set the value, whatever was there."""
        ...

    async def set_many(self, values: Mapping[str, bytes], ttl: float | None, *, timeout: float) -> None:
        """Set all the values, in as few round trips as can be."""
        ...

    async def add(self, key: str, value: bytes, ttl: float | None, *, timeout: float) -> bool:
        """Set the value if there is none, in one step; say whether it was set."""
        ...

    async def delete(self, key: str, *, timeout: float) -> bool:
        """Remove the value; say whether there was one."""
        ...

    async def delete_many(self, keys: Sequence[str], *, timeout: float) -> int:
        """Remove the values; say how many there were."""
        ...

    async def incr(self, key: str, by: int, ttl: float | None, *, timeout: float) -> int:
        """Add to a counter, a plain decimal, in one step, and give its new value; one that is made starts at 0.

        Raises:
            InvalidArgument: the value is no plain decimal of 64 bits.
            LimitExceeded: the result does not fit.
        """
        ...

    async def touch(self, key: str, ttl: float | None, *, timeout: float) -> bool:
        """Let the value live `ttl` seconds from now; say whether there was one."""
        ...

    async def ttl(self, key: str, *, timeout: float) -> float | None:
        """Give the seconds that the value has left, or None where it does not expire.

        Raises:
            NotFound: there is none.
        """
        ...

    async def clear(self, *, timeout: float) -> None:
        """Remove every value of this namespace; locks stay."""
        ...

    async def acquire(self, name: str, holder: str, ttl: float, *, timeout: float) -> Attempt:
        """Try once, in one step, to give a lock to a holder; `get_or_set` uses it also where `lock` is not declared."""
        ...

    async def extend(self, name: str, holder: str, ttl: float, *, timeout: float) -> bool:
        """Let a holder's lease last `ttl` seconds from now; False where it no longer has the lock."""
        ...

    async def release(self, name: str, holder: str, *, timeout: float) -> bool:
        """Free a lock; False where the holder no longer has it."""
        ...

    def lock_arrivals(self, name: str) -> Arrivals | None:
        """Give the news of releases of one lock, where the backend tells. A sync driver marks it `stays_sync`."""
        ...


class DatabaseDriver(Driver, Protocol):
    """A database: SQLAlchemy's engine with pool, TLS and credentials set, and the table of the outbox."""

    @property
    def capabilities(self) -> DatabaseCapabilities:
        """What it can do."""
        ...

    @property
    def async_engine(self) -> AsyncEngine:
        """The engine; made on first use, disposed of by `close`."""
        ...

    def async_session(self, **options: Any) -> AsyncSession:
        """Make an ORM session on the engine."""
        ...

    async def migrate(self, directory: Path, revision: str, version_table: str) -> None:
        """Run the Alembic migrations of a directory up to a revision."""
        ...

    def outbox_statements(self, entries: Sequence[OutboxEntry], *, create: bool) -> list[Executable]:
        """Give the statements that store entries (and with `create` the table), for the caller's own transaction."""
        ...

    async def outbox_lead(self, owner: str, seconds: float) -> bool:
        """Become, or stay, the one relay of this database for so many seconds; False while another is."""
        ...

    async def outbox_resign(self, owner: str) -> None:
        """Let another relay lead at once."""
        ...

    async def outbox_due(self, limit: int) -> list[tuple[int, OutboxEntry]]:
        """Give the oldest entries that are due, with their numbers, in order."""
        ...

    async def outbox_settle(self, done: Sequence[int], failed: Sequence[FailedEntry]) -> None:
        """Remove entries that were sent, and note what became of those that could not be."""
        ...


class QueueDriver(Driver, Protocol):
    """A queue, or the queue of a subscription. Bodies are bytes; what is given has been checked.

    What else a backend can, and says so: `BuryingQueueDriver`, `WaitingQueueDriver`, `AheadQueueDriver`,
    `PushedQueueDriver`.
    """

    @property
    def capabilities(self) -> QueueCapabilities:
        """What it can do."""
        ...

    @property
    def arrivals(self) -> Arrivals | None:
        """News of messages that can be received; None where the backend waits itself (`WaitingQueueDriver`)."""
        ...

    @property
    def buries(self) -> bool:
        """Whether it moves a message that used up its deliveries to the dead-letter queue (`BuryingQueueDriver`)."""
        ...

    @property
    def send_concurrency(self) -> int:
        """How many calls of `send` at once serve a large batch best: 1 where they would only queue up."""
        ...

    async def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Send at most `max_batch` messages; give each one's id or error, in order.

        After a failure the later messages of the same ordering key are not sent.
        """
        ...

    async def receive(self, max_messages: int, *, visibility: float, timeout: float) -> list[Delivery]:
        """Lease what is ready, without waiting for more."""
        ...

    async def next_due(self, *, timeout: float) -> float | None:
        """Say in how many seconds a message can be received: 0 for now, None when none is there or on its way.

        Asked only where there are `arrivals`.
        """
        ...

    async def ack(self, deliveries: Sequence[Delivery], *, timeout: float) -> list[PortableError | None]:
        """Remove messages for good; `LeaseLost` for what has been given to somebody else."""
        ...

    async def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:
        """Give messages back, to be received after `delay` seconds; what is no longer held stays as it is."""
        ...

    async def extend(
        self, deliveries: Sequence[Delivery], *, seconds: float, timeout: float
    ) -> list[PortableError | None]:
        """Hold messages for so many seconds from now; `LeaseLost` for what has been given to somebody else."""
        ...

    async def stats(self, *, timeout: float) -> QueueStats:
        """Count messages, those of the dead-letter queue left out."""
        ...

    async def purge(self, *, timeout: float) -> None:
        """Remove every message. Asked only where `purge` is declared."""
        ...

    async def peek(self, max_messages: int, *, timeout: float) -> list[Delivery]:
        """Look at what would be received, and leave it. Asked only where `peek` is declared."""
        ...


class BuryingQueueDriver(QueueDriver, Protocol):
    """A queue that moves messages to its dead-letter queue in one step: `buries` is True.

    `receive` then never gives a message more than `max_deliveries` times, and `nack` moves one that has used them up.
    """

    async def bury(self, deliveries: Sequence[Delivery], *, reason: str, timeout: float) -> list[PortableError | None]:
        """Move messages to the dead-letter queue; `LeaseLost` for what has been given to somebody else."""
        ...


class WaitingQueueDriver(QueueDriver, Protocol):
    """A queue whose backend waits for messages itself: `arrivals` is None."""

    async def wait_receive(
        self, max_messages: int, *, visibility: float, wait: float, timeout: float
    ) -> list[Delivery]:
        """Lease what is ready; when nothing is, wait up to `wait` seconds for the first."""
        ...


class AheadQueueDriver(QueueDriver, Protocol):
    """A queue that gives and removes many messages in a call, for about the price of one."""

    @property
    def consume_ahead(self) -> int:
        """How many messages `consume` may ask for at once, when it handles as many within a moment."""
        ...


class PushedQueueDriver(QueueDriver, Protocol):
    """A queue whose messages a function service pushes, batch by batch, as events: `pushed` is True."""

    @property
    def pushed(self) -> bool:
        """Always True."""
        ...

    async def read_event(self, event: Any) -> list[Delivery]:
        """Give the messages of an event."""
        ...

    async def answer_event(self, event: Any, failed: Sequence[Delivery]) -> dict[str, Any]:
        """Give the answer that has the service deliver the failed messages again."""
        ...


class TopicDriver(Driver, Protocol):
    """A topic. Bodies are bytes; what is given has been checked."""

    @property
    def capabilities(self) -> TopicCapabilities:
        """What it can do."""
        ...

    @property
    def send_concurrency(self) -> int:
        """How many calls of `publish` at once serve a large batch best: 1 where they would only queue up."""
        ...

    async def publish(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | PortableError]:
        """Publish at most `max_batch` messages; give each one's id or error, in order.

        After a failure the later messages of the same ordering key are not published.
        """
        ...


class StreamMember(Protocol):
    """One consumer of a group, at the driver. Its calls come one at a time, but for `heartbeat` and `commit`."""

    @property
    def heartbeat_every(self) -> float:
        """Seconds between calls of `heartbeat` that keep it in its group; 0 where the client sees to that itself."""
        ...

    async def fetch(self, max_records: int, *, timeout: float) -> list[Record[bytes]]:
        """Take its share of the partitions, give up what is over, and give what is there now, in order within each.

        What was fetched counts as received only after `took`; without that the next call gives it again.
        """
        ...

    async def wait_fetch(self, max_records: int, *, timeout: float) -> list[Record[bytes]]:
        """As `fetch`, but wait up to `timeout` seconds for the first record; called where there are no `arrivals`."""
        ...

    def took(self, records: Sequence[Record[bytes]]) -> None:
        """Learn that the consumer has what a fetch gave; marked `@bridges.stays_sync`."""
        ...

    def seek(self, position: Position) -> bool:
        """Fetch what follows a position next; False where the partition is another's. Marked `@bridges.stays_sync`."""
        ...

    def holds(self, partition: str) -> bool:
        """Whether a partition is this member's for sure, without I/O; marked `@bridges.stays_sync`."""
        ...

    def lost(self) -> set[str]:
        """Give, once, the partitions taken from it before it had committed; marked `@bridges.stays_sync`."""
        ...

    def due(self) -> float:
        """Seconds until it has to fetch again though nothing arrives; marked `@bridges.stays_sync`."""
        ...

    async def heartbeat(self, *, timeout: float) -> None:
        """Say that it lives, and learn what was taken from it."""
        ...

    async def commit(self, positions: Mapping[str, Position], *, timeout: float) -> set[str]:
        """Keep positions, by partition; gives the partitions that are not its own any more, which stay as they were."""
        ...

    async def lag(self, *, timeout: float) -> int | None:
        """Count the records of all partitions after what the group committed; None where the backend cannot say."""
        ...

    async def close(self, *, timeout: float) -> None:
        """Leave the group, so that its partitions are free at once."""
        ...


class StreamDriver(Driver, Protocol):
    """A stream: partitions of records in order, read by position.

    A driver whose partitions end and are continued by others also has what
    `portable.partition_member.BranchingSource` names. One that keeps groups beside the stream, and not in it, has
    `groups_beside = True`: its groups are in the `checkpoint` collection where one is named.
    """

    @property
    def capabilities(self) -> StreamCapabilities:
        """What it can do."""
        ...

    @property
    def arrivals(self) -> Arrivals | None:
        """News of records and of groups, where the backend has it."""
        ...

    async def partitions(self, *, timeout: float) -> list[str]:
        """Give the names of the partitions, in their order."""
        ...

    async def append(self, records: Sequence[NewRecord], *, timeout: float) -> list[Position | PortableError]:
        """Append encoded records, at most `max_batch`: those of a key to one partition, in order.

        Gives each one's position, or its error, after which it appends no more of that key. Once it returns the
        positions are durable, and no record ever becomes visible before one of its partition that was visible already.
        """
        ...

    async def read(
        self, partition: str, after: Edge | Position | datetime, limit: int, *, timeout: float
    ) -> list[Record[bytes]]:
        """Give records of a partition in order; an empty list only where there is nothing now.

        A moment means the records taken then or later. `NotFound` where there is no such partition, `InvalidArgument`
        where the position is none of this driver's.
        """
        ...

    async def end(self, partition: str, *, timeout: float) -> Position:
        """Give the position after which the next record will be."""
        ...

    async def backlog(self, partition: str, after: str, *, timeout: float) -> int | None:
        """Count the records after a position's value (`""`: all of them); None where the backend cannot say."""
        ...

    async def join(self, group: str, start: Edge, *, timeout: float) -> StreamMember:
        """Become a member of a consumer group (`groups` capability), which holds nothing before its first fetch.

        The positions of a group that is new are set to `start` before this returns.
        """
        ...


class CollectionDriver(Driver, Protocol):
    """A collection: documents by `(partition, key)`, and the indexes of `portable.query_plan.index_fields(contract)`.

    The portable type checks what comes in, plans queries and looks at the conditions that no index sees to. A document
    whose `expires` has passed is not there, for any of these operations. A write by key is seen by the next `get`.
    """

    @property
    def capabilities(self) -> CollectionCapabilities:
        """What it can do."""
        ...

    async def get(self, id_: DocumentId, *, timeout: float) -> Stored | None:
        """Give one document; None where there is none."""
        ...

    async def get_many(self, ids: Sequence[DocumentId], *, timeout: float) -> list[Stored | None]:
        """Give any number of documents, in the order of their ids."""
        ...

    async def write(self, write: Save | Modify | Remove, *, timeout: float) -> Stored | None:
        """Carry out one write, atomically with its conditions; give what is stored now, None after `Remove`.

        Raises:
            AlreadyExists: `exists` is False, and something is there.
            NotFound: something must be there, and is not.
            PreconditionFailed: `revision` is given, and what is there is missing or at another.
        """
        ...

    async def write_many(
        self, writes: Sequence[Save | Modify | Remove], *, timeout: float
    ) -> list[Stored | PortableError | None]:
        """Carry out at most `capabilities.max_batch` writes; give for each what `write` would give or raise.

        One that fails keeps none of the others back. Several of one document happen in their order.
        """
        ...

    async def transact(self, writes: Sequence[Write], *, timeout: float) -> None:
        """Carry out all writes, of different documents, or none; raises what the first that fails would."""
        ...

    async def query(self, plan: Plan, *, after: SortPosition | None, limit: int, timeout: float) -> list[Stored]:
        """Give the next documents of a plan, in its order; fewer than `limit` only where there are no more.

        `after` is where to go on, whether or not a document is there: its `value` is that of the index field that
        `plan.equals` does not fix (None where it fixes all, or the plan has no index).
        """
        ...

    async def count(self, plan: Plan, *, timeout: float) -> int:
        """Count the documents of a plan."""
        ...
