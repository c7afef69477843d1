"""Queues, exchanges and bindings: looked up, and made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from portable.errors import ResourceNotFound
from portable_rabbitmq.connection import Line

__all__ = ["Declarer", "quorum"]

UNLIMITED = (4, 0)
"""Since then a quorum queue drops what was delivered twenty times, unless it is told otherwise."""


def quorum(arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Give the arguments of a quorum queue: one that is written to the disks of most nodes before it confirms."""
    return {"x-queue-type": "quorum", **(arguments or {})}


class Declarer:
    """What can be made at a server, and is left as it is where it is there already.

    Args:
        line: the connection.
    """

    def __init__(self, line: Line) -> None:
        self._line = line

    def queue(self, name: str, arguments: Mapping[str, Any], deadline: float) -> None:
        """Make a durable queue.

        Raises:
            ConfigError: there is one, with other arguments.
        """
        given = dict(arguments)
        if self._line.connection(deadline).version >= UNLIMITED:
            given["x-delivery-limit"] = -1
        self._line.call(
            lambda channel, done: channel.queue_declare(name, durable=True, arguments=given, callback=done), deadline
        )

    def exchange(self, name: str, type_: str, deadline: float, arguments: Mapping[str, Any] | None = None) -> None:
        """Make a durable exchange.

        Raises:
            ConfigError: there is one of another type, or with other arguments.
        """
        given = dict(arguments or {})
        self._line.call(
            lambda channel, done: channel.exchange_declare(name, type_, durable=True, arguments=given, callback=done),
            deadline,
        )

    def bind(self, queue: str, exchange: str, key: str, arguments: Mapping[str, Any] | None, deadline: float) -> None:
        """Have an exchange feed a queue."""
        given = dict(arguments or {})
        self._line.call(
            lambda channel, done: channel.queue_bind(queue, exchange, key, arguments=given, callback=done), deadline
        )

    def chain(
        self, source: str, destination: str, key: str, arguments: Mapping[str, Any] | None, deadline: float
    ) -> None:
        """Have an exchange feed another."""
        given = dict(arguments or {})
        self._line.call(
            lambda channel, done: channel.exchange_bind(destination, source, key, arguments=given, callback=done),
            deadline,
        )

    def count(self, queue: str, deadline: float) -> int:
        """Count the messages of a queue that can be received.

        Raises:
            ResourceNotFound: there is none.
        """
        answer = self._line.call(
            lambda channel, done: channel.queue_declare(queue, passive=True, callback=done), deadline
        )
        return int(answer.message_count)

    def has_queue(self, name: str, deadline: float) -> bool:
        """Whether there is such a queue."""
        try:
            self.count(name, deadline)
        except ResourceNotFound:
            return False
        return True

    def has_exchange(self, name: str, deadline: float) -> bool:
        """Whether there is such an exchange."""
        try:
            self._line.call(lambda channel, done: channel.exchange_declare(name, passive=True, callback=done), deadline)
        except ResourceNotFound:
            return False
        return True

    def remove_exchange(self, name: str, deadline: float) -> None:
        """Remove an exchange and its bindings; one that is missing is no error."""
        self._line.call(lambda channel, done: channel.exchange_delete(name, callback=done), deadline)
