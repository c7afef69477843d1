"""What is done to queues, in whichever dialect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from portable.bindings import Binding
from portable.errors import ConfigError
from portable.wire import dead_letter_name
from portable_sql.mysql_queues import MysqlQueues
from portable_sql.options import is_postgresql
from portable_sql.postgresql_queues import PostgresqlQueues
from portable_sql.queue_layout import Held, New

__all__ = ["Statements", "checked_name", "statements"]

LARGEST_NAME = 255


class Statements(Protocol):
    """What is done to queues in one dialect; every method but `lease` leaves it to the caller to commit."""

    @property
    def now(self) -> str:
        """The expression of the server's clock."""
        ...

    @property
    def tables(self) -> Mapping[str, Sequence[str]]:
        """What makes each table."""
        ...

    def add_one(self, connection: Any, queue: int, message: New) -> int:
        """Add a message that has no key."""
        ...

    def new_ids(self, connection: Any, count: int) -> list[int]:
        """Give ids, one greater than the other, that no message has."""
        ...

    def add(self, connection: Any, queue: int, messages: Sequence[New]) -> list[int]:
        """Add messages, each due by its own delay; either all or none of them have an id."""
        ...

    def line_up(self, connection: Any, queue: int, messages: Sequence[New]) -> list[int]:
        """Add messages that have keys, each behind those of its key, which the transaction has locked."""
        ...

    def lock(self, connection: Any, names: Iterable[tuple[int, bytes]]) -> None:
        """Keep others from what has these keys or dedup ids in these queues until the transaction ends."""
        ...

    def lease(self, connection: Any, queue: int, count: int, milliseconds: int) -> list[Any]:
        """Lease what is due, the oldest first: id, count, sent, key, attributes, body."""
        ...

    def remove(self, connection: Any, queue: int, held: Held) -> set[int]:
        """Remove those that are still held; gives their ids."""
        ...

    def give_back(self, connection: Any, queue: int, held: Held, milliseconds: int, uncount: int) -> set[int]:
        """Let go of those that are still held."""
        ...

    def extend(self, connection: Any, queue: int, held: Held, milliseconds: int) -> set[int]:
        """Hold those that are still held for so long from now."""
        ...

    def bury(self, connection: Any, queue: int, held: Held, dead: int, attributes: Sequence[str]) -> set[int]:
        """Move those that are still held to the dead-letter queue."""
        ...

    def free(self, connection: Any, queue: int, keys: Sequence[bytes]) -> None:
        """Make the first message of each of these keys due, if it waits."""
        ...

    def block_all(self, connection: Any, queue: int) -> None:
        """Line up all that have keys."""
        ...

    def known(self, connection: Any, queue: int, dedup_ids: Sequence[bytes]) -> dict[bytes, int]:
        """Give the messages that were sent with these ids lately, and forget those of earlier."""
        ...

    def remember(self, connection: Any, queue: int, seen: dict[bytes, int], milliseconds: int) -> None:
        """Remember dedup ids and their messages for so long."""
        ...


def statements(binding: Binding[Any]) -> Statements:
    """Give the statements of a binding's dialect."""
    return PostgresqlQueues() if is_postgresql(binding) else MysqlQueues()


def checked_name(binding: Binding[Any]) -> str:
    """Give the physical name of a queue or topic.

    Raises:
        ConfigError: the tables do not take it.
    """
    name = binding.name
    if "\0" in name or len(dead_letter_name(name)) > LARGEST_NAME:
        raise ConfigError(f"the name of a {binding.kind} has at most {LARGEST_NAME - 10} characters, and no NUL")
    return name
