"""The few places where the two faces really differ; its sync twin is written by hand too."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio import sleep
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import Connection, ConnectionPool, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.exceptions import ReadOnlyError, ResponseError

from portable.errors import PortableError

if TYPE_CHECKING:
    from portable_redis.aio.server import Server

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

IS_ASYNC = True
"""Which face this is."""

SETTLE_WITHIN = 5.0


def async_twin(driver: Any) -> Any:
    """Give the driver of the async face: this is it."""
    return driver


async def connect(connection: Any, timeout: float) -> None:
    """Connect, within so many seconds."""
    async with asyncio.timeout(timeout):
        await connection.connect()


async def is_alive(connection: Any) -> bool:
    """Whether a connection that was idle is still one: open, and with nothing on it."""
    if not connection.is_connected:
        return False
    look = getattr(connection, "can_read", None) or connection.can_read_destructive
    return not await look()


async def exchange(connection: Any, command: tuple[Any, ...], timeout: float) -> Any:
    """Send a command, and give its answer."""
    async with asyncio.timeout(timeout):
        await connection.send_packed_command(connection.pack_command(*command), check_health=False)
        return await connection.read_response()


async def within(call: Awaitable[T], timeout: float) -> T:
    """Bound a call of a client that takes no time limit itself."""
    async with asyncio.timeout(timeout):
        return await call


async def disconnect(connection: Any, *, nowait: bool = True) -> None:
    """Drop a connection; what waits for it ends."""
    # What is gone already cannot be closed, and need not be.
    with contextlib.suppress(Exception):
        await connection.disconnect(nowait=nowait)


async def open_cluster(**how: Any) -> Any:
    """Make the client of a cluster, which knows its nodes."""
    client: Any = RedisCluster(**how)
    return await client.initialize()


async def close_client(client: Any) -> None:
    """Close a client, its pool, and those that watch over its server."""
    watching = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    for one in (client, *(watching.sentinels if watching is not None else ())):
        with contextlib.suppress(Exception):
            await one.aclose()
        pool = getattr(one, "connection_pool", None)
        if pool is not None:
            with contextlib.suppress(Exception):
                await pool.disconnect()


class Slots:
    """So many calls at once."""

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)
        self.give = self._free.release

    async def take(self, timeout: float) -> bool:
        """Wait for a slot, up to `timeout` seconds; say whether there was one."""
        if not self._free.locked():
            return await self._free.acquire()
        try:
            async with asyncio.timeout(timeout):
                return await self._free.acquire()
        except TimeoutError:
            return False


class Batches:
    """Calls that a loop makes while others are under way: what comes together shares a connection and a round trip.

    A call that is alone goes by itself, since company costs it a task. Each has its own answer, error and time limit,
    and one that is cancelled leaves the others alone.

    Attributes:
        joined: whether a call had better join the others.
    """

    LARGEST = 64
    """Commands; more go on another connection, so that the server's answers overlap with the reading of others."""

    def __init__(
        self, lend: Callable[[float], Awaitable[Any]], give_back: Callable[[Any, bool], Awaitable[None]]
    ) -> None:
        """Take what lends a connection within so many seconds, and what takes it back and is told if it broke."""
        self._lend = lend
        self._give_back = give_back
        self._alone = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._pending: deque[_Call] = deque()

    @property
    def joined(self) -> bool:
        """Whether others are under way."""
        return bool(self._alone or self._tasks or self._pending)

    def begin(self) -> None:
        """Note a call that goes by itself."""
        self._alone += 1

    def end(self) -> None:
        """Note its end."""
        self._alone -= 1

    async def exchange(self, command: tuple[Any, ...], timeout: float) -> Any:
        """Send a command with those of others, and give its answer."""
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        if not self._pending:
            # Whoever is ready to run goes first, and may bring more.
            loop.call_soon(self._start)
        self._pending.append((command, answer, timeout))
        # A third of what `asyncio.timeout` costs.
        timer = loop.call_later(timeout, _fail, [self._pending[-1]], TimeoutError())
        try:
            return await answer
        finally:
            timer.cancel()

    def _start(self) -> None:
        while self._pending:
            batch = [self._pending.popleft() for _ in range(min(self.LARGEST, len(self._pending)))]
            task = asyncio.ensure_future(self._send([call for call in batch if not call[1].done()]))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, batch: Sequence[_Call]) -> None:
        # Each has its own limit; this one is for the connection, which nobody else may have before it is read empty.
        limit = max((timeout for _, _, timeout in batch), default=0.0)
        try:
            connection = await self._lend(limit)
        except Exception as error:  # noqa: BLE001 (whatever it is, those who wait are told)
            _fail(batch, error)
            return
        broken = True
        try:
            async with asyncio.timeout(limit):
                commands = [command for command, _, _ in batch]
                await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
                broken = await _answers(connection, batch)
        except Exception as error:  # noqa: BLE001 (as above)
            _fail(batch, error)
        finally:
            await self._give_back(connection, broken)


_Call = tuple[tuple[Any, ...], "asyncio.Future[Any]", float]


async def _answers(connection: Any, batch: Sequence[_Call]) -> bool:
    """Read the answers; whether one of them says that the connection is of no more use."""
    useless = False
    for _, answer, _ in batch:
        try:
            found = await connection.read_response()
        except ResponseError as error:
            useless = useless or isinstance(error, ReadOnlyError)
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(found)
    return useless


def _fail(batch: Sequence[_Call], error: Exception) -> None:
    for _, answer, _ in batch:
        if not answer.done():
            answer.set_exception(error)


class Undoing:
    """Calls whose results are given back when whoever asked for them is gone."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def guard(self, call: Any, undo: Callable[[T], Awaitable[None]]) -> T:
        """Give what a call gives; when this is cancelled the call ends all the same, and its result is undone."""
        task = asyncio.ensure_future(call)
        try:
            result: T = await asyncio.shield(task)
        except asyncio.CancelledError:
            self._keep(asyncio.ensure_future(_undo(task, undo)))
            raise
        return result

    def _keep(self, task: asyncio.Task[Any]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def settle(self) -> None:
        """Wait until all that is under way is undone; what takes too long is left to its lease."""
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=SETTLE_WITHIN)


async def _undo(task: asyncio.Future[T], undo: Callable[[T], Awaitable[None]]) -> None:
    with contextlib.suppress(PortableError):
        await undo(await task)


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

    def subscribe(self, callback: Callable[[], None]) -> Listening:
        """Call `callback` once there is news."""
        return Listening(asyncio.ensure_future(self._listen(callback)))

    async def _listen(self, callback: Callable[[], None]) -> None:
        try:
            while not await self._server.news(self._key, self._seen.get(self._key, "0-0"), 30.0):
                pass
        except PortableError:
            # Whoever waits asks again, and hears of it there.
            pass
        callback()


class Listening:
    """A wait for news, until `close`."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self._task = task

    def close(self) -> None:
        """Wait no more."""
        self._task.cancel()
