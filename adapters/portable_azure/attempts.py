"""The attempts of one call to Azure Storage: within the time of the call, and no later one hides what one has done."""

from __future__ import annotations

import random
from time import monotonic
from typing import Any

from azure.storage.queue import ExponentialRetry

from portable_azure.errors import answered, note_lost, translated

__all__ = ["Attempts"]

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0
"""Seconds before an attempt is repeated: twice as many each time, and by chance down to half."""

_UNTIL, _LOST = "portable_until", "portable_lost"


class Attempts(ExponentialRetry):
    """The vendor's own policy of retries, which knows how long one attempt may take, and not how long all of them.

    Args:
        retries: how often a call is repeated.
    """

    def __init__(self, retries: int) -> None:
        super().__init__(retry_total=retries)

    def configure_retries(self, request: Any) -> dict[str, Any]:
        """Note when the time of a call is over, which is as long as one attempt may take."""
        settings: dict[str, Any] = super().configure_retries(request)
        settings[_UNTIL] = monotonic() + request.context.options.get("read_timeout", float("inf"))
        return settings

    def increment(self, settings: dict[str, Any], request: Any, response: Any = None, error: Any = None) -> bool:
        """Say whether to try again, after an attempt that failed."""
        again: bool = super().increment(settings, request, response, error)
        if settings.get(_LOST):
            note_lost(error if error is not None else response)
        if error is not None:
            meant = translated(error)
        else:
            meant = answered(response.status_code, response.headers.get("x-ms-error-code", ""))
        settings[_LOST] = settings.get(_LOST) or meant.maybe_applied
        return again and monotonic() < settings[_UNTIL]

    def get_backoff_time(self, settings: dict[str, Any]) -> float:
        """Give the seconds before the next attempt: the vendor's own are for what nobody waits for."""
        pause: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (settings["count"] - 1))
        return pause * random.uniform(0.5, 1)  # noqa: S311 (spreads load, hides nothing)

    def sleep(self, settings: dict[str, Any], transport: Any) -> None:
        """Wait until the next attempt, and no longer than there is time."""
        transport.sleep(max(0.0, min(self.get_backoff_time(settings), settings[_UNTIL] - monotonic())))
