# Generated from portable/testing/aio/queue_cases.py by tools/generate_sync.py; change that file, not this one.
"""What the parts of the queue suite share: patience, and what may trip something on the way."""

from __future__ import annotations

from time import monotonic
from typing import Any, ClassVar

from portable.testing.suite import Suite

__all__ = ["HOSTILE", "QueueCases"]

HOSTILE = [
    "../up",
    "a//b",
    "back\\slash",
    "'quotes\"",
    " spaces ",
    "tab\tand\nnewline",
    "control\x01\x7f",
    "nul\x00inside",
    "emoji 🚲",
    "Grüße, 世界",
    "".join(chr(code) for code in range(33, 127) if not chr(code).isalnum()),
    "v" * 1000,
]
"""Values of attributes that something on the way may trip over."""


class QueueCases(Suite):
    """A queue's cases: `open` gives queues.

    Attributes:
        patience: seconds to wait for what must come; what comes sooner is not waited for any longer.
        lease: seconds that short leases and delays have; a backend on this machine keeps ones of less than a second.
    """

    kind = "queue"
    patience: ClassVar[float] = 20.0
    lease: ClassVar[float] = 1.0

    def received(self, queue: Any, count: int = 1, *, ack: bool = True) -> list[Any]:
        """Receive so many messages, however many receives that takes."""
        found: list[Any] = []
        deadline = monotonic() + self.patience
        while len(found) < count and (left := deadline - monotonic()) > 0:
            messages = queue.receive(min(10, count - len(found)), wait=min(left, 5))
            if ack:
                queue.ack_many(messages)
            found += messages
        assert len(found) == count, f"{len(found)} of {count} messages came within {self.patience} s"
        return found

    def dead_letter_of(self, queue: Any) -> Any:
        """Wait for a dead letter, while nothing may be received from the queue itself."""
        deadline = monotonic() + self.patience
        while monotonic() < deadline:
            assert queue.receive(wait=0) == []
            letters = queue.dead_letters.receive(wait=self.lease)
            if letters:
                return letters[0]
        raise AssertionError(f"no dead letter came within {self.patience} s")
