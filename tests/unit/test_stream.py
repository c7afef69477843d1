"""The rules of streams that hold beyond the suite: retention, limits, needs, checkpoints, making, forks, faults."""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from portable import open_stream
from portable.capabilities import StreamCapabilities
from portable.cloud import Cloud
from portable.config import Config, Profile
from portable.errors import (
    BatchError,
    Closed,
    ConfigError,
    DeadlineExceeded,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PortableError,
    PreconditionFailed,
    ResourceNotFound,
    Throttled,
    Unavailable,
    Unsupported,
)
from portable.hooks import Running
from portable.messages import Outgoing
from portable.records import END, START, NewRecord, Position, Record
from portable.registry import Adapter, register
from portable.testing.clock import Clock
from portable_embedded import sqlite_stream
from portable_embedded.memory_stream import MemoryStream

_names = itertools.count()


class Timed:
    """A stream on a clock that the test moves."""

    def __init__(self, url: str, **options: Any) -> None:
        self.clock = Clock()
        self.clock.set(datetime(2026, 1, 1, tzinfo=UTC))
        name = f"timed-{next(_names)}"
        options = {"name": name, "create": "if_missing", "partitions": 1, "retention": "1h", **options}
        self.cloud = Cloud(
            Profile.single("stream", url, options), clock=self.clock.now, on_clock_moved=self.clock.on_moved
        )
        self.stream: Any = self.cloud.stream(name)

    def read(self, **how: Any) -> list[str]:
        return [record.data.decode() for record in self.stream.read("0", **how)]


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory:" if request.param == "memory" else f"sqlite:{tmp_path / 'app.db'}?durability=process"


@pytest.fixture
def timed(url: str) -> Iterator[Timed]:
    timed = Timed(url)
    yield timed
    timed.cloud.close()


# Time.


def test_a_record_is_gone_once_its_retention_has_ended(timed: Timed) -> None:
    first = timed.stream.append(b"0")
    timed.clock.advance(1800)
    timed.stream.append(b"1")
    timed.clock.advance(1799)
    assert timed.read() == ["0", "1"]
    timed.clock.advance(2)
    assert timed.read() == ["1"]
    assert timed.read(after=first) == ["1"]
    assert timed.read(after=Position("0", "")) == ["1"]
    timed.clock.advance(1801)
    assert timed.read() == []
    assert timed.stream.append(b"2").value > first.value
    assert timed.read(after=START) == ["2"]


def test_a_group_that_is_behind_the_retention_goes_on_at_the_oldest_record(timed: Timed) -> None:
    timed.stream.append_many([b"0", b"1", b"2"])
    consumer = timed.stream.consumer("g")
    assert len(consumer.poll(timeout=0, max_records=1)) == 1
    consumer.commit()
    consumer.close()
    timed.clock.advance(3601)
    timed.stream.append(b"3")
    consumer = timed.stream.consumer("g")
    assert consumer.lag() == 1
    assert [record.data for record in consumer.poll(timeout=0)] == [b"3"]


def test_reading_from_a_moment_is_exact(timed: Timed) -> None:
    moments = []
    for number in range(50):
        moments.append(datetime.fromtimestamp(timed.clock.now(), UTC))
        timed.stream.append(str(number))
        timed.clock.advance(10)
    for number, moment in enumerate(moments):
        assert timed.read(after=moment)[0] == str(number)
        assert timed.stream.read("0", after=moment)[0].timestamp == moment
    assert timed.read(after=datetime.fromtimestamp(timed.clock.now(), UTC)) == []


def test_a_clock_set_back_keeps_timestamps_in_order(timed: Timed) -> None:
    timed.stream.append(b"0")
    timed.clock.set(datetime(2025, 12, 31, tzinfo=UTC))
    timed.stream.append(b"1")
    timed.stream.append_many([b"2", b"3"])
    timestamps = [record.timestamp for record in timed.stream.read("0")]
    assert timestamps == sorted(timestamps)
    assert timed.read(after=timestamps[0]) == ["0", "1", "2", "3"]


def test_a_moved_clock_wakes_whoever_waits(timed: Timed) -> None:
    timed.stream.append(b"x")
    arrivals = timed.stream._driver.arrivals
    before = arrivals.version()
    timed.clock.advance(1)
    assert arrivals.wait(before, 30)


def test_old_records_leave_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_stream, "TRIMMED_AT_ONCE", 30)
    file = tmp_path / "app.db"
    timed = Timed(f"sqlite:{file}?durability=process")
    timed.stream.append_many([str(number) for number in range(100)])
    timed.clock.advance(3601)

    def stored() -> list[str]:
        with sqlite3.connect(file) as connection:
            rows = connection.execute('SELECT data FROM stream_records ORDER BY "offset"').fetchall()
        connection.close()
        return [row[0].decode() for row in rows]

    # A little with each append, so that none takes long; and all of it in the end.
    timed.stream.append(b"new-0")
    assert stored()[0] == "30"
    for number in range(1, 4):
        timed.stream.append(f"new-{number}")
    assert stored() == [f"new-{number}" for number in range(4)]
    assert timed.read() == stored()
    # The newest stays though it is old: the next offset follows from it.
    timed.clock.advance(3601)
    last = timed.stream.append(b"later")
    assert int(last.value) == 105
    assert stored() == ["later"]
    assert timed.read() == ["later"]
    timed.cloud.close()


# What is refused.


def test_limits_of_a_cloud_are_kept() -> None:
    config = {
        "resources": {"clicks": {"kind": "stream"}},
        "profiles": {"local": {"default": "memory:", "guard": {"limits": ["aws"]}}},
    }
    with Cloud(Config.from_dict(config, Path.cwd()).profile("local")) as cloud:
        stream = cloud.stream("clicks")
        stream.append(b"x" * 1000, key="k", attributes={"a": "b"})
        with pytest.raises(LimitExceeded, match="max_record_key_bytes"):
            stream.append(b"x", key="k" * 300)
        with pytest.raises(BatchError) as caught:
            stream.append_many([b"x", b"x" * (11 * 1024 * 1024)])
        assert isinstance(caught.value.result.failed[1], LimitExceeded)


def test_a_retention_beyond_a_cloud_is_refused() -> None:
    config = {
        "resources": {"clicks": {"kind": "stream", "retention": "4000d"}},
        "profiles": {"local": {"default": "memory:", "guard": {"limits": ["aws"]}}},
    }
    with (
        Cloud(Config.from_dict(config, Path.cwd()).profile("local")) as cloud,
        pytest.raises(LimitExceeded, match="max_retention_seconds"),
    ):
        cloud.stream("clicks")


def test_strict_needs() -> None:
    """A consumer needs the capability to keep groups, or a checkpoint, which every provider can serve."""
    config = {
        "resources": {
            "undeclared": {"kind": "stream"},
            "declared": {"kind": "stream", "needs": ["groups"]},
            "portable": {"kind": "stream", "checkpoint": "positions"},
            "positions": {"kind": "collection"},
        },
        "profiles": {"local": {"default": "memory:", "guard": {"needs": "strict"}}},
    }
    with Cloud(Config.from_dict(config, Path.cwd()).profile("local")) as cloud:
        with pytest.raises(Unsupported, match=r'needs = \["groups"\]'):
            cloud.stream("undeclared").consumer("g")
        for name in ("declared", "portable"):
            cloud.stream(name).append(b"x")
            assert len(cloud.stream(name).consumer("g").poll(timeout=0)) == 1


class Small(MemoryStream):
    """Takes little, and answers with errors when it is told to."""

    capabilities = StreamCapabilities(durability="none", max_batch=2, max_record_bytes=100)
    calls: list[int] = []  # noqa: RUF012 (the tests read it)

    def append(self, records: Sequence[NewRecord], *, timeout: float) -> list[Position | PortableError]:
        self.calls.append(len(records))
        if any(record.data == b"down" for record in records):
            raise Unavailable("the backend is down")
        good = [record for record in records if record.data != b"busy"]
        positions = iter(super().append(good, timeout=timeout))
        return [next(positions) if record.data != b"busy" else Throttled("too busy") for record in records]


register(Adapter(schemes={"small": {"stream": f"{__name__}:Small"}}, extra="embedded"))


@pytest.fixture
def small() -> Iterator[Any]:
    Small.calls.clear()
    with open_stream("small:") as stream:
        yield stream


def test_a_record_that_the_backend_does_not_take_is_not_sent(small: Any) -> None:
    small.append(b"x" * 80, key="k" * 10, attributes={"a": "b" * 9})
    for how in (
        {"data": b"x" * 101},
        {"data": b"x" * 81, "key": "k" * 20},
        {"data": b"", "attributes": {"a": "é" * 50}},
    ):
        with pytest.raises(LimitExceeded, match="at most 100"):
            small.append(**how)
    assert Small.calls == [1]


def test_an_error_of_the_backend_for_one_record(small: Any) -> None:
    with pytest.raises(Throttled, match="too busy") as caught:
        small.append(b"busy")
    assert caught.value.operation == "append"
    result = small.append_many(
        [
            Outgoing(b"a0", ordering_key="a"),
            Outgoing(b"busy", ordering_key="a"),
            Outgoing(b"a2", ordering_key="a"),
            Outgoing(b"b0", ordering_key="b"),
            b"busy",
            b"loose",
        ],
        return_errors=True,
    )
    assert set(result.failed) == {1, 2, 4}
    assert isinstance(result.failed[1], Throttled)
    assert "an earlier record of the key 'a'" in str(result.failed[2])


def test_a_backend_that_fails_is_not_asked_again(small: Any) -> None:
    result = small.append_many([b"0", b"1", b"2", b"down", b"4", b"5", b"6"], return_errors=True)
    assert set(result.failed) == {2, 3, 4, 5, 6}
    assert Small.calls == [2, 2]
    with pytest.raises(BatchError, match=r"3 of 3 records were not appended; the first is entry 0.*down") as caught:
        small.append_many([b"down", b"1", b"2"])
    assert caught.value.operation == "append_many"


def test_large_batches_are_split_by_their_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    append = MemoryStream.append

    def counted(self: Any, records: Sequence[NewRecord], *, timeout: float) -> list[Position | PortableError]:
        sizes.append(len(records))
        return append(self, records, timeout=timeout)

    monkeypatch.setattr(MemoryStream, "append", counted)
    with open_stream("memory:") as stream:
        stream.append_many([b"x" * 1024 * 1024] * 10)
    assert sizes == [4, 4, 2]


# Checkpoints.


class Ungrouped(MemoryStream):
    capabilities = StreamCapabilities(durability="none", groups=False)

    def backlog(self, partition: str, after: str, *, timeout: float) -> Any:
        return None if partition == "1" else super().backlog(partition, after, timeout=timeout)


register(Adapter(schemes={"groupless": {"stream": f"{__name__}:Ungrouped"}}, extra="embedded"))


def _cloud(collection: dict[str, Any], **stream: Any) -> Cloud:
    config = {
        "resources": {"clicks": {"kind": "stream", **stream}, "positions": {"kind": "collection", **collection}},
        "profiles": {"local": {"default": "memory:", "bind": {"clicks": "groupless:"}}},
    }
    return Cloud(Config.from_dict(config, Path.cwd()).profile("local"))


@pytest.mark.parametrize("collection", [{}, {"key": "name"}, {"key": "name", "partition": "tenant"}], ids=str)
def test_positions_in_a_collection_that_the_contract_names(collection: dict[str, Any]) -> None:
    with _cloud(collection, checkpoint="positions", partitions=3) as cloud:
        stream = cloud.stream("clicks")
        stream.append_many([b"0", b"1", b"2"])
        with stream.consumer("g") as consumer:
            assert len(consumer.poll(timeout=0)) == 3
            consumer.commit()
            assert consumer.lag() is None
        stream.append(b"3")
        with stream.consumer("g") as consumer:
            assert [record.data for record in consumer.poll(timeout=0)] == [b"3"]


def test_positions_in_a_collection_that_the_call_names() -> None:
    with _cloud({}) as cloud:
        stream = cloud.stream("clicks")
        with pytest.raises(Unsupported, match="checkpoint"):
            stream.consumer("g")
        with pytest.raises(ConfigError, match="positions"):
            stream.consumer("g", checkpoint="position")
        assert stream.consumer("g", checkpoint="positions").poll(timeout=0) == []
        assert stream.consumer("h", checkpoint=cloud.collection("positions")).poll(timeout=0) == []
        document = cloud.collection("positions").get("clicks/g").data
        assert set(document["partitions"]) == {"0", "1", "2", "3"}
        assert len(document["members"]) == 1


def test_members_that_race_for_one_document_all_get_their_share() -> None:
    with _cloud({}, checkpoint="positions", partitions=8) as cloud:
        stream = cloud.stream("clicks")
        stream.append_many([str(number) for number in range(80)])
        consumers = [stream.consumer("g") for _ in range(8)]
        got: list[bytes] = []
        lock = threading.Lock()
        ready = threading.Barrier(8)

        def read(consumer: Any) -> None:
            ready.wait()
            while True:
                records = consumer.poll(timeout=0.05)
                consumer.commit()
                with lock:
                    got.extend(record.data for record in records)
                    if len(got) >= 80:
                        return

        threads = [threading.Thread(target=read, args=(consumer,)) for consumer in consumers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(got) == sorted(str(number).encode() for number in range(80))


# Files.


def test_a_missing_stream_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    file = tmp_path / "app.db"
    with (
        open_stream(f"sqlite:{file}", name="clicks", create="never") as stream,
        pytest.raises(ResourceNotFound, match="portable resources create"),
    ):
        stream.append(b"x")
    assert not file.exists()
    with open_stream(f"sqlite:{file}", name="others", durability="process") as stream:
        stream.append(b"x")
    with open_stream(f"sqlite:{file}", name="clicks", create="never") as stream:
        with pytest.raises(ResourceNotFound, match="no stream 'clicks'"):
            stream.append(b"x")
        with pytest.raises(ResourceNotFound):
            stream.check()


def test_plan_and_create(tmp_path: Path) -> None:
    file = tmp_path / "app.db"
    with open_stream(f"sqlite:{file}", name="clicks", partitions=3, create="never", durability="process") as stream:
        driver: Any = stream._driver
        (change,) = driver.plan()
        assert (change.action, change.what, change.name) == ("create", "stream", "clicks")
        assert not file.exists()
        driver.create()
        driver.create()
        assert driver.plan() == []
        assert stream.partitions() == ["0", "1", "2"]
    with open_stream(f"sqlite:{file}", name="clicks", partitions=4, create="never") as stream:
        (change,) = stream._driver.plan()
        assert change.action == "differs"
        assert "3 partitions" in change.detail
    with open_stream(f"sqlite:{file}", name="other", create="never") as stream:
        (change,) = stream._driver.plan()
        assert change.action == "create"


def test_the_file_is_readable_without_us(tmp_path: Path) -> None:
    file = tmp_path / "app.db"
    with open_stream(f"sqlite:{file}", name="clicks", durability="process") as stream:
        stream.append(b"\x00data", key="k", attributes={"a": "é"})
        with stream.consumer("g") as consumer:
            assert len(consumer.poll(timeout=0)) == 1
            consumer.commit()
        native: Any = stream.native
        assert native.fetch("SELECT count(*) FROM stream_record") == [(1,)]
    connection = sqlite3.connect(file)
    ((stream_name, partition, offset, time, key, data, attributes),) = connection.execute(
        "SELECT * FROM stream_records"
    )
    assert (stream_name, offset, key, data, attributes) == ("clicks", 1, "k", b"\x00data", '{"a":"é"}')
    assert abs(time / 1_000_000 - datetime.now(UTC).timestamp()) < 3600
    (position,) = connection.execute(
        "SELECT state ->> ('$.partitions.' || ? || '.position') FROM stream_group", (partition,)
    )
    assert position == (f"{offset:020d}",)
    connection.close()


def test_several_streams_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "app.db"
    for name in ("one", "two", "three"):
        with open_stream(f"sqlite:{file}", name=name, partitions=2, durability="process") as stream:
            stream.append(name, key="k")
            found = [record.data.decode() for partition in stream.partitions() for record in stream.read(partition)]
            assert found == [name]


def test_what_it_declares(tmp_path: Path) -> None:
    with open_stream("memory:") as stream:
        assert stream.capabilities.durability == "none"
        assert stream.capabilities.groups
        assert isinstance(stream.native, list)
    for durability in ("power", "process"):
        with open_stream(f"sqlite:{tmp_path / 'app.db'}", durability=durability) as stream:
            assert stream.capabilities.durability == durability
    with pytest.raises(ConfigError, match="durability"):
        open_stream(f"sqlite:{tmp_path / 'app.db'}", durability="hope").append(b"x")


# Around operations.


def test_places_of_errors(url: str) -> None:
    with open_stream(url, name="clicks") as stream:
        with pytest.raises(NotFound) as caught:
            stream.read("99")
        assert (caught.value.resource, caught.value.operation) == ("clicks", "read")
        with pytest.raises(InvalidArgument, match="twenty digits"):
            stream.read("0", after=Position("0", "12"))
        consumer = stream.consumer("g", start=END)
        with pytest.raises(NotFound) as caught:
            consumer.seek(Position("99", "0" * 20))
        assert caught.value.operation == "seek"
        with pytest.raises(InvalidArgument, match="twenty digits"):
            consumer.seek(Position("0", "12"))
        assert repr(consumer) == "<StreamConsumer of group 'g' on 'clicks'>"


class Recorder:
    """A hook that notes what it sees, and refuses when it is told to."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str, str, str]] = []
        self.refuses = False

    def begin(self, resource: str, kind: str, provider: str, operation: str) -> Running:
        self.seen.append((resource, kind, provider, operation))
        if self.refuses:
            raise Throttled("refused by the test")
        return self

    delay = 0.0

    def end(self, error: BaseException | None) -> None:
        pass


def test_hooks_see_what_a_consumer_does() -> None:
    recorder = Recorder()
    with Cloud(Profile.single("stream", "memory:", {"name": "clicks"}), hooks=(recorder,)) as cloud:
        stream = cloud.stream("clicks")
        stream.append(b"x")
        consumer = stream.consumer("g")
        assert len(consumer.poll(timeout=5)) == 1
        # Waiting in vain for as long as it was told is no failure.
        assert consumer.poll(timeout=0.01) == []
        recorder.refuses = True
        recorder.seen.clear()
        for operation, call in (
            ("poll", lambda: consumer.poll(timeout=0)),
            ("commit", consumer.commit),
            ("lag", consumer.lag),
            ("seek", lambda: consumer.seek(Position("0", ""))),
        ):
            with pytest.raises(Throttled) as caught:
                call()
            assert caught.value.operation == operation
            assert recorder.seen.pop() == ("clicks", "stream", "memory", operation)
            assert recorder.seen == []


def test_no_thread_before_a_consumer_reads_and_none_after_close(url: str) -> None:
    before = set(threading.enumerate())
    stream = open_stream(url)
    stream.append(b"x")
    consumer = stream.consumer("g")
    assert set(threading.enumerate()) == before
    assert len(consumer.poll(timeout=5)) == 1
    stream.append(b"y")
    assert len(consumer.poll(timeout=5)) == 1
    assert consumer.poll(timeout=0.01) == []
    stream.close()
    assert set(threading.enumerate()) <= before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this platform")
def test_a_consumer_is_its_own_processs(url: str) -> None:
    with open_stream(url) as stream:
        stream.append_many([b"x"] * 8)
        consumer = stream.consumer("g")
        assert len(consumer.poll(timeout=5)) == 8
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for call in (lambda: consumer.poll(timeout=0), consumer.commit, lambda: next(consumer)):
                    with pytest.raises(Closed, match="forked"):
                        call()
                consumer.close()
                stream.append(b"from the child")
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        consumer.commit()
        assert consumer.lag() == (0 if url == "memory:" else 1)


def test_a_consumer_is_closed_in_a_forked_child_whatever_it_was_doing() -> None:
    with open_stream("memory:") as stream:
        stream.append(b"x")
        consumer = stream.consumer("g")
        assert len(consumer.poll(timeout=5)) == 1
        consumer._keeper.close()
        # What happens in the child, without a child.
        stream._forked()
        for call in (consumer.poll, consumer.commit, lambda: next(consumer)):
            with pytest.raises(Closed, match="forked"):
                call()
        consumer.close()
        assert len(stream.consumer("other").poll(timeout=5)) == 1


def test_a_backend_that_does_not_answer_a_heartbeat_is_asked_again() -> None:
    with open_stream("memory:") as stream:
        consumer: Any = stream.consumer("g")
        assert consumer.poll(timeout=0) == []

        def unavailable(*, timeout: float) -> None:
            raise Unavailable("not now")

        def refused(*, timeout: float) -> None:
            raise ConfigError("never")

        consumer._member.heartbeat = unavailable
        consumer._heartbeat()
        consumer._member.heartbeat = refused
        with pytest.raises(ConfigError):
            consumer._heartbeat()


def test_a_consumer_that_is_closed_while_it_begins_keeps_no_thread() -> None:
    before = set(threading.enumerate())
    with open_stream("memory:") as stream:
        consumer: Any = stream.consumer("g")
        consumer._closed = "closed meanwhile"
        with pytest.raises(Closed, match="meanwhile"):
            consumer._keep()
        assert set(threading.enumerate()) == before


def test_a_document_that_others_change_all_the_time() -> None:
    with _cloud({}, checkpoint="positions") as cloud:
        collection = cloud.collection("positions")
        consumer: Any = cloud.stream("clicks").consumer("g")
        put = collection.put

        def late(data: Any, **how: Any) -> Any:
            raise PreconditionFailed("somebody was faster")

        collection.put = late  # type: ignore[method-assign]  # the others
        with pytest.raises(DeadlineExceeded, match="changed by others"):
            consumer._member._ledger.update("g", lambda state: state.members.update(x=1.0), timeout=0.05)
        collection.put = put  # type: ignore[method-assign]  # no others any more
        assert consumer.poll(timeout=0) == []


def test_a_record_is_whole() -> None:
    with open_stream("memory:") as stream:
        position = stream.append(b"x", key="k")
        (record,) = stream.read(position.partition)
        assert isinstance(record, Record)
        assert record == Record(b"x", "k", {}, position.partition, position, record.timestamp)
        with pytest.raises(ValueError, match="not a position"):
            Position.parse("nothing")
