"""Consuming from Pub/Sub while connections are cut, calls are ended, or the queue is closed."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import grpc
import pytest
from google.pubsub_v1 import PullRequest

from portable import open_queue
from portable.errors import Closed, PortableError, Unauthenticated
from portable.queue import Queue
from tests.faults.between import Refusal, times
from tests.faults.cloud_queues import Google, opened
from tests.patience import PATIENCE, wait_until
from tests.relay import Relay
from tests.targets import target

TOTAL = 2_000


@pytest.fixture
def name() -> str:
    return f"f-{uuid.uuid4().hex[:16]}"


@pytest.mark.thorough
def test_a_consumer_whose_connection_is_cut_in_the_middle_handles_every_message(name: str) -> None:
    url = target("pubsub-emulator")
    endpoint = f"http://{urlsplit(url.partition('endpoint=')[2].partition('&')[0]).netloc}"
    seen: set[bytes] = set()
    stop, half = threading.Event(), threading.Event()

    def handle(message: Any) -> None:
        seen.add(message.body)
        if len(seen) >= TOTAL // 2:
            half.set()

    relay = Relay(endpoint)
    # What is lost with an answer comes again after ten seconds, the shortest lease.
    how: dict[str, Any] = {"create": "if_missing", "visibility_timeout": 10.0, "max_deliveries": 50}
    try:
        with (
            open_queue(url, name=name, **how) as sender,
            open_queue(url.replace(endpoint, relay.url), name=name, **how) as queue,
        ):
            sender.check()
            sender.send_many([str(number) for number in range(TOTAL)])
            thread = threading.Thread(target=lambda: queue.consume(handle, concurrency=10, stop=stop))
            thread.start()
            try:
                assert half.wait(PATIENCE)
                relay.cut()
                wait_until(lambda: len(seen) == TOTAL)
                assert thread.is_alive()
            finally:
                stop.set()
                thread.join(PATIENCE)
    finally:
        relay.close()
    assert seen == {str(number).encode() for number in range(TOTAL)}


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.INTERNAL])
def test_a_consumer_whose_pull_the_service_ends_goes_on(name: str, code: grpc.StatusCode) -> None:
    vendor = Google()

    def ends(request: bytes, passed: Any) -> Any:
        raise Refusal(code)

    with vendor.between, opened(vendor, name) as queue:
        vendor.between.faults["Pull"] = times(1, ends)
        queue.send_many([b"1", b"2"])
        seen: list[bytes] = []
        assert queue.consume(lambda one: seen.append(one.body), max_messages=2) == 2
        assert set(seen) == {b"1", b"2"}
        assert vendor.between.calls["Pull"] >= 2


def test_a_consumer_with_wrong_credentials_is_told(name: str) -> None:
    vendor = Google()
    with vendor.between, opened(vendor, name) as queue:
        vendor.between.faults["Pull"] = vendor.refuse("unknown")
        with pytest.raises(Unauthenticated):
            queue.consume(lambda one: None)


@pytest.mark.parametrize(
    "wait",
    [lambda queue: queue.consume(lambda one: None), lambda queue: queue.receive(wait=PATIENCE)],
    ids=["consume", "receive"],
)
def test_a_queue_that_is_closed_ends_who_waits(name: str, wait: Callable[[Queue[bytes]], object]) -> None:
    vendor = Google()
    waiting = threading.Event()
    told: list[PortableError] = []

    def waits(request: bytes, passed: Any) -> Any:
        if not PullRequest.deserialize(request).return_immediately:
            waiting.set()
        return passed(request)

    with vendor.between, opened(vendor, name) as queue:
        vendor.between.faults["Pull"] = waits

        def work() -> None:
            try:
                wait(queue)
            except PortableError as error:
                told.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert waiting.wait(PATIENCE)
        queue.close()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert [type(error) for error in told] == [Closed]


def test_what_a_consumer_held_is_given_to_the_next_without_waiting_for_its_lease(name: str) -> None:
    url = target("pubsub-emulator")
    total = 300
    how: dict[str, Any] = {"create": "if_missing", "visibility_timeout": 600.0, "max_deliveries": 50}
    with open_queue(url, name=name, **how) as queue:
        queue.check()
        queue.send_many([str(number) for number in range(total)])
        seen: set[bytes] = set()

        def handle(message: Any) -> None:
            if len(seen) == total // 2:
                raise KeyboardInterrupt
            seen.add(message.body)

        with pytest.raises(KeyboardInterrupt):
            queue.consume(handle)
    with open_queue(url, name=name, **how) as queue:
        left = total - total // 2
        assert queue.consume(lambda one: seen.add(one.body), concurrency=10, max_messages=left) == left
    assert seen == {str(number).encode() for number in range(total)}
