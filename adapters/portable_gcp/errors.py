"""What Google Cloud and its clients report, as errors of ours."""

from __future__ import annotations

import contextlib
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

__all__ = ["FAILURES", "translated", "translating"]

FAILURES = (theirs.GoogleAPIError, signing.GoogleAuthError, grpc.RpcError, ValueError)
"""All that a call of the vendor's clients may raise; a closed channel is a `ValueError`."""

_MEANINGS: tuple[tuple[type[Exception], type[PortableError], str], ...] = (
    (signing.DefaultCredentialsError, Unauthenticated, "no credentials were found; set credentials in the binding"),
    (signing.TransportError, Unavailable, "the token service cannot be reached"),
    (signing.GoogleAuthError, Unauthenticated, "the credentials are not accepted"),
    (theirs.NotFound, ResourceNotFound, "the project has no such resource; make it with `portable resources create`"),
    (theirs.Unauthenticated, Unauthenticated, "the service does not know these credentials"),
    (theirs.Unauthorized, Unauthenticated, "the service does not know these credentials"),
    (theirs.Forbidden, PermissionDenied, "the credentials have no role that allows it"),
    (theirs.TooManyRequests, Throttled, "the service asks to slow down, or a quota is used up"),
    (theirs.DeadlineExceeded, DeadlineExceeded, "the service did not answer in time"),
    (theirs.GatewayTimeout, DeadlineExceeded, "the service did not answer in time"),
    (theirs.RetryError, DeadlineExceeded, "the service did not answer in time"),
    (theirs.Cancelled, Closed, "the resource was closed meanwhile"),
    (theirs.BadRequest, InvalidArgument, "the service refuses an argument"),
    (theirs.ServerError, Unavailable, "the service cannot be reached, or not answer"),
)


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


def translated(error: Exception) -> PortableError:
    """Give the error of ours for one of theirs."""
    if isinstance(error, ValueError):
        return Closed("the resource was closed meanwhile")
    for kind, ours, words in _MEANINGS:
        if isinstance(error, kind):
            said = getattr(error, "message", "") if ours is InvalidArgument else ""
            return ours(f"{words}: {said}" if said else words, maybe_applied=ours in {DeadlineExceeded, Unavailable})
    return PortableError(f"the service refused ({type(error).__name__})")
