"""The memcacheds of one cache: which has a key, and the connections to each."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from pymemcache.client.base import PooledClient
from pymemcache.client.hash import HashClient
from pymemcache.client.rendezvous import RendezvousHash

from portable.bindings import Binding
from portable.errors import Closed, DeadlineExceeded
from portable_memcached.connection import Answer, Connection, Login
from portable_memcached.errors import FAILURES, UnreachedError, is_passing, translated
from portable_memcached.options import MemcachedOptions, addresses, tls_context

__all__ = ["Server", "Servers"]

SHORTEST_PAUSE, LONGEST_PAUSE = 0.02, 1.0
"""Seconds before a failed call is repeated: spread between nothing and a bound that doubles, within these."""


class Server:
    """One memcached, and the connections to it that calls share."""

    def __init__(self, make: Callable[[], Connection], connections: int, retries: int) -> None:
        self._make = make
        # As many as there may be connections; a semaphore takes ten times as long.
        self._slots: SimpleQueue[None] = SimpleQueue()
        for _ in range(connections):
            self._slots.put(None)
        self._retries = retries
        # Those at hand, the last used first.
        self._idle: list[Connection] = []
        self._closed = False

    def exchange(self, commands: Sequence[bytes], timeout: float, *, again: bool) -> list[Answer]:
        """Have commands done in one round trip.

        Args:
            commands: the commands, whole.
            timeout: seconds, for all attempts.
            again: whether they may be repeated where they are not known to be undone.

        Raises:
            PortableError: it could not be.
        """
        deadline, failures, sent = monotonic() + timeout, 0, False
        while True:
            try:
                return self._attempt(commands, deadline - monotonic())
            except (UnreachedError, *FAILURES) as error:
                failures += 1
                # What an earlier attempt has sent may be done, though a later one reached nobody.
                sent = sent or not isinstance(error, UnreachedError)
                bound = min(LONGEST_PAUSE, SHORTEST_PAUSE * 2**failures)
                pause = random.uniform(0, bound)  # noqa: S311 (spreads load, hides nothing)
                repeats = (again or isinstance(error, UnreachedError)) and failures <= self._retries
                if self._closed:
                    raise Closed(
                        "the resource was closed meanwhile", maybe_applied=sent and _changes(commands)
                    ) from error
                if not (repeats and is_passing(error) and monotonic() + pause < deadline):
                    raise translated(error, maybe_applied=sent and _changes(commands)) from error
            time.sleep(pause)

    def close(self) -> None:
        """Drop the connections; those in use end with their call."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()

    def _attempt(self, commands: Sequence[bytes], timeout: float) -> list[Answer]:
        try:
            self._slots.get(timeout=max(0.0, timeout))
        except Empty:
            raise DeadlineExceeded("every connection was in use all the time; see max_connections") from None
        try:
            connection = self._borrowed(timeout)
            try:
                answers = connection.exchange(commands, timeout)
            except BaseException:
                connection.close()
                raise
            self._idle.append(connection)
            if self._closed:
                self.close()
            return answers
        finally:
            self._slots.put(None)

    def _borrowed(self, timeout: float) -> Connection:
        if self._closed:
            raise Closed("the resource is closed")
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                break
            if connection.is_alive:
                return connection
            connection.close()
        connection = self._make()
        try:
            connection.connect(timeout)
        except FAILURES as error:
            connection.close()
            raise UnreachedError from error
        except BaseException:
            connection.close()
            raise
        return connection


class Servers:
    """The servers among which the keys of a cache are shared; one that is down takes its keys with it until it is back.

    Another one does not stand in for it: it would go on with what it has, and the first with what it had.
    """

    def __init__(self, binding: Binding[MemcachedOptions]) -> None:
        options, url = binding.options, binding.url
        self._addresses = addresses(binding)
        self._context = tls_context(options)
        login: Login = (url.username, url.password or "") if url.username else None

        def server(address: tuple[str, int] | str) -> Server:
            return Server(
                lambda: Connection(address, self._context, login), options.max_connections, binding.contract.retries
            )

        self._servers = {name: server(address) for name, address in self._addresses.items()}
        self._only = next(iter(self._servers.values())) if len(self._servers) == 1 else None
        self._ring = RendezvousHash(list(self._servers))
        self._native: Any = None

    @property
    def native(self) -> Any:
        """A client of pymemcache of its own, for the application."""
        if self._native is None:
            places = list(self._addresses.values())
            if self._only is not None:
                self._native = PooledClient(places[0], tls_context=self._context)
            else:
                self._native = HashClient(places, use_pooling=True, tls_context=self._context)
        return self._native

    def __iter__(self) -> Iterator[Server]:
        """List the servers."""
        return iter(self._servers.values())

    def of(self, key: str) -> Server:
        """Give the server that has a key."""
        return self._only or self._servers[str(self._ring.get_node(key))]

    def shared(self, keys: Iterable[str]) -> dict[Server, list[str]]:
        """Give the keys that each server has."""
        if self._only is not None:
            return {self._only: list(keys)}
        found: dict[Server, list[str]] = {}
        for key in keys:
            found.setdefault(self.of(key), []).append(key)
        return found

    def close(self) -> None:
        """Let go of every connection."""
        for server in self._servers.values():
            server.close()
        native, self._native = self._native, None
        if native is not None:
            native.close()


def _changes(commands: Sequence[bytes]) -> bool:
    """Whether any of some commands does more than ask."""
    return not all(command.startswith(b"mg ") for command in commands)
