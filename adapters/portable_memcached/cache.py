"""Caches on memcached: each value is an item of its own; `docs/wire-formats/memcached.md` names the keys."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import monotonic
from typing import Any

from portable.bindings import Binding
from portable.bridges import stays_sync, undone_by
from portable.capabilities import CacheCapabilities
from portable.changes import Change
from portable.errors import InvalidArgument, LimitExceeded, NotFound
from portable.leases import Attempt
from portable_memcached.connection import Answer, check_served
from portable_memcached.errors import FAILURES, translated
from portable_memcached.items import Item, item, lifetime, packed, unpacked
from portable_memcached.keys import GENERATION, LONGEST_KEY, Names
from portable_memcached.options import MemcachedOptions
from portable_memcached.servers import Server, Servers

__all__ = ["MemcachedCache"]

OVERHEAD = 512
"""Bytes of an item that are its key and header."""

LARGEST_COUNTER = 2**63 - 1

SURE = 2**62
"""Up to here the server counts: no two steps that may race come near the end of 64 bits."""

ASKED = 64 * 1024
"""Bytes of commands that are sent before their answers are read."""

SENT = 4 * 1024 * 1024
"""The same for values that are stored."""

AT_ONCE = 1000


class MemcachedCache:
    """Satisfies `portable.drivers.CacheDriver`.

    The keys of values hold a generation, which `clear` changes. Each call asks for it together with what it does, and
    does it again where it has changed, so that nothing is read or counted that was cleared.
    """

    Options = MemcachedOptions

    def __init__(self, binding: Binding[MemcachedOptions]) -> None:
        self._servers = Servers(binding)
        self._names = Names(binding.name)
        self._clock = binding.clock
        self._usual = float(binding.contract.timeout)
        self._generations: dict[Server, bytes] = {}
        self._ask_generation = b"mg %b v\r\n" % self._names.generation
        largest = int(binding.options.max_item_size) - OVERHEAD
        self.capabilities = CacheCapabilities(durability="none", max_value_bytes=max(1, largest))
        self._largest = largest

    @property
    def native(self) -> Any:
        """A client of pymemcache: a `PooledClient`, or a `HashClient` where there are several servers."""
        return self._servers.native

    def open(self) -> None:
        """Connect to every server, and see that it will do; there is nothing to make."""
        for server in self._servers:
            server.exchange([self._ask_generation], self._usual, again=True)

    def close(self) -> None:
        """Let go of the connections."""
        self._servers.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """Read something from every server; with `write`, store something, too."""
        key = self._names.lock("check")
        command = b"ms %b 1 T1\r\n1\r\n" % key if write else self._ask_generation
        for server in self._servers:
            _served(server.exchange([command], timeout, again=True)[0])

    def plan(self) -> list[Change]:
        """There is nothing to make."""
        return []

    def create(self) -> None:
        """There is nothing to make."""

    def get(self, key: str, *, timeout: float) -> bytes | None:
        """Give the value, or None."""
        found = self._item(key, timeout)
        return None if found is None else found.value

    def get_many(self, keys: Sequence[str], *, timeout: float) -> dict[str, bytes]:
        """Give the values that are there, of each server in a round trip for each 262 keys."""

        def asked(generation: bytes, key: str) -> bytes:
            return b"mg %b v f t c\r\n" % self._names.value(generation, key)

        found = {}
        for key, answer in self._each(keys, (asked,), timeout, again=True):
            there = self._read(key, answer)
            if there is not None:
                found[key] = there.value
        return found

    def set(self, key: str, value: bytes, ttl: float | None, *, timeout: float) -> None:
        """Set the value, whatever was there."""
        self._one(key, lambda generation: self._storing(generation, key, value, ttl), timeout, again=True)

    def set_many(self, values: Mapping[str, bytes], ttl: float | None, *, timeout: float) -> None:
        """Set all the values, on each server in a round trip for each thousand, or 4 MiB."""

        def stored(generation: bytes, key: str) -> bytes:
            return self._storing(generation, key, values[key], ttl)

        for _ in self._each(list(values), (stored,), timeout, again=True, size=lambda key: len(values[key])):
            pass

    def add(self, key: str, value: bytes, ttl: float | None, *, timeout: float) -> bool:
        """Set the value if there is none."""
        return self._added(key, value, ttl, monotonic() + timeout)

    def delete(self, key: str, *, timeout: float) -> bool:
        """Remove the value; say whether there was one."""
        return self.delete_many([key], timeout=timeout) == 1

    def delete_many(self, keys: Sequence[str], *, timeout: float) -> int:
        """Remove the values, of each server in a round trip for each 262; say how many there were."""

        def looked(generation: bytes, key: str) -> bytes:
            return b"mg %b f t c\r\n" % self._names.value(generation, key)

        def removed(generation: bytes, key: str) -> bytes:
            return b"md %b\r\n" % self._names.value(generation, key)

        gone = 0
        answers = self._each(list(dict.fromkeys(keys)), (looked, removed), timeout, again=False)
        for key, found in answers:
            _, done = next(answers)
            # An item whose time is over is as good as gone.
            over = found.code == b"HD" and self._read(key, found) is None
            gone += done.code == b"HD" and not over
        return gone

    def incr(self, key: str, by: int, ttl: float | None, *, timeout: float) -> int:
        """Add to a counter, and give its new value; the server counts wherever it can do that right."""
        deadline = monotonic() + timeout
        while True:
            found = self._item(key, deadline - monotonic())
            if found is None:
                if self._added(key, b"%d" % by, ttl, deadline):
                    return by
                continue
            total = _counted(found.value, by)
            if total < SURE and by < SURE >> 30 and not self._names.is_long(key):
                answer = self._one(key, lambda generation: self._counting(generation, key, by), deadline - monotonic())
                if answer.code == b"VA":
                    return int(answer.value)
            elif self._swapped(key, found, b"%d" % total, found.left, deadline - monotonic()):
                return total

    def touch(self, key: str, ttl: float | None, *, timeout: float) -> bool:
        """Let the value live `ttl` seconds from now; say whether there was one."""
        deadline = monotonic() + timeout
        while True:
            found = self._item(key, deadline - monotonic())
            if found is None:
                return False
            if self._swapped(key, found, found.value, ttl, deadline - monotonic()):
                return True

    def ttl(self, key: str, *, timeout: float) -> float | None:
        """Give the seconds that the value has left, or None where it does not expire."""
        found = self._item(key, timeout)
        if found is None:
            raise NotFound(f"there is nothing under {key!r}")
        return found.left

    def clear(self, *, timeout: float) -> None:
        """Let every value be of a generation that is over; memcached forgets them as it needs the room."""
        deadline = monotonic() + timeout
        for server in self._servers:
            generation = _new_generation()
            command = b"ms %b %d\r\n%b\r\n" % (self._names.generation, len(generation), generation)
            _served(server.exchange([command], deadline - monotonic(), again=True)[0])
            self._generations[server] = generation

    def _give_back(self, attempt: Attempt) -> None:
        if attempt.obtained:
            self.release(attempt.name, attempt.holder, timeout=self._usual)

    @undone_by(_give_back)
    def acquire(self, name: str, holder: str, ttl: float, *, timeout: float) -> Attempt:
        """Try once to give a lock to a holder."""
        deadline, key, server = monotonic() + timeout, self._names.lock(name), self._servers.of(name)
        mine = holder.encode()
        while True:
            commands = [
                b"ms %b %d ME %b\r\n%b\r\n" % (key, len(mine), lifetime(ttl, self._clock()), mine),
                b"mg %b v f t c\r\n" % key,
            ]
            added, held = server.exchange(commands, deadline - monotonic(), again=False)
            if _served(added).code == b"HD":
                return Attempt(name, holder, obtained=True, token=None, seconds=ttl)
            if held.code == b"EN":
                continue
            found = item(held.value, held.tokens, self._clock())
            if found is not None:
                return Attempt(name, holder, obtained=False, token=None, seconds=found.left or 0.0)
            unique = held.tokens[2][1:]
            server.exchange([b"md %b C%b\r\n" % (key, unique)], deadline - monotonic(), again=True)

    def extend(self, name: str, holder: str, ttl: float, *, timeout: float) -> bool:
        """Let a holder's lease last `ttl` seconds from now; False where it no longer has the lock."""
        mine = holder.encode()
        life = lifetime(ttl, self._clock())
        return self._as_holder(name, holder, b"ms %%b %d C%%b %b\r\n%b\r\n" % (len(mine), life, mine), timeout)

    def release(self, name: str, holder: str, *, timeout: float) -> bool:
        """Free a lock; False where the holder no longer has it."""
        return self._as_holder(name, holder, b"md %b C%b\r\n", timeout)

    @stays_sync
    def lock_arrivals(self, name: str) -> None:
        """Nobody tells of releases: the portable type asks again."""

    def _as_holder(self, name: str, holder: str, command: bytes, timeout: float) -> bool:
        """Have a command done, into which key and unique number are put, if the lock is still the holder's."""
        deadline, key, server = monotonic() + timeout, self._names.lock(name), self._servers.of(name)
        (held,) = server.exchange([b"mg %b v f t c\r\n" % key], timeout, again=True)
        found = item(held.value, held.tokens, self._clock()) if held.code == b"VA" else None
        if found is None or found.value != holder.encode():
            return False
        (done,) = server.exchange([command % (key, found.unique)], deadline - monotonic(), again=False)
        return _served(done).code == b"HD"

    def _added(self, key: str, value: bytes, ttl: float | None, deadline: float) -> bool:
        while True:
            answer = self._one(
                key, lambda generation: self._storing(generation, key, value, ttl, b" ME"), deadline - monotonic()
            )
            if answer.code == b"HD":
                return True
            if self._item(key, deadline - monotonic()) is not None:
                return False
            # There is an item, but its time is over, or was when it was looked for.
            self._expel(key, deadline - monotonic())

    def _expel(self, key: str, timeout: float) -> None:
        """Remove an item whose time is over, unless it has become another one."""
        deadline = monotonic() + timeout
        answer = self._one(
            key, lambda generation: b"mg %b v f t c\r\n" % self._names.value(generation, key), timeout, again=True
        )
        if answer.code == b"VA" and self._read(key, answer) is None:
            unique = answer.tokens[2][1:]
            self._one(
                key,
                lambda generation: b"md %b C%b\r\n" % (self._names.value(generation, key), unique),
                deadline - monotonic(),
                again=True,
            )

    def _swapped(self, key: str, old: Item, value: bytes, ttl: float | None, timeout: float) -> bool:
        """Store a value in place of an item, unless that has become another one meanwhile."""
        answer = self._one(
            key, lambda generation: self._storing(generation, key, value, ttl, b" C" + old.unique), timeout
        )
        return answer.code == b"HD"

    def _item(self, key: str, timeout: float) -> Item | None:
        answer = self._one(
            key, lambda generation: b"mg %b v f t c\r\n" % self._names.value(generation, key), timeout, again=True
        )
        return self._read(key, answer)

    def _read(self, key: str, answer: Answer) -> Item | None:
        """Take what a `mg` was answered, with the value or without it."""
        if answer.code == b"EN":
            return None
        found = item(answer.value, answer.tokens, self._clock())
        if found is None or answer.code != b"VA" or not self._names.is_long(key):
            return found
        value = unpacked(key, found.value)
        return None if value is None else found._replace(value=value)

    def _storing(self, generation: bytes, key: str, value: bytes, ttl: float | None, condition: bytes = b"") -> bytes:
        if self._names.is_long(key):
            value = packed(key, value)
            if len(value) > self._largest:
                raise LimitExceeded(
                    f"the value and its long key have {len(value)} bytes, and this cache takes {self._largest}"
                )
        life = lifetime(ttl, self._clock())
        stored = self._names.value(generation, key)
        return b"ms %b %d %b%b\r\n%b\r\n" % (stored, len(value), life, condition, value)

    def _counting(self, generation: bytes, key: str, by: int) -> bytes:
        return b"ma %b D%d v\r\n" % (self._names.value(generation, key), by)

    def _one(self, key: str, command: Callable[[bytes], bytes], timeout: float, *, again: bool = False) -> Answer:
        server = self._servers.of(key)
        (answer,) = self._current(server, lambda generation: [command(generation)], timeout, again=again)
        return _served(answer)

    def _each(
        self,
        keys: Sequence[str],
        commands: Sequence[Callable[[bytes, str], bytes]],
        timeout: float,
        *,
        again: bool,
        size: Callable[[str], int] | None = None,
    ) -> Iterator[tuple[str, Answer]]:
        """Have the same commands done for each key; give every answer with its key."""
        deadline = monotonic() + timeout
        for server, its in self._servers.shared(keys).items():
            for chunk in _chunks(its, size):

                def made(generation: bytes, chunk: Sequence[str] = chunk) -> list[bytes]:
                    return [command(generation, key) for key in chunk for command in commands]

                found = self._current(server, made, deadline - monotonic(), again=again)
                asked = (key for key in chunk for _ in commands)
                yield from zip(asked, map(_served, found), strict=True)

    def _current(
        self, server: Server, commands: Callable[[bytes], list[bytes]], timeout: float, *, again: bool
    ) -> list[Answer]:
        """Have commands done in the current generation, which one more command makes sure of."""
        deadline = monotonic() + timeout
        while True:
            generation = self._generations.get(server) or self._begun(server, deadline)
            *answers, now = server.exchange(
                [*commands(generation), self._ask_generation], deadline - monotonic(), again=again
            )
            if now.value == generation:
                return answers
            self._generations.pop(server, None)

    def _begun(self, server: Server, deadline: float) -> bytes:
        """Give the generation, making one where memcached has none, or none any more."""
        fresh = _new_generation()
        added = b"ms %b %d ME\r\n%b\r\n" % (self._names.generation, len(fresh), fresh)
        made, found = server.exchange([added, self._ask_generation], deadline - monotonic(), again=True)
        _served(made)
        self._generations[server] = found.value
        return found.value


def _new_generation() -> bytes:
    """Give a random one: no two are the same, though memcached forget them all."""
    return secrets.token_hex(GENERATION // 2).encode()


def _served(answer: Answer) -> Answer:
    try:
        check_served(answer)
    except FAILURES as error:
        raise translated(error) from error
    return answer


def _counted(value: bytes, by: int) -> int:
    """Give a counter's next value.

    Raises:
        InvalidArgument: it is no counter.
        LimitExceeded: the next value does not fit.
    """
    if not value.isdigit() or len(value) > 20:
        raise InvalidArgument(
            "the value under this key is no int from 0 on, so it cannot be counted up; delete it first"
        )
    total = int(value) + by
    if total > LARGEST_COUNTER:
        raise LimitExceeded("the counter would not fit 64 bits")
    return total


def _chunks(keys: Sequence[str], size: Callable[[str], int] | None) -> Iterator[list[str]]:
    """Give the keys in groups whose commands are sent together.

    Args:
        keys: the keys.
        size: gives the bytes that are sent with each, where the answers are short; else these may be long, and the
            commands have to fit between the two ends while nobody reads.
    """
    limit = SENT if size is not None else ASKED
    chunk: list[str] = []
    total = 0
    for key in keys:
        its = LONGEST_KEY if size is None else LONGEST_KEY + size(key)
        if chunk and (total + its > limit or len(chunk) == AT_ONCE):
            yield chunk
            chunk, total = [], 0
        chunk.append(key)
        total += its
    if chunk:
        yield chunk
