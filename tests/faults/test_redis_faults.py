"""Redis when servers are killed, connections cut, credentials wrong, callers cancelled, and processes forked."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest

from portable import open_cache, open_queue, open_stream, open_subscription, open_topic
from portable.aio import open_cache as open_cache_async
from portable.errors import (
    Closed,
    DeadlineExceeded,
    PermissionDenied,
    ResourceNotFound,
    Unauthenticated,
    Unavailable,
)
from tests.faults.cancelling import cancelled_locks_are_free, cancelled_receives_give_back
from tests.faults.queue_load import all_arrive
from tests.patience import PATIENCE, persistently
from tests.redis_servers import RedisServer, redis_server
from tests.targets import target

SECRET = "s3cr3t-of-the-test"  # noqa: S105 (it protects nothing)

# Whoever may make what is missing.
MAKE: Any = {"create": "if_missing"}


@pytest.fixture
def url() -> str:
    return target("redis")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"t{os.urandom(6).hex()}"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A server of this test's own, which loses nothing that it has answered."""
    with redis_server(fsync="always") as started:
        yield started


@pytest.mark.timeout(300)
def test_the_server_is_killed_under_load(server: RedisServer) -> None:
    def kill() -> None:
        server.kill()
        server.start()

    jobs = all_arrive(server.url, kill, shares=(0.2, 0.5, 0.8), at_once=20, visibility_timeout="5s", timeout=20)
    assert jobs.capabilities.durability == "power"


def test_what_was_answered_survives_a_kill(server: RedisServer) -> None:
    with (
        open_queue(server.url, name="jobs", **MAKE) as jobs,
        open_stream(server.url, name="clicks", partitions=2, **MAKE) as clicks,
        open_topic(server.url, name="events", **MAKE) as events,
        open_subscription(server.url, name="mailer", topic="events", **MAKE) as mailer,
        open_cache(server.url, name="sessions", **MAKE) as sessions,
    ):
        mailer.receive(wait=0)
        jobs.send_many([str(number) for number in range(500)])
        positions = clicks.append_many([str(number) for number in range(500)]).succeeded
        events.publish(b"published")
        sessions.set("k", "value")
        token = sessions.lock("l", ttl=600).token
        server.kill()
        with pytest.raises((Unavailable, DeadlineExceeded)):
            sessions.get("k", timeout=0.3)
        server.start()
        assert persistently(lambda: sessions.get("k")) == "value"
        with pytest.raises(DeadlineExceeded):
            sessions.lock("l", ttl=1, wait=0)
        assert sessions.lock("other", ttl=1).token > token
        assert len(jobs.receive(1000)) == 500
        assert [message.body for message in mailer.receive()] == [b"published"]
        read = [record.position for name in clicks.partitions() for record in clicks.read(name, limit=1000)]
        assert sorted(read) == sorted(positions)
        later = clicks.append(b"later", key="k")
        assert all(later > position for position in positions if position.partition == later.partition)


def test_waits_outlive_a_cut(server: RedisServer, name: str) -> None:
    """A connection that is cut while it waits is an error that may be repeated, and nothing is lost by it."""
    with open_queue(server.url, name=name, **MAKE) as jobs, open_queue(server.url, name=name, **MAKE) as other:
        jobs.stats()
        other.stats()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(jobs.receive, wait=PATIENCE)
            cut_waits(other.native)
            with pytest.raises(Unavailable) as caught:
                waiting.result(PATIENCE)
        assert caught.value.retryable
        other.send(b"body")
        assert [message.body for message in jobs.receive(wait=PATIENCE)] == [b"body"]


def test_idle_connections_that_were_cut_are_replaced(server: RedisServer, name: str) -> None:
    with open_cache(server.url, name=name) as cache, open_cache(server.url, name=name) as other:
        cache.set("n", 1)
        other.set("k", "v")
        other.native.client_kill_filter(_type="normal", skipme=True)
        # Neither is an error, nor done twice.
        assert cache.incr("n") == 2
        assert cache.get("k") == "v"


def cut_waits(client: Any) -> None:
    """Cut every connection that waits for news, once there is one."""
    deadline = monotonic() + PATIENCE
    while monotonic() < deadline:
        blocked = [one for one in client.client_list() if one["cmd"] == "xread" and "b" in one["flags"]]
        for one in blocked:
            client.client_kill_filter(_id=one["id"])
        if blocked:
            return
    raise AssertionError("nobody waited")


def test_close_ends_a_wait(url: str, name: str) -> None:
    with open_queue(url, name=name, **MAKE) as jobs, open_queue(url, name=name, **MAKE) as other:
        jobs.stats()
        other.stats()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(jobs.receive, wait=PATIENCE)
            deadline = monotonic() + PATIENCE
            while not any(one["cmd"] == "xread" for one in other.native.client_list()):
                assert monotonic() < deadline
            jobs.close()
            with pytest.raises(Closed):
                waiting.result(PATIENCE)


@pytest.fixture
def guarded() -> Iterator[RedisServer]:
    """A server that wants a password."""
    with redis_server("--requirepass", SECRET) as started:
        yield started


def test_wrong_password(guarded: RedisServer) -> None:
    wrong = f"{SECRET}-wrong"
    for user in (f":{wrong}@", f"somebody:{wrong}@", ""):
        there = guarded.url.replace("//", f"//{user}")
        with open_cache(there, name="sessions") as cache:
            with pytest.raises(Unauthenticated) as caught:
                cache.get("k")
            told = [str(caught.value), repr(caught.value), str(caught.value.__cause__), repr(cache), cache.url]
            assert not [text for text in told if SECRET in text]
            assert not caught.value.retryable

    async def main() -> None:
        async with open_cache_async(guarded.url.replace("//", f"//:{wrong}@"), name="sessions") as cache:
            with pytest.raises(Unauthenticated):
                await cache.get("k")

    asyncio.run(main())


def test_right_password_and_acl(guarded: RedisServer) -> None:
    with open_cache(guarded.url.replace("//", f"//:{SECRET}@"), name="sessions") as cache:
        cache.set("k", "v")
        cache.native.acl_setuser(
            "reader", enabled=True, passwords=[f"+{SECRET}"], keys=["*"], commands=["+@all", "-set"]
        )
    with open_cache(guarded.url.replace("//", f"//reader:{SECRET}@"), name="sessions") as cache:
        assert cache.get("k") == "v"
        with pytest.raises(PermissionDenied) as caught:
            cache.set("k", "w")
        assert SECRET not in str(caught.value)


def test_nobody_there(name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{taken.getsockname()[1]}"
        with open_cache(url, name=name) as cache, pytest.raises(Unavailable) as caught:
            cache.get("k")
        assert caught.value.resource == name
        assert caught.value.retryable
        assert not caught.value.maybe_applied


def test_a_server_that_does_not_answer(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"redis://127.0.0.1:{mute.getsockname()[1]}"
        with open_cache(url, name=name, timeout=0.3) as cache, pytest.raises(DeadlineExceeded):
            cache.get("k")


def test_missing_resources(url: str, name: str) -> None:
    for opened in (
        open_queue(url, name=name, create="never"),
        open_topic(url, name=name, create="never"),
        open_stream(url, name=name, create="never"),
    ):
        with opened as resource, pytest.raises(ResourceNotFound, match="portable resources create"):
            resource.check(timeout=PATIENCE)


def test_a_cancelled_receive_gives_back(url: str, name: str) -> None:
    cancelled_receives_give_back(url, name, total=300, turns=100)


def test_a_cancelled_lock_is_free(url: str, name: str) -> None:
    cancelled_locks_are_free(url, name)


def test_a_forked_child_opens_its_own(url: str, name: str) -> None:
    with open_cache(url, name=name) as cache:
        cache.set("k", "of the parent")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                if cache.get("k") == "of the parent":
                    cache.set("child", "was here")
                    code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert cache.get("child") == "was here"


def test_many_threads_share_a_cache(url: str, name: str) -> None:
    with open_cache(url, name=name) as cache:
        with ThreadPoolExecutor(200) as threads:
            numbers = sorted(threads.map(lambda _: cache.incr("n"), range(1000)))
        assert numbers == list(range(1, 1001))
        assert len(cache.native.client_list()) < 150


def test_thousands_at_once_on_a_loop(url: str, name: str) -> None:
    async def main() -> None:
        async with open_cache_async(url, name=name, max_connections=8) as cache:
            numbers = await asyncio.gather(*(cache.incr("n") for _ in range(2000)))
            assert sorted(numbers) == list(range(1, 2001))

    asyncio.run(main())


def test_what_may_have_been_done_stays_so_though_no_later_attempt_gets_through() -> None:
    with redis_server() as started:
        with open_cache(started.url, name="sent", retries=2, timeout="5s") as cache:
            cache.set("n", 1)
            # The first attempt is sent and not answered; those after it reach nobody.
            killer = threading.Timer(0.3, started.kill)
            cache.native.client_pause(60_000, all=False)
            killer.start()
            with pytest.raises((Unavailable, DeadlineExceeded)) as caught:
                cache.set("n", 2)
            killer.join()
        assert caught.value.maybe_applied
