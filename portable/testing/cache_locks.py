# Generated from portable/testing/aio/cache_locks.py by tools/generate_sync.py; change that file, not this one.
"""The cases of a cache's locks."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import Any, ClassVar

import pytest

from portable._concurrency import sleep
from portable.errors import DeadlineExceeded, InvalidArgument, LeaseLost, Unsupported
from portable.testing._concurrency import race
from portable.testing.suite import Suite, lacks, needs

__all__ = ["CacheLockCases"]


class CacheLockCases(Suite):
    """What `lock` guarantees where it is declared, and that it is refused where not.

    Attributes:
        lease: seconds that short leases and lives have; a backend on this machine keeps ones of less than a second.
    """

    lease: ClassVar[float] = 1.0

    @lacks("lock")
    def test_lock_is_refused(self) -> None:
        with pytest.raises(Unsupported):
            self.open().lock("l", ttl=10, wait=0)

    @needs("lock")
    @lacks("fencing")
    def test_a_token_is_refused(self) -> None:
        with self.open().lock("l", ttl=10) as lock:
            with pytest.raises(Unsupported):
                _ = lock.token

    @needs("lock")
    def test_a_lock_has_one_holder(self) -> None:
        one, other = self.open(), self.open()
        lock = one.lock("l", ttl=60)
        for cache in (one, other):
            with pytest.raises(DeadlineExceeded):
                cache.lock("l", ttl=60, wait=0)
        with pytest.raises(DeadlineExceeded):
            other.lock("l", ttl=60, wait=0.2)
        lock.release()
        lock.release()
        with other.lock("l", ttl=60, wait=0):
            with pytest.raises(DeadlineExceeded):
                one.lock("l", ttl=60, wait=0)
        (one.lock("l", ttl=60, wait=0)).release()

    @needs("lock")
    def test_locks_of_other_names_caches_and_values_are_free(self) -> None:
        cache, neighbour = self.open(), self.open("neighbour")

        def factory() -> int:
            return 1

        with cache.lock("l", ttl=60):
            with cache.lock("l2", ttl=60, wait=0), neighbour.lock("l", ttl=60, wait=0):
                pass
            cache.set("l", "value")
            assert cache.delete("l")
            assert cache.get_or_set("l", factory, ttl=60, timeout=8) == 1
            cache.clear()
            with pytest.raises(DeadlineExceeded):
                cache.lock("l", ttl=60, wait=0)

    @needs("lock")
    def test_hostile_names_are_locks_of_their_own(self) -> None:
        cache = self.open()
        held = [cache.lock(name, ttl=60, wait=0) for name in ("a b", "a\tb", "a/b", "a:b", "ä", "\x00", "*")]
        for lock in held:
            with pytest.raises(DeadlineExceeded):
                cache.lock(lock.name, ttl=60, wait=0)
        for lock in held:
            lock.release()

    @needs("lock")
    def test_a_waiting_caller_has_it_once_it_is_released(self) -> None:
        one, other = self.open(), self.open()
        first = one.lock("l", ttl=120)

        def release() -> float:
            sleep(0.05)
            first.release()
            return monotonic()

        def obtain() -> float:
            with other.lock("l", ttl=60, wait=60):
                return monotonic()

        results: list[Any] = race([release, obtain])
        # Not by waiting for the lease to run out.
        assert abs(results[1] - results[0]) < 30

    @needs("lock")
    def test_twenty_callers_hold_it_one_after_the_other(self) -> None:
        handles = [self.open() for _ in range(4)]
        inside: list[int] = []
        most: list[int] = []

        def hold(number: int) -> None:
            with handles[number % 4].lock("l", ttl=60):
                inside.append(number)
                most.append(len(inside))
                sleep(0.002)
                inside.remove(number)

        results: list[Any] = race([partial(hold, number) for number in range(20)])
        assert results == [None] * 20
        assert most == [1] * 20

    @needs("lock")
    def test_of_twenty_callers_who_try_once_one_obtains_it(self) -> None:
        handles = [self.open() for _ in range(4)]
        results: list[Any] = race([partial(_obtained, cache) for cache in handles * 5])
        assert sum(result is True for result in results) == 1
        assert sum(isinstance(result, DeadlineExceeded) for result in results) == 19

    @needs("lock")
    def test_a_lock_that_ran_out_is_lost(self) -> None:
        one, other = self.open(), self.open()
        lost = one.lock("l", ttl=self.lease)
        held = other.lock("l", ttl=60, wait=30)
        with pytest.raises(LeaseLost):
            lost.extend()
        with pytest.raises(LeaseLost):
            lost.release()
        lost.release()
        # The one that lost it has not taken it from its new holder.
        with pytest.raises(DeadlineExceeded):
            one.lock("l", ttl=60, wait=0)
        held.extend(60)
        held.release()

    @needs("lock")
    def test_leaving_the_block_of_a_lost_lock_raises(self) -> None:
        one, other = self.open(), self.open()
        with pytest.raises(LeaseLost):
            with one.lock("l", ttl=self.lease):
                other.lock("l", ttl=60, wait=30)

    @needs("lock")
    def test_an_extended_lock_stays(self) -> None:
        one, other = self.open(), self.open()
        # Long enough to be extended in time, though the process be held up for a while.
        ttl = max(2, 5 * self.lease)
        lock = one.lock("l", ttl=ttl)
        lock.extend(300)
        with pytest.raises(DeadlineExceeded):
            other.lock("l", ttl=60, wait=1.1 * ttl)
        lock.release()
        with pytest.raises(LeaseLost):
            lock.extend()

    @needs("lock")
    def test_an_exception_in_the_block_releases_and_goes_on(self) -> None:
        cache = self.open()
        with pytest.raises(RuntimeError, match="inside"):
            with cache.lock("l", ttl=60):
                raise RuntimeError("inside")
        (cache.lock("l", ttl=60, wait=0)).release()

    @needs("lock", "fencing")
    def test_tokens_grow_with_each_holder(self) -> None:
        one, other = self.open(), self.open()
        tokens: list[int] = []
        for cache in (one, other, one, one, other):
            with cache.lock("l", ttl=60) as lock:
                tokens.append(lock.token)
            cache.clear()
        lost = one.lock("l", ttl=self.lease)
        tokens.append(lost.token)
        with other.lock("l", ttl=60, wait=30) as lock:
            tokens.append(lock.token)
        assert all(isinstance(token, int) for token in tokens)
        assert tokens == sorted(set(tokens))

    @needs("lock")
    def test_wrong_arguments_of_a_lock_are_refused(self) -> None:
        cache = self.open()
        for ttl in (0, -1, float("nan"), float("inf"), True, "5", None):
            with pytest.raises(InvalidArgument):
                cache.lock("l", ttl=ttl, wait=0)
        for wait in (-1, float("nan"), "5"):
            with pytest.raises(InvalidArgument):
                cache.lock("l", ttl=60, wait=wait)
        for name in ("", 5, "\ud800"):
            with pytest.raises(InvalidArgument):
                cache.lock(name, ttl=60, wait=0)


def _obtained(cache: Any) -> bool:
    cache.lock("l", ttl=60, wait=0)
    return True
