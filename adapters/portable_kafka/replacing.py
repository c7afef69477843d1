"""Replacing messages: a copy elsewhere, and the message done, in one transaction.

A transaction takes a good deal longer than a message, so those who come while one is under way share the next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from time import monotonic

from portable.errors import LeaseLost, PortableError
from portable_kafka.committing import Commits
from portable_kafka.engine import Consumer, Outbound, Place, Transactions
from portable_kafka.lanes import Lanes, Message
from portable_kafka.progress import Progress

__all__ = ["Replacements"]

PAUSE = 0.02
"""Seconds before a transaction that met a rebalance is tried again: the member has to learn of it first."""

WRITTEN_AT_ONCE = 1000


class _Order:
    """What one caller wants replaced."""

    __slots__ = ("alone", "error", "messages", "outbound", "settled")

    def __init__(self, messages: Sequence[Message], outbound: Sequence[Outbound]) -> None:
        self.messages = messages
        self.outbound = outbound
        # Whether it has to be tried without the others, who cannot be to blame then.
        self.alone = False
        self.settled = False
        self.error: PortableError | None = None

    @property
    def lost(self) -> bool:
        """Whether all of its messages went to another consumer."""
        return all(one.lost for one in self.messages)


class _Batch:
    """What goes into one transaction: all that is still there of some orders."""

    def __init__(self, orders: Sequence[_Order]) -> None:
        self.orders = orders
        self.messages: list[Message] = []
        self.outbound: list[Outbound] = []
        for order in orders:
            for message, outbound in zip(order.messages, order.outbound, strict=True):
                if not message.lost:
                    self.messages.append(message)
                    self.outbound.append(outbound)


class Replacements:
    """The transactions of one member.

    Args:
        changed: the lock of all that the member has, and what tells of changes.
        progress: how far it has come in each partition.
        lanes: what it holds.
        commits: what it commits.
        transactions: makes the producer.
    """

    def __init__(
        self,
        changed: threading.Condition,
        progress: Mapping[Place, Progress],
        lanes: Lanes,
        commits: Commits,
        *,
        transactions: Callable[[], Transactions],
    ) -> None:
        self._changed = changed
        self._progress = progress
        self._lanes = lanes
        self._commits = commits
        self._make = transactions
        self._transactions: Transactions | None = None
        self._orders: list[_Order] = []
        # What failed is tried again as it was: who writes without transactions has then written already.
        self._failed: _Batch | None = None
        self._consumer: Consumer | None = None

    def begin(self, consumer: Consumer) -> None:
        """Learn which consumer is the member."""
        self._consumer = consumer

    def end(self) -> None:
        """Learn that it has left its group."""
        self._consumer = None

    def replace(
        self, messages: Sequence[Message], outbound: Sequence[Outbound], *, timeout: float, patient: bool
    ) -> None:
        """Write what takes the place of messages, which are busy, and count them as done.

        Those of partitions that went to another consumer stay as they are: they are that consumer's (`Message.lost`).

        Args:
            messages: that were taken from their holders.
            outbound: for each what takes its place.
            timeout: seconds.
            patient: whether to try again what a rebalance stands in the way of; the thread that has to see to the
                rebalance must not.

        Raises:
            PortableError: it did not come about, and the messages are with their holders again for a moment.
        """
        deadline = monotonic() + timeout
        order = _Order(messages, outbound)
        with self._changed:
            self._orders.append(order)
        try:
            while True:
                with self._commits.lock:
                    if not order.settled and order.error is None:
                        self._write_for(order, max(1.0, deadline - monotonic()))
                if order.settled:
                    return
                self._go_on(order, patient=patient and monotonic() < deadline)
        finally:
            with self._changed:
                if order in self._orders:
                    self._orders.remove(order)
                if not order.settled:
                    for message in messages:
                        self._lanes.hold_again(message)
                self._changed.notify_all()

    def write(self, outbound: Sequence[Outbound], states: Mapping[Place, tuple[int, str]], *, timeout: float) -> None:
        """Write messages and commit offsets, in one transaction of its own."""
        with self._commits.lock:
            self._write(outbound, states, timeout)

    def close(self) -> None:
        """Drop the connections."""
        if self._transactions is not None:
            self._transactions.close()

    def _go_on(self, order: _Order, *, patient: bool) -> None:
        """Wait a moment for what is in the way, or raise it."""
        error, order.error = order.error, None
        if error is None:
            # One of those whose transaction it was is to blame; each tries for itself.
            return
        if not _passes(error) or not patient:
            raise error
        with self._changed:
            if not order.lost:
                self._changed.wait(PAUSE)

    def _write_for(self, order: _Order, timeout: float) -> None:
        """Write what one wants, and what others want with it."""
        with self._changed:
            batch, self._failed = self._batch(order), None
            done: dict[Place, set[int]] = {}
            for message in batch.messages:
                done.setdefault(message.place, set()).add(message.offset)
            states = {place: self._progress[place].state(offsets) for place, offsets in done.items()}
        try:
            if batch.messages:
                self._write(batch.outbound, states, timeout)
        except PortableError as error:
            blames = len(batch.orders) > 1 and not (error.maybe_applied or _passes(error))
            for one in batch.orders:
                one.alone |= blames
                one.error = None if blames else error
            self._failed = batch
            return
        with self._changed:
            self._commits.note(states)
            for message in batch.messages:
                if not message.lost:
                    self._progress[message.place].finish(message.offset)
            self._lanes.finish(one for one in batch.messages if one.leased)
            for one in batch.orders:
                one.settled = True
                self._orders.remove(one)

    def _batch(self, order: _Order) -> _Batch:
        failed = self._failed
        if failed is not None and order in failed.orders and (len(failed.orders) == 1 or not order.alone):
            there = all(one in self._orders for one in failed.orders)
            if there and not any(one.lost for one in failed.messages):
                return failed
        return _Batch([order] if order.alone else self._together(order))

    def _together(self, order: _Order) -> list[_Order]:
        orders, count = [order], len(order.messages)
        for one in self._orders:
            if one is not order and not one.alone and count + len(one.messages) <= WRITTEN_AT_ONCE:
                orders.append(one)
                count += len(one.messages)
        return orders

    def _write(self, outbound: Sequence[Outbound], states: Mapping[Place, tuple[int, str]], timeout: float) -> None:
        consumer = self._consumer
        if consumer is None:
            raise LeaseLost("the consumer has left its group")
        if self._transactions is None:
            self._transactions = self._make()
        self._transactions.write(outbound, states, consumer, timeout=timeout)


def _passes(error: PortableError) -> bool:
    """Whether nothing was done, and it may go well a moment later."""
    return isinstance(error, LeaseLost) or (error.retryable and not error.maybe_applied)
