"""SQS and SNS that refuse, throttle or do half of a batch, as only these two do."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portable import open_queue, open_subscription, open_topic
from portable.errors import (
    BatchError,
    ConfigError,
    PermissionDenied,
    ResourceNotFound,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from tests.faults.between import Answer, Between, Request, lost, times
from tests.faults.cloud_queues import Amazon, opened, received
from tests.patience import PATIENCE
from tests.targets import target

AMAZON = "sqs://jobs?region=eu-west-1&endpoint=http://127.0.0.1:9"


@pytest.fixture
def name() -> str:
    return f"f-{uuid.uuid4().hex[:16]}"


def test_amazon_without_credentials_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    with open_queue(AMAZON) as queue, pytest.raises(Unauthenticated, match="no credentials"):
        queue.send(b"body")
    with (
        open_queue(AMAZON, credentials={"profile": "nobody"}) as queue,
        pytest.raises(ConfigError, match="no such profile"),
    ):
        queue.send(b"body")


@pytest.mark.parametrize(
    "text", ["Signature expired: 20260101T000000Z is now earlier than", "Signature not yet current: 20270101T000000Z"]
)
def test_a_clock_that_differs_from_amazons_is_told(name: str, text: str) -> None:
    vendor = Amazon()
    body = json.dumps({"__type": "com.amazon.coral.service#InvalidSignatureException", "message": text}).encode()
    with vendor.between, opened(vendor, name) as queue:
        vendor.between.faults[vendor.sending] = lambda request, passed: Answer(403, body)
        with pytest.raises(Unauthenticated, match="clock"):
            queue.send(b"body")


def test_a_repeat_after_a_lost_answer_is_dropped_where_the_queue_drops_repeats(name: str) -> None:
    vendor = Amazon()
    with vendor.between, opened(vendor, name, ordered=True, retries=3) as queue:
        vendor.between.faults[vendor.sending] = times(1, lost)
        queue.send(b"one", ordering_key="k")
        queue.send(b"two", ordering_key="k")
        assert vendor.between.calls[vendor.sending] == 3
        assert received(queue, 2) == [b"one", b"two"]


def test_amazon_refuses_half_of_a_batch(name: str) -> None:
    vendor = Amazon()

    def half(request: Request, passed: Callable[[Request], Answer]) -> Answer:
        body = json.loads(request.body)
        kept = [one for one in body["Entries"] if int(one["Id"]) % 2]
        answer = passed(
            Request(request.method, request.path, request.headers, json.dumps({**body, "Entries": kept}).encode())
        )
        found = json.loads(answer.body)
        found["Successful"] = found["Successful"][::-1]
        found["Failed"] = [
            {"Id": one["Id"], "Code": code, "Message": "on purpose", "SenderFault": code == "AccessDenied"}
            for one, code in zip(
                (one for one in body["Entries"] if int(one["Id"]) % 2 == 0),
                ("InternalError", "RequestThrottled", "AccessDenied", "KmsOdd", "InternalError"),
                strict=False,
            )
        ]
        return Answer(200, json.dumps(found).encode(), {"Content-Type": "application/x-amz-json-1.0"})

    with vendor.between, opened(vendor, name) as queue:
        vendor.between.faults[vendor.sending] = half
        with pytest.raises(BatchError) as caught:
            queue.send_many([str(number) for number in range(10)])
        failed = caught.value.result.failed
        assert {index: type(error) for index, error in failed.items()} == {
            0: Unavailable,
            2: Throttled,
            4: PermissionDenied,
            6: Unavailable,
            8: Unavailable,
        }
        assert name in str(caught.value)
        vendor.between.faults.clear()
        messages: list[Any] = []
        while len(messages) < 5:
            messages += queue.receive(10, wait=20)
        ids = caught.value.result.succeeded
        bodies = {message.id: message.body.decode() for message in messages}
        assert [bodies[id_] for id_ in ids] == ["1", "3", "5", "7", "9"]

        def none_settled(request: Request, passed: Any) -> Answer:
            entries = json.loads(request.body)["Entries"]
            kept = [{"Id": one["Id"], "Code": "InternalError", "SenderFault": False} for one in entries[:2]]
            rest = json.dumps({**json.loads(request.body), "Entries": entries[2:]}).encode()
            answer = passed(Request(request.method, request.path, request.headers, rest))
            return Answer(200, json.dumps({**json.loads(answer.body), "Failed": kept}).encode(), answer.headers)

        vendor.between.faults[vendor.settling] = none_settled
        with pytest.raises(BatchError) as settling:
            queue.ack_many(messages)
        assert {index: type(error) for index, error in settling.value.result.failed.items()} == {
            0: Unavailable,
            1: Unavailable,
        }
        vendor.between.faults.clear()
        queue.ack_many(messages[:2])


def test_amazon_topics_throttle_refuse_and_lose(name: str) -> None:
    url = target("ministack", "topic")
    with (
        Between(url) as between,
        open_topic(between.url, name=name, create="if_missing", retries=1, timeout=PATIENCE) as topic,
    ):
        how: dict[str, Any] = {"name": f"{name}-s", "topic": name, "create": "if_missing"}
        with open_subscription(url, **how) as queue:
            queue.check()
            topic.check()

            def refused(code: str) -> Callable[..., Answer]:
                body = (
                    '<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type>'
                    f"<Code>{code}</Code><Message>on purpose</Message></Error></ErrorResponse>"
                ).encode()
                return lambda request, passed: Answer(400, body, {"Content-Type": "text/xml"})

            between.faults["PublishBatch"] = times(1, refused("Throttling"))
            topic.publish(b"throttled once")
            for code, ours in {
                "Throttling": Throttled,
                "ExpiredToken": Unauthenticated,
                "InvalidClientTokenId": Unauthenticated,
                "AuthorizationError": PermissionDenied,
                "NotFound": ResourceNotFound,
            }.items():
                between.faults["PublishBatch"] = refused(code)
                with pytest.raises(ours) as caught:
                    topic.publish(b"never")
                assert not caught.value.maybe_applied
                assert name in str(caught.value)
            between.faults["PublishBatch"] = lost
            with pytest.raises(Unavailable) as losing:
                topic.publish(b"lost")
            assert losing.value.maybe_applied
            between.faults.clear()
            with pytest.raises(BatchError) as batch:
                topic.publish_many([b"0", b"\xff" * 1_000_000, b"2"])
            assert list(batch.value.result.failed) == [1]
            assert set(received(queue, 4)) == {b"throttled once", b"lost", b"0", b"2"}
