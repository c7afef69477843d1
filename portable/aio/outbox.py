"""The transactional outbox: messages that leave exactly when a database transaction commits."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from portable import telemetry
from portable.aio._concurrency import Stop, kept, pause
from portable.composing import BodyCodec, Composer, seconds
from portable.errors import PortableError
from portable.limits import guard
from portable.messages import Outgoing
from portable.outbox_entries import FailedEntry, OutboxEntry
from portable.record_composing import RecordComposer

if TYPE_CHECKING:
    from portable.aio._engine import AsyncConnection, AsyncSession
    from portable.aio.database import Database

__all__ = ["Outbox", "relay"]

_log = logging.getLogger("portable")
_BATCH = 200
_LEASE = 30.0
_MAX_BACKOFF = 300.0
_MAX_TROUBLE = 30.0
_MAX_ATTEMPTS = 20


class Outbox:
    """What is sent here is stored by the caller's transaction, and delivered by a relay once that has committed.

    It is checked as its queue, topic or stream would check it, but for what only the backend's driver knows.
    """

    def __init__(self, database: Database, session: AsyncSession | AsyncConnection) -> None:
        self._database = database
        self._session = session

    async def send(
        self,
        queue: str,
        body: Any,
        *,
        attributes: Mapping[str, str] | None = None,
        delay: float = 0.0,
        ordering_key: str | None = None,
        dedup_id: str | None = None,
    ) -> None:
        """Send a message to a queue when the transaction commits.

        Args:
            queue: the queue resource's name.
            body: bytes, str, or anything that msgspec writes as JSON.
            attributes: names to values, any UTF-8.
            delay: seconds, counted from the delivery to the queue.
            ordering_key: messages of one key keep their order.
            dedup_id: a relay's repeat of it is dropped, where the queue can (`dedup`).

        Raises:
            ConfigError: no such queue is declared.
            InvalidArgument: an argument that no backend would take.
            LimitExceeded: it is larger or later than a cloud named in `guard.limits` takes.
            SQLAlchemyError: the transaction could not take it.
        """
        await self._store("queue", queue, Outgoing(body, cast("Any", attributes), delay, ordering_key, dedup_id))

    async def publish(
        self,
        topic: str,
        body: Any,
        *,
        attributes: Mapping[str, str] | None = None,
        ordering_key: str | None = None,
    ) -> None:
        """Publish a message to a topic when the transaction commits; arguments and errors as for `send`."""
        await self._store("topic", topic, Outgoing(body, cast("Any", attributes), 0.0, ordering_key))

    async def append(
        self, stream: str, data: Any, *, key: str | None = None, attributes: Mapping[str, str] | None = None
    ) -> None:
        """Append a record to a stream when the transaction commits; arguments and errors as for `send`."""
        await self._store("stream", stream, Outgoing(data, cast("Any", attributes), 0.0, key))

    async def _store(self, kind: str, resource: str, message: Outgoing) -> None:
        database = self._database
        entry = _composed(database, kind, resource, message)
        create = database._binding.create  # noqa: SLF001 (the outbox is the database's own half)
        for statement in database._driver.outbox_statements([entry], create=create):  # noqa: SLF001 (the same)
            await self._session.execute(statement)


def _composed(database: Database, kind: str, resource: str, message: Outgoing) -> OutboxEntry:
    """Check and encode an entry; what is refused here would otherwise be kept aside by the relay."""
    profile = database._cloud._profile  # noqa: SLF001 (the outbox is the database's own half)
    contract = profile.contract(resource, kind)
    codec = BodyCodec(None if isinstance(message.body, (bytes, bytearray, memoryview, str)) else Any)
    limits = guard(profile.table.limits or (), kind)
    attributes = message.attributes or {}
    if kind == "stream":
        record = RecordComposer(codec, guard=limits, max_bytes=None).compose(
            message.body, message.ordering_key, attributes
        )
        return OutboxEntry(kind, resource, record.data, dict(record.attributes or {}), 0.0, record.key)
    composer = Composer(
        codec,
        _leave_to_the_relay,
        ordered=contract.ordered if kind == "queue" else None,
        guard=limits,
        max_bytes=None,
        max_delay=None,
        resource=resource,
    )
    sent = composer.compose(message.body, attributes, message.delay, message.ordering_key, message.dedup_id)
    whole = dict(sent.attributes or {})
    if any(isinstance(hook, telemetry.Telemetry) for hook in database._hooks):  # noqa: SLF001 (the same)
        whole = telemetry.injected(whole)
    return OutboxEntry(kind, resource, sent.body, whole, sent.delay, sent.ordering_key, sent.dedup_id)


def _leave_to_the_relay(feature: str, what: str) -> None:
    """Accept the use of a capability: whether the backend has it is known where its driver is."""


async def relay(database: Database, *, stop: Stop | None, until_empty: bool, interval: float) -> int:
    """Deliver a database's outbox; see `Database.relay`."""
    interval = seconds(interval, "interval")
    driver = database._driver  # noqa: SLF001 (the outbox is the database's own half)
    owner = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    delivered = troubles = 0
    if database._binding.create:  # noqa: SLF001 (the same)
        await driver.create()
    async with _leading(database, owner) as lead:
        while stop is None or not stop.is_set():
            try:
                count, is_due = await _round(database, await lead(), until_empty=until_empty)
            except PortableError as error:
                if until_empty or not error.retryable:
                    raise
                troubles += 1
                delay = min(_MAX_TROUBLE, 2.0 ** min(troubles - 1, 30)) * random.uniform(0.5, 1.0)  # noqa: S311 (jitter needs no secrecy)
                _log.warning("%s: cannot relay, trying again in %.1f s: %s", database.name, delay, error)
                await pause(stop, delay)
                continue
            troubles = 0
            delivered += count
            if until_empty and not is_due:
                break
            if not count:
                await pause(stop, interval)
    return delivered


async def _round(database: Database, leads: bool, *, until_empty: bool) -> tuple[int, bool]:  # noqa: FBT001 (the answer of `lead`)
    """Deliver a batch, where this relay leads; give how many left, and whether any was due."""
    driver = database._driver  # noqa: SLF001 (the outbox is the database's own half)
    if not leads:
        # Another delivers, or died; whoever is to leave an empty outbox behind waits for the one or the other.
        return 0, until_empty and bool(await driver.outbox_due(1))
    due = await driver.outbox_due(_BATCH)
    if not due:
        return 0, False
    done, failed = await _deliver(database, due)
    await driver.outbox_settle(done, failed)
    return len(done), True


@contextlib.asynccontextmanager
async def _leading(database: Database, owner: str) -> AsyncIterator[Any]:
    driver = database._driver  # noqa: SLF001 (the outbox is the database's own half)

    async def lead() -> bool:
        return await driver.outbox_lead(owner, _LEASE)

    try:
        async with kept(_LEASE / 3, lead):
            yield lead
    finally:
        # One that cannot resign is succeeded when its time is over.
        with contextlib.suppress(PortableError):
            await driver.outbox_resign(owner)


async def _deliver(database: Database, due: Sequence[tuple[int, OutboxEntry]]) -> tuple[list[int], list[FailedEntry]]:
    """Send a batch, resource by resource in the order of arrival; a failure holds back the rest of its key."""
    groups: dict[tuple[str, str], list[tuple[int, OutboxEntry]]] = {}
    for number, entry in due:
        groups.setdefault((entry.kind, entry.resource), []).append((number, entry))
    done: list[int] = []
    failed: list[FailedEntry] = []
    for (kind, resource), entries in groups.items():
        try:
            outcomes: Sequence[object] = await _send(database, kind, resource, [entry for _, entry in entries])
        except PortableError as error:
            outcomes = [error] * len(entries)
        for (number, entry), outcome in zip(entries, outcomes, strict=True):
            if isinstance(outcome, PortableError):
                failed.append(_failure(number, entry, outcome))
            else:
                done.append(number)
    return done, failed


async def _send(database: Database, kind: str, resource: str, entries: list[OutboxEntry]) -> Sequence[object]:
    cloud = database._cloud  # noqa: SLF001 (the outbox is the database's own half)
    if kind == "stream":
        records = [Outgoing(one.body, ordering_key=one.ordering_key, attributes=one.attributes) for one in entries]
        return (await cloud.stream(resource).append_many(records, return_errors=True)).results  # type: ignore[no-any-return]  # the cloud is not typed here, to keep imports acyclic
    messages = [
        Outgoing(
            one.body, attributes=one.attributes, delay=one.delay, ordering_key=one.ordering_key, dedup_id=one.dedup_id
        )
        for one in entries
    ]
    if kind == "topic":
        return (await cloud.topic(resource).publish_many(messages, return_errors=True)).results  # type: ignore[no-any-return]  # the same
    return (await cloud.queue(resource).send_many(messages, return_errors=True)).results  # type: ignore[no-any-return]  # the same


def _failure(number: int, entry: OutboxEntry, error: PortableError) -> FailedEntry:
    given_up = not error.retryable and entry.attempts + 1 >= _MAX_ATTEMPTS
    _log.warning(
        "outbox entry %d for %s %r %s: %s",
        number,
        entry.kind,
        entry.resource,
        "is kept aside" if given_up else "is tried again",
        error,
    )
    backoff = min(_MAX_BACKOFF, 2.0**entry.attempts) * random.uniform(0.5, 1.0)  # noqa: S311 (jitter needs no secrecy)
    return FailedEntry(number, str(error), None if given_up else backoff)
