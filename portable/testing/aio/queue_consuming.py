"""What `consume` must do on every queue."""

from __future__ import annotations

from typing import Any

import msgspec

from portable.aio._concurrency import Stop, pause
from portable.testing.aio.queue_cases import QueueCases

__all__ = ["QueueConsumingCases"]


class Task(msgspec.Struct):
    """A typed body."""

    number: int


class QueueConsumingCases(QueueCases):
    """The loop of a worker."""

    async def test_consume(self) -> None:
        """Every message is handled, acknowledged and counted."""
        queue = self.open(visibility_timeout=600, type=Task)
        await queue.send_many([Task(number) for number in range(20)])
        handled: list[int] = []

        async def handle(message: Any) -> None:
            handled.append(message.body.number)

        assert await queue.consume(handle, concurrency=4, max_messages=20) == 20
        assert sorted(handled) == list(range(20))
        stats = await queue.stats()
        assert stats.ready in {0, None}
        assert stats.leased in {0, None}

    async def test_consume_so_many(self) -> None:
        """No more are taken than asked for."""
        queue = self.open(visibility_timeout=600)
        await queue.send_many([str(number) for number in range(5)])
        handled: list[bytes] = []

        async def handle(message: Any) -> None:
            handled.append(message.body)

        assert await queue.consume(handle, max_messages=0) == 0
        assert await queue.consume(handle, concurrency=3, max_messages=3) == 3
        assert len(handled) == 3
        rest = await self.received(queue, 2)
        assert {*handled, *(message.body for message in rest)} == {b"0", b"1", b"2", b"3", b"4"}

    async def test_consume_until_idle(self) -> None:
        """It ends when nothing has come for a while."""
        queue = self.open()
        await queue.send(b"body")
        handled: list[bytes] = []

        async def handle(message: Any) -> None:
            handled.append(message.body)

        # Long enough for a slow backend to deliver.
        assert await queue.consume(handle, concurrency=2, idle_timeout=2 * self.lease) == 1
        assert handled == [b"body"]

    async def test_consume_again_after_a_failure(self) -> None:
        """A message whose handler raised comes again, and the consumer goes on."""
        queue = self.open(visibility_timeout=600, max_deliveries=5)
        await queue.send(b"body")
        seen: list[int] = []

        async def handle(message: Any) -> None:
            seen.append(message.delivery_count)
            if len(seen) == 1:
                raise ZeroDivisionError("only once")

        assert await queue.consume(handle, max_messages=2) == 2
        assert len(seen) == 2
        assert seen[1] > seen[0]
        assert await queue.receive(wait=0.2 * self.lease) == []

    async def test_consume_buries(self) -> None:
        """After the last delivery the exception is the reason of the dead letter."""
        queue = self.open(visibility_timeout=600, max_deliveries=1)
        sent = await queue.send(b"body")

        async def handle(message: Any) -> None:
            raise ValueError(f"cannot handle {message.id}")

        assert await queue.consume(handle, max_messages=1) == 1
        letter = await self.dead_letter_of(queue)
        assert letter.original_id == sent
        assert letter.dead_reason == f"ValueError: cannot handle {sent}"

    async def test_consume_leaves_settled_alone(self) -> None:
        """A handler may settle its message itself."""
        queue = self.open(visibility_timeout=600)
        await queue.send(b"reject")
        await queue.send(b"ack")

        async def handle(message: Any) -> None:
            if message.body == b"reject":
                await message.reject("by the handler")
                raise ZeroDivisionError
            await message.ack()

        assert await queue.consume(handle, max_messages=2) == 2
        letter = await self.dead_letter_of(queue)
        assert (letter.body, letter.dead_reason) == (b"reject", "by the handler")

    async def test_consume_stops(self) -> None:
        """Told to stop in the middle, it finishes what it has begun, and the rest is still there."""
        queue = self.open(visibility_timeout=600)
        await queue.send_many([str(number) for number in range(12)])
        stop = Stop()
        begun: list[bytes] = []
        finished: list[bytes] = []

        async def handle(message: Any) -> None:
            begun.append(message.body)
            if len(begun) >= 3:
                stop.set()
            await pause(stop, self.patience)
            finished.append(message.body)

        count = await queue.consume(handle, concurrency=3, stop=stop)
        assert count == len(finished) == len(begun)
        rest = await self.received(queue, 12 - count)
        assert sorted([*finished, *(message.body for message in rest)]) == sorted(str(n).encode() for n in range(12))

    async def test_consume_keeps_the_lease(self) -> None:
        """While a handler runs nobody else gets its message, however short the lease."""
        # However short leases may be, the process that extends them may be held up for a while.
        lease = max(2, 5 * self.lease)
        queue, other = self.open(visibility_timeout=lease), self.open(visibility_timeout=lease)
        await queue.send(b"body")
        others: list[Any] = []

        async def handle(_: Any) -> None:
            others.extend(await other.receive(wait=1.15 * lease))

        assert await queue.consume(handle, max_messages=1) == 1
        assert others == []
        assert await other.receive(wait=0.2 * self.lease) == []

    async def test_consume_leaves_a_hung_handler(self) -> None:
        """A handler that does not end in time loses its message to somebody else."""
        queue = self.open(visibility_timeout=600)
        sent = await queue.send(b"body")
        stop, never = Stop(), Stop()

        async def hang(_: Any) -> None:
            stop.set()
            await pause(never, 10 * self.patience)

        try:
            await queue.consume(hang, concurrency=2, stop=stop, drain_timeout=0.2)
            (message,) = await self.received(self.open(visibility_timeout=600))
            assert message.id == sent
        finally:
            never.set()
