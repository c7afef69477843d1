"""A server and its news: what the drivers of one cloud that wait share."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from portable.bindings import Binding
from portable.news import News, Stop
from portable_sql.listening import Listener, Looker, Teller
from portable_sql.mysql_queues import NOW as MYSQL_NOW
from portable_sql.servers import Server

__all__ = ["Hub"]

C = TypeVar("C", bound=msgspec.Struct)

LOOKS_WITHIN = 10.0


class Hub:
    """A server, and the news of what is written there.

    Attributes:
        server: its connections.
        news: what this process has heard.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self._process = os.getpid()
        self._teller = Teller(server)
        self.news = News(self._watch)
        self._durability: str | None = None

    @classmethod
    def of(cls, binding: Binding[Any]) -> Hub:
        """Give the hub of a binding's server, one a cloud; it is closed with it."""
        server = Server.of(binding)
        hub: Hub = binding.shared.get(("sql news", server), lambda: cls(server))
        return hub

    def tell(self, channels: Sequence[str], *, timeout: float) -> None:
        """Wake whoever waits for these channels, in this process and, on PostgreSQL, in every other."""
        for channel in channels:
            self.news.notify(channel)
        if self.server.is_postgresql:
            self._teller.tell(channels, timeout=timeout)

    def durable(self, capabilities: C, *, timeout: float = LOOKS_WITHIN) -> C:
        """Say in capabilities what survives, as far as the server's own settings tell."""
        if self._durability is None:
            self._durability = self.server.run(_durability[self.server.is_postgresql], timeout=timeout, again=True)
        return msgspec.structs.replace(capabilities, durability=self._durability)

    def close(self) -> None:
        """End the watching thread, unless it is a parent process's."""
        if os.getpid() == self._process:
            self.news.close()

    def _watch(self, news: News, stop: Stop) -> None:
        watch = Listener(self.server) if self.server.is_postgresql else Looker(self._look)
        watch(news, stop)

    def _look(self, channels: list[str]) -> list[str]:
        queues = [int(name.removeprefix("queue:")) for name in channels if name.startswith("queue:")]
        if not queues:
            return []
        marks = ", ".join(["%s"] * len(queues))
        sql = (
            f"SELECT queue, min(due) <= {MYSQL_NOW} FROM portable_queue_message WHERE queue IN ({marks}) GROUP BY queue"
        )
        rows = self.server.fetch(sql, queues, timeout=LOOKS_WITHIN, again=True)
        return [f"queue:{queue}" for queue, has_due in rows if has_due]


def _durability_of_postgresql(connection: Any) -> str:
    sql = """SELECT current_setting('fsync'), current_setting('synchronous_commit'),
        current_setting('synchronous_standby_names')"""
    fsync, commit, standbys = connection.fetch(sql)[0]
    if commit == "off":
        return "none"
    if fsync == "off":
        return "process"
    return "replicated" if standbys and commit in {"on", "remote_write", "remote_apply"} else "power"


def _durability_of_mysql(connection: Any) -> str:
    ((flush,),) = connection.fetch("SELECT @@innodb_flush_log_at_trx_commit")
    return {1: "power", 2: "process"}.get(int(flush), "none")


_durability: dict[bool, Callable[[Any], str]] = {True: _durability_of_postgresql, False: _durability_of_mysql}
