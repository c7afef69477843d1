"""The few places where the two faces really differ; its async twin is written by hand too."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable
from time import sleep
from typing import TYPE_CHECKING, Any, TypeVar

from redis import Redis, RedisCluster, Sentinel
from redis.cluster import ClusterNode
from redis.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.exceptions import RedisError
from redis.retry import Retry

from portable.errors import PortableError

if TYPE_CHECKING:
    from portable_redis.server import Server

__all__ = [
    "IS_ASYNC",
    "Batches",
    "ClusterNode",
    "Connection",
    "ConnectionPool",
    "Redis",
    "RedisCluster",
    "Releases",
    "Retry",
    "SSLConnection",
    "Sentinel",
    "Slots",
    "Undoing",
    "UnixDomainSocketConnection",
    "async_twin",
    "close_client",
    "connect",
    "disconnect",
    "exchange",
    "is_alive",
    "open_cluster",
    "sleep",
    "within",
]

T = TypeVar("T")

IS_ASYNC = False
"""Which face this is."""


def async_twin(driver: Any) -> Any:
    """Give the driver of the async face, for the same resource."""
    module, name = type(driver).__module__, type(driver).__name__
    twins = importlib.import_module(module.replace("portable_redis.", "portable_redis.aio.", 1))
    return getattr(twins, name)(driver.binding)


def connect(connection: Any, timeout: float) -> None:
    """Connect, within so many seconds."""
    connection.socket_connect_timeout = timeout
    connection.connect()


def is_alive(connection: Any) -> bool:
    """Whether a connection that was idle is still one: open, and with nothing on it."""
    try:
        return connection._sock is not None and not connection.can_read()  # noqa: SLF001 (`is_connected` is not in every release)
    except (RedisError, OSError):
        return False


def exchange(connection: Any, command: tuple[Any, ...], timeout: float) -> Any:
    """Send a command, and give its answer."""
    sock = connection._sock  # noqa: SLF001 (a time limit for each call, which redis-py has no public way for)
    if sock is not None and sock.gettimeout() != timeout:
        sock.settimeout(timeout)
    connection.send_packed_command(connection.pack_command(*command), check_health=False)
    return connection.read_response()


def within(call: T, timeout: float) -> T:  # noqa: ARG001 (the async twin's signature)
    """Bound nothing: the client's own time limit holds."""
    return call


def disconnect(connection: Any, *, nowait: bool = True) -> None:  # noqa: ARG001 (the async twin's signature)
    """Drop a connection; what waits for it ends."""
    # What is gone already cannot be closed, and need not be.
    with contextlib.suppress(Exception):
        connection.disconnect()


def open_cluster(**how: Any) -> Any:
    """Make the client of a cluster, which knows its nodes."""
    return RedisCluster(**how)


def close_client(client: Any) -> None:
    """Close a client, its pool, and those that watch over its server."""
    watching = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for one in (client, *(watching.sentinels if watching is not None else ())):
        with contextlib.suppress(Exception):
            one.close()
        pool = getattr(one, "connection_pool", None)
        if pool is not None:
            with contextlib.suppress(Exception):
                pool.disconnect()


class Slots:
    """So many calls at once."""

    def __init__(self, count: int) -> None:
        self._free = threading.Semaphore(count)
        self.give = self._free.release

    def take(self, timeout: float) -> bool:
        """Wait for a slot, up to `timeout` seconds; say whether there was one."""
        return self._free.acquire(timeout=timeout)


class Batches:
    """Threads share no round trips: each call goes by itself."""

    joined = False

    def __init__(self, lend: Callable[[float], Any], give_back: Callable[[Any, bool], None]) -> None:
        """Take the async twin's arguments."""

    def begin(self) -> None:
        """Note nothing."""

    def end(self) -> None:
        """Note nothing."""

    def exchange(self, command: tuple[Any, ...], timeout: float) -> Any:  # noqa: ARG002 (the async twin's signature)
        """Never called, since nobody joins."""
        raise AssertionError


class Undoing:
    """Calls whose results are given back when whoever asked for them is gone: in this face nobody is."""

    def guard(self, result: T, undo: Callable[[T], None]) -> T:  # noqa: ARG002 (the async twin's signature)
        """Give what the call gave."""
        return result

    def settle(self) -> None:
        """There is nothing to wait for."""


class Releases:
    """News of the locks that share one stream of news; satisfies what waiting in this face needs of `Arrivals`."""

    def __init__(self, server: Server, key: str, seen: dict[str, str]) -> None:
        """Listen to a stream of news, from where it was last seen.

        Args:
            server: where.
            key: the stream's.
            seen: by key, the news that a look at a lock has seen.
        """
        self._server = server
        self._key = key
        self._seen = seen

    def version(self) -> int:
        """Always the same: news are waited for at the server, from those that the last look has seen."""
        return 0

    def wait(self, version: int, timeout: float) -> bool:  # noqa: ARG002 (the protocol's signature)
        """Block until there is news (True), or `timeout` seconds are over (False)."""
        try:
            return self._server.news(self._key, self._seen.get(self._key, "0-0"), timeout)
        except PortableError:
            # Whoever waits asks again, and hears of it there.
            return True
