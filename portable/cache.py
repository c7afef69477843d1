# Generated from portable/aio/cache.py by tools/generate_sync.py; change that file, not this one.
"""Caches: values under keys for a while, counters, values computed once, and locks."""

from __future__ import annotations

import functools
import inspect
import secrets
from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any, ClassVar, Generic, ParamSpec, TypeVar, overload

from portable._concurrency import IS_ASYNC, Host, long_operation, obtaining, operation
from portable.bindings import Binding
from portable.cache_keys import KeyTemplate, check_key, check_seconds
from portable.cache_values import value_codec
from portable.drivers import CacheDriver
from portable.errors import DeadlineExceeded, InvalidArgument, LeaseLost, LimitExceeded, PortableError
from portable.filling import Filling
from portable.hooks import Hook
from portable.lock import Lock, Turn, lock_name
from portable.quantities import LONGEST
from portable.resource import Resource

__all__ = ["Cache", "Lock"]

T = TypeVar("T")
D = TypeVar("D")
R = TypeVar("R")
P = ParamSpec("P")

_PLAIN_NUMBERS = (float, int)
LARGEST_COUNTER = 2**63 - 1


class Cache(Resource[CacheDriver], Generic[T]):
    """Values under keys, each until its time to live has run out or the backend needs the room.

    A value is what was set or gone, never another. A time to live holds within a second. `add` and `incr` are atomic
    between processes. The names in a cache are its own: no other cache sees or clears them.

    Values are None, bool, int, float, str, list and dict (as JSON), and bytes; or whatever `type=` says. What another
    program stored comes back as its JSON value where it is JSON, else as its bytes. Keys are any text that is not
    empty.
    """

    kind: ClassVar[str] = "cache"

    def __init__(
        self,
        binding: Binding[Any],
        make: Callable[[], CacheDriver],
        *,
        host: Host,
        hooks: tuple[Hook, ...] = (),
        strict: bool = False,
        limits: tuple[str, ...] = (),
        type: Any = None,
    ) -> None:
        """Bind the cache to a driver; `Cloud` calls this.

        Args:
            binding: what the config says.
            make: makes the driver, without any I/O.
            host: the threads that serve the driver.
            hooks: what stands around every operation.
            strict: whether capabilities that the contract does not declare are refused.
            limits: the clouds whose limits this cache keeps to.
            type: what values are; JSON values and bytes when left out.
        """
        super().__init__(binding, make, host=host, hooks=hooks, strict=strict, limits=limits)
        self._codec = value_codec(type)
        self._longest_key = self._driver.capabilities.max_key_bytes
        self._longest_value = self._driver.capabilities.max_value_bytes
        self._guard: Any = None
        if limits:
            from portable.limits import guard  # noqa: PLC0415 (the table is read only where somebody asks for it)

            self._guard = guard(limits, self.kind)
        self._plain = not hooks and (self._instant or not IS_ASYNC)
        # Most caches have no limits of their own: then what is plainly right needs no closer look.
        self._unlimited = self._guard is None and self._longest_key is None and self._longest_value is None
        self._encode = self._codec.encode if self._unlimited else self._encode_limited

    @overload
    def get(self, /, key: str, *, timeout: float | None = None) -> T | None: ...
    @overload
    def get(self, /, key: str, default: D, *, timeout: float | None = None) -> T | D: ...
    @operation
    def get(self, key: str, default: Any = None, *, timeout: float | None = None) -> Any:
        """Give the value under `key`, or `default` where there is none; a None that was set is told from a miss by it.

        Args:
            key: its key.
            default: what a miss gives.
            timeout: seconds.

        Raises:
            IntegrityError: what is stored does not fit the cache's `type`.
        """
        if type(key) is not str or not key or not self._unlimited or not key.isascii():
            self._check_key(key)
        stored = self._driver.get(key, timeout=self._timeout if timeout is None else timeout)
        return default if stored is None else self._codec.decode(stored)

    def set(self, key: str, value: T, *, ttl: float | None = None, timeout: float | None = None) -> None:
        """Set the value under `key`, whatever was there.

        Args:
            key: its key.
            value: any that the cache takes.
            ttl: seconds until it is gone; None keeps it until the backend needs the room.
            timeout: seconds.

        Raises:
            InvalidArgument: no key, a value that would not come back as it is, or a `ttl` that is not above 0.
            LimitExceeded: it is larger than the backend, or a cloud named in `guard.limits`, takes.
        """
        if not self._opened or not self._plain:
            self._set(key, value, ttl, timeout=timeout)
            return
        # All that `operation` does for such a cache; passing any arguments on would cost as much as the work itself.
        try:
            self._put(key, value, ttl, timeout)
        except PortableError as error:
            raise self._placed(error, "set")  # noqa: B904 (the same error)

    @operation
    def _set(self, key: str, value: T, ttl: float | None, *, timeout: float | None) -> None:
        self._put(key, value, ttl, timeout)

    def _put(self, key: str, value: T, ttl: float | None, timeout: float | None) -> None:
        if type(key) is not str or not key or not self._unlimited or not key.isascii():
            self._check_key(key)
        if ttl is not None and not (type(ttl) in _PLAIN_NUMBERS and 0 < ttl < LONGEST and self._unlimited):
            self._check_ttl(ttl)
        stored = self._encode(value)
        self._driver.set(key, stored, ttl, timeout=self._timeout if timeout is None else timeout)

    @operation
    def add(self, key: str, value: T, *, ttl: float | None = None, timeout: float | None = None) -> bool:
        """Set the value under `key` if there is none; of any number of callers, in all processes, one succeeds.

        Args:
            key: its key.
            value: any that the cache takes.
            ttl: seconds until it is gone, or None.
            timeout: seconds.

        Returns:
            Whether it was set.

        Raises:
            InvalidArgument: as for `set`.
            LimitExceeded: as for `set`.
        """
        self._check_key(key)
        self._check_ttl(ttl)
        return self._driver.add(key, self._encode(value), ttl, timeout=self._each(timeout))

    @operation
    def delete(self, key: str, *, timeout: float | None = None) -> bool:
        """Remove what is under `key`.

        Args:
            key: its key.
            timeout: seconds.

        Returns:
            Whether there was anything.

        Raises:
            InvalidArgument: the key is none that a cache takes.
        """
        self._check_key(key)
        return self._driver.delete(key, timeout=self._each(timeout))

    @operation
    def get_many(self, keys: Iterable[str], *, timeout: float | None = None) -> dict[str, T]:
        """Give the values that are there, by key, in the order of `keys`.

        Args:
            keys: any number.
            timeout: seconds, in all.

        Raises:
            IntegrityError: what is stored does not fit the cache's `type`.
        """
        wanted = list(self._checked_keys(keys))
        if not wanted:
            return {}
        stored = self._driver.get_many(wanted, timeout=self._each(timeout))
        decode = self._codec.decode
        return {key: decode(stored[key]) for key in wanted if key in stored}

    @operation
    def set_many(self, mapping: Mapping[str, T], *, ttl: float | None = None, timeout: float | None = None) -> None:
        """Set all the values of a mapping; each is set whole, the mapping is not one step.

        Args:
            mapping: keys to values, any number.
            ttl: seconds until they are gone, or None.
            timeout: seconds, in all.

        Raises:
            InvalidArgument: as for `set`; nothing was set.
            LimitExceeded: as for `set`; nothing was set.
        """
        self._check_ttl(ttl)
        stored = {key: self._encode(mapping[key]) for key in self._checked_keys(mapping)}
        if stored:
            self._driver.set_many(stored, ttl, timeout=self._each(timeout))

    @operation
    def delete_many(self, keys: Iterable[str], *, timeout: float | None = None) -> int:
        """Remove what is under any of the keys.

        Args:
            keys: any number.
            timeout: seconds, in all.

        Returns:
            How many there were.

        Raises:
            InvalidArgument: a key is none that a cache takes; nothing was removed.
        """
        wanted = list(self._checked_keys(keys))
        return self._driver.delete_many(wanted, timeout=self._each(timeout)) if wanted else 0

    @operation
    def incr(self, key: str, by: int = 1, *, ttl: float | None = None, timeout: float | None = None) -> int:
        """Add to the counter under `key`, which starts at 0; no increment of any process is lost, or made twice.

        Args:
            key: its key; the value is an int, and `get` and `set` see it as one.
            by: how much; below 0 it needs the capability `negative_counters`.
            ttl: seconds until the counter is gone, where this call makes it; one that is there keeps its own.
            timeout: seconds.

        Returns:
            The new value.

        Raises:
            InvalidArgument: what is under the key is no int.
            LimitExceeded: the result does not fit 64 bits.
            Unsupported: `by` is below 0, and the backend does not count so.
        """
        self._check_key(key)
        self._check_ttl(ttl)
        if type(by) is not int:
            raise InvalidArgument(f"by= is an int, not {type(by).__name__}")
        if abs(by) > LARGEST_COUNTER:
            raise LimitExceeded(f"by={by} does not fit a counter of 64 bits")
        if by < 0:
            self._require("negative_counters", f"incr(by={by})")
        if self._guard is not None:
            self._guard.counter(by)
        return self._driver.incr(key, by, ttl, timeout=self._each(timeout))

    @operation
    def touch(self, key: str, ttl: float | None, *, timeout: float | None = None) -> bool:
        """Let what is under `key` live `ttl` seconds from now.

        Args:
            key: its key.
            ttl: seconds, or None to let it stay.
            timeout: seconds.

        Returns:
            Whether there was anything.

        Raises:
            InvalidArgument: the key is none that a cache takes, or the TTL is not more than 0.
        """
        self._check_key(key)
        self._check_ttl(ttl)
        return self._driver.touch(key, ttl, timeout=self._each(timeout))

    @operation
    def ttl(self, key: str, *, timeout: float | None = None) -> float | None:
        """Give the seconds that what is under `key` has left; None where it does not expire.

        Args:
            key: its key.
            timeout: seconds.

        Raises:
            NotFound: there is nothing under the key.
        """
        self._check_key(key)
        return self._driver.ttl(key, timeout=self._each(timeout))

    @operation
    def clear(self, *, timeout: float | None = None) -> None:
        """Remove every value of this cache, and of no other. Locks are no values: they stay.

        Args:
            timeout: seconds.
        """
        self._driver.clear(timeout=self._each(timeout))

    @long_operation
    def get_or_set(
        self,
        key: str,
        factory: Callable[[], R],
        *,
        ttl: float | None,
        stale: float | None = None,
        timeout: float | None = None,
    ) -> R:
        """Give the value under `key`; where there is none one caller, of all processes, makes it, and the others wait.

        What the factory raises is raised here and not stored, and the next caller tries. A cache may forget who is
        at it, so in rare cases two make the value. A stored value that does not fit the cache's `type` is made anew.

        Args:
            key: its key.
            factory: makes the value, without arguments; it must not ask for the same key.
            ttl: seconds for which the value is fresh; None for ever.
            stale: for so many seconds more it is kept; meanwhile one caller makes it anew, and all others get the
                stale one. A value is stale when it has no more than `stale` seconds left, whoever set it.
            timeout: seconds for all that is not the factory, which is never cut short; without it a caller waits as
                long as another one is at work.

        Returns:
            The value as it was stored: what `get` would give.

        Raises:
            InvalidArgument: as for `set`.
            DeadlineExceeded: `timeout` ran out while another one was at work.
        """
        self._check_key(key)
        self._check_ttl(ttl)
        if stale is not None:
            self._check_ttl(stale, "stale")
        return Filling(self, key, factory, ttl=ttl, stale=stale, timeout=timeout).value()

    def cached(
        self, *, ttl: float | None, key: str, stale: float | None = None
    ) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Keep what a function returns, as `get_or_set` does: `@cache.cached(ttl=60, key="user:{id}")`.

        Args:
            ttl: seconds for which a result is fresh; None for ever.
            key: a format string over the function's arguments. A single field is filled in as it is; where there are
                several, each is percent-encoded where it holds `%` or a separator. Arguments that it does not name
                make no difference.
            stale: seconds, as for `get_or_set`.

        Raises:
            InvalidArgument: the key names no argument, or the function is of the other face (sync or async).
        """
        try:
            self._check_ttl(ttl)
            if stale is not None:
                self._check_ttl(stale, "stale")
        except PortableError as error:
            raise self._placed(error, "cached")  # noqa: B904 (the same error)

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            template = self._template(key, function)

            @functools.wraps(function)
            def call(*args: P.args, **kwargs: P.kwargs) -> R:
                wanted = template.key(args, kwargs)
                return self.get_or_set(wanted, lambda: function(*args, **kwargs), ttl=ttl, stale=stale)

            return call

        return decorate

    @obtaining
    @long_operation
    def lock(self, name: str, *, ttl: float, wait: float | None = None, timeout: float | None = None) -> Lock:
        """Obtain the lock of that name, which one caller of all processes holds at a time (`lock` capability).

        The result is a context manager that releases it: `with cache.lock("report", ttl=30):`. A lock saves
        work, not correctness: after `ttl` seconds, or when the backend forgets, another one may have it too. What must
        be exclusive checks the lock's `token`.

        Args:
            name: the lock's; locks and values do not share names.
            ttl: seconds after which it is free again, unless it was released or extended.
            wait: seconds to wait for it; None without limit, 0 to try once.
            timeout: seconds, in all, as for every call; the waiting ends with it, too.

        Raises:
            DeadlineExceeded: somebody else had it all the time.
            Unsupported: the backend has no locks.
        """
        self._require("lock", "lock()")
        self._check_key(name)
        self._check_lease(ttl)
        if wait != 0:
            check_seconds("wait", wait)
        limits = [limit for limit in (wait, timeout) if limit is not None]
        deadline = monotonic() + min(limits) if limits else None
        stored, holder = lock_name(name), secrets.token_hex(16)
        turn = Turn(self._driver, stored)
        while True:
            turn.look()
            attempt = self._driver.acquire(stored, holder, ttl, timeout=self._each(timeout))
            if attempt.obtained:
                token = attempt.token if "fencing" in self._features else None
                return Lock(self, name, holder, token, ttl)
            if not turn.wait(attempt.seconds, deadline):
                raise DeadlineExceeded(f"somebody else holds the lock {name!r}")

    @operation
    def _lock_extend(self, name: str, holder: str, ttl: float, *, timeout: float | None = None) -> None:
        self._check_lease(ttl)
        if not self._driver.extend(lock_name(name), holder, ttl, timeout=self._each(timeout)):
            raise LeaseLost(f"the lock {name!r} ran out before it was extended")

    @operation
    def _lock_release(self, name: str, holder: str, *, timeout: float | None = None) -> None:
        if not self._driver.release(lock_name(name), holder, timeout=self._each(timeout)):
            raise LeaseLost(f"the lock {name!r} ran out before it was released")

    def _require_fencing(self) -> None:
        try:
            self._require("fencing", "Lock.token")
        except PortableError as error:
            raise self._placed(error, "lock")  # noqa: B904 (the same error)

    def _template(self, key: str, function: Callable[..., Any]) -> KeyTemplate:
        try:
            if inspect.iscoroutinefunction(function) is not IS_ASYNC or inspect.isgeneratorfunction(function):
                raise InvalidArgument(
                    f"{function.__qualname__} cannot be cached here: a cache of portable takes coroutine "
                    "functions, one of portable takes plain functions"
                )
            return KeyTemplate(key, function)
        except PortableError as error:
            raise self._placed(error, "cached")  # noqa: B904 (the same error)

    def _each(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout

    def _check_key(self, key: str) -> None:
        check_key(key, self._longest_key)
        if self._guard is not None:
            self._guard.key(key)

    def _checked_keys(self, keys: Iterable[str]) -> Iterable[str]:
        if isinstance(keys, (str, bytes)):
            raise InvalidArgument("keys= is several keys, not one; put it into a list")
        for key in keys:
            self._check_key(key)
            yield key

    def _check_ttl(self, ttl: float | None, name: str = "ttl") -> None:
        check_seconds(name, ttl)
        if ttl is not None and self._guard is not None:
            self._guard.ttl(ttl)

    def _check_lease(self, ttl: float) -> None:
        if ttl is None:
            raise InvalidArgument("a lock needs ttl=, the seconds after which it is free again")
        self._check_ttl(ttl)

    def _encode_limited(self, value: Any) -> bytes:
        stored = self._codec.encode(value)
        if self._longest_value is not None and len(stored) > self._longest_value:
            raise LimitExceeded(
                f"the value has {len(stored)} bytes as stored, and this cache takes {self._longest_value}"
            )
        if self._guard is not None:
            self._guard.value(stored)
        return stored
