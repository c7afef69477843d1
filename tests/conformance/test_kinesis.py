"""Kinesis on ministack in both faces, on moto and on Kinesalite, by the suite of streams."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from portable import open_collection, open_stream
from portable.errors import (
    ConfigError,
    DeadlineExceeded,
    InvalidArgument,
    LimitExceeded,
    PortableError,
    PreconditionFailed,
    ResourceNotFound,
    Throttled,
    Unavailable,
)
from portable.records import NewRecord, Position
from portable.testing.aio.stream import StreamSuite as AsyncStreamSuite
from portable.testing.stream import StreamSuite
from portable_aws.kinesis_puts import Puts
from portable_aws.kinesis_records import Entry, moment_of, moment_value, packed, record, sequence, value
from tests.targets import target

DAY = 86400.0


class _Ministack:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("ministack", "stream")


class _Moto:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("moto", "stream")


class _Kinesalite:
    """A server that has no DynamoDB, with that of another."""

    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        (tables,) = parse_qs(urlsplit(target("ministack", "collection")).query)["endpoint"]
        cls.url = f"{target('kinesalite')}&checkpoint_endpoint={tables}"


class TestKinesis(_Ministack, StreamSuite):
    pass


class TestKinesisAsync(_Ministack, AsyncStreamSuite):
    pass


@pytest.mark.thorough
class TestKinesisOnMoto(_Moto, StreamSuite):
    pass


@pytest.mark.thorough
class TestKinesisOnKinesalite(_Kinesalite, StreamSuite):
    pass


@pytest.fixture
def url() -> str:
    return target("ministack", "stream")


@pytest.fixture
def name() -> str:
    return f"t{uuid.uuid4().hex}"


# What is stored.


@pytest.mark.parametrize("data", [b"", b"\xff\n\0", b"portable1:", b"portable1:{}\nx"])
@pytest.mark.parametrize("attributes", [{}, {"": "", "a": "1", "portable": "🏔", "nul\0": "\x01"}])
@pytest.mark.parametrize(
    "key", [None, "a", " 🚲", "portable-a", "portable-" + "0" * 32, "k" * 256, "k" * 257, "🏔" * 256]
)
def test_records_carry_what_the_service_does_not_take(data: bytes, attributes: dict[str, str], key: str | None) -> None:
    made = packed(NewRecord(data, key, attributes or None))
    assert 1 <= len(made.key) <= 256
    assert (made.data == data) == (not attributes and (key is None or made.key == key) and data[:10] != b"portable1:")
    found = _read(made)
    assert (found.data, found.key, found.attributes) == (data, key, attributes)


def test_what_others_put_is_read_as_it_is(url: str, name: str) -> None:
    assert _read(Entry(b"portable1:no JSON\nx", "portable-x", 0)).data == b"portable1:no JSON\nx"
    assert _read(Entry(b"portable1:", "k", 0)).data == b"portable1:"
    with open_stream(url, name=name, create="if_missing") as stream:
        stream.check()
        put = stream.native.put_record(StreamName=name, Data=b"\xff", PartitionKey="portable-x")
        (found,) = stream.read(put["ShardId"])
        assert (found.data, found.key, found.attributes) == (b"\xff", "portable-x", {})
        assert found.position.value.endswith(put["SequenceNumber"])


def test_positions_are_sequence_numbers() -> None:
    assert sequence(value("0017")) == "0017"
    assert value("9") < value("10") < value("4" * 56)
    assert "" < moment_value(1_800_000_000) < value("4")
    assert moment_of(value("17")) is None
    moment = moment_of(moment_value(17))
    assert moment is not None
    assert moment.timestamp() == 17
    for wrong in ("no such place", "003-17", "17", "003-1a7", moment_value(17)):
        with pytest.raises(InvalidArgument):
            sequence(wrong)


def test_what_is_too_large_is_refused(url: str, name: str) -> None:
    with open_stream(url, name=name, create="if_missing") as stream:
        position = stream.append(b"x" * 1_000_000, key="k")
        assert len(stream.read(position.partition)[0].data) == 1_000_000
        with pytest.raises(LimitExceeded):
            stream.append(b"x" * 1_048_577)
        # As JSON each of these characters is six.
        result = stream.append_many(
            [NewRecord(b"", "k", {"a": "\x01" * 200_000}), NewRecord(b"", "k"), NewRecord(b"", "other")],
            return_errors=True,
        )
        assert isinstance(result.results[0], LimitExceeded)
        assert isinstance(result.results[1], PreconditionFailed)
        assert isinstance(result.results[2], Position)


# The stream itself.


def test_the_stream_says_what_was_declared(url: str, name: str) -> None:
    with open_stream(url, name=name, partitions=2, retention="10d", create="if_missing") as stream:
        stream.check(write=True)
        summary = _summary(stream, name)
        assert (summary["RetentionPeriodHours"], summary["OpenShardCount"]) == (240, 2)
        tags = stream.native.list_tags_for_stream(StreamName=name)["Tags"]
        assert tags == [{"Key": "made-by", "Value": "portable"}]
        assert [change.action for change in stream._driver.plan()] == ["create"]
        stream._driver.create()
        assert stream._driver.plan() == []
    with open_stream(url, name=name, partitions=3, retention="1h", create="if_missing") as stream:
        assert sorted(change.action for change in stream._driver.plan()) == ["change", "differs"]
        stream.check()
        # What is kept for less than a day is kept for a day.
        assert _summary(stream, name)["RetentionPeriodHours"] == 24
    with pytest.raises(ConfigError, match="365"):
        open_stream(url, name=name, retention="366d")


def test_the_groups_are_in_the_table_beside_it_or_in_the_collection_that_is_named(url: str, name: str) -> None:
    with (
        open_stream(url, name=name, partitions=1, create="if_missing") as stream,
        open_collection(f"memory:{name}", name="positions") as positions,
        open_collection(target("ministack", "collection"), name=f"{name}-checkpoints") as table,
    ):
        stream.append_many([b"1", b"2"])
        with stream.consumer("group") as consumer:
            assert [one.data for one in consumer.poll(timeout=20, max_records=1)] == [b"1"]
            consumer.commit()
        with stream.consumer("group", checkpoint=positions) as consumer:
            assert [one.data for one in consumer.poll(timeout=20)] == [b"1", b"2"]
            consumer.commit()
        with stream.consumer("group") as consumer:
            assert [one.data for one in consumer.poll(timeout=20)] == [b"2"]
        beside, named = table.get(f"{name}/group").data, positions.get(f"{name}/group").data
        (shard,) = stream.partitions()
        assert beside["partitions"][shard]["position"] < named["partitions"][shard]["position"]


def test_missing_streams_and_tables_name_the_command(url: str, name: str) -> None:
    with open_stream(url, name="nowhere") as stream, pytest.raises(ResourceNotFound, match="portable resources create"):
        stream.append(b"data")
    with open_stream(url, name=name, create="if_missing") as stream:
        stream.check()
    with open_stream(url, name=name) as stream, pytest.raises(ResourceNotFound, match="portable resources create"):
        stream.consumer("group")


def test_a_service_that_is_not_there_is_unavailable() -> None:
    url = "kinesis://clicks?region=eu-west-1&endpoint=http://127.0.0.1:9&access_key_id=a&secret_access_key=planted"
    with open_stream(url, retries=0, timeout="5s") as stream, pytest.raises(Unavailable) as caught:
        stream.append(b"data")
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "kinesis://acme/clicks?region=eu-west-1",
        "kinesis://123456789012/clicks?region=eu-west-1&account=123456789012",
        "kinesis://a%20b?region=eu-west-1",
        "kinesis://clicks?region=eu-west-1&access_key_id=a",
        "kinesis://clicks?regio=eu-west-1",
    ],
)
def test_urls_that_make_no_sense(url: str) -> None:
    with pytest.raises((ConfigError, LimitExceeded)):
        open_stream(url)


def test_a_stream_of_another_account_is_named_in_full() -> None:
    url = "kinesis://123456789012/clicks?region=eu-west-1&access_key_id=a&secret_access_key=b"
    with open_stream(url) as stream:
        address = stream._driver._setup.address()  # type: ignore[attr-defined]  # the driver's own
    assert address == {"StreamARN": "arn:aws:kinesis:eu-west-1:123456789012:stream/clicks"}


# What a call of PutRecords does not take.


class _Service:
    """Answers PutRecords: refuses partition keys as often as it is told, and keeps the rest in order."""

    def __init__(self, **refusals: int) -> None:
        self.refusals = refusals
        self.calls: list[list[str]] = []
        self.kept: list[str] = []
        self.code = "ProvisionedThroughputExceededException"

    def __call__(self, records: list[dict[str, Any]]) -> Any:
        self.calls.append([one["PartitionKey"] for one in records])
        answers: list[dict[str, str]] = []
        for one in records:
            key = one["PartitionKey"]
            if self.refusals.get(key, 0) > 0:
                self.refusals[key] -= 1
                answers.append({"ErrorCode": self.code, "ErrorMessage": "slow down"})
            else:
                self.kept.append(one["Data"].decode())
                answers.append({"ShardId": "shard", "SequenceNumber": str(len(self.kept))})
        return {"Records": answers}


def _entries(*keys: str, size: int = 1) -> list[Entry | PortableError]:
    return [Entry(f"{key}{number}".encode(), key, size) for number, key in enumerate(keys)]


def test_what_is_refused_is_put_again_alone_and_in_order() -> None:
    service = _Service(a=2)
    answers = Puts(service, retries=3, deadline=DAY * 365 * 100).run(_entries(*"abab"), list("abab"))
    assert all(isinstance(answer, Position) for answer in answers)
    assert service.calls == [["a", "b"], ["a"], ["a"], ["a", "b"]]
    assert service.kept == ["b1", "a0", "a2", "b3"]


def test_what_is_refused_for_good_holds_back_its_key_alone() -> None:
    service = _Service(a=100)
    answers = Puts(service, retries=1, deadline=DAY * 365 * 100).run(_entries(*"abab"), list("abab"))
    assert isinstance(answers[0], Throttled)
    assert isinstance(answers[1], Position)
    assert isinstance(answers[2], PreconditionFailed)
    assert isinstance(answers[3], Position)
    service = _Service(a=1)
    service.code = "InternalFailure"
    (answer,) = Puts(service, retries=3, deadline=0.0).run(_entries("a"), ["a"])
    assert isinstance(answer, Unavailable)
    assert len(service.calls) == 1


def test_calls_are_packed_by_count_and_size() -> None:
    service = _Service()
    Puts(service, retries=0, deadline=0.0).run(_entries(*"abcde", size=1024 * 1024 + 1), [None] * 5)
    assert [len(call) for call in service.calls] == [4, 1]
    service = _Service()
    Puts(service, retries=0, deadline=0.0).run(_entries(*["a"] * 600), [None] * 600)
    assert [len(call) for call in service.calls] == [500, 100]
    service = _Service()
    refused: list[Entry | PortableError] = [LimitExceeded("large"), *_entries("a", "b")]
    answers = Puts(service, retries=0, deadline=0.0).run(refused, ["a", "a", "b"])
    assert [type(answer) for answer in answers] == [LimitExceeded, PreconditionFailed, Position]


@pytest.mark.parametrize("kept", [0, 1])
def test_an_answer_that_is_lost_is_not_asked_for_again(kept: int) -> None:
    calls: list[int] = []

    def call(records: list[dict[str, Any]]) -> Any:
        calls.append(len(records))
        if len(calls) > kept:
            raise ReadTimeoutError(endpoint_url="http://nowhere")
        return {"Records": [{"ShardId": "shard", "SequenceNumber": "1"}]}

    puts = Puts(call, retries=5, deadline=DAY * 365 * 100)
    if kept == 0:
        with pytest.raises(DeadlineExceeded) as caught:
            puts.run(_entries("a"), ["a"])
        assert caught.value.maybe_applied
    else:
        answers = puts.run(_entries(*"aaa"), list("aaa"))
        assert [type(answer) for answer in answers] == [Position, DeadlineExceeded, PreconditionFailed]
        assert isinstance(answers[1], DeadlineExceeded)
        assert answers[1].maybe_applied
    assert len(calls) == kept + 1


def test_a_call_that_reached_nobody_is_made_again() -> None:
    calls: list[int] = []

    def call(records: list[dict[str, Any]]) -> Any:
        calls.append(len(records))
        if len(calls) == 1:
            raise EndpointConnectionError(endpoint_url="http://nowhere")
        return {"Records": [{"ShardId": "shard", "SequenceNumber": "1"}]}

    assert Puts(call, retries=1, deadline=DAY * 365 * 100).run(_entries("a"), [None]) == [Position("shard", value("1"))]


def _read(entry: Entry) -> Any:

    taken = datetime.now(UTC)
    return record(
        "shard",
        {
            "Data": entry.data,
            "PartitionKey": entry.key,
            "SequenceNumber": "1",
            "ApproximateArrivalTimestamp": taken,
        },
    )


def _summary(stream: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = stream.native.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    return found
