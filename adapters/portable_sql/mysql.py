"""One connection to MySQL or MariaDB, by PyMySQL: each statement commits by itself, but for those of a transaction."""

from __future__ import annotations

import re
import select
from collections.abc import Sequence
from time import monotonic
from typing import Any

import pymysql
from pymysql.constants import CLIENT

__all__ = ["MysqlConnection"]

OLDEST = (8, 0, 1)
OLDEST_MARIADB = (10, 6, 0)

_SETTINGS = (
    # Each statement sees what was committed before it, and locks no gaps between rows.
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00'",
)


class MysqlConnection:
    """Satisfies `portable_sql.servers.Connection`."""

    FAILURES: tuple[type[Exception], ...] = (pymysql.MySQLError, OSError)

    def __init__(self, arguments: dict[str, Any], deadline: float) -> None:
        left = max(0.001, deadline - monotonic())
        self.raw: Any = pymysql.connect(
            **arguments,
            autocommit=True,
            # A row counts as changed where it is as it should be already.
            client_flag=CLIENT.FOUND_ROWS,
            connect_timeout=left,
            read_timeout=left,
            write_timeout=left,
        )
        self._cursor = self.raw.cursor()
        self._in_transaction = False
        said = self.raw.get_server_info()
        self.is_mariadb = "MariaDB" in said
        numbers = re.findall(r"\d+", said.removeprefix("5.5.5-"))[:3]
        self.version = tuple(int(number) for number in numbers)
        self.is_new_enough = self.version >= (OLDEST_MARIADB if self.is_mariadb else OLDEST)
        self._poll = select.poll()
        self._poll.register(self._socket, select.POLLIN)
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def _set_up(self) -> None:
        for statement in _SETTINGS:
            self._cursor.execute(statement)
        self.step = int(self.fetch("SELECT @@auto_increment_increment")[0][0])

    @property
    def _socket(self) -> Any:
        return self.raw._sock  # noqa: SLF001 (PyMySQL has no public name for it)

    def begin_call(self, deadline: float) -> None:
        """Let what follows take until a moment of the monotonic clock."""
        left = max(0.001, deadline - monotonic())
        self.raw._read_timeout = self.raw._write_timeout = left  # noqa: SLF001 (the only way to change them)

    def fetch(self, sql: str, parameters: Sequence[Any] = ()) -> list[Any]:
        """Run a statement, and give its rows."""
        self._cursor.execute(sql, parameters)
        return list(self._cursor.fetchall())

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run a statement, and say how many rows it changed."""
        return int(self._cursor.execute(sql, parameters))

    def begin(self) -> None:
        """Begin a transaction: each of its statements sees what was committed before it."""
        self._in_transaction = True
        self.raw.begin()

    def commit(self) -> None:
        """Commit it."""
        self.raw.commit()
        self._in_transaction = False

    def rollback(self) -> None:
        """Roll back."""
        self.raw.rollback()
        self._in_transaction = False

    @property
    def last_id(self) -> int:
        """The number that the server gave to the first row which the last statement added."""
        return int(self._cursor.lastrowid or 0)

    @property
    def is_usable(self) -> bool:
        """Whether it is open, and in no transaction."""
        return self.raw.open and not self._in_transaction

    def is_alive(self) -> bool:
        """Whether the server has said nothing since, such as that it ends."""
        return self.is_usable and not self._poll.poll(0)

    def close(self) -> None:
        """Close it, without waiting."""
        self.raw._force_close()  # noqa: SLF001 (the public one sends a farewell, and may wait for that)
