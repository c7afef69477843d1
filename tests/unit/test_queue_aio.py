"""The async face of queues where the backend, the application or the clock gives trouble."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from portable import aio, errors, forks
from portable.aio.cloud import Cloud
from portable.config import Config, Profile
from portable.messages import Outgoing
from portable.testing.clock import Clock
from tests.unit.test_queue import Refusing, Troubled, Unsettling

PATIENCE = 60.0
OFFLOADING = {"jobs": {"kind": "queue", "offload": "bodies", "max_deliveries": 2}, "bodies": {"kind": "bucket"}}


def cloud(resources: dict[str, Any], *, clock: Clock | None = None, **profile: Any) -> Cloud:
    tree = {"resources": resources, "profiles": {"local": {"default": "memory:", **profile}}}
    loaded = Profile.load(Config.from_dict(tree), profile="local")
    return Cloud(loaded) if clock is None else Cloud(loaded, clock=clock.now, on_clock_moved=clock.on_moved)


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(PATIENCE):
            await main()

    asyncio.run(bounded())


async def nothing(_: Any) -> None:
    """Handle a message."""


def test_large_bodies_go_to_a_bucket_and_come_back() -> None:
    large = b"x" * 2_000_000

    async def main() -> None:
        async with cloud(OFFLOADING, guard={"limits": ["aws"]}) as opened:
            jobs, bodies = opened.queue("jobs"), opened.bucket("bodies")
            await jobs.send(large, attributes={"a": "b"})
            result = await jobs.send_many([large, b"small", Outgoing(large, delay=901)], return_errors=True)
            assert [type(error) for error in result.failed.values()] == [errors.LimitExceeded]
            assert [(await bodies.head(info.key)).size async for info in bodies.list()] == [2_000_000] * 2
            messages = await jobs.receive(10)
            assert sorted(len(message.body) for message in messages) == [5, 2_000_000, 2_000_000]
            rejected, *others = sorted(messages, key=lambda message: -len(message.body))
            await rejected.reject("not now")
            await jobs.ack_many(others)
            assert await jobs.redrive() == 1
            (back,) = await jobs.receive()
            assert back.body == large
            await back.ack()
            assert [info async for info in bodies.list()] == []

    run(main)


def test_a_lost_body_ends_as_a_dead_letter() -> None:
    clock = Clock()

    async def main() -> None:
        async with cloud(OFFLOADING, clock=clock, guard={"limits": ["aws"]}) as opened:
            jobs, bodies = opened.queue("jobs"), opened.bucket("bodies")
            await jobs.send(b"x" * 2_000_000)
            await bodies.delete_many([info.key async for info in bodies.list()])
            assert await jobs.peek() == []
            for _ in range(2):
                assert await jobs.receive(wait=0) == []
                clock.advance(120)
            assert (await jobs.stats()).dead == 1

    run(main)


def test_what_does_not_fit_the_type_is_postponed_and_buried() -> None:
    clock = Clock()

    async def main() -> None:
        async with cloud({"jobs": {"kind": "queue", "max_deliveries": 2}}, clock=clock) as opened:
            raw, typed = opened.queue("jobs"), opened.queue("jobs", type=int)
            await raw.send_many([b"not JSON", b"7"])
            assert [message.body for message in await typed.peek(2)] == [7]
            (message,) = await typed.receive(2)
            await message.ack()
            clock.advance(120)
            assert await typed.receive(wait=0) == []
            (letter,) = await typed.dead_letters.receive()
            assert (letter.body, letter.delivery_count) == (b"not JSON", 1)
            assert letter.dead_reason
            with pytest.raises(errors.InvalidArgument, match="no dead-letter queue of its own"):
                _ = typed.dead_letters.dead_letters

    run(main)


def test_a_named_dead_letter_queue_and_bad_arguments() -> None:
    contract = {"kind": "queue", "max_deliveries": 1, "dead_letter": "graveyard"}

    async def main() -> None:
        async with cloud({"jobs": contract, "graveyard": {"kind": "queue"}}, guard={"limits": ["aws"]}) as opened:
            jobs = opened.queue("jobs")
            assert jobs.dead_letters is opened.queue("graveyard")
            await jobs.send(b"1")
            (message,) = await jobs.receive()
            await message.nack()
            assert (await jobs.stats()).dead == 1
            assert await jobs.redrive() == 1
            for call in (jobs.peek(0), jobs.receive(0), jobs.consume(nothing, max_messages=-1)):
                with pytest.raises(errors.InvalidArgument):
                    await call
            with pytest.raises(errors.LimitExceeded):
                await jobs.receive(visibility_timeout=13 * 3600)
        with pytest.raises(errors.ConfigError, match="max_deliveries"):
            aio.open_queue("memory:", max_deliveries=0)

    run(main)


def test_events_are_handled_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    records = [("1", b"good", "a"), ("2", b"bad", "a"), ("3", b"held back", "a"), ("4", b"bad", None)]
    handled: list[bytes] = []

    async def handle(message: aio.Message[bytes]) -> None:
        handled.append(message.body)
        if message.body == b"bad":
            raise ZeroDivisionError

    async def main() -> None:
        async with aio.open_queue("test-pushed:", name="jobs") as jobs:
            assert await jobs.handle_event({"records": records}, handle) == {"failures": ["2", "3", "4"]}
        async with aio.open_queue("memory:") as jobs:
            with pytest.raises(errors.Unsupported, match="consume"):
                await jobs.handle_event({}, handle)

    with caplog.at_level(logging.WARNING, "portable"):
        run(main)
    assert handled == [b"good", b"bad", b"bad"]
    assert "ZeroDivisionError" in caplog.text


def test_failures_of_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with aio.open_queue("test-refusing:", name="jobs", max_deliveries=1) as jobs:
            result = await jobs.send_many([b"1", b"one", b"2", b"3"], return_errors=True)
            assert {index: type(error) for index, error in result.failed.items()} == {1: errors.Throttled}
            with pytest.raises(errors.Throttled):
                await jobs.send(b"one")
            for message in await jobs.receive(10):
                await message.reject()
            for error in (errors.Throttled, errors.Unavailable):
                monkeypatch.setattr(Refusing, "refused", (b"2", error))
                with pytest.raises(error):
                    await jobs.redrive()
            monkeypatch.undo()
            await jobs.redrive()
            assert sorted(message.body for message in await jobs.receive(10)) == [b"1", b"2", b"3"]
            monkeypatch.setattr(Refusing, "refused", (b"all", errors.Unavailable))
            with pytest.raises(errors.BatchError) as caught:
                await jobs.send_many([b"all", b"1"])
            assert [type(error) for error in caught.value.result.failed.values()] == [errors.Unavailable] * 2
            monkeypatch.undo()
        async with aio.open_queue("test-refusing:", name="lines", ordered=True) as lines:
            entries = [Outgoing(body, ordering_key=key) for key in "ab" for body in (b"1", b"one", b"2", b"3")]
            result = await lines.send_many(entries, return_errors=True)
            assert sorted(result.failed) == [1, 2, 3, 5, 6, 7]

    run(main)


def test_passing_troubles_are_waited_out_and_lasting_ones_end_the_consumer(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Troubled, "troubles", [errors.Unavailable("down"), errors.Throttled("slower")])

    async def main() -> None:
        async with aio.open_queue("test-troubled:", name="jobs") as jobs:
            await jobs.send(b"x")
            assert await jobs.consume(nothing, max_messages=1) == 1
            Troubled.troubles.append(errors.PermissionDenied("no more"))
            with pytest.raises(errors.PermissionDenied):
                await jobs.consume(nothing, concurrency=3)

    with caplog.at_level(logging.WARNING, "portable"):
        run(main)
    assert caplog.text.count("cannot receive") == 2


def test_what_cannot_be_settled_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(Unsettling, "asked", threading.Event())

    async def handle(message: aio.Message[bytes]) -> None:
        assert await asyncio.to_thread(Unsettling.asked.wait, PATIENCE)
        if message.body == b"bad":
            raise ZeroDivisionError

    async def main() -> None:
        async with aio.open_queue("test-unsettling:", name="jobs", visibility_timeout="1s") as jobs:
            await jobs.send_many([b"good", b"bad"])
            assert await jobs.consume(handle, concurrency=2, max_messages=2) == 2
            messages = await jobs.receive(2, wait=PATIENCE)
            with pytest.raises(errors.BatchError) as caught:
                await jobs.ack_many(messages)
            assert {type(error) for error in caught.value.result.failed.values()} == {errors.Unavailable}

    with caplog.at_level(logging.WARNING, "portable"):
        run(main)
    for told in ("were not extended", "was handled and may come again", "comes back with its lease"):
        assert told in caplog.text


def test_a_lost_lease_is_told(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()

    async def main() -> None:
        async with cloud({"jobs": {"kind": "queue"}}, clock=clock) as opened:
            jobs = opened.queue("jobs")
            await jobs.send(b"x")

            async def slow(_: Any) -> None:
                clock.advance(31)
                (taken,) = await jobs.receive()
                await taken.ack()

            assert await jobs.consume(slow, max_messages=1) == 1

    with caplog.at_level(logging.WARNING, "portable"):
        run(main)
    assert "may come again" in caplog.text


def test_a_guarded_topic_refuses_what_the_cloud_would() -> None:
    async def main() -> None:
        async with cloud({"events": {"kind": "topic"}}, guard={"limits": ["aws"]}) as opened:
            with pytest.raises(errors.LimitExceeded):
                await opened.topic("events").publish(b"x" * 2_000_000)
            await opened.topic("events").publish(b"x")

    run(main)


def test_a_guarded_collection_refuses_what_the_cloud_would() -> None:
    async def main() -> None:
        async with cloud({"users": {"kind": "collection"}}, guard={"limits": ["aws"]}) as opened:
            users = opened.collection("users")
            with pytest.raises(errors.LimitExceeded):
                await users.put({"id": "a", "text": "x" * 500_000})
            await users.transact([aio.Put({"id": "a"}), aio.Put({"id": "b"})])
            with pytest.raises(errors.LimitExceeded):
                await users.transact([aio.Put({"id": f"u{n}", "text": "x" * 390_000}) for n in range(20)])
            with pytest.raises(errors.InvalidArgument, match="a revision is the str"):
                await users.put({"id": "a"}, if_revision=5)  # type: ignore[arg-type]  # the mistake
            with pytest.raises(errors.DeadlineExceeded):
                await users.write_many([aio.Put({"id": f"u{n}"}) for n in range(300)], timeout=0)

    run(main)


def test_in_a_child_the_parents_dead_letters_are_made_anew() -> None:
    """What a fork does to every open cloud, without one: it is done to this cloud alone."""

    async def main() -> None:
        async with cloud({"jobs": {"kind": "queue", "max_deliveries": 1}}) as opened:
            jobs = opened.queue("jobs")
            await jobs.send(b"x")
            (message,) = await jobs.receive()
            await message.nack()
            before = jobs._driver, jobs.dead_letters._driver
            assert opened in forks._clouds
            abandoned = opened._after_fork_in_child()
            assert abandoned == [[before[0], before[1]]]
            assert jobs._driver is not before[0]
            assert jobs.dead_letters._driver is not before[1]
            (letter,) = await jobs.dead_letters.receive()
            assert letter.body == b"x"
            for driver in before:
                driver._driver.close()  # type: ignore[attr-defined]  # the parent's, as the child has no parent here

    run(main)
