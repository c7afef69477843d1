"""The engine on a cluster that takes less than Kafka does: no transactions, or little text beside an offset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any, cast

from portable.errors import PortableError
from portable_kafka.engine import Admin, Consumer, Engine, Outbound, Place, Producer, Transactions
from portable_kafka.options import Connection
from portable_kafka.progress import LONGEST_TEXT, fitted

__all__ = ["restricted"]


def restricted(engine: Engine, where: Connection) -> Engine:
    """Give the engine as the cluster takes it."""
    if where.transactions and where.offset_metadata >= LONGEST_TEXT:
        return engine
    return _Restricted(engine, where)


class _Restricted:
    """Satisfies `portable_kafka.engine.Engine`."""

    def __init__(self, engine: Engine, where: Connection) -> None:
        self._engine = engine
        self._where = where

    def producer(self) -> Producer:
        """Make a producer."""
        return self._engine.producer()

    def transactions(self, name: str) -> Transactions:
        """Make what writes and commits, in one step where the cluster can."""
        if not self._where.transactions:
            return _InTurn(self._engine)
        return _Shortening(self._engine.transactions(name), self._where.offset_metadata)

    def consumer(self, group: str | None) -> Consumer:
        """Make a consumer."""
        return cast("Consumer", _Committing(self._engine.consumer(group), self._where.offset_metadata))

    def admin(self) -> Admin:
        """Make a client for topics."""
        return self._engine.admin()


class _Committing:
    """A consumer whose commits fit."""

    def __init__(self, consumer: Consumer, most: int) -> None:
        self._consumer = consumer
        self._most = most

    def commit(self, offsets: Mapping[Place, tuple[int, str]], *, timeout: float) -> None:
        """Keep offsets for the group."""
        self._consumer.commit(_fitting(offsets, self._most), timeout=timeout)

    def __getattr__(self, name: str) -> Any:
        """Give everything else as the consumer has it."""
        return getattr(self._consumer, name)


class _Shortening:
    """Transactions whose commits fit."""

    def __init__(self, transactions: Transactions, most: int) -> None:
        self._transactions = transactions
        self._most = most

    def write(
        self, messages: Sequence[Outbound], offsets: Mapping[Place, tuple[int, str]], member: Any, *, timeout: float
    ) -> None:
        """Write messages and commit offsets in one step."""
        self._transactions.write(messages, _fitting(offsets, self._most), member, timeout=timeout)

    def close(self) -> None:
        """Drop the connections."""
        self._transactions.close()


class _InTurn:
    """Writes first and commits then, where there are no transactions: what is between them may be there twice."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._producer: Producer | None = None
        self._written: Sequence[Outbound] | None = None

    def write(
        self, messages: Sequence[Outbound], offsets: Mapping[Place, tuple[int, str]], member: Any, *, timeout: float
    ) -> None:
        """Write messages and, once the brokers have them, commit offsets."""
        deadline = monotonic() + timeout
        # Whoever tries again because the commit failed finds them written.
        if messages and messages is not self._written:
            if self._producer is None:
                self._producer = self._engine.producer()
            for answer in self._producer.send(messages, timeout=timeout):
                if isinstance(answer, PortableError):
                    raise answer
            self._written = messages
        if offsets:
            member.commit(offsets, timeout=max(0.05, deadline - monotonic()))
        self._written = None

    def close(self) -> None:
        """Drop the connections."""
        if self._producer is not None:
            self._producer.close()


def _fitting(offsets: Mapping[Place, tuple[int, str]], most: int) -> dict[Place, tuple[int, str]]:
    return {place: (offset, fitted(text, most)) for place, (offset, text) in offsets.items()}
