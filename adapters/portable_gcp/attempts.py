"""Repeating calls to Google Cloud with the vendor's own back-off."""

from __future__ import annotations

from google.api_core import exceptions as theirs
from google.api_core.retry import Retry, if_exception_type

from portable_gcp.errors import note_lost, translated

__all__ = ["retrying"]

_TRANSIENT = if_exception_type(theirs.ServiceUnavailable, theirs.InternalServerError, theirs.TooManyRequests)
_REFUSED = if_exception_type(theirs.TooManyRequests)


def retrying(timeout: float, *, refused: bool = False) -> Retry:
    """Repeat what fails in passing, with the vendor's own back-off.

    Args:
        timeout: within so many seconds.
        refused: whether to repeat only what the service surely has not carried out.
    """
    lost: list[Exception] = []

    def noted(error: Exception) -> None:
        if lost:
            note_lost(error)
        elif translated(error).maybe_applied:
            lost.append(error)

    predicate = _REFUSED if refused else _TRANSIENT
    return Retry(predicate=predicate, initial=0.1, maximum=5.0, timeout=timeout, on_error=noted)
