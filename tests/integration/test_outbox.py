"""The transactional outbox: what leaves, what does not, and what a relay does when something fails."""

from __future__ import annotations

import asyncio
import functools
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from sqlalchemy import text

import portable
from portable import aio
from portable.config import Config
from portable.errors import Unavailable


def config(folder: Path) -> Config:
    return Config.from_dict(
        {
            "default_profile": "local",
            "resources": {
                "jobs": {"kind": "queue", "ordered": True},
                "events": {"kind": "topic"},
                "mailer": {"kind": "subscription", "topic": "events"},
                "clicks": {"kind": "stream", "partitions": 1},
                "main": {"kind": "database"},
            },
            "profiles": {
                "local": {
                    "default": "sqlite:app.db?durability=process",
                    "bind": {"main": "sqlite:main.db?durability=process"},
                }
            },
        },
        folder,
    )


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[portable.Cloud]:
    with portable.connect(config(tmp_path)) as one:
        yield one


def bodies(queue: portable.Queue[bytes]) -> list[bytes]:
    found = []
    while messages := queue.receive(10, wait=0):
        found += [message.body for message in messages]
        queue.ack_many(messages)
    return found


def test_a_message_leaves_when_the_transaction_commits(cloud: portable.Cloud) -> None:
    main, jobs = cloud.database("main"), cloud.queue("jobs")
    with main.session() as session:
        main.outbox(session).send("jobs", b"one", attributes={"a": "ä"}, ordering_key="k")
        session.commit()
    assert main.relay(until_empty=True) == 1
    (message,) = jobs.receive(wait=5)
    assert (message.body, message.attributes["a"], message.ordering_key) == (b"one", "ä", "k")
    message.ack()
    assert main.relay(until_empty=True) == 0


def test_a_rolled_back_message_never_leaves(cloud: portable.Cloud) -> None:
    main = cloud.database("main")
    with pytest.raises(LookupError), main.begin() as connection:
        main.outbox(connection).send("jobs", "never", ordering_key="k")
        raise LookupError
    main._driver.create()
    assert main.relay(until_empty=True) == 0
    assert bodies(cloud.queue("jobs")) == []


def test_events_and_records_leave_too(cloud: portable.Cloud) -> None:
    main, mailer, clicks = cloud.database("main"), cloud.subscription("mailer"), cloud.stream("clicks")
    cloud.topic("events").publish(b"before")
    assert bodies(mailer) == [b"before"]
    with main.begin() as connection:
        main.outbox(connection).publish("events", {"n": 1})
        main.outbox(connection).append("clicks", b"click", key="user")
    assert main.relay(until_empty=True) == 2
    assert bodies(mailer) == [b'{"n":1}']
    (partition,) = clicks.partitions()
    assert [(record.data, record.key) for record in clicks.read(partition)] == [(b"click", "user")]


class FailingOnce:
    """A hook that fails the first attempt to send to a queue."""

    delay = 0.0

    def __init__(self) -> None:
        self.failed = False

    def begin(self, resource: str, kind: str, provider: str, operation: str) -> FailingOnce:
        if operation == "send_many" and not self.failed:
            self.failed = True
            raise Unavailable("the line was cut")
        return self

    def end(self, error: BaseException | None) -> None:
        pass


def test_a_key_keeps_its_order_over_a_failure(tmp_path: Path) -> None:
    hook = FailingOnce()
    with portable.Cloud(config(tmp_path).profile("local"), hooks=(hook,)) as cloud:
        found = relayed(cloud.database("main"), cloud.queue("jobs"))
    assert hook.failed
    assert found == [b"0", b"1", b"2", b"3", b"4"]


def relayed(main: portable.Database, jobs: portable.Queue[bytes]) -> list[bytes]:
    with main.begin() as connection:
        for number in range(5):
            main.outbox(connection).send("jobs", str(number), ordering_key="k")
    stop = threading.Event()
    relay = threading.Thread(target=functools.partial(main.relay, stop=stop, interval=0.05))
    relay.start()
    found: list[bytes] = []
    try:
        while len(found) < 5:
            (message,) = jobs.receive(wait=30)
            found.append(message.body)
            message.ack()
    finally:
        stop.set()
        relay.join()
    return found


def test_one_relay_leads_and_another_takes_over(cloud: portable.Cloud) -> None:
    main = cloud.database("main")
    main._driver.create()
    assert main._driver.outbox_lead("a", 60)
    assert main._driver.outbox_lead("a", 60)
    assert not main._driver.outbox_lead("b", 60)
    main._driver.outbox_resign("a")
    assert main._driver.outbox_lead("b", -1)
    assert main._driver.outbox_lead("c", 60)


RELAY = """
import sys
from pathlib import Path
import portable
from tests.integration.test_outbox import config
with portable.connect(config(Path(sys.argv[1]))) as cloud:
    print("ready", flush=True)
    cloud.database("main").relay(interval=0.01)
"""


def test_a_killed_relay_loses_nothing(cloud: portable.Cloud, tmp_path: Path) -> None:
    main, jobs = cloud.database("main"), cloud.queue("jobs")
    with main.begin() as connection:
        for number in range(600):
            main.outbox(connection).send("jobs", str(number), ordering_key=f"k{number % 7}")
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", RELAY, str(tmp_path)], stdout=subprocess.PIPE, cwd=root, env={**os.environ}
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        (message,) = jobs.receive(wait=30)
        child.send_signal(signal.SIGKILL)
    found = [message.body]
    message.ack()
    # The killed relay leads for half a minute more; an operator who knows that it is dead need not wait.
    with main.begin() as connection:
        connection.execute(text("DELETE FROM portable_outbox_leader"))
    main.relay(until_empty=True)
    found += bodies(jobs)
    assert {int(body) for body in found} == set(range(600))


@pytest.mark.anyio
async def test_the_async_face(tmp_path: Path) -> None:
    async with aio.connect(config(tmp_path)) as cloud:
        main, jobs = cloud.database("main"), cloud.queue("jobs")
        async with main.session() as session:
            await main.outbox(session).send("jobs", b"one", ordering_key="k")
            await session.commit()
        stop = asyncio.Event()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(functools.partial(main.relay, stop=stop, interval=0.05))
            (message,) = await jobs.receive(wait=30)
            assert message.body == b"one"
            await message.ack()
            stop.set()


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
