"""The wall clock jumps, forward as after a suspend and back as after a correction: nothing is lost or stuck."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

import portable
from portable.cloud import Cloud
from portable.config import Config
from portable.errors import LeaseLost, NotFound
from portable.testing.clock import Clock
from portable.threads import in_own_thread

PATIENCE = 60.0
HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
def clock() -> Clock:
    clock = Clock()
    clock.stop()
    return clock


@pytest.fixture(params=["memory:", "sqlite:app.db?durability=process"], ids=["memory", "sqlite"])
def cloud(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Cloud]:
    bind = {} if request.param == "memory:" else {"photos": "file:photos?durability=process"}
    config = Config.from_dict(
        {
            "default_profile": "local",
            "profiles": {"local": {"default": request.param, "bind": bind}},
            "resources": {
                "photos": {"kind": "bucket"},
                "jobs": {"kind": "queue", "visibility_timeout": "30s", "max_deliveries": 2},
                "events": {"kind": "topic"},
                "mailer": {"kind": "subscription", "topic": "events"},
                "clicks": {"kind": "stream", "partitions": 1, "retention": "7d"},
                "sessions": {"kind": "cache"},
                "users": {"kind": "collection", "ttl": "expires"},
            },
        },
        tmp_path,
    )
    with Cloud(config.profile(), clock=clock.now, on_clock_moved=clock.on_moved) as cloud:
        yield cloud


def bodies(messages: list[portable.Message[bytes]]) -> list[bytes]:
    return [message.body for message in messages]


def test_a_jump_forward_ends_leases_and_delays(cloud: Cloud, clock: Clock) -> None:
    queue = cloud.queue("jobs")
    queue.send(b"delayed", delay=HOUR)
    assert queue.receive(wait=0) == []
    waiting = in_own_thread(queue.receive, wait=PATIENCE)
    clock.advance(HOUR + 1)
    (message,) = waiting.result(PATIENCE)
    assert message.body == b"delayed"
    clock.advance(DAY)
    (again,) = queue.receive()
    assert (again.id, again.delivery_count) == (message.id, 2)
    with pytest.raises(LeaseLost):
        message.extend(5)
    again.ack()
    assert queue.receive(wait=0) == []


def test_a_jump_forward_buries_nothing_that_is_handled(cloud: Cloud, clock: Clock) -> None:
    """A lease that ran out counts as a delivery; after the last it is in the dead-letter queue, and nowhere else."""
    queue = cloud.queue("jobs")
    queue.send(b"poison")
    for _ in range(2):
        (message,) = queue.receive()
        clock.advance(DAY)
    assert queue.receive(wait=0) == []
    (dead,) = queue.dead_letters.receive()
    assert (dead.body, dead.original_id) == (b"poison", message.id)
    dead.nack()
    assert queue.redrive() == 1
    assert bodies(queue.receive()) == [b"poison"]


def test_a_jump_forward_ends_times_to_live_and_locks(cloud: Cloud, clock: Clock) -> None:
    cache, users = cloud.cache("sessions"), cloud.collection("users")
    cache.set("short", 1, ttl=HOUR)
    cache.set("for ever", 2)
    users.put({"id": "a", "expires": datetime.fromtimestamp(clock.now() + HOUR, UTC)})
    held = cache.lock("turn", ttl=HOUR, wait=0)
    waiting = in_own_thread(cache.lock, "turn", ttl=HOUR, wait=PATIENCE)
    clock.advance(DAY)
    second = waiting.result(PATIENCE)
    with pytest.raises(LeaseLost):
        held.extend()
    second.release()
    assert (cache.get("short"), cache.get("for ever")) == (None, 2)
    assert cache.incr("short") == 1
    with pytest.raises(NotFound):
        users.get("a")
    users.create({"id": "a"})


def test_a_jump_forward_ends_the_retention_and_no_more(cloud: Cloud, clock: Clock) -> None:
    stream = cloud.stream("clicks")
    stream.append(b"old")
    with stream.consumer("group") as consumer:
        assert [record.data for record in consumer.poll(PATIENCE)] == [b"old"]
        consumer.commit()
    clock.advance(6 * DAY)
    stream.append(b"kept")
    clock.advance(2 * DAY)
    stream.append(b"new")
    assert [record.data for record in stream.read("0")][-2:] == [b"kept", b"new"]
    with stream.consumer("group") as consumer:
        assert [record.data for record in consumer.poll(PATIENCE)] == [b"kept", b"new"]


def test_a_jump_back_keeps_messages_coming(cloud: Cloud, clock: Clock) -> None:
    queue = cloud.queue("jobs")
    queue.send_many([b"leased", b"ready"])
    (leased,) = queue.receive()
    clock.set(clock.now() - DAY)
    assert bodies(queue.receive(wait=PATIENCE)) == [b"ready"]
    queue.send(b"new")
    (new,) = queue.receive(wait=PATIENCE)
    assert new.body == b"new"
    leased.nack()
    (again,) = queue.receive(wait=PATIENCE)
    assert (again.body, again.delivery_count) == (b"leased", 2)
    again.ack()
    new.ack()


def test_a_jump_back_keeps_subscriptions_fed(cloud: Cloud, clock: Clock) -> None:
    mailer = cloud.subscription("mailer")
    assert mailer.receive(wait=0) == []
    cloud.topic("events").publish(b"before")
    clock.set(clock.now() - DAY)
    cloud.topic("events").publish(b"after")
    got: list[bytes] = []
    while len(got) < 2:
        for message in mailer.receive(wait=PATIENCE):
            got.append(message.body)
            message.ack()
    assert sorted(got) == [b"after", b"before"]


def test_a_jump_back_wakes_who_waits(cloud: Cloud, clock: Clock) -> None:
    queue = cloud.queue("jobs")
    queue.stats()
    waiting = in_own_thread(queue.receive, wait=PATIENCE)
    clock.set(clock.now() - DAY)
    queue.send(b"new")
    assert bodies(waiting.result(PATIENCE)) == [b"new"]


def test_a_jump_back_keeps_the_order_of_a_stream(cloud: Cloud, clock: Clock) -> None:
    stream = cloud.stream("clicks")
    with stream.consumer("group") as consumer:
        first = stream.append(b"1")
        clock.set(clock.now() - DAY)
        second = stream.append(b"2")
        clock.set(clock.now() + HOUR)
        third = stream.append(b"3")
        assert first < second < third
        got: list[bytes] = []
        while len(got) < 3:
            got += [record.data for record in consumer.poll(PATIENCE)]
        consumer.commit()
    records = stream.read("0")
    assert got == [record.data for record in records] == [b"1", b"2", b"3"]
    assert [record.timestamp for record in records] == sorted(record.timestamp for record in records)
    assert [record.data for record in stream.read("0", after=records[0].timestamp)][-1] == b"3"


def test_a_jump_back_loses_no_value_and_no_lock(cloud: Cloud, clock: Clock) -> None:
    cache = cloud.cache("sessions")
    cache.set("a", 1, ttl=HOUR)
    cache.set("b", 2)
    held = cache.lock("turn", ttl=HOUR, wait=0)
    clock.set(clock.now() - DAY)
    assert (cache.get("a"), cache.get("b"), cache.incr("b")) == (1, 2, 3)
    held.extend()
    held.release()
    with cache.lock("turn", ttl=HOUR, wait=0):
        cache.set("a", 4, ttl=HOUR)
    clock.advance(HOUR + 1)
    assert cache.get("a") is None, "it was set by the clock as it is now"


def test_a_jump_back_changes_no_document_and_no_object(cloud: Cloud, clock: Clock) -> None:
    users, photos = cloud.collection("users"), cloud.bucket("photos")
    users.put({"id": "a", "count": 1})
    info = photos.put("a", b"1")
    clock.set(clock.now() - DAY)
    document = users.update("a", increment={"count": 1})
    assert users.replace({"id": "a", "count": 5}, if_revision=document.revision).revision != document.revision
    assert photos.put("a", b"2", if_match=info.etag).etag != info.etag
    assert photos.get("a") == b"2"


def test_deadlines_run_by_the_clock_that_nobody_sets(cloud: Cloud, clock: Clock) -> None:
    """Waits are measured monotonically: a stopped or set clock neither hangs nor shortens them."""
    started = time.monotonic()
    waiting = in_own_thread(cloud.queue("jobs").receive, wait=0.2)
    clock.set(clock.now() - DAY)
    clock.advance(2 * DAY)
    assert waiting.result(PATIENCE) == []
    assert time.monotonic() - started >= 0.19
