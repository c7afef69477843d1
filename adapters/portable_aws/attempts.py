"""The attempts of one call of boto3: what one of them may have done, no later one that reached nobody takes back."""

from __future__ import annotations

import random
from time import monotonic
from typing import Any

from botocore.exceptions import ClientError

from portable_aws.service_errors import code_of, note_lost, translated

__all__ = ["Attempts"]

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds before what was refused is asked again: twice as many each time, and by chance down to half."""

_FAILED = 300
_LOST, _BEGAN = "portable-lost", "portable-began"

_CONFLICT = "TransactionConflictException"
"""Refused because of another's transaction under way, which boto3 does not repeat."""


class Attempts:
    """A handler of boto3's event `needs-retry`, which comes after each attempt and after boto3's own handler.

    Args:
        retries: how often a call is repeated.
        within: seconds of all attempts of a call.
        refused: whether to repeat what the service refused in passing and surely did not do, for clients which repeat
            nothing by themselves.
    """

    def __init__(self, *, retries: int, within: float, refused: bool) -> None:
        self._retries = retries
        self._within = within
        self._refused = refused

    def __call__(
        self,
        *,
        attempts: int,
        request_dict: dict[str, Any],
        operation: Any,
        response: Any = None,
        caught_exception: BaseException | None = None,
        **_: Any,
    ) -> float | None:
        """Give how many seconds to wait before the call is repeated; None not to say so."""
        context = request_dict["context"]
        if caught_exception is None and (response is None or response[0].status_code < _FAILED):
            if response is not None and context.get(_LOST):
                note_lost(response[1])
            return None
        error = caught_exception or ClientError(response[1], operation.name)
        began = context.setdefault(_BEGAN, monotonic())
        if context.get(_LOST):
            note_lost(error)
        ours = translated(error)
        if ours.maybe_applied:
            context[_LOST] = True
            return None
        if not ours.retryable or attempts > self._retries or not (self._refused or code_of(error) == _CONFLICT):
            return None
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** (attempts - 1)) * random.uniform(0.5, 1)  # noqa: S311 (spreads load, hides nothing)
        return pause if monotonic() + pause - began < self._within else None
