"""What Google Cloud and its clients report, as errors of ours."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import grpc
from google.api_core import exceptions as theirs
from google.auth import exceptions as signing

from portable.errors import (
    Closed,
    DeadlineExceeded,
    InvalidArgument,
    PermissionDenied,
    PortableError,
    ResourceNotFound,
    Throttled,
    Unauthenticated,
    Unavailable,
)

__all__ = ["FAILURES", "is_late", "note_lost", "translated", "translating"]

FAILURES = (theirs.GoogleAPIError, signing.GoogleAuthError, grpc.RpcError, ValueError)
"""All that a call of the vendor's clients may raise; a closed channel is a `ValueError`."""

_LATE = "the service did not answer in time"

_MEANINGS: tuple[tuple[type[Exception], type[PortableError], str], ...] = (
    (signing.DefaultCredentialsError, Unauthenticated, "no credentials were found; set credentials in the binding"),
    (signing.TransportError, Unavailable, "the token service cannot be reached"),
    (signing.GoogleAuthError, Unauthenticated, "the credentials are not accepted"),
    (theirs.NotFound, ResourceNotFound, "the project has no such resource; make it with `portable resources create`"),
    (theirs.Unauthenticated, Unauthenticated, "the service does not know these credentials"),
    (theirs.Unauthorized, Unauthenticated, "the service does not know these credentials"),
    (theirs.Forbidden, PermissionDenied, "the credentials have no role that allows it"),
    (theirs.TooManyRequests, Throttled, "the service asks to slow down, or a quota is used up"),
    (theirs.Aborted, Throttled, "too many write to the same at once"),
    (theirs.DeadlineExceeded, DeadlineExceeded, _LATE),
    (theirs.GatewayTimeout, DeadlineExceeded, _LATE),
    (theirs.Cancelled, Unavailable, "the service ended the call before it had answered"),
    (theirs.BadRequest, InvalidArgument, "the service refuses an argument"),
    (theirs.ServerError, Unavailable, "the service cannot be reached, or not answer"),
)

_LOST = "portable_lost"
_UNSENT = "failed to connect to all addresses"
"""What gRPC says of a call that never left this machine."""
_CLOSED = re.compile("channel closed|closed channel", re.IGNORECASE)
"""What gRPC says of a call, and of one that waits, once the channel was closed here."""


@contextlib.contextmanager
def translating() -> Iterator[None]:
    """Have what the clients raise in the block be one of our errors."""
    try:
        yield
    except PortableError:
        # One of ours is a `ValueError`, too.
        raise
    except FAILURES as error:
        raise translated(error) from error


def is_late(error: PortableError) -> bool:
    """Whether a call ended because its time was over: a service whose clock is ahead ends it before this one does."""
    return isinstance(error.__cause__, theirs.DeadlineExceeded | theirs.Cancelled) and not isinstance(error, Closed)


def note_lost(error: Exception) -> None:
    """Write on an error that an earlier attempt of its call may have been carried out."""
    setattr(error, _LOST, True)


def translated(error: Exception) -> PortableError:
    """Give the error of ours for one of theirs."""
    if isinstance(error, theirs.RetryError):
        # The time was over: what kept it from being done is the last attempt's.
        last = error.cause
        return translated(last) if isinstance(last, Exception) else DeadlineExceeded(_LATE, maybe_applied=True)
    if isinstance(error, theirs.Cancelled | ValueError) and _CLOSED.search(str(error)):
        return Closed("the resource was closed meanwhile")
    for kind, ours, words in _MEANINGS:
        if isinstance(error, kind):
            said = getattr(error, "message", "") if ours is InvalidArgument else ""
            sent = not str(getattr(error, "message", "")).startswith(_UNSENT)
            maybe = getattr(error, _LOST, False) or (ours in {DeadlineExceeded, Unavailable} and sent)
            return ours(f"{words}: {said}" if said else words, maybe_applied=maybe)
    return PortableError(f"the service refused ({type(error).__name__})")
