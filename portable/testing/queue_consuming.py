# Generated from portable/testing/aio/queue_consuming.py by tools/generate_sync.py; change that file, not this one.
"""What `consume` must do on every queue."""

from __future__ import annotations

from typing import Any

import msgspec

from portable._concurrency import Stop, pause
from portable.testing.queue_cases import QueueCases

__all__ = ["QueueConsumingCases"]


class Task(msgspec.Struct):
    """A typed body."""

    number: int


class QueueConsumingCases(QueueCases):
    """The loop of a worker."""

    def test_consume(self) -> None:
        """Every message is handled, acknowledged and counted."""
        queue = self.open(visibility_timeout=600, type=Task)
        queue.send_many([Task(number) for number in range(20)])
        handled: list[int] = []

        def handle(message: Any) -> None:
            handled.append(message.body.number)

        assert queue.consume(handle, concurrency=4, max_messages=20) == 20
        assert sorted(handled) == list(range(20))
        stats = queue.stats()
        assert stats.ready in {0, None}
        assert stats.leased in {0, None}

    def test_consume_so_many(self) -> None:
        """No more are taken than asked for."""
        queue = self.open(visibility_timeout=600)
        queue.send_many([str(number) for number in range(5)])
        handled: list[bytes] = []

        def handle(message: Any) -> None:
            handled.append(message.body)

        assert queue.consume(handle, max_messages=0) == 0
        assert queue.consume(handle, concurrency=3, max_messages=3) == 3
        assert len(handled) == 3
        rest = self.received(queue, 2)
        assert {*handled, *(message.body for message in rest)} == {b"0", b"1", b"2", b"3", b"4"}

    def test_consume_until_idle(self) -> None:
        """It ends when nothing has come for a while."""
        queue = self.open()
        queue.send(b"body")
        handled: list[bytes] = []

        def handle(message: Any) -> None:
            handled.append(message.body)

        # Long enough for a slow backend to deliver.
        assert queue.consume(handle, concurrency=2, idle_timeout=2 * self.lease) == 1
        assert handled == [b"body"]

    def test_consume_again_after_a_failure(self) -> None:
        """A message whose handler raised comes again, and the consumer goes on."""
        queue = self.open(visibility_timeout=600, max_deliveries=5)
        queue.send(b"body")
        seen: list[int] = []

        def handle(message: Any) -> None:
            seen.append(message.delivery_count)
            if len(seen) == 1:
                raise ZeroDivisionError("only once")

        assert queue.consume(handle, max_messages=2) == 2
        assert len(seen) == 2
        assert seen[1] > seen[0]
        assert queue.receive(wait=0.2 * self.lease) == []

    def test_consume_buries(self) -> None:
        """After the last delivery the exception is the reason of the dead letter."""
        queue = self.open(visibility_timeout=600, max_deliveries=1)
        sent = queue.send(b"body")

        def handle(message: Any) -> None:
            raise ValueError(f"cannot handle {message.id}")

        assert queue.consume(handle, max_messages=1) == 1
        letter = self.dead_letter_of(queue)
        assert letter.original_id == sent
        assert letter.dead_reason == f"ValueError: cannot handle {sent}"

    def test_consume_leaves_settled_alone(self) -> None:
        """A handler may settle its message itself."""
        queue = self.open(visibility_timeout=600)
        queue.send(b"reject")
        queue.send(b"ack")

        def handle(message: Any) -> None:
            if message.body == b"reject":
                message.reject("by the handler")
                raise ZeroDivisionError
            message.ack()

        assert queue.consume(handle, max_messages=2) == 2
        letter = self.dead_letter_of(queue)
        assert (letter.body, letter.dead_reason) == (b"reject", "by the handler")

    def test_consume_stops(self) -> None:
        """Told to stop in the middle, it finishes what it has begun, and the rest is still there."""
        queue = self.open(visibility_timeout=600)
        queue.send_many([str(number) for number in range(12)])
        stop = Stop()
        begun: list[bytes] = []
        finished: list[bytes] = []

        def handle(message: Any) -> None:
            begun.append(message.body)
            if len(begun) >= 3:
                stop.set()
            pause(stop, self.patience)
            finished.append(message.body)

        count = queue.consume(handle, concurrency=3, stop=stop)
        assert count == len(finished) == len(begun)
        rest = self.received(queue, 12 - count)
        assert sorted([*finished, *(message.body for message in rest)]) == sorted(str(n).encode() for n in range(12))

    def test_consume_keeps_the_lease(self) -> None:
        """While a handler runs nobody else gets its message, however short the lease."""
        # However short leases may be, the process that extends them may be held up for a while.
        lease = max(2, 5 * self.lease)
        queue, other = self.open(visibility_timeout=lease), self.open(visibility_timeout=lease)
        queue.send(b"body")
        others: list[Any] = []

        def handle(_: Any) -> None:
            others.extend(other.receive(wait=1.15 * lease))

        assert queue.consume(handle, max_messages=1) == 1
        assert others == []
        assert other.receive(wait=0.2 * self.lease) == []

    def test_consume_leaves_a_hung_handler(self) -> None:
        """A handler that does not end in time loses its message to somebody else."""
        queue = self.open(visibility_timeout=600)
        sent = queue.send(b"body")
        stop, never = Stop(), Stop()

        def hang(_: Any) -> None:
            stop.set()
            pause(never, 10 * self.patience)

        try:
            queue.consume(hang, concurrency=2, stop=stop, drain_timeout=0.2)
            (message,) = self.received(self.open(visibility_timeout=600))
            assert message.id == sent
        finally:
            never.set()
