"""What becomes of messages when a stop, a lost lease or a fault comes in between, and what is refused at once."""

from __future__ import annotations

import asyncio
import copy
import sqlite3
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

import portable
from portable import aio, errors
from portable.testing.clock import Clock
from portable_embedded.sqlite_queue import SqliteQueue
from tests.unit.test_queue import OFFLOADING, PATIENCE, cloud


def test_what_was_received_when_told_to_stop_is_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    """To give it back would use up a delivery, here the only one."""
    handled: list[bytes] = []

    async def main() -> None:
        async with aio.open_queue("memory:", name="jobs", max_deliveries=1) as jobs:
            stop = asyncio.Event()

            async def handle(message: aio.Message[bytes]) -> None:
                stop.set()
                handled.append(message.body)

            # Open, or nobody would know of what it waits for.
            await jobs.check()
            waiting = asyncio.Event()
            waits: list[None] = []
            news: Any = jobs._driver.arrivals
            subscribe = news.subscribe

            def subscribed(callback: Callable[[], None]) -> Any:
                waits.append(None)
                # The first is for the first worker alone.
                if len(waits) == 2:
                    waiting.set()
                return subscribe(callback)

            monkeypatch.setattr(news, "subscribe", subscribed)
            consuming = asyncio.create_task(jobs.consume(handle, concurrency=3, stop=stop))
            # The three workers take all three with one call, because by then they wait.
            await waiting.wait()
            await jobs.send_many([b"1", b"2", b"3"])
            assert await consuming == 3
            assert (await jobs.stats()).dead == 0

    asyncio.run(main())
    assert sorted(handled) == [b"1", b"2", b"3"]


def test_idle_is_only_who_has_looked() -> None:
    with portable.open_queue("memory:", name="jobs") as jobs:
        jobs.send(b"x")
        assert jobs.consume(lambda _: None, idle_timeout=0) == 1


def test_what_arrives_when_consuming_is_over_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that still waits when nobody waits for it any more keeps no lease."""
    with portable.open_queue("memory:", name="jobs", visibility_timeout="10m") as jobs:
        jobs.send(b"first")
        stop, go, waiting = threading.Event(), threading.Event(), threading.Event()
        news: Any = jobs._driver.arrivals
        subscribe = news.subscribe

        def subscribed(callback: Callable[[], None]) -> Any:
            waiting.set()
            return subscribe(callback)

        monkeypatch.setattr(news, "subscribe", subscribed)

        def hang(_: portable.Message[bytes]) -> None:
            waiting.wait(PATIENCE)
            stop.set()
            go.wait(PATIENCE)

        jobs.consume(hang, concurrency=4, stop=stop, drain_timeout=0)
        jobs.send(b"later")
        go.set()
        for thread in threading.enumerate():
            if thread.name == "portable-wait":
                thread.join(PATIENCE)
        stats = jobs.stats()
        assert (stats.ready, stats.leased) == (2, 0)


def test_a_lease_that_was_lost_meanwhile_is_no_trouble_of_receive() -> None:
    clock = Clock()
    with cloud({"jobs": {"kind": "queue", "max_deliveries": 1}}, clock=clock) as opened:
        raw = opened.queue("jobs")

        class Job(msgspec.Struct):
            name: str

            def __post_init__(self) -> None:
                if self.name == "bad":
                    # While it is decoded its lease ends, and somebody else buries it.
                    clock.advance(60)
                    assert raw.receive(wait=0) == []
                    raise ValueError("no such job")

        jobs: portable.Queue[Job] = portable.Queue(raw._binding, raw._make, host=raw._host, type=Job)
        raw.send(b'{"name": "bad"}')
        assert jobs.receive(wait=0) == []
        raw.send(b'{"name": "good"}')
        assert [message.body for message in jobs.receive(wait=0)] == [Job("good")]
        assert raw.stats().dead == 1


def test_a_missing_bucket_buries_nothing() -> None:
    clock = Clock()
    with cloud(OFFLOADING, clock=clock, guard={"limits": ["aws"]}) as opened:
        jobs, bodies = opened.queue("jobs"), opened.bucket("bodies")
        jobs.send(b"x" * 2_000_000)

        def gone(*_: Any, **__: Any) -> bytes:
            raise errors.ResourceNotFound("no such bucket")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bodies._driver, "open", gone)
            patch.setattr(bodies, "get", gone)
            with pytest.raises(errors.ResourceNotFound):
                jobs.receive(wait=0)
        assert jobs.stats().dead == 0
        (message,) = jobs.receive(wait=0)
        assert len(message.body) == 2_000_000


def test_a_nack_counts_though_the_lease_was_just_extended(tmp_path: Path) -> None:
    """Another thread may have extended it and not come to say so."""
    url = f"sqlite:{tmp_path / 'app.db'}"
    with portable.open_queue(url, name="jobs", durability="process", visibility_timeout="10m") as jobs:
        sent = jobs.send(b"x")
        (message,) = jobs.receive()
        before = copy.copy(message.delivery.receipt)
        message.extend(900)
        message.delivery.receipt.due = before.due
        message.nack()
        assert [again.id for again in jobs.receive(wait=0)] == [sent]


def test_what_is_ready_beside_what_cannot_be_buried_is_given_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    bind = {"jobs": {"url": f"sqlite:{tmp_path / 'app.db'}", "durability": "process"}}
    with cloud({"jobs": {"kind": "queue", "max_deliveries": 1}}, clock=clock, bind=bind) as opened:
        jobs = opened.queue("jobs")
        jobs.send(b"used up")
        jobs.receive()
        clock.advance(31)
        sent = jobs.send(b"fresh")

        def full(*_: Any, **__: Any) -> None:
            raise errors.Unavailable("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(SqliteQueue, "bury", full)
            with pytest.raises(errors.Unavailable):
                jobs.receive(2, wait=0)
        (message,) = jobs.receive(2, wait=0)
        assert (message.id, message.delivery_count) == (sent, 1)


def test_dead_letters_of_a_queue_that_was_renamed_come_back() -> None:
    """The config may call the same queue otherwise than when they died."""
    for name in ("before", "after"):
        bind = {name: {"url": "memory:renamed", "name": "jobs"}}
        with cloud({name: {"kind": "queue", "max_deliveries": 1}}, bind=bind) as opened:
            jobs = opened.queue(name)
            if name == "before":
                jobs.send(b"x")
                jobs.receive()[0].reject()
            else:
                assert jobs.redrive() == 1
                assert [message.body for message in jobs.receive()] == [b"x"]


def test_a_queue_has_one_dead_letter_queue_and_none_once_closed() -> None:
    with cloud({"jobs": {"kind": "queue"}}) as opened:
        jobs = opened.queue("jobs")
        found: list[Any] = []
        start = threading.Barrier(8)

        def look() -> None:
            start.wait(PATIENCE)
            found.append(jobs.dead_letters)

        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert len(set(map(id, found))) == 1
    with cloud({"jobs": {"kind": "queue"}}) as opened:
        jobs = opened.queue("jobs")
        jobs.close()
        with pytest.raises(errors.Closed):
            _ = jobs.dead_letters


def test_a_wait_is_not_cut_short_by_the_usual_timeout() -> None:
    with portable.open_queue("memory:", name="jobs", timeout="200ms") as jobs:
        sent = jobs.send(b"x", delay=0.5)
        assert [message.id for message in jobs.receive(wait=PATIENCE)] == [sent]
        assert jobs.receive(wait=PATIENCE, timeout=0.1) == []


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    """Opening a topic writes nothing into a file that has it and its subscriptions."""
    path = tmp_path / "app.db"
    resources = {"events": {"kind": "topic"}, "mailer": {"kind": "subscription", "topic": "events"}}

    def publish() -> None:
        with cloud(resources, default=f"sqlite:{path}") as opened:
            opened.topic("events").check()

    publish()
    other = sqlite3.connect(path)
    try:
        before = other.execute("PRAGMA data_version").fetchone()
        publish()
        assert other.execute("PRAGMA data_version").fetchone() == before
    finally:
        other.close()


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_numbers_without_meaning_are_refused(scheme: str, tmp_path: Path) -> None:
    with portable.open_queue("memory:" if scheme == "memory" else f"sqlite:{tmp_path / 'app.db'}", name="jobs") as jobs:
        jobs.send_many([b"1", b"2"])
        (message,) = jobs.receive()
        for far in (1e12, 1e300, 10**400):
            refused: list[Callable[[], object]] = [
                partial(jobs.send, b"x", delay=far),
                partial(message.nack, far),
                partial(message.extend, far),
                partial(jobs.receive, wait=0, visibility_timeout=far),
            ]
            for call in refused:
                with pytest.raises(errors.InvalidArgument, match="seconds"):
                    call()
        for count in ("3", 2.5, None, True):
            with pytest.raises(errors.InvalidArgument, match="max_messages"):
                jobs.receive(count, wait=0)  # type: ignore[arg-type]  # what is refused
            with pytest.raises(errors.InvalidArgument, match="max_messages"):
                jobs.peek(count)  # type: ignore[arg-type]  # the same
        assert len(jobs.receive(10**30, wait=0)) == 1
        message.ack()


def test_one_body_is_no_batch() -> None:
    with portable.open_queue("memory:", name="jobs") as jobs:
        for wrong in ("abc", b"abc", None, 7):
            with pytest.raises(errors.InvalidArgument, match="list"):
                jobs.send_many(wrong)  # type: ignore[arg-type]  # what is refused
        for given in (["no message"], None):
            with pytest.raises(errors.InvalidArgument):
                jobs.ack_many(given)  # type: ignore[arg-type]  # the same
        assert jobs.receive(wait=0) == []
    with portable.open_stream("memory:", name="clicks") as clicks:
        with pytest.raises(errors.InvalidArgument, match="list"):
            clicks.append_many(b"abc")
        assert clicks.read("0", limit=10**30) == []
        with pytest.raises(errors.NotFound):
            clicks.read("9" * 5000)
