"""What may stand around every operation: telemetry, and the faults that tests of applications order."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Hook", "Running"]


class Running(Protocol):
    """One operation under way."""

    delay: float
    """Seconds to wait before it starts."""

    def end(self, error: BaseException | None) -> None:
        """Take note of how it ended; may raise, to fail an operation that was applied."""
        ...


class Hook(Protocol):
    """Called at the start of every operation of every resource; a cloud without hooks pays nothing."""

    def begin(self, resource: str, kind: str, provider: str, operation: str) -> Running:
        """Take note that an operation starts; may raise, to fail it before it is applied."""
        ...
