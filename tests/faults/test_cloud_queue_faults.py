"""Queues and topics of the three clouds that refuse, throttle, lose answers, or are gone for a while."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import grpc
import pytest
from google.pubsub_v1 import PullRequest

from portable import open_queue
from portable.errors import (
    BatchError,
    ConfigError,
    DeadlineExceeded,
    LimitExceeded,
    PermissionDenied,
    PortableError,
    ResourceNotFound,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from tests.faults.between import Refusal, Request, lost, times
from tests.faults.cloud_queues import VENDORS, Amazon, Google, Microsoft, Vendor, opened, received
from tests.patience import PATIENCE, persistently, wait_until
from tests.relay import Relay
from tests.targets import own, target


@pytest.fixture
def name() -> str:
    return f"f-{uuid.uuid4().hex[:16]}"


# What is lost on the way to Pub/Sub comes again after ten seconds, its shortest lease.
SLOW_WHERE_LEASES_ARE_LONG = ["sqs", "azqueue", pytest.param("pubsub", marks=pytest.mark.thorough)]


@pytest.fixture(params=VENDORS)
def vendor(request: pytest.FixtureRequest) -> Iterator[Vendor]:
    made = VENDORS[request.param]()
    with made.between:
        yield made


# Credentials.


@pytest.mark.parametrize(
    ("code", "ours"), [("expired", Unauthenticated), ("unknown", Unauthenticated), ("forbidden", PermissionDenied)]
)
def test_credentials_that_are_refused_are_told_and_work_again(
    vendor: Vendor, name: str, code: str, ours: type[PortableError]
) -> None:
    with opened(vendor, name) as queue:
        vendor.between.faults[vendor.sending] = vendor.refuse(code)
        with pytest.raises(ours) as caught:
            queue.send(b"body")
        assert not caught.value.retryable
        assert not caught.value.maybe_applied
        assert name in str(caught.value)
        assert vendor.between.calls[vendor.sending] == 1
        # The key was rotated, or the role given.
        vendor.between.faults.clear()
        queue.send(b"body")
        assert received(queue, 1) == [b"body"]


def test_google_without_credentials_or_with_a_broken_key_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    url = "pubsub://acme-prod/jobs?endpoint=https://127.0.0.1:9"
    key = tmp_path / "key.json"
    with open_queue(url, credentials={"key_file": str(key)}) as queue, pytest.raises(ConfigError, match=r"key\.json"):
        queue.send(b"body")
    for content in ("{", json.dumps({"type": "service_account", "private_key": "s3cr3t"})):
        key.write_text(content)
        with open_queue(url, credentials={"key_file": str(key)}) as queue:
            with pytest.raises(ConfigError, match="no JSON key") as caught:
                queue.send(b"body")
            assert "s3cr3t" not in str(caught.value)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    with open_queue(url) as queue, pytest.raises(Unauthenticated, match="no credentials"):
        queue.send(b"body")


def test_azure_signatures_that_are_over_and_tokens_in_clear_are_told(name: str) -> None:
    direct = target("azurite", "queue")
    head, _, rest = direct.partition("account_key=")
    bare = f"{head}{rest.partition('&')[2]}"
    over = (dt.datetime.now(dt.UTC) - dt.timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    signature = quote(base64.b64encode(b"s3cr3t" * 5).decode(), safe="")
    sas = f"sv=2022-11-02&ss=q&srt=sco&sp=rwdlacup&se={over}&sig={signature}"
    with open_queue(bare, name=name, create="if_missing", credentials={"sas_token": sas}) as queue:
        with pytest.raises(Unauthenticated) as caught:
            queue.send(b"body")
        assert signature not in str(caught.value)
        assert signature not in repr(queue)
    identity = {"tenant_id": "t", "client_id": "c", "client_secret": "s"}
    with open_queue(bare, name=name, credentials=identity) as queue, pytest.raises(ConfigError, match="https:"):
        queue.send(b"body")


def gone(vendor: Vendor, queue: Any, name: str) -> None:
    """Delete a queue behind the back of whoever uses it."""
    if isinstance(vendor, Amazon):
        queue.native.delete_queue(QueueUrl=queue.native.get_queue_url(QueueName=name)["QueueUrl"])
    elif isinstance(vendor, Microsoft):
        queue.native.delete_queue()
    else:
        queue.native.delete_subscription(subscription=f"projects/portable-local/subscriptions/{name}")
        queue._driver._topics.delete_topic(topic=f"projects/portable-local/topics/{name}")


def test_a_queue_that_is_gone_is_told(vendor: Vendor, name: str) -> None:
    with opened(vendor, name) as queue:
        queue.send(b"body")
        (message,) = queue.receive(wait=PATIENCE)
        gone(vendor, queue, name)
        calls: list[Callable[[], Any]] = [
            lambda: queue.send(b"body"),
            lambda: queue.receive(wait=0),
            lambda: queue.receive(wait=PATIENCE),
            queue.check,
            message.ack,
        ]
        for call in calls:
            with pytest.raises(ResourceNotFound, match="resources create") as caught:
                call()
            assert name in str(caught.value)
            assert not caught.value.maybe_applied
        with pytest.raises(BatchError) as batch:
            queue.send_many([b"1", b"2"])
        assert {type(error) for error in batch.value.result.failed.values()} == {ResourceNotFound}


# Throttling, and what fails in passing.


def test_throttling_that_ends_is_waited_for(vendor: Vendor, name: str) -> None:
    with opened(vendor, name, retries=3) as queue:
        for operation in (vendor.sending, vendor.receiving):
            vendor.between.faults[operation] = times(1, vendor.refuse("slow"))
        queue.send(b"body")
        assert vendor.between.calls[vendor.sending] == 2
        assert received(queue, 1) == [b"body"]


def test_throttling_that_does_not_end_is_told(vendor: Vendor, name: str) -> None:
    with opened(vendor, name, retries=1, timeout=vendor.telling) as queue:
        vendor.between.faults[vendor.sending] = vendor.refuse("slow")
        with pytest.raises(Throttled) as caught:
            queue.send(b"body")
        assert caught.value.retryable
        assert not caught.value.maybe_applied
        assert vendor.between.calls[vendor.sending] > 1
        vendor.between.faults.clear()
        queue.send(b"another")
        assert received(queue, 1) == [b"another"]


def test_throttling_after_an_answer_that_was_lost_is_told_with_that(vendor: Vendor, name: str) -> None:
    with opened(vendor, name, retries=1, timeout=vendor.telling) as queue:
        slow, first = vendor.refuse("slow"), [True]

        def fault(request: Any, passed: Any) -> Any:
            if first:
                first.pop()
                return lost(request, passed)
            return slow(request, passed)

        vendor.between.faults[vendor.sending] = fault
        with pytest.raises(Throttled) as caught:
            queue.send(b"body")
        assert caught.value.maybe_applied
        vendor.between.faults.clear()
        assert received(queue, 1) == [b"body"]


def test_a_service_that_fails_is_unavailable(vendor: Vendor, name: str) -> None:
    with opened(vendor, name, retries=0, timeout=vendor.telling) as queue:
        vendor.between.faults[vendor.sending] = vendor.refuse("broken")
        with pytest.raises(Unavailable) as caught:
            queue.send(b"body")
        assert caught.value.retryable
        assert caught.value.maybe_applied


# Answers that are lost.


def test_a_send_whose_answer_is_lost_may_have_been_done(vendor: Vendor, name: str) -> None:
    with opened(vendor, name, retries=0, timeout=vendor.telling) as queue:
        vendor.between.faults[vendor.sending] = lost
        with pytest.raises((Unavailable, DeadlineExceeded)) as caught:
            queue.send(b"body")
        assert caught.value.maybe_applied
        vendor.between.faults.clear()
        assert received(queue, 1)[0] == b"body"


def test_a_send_whose_answer_is_lost_once_goes_through(vendor: Vendor, name: str) -> None:
    with opened(vendor, name, retries=3) as queue:
        vendor.between.faults[vendor.sending] = times(1, lost)
        queue.send(b"body")
        assert vendor.between.calls[vendor.sending] == 2
        assert set(received(queue, 1)) == {b"body"}


def test_a_call_that_google_ends_is_no_closed_queue(name: str) -> None:
    """It is unavailable; where the time was over anyway, nothing was there."""
    vendor = Google()

    def ends(request: bytes, passed: Any) -> Any:
        raise Refusal(grpc.StatusCode.CANCELLED, "Stream removed (RST_STREAM)")

    def ends_when_it_is_over(request: bytes, passed: Any) -> Any:
        if PullRequest.deserialize(request).return_immediately:
            return passed(request)
        with contextlib.suppress(grpc.RpcError):
            while True:
                passed(request)
        return ends(request, passed)

    with vendor.between, opened(vendor, name) as queue:
        vendor.between.faults["Pull"] = ends
        with pytest.raises(Unavailable, match="ended the call"):
            queue.receive(wait=30)
        vendor.between.faults["Pull"] = ends_when_it_is_over
        assert queue.receive(wait=0.5) == []
        vendor.between.faults.clear()
        queue.send(b"body")
        assert set(received(queue, 1)) == {b"body"}


@pytest.mark.parametrize("kind", ["sqs", "azqueue"])
def test_a_service_that_is_gone_after_an_answer_was_lost_may_have_done_it(kind: str, name: str) -> None:
    vendor = VENDORS[kind]()
    with vendor.between, opened(vendor, name, retries=1, timeout=vendor.telling) as queue:

        def fault(request: Request, passed: Any) -> None:
            vendor.between.refuse_connections()
            lost(request, passed)

        vendor.between.faults[vendor.sending] = fault
        with pytest.raises(Unavailable) as caught:
            queue.send(b"body")
        assert caught.value.maybe_applied
        with pytest.raises(Unavailable) as caught:
            queue.send(b"never")
        assert not caught.value.maybe_applied
    with open_queue(vendor.direct, name=name) as queue:
        assert received(queue, 1) == [b"body"]


@pytest.mark.parametrize("kind", SLOW_WHERE_LEASES_ARE_LONG)
def test_what_was_received_in_a_lost_answer_comes_again(kind: str, name: str) -> None:
    vendor = VENDORS[kind]()
    with vendor.between, opened(vendor, name, visibility_timeout=2.0, max_deliveries=50) as queue:
        queue.send_many([b"1", b"2", b"3"])
        vendor.between.faults[vendor.receiving] = times(1, lost)
        assert set(received(queue, 3)) == {b"1", b"2", b"3"}


def test_an_ack_whose_answer_is_lost_is_told_or_repeated(vendor: Vendor, name: str) -> None:
    with opened(vendor, name, retries=2) as queue:
        queue.send(b"body")
        (message,) = queue.receive(wait=20)
        vendor.between.faults[vendor.settling] = times(1, lost)
        try:
            message.ack()
        except PortableError as error:
            assert error.maybe_applied  # noqa: PT017 (either is right, and this is what must hold of an error)
        vendor.between.faults.clear()
        assert queue.receive(wait=0) == []


# Batches of which a part is refused.


def test_azure_refuses_some_of_many(name: str) -> None:
    vendor = Microsoft()
    slow = vendor.refuse("forbidden")

    def some(request: Request, passed: Any) -> Any:
        return slow(request, passed) if b"bad" in request.body else passed(request)

    with vendor.between, opened(vendor, name) as queue:
        vendor.between.faults[vendor.sending] = some
        bodies = ["0", "bad", "2", "bad", "4"]
        with pytest.raises(BatchError) as caught:
            queue.send_many(bodies)
        result = caught.value.result
        assert {index: type(error) for index, error in result.failed.items()} == {
            1: PermissionDenied,
            3: PermissionDenied,
        }
        assert sorted(received(queue, 3)) == [b"0", b"2", b"4"]


def test_one_that_is_too_large_keeps_none_of_the_others(vendor: Vendor, name: str) -> None:
    with opened(vendor, name) as queue:
        largest = queue.capabilities.max_body_bytes
        assert largest is not None
        with pytest.raises(LimitExceeded, match=f"{largest:,}"):
            queue.send(b"\xff" * (largest + 1))
        assert vendor.between.calls[vendor.sending] == 0
        with pytest.raises(BatchError) as caught:
            queue.send_many([b"0", b"\xff" * (largest + 1), b"2"])
        assert {index: type(error) for index, error in caught.value.result.failed.items()} == {1: LimitExceeded}
        assert sorted(received(queue, 2)) == [b"0", b"2"]


# Connections that are cut.


@contextlib.contextmanager
def relayed(url: str) -> Iterator[tuple[Relay, str]]:
    """Give a way to a service that can be cut, and its URL."""
    parts = urlsplit(url)
    endpoint = parts.query.partition("endpoint=")[2].partition("&")[0]
    relay = Relay(endpoint)
    try:
        yield relay, url.replace(endpoint, relay.url)
    finally:
        relay.close()


def test_a_receive_that_is_cut_while_it_waits_goes_on(vendor: Vendor, name: str) -> None:
    waiting = threading.Event()

    def cut(request: Any, passed: Any) -> Any:
        waiting.set()
        if isinstance(request, Request):
            return None
        raise Refusal(grpc.StatusCode.UNAVAILABLE, "Socket closed")

    with opened(vendor, name, retries=3) as queue, open_queue(vendor.direct, name=name) as sender:
        vendor.between.faults[vendor.receiving] = times(1, cut)
        found: list[bytes] = []
        thread = threading.Thread(target=lambda: found.extend(one.body for one in queue.receive(wait=PATIENCE)))
        thread.start()
        assert waiting.wait(PATIENCE)
        sender.send(b"body")
        thread.join(PATIENCE)
        assert found == [b"body"]


@pytest.mark.parametrize("kind", SLOW_WHERE_LEASES_ARE_LONG)
def test_a_consumer_whose_connections_are_cut_loses_nothing(kind: str, name: str) -> None:
    url, total = target(VENDORS[kind].target, "queue"), 60
    seen: set[bytes] = set()
    how: dict[str, Any] = {"visibility_timeout": 2.0, "max_deliveries": 50, "retries": 1, "create": "if_missing"}
    with relayed(url) as (relay, cuttable), open_queue(url, name=name, **how) as sender:
        sender.check()
        with open_queue(cuttable, name=name, **how) as queue:
            stop = threading.Event()

            def handle(message: Any) -> None:
                seen.add(message.body)

            thread = threading.Thread(target=lambda: persistently(lambda: queue.consume(handle, stop=stop)))
            thread.start()
            try:
                for start in range(0, total, 30):
                    sender.send_many([str(number) for number in range(start, start + 30)])
                    wait_until(lambda start=start: len(seen) > start)  # type: ignore[misc]  # the default binds it
                    relay.cut()
                wait_until(lambda: len(seen) == total)
            finally:
                stop.set()
                thread.join(PATIENCE)
    assert seen == {str(number).encode() for number in range(total)}


# Services that are killed: none of these emulators keeps anything, so that what was sent before is gone with it.


@pytest.mark.thorough
@pytest.mark.parametrize("kind", VENDORS)
def test_a_service_that_comes_back_without_its_queues_is_told_and_used_again(kind: str, name: str) -> None:
    with own(VENDORS[kind].target) as server:
        found = server._services.binding(server._name, secrets=True)
        url = found.get("uri-queue", found["uri"])
        told: list[PortableError] = []
        done, gone = threading.Event(), threading.Event()
        how: dict[str, Any] = {"name": name, "timeout": 5.0, "retries": 1}
        with open_queue(url, create="if_missing", **how) as queue:
            queue.check()

            def work(call: Callable[[], Any]) -> None:
                while not done.is_set():
                    try:
                        call()
                    except PortableError as error:
                        told.append(error)
                        gone.set()

            calls: list[Callable[[], Any]] = [
                lambda: queue.send(b"body"),
                lambda: queue.send_many([b"1", b"2"]),
                lambda: queue.ack_many(queue.receive(10, wait=1)),
            ]
            threads = [threading.Thread(target=work, args=(call,)) for call in calls]
            for thread in threads:
                thread.start()
            try:
                server.kill()
                assert gone.wait(PATIENCE)
                server.ready()
            finally:
                done.set()
                for thread in threads:
                    thread.join(PATIENCE)
            assert not any(thread.is_alive() for thread in threads)
            expected = (Unavailable, DeadlineExceeded, ResourceNotFound)
            for error in told:
                inner = error.result.failed.values() if isinstance(error, BatchError) else [error]
                assert all(isinstance(one, expected) for one in inner), error
            # What is missing is told for as long as it is, and used as soon as it is there again.
            with pytest.raises(ResourceNotFound):
                persistently(lambda: queue.send(b"body"))
            with open_queue(url, create="if_missing", **how) as again:
                again.check()
            queue.send(b"after")
            assert received(queue, 1) == [b"after"]
