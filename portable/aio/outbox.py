"""The transactional outbox: messages that leave exactly when a database transaction commits."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from portable.aio._concurrency import Stop, kept, pause
from portable.errors import PortableError
from portable.messages import Outgoing
from portable.outbox_entries import FailedEntry, OutboxEntry

if TYPE_CHECKING:
    from portable.aio._engine import AsyncConnection, AsyncSession
    from portable.aio.database import Database

__all__ = ["Outbox", "relay"]

_log = logging.getLogger("portable")
_BATCH = 200
_LEASE = 30.0
_MAX_BACKOFF = 300.0
_MAX_ATTEMPTS = 20


class Outbox:
    """What is sent here is stored by the caller's transaction, and delivered by a relay once that has committed."""

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
            SQLAlchemyError: the transaction could not take it.
        """
        await self._store(
            OutboxEntry("queue", queue, _encoded(body), dict(attributes or {}), delay, ordering_key, dedup_id)
        )

    async def publish(
        self,
        topic: str,
        body: Any,
        *,
        attributes: Mapping[str, str] | None = None,
        ordering_key: str | None = None,
    ) -> None:
        """Publish a message to a topic when the transaction commits; arguments and errors as for `send`."""
        await self._store(OutboxEntry("topic", topic, _encoded(body), dict(attributes or {}), 0.0, ordering_key))

    async def append(
        self, stream: str, data: Any, *, key: str | None = None, attributes: Mapping[str, str] | None = None
    ) -> None:
        """Append a record to a stream when the transaction commits; arguments and errors as for `send`."""
        await self._store(OutboxEntry("stream", stream, _encoded(data), dict(attributes or {}), 0.0, key))

    async def _store(self, entry: OutboxEntry) -> None:
        database = self._database
        create = database._binding.create  # noqa: SLF001 (the outbox is the database's own half)
        for statement in database._driver.outbox_statements([entry], create=create):  # noqa: SLF001 (the same)
            await self._session.execute(statement)


def _encoded(body: Any) -> bytes:
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    return body.encode() if isinstance(body, str) else msgspec.json.encode(body)


async def relay(database: Database, *, stop: Stop | None, until_empty: bool, interval: float) -> int:
    """Deliver a database's outbox; see `Database.relay`."""
    driver = database._driver  # noqa: SLF001 (the outbox is the database's own half)
    owner = f"{os.getpid()}-{uuid.uuid4().hex[:8]}"
    delivered = 0
    if database._binding.create:  # noqa: SLF001 (the same)
        await driver.create()
    async with _leading(database, owner) as lead:
        while stop is None or not stop.is_set():
            due = await driver.outbox_due(_BATCH) if await lead() else []
            done, failed = await _deliver(database, due) if due else ([], [])
            if due:
                await driver.outbox_settle(done, failed)
                delivered += len(done)
            elif until_empty:
                break
            if not done:
                await pause(stop, interval)
    return delivered


@contextlib.asynccontextmanager
async def _leading(database: Database, owner: str) -> AsyncIterator[Any]:
    driver = database._driver  # noqa: SLF001 (the outbox is the database's own half)

    async def lead() -> bool:
        return await driver.outbox_lead(owner, _LEASE)

    try:
        async with kept(_LEASE / 3, lead):
            yield lead
    finally:
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
