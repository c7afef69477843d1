"""SQS on ministack and on ElasticMQ, by the suite of queues, in both faces."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
from botocore.exceptions import EndpointConnectionError

from portable import open_queue
from portable.errors import ConfigError, LimitExceeded, PortableError, PreconditionFailed, ResourceNotFound, Unavailable
from portable.messages import Outgoing
from portable.testing.aio.queue import QueueSuite as AsyncQueueSuite
from portable.testing.queue import QueueSuite
from portable.wire import PACKED
from portable_aws.sqs_batches import send_all
from portable_aws.sqs_messages import Entry, packed, unpacked
from tests.targets import target

MOST = 1024 * 1024


class _Ministack:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("ministack", "queue")


class _ElasticMq:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("elasticmq", "queue")


class TestSqs(_Ministack, QueueSuite):
    pass


class TestSqsAsync(_Ministack, AsyncQueueSuite):
    pass


class TestSqsOnElasticMq(_ElasticMq, QueueSuite):
    pass


class TestSqsOnElasticMqAsync(_ElasticMq, AsyncQueueSuite):
    pass


@pytest.fixture(params=["ministack", "elasticmq"])
def url(request: pytest.FixtureRequest) -> str:
    return target(request.param, "queue")


@pytest.mark.parametrize("body", [b"", b"text\r\n", b"\xff\n\0", b"<&>", "\ufffe 🏔".encode()])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"a": "1"},
        {"": "", "AWS.x": "1", "a..b": "1", ".a": "1", "n" * 300: "1", "empty": "", "control": "\x01", "ok": "🏔"},
        {f"name-{number}": "1" for number in range(25)},
        {f"name-{number}": "1" for number in range(10)},
    ],
)
@pytest.mark.parametrize("to", ["fifo", "standard"])
@pytest.mark.parametrize("key", [None, "a", " 🚲", "portable-a", "k" * 200])
def test_messages_carry_what_the_service_does_not_take(
    body: bytes, attributes: dict[str, str], key: str | None, to: str
) -> None:
    fifo = to == "fifo"
    made = packed(Outgoing(body, attributes, ordering_key=key), fifo=fifo, keyed=not fifo, most_bytes=MOST)
    assert made.text
    assert len(made.attributes) <= 10
    assert all(one["StringValue"] for one in made.attributes.values())
    assert made.attributes.get(PACKED, {"StringValue": ""})["StringValue"].isascii()
    assert (made.group is not None) == fifo
    assert unpacked(made.text, made.attributes, made.group) == (body, attributes, key)


def test_eight_attributes_stay_as_they_are() -> None:
    attributes = {f"name-{number}": "1" for number in range(8)}
    made = packed(Outgoing(b"\xff", {**attributes, "": "2"}, ordering_key="🚲"), fifo=True, keyed=True, most_bytes=MOST)
    assert set(attributes) < set(made.attributes)


def test_text_that_only_says_it_is_encoded_stays_as_it_is() -> None:
    marked = {"portable-encoding": {"DataType": "String", "StringValue": "base64"}}
    assert unpacked("no Base64!", marked, None).body == b"no Base64!"


def test_what_others_sent_is_read_as_it_is(url: str) -> None:
    with open_queue(url, name="of-others", create="if_missing") as queue:
        queue.receive(wait=0)
        where = queue.native.get_queue_url(QueueName="of-others")["QueueUrl"]
        attributes = {
            "text": {"DataType": "String", "StringValue": "a"},
            "number": {"DataType": "Number", "StringValue": "7"},
            "bytes": {"DataType": "Binary", "BinaryValue": b"\xff"},
        }
        queue.native.send_message(QueueUrl=where, MessageBody="plain", MessageAttributes=attributes)
        (message,) = queue.receive(wait=20)
        message.ack()
        assert (message.body, message.attributes) == (b"plain", {"text": "a", "number": "7", "bytes": "/w=="})


def test_the_queue_says_what_was_declared(url: str) -> None:
    with open_queue(url, name="declared", visibility_timeout="90s", max_deliveries=7, create="if_missing") as queue:
        queue.receive(wait=0)
        found = _attributes(queue, "declared")
        assert found["VisibilityTimeout"] == "90"
        assert '"maxReceiveCount"' in found["RedrivePolicy"]
        assert "declared-dead" in found["RedrivePolicy"]
        tags = queue.native.list_queue_tags(QueueUrl=queue.native.get_queue_url(QueueName="declared")["QueueUrl"])
        assert tags["Tags"]["made-by"] == "portable"
        assert queue._driver.plan() == []
    with open_queue(url, name="declared", visibility_timeout="60s", max_deliveries=9, create="if_missing") as queue:
        changes = queue._driver.plan()
        assert [change.action for change in changes] == ["change", "change"]
        queue.receive(wait=0)
        assert _attributes(queue, "declared")["VisibilityTimeout"] == "60"


def test_no_policy_moves_what_may_be_delivered_more_often_than_it_can_say() -> None:
    # ElasticMQ refuses an empty policy, by which SetQueueAttributes removes one.
    url = target("ministack", "queue")
    with open_queue(url, name="patient", create="if_missing") as queue:
        queue.receive(wait=0)
        assert _attributes(queue, "patient")["RedrivePolicy"]
    with open_queue(url, name="patient", max_deliveries=1001, create="if_missing") as queue:
        queue.receive(wait=0)
        assert not _attributes(queue, "patient").get("RedrivePolicy")
        assert queue._driver.plan() == []


def test_repeats_are_dropped_in_an_ordered_queue(url: str) -> None:
    with open_queue(url, name="fifo", ordered=True, create="if_missing") as queue:
        assert queue.capabilities.dedup
        assert not queue.capabilities.delay
        first = queue.send(b"first", ordering_key="a", dedup_id="once, 🏔")
        assert queue.send(b"repeat", ordering_key="a", dedup_id="once, 🏔") == first
        queue.send(b"second", ordering_key="a", dedup_id="twice")
        for body in (b"first", b"second"):
            (message,) = queue.receive(10, wait=20)
            assert message.body == body
            message.ack()
        assert queue.receive(wait=0) == []


def test_large_batches_are_cut_by_size() -> None:
    # ElasticMQ keeps the 256 KiB that a message and a batch had before:
    # https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
    url = target("ministack", "queue")
    with open_queue(url, name="large", create="if_missing") as queue:
        result = queue.send_many([bytes([65 + number]) * 200_000 for number in range(9)])
        assert result.failed == {}
        found: set[bytes] = set()
        while len(found) < 9:
            messages = queue.receive(10, wait=20)
            assert messages
            found |= {message.body[:1] for message in messages}
            queue.ack_many(messages)
        with pytest.raises(LimitExceeded):
            queue.send(b"\xff" * 800_000)
        with pytest.raises(LimitExceeded):
            queue.send(b"later", delay=901)


def _entry(group: str | None = None, size: int = 1) -> Entry:
    return Entry("text", {}, size, group)


def test_what_is_refused_holds_back_its_key_alone() -> None:
    calls: list[list[str]] = []

    def call(batch: list[tuple[str, Entry]]) -> Any:
        calls.append([id_ for id_, _ in batch])
        failed = [{"Id": "0", "Code": "InternalError", "Message": "", "SenderFault": False}]
        sent = [{"Id": id_, "MessageId": f"id-{id_}"} for id_, _ in batch if id_ != "0"]
        return {"Successful": sent, "Failed": failed if "0" in calls[-1] else []}

    keys = ["a", "b", "a", None, "b", None]
    entries = [_entry(key) for key in keys]
    answers = send_all(entries, keys, call, most_bytes=100)
    assert isinstance(answers[0], Unavailable)
    assert isinstance(answers[2], PreconditionFailed)
    assert [answers[index] for index in (1, 3, 4, 5)] == ["id-1", "id-3", "id-4", "id-5"]
    assert calls == [["0", "1", "3", "5"], ["4"]]


def test_a_batch_that_fails_half_way_says_what_was_sent() -> None:
    def call(batch: list[tuple[str, Entry]]) -> Any:
        if batch[0][0] != "0":
            raise EndpointConnectionError(endpoint_url="http://nowhere")
        return {"Successful": [{"Id": id_, "MessageId": id_} for id_, _ in batch]}

    entries: list[Entry | PortableError] = [_entry(size=60), LimitExceeded("large"), _entry(size=60), _entry(size=60)]
    answers = send_all(entries, [None] * 4, call, most_bytes=100)
    assert answers[0] == "0"
    assert isinstance(answers[1], LimitExceeded)
    assert isinstance(answers[2], Unavailable)
    assert isinstance(answers[3], Unavailable)


def test_a_missing_queue_names_the_command(url: str) -> None:
    with open_queue(url, name="nowhere") as queue, pytest.raises(ResourceNotFound, match="portable resources create"):
        queue.send(b"body")


def test_a_service_that_is_not_there_is_unavailable() -> None:
    url = "sqs://jobs?region=eu-west-1&endpoint=http://127.0.0.1:9&access_key_id=a&secret_access_key=planted"
    with open_queue(url, retries=0, timeout="5s") as queue, pytest.raises(Unavailable) as caught:
        queue.send(b"body")
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "sqs://acme/jobs?region=eu-west-1",
        "sqs://123456789012/jobs?region=eu-west-1&account=123456789012",
        "sqs://jobs.fifo?region=eu-west-1",
        "sqs://a%20b?region=eu-west-1",
        "sqs://jobs?region=eu-west-1&access_key_id=a",
        "sqs://jobs?regio=eu-west-1",
    ],
)
def test_urls_that_make_no_sense(url: str) -> None:
    with pytest.raises((ConfigError, LimitExceeded)):
        open_queue(url)


def test_leases_beyond_what_the_service_takes() -> None:
    with pytest.raises(ConfigError, match="at most 43200"):
        open_queue("sqs://jobs?region=eu-west-1", visibility_timeout="13h")


def _attributes(queue: Any, name: str) -> dict[str, str]:
    where = queue.native.get_queue_url(QueueName=name)["QueueUrl"]
    found: dict[str, str] = queue.native.get_queue_attributes(QueueUrl=where, AttributeNames=["All"])["Attributes"]
    return found
