"""Calls that one loop makes at once share a round trip on Redis, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from portable.aio import open_cache
from portable.errors import DeadlineExceeded, InvalidArgument
from tests.redis_servers import RedisServer, redis_server

AT_ONCE = 300


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with redis_server() as started:
        yield started


@pytest.fixture
def url(server: RedisServer) -> str:
    return server.url


def test_each_gets_its_own_answer(url: str) -> None:
    async def main() -> None:
        async with open_cache(url, name="answers") as cache:
            await asyncio.gather(*(cache.set(f"k{number}", number) for number in range(AT_ONCE)))
            found = await asyncio.gather(*(cache.get(f"k{number}") for number in range(AT_ONCE)))
            assert found == list(range(AT_ONCE))
            assert sorted(await asyncio.gather(*(cache.incr("n") for _ in range(AT_ONCE)))) == [*range(1, AT_ONCE + 1)]

    asyncio.run(main())


def test_what_comes_together_shares_a_connection(url: str) -> None:
    async def main() -> None:
        async with open_cache(url, name="shared") as cache:
            await cache.set("k", 1)
            before = int((await cache.native.info("stats"))["total_connections_received"])
            await asyncio.gather(*(cache.get("k") for _ in range(AT_ONCE)))
            after = int((await cache.native.info("stats"))["total_connections_received"])
            # One for each batch, less the one that was there, and one for asking.
            assert after - before <= 8

    asyncio.run(main())


def test_an_error_is_its_callers_alone(url: str) -> None:
    async def main() -> None:
        async with open_cache(url, name="errors") as cache:
            await cache.set("text", "no counter")
            calls = [cache.incr("text" if number % 10 == 5 else "n") for number in range(100)]
            found = await asyncio.gather(*calls, return_exceptions=True)
            assert [number for number, one in enumerate(found) if isinstance(one, InvalidArgument)] == [
                *range(5, 100, 10)
            ]
            assert sorted(one for one in found if isinstance(one, int)) == [*range(1, 91)]

    asyncio.run(main())


def test_who_is_cancelled_leaves_the_others_alone(url: str) -> None:
    async def main() -> None:
        async with open_cache(url, name="cancelled") as cache:
            await cache.set("k", "value")
            tasks = [asyncio.create_task(cache.get("k")) for _ in range(100)]
            await asyncio.sleep(0)
            for task in tasks[1::2]:
                task.cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert found[::2] == ["value"] * 50
            assert all(isinstance(one, asyncio.CancelledError) for one in found[1::2])
            assert await cache.get("k") == "value"

    asyncio.run(main())


def test_a_time_limit_is_its_callers_alone(server: RedisServer) -> None:
    async def main() -> None:
        async with open_cache(server.url, name="late", retries=0) as cache:
            await cache.set("k", 0)
            # Writes wait meanwhile, and nothing else.
            await cache.native.client_pause(60_000, all=False)
            calls = [
                asyncio.create_task(cache.set(f"k{number}", number, timeout=0.05 if number % 2 else 30))
                for number in range(50)
            ]
            late = await asyncio.gather(*calls[1::2], return_exceptions=True)
            assert all(isinstance(one, DeadlineExceeded) for one in late)
            await cache.native.client_unpause()
            await asyncio.gather(*calls[::2])
            assert await cache.get_many(["k0", "k48"]) == {"k0": 0, "k48": 48}

    asyncio.run(main())


def test_a_cut_connection_is_repeated_for_each(url: str) -> None:
    async def main() -> None:
        async with open_cache(url, name="cut") as cache, open_cache(url, name="other") as other:
            await other.set("k", 1)
            await asyncio.gather(*(cache.set(f"k{number}", number) for number in range(100)))
            calls = [asyncio.create_task(cache.get(f"k{number}")) for number in range(100)]
            await other.native.client_kill_filter(_type="normal", skipme=True)
            assert await asyncio.gather(*calls) == list(range(100))

    asyncio.run(main())
