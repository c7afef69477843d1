"""Caches under processes that come, compete and die, forks, and cancelled callers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import portable
import portable.aio
from portable.errors import DeadlineExceeded
from portable_embedded.memory import Space

COUNT = """
import sys, portable
with portable.open_cache(sys.argv[1], name="counters", durability="process") as cache:
    print("ready", flush=True)
    sys.stdin.readline()
    won = sum(cache.add(f"a{number}", sys.argv[2]) for number in range(100))
    for _ in range(200):
        cache.incr("n", 3)
    print(won, flush=True)
"""

HOLD = """
import sys, portable
with portable.open_cache(sys.argv[1], name="locks", durability="process") as cache:
    lock = cache.lock("l", ttl=float(sys.argv[2]))
    print("holding", lock.token, flush=True)
    sys.stdin.readline()
"""

LOCKED = """
import sys, portable
with portable.open_cache(sys.argv[1], name="locks", durability="process") as cache:
    for _ in range(15):
        with cache.lock("l", ttl=60) as lock:
            assert cache.incr("inside") == 1
            cache.incr("turns")
            print(lock.token, flush=True)
            assert cache.incr("inside", -1) == 0
"""

COMPUTE = """
import sys, portable, portable.filling
portable.filling.LEASE = float(sys.argv[3])
def factory():
    print("computing", flush=True)
    sys.stdin.readline()
    return {"made_by": sys.argv[2]}
with portable.open_cache(sys.argv[1], name="values", durability="process") as cache:
    print(cache.get_or_set("k", factory, ttl=600)["made_by"], flush=True)
"""


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def ended(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    return output


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path / 'app.db'}"


def test_add_and_incr_are_atomic_between_processes(url: str) -> None:
    processes = [start(COUNT, url, f"p{number}") for number in range(4)]
    for process in processes:
        assert line(process) == "ready"
    for process in processes:
        go_on(process)
    assert sum(int(ended(process)) for process in processes) == 100
    with portable.open_cache(url, name="counters", durability="process") as cache:
        assert cache.get("n") == 4 * 200 * 3


def test_a_lock_has_one_holder_among_processes_and_its_tokens_grow(url: str) -> None:
    processes = [start(LOCKED, url) for _ in range(4)]
    tokens = [[int(token) for token in ended(process).split()] for process in processes]
    assert all(mine == sorted(mine) for mine in tokens)
    assert len({token for mine in tokens for token in mine}) == 60
    with portable.open_cache(url, name="locks", durability="process") as cache:
        assert cache.get_many(["inside", "turns"]) == {"inside": 0, "turns": 60}


def test_a_release_in_another_process_wakes_who_waits(url: str) -> None:
    holder = start(HOLD, url, "3600")
    token = int(line(holder).split()[1])
    with portable.open_cache(url, name="locks", durability="process") as cache:
        # It leaves without releasing, and its lease is long.
        go_on(holder)
        ended(holder)
        with pytest.raises(DeadlineExceeded):
            cache.lock("l", ttl=60, wait=0)
        releasing = start(
            "import sys, sqlite3\n"
            "sys.stdin.readline()\n"
            "c = sqlite3.connect(sys.argv[1]); c.execute('DELETE FROM cache_lock'); c.commit(); c.close()\n",
            url.partition(":")[2],
        )
        threading.Timer(0.2, go_on, args=(releasing,)).start()
        assert cache.lock("l", ttl=60, wait=60).token > token
        ended(releasing)


def test_the_lock_of_a_killed_process_is_free_after_its_lease(url: str) -> None:
    holder = start(HOLD, url, "2")
    token = int(line(holder).split()[1])
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()
    with (
        portable.open_cache(url, name="locks", durability="process") as cache,
        cache.lock("l", ttl=60, wait=60) as lock,
    ):
        assert lock.token > token


def test_a_value_is_computed_once_among_processes(url: str) -> None:
    first = start(COMPUTE, url, "first", "30")
    assert line(first) == "computing"
    others = [start(COMPUTE, url, f"other{number}", "30") for number in range(3)]
    go_on(first)
    assert ended(first) == "first\n"
    for other in others:
        assert ended(other) == "first\n"


def test_another_process_takes_over_from_one_killed_while_it_computed(url: str) -> None:
    first = start(COMPUTE, url, "first", "1")
    assert line(first) == "computing"
    second = start(COMPUTE, url, "second", "30")
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    assert line(second) == "computing"
    go_on(second)
    assert ended(second) == "second\n"


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_a_cancelled_waiter_leaves_nothing_behind(url: str, scheme: str) -> None:
    async def run() -> None:
        address = url if scheme == "sqlite" else "memory:"
        async with portable.aio.open_cache(address, name="locks") as cache:
            lock = await cache.lock("l", ttl=600)
            waiters = [asyncio.ensure_future(_wait(cache)) for _ in range(50)]
            await asyncio.sleep(0.05)
            for waiter in waiters:
                waiter.cancel()
            results = await asyncio.gather(*waiters, return_exceptions=True)
            assert all(isinstance(result, asyncio.CancelledError) for result in results)
            await lock.release()
            async with cache.lock("l", ttl=60, wait=0):
                pass

    asyncio.run(run())


async def _wait(cache: portable.aio.Cache[object]) -> None:
    await cache.lock("l", ttl=600, wait=None)


def test_a_lock_obtained_for_a_cancelled_caller_is_given_back(url: str) -> None:
    async def run() -> None:
        async with portable.aio.open_cache(url, name="locks") as cache:
            await cache.set("k", 1)
            for number in range(60):
                obtaining = asyncio.ensure_future(_wait(cache))
                # From before the call is handed to its thread to after it has come back.
                for _ in range(number % 6):
                    await asyncio.sleep(0)
                obtaining.cancel()
                (result,) = await asyncio.gather(obtaining, return_exceptions=True)
                if result is None:
                    # It was there before it could be cancelled: then it is held, as it says.
                    driver: Any = cache._driver
                    driver.native.execute("DELETE FROM cache_lock")
                async with cache.lock("l", ttl=60, wait=30):
                    pass

    asyncio.run(run())


def test_a_cancelled_computation_frees_the_others() -> None:
    async def run() -> None:
        async with portable.aio.open_cache("memory:") as cache:
            begun = asyncio.Event()

            async def forever() -> int:
                begun.set()
                await asyncio.Event().wait()
                return 1

            async def quick() -> int:
                return 2

            first = asyncio.ensure_future(cache.get_or_set("k", forever, ttl=60))
            await begun.wait()
            second = asyncio.ensure_future(cache.get_or_set("k", quick, ttl=60))
            await asyncio.sleep(0)
            first.cancel()
            assert await second == 2

    asyncio.run(run())


def test_no_thread_before_use_and_none_after_close(url: str) -> None:
    def ours() -> set[str]:
        return {thread.name for thread in threading.enumerate() if thread.name.startswith("portable")}

    before = ours()
    with portable.open_cache(url, name="locks") as cache:
        assert ours() == before
        with cache.lock("l", ttl=60), pytest.raises(DeadlineExceeded):
            cache.lock("l", ttl=60, wait=0.05)
        cache.get_or_set("k", lambda: 1, ttl=60)
    assert ours() == before


FORKS = """
import os, sys, threading, portable
cache = portable.open_cache(sys.argv[1], name="forked")
cache.set("k", "parent")
stop = threading.Event()
def work(number):
    while not stop.is_set():
        cache.set(f"w{number}", [number] * 10, ttl=60)
        assert cache.get("k") == "parent"
        with cache.lock(f"l{number}", ttl=60):
            pass
threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for number in range(60):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if sys.argv[1].startswith("sqlite"):
                assert cache.get("k") == "parent"
            cache.set(f"child{number}", number)
            assert cache.get(f"child{number}") == number
            assert cache.get_or_set(f"made{number}", lambda: number, ttl=60) == number
            with cache.lock("child", ttl=60):
                pass
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0, number
stop.set()
for thread in threads:
    thread.join()
assert cache.get("k") == "parent"
cache.close()
print("done")
"""


@pytest.mark.parametrize("scheme", ["memory", "memory-named", "sqlite"])
def test_forks_while_threads_work(url: str, scheme: str) -> None:
    address = {"memory": "memory:", "memory-named": "memory:forked", "sqlite": f"{url}?durability=process"}[scheme]
    assert ended(start(FORKS, address)) == "done\n"


def test_the_locks_of_all_spaces_are_free_in_a_forked_child() -> None:
    script = """
import os, threading
from portable_embedded.memory import News, Space
spaces = [Space() for _ in range(20)]
news = News()
news.subscribe(lambda: os._exit(3))
stop = threading.Event()
def work():
    while not stop.is_set():
        for space in spaces:
            with space.lock:
                pass
        Space().get("k", list)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
def fork():
    for _ in range(50):
        child = os.fork()
        if child == 0:
            news.changed()
            free = []
            other = threading.Thread(target=lambda: free.extend(space.lock.acquire(timeout=30) for space in spaces))
            other.start()
            other.join()
            os._exit(0 if free == [True] * 20 else 1)
        assert os.waitpid(child, 0)[1] == 0
forking = [threading.Thread(target=fork) for _ in range(2)]
for thread in forking:
    thread.start()
for thread in forking:
    thread.join()
stop.set()
for thread in threads:
    thread.join()
print("done")
"""
    assert ended(start(script)) == "done\n"


def test_a_fork_inside_a_locked_space_goes_on() -> None:
    space = Space()
    with space.lock:
        child = os.fork()
        if child == 0:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert space.lock.acquire(blocking=False)
    space.lock.release()
