"""A cloud in both faces: by name, lazily, with threads only while it is used, and closed for good."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import logging
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import portable
from portable import aio, registry
from portable.config import Config
from portable.errors import Closed, ConfigError, Unavailable
from portable.registry import Adapter
from portable.threads import in_own_thread
from portable_embedded.memory_cache import MemoryCache

PATIENCE = 60.0
KINDS = ["bucket", "queue", "topic", "stream", "cache", "collection", "database"]


def config(tmp_path: Path, default: str = "memory:", **resources: dict[str, Any]) -> Config:
    declared = resources or {
        "photos": {"kind": "bucket"},
        "jobs": {"kind": "queue"},
        "events": {"kind": "topic"},
        "mailer": {"kind": "subscription", "topic": "events"},
        "clicks": {"kind": "stream"},
        "sessions": {"kind": "cache"},
        "users": {"kind": "collection"},
        "main": {"kind": "database"},
    }
    profile = {"default": default, "bind": {"main": "sqlite:main.db"} if "main" in declared else {}}
    return Config.from_dict(
        {"resources": declared, "profiles": {"local": profile}, "default_profile": "local"}, tmp_path
    )


def our_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("portable")}


def test_resources_come_by_name_once_and_open_nothing(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with portable.connect(config(tmp_path, "sqlite:app.db")) as cloud:
        assert cloud.profile == "local"
        assert repr(cloud) == "<Cloud profile 'local'>"
        assert cloud.queue("jobs") is cloud.queue("jobs")
        assert len({id(cloud.queue("jobs", type=kind)) for kind in (int, str)}) == 2
        assert isinstance(cloud.subscription("mailer"), portable.Subscription)
        assert {resource.name for resource in cloud.resources()} == {
            *("photos", "jobs", "events", "mailer", "clicks", "sessions", "users", "main")
        }
        assert list(tmp_path.iterdir()) == [], "nothing is made before first use"
        assert set(threading.enumerate()) <= before


def test_threads_that_race_get_the_same_resource(tmp_path: Path) -> None:
    with portable.connect(config(tmp_path)) as cloud:
        start = threading.Barrier(20)

        def get() -> portable.Cache[Any]:
            start.wait(PATIENCE)
            return cloud.cache("sessions")

        assert len({id(call.result(PATIENCE)) for call in [in_own_thread(get) for _ in range(20)]}) == 1


@pytest.mark.parametrize("default", ["memory:", "sqlite:app.db"])
def test_the_sync_face_leaves_no_thread(tmp_path: Path, default: str) -> None:
    before = our_threads()
    with portable.connect(config(tmp_path, default)) as cloud:
        use(cloud)
    assert our_threads() <= before
    cloud.close()


def use(cloud: portable.Cloud) -> None:
    cloud.bucket("photos").put("a", b"1")
    cloud.queue("jobs").send(b"1")
    cloud.subscription("mailer").receive(wait=0.01)
    cloud.topic("events").publish(b"1")
    assert cloud.subscription("mailer").receive()[0].body == b"1"
    cloud.stream("clicks").append(b"1")
    with cloud.stream("clicks").consumer("group") as consumer:
        assert [record.data for record in consumer.poll()] == [b"1"]
    cloud.cache("sessions").set("a", 1)
    cloud.collection("users").put({"id": "a"})
    cloud.database("main").check()


@pytest.mark.parametrize("default", ["memory:", "sqlite:app.db"])
def test_the_async_face_starts_threads_with_first_use_and_leaves_none(tmp_path: Path, default: str) -> None:
    async def main() -> None:
        before = our_threads()
        async with aio.connect(config(tmp_path, default)) as cloud:
            queue = cloud.queue("jobs")
            assert our_threads() <= before
            await queue.send(b"1")
            assert bool(our_threads() - before) is (default != "memory:")
            await cloud.bucket("photos").put("a", b"1")
            await cloud.topic("events").publish(b"1")
            await cloud.subscription("mailer").receive(wait=0.01)
            await cloud.stream("clicks").append(b"1")
            async with cloud.stream("clicks").consumer("group") as consumer:
                assert [record.data for record in await consumer.poll()] == [b"1"]
            await cloud.cache("sessions").set("a", 1)
            await cloud.collection("users").put({"id": "a"})
            await cloud.database("main").check()
            assert len(our_threads() - before) <= 32 + 4
        assert our_threads() <= before

    asyncio.run(main())


@pytest.mark.parametrize("default", ["memory:", "sqlite:app.db"])
def test_many_waiting_calls_hold_no_thread_of_the_pool(tmp_path: Path, default: str) -> None:
    """More receivers wait than the pool has threads, and every one of them is served by sends that need the pool."""
    count = 50

    async def main() -> None:
        async with aio.connect(config(tmp_path, default)) as cloud:
            queue = cloud.queue("jobs")
            await queue.send(b"first")
            await queue.receive()
            waiting = [asyncio.ensure_future(queue.receive(wait=PATIENCE)) for _ in range(count)]
            polling = [asyncio.ensure_future(cloud.stream("clicks").consumer(f"g{n}")) for n in range(3)]
            consumers = await asyncio.gather(*polling)
            records = [asyncio.ensure_future(consumer.poll(PATIENCE)) for consumer in consumers]
            async with cloud.cache("sessions").lock("a", ttl=PATIENCE):
                locking = asyncio.ensure_future(cloud.cache("sessions").lock("a", ttl=PATIENCE, wait=PATIENCE))
                stats = await asyncio.wait_for(queue.stats(), PATIENCE)
                assert stats.ready == 0
                await queue.send_many([str(number) for number in range(count)])
                await cloud.stream("clicks").append(b"record")
                received = await asyncio.wait_for(asyncio.gather(*waiting), PATIENCE)
                read = await asyncio.wait_for(asyncio.gather(*records), PATIENCE)
            await (await asyncio.wait_for(locking, PATIENCE)).release()
            assert sorted(int(one.body) for (one,) in received) == list(range(count))
            assert [[record.data for record in found] for found in read] == [[b"record"]] * 3

    asyncio.run(main())


def test_a_closed_cloud_says_so(tmp_path: Path) -> None:
    cloud = portable.connect(config(tmp_path))
    cache = cloud.cache("sessions")
    cache.set("a", 1)
    cloud.close()
    cloud.close()
    with pytest.raises(Closed, match="the cloud is closed; connect again"):
        cloud.cache("sessions")
    with pytest.raises(Closed, match=r"sessions \(memory\) get: the cache is closed"):
        cache.get("a")
    assert {type(result.error) for result in cloud.check()} == {Closed}


def test_memory_is_one_per_cloud_and_named_memory_one_per_process() -> None:
    for url, expected in (("memory:", None), ("memory:test-cloud-shared", 1)):
        with portable.open_cache(url) as one, portable.open_cache(url) as other:
            one.set("a", 1)
            assert other.get("a") == expected


def test_a_resource_that_was_opened_alone_closes_its_cloud(tmp_path: Path) -> None:
    async def main() -> None:
        before = our_threads()
        async with aio.open_queue(f"sqlite:{tmp_path / 'app.db'}") as queue:
            await queue.send(b"1")
            assert our_threads() - before
        assert our_threads() <= before
        with pytest.raises(Closed):
            await queue.send(b"2")

    asyncio.run(main())


def test_a_check_tells_of_every_resource(tmp_path: Path) -> None:
    (tmp_path / "app.db").write_bytes(b"no database at all, and long enough to be looked at " * 100)
    with portable.connect(config(tmp_path, "sqlite:app.db")) as cloud:
        results = {result.resource: result for result in cloud.check(timeout=PATIENCE)}
    assert {name for name, result in results.items() if result.ok} == {"photos", "main"}
    assert all(result.seconds >= 0 for result in results.values())
    assert results["photos"].url.startswith("file:")
    assert results["jobs"].error is not None
    assert str(results["jobs"].error).startswith("jobs (sqlite) check: ")

    async def main() -> None:
        async with aio.connect(config(tmp_path, "memory:")) as cloud:
            found = await cloud.check(write=True, timeout=PATIENCE)
            assert [result.ok for result in found] == [True] * 8

    asyncio.run(main())


def test_names_that_are_not_declared_are_refused_with_the_nearest(tmp_path: Path) -> None:
    with portable.connect(config(tmp_path)) as cloud:
        with pytest.raises(ConfigError, match="did you mean"):
            cloud.queue("job")
        with pytest.raises(ConfigError):
            cloud.queue("sessions")


def test_without_a_config_any_name_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO, "portable"), portable.connect() as cloud:
        cloud.cache("anything").set("a", 1)
        cloud.topic("events").publish(b"1")
        assert cloud.subscription("mailer", topic="events").receive(wait=0.01) == []
    assert (tmp_path / ".portable").is_dir()
    assert len(caplog.records) == 1
    assert ".portable" in caplog.text


# A driver that is async only serves both faces.


class AsyncCache:
    """The memory driver, to be awaited."""

    is_async = True
    blocking = True
    Options = MemoryCache.Options

    def __init__(self, binding: Any) -> None:
        self._driver = MemoryCache(binding)
        self.threads: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._driver, name)
        if not inspect.ismethod(member):
            return member

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.threads.add(threading.current_thread().name)
            await asyncio.sleep(0)
            return member(*args, **kwargs)

        return call


@pytest.fixture
def async_scheme(monkeypatch: pytest.MonkeyPatch) -> str:
    # A name by which the registry finds this class, however this file was imported.
    monkeypatch.setitem(sys.modules, "async_only_driver", sys.modules[__name__])
    adapter = Adapter({"acme": {"cache": "async_only_driver:AsyncCache"}}, extra="acme")
    monkeypatch.setattr(registry, "_registered", [adapter])
    return "acme:"


def test_an_async_only_driver_serves_the_sync_face(async_scheme: str) -> None:
    before = our_threads()
    with portable.open_cache(async_scheme) as cache:
        assert our_threads() <= before
        calls = [in_own_thread(cache.incr, "n") for _ in range(30)]
        assert sorted(call.result(PATIENCE) for call in calls) == list(range(1, 31))
        with cache.lock("a", ttl=5.0, wait=0):
            pass
        assert cache.get_or_set("b", lambda: 5, ttl=5.0) == 5
        driver: Any = cache._driver
        assert driver._driver.threads == {"portable-loop"}
        assert len([thread for thread in our_threads() - before if thread.name == "portable-loop"]) == 1
    assert our_threads() <= before


def test_an_async_only_driver_serves_the_async_face(async_scheme: str) -> None:
    async def main() -> None:
        before = our_threads()
        async with aio.open_cache(async_scheme) as cache:
            assert sorted(await asyncio.gather(*(cache.incr("n") for _ in range(30)))) == list(range(1, 31))
            driver: Any = cache._driver
            assert driver.threads == {threading.current_thread().name}
            assert our_threads() <= before

    asyncio.run(main())


def test_a_cloud_closes_the_rest_where_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = portable.connect(config(tmp_path))
    queue, cache, stream = cloud.queue("jobs"), cloud.cache("sessions"), cloud.stream("clicks")

    def fail() -> None:
        raise Unavailable("it hung up")

    monkeypatch.setattr(cache._driver, "close", fail)
    with pytest.raises(Unavailable, match="it hung up"):
        cloud.close()
    for call in (lambda: queue.send(b"1"), lambda: stream.append(b"1"), lambda: cache.get("a")):
        with pytest.raises(Closed):
            call()
    cloud.close()


def test_types_of_one_name_are_told_apart(tmp_path: Path) -> None:
    def job() -> Any:
        @dataclasses.dataclass
        class Job:
            number: int

        return Job

    first, second = job(), job()
    assert repr(first) == repr(second)
    with portable.connect(config(tmp_path)) as cloud:
        assert cloud.queue("jobs", type=first) is not cloud.queue("jobs", type=second)
        assert cloud.queue("jobs", type=first) is cloud.queue("jobs", type=first)
        assert cloud.queue("jobs") in cloud.resources(), "a check looks at what the application uses"


def test_a_subscription_is_of_one_topic(tmp_path: Path) -> None:
    with portable.connect(config(tmp_path)) as cloud:
        mailer = cloud.subscription("mailer")
        assert cloud.subscription("mailer", topic="events") is mailer
        with pytest.raises(ConfigError, match="'mailer' is fed by 'events', not by 'others'"):
            cloud.subscription("mailer", topic="others")


def test_a_resource_that_cannot_be_closed_still_closes_its_cloud() -> None:
    queue = portable.open_queue("memory:")

    def close() -> None:
        raise Unavailable("the line was cut")

    queue._driver.close = close  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        queue.close()
    with pytest.raises(Closed):
        queue._owned.queue("queue")
