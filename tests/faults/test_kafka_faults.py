"""Kafka when brokers and consumers are killed, consumers come and go, credentials are wrong, and processes fork."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from portable import open_queue, open_stream, open_subscription, open_topic
from portable.aio import open_queue as open_queue_async
from portable.errors import BatchError, ConfigError, LeaseLost, PortableError, ResourceNotFound, Unavailable
from tests import patience
from tests.targets import own, target

PATIENCE = 120.0
persistently = partial(patience.persistently, patience=PATIENCE)
wait_until = partial(patience.wait_until, patience=PATIENCE)

WORKER = Path(__file__).with_name("kafka_worker.py")

# Whoever may make what is missing.
MAKE: Any = {"create": "if_missing"}

ENGINES = pytest.mark.parametrize("engine", ["confluent", pytest.param("kafka-python", marks=pytest.mark.thorough)])

pytestmark = [
    pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated"),
    # kafka-python forgets sockets where nobody answers.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(autouse=True)
def _forgotten_sockets() -> Iterator[None]:
    """Have what kafka-python forgot found here, and in no test that comes after."""
    yield
    gc.collect()


@pytest.fixture
def url() -> str:
    return target("kafka")


@pytest.fixture
def name() -> str:
    return f"t{os.urandom(6).hex()}"


@pytest.mark.thorough
@pytest.mark.timeout(600)
def test_the_broker_is_killed_under_load() -> None:
    """Ten thousand messages are sent and received, by two consumers, while the broker dies and comes back."""
    total, at_once = 10_000, 50
    sent: list[str] = []
    found: Counter[str] = Counter()
    done = threading.Event()
    how: dict[str, Any] = {"name": "jobs", "visibility_timeout": "60s", "max_deliveries": 1000, "timeout": 60}
    with own("kafka") as server, contextlib.ExitStack() as stack:
        sender, *receivers = [stack.enter_context(open_queue(server.url, **MAKE, **how)) for _ in range(3)]
        sender.stats()

        def send(start: int) -> None:
            for number in range(start, total, at_once * 2):
                batch = [str(one) for one in range(number, number + at_once)]
                persistently(lambda batch=batch: sender.send_many(batch))  # type: ignore[misc]  # the default binds it
                sent.extend(batch)

        def receive(receiver: Any) -> None:
            while not done.is_set():
                messages = persistently(lambda: receiver.receive(100, wait=0.5))
                found.update(message.body.decode() for message in messages)
                # Those whose commit was lost may come again.
                with contextlib.suppress(PortableError):
                    receiver.ack_many(messages)

        with ThreadPoolExecutor(4) as threads:
            sending = [threads.submit(send, start * at_once) for start in range(2)]
            receiving = [threads.submit(receive, receiver) for receiver in receivers]
            try:
                for share in (0.3, 0.6):
                    wait_until(lambda share=share: len(sent) >= total * share)  # type: ignore[misc]  # the default binds it
                    server.kill()
                    server.ready()
                for one in sending:
                    one.result(PATIENCE)
                wait_until(lambda: len(found) >= total)
            finally:
                done.set()
            for one in receiving:
                one.result(PATIENCE)
        assert len(sent) == total
        assert set(found) == {str(number) for number in range(total)}


@ENGINES
def test_a_consumer_is_killed_within_a_batch(url: str, name: str, engine: str) -> None:
    """What it acknowledged, in whatever order, does not come back; all else does."""
    url = f"{url}?engine={engine}"
    bodies = {str(number) for number in range(40)}
    with open_queue(url, name=name, session_timeout="6s", **MAKE) as queue:
        queue.send_many(sorted(bodies))
        command = [sys.executable, "-W", "ignore", str(WORKER), url, name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            acked = set()
            assert worker.stdout is not None
            for line in worker.stdout:
                if line == "held\n":
                    break
                acked.add(line.strip())
            worker.kill()
        assert len(acked) == 10
        left: Counter[str] = Counter()
        deadline = monotonic() + PATIENCE
        while len(left) < 30 and monotonic() < deadline:
            messages = queue.receive(50, wait=5)
            left.update(message.body.decode() for message in messages)
            queue.ack_many(messages)
        assert set(left) == bodies - acked


@pytest.mark.parametrize(
    ("engine", "total", "at_once"),
    [
        ("confluent", 400, 10),
        pytest.param("confluent", 10_000, 25, marks=pytest.mark.thorough),
        # Transactions of kafka-python are slow.
        pytest.param("kafka-python", 200, 10, marks=pytest.mark.thorough),
    ],
)
@pytest.mark.timeout(300)
def test_consumers_come_and_go(url: str, name: str, engine: str, total: int, at_once: int) -> None:
    """While consumers join and leave, some of them holding messages, all that was sent is received, and none dies."""
    found: Counter[str] = Counter()
    how: Any = {"name": name, "visibility_timeout": "600s", "max_deliveries": 1000, **MAKE}
    done = threading.Event()
    url = f"{url}?engine={engine}"

    def consume(least: int) -> None:
        with open_queue(url, **how) as queue:
            mine = 0
            while not done.is_set() and mine < least:
                messages = queue.receive(at_once, wait=0.2)
                mine += len(messages)
                found.update(message.body.decode() for message in messages)
                # The first is given back, the next are done one by one in another order than they came in, and the
                # rest together.
                for message in reversed(messages[1:5]):
                    message.ack()
                queue.ack_many(messages[5:])
                for message in messages[:1]:
                    if message.delivery_count > 1:
                        message.ack()
                    else:
                        message.nack()

    def visit() -> None:
        while not done.is_set():
            consume(total // 40)

    with open_queue(url, **how) as sender, ThreadPoolExecutor(4) as threads:
        sender.send_many([str(number) for number in range(total)])
        consumers = [threads.submit(consume, total), threads.submit(consume, total)]
        consumers += [threads.submit(visit) for _ in range(2)]
        try:
            wait_until(lambda: len(found) == total or any(one.exception() for one in consumers if one.done()))
        finally:
            done.set()
        for one in consumers:
            one.result(PATIENCE)
    assert set(found) == {str(number) for number in range(total)}


@ENGINES
def test_leases_whose_partitions_went_to_another_consumer(url: str, name: str, engine: str) -> None:
    """An ack says so, a late nack is no error, a reject says so; what was lost the other one gets, and all is there."""
    url = f"{url}?engine={engine}"
    how: Any = {"name": name, "visibility_timeout": "600s", **MAKE}
    # A rebalance waits for the first one's leases for six seconds and a half.
    with (
        open_queue(url, max_poll_interval="8s", session_timeout="6s", **how) as first,
        open_queue(url, session_timeout="6s", **how) as second,
    ):
        bodies = {str(number) for number in range(40)}
        first.send_many(sorted(bodies))
        held: dict[str, Any] = {}
        deadline = monotonic() + PATIENCE
        while len(held) < 40 and monotonic() < deadline:
            held |= {one.body.decode(): one for one in first.receive(40, wait=1)}
        found: dict[str, Any] = {}
        while not found and monotonic() < deadline:
            found |= {one.body.decode(): one for one in second.receive(40, wait=1)}
        kept = set(held) - set(found)
        lost = [held[body] for body in found]
        # What is still to come of the partition that went, this one has lost, too.
        with contextlib.suppress(BatchError):
            first.ack_many(held[body] for body in kept)
        acked = {body for body in kept if held[body].state == "acked"}
        assert acked
        for message in lost[:1]:
            message.nack()
        for message in lost[1:2]:
            with pytest.raises(LeaseLost):
                message.ack()
        for message in lost[2:3]:
            with pytest.raises(LeaseLost):
                message.reject()
        second.ack_many(found.values())
        while set(found) | acked != bodies and monotonic() < deadline:
            for queue in (second, first):
                messages = queue.receive(40, wait=0.5)
                found |= {one.body.decode(): one for one in messages}
                queue.ack_many(messages)
        assert set(found) | acked == bodies
        assert not set(found) & acked


def test_an_ack_again_of_a_consumer_that_has_left_its_group(url: str, name: str) -> None:
    """What was committed stays done, and nobody waits for a commit that is not to come."""
    with open_queue(url, name=name, **MAKE) as queue:
        queue.send(b"body")
        (message,) = queue.receive(wait=30)
        message.ack()
        driver: Any = queue._driver
        wait_until(lambda: driver._holding._thread is None)
        assert driver.ack([message.delivery], timeout=PATIENCE) == [None]


def test_a_stream_goes_on_where_a_killed_member_committed(url: str, name: str) -> None:
    """What a member had not committed is given again to the one that takes over."""
    with open_stream(url, name=name, session_timeout="6s", partitions=2, **MAKE) as stream:
        stream.append_many([str(number) for number in range(100)])
        script = (
            "import sys, threading, portable\n"
            f"stream = portable.open_stream({url!r}, name={name!r}, session_timeout='6s')\n"
            "consumer = stream.consumer('group')\n"
            "got = []\n"
            "while len(got) < 30:\n"
            "    got += consumer.poll(timeout=30, max_records=30 - len(got))\n"
            "consumer.commit()\n"
            "more = consumer.poll(timeout=30, max_records=10)\n"
            "print(' '.join(one.data.decode() for one in got), flush=True)\n"
            "threading.Event().wait()\n"
        )
        command = [sys.executable, "-W", "ignore", "-c", script]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as member:
            assert member.stdout is not None
            committed = set(member.stdout.readline().split())
            member.kill()
        assert len(committed) == 30
        seen: set[str] = set()
        with stream.consumer("group") as consumer:
            deadline = monotonic() + PATIENCE
            while len(seen) < 70 and monotonic() < deadline:
                seen |= {one.data.decode() for one in consumer.poll(timeout=5)}
        assert seen == {str(number) for number in range(100)} - committed


@ENGINES
def test_nobody_answers(engine: str) -> None:
    with open_queue(f"kafka://127.0.0.1:1?engine={engine}", name="jobs", timeout="2s") as queue:
        with pytest.raises((Unavailable, TimeoutError)) as caught:
            queue.send(b"x", timeout=2)
        assert isinstance(caught.value, PortableError)


def test_what_is_missing_is_named(url: str, name: str) -> None:
    """Nothing is made where the binding does not say so."""
    for opener, use in ((open_queue, "send"), (open_topic, "publish"), (open_stream, "append")):
        with opener(url, name=name) as resource, pytest.raises(ResourceNotFound, match="portable resources create"):
            getattr(resource, use)(b"x")
    with open_topic(url, name=name, **MAKE) as topic:
        topic.publish(b"x")
    with (
        open_subscription(url, name=f"{name}-sub", topic=name) as subscription,
        pytest.raises(ResourceNotFound, match="portable resources create"),
    ):
        subscription.receive(wait=0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kafka://u@h/x?sasl=scram-sha-256", "password"),
        ("kafka://:secret@h/x", "user"),
        ("kafka://h/x?ca=/ca.pem", "tls"),
        ("kafka://h/x?sasl=oauthbearer", "token_command"),
        ("kafka:///x", "host"),
        ("kafka://h:99999,g/x", "host:port"),
        ("kafka://h/x?engin=confluent", "engine"),
    ],
)
def test_bad_urls(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        open_queue(text, name="jobs")
    assert "secret" not in str(caught.value).replace("password", "")


def test_a_fork_after_use(url: str, name: str) -> None:
    """The child opens clients of its own, and the parent's go on."""
    with open_stream(url, name=name, **MAKE) as stream:
        stream.append(b"parent", key="k")
        child = os.fork()
        if not child:
            code = 1
            with contextlib.suppress(BaseException):
                position = stream.append(b"child", key="k")
                records = stream.read(position.partition)
                code = 0 if [one.data for one in records] == [b"parent", b"child"] else 2
            os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        position = stream.append(b"again", key="k")
        assert [one.data for one in stream.read(position.partition)] == [b"parent", b"child", b"again"]


def test_a_cancelled_receive_gives_back(url: str, name: str) -> None:
    """What a receive leases whose caller is gone is received by the next, and counts as no delivery."""

    async def scenario() -> None:
        async with open_queue_async(url, name=name, visibility_timeout="600s", **MAKE) as queue:
            for _ in range(5):
                waiting = asyncio.ensure_future(queue.receive(wait=60))
                await asyncio.sleep(0)
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await waiting
            await queue.send(b"body")
            (message,) = await queue.receive(wait=60)
            assert message.delivery_count == 1
            await message.ack()

    asyncio.run(scenario())
