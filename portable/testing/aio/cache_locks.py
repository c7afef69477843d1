"""The cases of a cache's locks."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import Any, ClassVar

import pytest

from portable.aio._concurrency import sleep
from portable.errors import DeadlineExceeded, InvalidArgument, LeaseLost, Unsupported
from portable.testing.aio._concurrency import race
from portable.testing.aio.suite import Suite, lacks, needs

__all__ = ["CacheLockCases"]


class CacheLockCases(Suite):
    """What `lock` guarantees where it is declared, and that it is refused where not.

    Attributes:
        lease: seconds that short leases and lives have; a backend on this machine keeps ones of less than a second.
    """

    lease: ClassVar[float] = 1.0

    @lacks("lock")
    async def test_lock_is_refused(self) -> None:
        with pytest.raises(Unsupported):
            await self.open().lock("l", ttl=10, wait=0)

    @needs("lock")
    @lacks("fencing")
    async def test_a_token_is_refused(self) -> None:
        async with self.open().lock("l", ttl=10) as lock:
            with pytest.raises(Unsupported):
                _ = lock.token

    @needs("lock")
    async def test_a_lock_has_one_holder(self) -> None:
        one, other = self.open(), self.open()
        lock = await one.lock("l", ttl=60)
        for cache in (one, other):
            with pytest.raises(DeadlineExceeded):
                await cache.lock("l", ttl=60, wait=0)
        with pytest.raises(DeadlineExceeded):
            await other.lock("l", ttl=60, wait=0.2)
        await lock.release()
        await lock.release()
        async with other.lock("l", ttl=60, wait=0):
            with pytest.raises(DeadlineExceeded):
                await one.lock("l", ttl=60, wait=0)
        await (await one.lock("l", ttl=60, wait=0)).release()

    @needs("lock")
    async def test_locks_of_other_names_caches_and_values_are_free(self) -> None:
        cache, neighbour = self.open(), self.open("neighbour")

        async def factory() -> int:
            return 1

        async with cache.lock("l", ttl=60):
            async with cache.lock("l2", ttl=60, wait=0), neighbour.lock("l", ttl=60, wait=0):
                pass
            await cache.set("l", "value")
            assert await cache.delete("l")
            assert await cache.get_or_set("l", factory, ttl=60, timeout=8) == 1
            await cache.clear()
            with pytest.raises(DeadlineExceeded):
                await cache.lock("l", ttl=60, wait=0)

    @needs("lock")
    async def test_hostile_names_are_locks_of_their_own(self) -> None:
        cache = self.open()
        held = [await cache.lock(name, ttl=60, wait=0) for name in ("a b", "a\tb", "a/b", "a:b", "ä", "\x00", "*")]
        for lock in held:
            with pytest.raises(DeadlineExceeded):
                await cache.lock(lock.name, ttl=60, wait=0)
        for lock in held:
            await lock.release()

    @needs("lock")
    async def test_a_waiting_caller_has_it_once_it_is_released(self) -> None:
        one, other = self.open(), self.open()
        first = await one.lock("l", ttl=120)

        async def release() -> float:
            await sleep(0.05)
            await first.release()
            return monotonic()

        async def obtain() -> float:
            async with other.lock("l", ttl=60, wait=60):
                return monotonic()

        results: list[Any] = await race([release, obtain])
        # Not by waiting for the lease to run out.
        assert abs(results[1] - results[0]) < 30

    @needs("lock")
    async def test_twenty_callers_hold_it_one_after_the_other(self) -> None:
        handles = [self.open() for _ in range(4)]
        inside: list[int] = []
        most: list[int] = []

        async def hold(number: int) -> None:
            async with handles[number % 4].lock("l", ttl=60):
                inside.append(number)
                most.append(len(inside))
                await sleep(0.002)
                inside.remove(number)

        results: list[Any] = await race([partial(hold, number) for number in range(20)])
        assert results == [None] * 20
        assert most == [1] * 20

    @needs("lock")
    async def test_of_twenty_callers_who_try_once_one_obtains_it(self) -> None:
        handles = [self.open() for _ in range(4)]
        results: list[Any] = await race([partial(_obtained, cache) for cache in handles * 5])
        assert sum(result is True for result in results) == 1
        assert sum(isinstance(result, DeadlineExceeded) for result in results) == 19

    @needs("lock")
    async def test_a_lock_that_ran_out_is_lost(self) -> None:
        one, other = self.open(), self.open()
        lost = await one.lock("l", ttl=self.lease)
        held = await other.lock("l", ttl=60, wait=30)
        with pytest.raises(LeaseLost):
            await lost.extend()
        with pytest.raises(LeaseLost):
            await lost.release()
        await lost.release()
        # The one that lost it has not taken it from its new holder.
        with pytest.raises(DeadlineExceeded):
            await one.lock("l", ttl=60, wait=0)
        await held.extend(60)
        await held.release()

    @needs("lock")
    async def test_leaving_the_block_of_a_lost_lock_raises(self) -> None:
        one, other = self.open(), self.open()
        with pytest.raises(LeaseLost):
            async with one.lock("l", ttl=self.lease):
                await other.lock("l", ttl=60, wait=30)

    @needs("lock")
    async def test_an_extended_lock_stays(self) -> None:
        one, other = self.open(), self.open()
        # Long enough to be extended in time, though the process be held up for a while.
        ttl = max(2, 5 * self.lease)
        lock = await one.lock("l", ttl=ttl)
        await lock.extend(300)
        with pytest.raises(DeadlineExceeded):
            await other.lock("l", ttl=60, wait=1.1 * ttl)
        await lock.release()
        with pytest.raises(LeaseLost):
            await lock.extend()

    @needs("lock")
    async def test_an_exception_in_the_block_releases_and_goes_on(self) -> None:
        cache = self.open()
        with pytest.raises(RuntimeError, match="inside"):
            async with cache.lock("l", ttl=60):
                raise RuntimeError("inside")
        await (await cache.lock("l", ttl=60, wait=0)).release()

    @needs("lock", "fencing")
    async def test_tokens_grow_with_each_holder(self) -> None:
        one, other = self.open(), self.open()
        tokens: list[int] = []
        for cache in (one, other, one, one, other):
            async with cache.lock("l", ttl=60) as lock:
                tokens.append(lock.token)
            await cache.clear()
        lost = await one.lock("l", ttl=self.lease)
        tokens.append(lost.token)
        async with other.lock("l", ttl=60, wait=30) as lock:
            tokens.append(lock.token)
        assert all(isinstance(token, int) for token in tokens)
        assert tokens == sorted(set(tokens))

    @needs("lock")
    async def test_wrong_arguments_of_a_lock_are_refused(self) -> None:
        cache = self.open()
        for ttl in (0, -1, float("nan"), float("inf"), True, "5", None):
            with pytest.raises(InvalidArgument):
                await cache.lock("l", ttl=ttl, wait=0)
        for wait in (-1, float("nan"), "5"):
            with pytest.raises(InvalidArgument):
                await cache.lock("l", ttl=60, wait=wait)
        for name in ("", 5, "\ud800"):
            with pytest.raises(InvalidArgument):
                await cache.lock(name, ttl=60, wait=0)


async def _obtained(cache: Any) -> bool:
    await cache.lock("l", ttl=60, wait=0)
    return True
