"""The fixtures for tests of applications, used as an application's tests use them."""

from __future__ import annotations

import pytest

from portable import cloud
from portable.aio import cloud as aio_cloud
from portable.registry import provider

pytest_plugins = ["pytester"]

# What is imported here is not imported anew by each of the runs inside.
for kind in cloud.KINDS:
    cloud.portable_type(kind)
    aio_cloud.portable_type(kind)
    provider("sqlite" if kind == "database" else "memory", kind).load()

CONFIG = """
default_profile = "local"

[resources.jobs]
kind = "queue"
needs = ["delay"]
visibility_timeout = "30s"

[resources.sessions]
kind = "cache"

[resources.photos]
kind = "bucket"

[resources.events]
kind = "topic"

[resources.mailer]
kind = "subscription"
topic = "events"

[resources.users]
kind = "collection"
key = "id"
indexes = ["name"]

[resources.clicks]
kind = "stream"
needs = ["groups"]

[resources.main]
kind = "database"

[profiles.local]
default = "sqlite:must-not-be-made.db"
guard = { needs = "strict" }
"""


@pytest.fixture
def application(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    for variable in ("PORTABLE_CONFIG", "PORTABLE_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    pytester.path.joinpath("portable.toml").write_text(CONFIG)
    pytester.makeini("[pytest]\nfilterwarnings = error\n")
    return pytester


def passes(application: pytest.Pytester, source: str, tests: int = 1) -> None:
    application.makepyfile(source)
    application.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=tests)


def test_the_cloud_keeps_the_contract_in_memory(application: pytest.Pytester) -> None:
    passes(
        application,
        """
        import pytest
        from portable.errors import ConfigError, Unsupported

        def test_one(portable_cloud):
            portable_cloud.bucket("photos").put("a", b"x")
            portable_cloud.queue("jobs").send("hello", delay=0.0)
            mailer = portable_cloud.subscription("mailer")
            mailer.receive(wait=0)
            portable_cloud.topic("events").publish("paid")
            assert [message.body for message in mailer.receive(wait=5)] == [b"paid"]
            users = portable_cloud.collection("users")
            users.put({"id": "7", "name": "Ada"})
            assert users.where("name", "==", "Ada").first().key == "7"
            position = portable_cloud.stream("clicks").append(b"x")
            assert position.partition in portable_cloud.stream("clicks").partitions()
            assert {one.url for one in portable_cloud.resources() if one.kind != "database"} == {"memory:"}
            with pytest.raises(ConfigError, match="did you mean jobs"):
                portable_cloud.queue("job")
            with pytest.raises(Unsupported, match="needs"):
                portable_cloud.queue("jobs").peek()

        def test_two_starts_empty(portable_cloud):
            assert not portable_cloud.bucket("photos").exists("a")
            assert portable_cloud.queue("jobs").receive(wait=0) == []
        """,
        tests=2,
    )
    assert not application.path.joinpath("must-not-be-made.db").exists()


def test_a_database_is_a_file_of_the_test(application: pytest.Pytester) -> None:
    passes(
        application,
        """
        from sqlalchemy import text

        def test_it(portable_cloud, tmp_path):
            with portable_cloud.database("main").begin() as connection:
                connection.execute(text("CREATE TABLE t (a INTEGER)"))
            assert str(tmp_path) in portable_cloud.database("main").url
        """,
    )
    assert not application.path.joinpath(".portable").exists()


def test_without_a_config_any_name_works(application: pytest.Pytester) -> None:
    application.path.joinpath("portable.toml").unlink()
    passes(
        application,
        """
        from portable.errors import Throttled

        def test_it(portable_cloud, portable_faults):
            portable_faults.fail("anything.set", Throttled)
            cache = portable_cloud.cache("anything")
            try:
                cache.set("k", 1)
            except Throttled:
                cache.set("k", 2)
            assert cache.get("k") == 2
        """,
    )


def test_another_config_is_named_by_a_fixture(application: pytest.Pytester) -> None:
    application.path.joinpath("portable.toml").rename(application.path / "other.toml")
    application.makeconftest("""
        import pytest

        @pytest.fixture
        def portable_config():
            return "other.toml"
    """)
    passes(application, "def test_it(portable_cloud): assert portable_cloud.queue('jobs').name == 'jobs'")


def test_the_clock_moves_only_when_told(application: pytest.Pytester) -> None:
    passes(
        application,
        """
        import threading
        from datetime import UTC, datetime

        import pytest
        from portable.errors import InvalidArgument

        def test_leases_and_times_to_live(portable_cloud, portable_clock):
            jobs, sessions = portable_cloud.queue("jobs"), portable_cloud.cache("sessions")
            jobs.send("x")
            sessions.set("k", 1, ttl=60)
            assert len(jobs.receive(wait=0)) == 1
            portable_clock.advance(29)
            assert jobs.receive(wait=0) == []
            portable_clock.advance(2)
            assert jobs.receive(wait=0)[0].delivery_count == 2
            assert sessions.get("k") == 1
            portable_clock.advance(60)
            assert sessions.get("k") is None

        def test_it_wakes_whoever_waits(portable_cloud, portable_clock):
            jobs = portable_cloud.queue("jobs")
            jobs.send("x", delay=600)
            found = []
            waiting = threading.Thread(target=lambda: found.extend(jobs.receive(wait=60)))
            waiting.start()
            portable_clock.advance(601)
            waiting.join(30)
            assert [message.body for message in found] == [b"x"]

        def test_reading_and_setting(portable_clock):
            assert portable_clock.now() == portable_clock.now()
            portable_clock.set(datetime(2030, 1, 1, tzinfo=UTC))
            assert portable_clock.now() == datetime(2030, 1, 1, tzinfo=UTC).timestamp()
            portable_clock.set(5.0)
            portable_clock.advance(1.5)
            assert portable_clock.now() == 6.5
            with pytest.raises(InvalidArgument, match="time zone"):
                portable_clock.set(datetime(2030, 1, 1))
            with pytest.raises(InvalidArgument, match="0 or more"):
                portable_clock.advance(-1)
        """,
        tests=3,
    )


def test_without_the_clock_time_runs(application: pytest.Pytester) -> None:
    passes(
        application,
        """
        def test_it(portable_cloud):
            jobs = portable_cloud.queue("jobs")
            jobs.send("x", delay=0.05)
            assert jobs.receive(wait=30)[0].body == b"x"
        """,
    )


def test_faults_take_their_turns(application: pytest.Pytester) -> None:
    passes(
        application,
        """
        import pytest
        from portable.errors import Throttled, Unavailable

        def test_fail(portable_cloud, portable_faults):
            jobs = portable_cloud.queue("jobs")
            portable_faults.fail("jobs.send", Throttled, times=2)
            portable_faults.fail("jobs.send", Unavailable("the line is cut"))
            for _ in range(2):
                with pytest.raises(Throttled) as caught:
                    jobs.send("x")
                assert (caught.value.resource, caught.value.operation) == ("jobs", "send")
                assert caught.value.retryable and not caught.value.maybe_applied
            with pytest.raises(Unavailable, match="the line is cut"):
                jobs.send("x")
            assert jobs.receive(wait=0) == []
            jobs.send("y")
            assert jobs.receive(wait=0)[0].body == b"y"

        def test_apply_then_fail(portable_cloud, portable_faults):
            jobs = portable_cloud.queue("jobs")
            portable_faults.apply_then_fail("jobs.send", Unavailable)
            with pytest.raises(Unavailable) as caught:
                jobs.send("x")
            assert caught.value.maybe_applied
            (message,) = jobs.receive(wait=0)
            portable_faults.fail("jobs.ack", Unavailable, times=None)
            for _ in range(3):
                with pytest.raises(Unavailable):
                    message.ack()
            portable_faults.clear()
            message.ack()

        def test_iterating_fails_too(portable_cloud, portable_faults):
            portable_faults.fail("photos.list", Unavailable)
            with pytest.raises(Unavailable):
                list(portable_cloud.bucket("photos").list())

        def test_queries_and_consumers(portable_cloud, portable_faults):
            portable_faults.fail("users.first", Unavailable)
            with pytest.raises(Unavailable):
                portable_cloud.collection("users").where("name", "==", "x").first()
            portable_faults.fail("clicks.poll", Unavailable)
            with portable_cloud.stream("clicks").consumer("readers") as consumer, pytest.raises(Unavailable):
                consumer.poll(timeout=0)
        """,
        tests=4,
    )


def test_a_slow_operation_keeps_to_its_timeout(application: pytest.Pytester) -> None:
    passes(
        application,
        """
        import pytest
        from portable.errors import DeadlineExceeded

        def test_it(portable_cloud, portable_faults):
            jobs = portable_cloud.queue("jobs")
            portable_faults.slow("jobs.send", 0.02)
            assert jobs.send("late")
            portable_faults.clear()
            portable_faults.slow("jobs.send", 3600, times=1)
            with pytest.raises(DeadlineExceeded):
                jobs.send("x", timeout=0.05)
            assert [message.body for message in jobs.receive(10, wait=0)] == [b"late"]
        """,
    )


def test_what_is_ordered_wrongly_is_told(application: pytest.Pytester) -> None:
    passes(
        application,
        """
        import pytest
        from portable.errors import InvalidArgument, Throttled

        @pytest.mark.parametrize(("operation", "message"), [
            ("job.send", "did you mean jobs"),
            ("jobs.sned", "did you mean send"),
            ("photos.send", "a bucket has no operation 'send'"),
            ("jobs", "not of the form"),
        ])
        def test_names(portable_cloud, portable_faults, operation, message):
            with pytest.raises(InvalidArgument, match=message):
                portable_faults.fail(operation, Throttled)

        def test_values(portable_cloud, portable_faults):
            with pytest.raises(InvalidArgument, match="portable.errors"):
                portable_faults.fail("jobs.send", OSError)
            with pytest.raises(InvalidArgument, match="times=0"):
                portable_faults.fail("jobs.send", Throttled, times=0)
            with pytest.raises(InvalidArgument, match="0 seconds or more"):
                portable_faults.slow("jobs.send", -1)

        def test_no_cloud(portable_faults):
            with pytest.raises(InvalidArgument, match="portable_cloud"):
                portable_faults.fail("jobs.send", Throttled)
        """,
        tests=6,
    )


def test_the_async_cloud(application: pytest.Pytester) -> None:
    passes(
        application,
        """
        import pytest
        from portable.errors import DeadlineExceeded, Unavailable

        @pytest.fixture
        def anyio_backend():
            return "asyncio"

        @pytest.mark.anyio
        async def test_it(portable_aio_cloud, portable_clock, portable_faults):
            jobs = portable_aio_cloud.queue("jobs")
            await jobs.send("x", delay=30)
            assert await jobs.receive(wait=0) == []
            portable_clock.advance(31)
            assert (await jobs.receive(wait=0))[0].body == b"x"
            portable_faults.fail("jobs.send", Unavailable)
            with pytest.raises(Unavailable):
                await jobs.send("y")
            portable_faults.slow("jobs.send", 3600, times=1)
            with pytest.raises(DeadlineExceeded):
                await jobs.send("y", timeout=0.05)
            portable_faults.fail("photos.list", Unavailable)
            with pytest.raises(Unavailable):
                async for _ in portable_aio_cloud.bucket("photos").list():
                    pass
        """,
    )


def test_what_an_outbox_could_not_deliver_is_due_by_the_clock(application: pytest.Pytester) -> None:
    passes(
        application,
        """
        from portable.errors import Unavailable

        def test_it(portable_cloud, portable_clock, portable_faults):
            main = portable_cloud.database("main")
            with main.begin() as connection:
                main.outbox(connection).send("jobs", b"x")
            portable_faults.fail("jobs.send_many", Unavailable)
            assert main.relay(until_empty=True) == 0
            assert main.relay(until_empty=True) == 0
            portable_clock.advance(2)
            assert main.relay(until_empty=True) == 1
        """,
    )
