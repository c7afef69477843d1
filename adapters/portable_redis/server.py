# Generated from adapters/portable_redis/aio/server.py by tools/generate_sync.py; change that file, not this one.
"""One Redis, as the drivers see it: commands and scripts on connections of redis-py, to whatever the URL names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Any

from redis.backoff import FullJitterBackoff
from redis.exceptions import NoScriptError, ReadOnlyError, RedisError, ResponseError

from portable.bindings import Binding
from portable.capabilities import Durability
from portable.errors import Closed, DeadlineExceeded, PortableError, Unavailable, Unsupported
from portable_redis import _concurrency as face
from portable_redis.clients import made_client
from portable_redis.errors import FAILURES, UnreachedError, is_passing, is_refused, translated
from portable_redis.options import RedisOptions, nodes
from portable_redis.scripts import Script

__all__ = ["Server"]

OLDEST = (6, 2)
"""The first release that has all commands that are used here."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds before a failed call is repeated: spread between nothing and a bound that doubles, within these."""

LONGEST_BLOCK = 30.0
"""Seconds that a wait for news blocks at most before it looks again."""


class Server:
    """The connections of one resource.

    redis-py makes, secures and reads them. Which one serves a call is decided here: `Redis.execute_command` takes
    three times as long for that as all that it does with the connection, and knows no time limit for a call.

    Attributes:
        durability: what survives once a write was answered, as far as the server's own config says.
    """

    def __init__(self, binding: Binding[RedisOptions]) -> None:
        self._binding = binding
        self._nodes = nodes(binding)
        self._retries = binding.contract.retries
        self._usual = float(binding.contract.timeout)
        self._backoff = FullJitterBackoff(base=SHORTEST_PAUSE, cap=LONGEST_PAUSE)
        self._client: Any = None
        self._pool: Any = None
        # What gives tokens, where that is how connections log in.
        self._logins: Any = None
        self._slots = face.Slots(binding.options.max_connections)
        self._batches = face.Batches(self._lend, self._give_back)
        # Those at hand, the last used first; and all there are.
        self._idle: list[Any] = []
        self._all: list[Any] = []
        self._closed = False
        self._ahead = 0.0
        self.durability: Durability = "process"

    @property
    def client(self) -> Any:
        """The client of redis-py, for the application."""
        if self._client is None:
            raise Closed("the connection is not open; use the resource first")
        return self._client

    @property
    def is_cluster(self) -> bool:
        """Whether keys of different hash tags may be on different nodes."""
        return self._binding.options.cluster

    def open(self) -> None:
        """Connect, and see what the server is.

        Raises:
            Unsupported: it is too old.
        """
        if self._client is None:
            try:
                self._client, self._pool = made_client(self._binding, self._nodes)
                if self._pool is not None:
                    self._logins = self._pool.connection_kwargs.get("credential_provider")
            except FAILURES as error:
                raise translated(error) from error
        self._learn()

    def close(self) -> None:
        """Drop every connection; whatever waits on one ends with `Closed`."""
        self._closed = True
        for connection in list(self._all):
            face.disconnect(connection, nowait=False)
        client, self._client = self._client, None
        if client is not None:
            face.close_client(client)

    def call(self, *command: Any, timeout: float, again: bool = False) -> Any:
        """Have one command done.

        Args:
            command: its name and arguments.
            timeout: seconds, for all attempts.
            again: whether it may be repeated where it is not known to have been done.

        Raises:
            ResponseError: the server refused it, for a reason that only the caller can tell.
            PortableError: everything else.
        """
        try:
            return self._attempt(command, timeout)
        except FAILURES as error:
            failure: Exception = error
        except UnreachedError as error:
            failure = error
        started, failures = monotonic(), 1
        # What one attempt may have done, no later one that came to nothing takes back.
        sent = not is_refused(failure)
        while True:
            left = started + timeout - monotonic()
            pause = self._backoff.compute(failures)
            repeats = (again or is_refused(failure)) and failures <= self._retries and pause < left
            if not (repeats and is_passing(failure)):
                ours = self._given_up(failure)
                if sent and isinstance(ours, (DeadlineExceeded, Unavailable)):
                    ours.maybe_applied = True
                raise ours
            face.sleep(pause)
            try:
                return self._attempt(command, left - pause)
            except FAILURES as error:
                failure = error
            except UnreachedError as error:
                failure = error
            sent = sent or not is_refused(failure)
            failures += 1

    def run(self, script: Script, keys: tuple[str, ...], *arguments: Any, timeout: float, again: bool = False) -> Any:
        """Have a script run, in one step; the arguments are as for `call`."""
        try:
            return self.call("EVALSHA", script.sha, len(keys), *keys, *arguments, timeout=timeout, again=again)
        except NoScriptError:
            # A server that was restarted has forgotten it.
            return self.call("EVAL", script.text, len(keys), *keys, *arguments, timeout=timeout, again=again)

    def news(self, key: str, after: str, wait: float) -> bool:
        """Wait until a stream has an entry after one that was seen; False when `wait` seconds are over before."""
        return self.any_news({key: after}, wait)

    def any_news(self, seen: dict[str, str], wait: float) -> bool:
        """Wait until one of several streams has an entry after the one that was seen of it."""
        wait = min(wait, LONGEST_BLOCK)
        block = max(1, round(wait * 1000))
        command = ("XREAD", "COUNT", 1, "BLOCK", block, "STREAMS", *seen, *seen.values())
        try:
            if self._pool is None:
                return bool(face.within(self.client.execute_command(*command), wait + self._usual))
            # Not one of those that calls share: there may be any number of waits.
            connection = self._borrow(self._usual)
            try:
                return bool(face.exchange(connection, command, wait + self._usual))
            except (RedisError, OSError):
                face.disconnect(connection)
                raise
            finally:
                self._idle.append(connection)
        except (*FAILURES, UnreachedError) as error:
            raise self._given_up(error) from None

    def scan(self, pattern: str, beside: str, *, timeout: float) -> Iterator[list[bytes]]:
        """Give, batch by batch, the keys that match a pattern and are in the slot of another one."""
        deadline = monotonic() + timeout
        cursor: Any = 0
        while True:
            left = max(0.001, deadline - monotonic())
            cursors, keys = self._of_node(beside, "SCAN", cursor, "MATCH", pattern, "COUNT", 1000, timeout=left)
            # The client of a cluster gives a cursor for each node that it asked.
            (cursor,) = cursors.values() if isinstance(cursors, dict) else (cursors,)
            yield keys
            if int(cursor) == 0:
                return

    def _of_node(self, beside: str, *command: Any, timeout: float) -> Any:
        """Have a command done that names no key, in a cluster by the node that has one."""
        if self._pool is not None:
            return self.call(*command, timeout=timeout, again=True)
        node = self.client.get_node_from_key(beside)
        try:
            return face.within(self.client.execute_command(*command, target_nodes=node), timeout)
        except FAILURES as error:
            raise self._given_up(error) from None

    def now(self) -> float:
        """Give the server's wall clock, in seconds, as it was last heard of: nobody's own clock counts."""
        return monotonic() + self._ahead

    def heard(self, seconds: bytes | int, microseconds: bytes | int) -> None:
        """Take note of the server's clock."""
        self._ahead = int(seconds) + int(microseconds) / 1_000_000 - monotonic()

    def _attempt(self, command: tuple[Any, ...], timeout: float) -> Any:
        if self._pool is None:
            return face.within(self.client.execute_command(*command), timeout)
        if self._batches.joined:
            return self._batches.exchange(command, timeout)
        self._batches.begin()
        try:
            connection = self._lend(timeout)
            broken = True
            try:
                answer = face.exchange(connection, command, timeout)
                broken = False
            except ResponseError as error:
                # A primary that is one no more.
                broken = isinstance(error, ReadOnlyError)
                raise
            finally:
                self._give_back(connection, broken)
        finally:
            self._batches.end()
        return answer

    def _lend(self, timeout: float) -> Any:
        if not self._slots.take(timeout):
            raise DeadlineExceeded("every connection was in use all the time; see max_connections")
        try:
            return self._borrow(timeout)
        except BaseException:
            self._slots.give()
            raise

    def _give_back(self, connection: Any, broken: bool) -> None:  # noqa: FBT001 (called by `Batches`, too)
        try:
            if broken:
                face.disconnect(connection)
        finally:
            self._idle.append(connection)
            self._slots.give()

    def _borrow(self, timeout: float) -> Any:
        if self._closed:
            raise Closed("the resource is closed")
        try:
            connection = self._idle.pop()
        except IndexError:
            connection = self._pool.make_connection()
            self._all.append(connection)
        else:
            if face.is_alive(connection) and (self._logins is None or monotonic() < connection.login_until):
                return connection
            face.disconnect(connection)
        try:
            face.connect(connection, timeout)
        except FAILURES as error:
            self._idle.append(connection)
            raise UnreachedError from error
        except BaseException:
            face.disconnect(connection)
            self._idle.append(connection)
            raise
        if self._logins is not None:
            connection.login_until = self._logins.until
        return connection

    def _given_up(self, failure: BaseException) -> Exception:
        if isinstance(failure, PortableError):
            return failure
        if self._closed:
            closed = Closed("the resource was closed meanwhile")
            closed.__cause__ = failure
            return closed
        if isinstance(failure, ResponseError) and not (is_passing(failure) or is_refused(failure)):
            ours = translated(failure)
            # What is no error of the whole resource is the caller's to tell.
            return ours if type(ours) is not PortableError else failure
        return translated(failure)

    def _learn(self) -> None:
        """See whether the server will do, what its clock says, and what it keeps."""
        facts = self.run(_ABOUT, (self._binding.name,), timeout=self._usual, again=True)
        text, seconds, microseconds = facts
        self.heard(seconds, microseconds)
        lines = (line.partition(":") for line in text.decode().splitlines())
        about = {name: value for name, _, value in lines}
        version = tuple(int(part) for part in about.get("redis_version", "0").split(".")[:2] if part.isdigit())
        if version < OLDEST:
            raise Unsupported(f"the server is Redis {about.get('redis_version')}; 6.2 is the first that will do")
        self.durability = "none"
        if about.get("aof_enabled") == "1":
            self.durability = "process"
            # Many servers keep their config to themselves.
            with suppress(PortableError, RedisError):
                answer = self._of_node(self._binding.name, "CONFIG GET", "appendfsync", timeout=self._usual)
                if _second(answer) == "always":
                    self.durability = "power"


def _second(answer: Any) -> str:
    value = answer.get("appendfsync", "") if isinstance(answer, dict) else (*answer, "", "")[1]
    return value.decode() if isinstance(value, bytes) else str(value)


_ABOUT = Script("about")
