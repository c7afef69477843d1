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
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from portable import open_queue, open_stream, open_subscription, open_topic
from portable.aio import open_queue as open_queue_async
from portable.errors import BatchError, ConfigError, PortableError, ResourceNotFound, Unauthenticated, Unavailable
from tests.kafka_broker import SECRET, sasl_broker
from tests.targets import own, target

PATIENCE = 120.0
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


def persistently(call: Callable[[], Any]) -> Any:
    """Repeat a call that fails for a passing reason, as a worker would."""
    deadline = monotonic() + PATIENCE
    while True:
        try:
            return call()
        except BatchError as error:
            if monotonic() > deadline or not all(one.retryable for one in error.result.failed.values()):
                raise
        except PortableError as error:
            if not error.retryable or monotonic() > deadline:
                raise


def wait_until(is_true: Callable[[], bool]) -> None:
    """Look again and again, for as long as patience lasts; what is asserted afterwards says whether it came true."""
    deadline, nothing = monotonic() + PATIENCE, threading.Event()
    while not is_true() and monotonic() < deadline:
        nothing.wait(0.02)


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


@pytest.mark.thorough
@ENGINES
def test_consumers_come_and_go(url: str, name: str, engine: str) -> None:
    """While consumers join and leave, some of them holding messages, nothing is lost."""
    # Transactions of kafka-python are slow.
    total = 600 if engine == "confluent" else 70
    found: Counter[str] = Counter()
    how: Any = {"name": name, "visibility_timeout": "600s", "max_deliveries": 1000, **MAKE}
    done = threading.Event()
    url = f"{url}?engine={engine}"

    def consume(least: int) -> None:
        with open_queue(url, **how) as queue:
            mine = 0
            while not done.is_set() and mine < least:
                messages = queue.receive(7, wait=0.2)
                mine += len(messages)
                found.update(message.body.decode() for message in messages)
                # The first of a batch is given back, and the others are done in another order than they came in.
                for message in reversed(messages[1:]):
                    message.ack()
                for message in messages[:1]:
                    if message.delivery_count > 1:
                        message.ack()
                    else:
                        message.nack()

    with open_queue(url, **how) as sender, ThreadPoolExecutor(4) as threads:
        sender.send_many([str(number) for number in range(total)])
        consumers = [threads.submit(consume, least) for least in (10**9, 20, 10**9, 10)]
        try:
            wait_until(lambda: len(found) == total)
        finally:
            done.set()
        for one in consumers:
            one.result(PATIENCE)
    assert set(found) == {str(number) for number in range(total)}


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


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """A broker that wants a password."""
    with sasl_broker() as where:
        yield where


@ENGINES
@pytest.mark.timeout(180)
def test_passwords(guarded: str, name: str, engine: str) -> None:
    """The right one works; a wrong one is `Unauthenticated` for every kind, and not shown."""
    options = f"?engine={engine}&sasl=plain"
    with open_queue(f"kafka://tester:{SECRET}@{guarded}{options}", name=name, **MAKE) as queue:
        queue.send(b"body")
        (message,) = queue.receive(wait=30)
        message.nack()
        (message,) = queue.receive(wait=30)
        message.ack()
    wrong = f"kafka://tester:wrong-{SECRET}@{guarded}{options}"
    openers: dict[str, Any] = {"queue": open_queue, "stream": open_stream, "topic": open_topic}
    for kind, opener in openers.items():
        with opener(wrong, name=f"{name}-{kind}", timeout="20s", **MAKE) as resource:
            with pytest.raises(Unauthenticated) as caught:
                resource.check(timeout=20)
            assert SECRET not in str(caught.value)
            assert SECRET not in repr(resource)


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
