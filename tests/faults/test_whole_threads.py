"""A thousand threads share one cloud, whose resources they also race to open: nothing is lost, doubled or mixed up."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import portable
from portable.config import Config

THREADS = 1000
PATIENCE = 100.0


@pytest.fixture(params=["memory:", "sqlite:app.db?durability=process"], ids=["memory", "sqlite"])
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[portable.Cloud]:
    bind = {"main": "sqlite:main.db?durability=process"}
    if request.param != "memory:":
        bind["photos"] = "file:photos?durability=process"
    config = Config.from_dict(
        {
            "default_profile": "local",
            "profiles": {"local": {"default": request.param, "bind": bind}},
            "resources": {
                "photos": {"kind": "bucket"},
                "jobs": {"kind": "queue"},
                "events": {"kind": "topic"},
                "mailer": {"kind": "subscription", "topic": "events"},
                "clicks": {"kind": "stream"},
                "sessions": {"kind": "cache"},
                "users": {"kind": "collection"},
                "main": {"kind": "database"},
            },
        },
        tmp_path,
    )
    with portable.connect(config) as cloud:
        yield cloud


def at_once(work: Callable[[int], Any]) -> list[Any]:
    """Call `work(number)` in a thousand threads that all start from one line; give the results in order."""
    results: list[Any] = [None] * THREADS
    start = threading.Event()

    def run(number: int) -> None:
        assert start.wait(PATIENCE)
        try:
            results[number] = work(number)
        except BaseException as error:  # noqa: BLE001 (told by the one who waits)
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    assert sum(thread.is_alive() for thread in threads) == THREADS
    start.set()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        assert not thread.is_alive(), "a thread hangs"
    errors = [result for result in results if isinstance(result, BaseException)]
    assert not errors, f"{len(errors)} failed, such as {errors[0]!r}"
    return results


def test_each_thread_has_its_own_object(cloud: portable.Cloud) -> None:
    def work(number: int) -> bytes:
        key = f"{number % 50}/{number}"
        cloud.bucket("photos").put(key, str(number).encode())
        return cloud.bucket("photos").get(key)

    assert at_once(work) == [str(number).encode() for number in range(THREADS)]
    assert sum(1 for _ in cloud.bucket("photos").list()) == THREADS


def test_one_of_them_makes_the_object_that_must_be_absent(cloud: portable.Cloud) -> None:
    def work(number: int) -> bool:
        try:
            cloud.bucket("photos").put("one", str(number).encode(), if_absent=True)
        except portable.errors.AlreadyExists:
            return False
        return True

    won = at_once(work)
    assert sum(won) == 1
    assert cloud.bucket("photos").get("one") == str(won.index(True)).encode()


def test_what_is_sent_is_received_once(cloud: portable.Cloud) -> None:
    ids = at_once(lambda number: cloud.queue("jobs").send(str(number)))
    assert len(set(ids)) == THREADS

    def work(_: int) -> str:
        (message,) = cloud.queue("jobs").receive(wait=PATIENCE, visibility_timeout=600)
        message.ack()
        return message.body.decode()

    assert sorted(at_once(work), key=int) == [str(number) for number in range(THREADS)]
    assert cloud.queue("jobs").stats().ready == 0


def test_waiting_receivers_are_all_served(cloud: portable.Cloud) -> None:
    """Half of them wait before anything is sent, the other half send."""

    def work(number: int) -> bytes:
        if number % 2:
            cloud.topic("events").publish(str(number))
            return b""
        (message,) = cloud.subscription("mailer").receive(wait=PATIENCE, visibility_timeout=600)
        message.ack()
        return message.body

    assert cloud.subscription("mailer").receive(wait=0) == []
    got = [int(body) for body in at_once(work) if body]
    assert sorted(got) == list(range(1, THREADS, 2))


def test_records_keep_their_keys_order(cloud: portable.Cloud) -> None:
    def work(number: int) -> portable.Position:
        return cloud.stream("clicks").append(str(number), key=f"k{number % 7}")

    positions = at_once(work)
    stream = cloud.stream("clicks")
    read = [record for name in stream.partitions() for record in stream.read(name, limit=2 * THREADS)]
    assert sorted(int(record.data) for record in read) == list(range(THREADS))
    assert {str(record.position) for record in read} == {str(position) for position in positions}
    assert all(record.key == f"k{int(record.data) % 7}" for record in read)


def test_counters_count(cloud: portable.Cloud) -> None:
    def work(number: int) -> int:
        cache = cloud.cache("sessions")
        cache.set(f"own-{number}", number)
        assert cache.get(f"own-{number}") == number
        return cache.incr("all")

    assert sorted(at_once(work)) == list(range(1, THREADS + 1))


def test_a_value_is_computed_once(cloud: portable.Cloud) -> None:
    calls = collections.Counter[str]()

    def compute() -> str:
        calls["compute"] += 1
        return "value"

    assert at_once(lambda _: cloud.cache("sessions").get_or_set("a", compute, ttl=600)) == ["value"] * THREADS
    assert calls["compute"] == 1


def test_documents_take_every_update(cloud: portable.Cloud) -> None:
    cloud.collection("users").put({"id": "all", "count": 0})

    def work(number: int) -> str:
        cloud.collection("users").create({"id": f"u{number}", "number": number})
        cloud.collection("users").update("all", increment={"count": 1})
        return str(cloud.collection("users").get(f"u{number}").data["id"])

    assert at_once(work) == [f"u{number}" for number in range(THREADS)]
    assert cloud.collection("users").get("all").data["count"] == THREADS
    assert cloud.collection("users").query(allow_scan=True).count() == THREADS + 1


def test_rows_are_all_there(cloud: portable.Cloud) -> None:
    with cloud.database("main").begin() as connection:
        connection.execute(text("CREATE TABLE row (number INTEGER PRIMARY KEY)"))

    def work(number: int) -> None:
        with cloud.database("main").begin() as connection:
            connection.execute(text("INSERT INTO row VALUES (:number)"), {"number": number})

    at_once(work)
    with cloud.database("main").connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM row")).scalar_one() == THREADS
