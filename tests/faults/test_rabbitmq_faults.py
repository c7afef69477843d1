"""RabbitMQ when it is killed, connections cut, consumers killed, credentials wrong, callers gone, processes forked."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import pika
import pytest

from portable import Outgoing, open_queue, open_subscription, open_topic
from portable.aio import open_queue as open_queue_async
from portable.errors import (
    Closed,
    DeadlineExceeded,
    LeaseLost,
    LimitExceeded,
    PermissionDenied,
    ResourceNotFound,
    Unauthenticated,
    Unavailable,
)
from tests.faults.cancelling import cancelled_receives_give_back
from tests.faults.queue_load import all_arrive
from tests.patience import PATIENCE, persistently, wait_until
from tests.relay import Relay
from tests.targets import own, target

# A server that was killed takes ten seconds to be back, and many times that on a busy machine.
LONG_PATIENCE = 240.0
SECRET = "s3cr3t-of-the-test"  # noqa: S105 (it protects nothing)

# Whoever may make what is missing.
MAKE: Any = {"create": "if_missing"}


@pytest.fixture
def url() -> str:
    return target("rabbitmq")


@pytest.fixture
def channel(url: str) -> Iterator[Any]:
    """What another program has: pika itself."""
    connection = pika.BlockingConnection(pika.URLParameters(f"{url}/%2F?heartbeat=0"))
    yield connection.channel()
    connection.close()


@pytest.fixture
def name(channel: Any) -> Iterator[str]:
    """A queue's name, and that of a topic with `-topic` behind it; what was made under them is removed."""
    made = f"t{os.urandom(6).hex()}"
    yield made
    sweeper = channel.connection.channel()
    for queue in (made, f"{made}-dead"):
        sweeper.queue_delete(queue)
    for exchange in (f"{made}-topic", f"{made}.feed.0", f"{made}.feed.1"):
        sweeper.exchange_delete(exchange)


@pytest.fixture
def relay(url: str) -> Iterator[Relay]:
    made = Relay(url)
    yield made
    made.close()


@pytest.mark.timeout(600)
def test_the_server_is_killed_under_load() -> None:
    with own("rabbitmq") as server:
        all_arrive(server.url, server.kill, shares=(0.5,), at_once=50, patience=LONG_PATIENCE, timeout=60, retries=50)


def test_a_consumer_is_killed_in_the_middle_of_a_batch(url: str, name: str) -> None:
    code = (
        "import sys, threading, portable\n"
        "jobs = portable.open_queue(sys.argv[1], name=sys.argv[2], create='if_missing', visibility_timeout='10m')\n"
        "messages = jobs.receive(60, wait=60)\n"
        "for message in messages[:20]: message.ack()\n"
        "print(*(message.id for message in messages), flush=True)\n"
        "threading.Event().wait()\n"
    )
    with open_queue(url, name=name, **MAKE) as jobs:
        sent = set(jobs.send_many([str(number) for number in range(100)]).succeeded)
        worker = subprocess.Popen([sys.executable, "-c", code, url, name], stdout=subprocess.PIPE, text=True)
        assert worker.stdout is not None
        with worker.stdout:
            taken = worker.stdout.readline().split()
            worker.send_signal(signal.SIGKILL)
            worker.wait()
        assert len(taken) > 20
        # An acknowledgement that was on its way when the process died may not have reached the server.
        wanted = sent - set(taken[:20])
        seen: dict[str, int] = {}
        while not wanted <= set(seen):
            messages = jobs.receive(100, wait=PATIENCE)
            assert messages, f"{wanted - set(seen)} did not come back"
            jobs.ack_many(messages)
            seen.update((message.id, message.delivery_count) for message in messages)
        assert {seen[id_] for id_ in taken[20:]} == {2}
        assert {seen[id_] for id_ in sent - set(taken)} <= {1}


def test_a_connection_is_cut_while_waiting(relay: Relay, url: str, name: str, channel: Any) -> None:
    with open_queue(relay.url, name=name, **MAKE) as jobs:
        jobs.stats()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(jobs.receive, wait=PATIENCE)
            wait_until(lambda: channel.queue_declare(name, passive=True).method.consumer_count == 1)
            relay.cut()
            with pytest.raises(Unavailable) as caught:
                waiting.result(PATIENCE)
        assert caught.value.retryable
        assert caught.value.resource == name
        # Neither sending nor receiving minds.
        persistently(lambda: jobs.send(b"body"))
        assert {message.body for message in jobs.receive(wait=PATIENCE)} == {b"body"}


def test_a_lost_connection_ends_its_leases(relay: Relay, name: str) -> None:
    with open_queue(relay.url, name=name, visibility_timeout="10m", **MAKE) as jobs:
        sent = jobs.send(b"body")
        (first,) = jobs.receive(wait=PATIENCE)
        relay.cut()
        (second,) = persistently(lambda: jobs.receive(wait=PATIENCE))
        assert (second.id, second.delivery_count) == (sent, 2)
        with pytest.raises(LeaseLost):
            first.ack()
        with pytest.raises(LeaseLost):
            first.extend(10)
        first.nack()
        second.ack()
        assert jobs.receive(wait=0.2) == []


def test_idle_connections_that_were_cut_are_replaced(relay: Relay, name: str) -> None:
    with open_queue(relay.url, name=name, **MAKE) as jobs:
        for number in range(3):
            jobs.send(str(number))
            threads = [one for one in threading.enumerate() if one.name == "portable-rabbitmq"]
            relay.cut()
            # Until it is known that they have ended, nobody can tell that they are of no use.
            for thread in threads:
                thread.join(PATIENCE)
                assert not thread.is_alive()
        assert sorted(message.body for message in jobs.receive(10, wait=PATIENCE)) == [b"0", b"1", b"2"]


def test_close_ends_a_wait_and_every_thread(url: str, name: str, channel: Any) -> None:
    before = set(threading.enumerate())
    with open_queue(url, name=name, **MAKE) as jobs:
        jobs.send(b"body")
        assert jobs.receive(wait=PATIENCE)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(jobs.receive, wait=PATIENCE)
            wait_until(lambda: channel.queue_declare(name, passive=True).method.consumer_count == 1)
            jobs.close()
            with pytest.raises(Closed):
                waiting.result(PATIENCE)
    assert not [one for one in set(threading.enumerate()) - before if one.name == "portable-rabbitmq"]


@pytest.mark.parametrize("was_used", [True, False])
def test_a_receive_takes_nothing_by_a_reader_that_is_closed(url: str, name: str, *, was_used: bool) -> None:
    """The resource is closed when a receive has its reader, and has not begun."""
    with open_queue(url, name=name, **MAKE) as jobs:
        jobs.send_many([b"0", b"1"])
        driver: Any = jobs._driver
        if was_used:
            assert jobs.receive(wait=PATIENCE)
        reader = driver._readers._free()
        driver._readers.close()
        with pytest.raises(Closed):
            reader.receive(1, visibility=30.0, wait=0.0, timeout=PATIENCE)


def test_wrong_password(url: str) -> None:
    parts = urlsplit(url)
    for user in (f"{parts.username}:{SECRET}@", f"somebody:{SECRET}@"):
        there = f"amqp://{user}127.0.0.1:{parts.port}"
        with open_queue(there, name="jobs", **MAKE) as jobs:
            with pytest.raises(Unauthenticated) as caught:
                jobs.send(b"body")
            told = [str(caught.value), repr(caught.value), str(caught.value.__cause__), repr(jobs), jobs.url]
            assert not [text for text in told if SECRET in text]
            assert not caught.value.retryable

    async def main() -> None:
        there = f"amqp://somebody:{SECRET}@127.0.0.1:{parts.port}"
        async with open_queue_async(there, name="jobs", **MAKE) as jobs:
            with pytest.raises(Unauthenticated):
                await jobs.send(b"body")

    asyncio.run(main())


def test_unknown_vhost(url: str) -> None:
    with open_queue(url, name="jobs", vhost="nowhere", **MAKE) as jobs:
        with pytest.raises((ResourceNotFound, PermissionDenied), match="nowhere"):
            jobs.send(b"body")


def test_nobody_there(name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"amqp://127.0.0.1:{taken.getsockname()[1]}"
        with open_queue(url, name=name, retries=1, **MAKE) as jobs, pytest.raises(Unavailable) as caught:
            jobs.send(b"body")
        assert caught.value.resource == name
        assert caught.value.retryable
        assert not caught.value.maybe_applied


def test_a_server_that_does_not_answer(name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"amqp://127.0.0.1:{mute.getsockname()[1]}"
        with open_queue(url, name=name, timeout=0.3, retries=0, **MAKE) as jobs, pytest.raises(DeadlineExceeded):
            jobs.send(b"body")


def test_no_amqp(name: str) -> None:
    def answer(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(100)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=answer, args=(other,), daemon=True).start()
        url = f"amqp://127.0.0.1:{other.getsockname()[1]}"
        with open_queue(url, name=name, timeout=5, retries=0, **MAKE) as jobs:
            with pytest.raises(Unavailable, match="AMQP"):
                jobs.send(b"body")


def test_missing_resources(url: str, name: str) -> None:
    topic = f"{name}-topic"
    for opened in (
        open_queue(url, name=name, create="never"),
        open_topic(url, name=topic, create="never"),
        open_subscription(url, name=name, topic=topic, create="never"),
    ):
        with opened as resource, pytest.raises(ResourceNotFound, match="portable resources create"):
            resource.check(timeout=PATIENCE)


def test_unroutable_is_an_error(url: str, name: str, channel: Any) -> None:
    with open_queue(url, name=name, **MAKE) as jobs:
        jobs.send(b"body")
        channel.queue_delete(name)
        with pytest.raises(ResourceNotFound):
            jobs.send(b"body")
        result = jobs.send_many([b"1", b"2"], return_errors=True)
        assert [type(error) for error in result.failed.values()] == [ResourceNotFound, ResourceNotFound]
        for count in (1, 5):
            with pytest.raises(ResourceNotFound):
                jobs.receive(count, wait=0)


def test_a_queue_that_is_deleted_while_it_is_waited_on(url: str, name: str, channel: Any) -> None:
    with open_queue(url, name=name, **MAKE) as jobs:
        jobs.stats()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(jobs.receive, wait=PATIENCE)
            wait_until(lambda: channel.queue_declare(name, passive=True).method.consumer_count == 1)
            channel.queue_delete(name)
            with pytest.raises(ResourceNotFound):
                waiting.result(PATIENCE)


def test_one_that_cannot_be_carried_does_not_hold_up_the_others(url: str, name: str) -> None:
    with open_queue(url, name=name, max_message_size="1MiB", **MAKE) as jobs:
        large = {"large": "ü" * 60_000}
        result = jobs.send_many([b"1", Outgoing(b"2", large), Outgoing(b"", {"a": "x" * 50_000})], return_errors=True)
        assert [type(error) for error in result.failed.values()] == [LimitExceeded]
        with pytest.raises(LimitExceeded, match="offload"):
            jobs.send(b"x" * 1_100_000)
        assert sorted(message.body for message in jobs.receive(10, wait=PATIENCE)) == [b"", b"1"]


def test_a_message_is_held_longer_than_the_server_lets(url: str, name: str, channel: Any) -> None:
    # What the server really lets is half an hour: the driver is told less.
    how: dict[str, Any] = {"name": name, "consumer_timeout": "60s", "visibility_timeout": "50s", **MAKE}
    with open_queue(url, **how) as jobs, open_queue(url, **how) as other:
        sent = jobs.send(b"body", attributes={"a": "b"})
        (message,) = jobs.receive(wait=PATIENCE)
        first = message.delivery.receipt.since
        with pytest.raises(LimitExceeded):
            message.extend(55)
        while message.delivery.receipt.since == first:
            message.extend(53)
            assert other.receive(wait=0.3) == []
        # It is in the queue of this process, and still as much this receiver's as ever.
        message.extend(0.2)
        (again,) = other.receive(wait=PATIENCE)
        assert (again.id, again.body, again.attributes, again.delivery_count) == (sent, b"body", {"a": "b"}, 2)
        with pytest.raises(LeaseLost):
            message.ack()
        again.ack()
        assert other.receive(wait=0.2) == []


def test_a_message_of_another_program(url: str, name: str, channel: Any) -> None:
    with open_queue(url, name=name, **MAKE) as jobs:
        jobs.stats()
        headers = {"text": "Grüße", "number": 7, "yes": True, "bytes": b"\xff\xfe", "list": [1, "2"]}
        channel.basic_publish("", name, b"\x00raw", pika.BasicProperties(headers=headers, content_type="text/plain"))
        channel.basic_publish("", name, b"bare")
        found: dict[bytes, Any] = {}
        while len(found) < 2:
            found |= {message.body: message for message in jobs.receive(2, wait=PATIENCE)}
        assert found[b"bare"].attributes == {}
        raw = found[b"\x00raw"]
        wanted = {"text": "Grüße", "number": "7", "yes": "true", "bytes": "\ufffd\ufffd", "list": '[1,"2"]'}
        assert raw.attributes == wanted
        raw.nack(delay=0.1)
        (again,) = jobs.receive(wait=PATIENCE)
        assert (again.id, again.body, again.attributes, again.delivery_count) == (raw.id, raw.body, wanted, 2)


def test_what_another_program_reads(url: str, name: str, channel: Any) -> None:
    with open_queue(url, name=name, **MAKE) as jobs:
        sent = jobs.send(b"\x00body", attributes={"type": "order.paid", "x-match": "any", "CC": "nobody"})
        _, properties, body = channel.basic_get(name, auto_ack=True)
        assert (properties.message_id, properties.delivery_mode, body) == (sent, 2, b"\x00body")
        assert {key: value for key, value in properties.headers.items() if key != "x-delivery-count"} == {
            "type": "order.paid",
            "portable-name:x-match": "any",
            "portable-name:CC": "nobody",
        }


def test_filters_of_any_attribute(url: str, name: str) -> None:
    topic = f"{name}-topic"
    wanted = {"x-match": "any", "CC": "🏔", "plain": ""}
    with open_topic(url, name=topic, **MAKE) as events:
        with open_subscription(url, name=name, topic=topic, filter=wanted, **MAKE) as sub:
            sub.stats()
            events.publish(b"some", attributes={"x-match": "any", "plain": ""})
            events.publish(b"all", attributes={**wanted, "more": "x"})
            assert [message.body for message in sub.receive(2, wait=PATIENCE)] == [b"all"]


def test_a_filter_changes_without_a_gap(url: str, name: str) -> None:
    topic = f"{name}-topic"
    with open_topic(url, name=topic, **MAKE) as events:
        with open_subscription(url, name=name, topic=topic, **MAKE) as sub:
            sub.stats()
        over = threading.Event()
        published: list[str] = []

        def publish() -> None:
            while not over.is_set():
                events.publish(str(len(published)), attributes={"a": "1"})
                published.append(str(len(published)))

        with ThreadPoolExecutor(1) as threads:
            publishing = threads.submit(publish)
            try:
                for filter_ in ({"a": "1"}, {}, {"a": "1"}, {}):
                    before = len(published)
                    with open_subscription(url, name=name, topic=topic, filter=filter_, **MAKE) as sub:
                        sub.stats()
                    wait_until(lambda before=before: len(published) > before)  # type: ignore[misc]  # the default binds it
            finally:
                over.set()
            publishing.result(PATIENCE)
        with open_subscription(url, name=name, topic=topic, **MAKE) as sub:
            found: list[str] = []
            while len(found) < len(published):
                messages = sub.receive(100, wait=PATIENCE)
                assert messages
                sub.ack_many(messages)
                found += [message.body.decode() for message in messages]
        assert sorted(found) == sorted(published)


def test_delays_are_kept_by_the_server(url: str, name: str) -> None:
    with open_queue(url, name=name, **MAKE) as jobs:
        delays = [0.001, 0.016, 0.257, 0.4, 0.999, 1.234]
        started = monotonic()
        jobs.send_many([Outgoing(str(delay), delay=delay) for delay in delays])
    # Nobody is there meanwhile.
    with open_queue(url, name=name, **MAKE) as jobs:
        came: dict[float, float] = {}
        while len(came) < len(delays):
            for message in jobs.receive(wait=PATIENCE):
                came[float(message.body)] = monotonic() - started
                message.ack()
        assert sorted(came) == delays
        assert all(after >= delay for delay, after in came.items())


def test_a_cancelled_receive_gives_back(url: str, name: str) -> None:
    cancelled_receives_give_back(url, name, total=60, turns=20, counted=False)


def test_a_forked_child_opens_its_own(url: str, name: str) -> None:
    with open_queue(url, name=name, **MAKE) as jobs:
        jobs.send(b"of the parent")
        child = os.fork()
        if child == 0:
            code = 1
            try:
                (message,) = jobs.receive(wait=PATIENCE)
                if message.body == b"of the parent":
                    message.ack()
                    jobs.send(b"of the child")
                    code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [message.body for message in jobs.receive(wait=PATIENCE)] == [b"of the child"]


def test_many_threads_share_a_queue(url: str, name: str) -> None:
    with open_queue(url, name=name, **MAKE) as jobs:
        with ThreadPoolExecutor(100) as threads:
            ids = set(threads.map(lambda number: jobs.send(str(number)), range(500)))
            found = [
                one.id for messages in threads.map(lambda _: jobs.receive(5, wait=0.5), range(100)) for one in messages
            ]
        # Each of them may have got fewer than were ready.
        while len(found) < len(ids) and (rest := jobs.receive(5, wait=60)):
            found += [one.id for one in rest]
        assert sorted(found) == sorted(ids)
