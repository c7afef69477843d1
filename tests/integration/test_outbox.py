"""The transactional outbox: what leaves, what does not, and what a relay does when something fails."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

import portable
from portable import aio
from portable.config import Config
from portable.errors import ConfigError, InvalidArgument, LimitExceeded, Unavailable
from portable.threads import in_own_thread


def config(folder: Path, *, main: str = "sqlite:main.db?durability=process", **profile: Any) -> Config:
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
                    "bind": {"main": main},
                    **profile,
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


REFUSED: list[tuple[str, str, dict[str, Any], type[Exception]]] = [
    ("send", "jobz", {}, ConfigError),
    ("send", "events", {}, ConfigError),
    ("send", "jobs", {"ordering_key": None}, InvalidArgument),
    ("send", "jobs", {"ordering_key": 5}, InvalidArgument),
    ("send", "jobs", {"attributes": {"n": 1}}, InvalidArgument),
    ("send", "jobs", {"attributes": ["n"]}, InvalidArgument),
    ("send", "jobs", {"attributes": {"n": "\ud800"}}, InvalidArgument),
    ("send", "jobs", {"attributes": {"portable-n": "1"}}, InvalidArgument),
    ("send", "jobs", {"body": "\ud800"}, InvalidArgument),
    ("send", "jobs", {"body": object()}, InvalidArgument),
    ("send", "jobs", {"delay": float("nan")}, InvalidArgument),
    ("send", "jobs", {"body": b"x" * 2_000_000}, LimitExceeded),
    ("publish", "events", {"attributes": {"n": 1}}, InvalidArgument),
    ("append", "clicks", {"key": 5}, InvalidArgument),
    ("append", "clicks", {"attributes": {"n": 1}}, InvalidArgument),
]


@pytest.mark.parametrize(("method", "resource", "how", "error"), REFUSED)
def test_what_no_relay_could_deliver_is_refused_at_once(
    tmp_path: Path, method: str, resource: str, how: Mapping[str, Any], error: type[Exception]
) -> None:
    strict = config(tmp_path, guard={"limits": ["aws"]})
    with portable.connect(strict) as cloud:
        main = cloud.database("main")
        first: dict[str, dict[str, Any]] = {
            "append": {"data": b"1"},
            "publish": {"body": b"1"},
            "send": {"body": b"1", "ordering_key": "k"},
        }
        with main.begin() as connection, pytest.raises(error):
            getattr(main.outbox(connection), method)(resource, **{**first[method], **how})
        assert main.relay(until_empty=True) == 0


def test_a_row_of_another_program_that_is_damaged_is_kept_aside(cloud: portable.Cloud) -> None:
    main, jobs = cloud.database("main"), cloud.queue("jobs")
    with main.begin() as connection:
        for number in range(3):
            main.outbox(connection).send("jobs", str(number), ordering_key="k")
        connection.execute(text("UPDATE portable_outbox SET attributes = '{\"n\": 1}' WHERE number = 1"))
    assert main.relay(until_empty=True) == 2
    assert bodies(jobs) == [b"1", b"2"]
    with main.connect() as connection:
        (left,) = connection.execute(text("SELECT number, failed FROM portable_outbox")).all()
    assert left.number == 1
    assert "attributes is no JSON object of strings" in left.failed


def test_whoever_is_to_leave_it_empty_waits_for_the_leader(cloud: portable.Cloud) -> None:
    main = cloud.database("main")
    with main.begin() as connection:
        main.outbox(connection).send("jobs", b"one", ordering_key="k")
    assert main._driver.outbox_lead("another", 600)
    stop = threading.Event()
    relay = in_own_thread(main.relay, stop=stop, until_empty=True, interval=0.01)
    try:
        main._driver.outbox_resign("another")
        assert relay.result(60) == 1
    finally:
        stop.set()


def test_a_leader_of_a_clock_that_was_put_back_is_none(cloud: portable.Cloud) -> None:
    main = cloud.database("main")
    main._driver.create()
    assert main._driver.outbox_lead("dead", 30)
    with main.begin() as connection:
        connection.execute(text("UPDATE portable_outbox_leader SET until = :until"), {"until": time.time() + 3600})
    assert main._driver.outbox_lead("b", 30)


class Heard(logging.Handler):
    """Tells when a line was logged."""

    def __init__(self, words: str) -> None:
        super().__init__()
        self.words, self.heard = words, threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if self.words in record.getMessage():
            self.heard.set()


def test_a_relay_outlasts_a_database_that_is_locked(tmp_path: Path) -> None:
    log, heard = logging.getLogger("portable"), Heard("cannot relay, trying again")
    log.addHandler(heard)
    stop = threading.Event()
    with portable.connect(config(tmp_path, main="sqlite:main.db?busy_timeout=20ms")) as cloud:
        main, jobs = cloud.database("main"), cloud.queue("jobs")
        main._driver.create()
        locking = sqlite3.connect(tmp_path / "main.db", isolation_level=None, timeout=60)
        relay = in_own_thread(main.relay, stop=stop, interval=0.01)
        try:
            while locking.execute("SELECT count(*) FROM portable_outbox_leader").fetchone() == (0,):
                assert not relay.done()
            locking.execute("BEGIN IMMEDIATE")
            assert heard.heard.wait(60)
            locking.execute("ROLLBACK")
            with main.session() as session:
                sent(main, session)
            (message,) = jobs.receive(wait=60)
            message.ack()
        finally:
            locking.close()
            stop.set()
            log.removeHandler(heard)
        assert relay.result(60) == 1


def sent(main: portable.Database, session: Any) -> None:
    """Send one message, however often the relay is in the way."""
    while True:
        try:
            main.outbox(session).send("jobs", b"late", ordering_key="k")
            session.commit()
        except OperationalError:
            session.rollback()
        else:
            return


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
