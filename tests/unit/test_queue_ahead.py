"""Consuming ahead, where the backend gives and removes many messages in a call."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

import portable
from portable import aio, consumer, errors
from portable.messages import Delivery
from portable_embedded.memory_queue import MemoryQueue

COUNT = 300


class Calls:
    """How many messages each call was about.

    Attributes:
        refused: the body of the message that is not acknowledged.
        error: what a call fails with that is to acknowledge it.
    """

    def __init__(self) -> None:
        self.received: list[int] = []
        self.acked: list[int] = []
        self.refused: bytes | None = None
        self.error: errors.PortableError | None = None


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Have queues in memory consume ahead, and note what they are asked."""
    calls = Calls()
    receive, ack = MemoryQueue.receive, MemoryQueue.ack

    def received(self: MemoryQueue, max_messages: int, **how: Any) -> list[Delivery]:
        found: list[Delivery] = receive(self, max_messages, **how)
        calls.received.append(len(found))
        return found

    def acked(self: MemoryQueue, deliveries: Sequence[Delivery], **how: Any) -> list[errors.PortableError | None]:
        calls.acked.append(len(deliveries))
        if calls.refused in [one.body for one in deliveries]:
            if calls.error is not None:
                raise calls.error
            return [
                errors.LeaseLost("lost") if one.body == calls.refused else ack(self, [one], **how)[0]
                for one in deliveries
            ]
        return ack(self, deliveries, **how)

    monkeypatch.setattr(MemoryQueue, "consume_ahead", 64, raising=False)
    monkeypatch.setattr(MemoryQueue, "receive", received)
    monkeypatch.setattr(MemoryQueue, "ack", acked)
    return calls


def bodies() -> list[bytes]:
    return [str(number).encode() for number in range(COUNT)]


@pytest.mark.parametrize("concurrency", [1, 4])
def test_as_many_are_fetched_as_are_handled_in_a_moment(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, concurrency: int
) -> None:
    monkeypatch.setattr(consumer, "_AHEAD", 600.0)
    handled: list[bytes] = []
    with portable.open_queue("memory:", name="jobs") as jobs:
        jobs.send_many(bodies())
        done = jobs.consume(lambda one: handled.append(one.body), concurrency=concurrency, max_messages=COUNT)
        assert done == COUNT
        assert sorted(handled) == sorted(bodies())
        assert (jobs.stats().ready, jobs.stats().leased) == (0, 0)
    assert max(calls.received) == 64
    assert sum(calls.acked) == COUNT


def test_nothing_is_fetched_ahead_where_handlers_are_slow(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "_AHEAD", -1.0)
    with portable.open_queue("memory:", name="jobs") as jobs:
        jobs.send_many(bodies())
        jobs.consume(lambda one: None, concurrency=4, max_messages=COUNT)
    assert max(calls.received) <= 4


def test_what_others_handle_meanwhile_is_acknowledged_together(calls: Calls) -> None:
    async def main() -> None:
        async with aio.open_queue("memory:", name="jobs") as jobs:
            await jobs.send_many(bodies())
            handled = 0

            async def handle(_: aio.Message[bytes]) -> None:
                nonlocal handled
                handled += 1

            assert await jobs.consume(handle, concurrency=50, max_messages=COUNT) == handled == COUNT
            stats = await jobs.stats()
            assert (stats.ready, stats.leased) == (0, 0)

    asyncio.run(main())
    assert sum(calls.acked) == COUNT


@pytest.mark.parametrize("error", [None, errors.Unavailable("down")])
def test_what_is_not_acknowledged_is_told_and_comes_again(
    calls: Calls, caplog: pytest.LogCaptureFixture, error: errors.PortableError | None
) -> None:
    calls.refused, calls.error = b"7", error
    with portable.open_queue("memory:", name="jobs") as jobs, caplog.at_level(logging.WARNING, "portable"):
        jobs.send_many(bodies())
        assert jobs.consume(lambda one: None, concurrency=4, max_messages=COUNT) == COUNT
        leased = jobs.stats().leased
    assert leased is not None
    assert leased >= 1
    assert caplog.text.count("may come again") == leased


def test_failed_handlers_and_those_that_settle_themselves(calls: Calls) -> None:
    def handle(message: portable.Message[bytes]) -> None:
        if message.body == b"1":
            message.reject("not wanted")
        if message.body == b"2":
            raise ZeroDivisionError

    with portable.open_queue("memory:", name="jobs", max_deliveries=1) as jobs:
        jobs.send_many(bodies())
        assert jobs.consume(handle, concurrency=4, max_messages=COUNT) == COUNT
        assert sorted(one.body for one in jobs.dead_letters.receive(5)) == [b"1", b"2"]
    assert sum(calls.acked) == COUNT - 2


def test_an_interrupt_gives_back_what_was_fetched_ahead(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "_AHEAD", 600.0)

    def handle(message: portable.Message[bytes]) -> None:
        if message.body == b"100":
            raise KeyboardInterrupt

    with portable.open_queue("memory:", name="jobs") as jobs:
        jobs.send_many(bodies())
        with pytest.raises(KeyboardInterrupt):
            jobs.consume(handle)
        assert jobs.stats().ready == COUNT - 100
        assert b"100" in [one.body for one in jobs.receive(COUNT, wait=0)]
    assert calls.received[-1] == COUNT - 100
