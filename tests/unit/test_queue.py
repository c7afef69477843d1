"""The rules of queues that hold whatever is behind them, or that need several resources to be seen."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import msgspec
import pytest

import portable
from portable import errors, wire
from portable.cloud import Cloud
from portable.config import Config, Profile
from portable.messages import Delivery, Outgoing
from portable.registry import Adapter, register
from portable.testing.clock import Clock
from portable_embedded.memory_queue import MemoryQueue
from tests.patience import wait_until

PATIENCE = 20.0


class Troubled(MemoryQueue):
    """Raises what `troubles` holds, one for each receive, before it does anything."""

    troubles: ClassVar[list[BaseException]] = []

    def receive(self, max_messages: int, *, visibility: float, timeout: float) -> list[Delivery]:
        if self.troubles:
            raise self.troubles.pop()
        return super().receive(max_messages, visibility=visibility, timeout=timeout)


class Unsettling(MemoryQueue):
    """Cannot settle or hold what it gave."""

    asked: ClassVar[threading.Event] = threading.Event()

    def ack(self, deliveries: Sequence[Delivery], *, timeout: float) -> list[errors.PortableError | None]:
        raise errors.Unavailable("nobody answers")

    def nack(self, deliveries: Sequence[Delivery], *, delay: float, timeout: float) -> None:
        raise errors.Unavailable("nobody answers")

    def extend(
        self, deliveries: Sequence[Delivery], *, seconds: float, timeout: float
    ) -> list[errors.PortableError | None]:
        self.asked.set()
        raise errors.Unavailable("nobody answers")


class Losing(MemoryQueue):
    """Says of each lease that it is lost, as often as it is asked."""

    asked: ClassVar[threading.Semaphore] = threading.Semaphore(0)

    def extend(
        self, deliveries: Sequence[Delivery], *, seconds: float, timeout: float
    ) -> list[errors.PortableError | None]:
        self.asked.release()
        return [errors.LeaseLost("it is somebody else's") for _ in deliveries]


class Refusing(MemoryQueue):
    """Refuses the body that it is told to refuse, alone or with all that is sent with it, and takes small batches."""

    capabilities = msgspec.structs.replace(MemoryQueue.capabilities, max_batch=2, max_body_bytes=1000)
    send_concurrency = 2
    refused: ClassVar[tuple[bytes, type[errors.PortableError]]] = (b"one", errors.Throttled)

    def send(self, messages: Sequence[Outgoing], *, timeout: float) -> list[str | errors.PortableError]:
        body, error = self.refused
        if error is not errors.Throttled and any(message.body == body for message in messages):
            raise error("nobody answers")
        answers: list[str | errors.PortableError] = []
        for message in messages:
            answers += [error("not this one")] if message.body == body else super().send([message], timeout=timeout)
        return answers


class Pushed(MemoryQueue):
    """Has a function service in front."""

    pushed = True

    def read_event(self, event: Any) -> list[Delivery]:
        return [
            Delivery(id=id, receipt=None, body=body, attributes={}, count=1, sent_at=0.0, ordering_key=key)
            for id, body, key in event["records"]  # noqa: A001 (the field's own word)
        ]

    def answer_event(self, event: Any, failed: Sequence[Delivery]) -> dict[str, Any]:
        return {"failures": [one.id for one in failed]}


register(
    Adapter(
        schemes={
            f"test-{driver.__name__.lower()}": {"queue": f"{__name__}:{driver.__name__}"}
            for driver in (Troubled, Unsettling, Losing, Refusing, Pushed)
        },
        extra="tests",
    )
)


@pytest.fixture
def jobs() -> Iterator[portable.Queue[bytes]]:
    with portable.open_queue("memory:", name="jobs", visibility_timeout="10m") as queue:
        yield queue


def cloud(resources: dict[str, Any], *, clock: Clock | None = None, **profile: Any) -> Cloud:
    tree = {"resources": resources, "profiles": {"local": {"default": "memory:", **profile}}}
    loaded = Profile.load(Config.from_dict(tree), profile="local")
    return Cloud(loaded) if clock is None else Cloud(loaded, clock=clock.now, on_clock_moved=clock.on_moved)


def test_undeclared_needs_are_refused_when_strict() -> None:
    resources = {"jobs": {"kind": "queue", "needs": ["peek"]}, "lines": {"kind": "queue", "ordered": True}}
    with cloud(resources, guard={"needs": "strict"}) as opened:
        jobs = opened.queue("jobs")
        jobs.peek()
        for call in (lambda: jobs.send(b"x", delay=1), jobs.purge, lambda: jobs.receive(visibility_timeout=1)):
            with pytest.raises(errors.Unsupported, match=r"needs = \["):
                call()
        opened.queue("lines").send(b"x", ordering_key="a")


def test_named_dead_letter_queue_is_shared() -> None:
    contract = {"kind": "queue", "max_deliveries": 1, "dead_letter": "graveyard"}
    with cloud({"one": contract, "other": contract, "graveyard": {"kind": "queue"}}) as opened:
        queues = [opened.queue("one"), opened.queue("other")]
        for queue in queues:
            queue.send(b"of " + queue.name.encode(), attributes={"a": "b"})
            (message,) = queue.receive()
            message.nack()
        graveyard = opened.queue("graveyard")
        assert queues[0].dead_letters is graveyard
        assert graveyard.stats().ready == 2
        (seen, _) = sorted(graveyard.peek(2), key=lambda letter: letter.body)
        assert (seen.body, seen.attributes, seen.dead_reason) == (
            b"of one",
            {"a": "b"},
            "delivered 1 times without an ack",
        )
        assert queues[1].redrive() == 1
        assert [message.body for message in queues[1].receive(10)] == [b"of other"]
        assert queues[0].stats().dead == 1
        assert queues[0].redrive(1) == 1
        (back,) = queues[0].receive()
        assert (back.body, back.attributes, back.dead_reason) == (b"of one", {"a": "b"}, None)


def test_named_dead_letter_queue_counts_leases_too() -> None:
    resources = {
        "jobs": {"kind": "queue", "max_deliveries": 1, "dead_letter": "graveyard"},
        "graveyard": {"kind": "queue"},
    }
    clock = Clock()
    with cloud(resources, clock=clock) as opened:
        jobs = opened.queue("jobs")
        sent = jobs.send(b"x")
        jobs.receive()
        clock.advance(31)
        assert jobs.receive(wait=0) == []
        (letter,) = opened.queue("graveyard").receive(wait=0)
        assert letter.original_id == sent


def test_time_moves_leases_delays_and_repeats() -> None:
    clock = Clock()
    with cloud({"jobs": {"kind": "queue"}}, clock=clock) as opened:
        jobs = opened.queue("jobs")
        first = jobs.send(b"x", dedup_id="a", delay=100)
        assert jobs.receive(wait=0) == []
        assert jobs.stats().delayed == 1
        clock.advance(100)
        (message,) = jobs.receive(wait=0)
        assert jobs.stats().leased == 1
        clock.advance(30)
        (again,) = jobs.receive(wait=0)
        assert (message.delivery_count, again.delivery_count) == (1, 2)
        with pytest.raises(errors.LeaseLost):
            message.ack()
        with pytest.raises(errors.LeaseLost):
            message.extend(5)
        message.nack()
        again.ack()
        clock.advance(169)
        assert jobs.send(b"x", dedup_id="a") == first
        clock.advance(1)
        assert jobs.send(b"x", dedup_id="a") != first


def test_moving_the_clock_wakes_a_waiting_receive() -> None:
    clock = Clock()
    clock.stop()
    with cloud({"jobs": {"kind": "queue"}}, clock=clock) as opened:
        jobs = opened.queue("jobs")
        jobs.send(b"x", delay=3600)
        received: list[Any] = []
        waiting = threading.Thread(target=lambda: received.extend(jobs.receive(wait=PATIENCE)))
        waiting.start()
        clock.advance(3600)
        waiting.join(PATIENCE)
        assert [message.body for message in received] == [b"x"]


OFFLOADING = {"jobs": {"kind": "queue", "offload": "bodies", "max_deliveries": 2}, "bodies": {"kind": "bucket"}}


def test_large_bodies_go_to_a_bucket() -> None:
    large = b"x" * 2_000_000
    with cloud(OFFLOADING, guard={"limits": ["aws"]}, bind={"bodies": "memory:"}) as opened:
        jobs, bodies = opened.queue("jobs"), opened.bucket("bodies")
        assert jobs.send(large, attributes={"a": "b"})
        assert jobs.send(b"small")
        assert [bodies.head(info.key).size for info in bodies.list()] == [2_000_000]
        (seen,) = [one for one in jobs.peek(2) if one.body != b"small"]
        assert seen.body == large
        messages = {len(message.body): message for message in jobs.receive(10)}
        message = messages[2_000_000]
        assert (message.body, message.attributes) == (large, {"a": "b"})
        messages[5].ack()
        message.reject("not now")
        (letter,) = jobs.dead_letters.peek()
        assert letter.body == large
        assert jobs.redrive() == 1
        (back,) = jobs.receive()
        assert back.body == large
        back.ack()
        assert list(bodies.list()) == []


def test_large_bodies_in_a_batch() -> None:
    with cloud(OFFLOADING, guard={"limits": ["aws"]}, bind={"bodies": "memory:"}) as opened:
        jobs = opened.queue("jobs")
        result = jobs.send_many([b"x" * 2_000_000, b"small", Outgoing(b"y" * 2_000_000, delay=901)], return_errors=True)
        assert list(result.failed) == [2]
        assert isinstance(result.failed[2], errors.LimitExceeded)
        messages = jobs.receive(10)
        assert sorted(len(message.body) for message in messages) == [5, 2_000_000]
        jobs.ack_many(messages)
        assert list(opened.bucket("bodies").list()) == []


def test_a_lost_body_ends_as_a_dead_letter() -> None:
    clock = Clock()
    with cloud(OFFLOADING, clock=clock, guard={"limits": ["aws"]}, bind={"bodies": "memory:"}) as opened:
        jobs, bodies = opened.queue("jobs"), opened.bucket("bodies")
        jobs.send(b"x" * 2_000_000)
        for info in list(bodies.list()):
            bodies.delete(info.key)
        for _ in range(2):
            assert jobs.receive(wait=0) == []
            clock.advance(120)
        assert jobs.stats().dead == 1


def test_without_a_bucket_large_bodies_are_refused() -> None:
    with cloud({"jobs": {"kind": "queue"}}, guard={"limits": ["aws"]}) as opened:
        jobs = opened.queue("jobs")
        with pytest.raises(errors.LimitExceeded, match=r"jobs \(memory\) send: max_message_bytes"):
            jobs.send(b"x" * 2_000_000)
        with pytest.raises(errors.LimitExceeded):
            jobs.receive(visibility_timeout=13 * 3600)


def test_bad_contracts_are_refused() -> None:
    with pytest.raises(errors.ConfigError, match="max_deliveries"):
        portable.open_queue("memory:", max_deliveries=0)
    with (
        pytest.raises(errors.LimitExceeded, match="visibility"),
        cloud({"jobs": {"kind": "queue", "visibility_timeout": "13h"}}, guard={"limits": ["aws"]}) as opened,
    ):
        opened.queue("jobs").send(b"x")


def test_what_is_missing_is_named() -> None:
    missing: list[tuple[Any, Callable[[Any], object]]] = [
        (portable.open_queue("memory:", name="things", create="never"), lambda queue: queue.receive()),
        (portable.open_topic("memory:", name="things", create="never"), lambda topic: topic.publish(b"x")),
        (
            portable.open_subscription("memory:", name="things", topic="events", create="never"),
            lambda subscription: subscription.receive(),
        ),
    ]
    for resource, use in missing:
        with resource:
            with pytest.raises(errors.ResourceNotFound, match="portable resources create"):
                resource.check()
            with pytest.raises(errors.ResourceNotFound, match="portable resources create"):
                use(resource)


def test_failures_of_the_backend_in_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    with portable.open_queue("test-refusing:", name="jobs") as jobs:
        result = jobs.send_many([b"1", b"one", b"2", b"3"], return_errors=True)
        assert {index: type(error) for index, error in result.failed.items()} == {1: errors.Throttled}
        with pytest.raises(errors.Throttled):
            jobs.send(b"one")
        with pytest.raises(errors.LimitExceeded):
            jobs.send(b"x" * 1001)
        with pytest.raises(errors.BatchError) as caught:
            jobs.send_many([b"1"] * 4, timeout=0)
        assert all(isinstance(error, errors.DeadlineExceeded) for error in caught.value.result.failed.values())
        monkeypatch.setattr(Refusing, "refused", (b"all", errors.Unavailable))
        with pytest.raises(errors.BatchError) as caught:
            jobs.send_many([b"all", b"1"])
        assert [type(error) for error in caught.value.result.failed.values()] == [errors.Unavailable] * 2


def test_a_failed_key_holds_back_its_rest_in_later_calls() -> None:
    with portable.open_queue("test-refusing:", name="lines", ordered=True) as lines:
        entries = [Outgoing(body, ordering_key=key) for key in "ab" for body in (b"1", b"one", b"2", b"3")]
        result = lines.send_many(entries, return_errors=True)
        assert sorted(result.failed) == [1, 2, 3, 5, 6, 7]
        assert isinstance(result.failed[3], errors.PreconditionFailed)


def test_redrive_keeps_what_cannot_be_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    with portable.open_queue("test-refusing:", name="jobs", max_deliveries=1) as jobs:
        jobs.send_many([b"1", b"2", b"3"])
        for message in jobs.receive(3):
            message.reject()
        for refused, error in ((b"2", errors.Throttled), (b"2", errors.Unavailable)):
            monkeypatch.setattr(Refusing, "refused", (refused, error))
            with pytest.raises(error):
                jobs.redrive()
        monkeypatch.undo()
        jobs.redrive()
        assert sorted(message.body for message in jobs.receive(10)) == [b"1", b"2", b"3"]
        assert jobs.stats().dead == 0


def test_events_are_handled_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    records = [
        ("1", b"good", "a"),
        ("2", b"bad", "a"),
        ("3", b"held back", "a"),
        ("4", b"good", None),
        ("5", b"bad", None),
    ]
    handled: list[bytes] = []

    def handle(message: portable.Message[bytes]) -> None:
        handled.append(message.body)
        with pytest.raises(errors.InvalidArgument):
            message.ack()
        if message.body == b"bad":
            raise ZeroDivisionError

    with portable.open_queue("test-pushed:", name="jobs") as jobs, caplog.at_level(logging.WARNING, "portable"):
        assert jobs.handle_event({"records": records}, handle) == {"failures": ["2", "3", "5"]}
    assert handled == [b"good", b"bad", b"good", b"bad"]
    assert "ZeroDivisionError" in caplog.text


def test_events_need_a_function_service(jobs: portable.Queue[bytes]) -> None:
    with pytest.raises(errors.Unsupported, match="consume"):
        jobs.handle_event({}, print)


def test_passing_troubles_are_waited_out(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(Troubled, "troubles", [errors.Unavailable("down"), errors.Throttled("slower")])
    with portable.open_queue("test-troubled:", name="jobs") as jobs, caplog.at_level(logging.WARNING, "portable"):
        jobs.send(b"x")
        assert jobs.consume(lambda message: None, max_messages=1) == 1
    assert caplog.text.count("cannot receive") == 2


def test_lasting_troubles_end_the_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    for concurrency in (1, 3):
        monkeypatch.setattr(Troubled, "troubles", [errors.PermissionDenied("no more")])
        with portable.open_queue("test-troubled:", name="jobs") as jobs:
            with pytest.raises(errors.PermissionDenied):
                jobs.consume(lambda message: None, concurrency=concurrency)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_interrupt_gives_leases_back(jobs: portable.Queue[bytes], concurrency: int) -> None:
    jobs.send(b"x")

    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        jobs.consume(interrupted, concurrency=concurrency)
    assert [message.body for message in jobs.receive(wait=0)] == [b"x"]


def test_a_lost_lease_is_told(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    with cloud({"jobs": {"kind": "queue"}}, clock=clock) as opened, caplog.at_level(logging.WARNING, "portable"):
        jobs = opened.queue("jobs")
        jobs.send(b"x")

        def slow(_: Any) -> None:
            clock.advance(31)
            (taken,) = jobs.receive()
            taken.ack()

        assert jobs.consume(slow, max_messages=1) == 1
    assert "may come again" in caplog.text


def test_delays_grow() -> None:
    clock = Clock()
    clock.stop()
    with cloud({"jobs": {"kind": "queue", "max_deliveries": 9}}, clock=clock) as opened:
        jobs = opened.queue("jobs")
        jobs.send(b"x")
        delays: list[float] = []

        def failing(_: Any) -> None:
            raise ZeroDivisionError

        for _ in range(4):
            jobs.consume(failing, max_messages=1)
            before = clock.now()
            due = jobs._driver.next_due(timeout=1)
            assert due is not None
            delays.append(due)
            clock.advance(due + 0.001)
            assert clock.now() > before
        for attempt, delay in enumerate(delays):
            assert 0.5 * 2**attempt <= delay <= 2**attempt


def test_no_thread_is_left(jobs: portable.Queue[bytes]) -> None:
    before = threading.active_count()
    jobs.send_many([b"x"] * 10)
    jobs.consume(lambda message: None, concurrency=4, max_messages=10)
    names = [thread.name for thread in threading.enumerate()]
    assert "portable-keep" not in names
    # A worker that has just handled the last message may still be on its way out.
    for thread in threading.enumerate():
        if thread.name.startswith("portable-worker"):
            thread.join(PATIENCE)
    assert threading.active_count() <= before


def test_a_lost_lease_is_told_once_it_is_sure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a message whose acknowledgement is on its way a backend says the same, so the second answer counts."""
    monkeypatch.setattr(Losing, "asked", threading.Semaphore(0))
    looked: list[bool] = []
    with (
        portable.open_queue("test-losing:", name="jobs", visibility_timeout="0.3s") as jobs,
        caplog.at_level(logging.WARNING, "portable"),
    ):
        jobs.send(b"one")

        def handle(message: portable.Message[bytes]) -> None:
            for _ in range(2):
                assert Losing.asked.acquire(timeout=PATIENCE)
            # It was asked again, so the first answer alone told nothing that would have taken it from what is held.
            wait_until(lambda: "is lost; it may come again" in caplog.text)
            looked.append(True)

        with contextlib.suppress(errors.LeaseLost):
            jobs.consume(handle, max_messages=1)
        assert caplog.text.count("is lost; it may come again") == 1
    # What a handler raises is nobody's: it ended well where it was asked twice.
    assert looked == [True]


def test_what_cannot_be_settled_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(Unsettling, "asked", threading.Event())
    with (
        portable.open_queue("test-unsettling:", name="jobs", visibility_timeout="1s") as jobs,
        caplog.at_level(logging.WARNING, "portable"),
    ):
        jobs.send_many([b"good", b"bad"])

        def handle(message: portable.Message[bytes]) -> None:
            assert Unsettling.asked.wait(PATIENCE)
            if message.body == b"bad":
                raise ZeroDivisionError

        assert jobs.consume(handle, concurrency=2, max_messages=2) == 2
        for told in ("were not extended", "was handled and may come again", "comes back with its lease"):
            assert told in caplog.text
        messages = jobs.receive(2, wait=PATIENCE)
        with pytest.raises(errors.BatchError) as caught:
            jobs.ack_many(messages)
        assert all(isinstance(error, errors.Unavailable) for error in caught.value.result.failed.values())
        # The block's own exception is what is seen.
        with pytest.raises(ZeroDivisionError), messages[0]:
            raise ZeroDivisionError


def test_what_peek_cannot_decode_is_left_out() -> None:
    with portable.open_queue("memory:peeked", name="jobs") as raw:
        raw.send_many([b"not JSON", b"7"])
        with portable.open_queue("memory:peeked", name="jobs", type=int) as typed:
            assert [message.body for message in typed.peek(2)] == [7]
        assert raw.dead_letters.stats().dead is None


def test_a_trace_goes_along() -> None:
    from opentelemetry import trace
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.trace import TracerProvider

    from portable.telemetry import Telemetry

    provider = TracerProvider()
    tree = {
        "resources": {
            "jobs": {"kind": "queue"},
            "events": {"kind": "topic"},
            "sub": {"kind": "subscription", "topic": "events"},
        },
        "profiles": {"local": {"default": "memory:"}},
    }
    hook = Telemetry(provider.get_tracer("tests"), MeterProvider().get_meter("tests"))
    traces: list[int] = []

    def handle(message: portable.Message[bytes]) -> None:
        assert message.attributes["a"] == "b"
        assert format(trace.get_current_span().get_span_context().trace_id, "032x") in message.attributes["traceparent"]
        traces.append(trace.get_current_span().get_span_context().trace_id)

    with Cloud(Profile.load(Config.from_dict(tree), profile="local"), hooks=(hook,)) as opened:
        jobs, events, sub = opened.queue("jobs"), opened.topic("events"), opened.subscription("sub")
        sub.check()
        with provider.get_tracer("tests").start_as_current_span("request") as span:
            jobs.send(b"x", attributes={"a": "b"})
            jobs.send_many([Outgoing(b"x", {"a": "b"})])
            events.publish(b"x", attributes={"a": "b"})
            events.publish_many([Outgoing(b"x", {"a": "b"})])
            wanted = span.get_span_context().trace_id
        jobs.consume(handle, max_messages=2)
        sub.consume(handle, max_messages=2)
    assert traces == [wanted] * 4


def test_topics_keep_limits_too() -> None:
    with cloud({"events": {"kind": "topic"}}, guard={"limits": ["aws"]}) as opened:
        events = opened.topic("events")
        events.publish(b"x")
        with pytest.raises(errors.LimitExceeded, match="max_message_bytes"):
            events.publish(b"x" * 300_000)


def test_bad_arguments(jobs: portable.Queue[bytes]) -> None:
    wrong: list[dict[str, Any]] = [
        {"max_messages": -1},
        {"idle_timeout": -1},
        {"drain_timeout": float("nan")},
        {"concurrency": 0},
    ]
    for how in wrong:
        with pytest.raises(errors.InvalidArgument):
            jobs.consume(print, **how)
    with pytest.raises(errors.InvalidArgument):
        jobs.peek(0)
    with pytest.raises(errors.InvalidArgument):
        jobs.dead_letters.dead_letters.stats()


def test_messages_show_no_bodies(jobs: portable.Queue[bytes]) -> None:
    jobs.send(b"secret", attributes={"also": "secret"})
    (message,) = jobs.receive()
    assert repr(message) == "<Message 1 delivery 1 of 'jobs'>"
    assert message.sent_at.tzinfo is not None


def test_errors_say_where() -> None:
    with portable.open_queue("memory:", name="jobs") as jobs:
        jobs.send(b"x")
        (message,) = jobs.receive()
        with pytest.raises(errors.InvalidArgument) as caught:
            message.nack(delay=-1)
        assert (caught.value.resource, caught.value.operation, caught.value.provider) == ("jobs", "nack", "memory")


def test_dead_letters_of_backends_that_move_them_themselves() -> None:
    with portable.open_queue("memory:", name="jobs", max_deliveries=3) as jobs:
        sent = jobs.dead_letters.send(b"moved by the service")
        (letter,) = jobs.dead_letters.receive()
        assert letter.dead_reason == "delivered 3 times without an ack"
        assert letter.original_id == sent
        letter.nack()
        assert jobs.redrive() == 1
        assert wire.dead_letter_name("jobs") == "jobs-dead"


def test_a_coroutine_function_is_no_handler_here() -> None:
    async def handler(message: object) -> None:
        raise AssertionError("never called")

    with portable.open_queue("memory:") as queue:
        queue.send(b"1")
        with pytest.raises(errors.InvalidArgument, match="which only a queue of the async face awaits"):
            queue.consume(handler, idle_timeout=0)
        assert queue.stats().ready == 1
