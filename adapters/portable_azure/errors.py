"""What Azure and its SDK report, as errors of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from azure.core import exceptions as theirs

from portable.errors import (
    DeadlineExceeded,
    InvalidArgument,
    LeaseLost,
    LimitExceeded,
    PermissionDenied,
    PortableError,
    ResourceNotFound,
    Throttled,
    Unauthenticated,
    Unavailable,
)

__all__ = ["answered", "note_lost", "translated", "translating"]

# https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes, and those of each service.
_CODES: dict[str, tuple[type[PortableError], str]] = {
    "QueueNotFound": (ResourceNotFound, "there is no such queue; make it with `portable resources create`"),
    "QueueBeingDeleted": (Unavailable, "the queue of this name is being deleted; it can be made again in a while"),
    "MessageNotFound": (LeaseLost, "the lease ran out, and the message went on without it"),
    "PopReceiptMismatch": (LeaseLost, "the lease ran out, and the message went on without it"),
    "RequestBodyTooLarge": (LimitExceeded, "the service takes messages of 64 KiB as they are encoded"),
    "MessageTooLarge": (LimitExceeded, "the service takes messages of 64 KiB as they are encoded"),
    "OutOfRangeInput": (InvalidArgument, "the service refuses a value"),
    "InvalidResourceName": (InvalidArgument, "the service refuses the name"),
    "AuthenticationFailed": (Unauthenticated, "the account does not know these credentials"),
    "NoAuthenticationInformation": (Unauthenticated, "the account wants credentials"),
    "InvalidAuthenticationInfo": (Unauthenticated, "the account does not know these credentials"),
    "AuthorizationFailure": (PermissionDenied, "the account's network rules or roles forbid it"),
    "AuthorizationPermissionMismatch": (PermissionDenied, "the credentials have no role that allows it"),
    "InsufficientAccountPermissions": (PermissionDenied, "the credentials have no role that allows it"),
    "AccountIsDisabled": (PermissionDenied, "the account is disabled"),
    "ServerBusy": (Throttled, "the service asks to slow down"),
    "OperationTimedOut": (DeadlineExceeded, "the service did not get it done in time"),
}
_STATUSES: dict[int, tuple[type[PortableError], str]] = {
    404: (ResourceNotFound, "the account has no such resource; make it with `portable resources create`"),
    408: (DeadlineExceeded, "the service did not get it done in time"),
    413: (LimitExceeded, "it is larger than the service takes"),
    449: (Unavailable, "others wrote to the same at the same time"),
    401: (Unauthenticated, "the account does not know these credentials"),
    403: (PermissionDenied, "the account forbids it"),
    429: (Throttled, "the service asks to slow down"),
}
_SERVER_ERROR = 500
_LOST = "portable_lost"


@contextlib.contextmanager
def translating() -> Iterator[None]:
    """Have what the SDK raises in the block be one of our errors."""
    try:
        yield
    except theirs.AzureError as error:
        raise translated(error) from error


def translated(error: theirs.AzureError) -> PortableError:
    """Give the error of ours for one of theirs; no text of theirs is in it, which may quote a signed request."""
    found = _meant(error)
    if getattr(error, _LOST, False) or getattr(getattr(error, "response", None), _LOST, False):
        found.maybe_applied = True
    return found


def note_lost(found: Any) -> None:
    """Write on an error, or on an answer, that an earlier attempt of its call may have been carried out."""
    setattr(found, _LOST, True)


def _meant(error: theirs.AzureError) -> PortableError:
    if isinstance(error, theirs.HttpResponseError) and error.status_code is not None:
        code = getattr(error, "error_code", None) or ""
        return answered(error.status_code, str(getattr(code, "value", code)))
    if isinstance(error, theirs.ClientAuthenticationError):
        return Unauthenticated("no credentials were found; sign in, or set credentials in the binding")
    if isinstance(error, (theirs.ServiceRequestTimeoutError, theirs.ServiceResponseTimeoutError)):
        sent = isinstance(error, theirs.ServiceResponseTimeoutError)
        return DeadlineExceeded("the service did not answer in time", maybe_applied=sent)
    if isinstance(error, theirs.ServiceRequestError):
        return Unavailable("the service cannot be reached")
    return Unavailable("the connection ended before the service had answered", maybe_applied=True)


def answered(status: int, code: str) -> PortableError:
    """Give the error of ours for an answer of this status, with the service's own code or without one."""
    ours, words = _CODES.get(code) or _STATUSES.get(status) or (None, "")
    said = f" ({code})" if code else f" (HTTP {status})"
    if ours is not None:
        return ours(words + said, maybe_applied=ours is DeadlineExceeded)
    if status >= _SERVER_ERROR:
        return Unavailable("the service failed" + said, maybe_applied=True)
    return PortableError("the service refused" + said)
