"""What may stand around every operation: telemetry, and the faults that tests of applications order."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

__all__ = ["Hook", "Running", "begun", "end_all"]


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


def begun(hooks: Iterable[Hook], resource: str, kind: str, provider: str, operation: str) -> list[Running]:
    """Tell every hook that an operation starts; where one refuses, those before it are told of its end."""
    running: list[Running] = []
    try:
        for hook in hooks:
            running.append(hook.begin(resource, kind, provider, operation))  # noqa: PERF401 (kept as it grows: what began must end)
    except BaseException as error:
        end_all(running, error)
        raise
    return running


def end_all(running: list[Running], error: BaseException | None) -> None:
    """Tell every hook, the last one first, how an operation ended; raise what one of them fails it with."""
    raised: BaseException | None = None
    for one in reversed(running):
        try:
            one.end(error)
        except BaseException as failure:  # noqa: BLE001 (the hooks before it must hear of the end all the same)
            error = raised = failure
    if raised is not None:
        raise raised
