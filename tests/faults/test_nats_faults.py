"""NATS when servers are killed, connections cut, credentials wrong, callers cancelled, and processes forked."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from portable import open_cache, open_queue, open_stream, open_subscription, open_topic
from portable.aio import open_cache as open_cache_async
from portable.errors import (
    Closed,
    ConfigError,
    DeadlineExceeded,
    LimitExceeded,
    ResourceNotFound,
    Unauthenticated,
    Unavailable,
    Unsupported,
)
from tests.faults.cancelling import cancelled_locks_are_free, cancelled_receives_give_back
from tests.faults.queue_load import all_arrive
from tests.patience import PATIENCE, persistently, wait_until
from tests.relay import Relay
from tests.targets import Own, own, target

WORKER = Path(__file__).with_name("nats_worker.py")

# Whoever may make what is missing.
MAKE: Any = {"create": "if_missing"}


@pytest.fixture
def url() -> str:
    return target("nats")


@pytest.fixture
def name() -> str:
    return f"t{os.urandom(6).hex()}"


@pytest.fixture
def server() -> Iterator[Own]:
    """A server of this test's own."""
    with own("nats") as started:
        yield started


@pytest.fixture
def relay(url: str) -> Iterator[Relay]:
    made = Relay(url)
    yield made
    made.close()


@pytest.mark.timeout(300)
def test_the_server_is_killed_under_load(server: Own) -> None:
    def kill() -> None:
        server.kill()
        server.ready()

    all_arrive(server.url, kill, shares=(0.2, 0.5, 0.8), at_once=20, visibility_timeout="5s", timeout=20)


def test_what_was_answered_survives_a_kill(server: Own) -> None:
    with (
        open_queue(server.url, name="jobs", **MAKE) as jobs,
        open_stream(server.url, name="clicks", partitions=2, **MAKE) as clicks,
        open_topic(server.url, name="events", **MAKE) as events,
        open_subscription(server.url, name="mailer", topic="events", **MAKE) as mailer,
        open_cache(server.url, name="sessions", **MAKE) as sessions,
    ):
        mailer.receive(wait=0)
        jobs.send_many([str(number) for number in range(500)])
        first = jobs.send(b"once", dedup_id="a")
        later = jobs.send(b"later", delay=3600)
        mailer.send(b"later", delay=3600)
        positions = clicks.append_many([str(number) for number in range(500)]).succeeded
        events.publish(b"published")
        sessions.set("k", "value")
        token = sessions.lock("l", ttl=600).token
        server.kill()
        server.ready()
        assert persistently(lambda: sessions.get("k")) == "value"
        with pytest.raises(DeadlineExceeded):
            sessions.lock("l", ttl=1, wait=0)
        assert sessions.lock("other", ttl=1).token > token
        received: list[bytes] = []
        while len(received) < 501:
            messages = persistently(lambda: jobs.receive(1000, wait=PATIENCE))
            received += [message.body for message in messages]
            jobs.ack_many(messages)
        assert sorted(received) == sorted([*(str(number).encode() for number in range(500)), b"once"])
        # What was handled is known all the same.
        assert jobs.send(b"twice", dedup_id="a") == first
        assert later != first
        assert jobs.stats().delayed == 1
        assert [message.body for message in persistently(lambda: mailer.receive(wait=PATIENCE))] == [b"published"]
        assert mailer.stats().delayed == 1
        read = [
            record.position
            for partition in persistently(clicks.partitions)
            for record in clicks.read(partition, limit=1000)
        ]
        assert sorted(read) == sorted(positions)
        after = clicks.append(b"later", key="k")
        assert all(after > position for position in positions if position.partition == after.partition)


@pytest.mark.timeout(300)
def test_consumers_are_killed_in_the_middle_of_a_batch(url: str, name: str) -> None:
    total = 2000
    with open_queue(url, name=name, visibility_timeout="4s", max_deliveries=1000, **MAKE) as jobs:
        jobs.send_many([str(number) for number in range(total)])
        heard: list[list[str]] = [[], [], []]

        def listen(process: subprocess.Popen[str], lines: list[str], *, doomed: bool) -> None:
            assert process.stdout is not None
            for line in process.stdout:
                lines.append(line.strip())
                if doomed and len(lines) == 75:
                    # In its second batch, or a later one by now; what it has said until then is read all the same.
                    process.kill()

        workers = [
            subprocess.Popen([sys.executable, str(WORKER), url, name], stdout=subprocess.PIPE, text=True) for _ in heard
        ]
        try:
            with ThreadPoolExecutor(3) as threads:
                listening = [
                    threads.submit(listen, process, lines, doomed=number == 0)
                    for number, (process, lines) in enumerate(zip(workers, heard, strict=True))
                ]
                for one in listening:
                    one.result(4 * PATIENCE)
        finally:
            for process in workers:
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()
        found = Counter(line for lines in heard for line in lines)
        left = {message.body.decode() for message in jobs.receive(100, wait=0)}
        assert set(found) | left == {str(number) for number in range(total)}
        assert jobs.stats().dead == 0


def test_waits_outlive_a_cut(relay: Relay, url: str, name: str) -> None:
    """A connection that is cut while it waits is an error that may be repeated, and nothing is lost by it."""
    with open_queue(relay.url, name=name, **MAKE) as jobs, open_queue(url, name=name, **MAKE) as other:
        jobs.stats()
        other.stats()
        waits = f"portable-queue-{name}"
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(jobs.receive, wait=PATIENCE)
            wait_until(lambda: waiting_for(url, waits) > 0)
            relay.cut()
            with pytest.raises(Unavailable) as caught:
                waiting.result(PATIENCE)
        assert caught.value.retryable
        other.send(b"body")
        assert [message.body for message in persistently(lambda: jobs.receive(wait=PATIENCE))] == [b"body"]


def waiting_for(url: str, stream: str) -> int:
    """Count the receivers that wait at a queue's consumer."""
    import nats

    async def look() -> int:
        client = await nats.connect(url)
        try:
            info = await client.jetstream().consumer_info(stream, "portable")
            return info.num_waiting or 0
        finally:
            await client.close()

    return asyncio.run(look())


def test_idle_connections_that_were_cut_are_replaced(relay: Relay, name: str) -> None:
    with open_cache(relay.url, name=name, **MAKE) as cache:
        cache.set("n", 1)
        for count in range(2, 12):
            relay.cut()
            # It may have been sent before the cut was noticed; then it was not done, or is known to be uncertain.
            try:
                assert cache.incr("n") == count
            except Unavailable:
                wait_until(lambda: cache.get("n") is not None)
                cache.set("n", count)
        assert cache.get("n") == 11


def test_close_ends_a_wait(url: str, name: str) -> None:
    with open_queue(url, name=name, **MAKE) as jobs:
        jobs.stats()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(jobs.receive, wait=PATIENCE)
            wait_until(lambda: waiting_for(url, f"portable-queue-{name}") > 0)
            jobs.close()
            with pytest.raises(Closed):
                waiting.result(PATIENCE)


def test_wrong_password(url: str, name: str) -> None:
    match = re.fullmatch(r"nats://(.*):(.*)@(.*)", url)
    assert match
    user, password, host = match.groups()
    wrong = f"{password}-wrong"
    for login in (f"{user}:{wrong}@", f"somebody:{wrong}@", ""):
        with open_cache(f"nats://{login}{host}", name=name) as cache:
            with pytest.raises(Unauthenticated) as caught:
                cache.get("k")
            told = [str(caught.value), repr(caught.value), str(caught.value.__cause__), repr(cache), cache.url]
            assert not [text for text in told if password in text]
            assert not caught.value.retryable

    async def main() -> None:
        async with open_cache_async(f"nats://{user}:{wrong}@{host}", name=name) as cache:
            with pytest.raises(Unauthenticated):
                await cache.get("k")

    asyncio.run(main())


def test_nobody_there(name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"nats://127.0.0.1:{taken.getsockname()[1]}"
        with open_cache(url, name=name) as cache, pytest.raises(Unavailable) as caught:
            cache.get("k")
        assert caught.value.resource == name
        assert caught.value.retryable
        assert not caught.value.maybe_applied


def test_a_server_that_does_not_answer(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"nats://127.0.0.1:{mute.getsockname()[1]}"
        with open_cache(url, name=name, timeout=0.3) as cache, pytest.raises(DeadlineExceeded):
            cache.get("k")


def test_a_server_of_an_old_release(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as old:

        def serve() -> None:
            near, _ = old.accept()
            with near:
                near.sendall(b'INFO {"version":"2.9.25","max_payload":1048576,"headers":true}\r\n')
                said = b""
                while b"PING\r\n" not in said:
                    said += near.recv(4096)
                near.sendall(b"PONG\r\n")
                while near.recv(4096):
                    pass

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"nats://127.0.0.1:{old.getsockname()[1]}"
        with open_cache(url, name=name) as cache, pytest.raises(Unsupported, match=r"2\.12"):
            cache.get("k")
        thread.join(PATIENCE)


def test_missing_resources(url: str, name: str) -> None:
    for opened in (
        open_queue(url, name=name, create="never"),
        open_topic(url, name=name, create="never"),
        open_subscription(url, name=name, topic=f"{name}-topic", create="never"),
        open_stream(url, name=name, create="never"),
        open_cache(url, name=name, create="never"),
    ):
        with opened as resource, pytest.raises(ResourceNotFound, match="portable resources create"):
            resource.check(timeout=PATIENCE)


def test_names_that_are_none(url: str) -> None:
    for wrong in ("a.b", "a b", "*", ">", "ä", "x" * 201):
        with pytest.raises(ConfigError):
            open_queue(url, name=wrong, **MAKE).stats()


def test_what_is_larger_than_the_server_takes(url: str, name: str) -> None:
    """It is refused here: the server would cut the connection."""
    with open_queue(url, name=name, max_payload="8MiB", **MAKE) as jobs:
        largest = jobs.capabilities.max_body_bytes
        assert largest is not None
        jobs.send(b"x" * (largest - 100))
        for much in (largest + 1, 9 * 1024 * 1024):
            with pytest.raises(LimitExceeded):
                jobs.send(b"x" * much)
        # Escaped it is larger than it looks.
        with pytest.raises(LimitExceeded):
            jobs.send(b"x" * (largest - 2000), attributes={"name": "\x01" * 1000})
        result = jobs.send_many([b"1", b"x" * (largest + 1), b"2"], return_errors=True)
        assert sorted(result.failed) == [1]
        assert jobs.stats().ready == 3
    with open_queue(url, name=name, max_payload="16MiB") as jobs, pytest.raises(LimitExceeded):
        # The server takes less than its users were told.
        jobs.send(b"x" * 9 * 1024 * 1024)


def test_a_cancelled_receive_gives_back(url: str, name: str) -> None:
    cancelled_receives_give_back(url, name, total=300, turns=100, wait=PATIENCE, counted=False, max_deliveries=1000)


def test_a_cancelled_lock_is_free(url: str, name: str) -> None:
    cancelled_locks_are_free(url, name)


def test_a_forked_child_opens_its_own(url: str, name: str) -> None:
    with open_cache(url, name=name, **MAKE) as cache:
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
    with open_cache(url, name=name, **MAKE) as cache:
        with ThreadPoolExecutor(50) as threads:
            list(threads.map(lambda number: cache.set(f"k{number}", number), range(1000)))
        assert cache.get_many([f"k{number}" for number in range(1000)]) == {f"k{n}": n for n in range(1000)}


def test_a_message_of_another_program_arrives_as_it_is(url: str, name: str) -> None:
    import nats

    async def publish() -> None:
        client = await nats.connect(url)
        headers = {"X-Kind": "raw", "Portable-Attributes": "no JSON", "Nats-Own": "theirs"}
        await client.jetstream().publish(f"portable.queue.{name}", b"\x00raw", headers=headers)
        await client.jetstream().publish(f"portable.stream.{name}.0", b"raw", headers={"X-Kind": "raw"})
        await client.jetstream().publish(f"$KV.portable-cache-{name}.value.k", b"plain")
        await client.close()

    with (
        open_queue(url, name=name, **MAKE) as jobs,
        open_stream(url, name=name, partitions=1, **MAKE) as clicks,
        open_cache(url, name=name, **MAKE) as cache,
    ):
        jobs.stats()
        clicks.partitions()
        cache.get("k")
        asyncio.run(publish())
        (message,) = jobs.receive(wait=PATIENCE)
        assert message.body == b"\x00raw"
        assert message.attributes == {"X-Kind": "raw", "Portable-Attributes": "no JSON"}
        (record,) = clicks.read("0")
        assert (record.data, record.key, record.attributes) == (b"raw", None, {"X-Kind": "raw"})
        assert cache.get("k") == b"plain"
        assert cache.ttl("k") is None
