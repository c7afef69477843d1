"""What an SQLite file holds of queues and topics, and what other programs may do to it."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import portable
from portable import errors
from portable.messages import Outgoing
from portable.testing.clock import Clock
from tests.unit.test_queue import PATIENCE, cloud


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
def jobs(file: Path) -> Iterator[portable.Queue[bytes]]:
    with portable.open_queue(f"sqlite:{file}", name="jobs", durability="process", visibility_timeout="10m") as queue:
        yield queue


def sql(file: Path, statement: str, *parameters: Any) -> list[Any]:
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        return connection.execute(statement, parameters).fetchall()
    finally:
        connection.close()


def test_tables_are_as_documented(file: Path, jobs: portable.Queue[bytes]) -> None:
    sent = jobs.send(b"body", attributes={"a": "ü"}, delay=60)
    ((queue,),) = sql(file, "SELECT id FROM queue WHERE name = 'jobs'")
    ((row),) = sql(file, "SELECT queue, id, leased, count, due - sent, key, attributes, body FROM queue_message")
    assert row == (queue, int(sent), 0, 0, 60_000, None, '{"a":"ü"}', b"body")
    assert sql(file, "SELECT name, ordered, topic, filter FROM queue ORDER BY name") == [
        ("jobs", 0, None, None),
        ("jobs-dead", 0, None, None),
    ]


def test_a_message_of_another_program(file: Path, jobs: portable.Queue[bytes]) -> None:
    jobs.check()
    sql(file, "INSERT INTO queue_message (queue, due, id, sent, body) SELECT id, 0, 7, 1500, 'text' FROM queue LIMIT 1")
    (message,) = jobs.receive(wait=PATIENCE)
    assert (message.id, message.attributes, message.delivery_count) == ("7", {}, 1)
    assert message.body == b"text"
    message.ack()
    assert jobs.stats() == portable.QueueStats(0, 0, 0, 0)


def test_what_another_process_sends_wakes_a_receive(file: Path, jobs: portable.Queue[bytes]) -> None:
    assert jobs.receive(wait=0) == []
    with portable.open_queue(f"sqlite:{file}", name="jobs", durability="power") as other:
        other.send(b"x")
        assert [message.body for message in jobs.receive(wait=PATIENCE)] == [b"x"]


def test_plan_and_create(file: Path) -> None:
    resources = {
        "jobs": {"kind": "queue"},
        "events": {"kind": "topic"},
        "mailer": {"kind": "subscription", "topic": "events", "filter": {"b": "2", "a": "1"}},
    }
    with cloud(resources, default=f"sqlite:{file}", create="never") as opened:
        drivers = [resource._driver for resource in opened.resources()]
        planned = [(change.action, change.what, change.name) for driver in drivers for change in driver.plan()]
        assert sorted(set(planned)) == [
            ("create", "dead-letter queue", "jobs-dead"),
            ("create", "dead-letter queue", "mailer-dead"),
            ("create", "queue", "jobs"),
            ("create", "subscription", "mailer"),
            ("create", "topic", "events"),
        ]
        assert not file.exists()
        for _ in range(2):
            for driver in drivers:
                driver.create()
        assert [change for driver in drivers for change in driver.plan()] == []
        for resource in opened.resources():
            resource.check(write=True, timeout=PATIENCE)
        assert sql(file, "SELECT topic, filter FROM queue WHERE name = 'mailer'") == [("events", '{"a":"1","b":"2"}')]
        sql(file, "UPDATE queue SET filter = NULL")
        assert [change.action for driver in drivers for change in driver.plan()] == ["change", "change"]


def test_opening_a_topic_makes_its_subscriptions(file: Path) -> None:
    resources = {"events": {"kind": "topic"}, "mailer": {"kind": "subscription", "topic": "events"}}
    for default in (f"sqlite:{file}", "memory:"):
        with cloud(resources, default=default) as opened:
            opened.topic("events").publish(b"x")
            assert [message.body for message in opened.subscription("mailer").receive()] == [b"x"]


def test_what_is_missing_is_named(file: Path) -> None:
    with portable.open_queue(f"sqlite:{file}", name="jobs", create="never") as jobs:
        with pytest.raises(errors.ResourceNotFound, match="portable resources create"):
            jobs.receive()
        assert not file.exists()
    with portable.open_queue(f"sqlite:{file}", name="other", durability="process") as other:
        other.send(b"x")
    missing: list[Any] = [
        portable.open_queue(f"sqlite:{file}", name="things", create="never"),
        portable.open_topic(f"sqlite:{file}", name="things", create="never"),
        portable.open_subscription(f"sqlite:{file}", name="things", topic="events", create="never"),
    ]
    for resource in missing:
        with resource, pytest.raises(errors.ResourceNotFound, match="portable resources create"):
            resource.check(timeout=PATIENCE)
    with (
        portable.open_queue(f"sqlite:{file}", name="other", create="never") as plain,
        portable.open_subscription(f"sqlite:{file}", name="other", topic="events", create="never") as fed,
    ):
        plain.check(timeout=PATIENCE)
        with pytest.raises(errors.ResourceNotFound, match="does not feed"):
            fed.check(timeout=PATIENCE)


def test_order_can_be_asked_for_later(file: Path) -> None:
    def lines(**how: Any) -> portable.Queue[Any]:
        return portable.open_queue(
            f"sqlite:{file}", name="lines", durability="process", visibility_timeout="10m", **how
        )

    with lines(ordered=True) as ordered:
        ordered.send_many([Outgoing(f"{key}{number}", ordering_key=key) for key in "ab" for number in range(3)])
    with lines() as unordered:
        messages = unordered.receive(10)
        assert len(messages) == 6
        for message in messages:
            message.nack()
    with lines(ordered=True) as ordered:
        driver: Any = ordered._driver
        assert [change.action for change in driver.plan()] == ["change"]
        for number in range(3):
            messages = ordered.receive(10)
            assert sorted(message.body for message in messages) == [b"a%d" % number, b"b%d" % number]
            ordered.ack_many(messages)


@pytest.mark.parametrize("default", ["memory:", "sqlite:"])
def test_a_clock_that_jumps_back_hides_nothing(file: Path, default: str) -> None:
    clock = Clock()
    default += str(file) if default == "sqlite:" else ""
    resources = {"lines": {"kind": "queue", "ordered": True}, "jobs": {"kind": "queue"}}
    with cloud(resources, clock=clock, default=default) as opened:
        lines, jobs = opened.queue("lines"), opened.queue("jobs")
        jobs.send(b"later", delay=60)
        jobs.send(b"leased")
        (leased,) = jobs.receive(wait=0)
        for number in range(5):
            lines.send(str(number), ordering_key="a")
            jobs.send(str(number))
            clock.set(clock.now() - 3600)
        assert sorted(message.body for message in jobs.receive(10, wait=0)) == [b"0", b"1", b"2", b"3", b"4"]
        leased.ack()
        found: list[bytes] = []
        for _ in range(5):
            (message,) = lines.receive(wait=0)
            found.append(message.body)
            message.ack()
        assert found == [b"0", b"1", b"2", b"3", b"4"]


def test_a_clock_that_jumped_back_before_the_start(file: Path) -> None:
    clock = Clock()
    for moved, count in ((0, 0), (-3600, 1)):
        clock.set(clock.now() + moved)
        with cloud({"jobs": {"kind": "queue"}}, clock=clock, default=f"sqlite:{file}") as opened:
            jobs = opened.queue("jobs")
            messages = jobs.receive(10, wait=0)
            assert [message.body for message in messages] == [b"now"] * count
            jobs.ack_many(messages)
            jobs.send(b"later", delay=60)
            jobs.send(b"now")


def test_time_moves_leases_delays_and_repeats(file: Path) -> None:
    clock = Clock()
    with cloud({"jobs": {"kind": "queue"}}, clock=clock, default=f"sqlite:{file}") as opened:
        jobs = opened.queue("jobs")
        first = jobs.send(b"x", dedup_id="a", delay=100)
        assert jobs.receive(wait=0) == []
        assert jobs.stats() == portable.QueueStats(ready=0, leased=0, delayed=1, dead=0)
        clock.advance(100.001)
        (message,) = jobs.receive(wait=0)
        clock.advance(30.001)
        (again,) = jobs.receive(wait=0)
        with pytest.raises(errors.LeaseLost):
            message.ack()
        with pytest.raises(errors.LeaseLost):
            message.extend(5)
        with pytest.raises(errors.LeaseLost):
            message.reject("late")
        with pytest.raises(errors.BatchError):
            jobs.ack_many([message, again])
        assert jobs.stats() == portable.QueueStats(0, 0, 0, 0)
        clock.advance(169)
        assert jobs.send(b"x", dedup_id="a") == first
        clock.advance(1)
        assert jobs.send(b"x", dedup_id="a") != first


def test_an_ack_that_meets_an_extension(jobs: portable.Queue[bytes]) -> None:
    jobs.send(b"x")
    (message,) = jobs.receive()
    due = message.delivery.receipt.due
    message.extend(900)
    assert message.delivery.receipt.due > due
    # The thread that extended has not come to say so.
    message.delivery.receipt.due = due
    message.ack()
    assert jobs.stats().leased == 0


def test_numbers_that_are_taken_are_tried_again(jobs: portable.Queue[bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    from portable_embedded import queue_layout

    clock = Clock()
    clock.stop()
    monkeypatch.setattr(jobs._driver, "_clock", clock.now)
    monkeypatch.setattr(queue_layout.ids, "next", iter([1, 1, 2, 2, 3]))
    assert jobs.send(b"a") == "1"
    assert jobs.send(b"b") == "2"
    assert jobs.send_many([b"c"]).results == ["3"]


def test_a_forked_child_has_numbers_and_connections_of_its_own(file: Path, jobs: portable.Queue[bytes]) -> None:
    jobs.send(b"before")
    assert jobs.dead_letters.stats().ready == 0
    child = os.fork()
    if child == 0:
        # Whatever goes wrong, the child must not come back into pytest.
        status = 1
        try:
            jobs.send_many([b"child"] * 50)
            jobs.dead_letters.send(b"child")
            status = 0
        finally:
            os._exit(status)
    result = jobs.send_many([b"parent"] * 50)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    messages = jobs.receive(1000)
    assert len({message.id for message in messages}) == 101
    assert jobs.stats().dead == 1
    assert sum(message.body == b"child" for message in messages) == 50
    assert set(result.results) <= {message.id for message in messages}


@pytest.mark.parametrize(
    ("text", "attributes"),
    [
        ('{"n": 1, "s": "x", "l": [true]}', {"n": "1", "s": "x", "l": "[true]"}),
        ("no JSON", {}),
        ("[1]", {}),
        (b"\xff", {}),
    ],
)
def test_attributes_that_another_program_wrote_otherwise_stop_nobody(
    file: Path, jobs: portable.Queue[bytes], text: object, attributes: dict[str, str]
) -> None:
    jobs.stats()
    with sqlite3.connect(file) as other:
        other.execute(
            "INSERT INTO queue_message (queue, due, id, sent, attributes, body) "
            "SELECT id, 0, 1, 0, ?, 'x' FROM queue WHERE name = 'jobs'",
            (text,),
        )
    other.close()
    (message,) = jobs.receive(wait=0)
    assert (message.body, message.attributes) == (b"x", attributes)
    message.ack()
