# Generated from portable/testing/aio/queue_leases.py by tools/generate_sync.py; change that file, not this one.
"""What every queue must do with a message that was received: hold it, give it back, and bury it in the end."""

from __future__ import annotations

import contextlib
from time import monotonic

import pytest

from portable import errors
from portable.testing.queue_cases import QueueCases
from portable.testing.suite import lacks, needs

__all__ = ["QueueLeaseCases"]


class QueueLeaseCases(QueueCases):
    """Leases, acknowledgements and dead letters."""

    def test_ack_removes(self) -> None:
        """An acknowledged message does not come back when its lease would have ended."""
        queue = self.open(visibility_timeout=self.lease)
        queue.send(b"body")
        (message,) = self.received(queue, ack=False)
        message.ack()
        assert queue.receive(wait=1.5 * self.lease) == []

    def test_ack_twice(self) -> None:
        """Acknowledging twice is no error, and nothing else can be done then."""
        queue = self.open()
        queue.send(b"body")
        (message,) = self.received(queue, ack=False)
        message.ack()
        message.ack()
        queue.ack_many([message])
        for call in (message.nack, message.reject):
            with pytest.raises(errors.LeaseLost):
                call()
        with pytest.raises(errors.LeaseLost):
            message.extend(10)

    def test_ack_many(self) -> None:
        """Many are acknowledged at once, and one that cannot be is named."""
        queue = self.open(visibility_timeout=600)
        queue.send_many([str(number) for number in range(25)])
        messages = self.received(queue, 25, ack=False)
        queue.ack_many(messages)
        queue.ack_many([])
        assert (queue.stats()).leased in {0, None}
        assert queue.receive(wait=0) == []
        queue.send_many([b"kept", b"given back"])
        kept, given_back = self.received(queue, 2, ack=False)
        given_back.nack()
        with pytest.raises(errors.BatchError) as caught:
            queue.ack_many([given_back, kept])
        assert sorted(caught.value.result.failed) == [0]
        assert isinstance(caught.value.result.failed[0], errors.LeaseLost)
        assert [message.id for message in self.received(queue)] == [given_back.id]

    def test_lease_ends(self) -> None:
        """A message that nobody settles comes back when its lease has run out, and not before."""
        queue = self.open(visibility_timeout=self.lease)
        started = monotonic()
        sent = queue.send(b"body")
        (first,) = self.received(queue, ack=False)
        (second,) = self.received(queue, ack=False)
        assert monotonic() - started >= 0.9 * self.lease
        assert first.id == second.id == sent
        assert second.body == b"body"
        assert second.delivery_count > first.delivery_count
        if queue.capabilities.exact_count:
            assert (first.delivery_count, second.delivery_count) == (1, 2)

    @needs("exact_count")
    def test_deliveries_are_counted_exactly(self) -> None:
        """Each delivery counts one, whether the last ended with its lease or was given back."""
        queue = self.open(visibility_timeout=self.lease, max_deliveries=10)
        queue.send(b"body")
        for count in (1, 2, 3):
            (message,) = self.received(queue, ack=False)
            assert message.delivery_count == count
            if count != 2:
                message.nack()
        (message,) = self.received(queue)
        assert message.delivery_count == 4

    def test_late_ack(self) -> None:
        """A lease that went to somebody else is lost, where the backend tells."""
        queue = self.open(visibility_timeout=self.lease)
        queue.send(b"body")
        (first,) = self.received(queue, ack=False)
        (second,) = self.received(queue, ack=False)
        lost = False
        try:
            first.extend(self.lease)
        except errors.LeaseLost:
            lost = True
        with contextlib.suppress(errors.LeaseLost):
            first.ack()
            assert not lost, "an extend knew that the lease was lost, and an ack did not"
        with contextlib.suppress(errors.LeaseLost):
            second.ack()

    @needs("lease_per_receive")
    def test_lease_per_receive(self) -> None:
        """A receive may ask for a lease of its own length."""
        queue = self.open(visibility_timeout=600)
        sent = queue.send(b"body")
        started = monotonic()
        (first,) = queue.receive(wait=self.patience, visibility_timeout=self.lease)
        (second,) = self.received(queue)
        assert monotonic() - started >= 0.9 * self.lease
        assert first.id == second.id == sent
        with pytest.raises(errors.InvalidArgument):
            queue.receive(visibility_timeout=-1)

    @lacks("lease_per_receive")
    def test_no_lease_per_receive(self) -> None:
        """It is refused where all leases have one length."""
        with pytest.raises(errors.Unsupported):
            self.open().receive(wait=0, visibility_timeout=1)

    def test_extend_counts_from_now(self) -> None:
        """An extended lease ends so many seconds after the call."""
        queue = self.open(visibility_timeout=600)
        sent = queue.send(b"body")
        (first,) = self.received(queue, ack=False)
        started = monotonic()
        first.extend(self.lease)
        (second,) = self.received(queue)
        assert monotonic() - started >= 0.9 * self.lease
        assert second.id == sent

    def test_extend_holds(self) -> None:
        """An extended lease holds when the first would have ended."""
        # Long enough for a slow backend to extend it in time.
        queue = self.open(visibility_timeout=3 * self.lease)
        queue.send(b"body")
        (message,) = self.received(queue, ack=False)
        message.extend(600)
        assert queue.receive(wait=3.5 * self.lease) == []
        message.ack()
        with pytest.raises(errors.LeaseLost):
            message.extend(10)

    def test_nack(self) -> None:
        """A message that was given back is delivered again at once."""
        queue = self.open(visibility_timeout=600)
        sent = queue.send(b"body", attributes={"a": "b"})
        (first,) = self.received(queue, ack=False)
        first.nack()
        first.nack()
        (second,) = self.received(queue, ack=False)
        assert (second.id, second.body, second.attributes) == (sent, b"body", {"a": "b"})
        if queue.capabilities.exact_count:
            assert second.delivery_count == 2
        with pytest.raises(errors.LeaseLost):
            first.ack()
        second.ack()

    @needs("nack_delay")
    def test_nack_delay(self) -> None:
        """A message given back with a delay comes after it."""
        queue = self.open(visibility_timeout=600)
        queue.send(b"body")
        (first,) = self.received(queue, ack=False)
        started = monotonic()
        first.nack(delay=1.5 * self.lease)
        (second,) = self.received(queue)
        assert monotonic() - started >= 1.4 * self.lease
        assert second.id == first.id

    @lacks("nack_delay")
    def test_no_nack_delay(self) -> None:
        """A delay is refused where it cannot be kept, and the message is still held."""
        queue = self.open()
        queue.send(b"body")
        (message,) = self.received(queue, ack=False)
        with pytest.raises(errors.Unsupported):
            message.nack(delay=1)
        message.ack()

    def test_message_as_a_context(self) -> None:
        """Leaving the block acknowledges; raising gives back; settling inside is left alone."""
        queue = self.open(visibility_timeout=600)
        queue.send(b"body")
        (first,) = self.received(queue, ack=False)
        with pytest.raises(ZeroDivisionError):
            with first:
                raise ZeroDivisionError
        (second,) = self.received(queue, ack=False)
        with second:
            second.nack()
        (third,) = self.received(queue, ack=False)
        with third as held:
            assert held is third
        assert first.id == second.id == third.id
        assert queue.receive(wait=0.2 * self.lease) == []

    def test_dead_letter_after_nacks(self) -> None:
        """After its last delivery a message is a dead letter, with all that it had, the reason and its id."""
        queue = self.open(max_deliveries=2)
        sent = queue.send(b"\x00body", attributes={"type": "order.paid", "from": "tests"})
        for _ in range(2):
            (message,) = self.received(queue, ack=False)
            assert message.id == sent
            message.nack()
        letter = self.dead_letter_of(queue)
        assert letter.body == b"\x00body"
        assert letter.attributes == {"type": "order.paid", "from": "tests"}
        assert letter.original_id == sent
        assert letter.dead_reason
        letter.ack()
        assert queue.dead_letters.receive(wait=0.2 * self.lease) == []

    def test_dead_letter_after_leases(self) -> None:
        """A message whose last lease runs out is a dead letter, too."""
        queue = self.open(max_deliveries=1, visibility_timeout=self.lease)
        sent = queue.send(b"body")
        (message,) = self.received(queue, ack=False)
        assert message.id == sent
        letter = self.dead_letter_of(queue)
        assert letter.body == b"body"
        assert letter.original_id == sent
        assert letter.dead_reason

    def test_reject(self) -> None:
        """A rejected message is a dead letter at once, with the reason given."""
        queue = self.open(max_deliveries=5)
        sent = queue.send(b"body", attributes={"a": "b"})
        (message,) = self.received(queue, ack=False)
        message.reject("no such customer, Grüße")
        message.reject("again")
        with pytest.raises(errors.LeaseLost):
            message.ack()
        letter = self.dead_letter_of(queue)
        assert (letter.body, letter.attributes) == (b"body", {"a": "b"})
        assert letter.original_id == sent
        assert letter.dead_reason == "no such customer, Grüße"
        with pytest.raises(errors.InvalidArgument):
            letter.reject()
        letter.nack()
        # What is given back may be counted a moment later.
        deadline = monotonic() + self.patience
        while (dead := (queue.stats()).dead) not in {1, None}:
            assert monotonic() < deadline, f"{dead} dead letters are counted instead of 1"

    def test_redrive(self) -> None:
        """Dead letters are sent again as they first were, as many as asked for."""
        queue = self.open(max_deliveries=1)
        bodies = {b"1", b"2", b"3"}
        for body in bodies:
            queue.send(body, attributes={"of": body.decode()})
        for message in self.received(queue, 3, ack=False):
            message.reject("later")
        assert queue.redrive(1) == 1
        assert queue.redrive() == 2
        assert queue.redrive() == 0
        messages = self.received(queue, 3, ack=False)
        assert {message.body for message in messages} == bodies
        for message in messages:
            assert message.attributes == {"of": message.body.decode()}
            assert message.dead_reason is None
            assert message.delivery_count <= 1
            message.reject("again")
        assert queue.redrive() == 3
