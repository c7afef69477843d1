"""What Blob Storage and its clients report, as errors of ours."""

from __future__ import annotations

from azure.core import exceptions as theirs

from portable.errors import (
    ConfigError,
    InvalidArgument,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    PortableError,
    PreconditionFailed,
    ResourceNotFound,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from portable_azure.errors import translated as by_class
from portable_objectstore.failures import FailedError, Failure, Meaning
from portable_objectstore.failures import translated as by_code

__all__ = ["failure_of", "is_refusal", "raised", "translated"]

_UNKNOWN = (Unauthenticated, "the account does not know these credentials; check them")
_UNMET = (PreconditionFailed, "the object is missing or not of this version any more")
_NO_ROLE = (PermissionDenied, "the credentials have no role that allows it ({code})")
_DAMAGED = (Unavailable, "the data was damaged on its way; nothing was written")
_LOST = (Unavailable, "somebody else wrote the object meanwhile, which drops the parts of an upload; upload it again")

MEANINGS: dict[str, Meaning] = {
    "ContainerNotFound": (ResourceNotFound, "the account has no such container"),
    "ContainerBeingDeleted": (
        Unavailable,
        "the container of this name is being deleted; it can be made again in a while",
    ),
    "ContainerDisabled": (PermissionDenied, "the container is disabled"),
    "BlobNotFound": (NotFound, "there is no such object"),
    "BlobAlreadyExists": (PreconditionFailed, "there is an object already"),
    "ConditionNotMet": _UNMET,
    "TargetConditionNotMet": _UNMET,
    "SourceConditionNotMet": _UNMET,
    "UnauthorizedBlobOverwrite": _NO_ROLE,
    "InvalidBlockList": _LOST,
    "InvalidBlobOrBlock": _LOST,
    "InvalidRange": (InvalidArgument, "the object has no such range"),
    "Md5Mismatch": _DAMAGED,
    "RequestBodyTooLarge": (LimitExceeded, "it is larger than the service takes at once"),
    "BlockCountExceedsLimit": (LimitExceeded, "an object has 50,000 blocks at most"),
    "MetadataTooLarge": (LimitExceeded, "the metadata is longer than the service takes (8 KiB)"),
    "LeaseIdMissing": (PermissionDenied, "another program has a lease on the object"),
    "InvalidResourceName": (ConfigError, "the service takes no container of this name"),
    "AuthenticationFailed": _UNKNOWN,
    "InvalidAuthenticationInfo": _UNKNOWN,
    "NoAuthenticationInformation": (Unauthenticated, "the account wants credentials"),
    "AuthorizationFailure": (PermissionDenied, "the account's network rules or roles forbid it"),
    "AuthorizationPermissionMismatch": _NO_ROLE,
    "InsufficientAccountPermissions": _NO_ROLE,
    "AccountIsDisabled": (PermissionDenied, "the account is disabled"),
    "ServerBusy": (Throttled, "the service asks to slow down"),
}
"""The codes of learn.microsoft.com/rest/api/storageservices/blob-service-error-codes that callers are told apart by."""


def is_refusal(failure: Failure) -> bool:
    """Whether nothing was done, and the same request may succeed a moment later."""
    return failure.broken == "connect" or failure.code == "ServerBusy" or (failure.status == 503 and not failure.code)


def failure_of(error: theirs.AzureError) -> Failure | None:
    """Read what the vendor's client raised; None where no request was sent."""
    if isinstance(error, theirs.HttpResponseError) and error.status_code is not None:
        code = getattr(error, "error_code", None) or ""
        text = str(getattr(code, "value", code))
        return Failure(error.status_code, text, error.message or f"status {error.status_code}")
    if isinstance(error, theirs.ClientAuthenticationError):
        return None
    if isinstance(error, (theirs.ServiceRequestTimeoutError, theirs.ServiceRequestError)):
        return Failure(text=type(error).__name__, broken="connect")
    if isinstance(error, theirs.ServiceResponseTimeoutError) or "timed out" in str(error):
        return Failure(text=type(error).__name__, broken="timeout")
    return Failure(text=type(error).__name__, broken="cut")


def raised(error: theirs.AzureError) -> Exception:
    """Give what to raise for what the vendor's client raised."""
    failure = failure_of(error)
    return by_class(error) if failure is None else FailedError(failure)


def translated(failure: Failure) -> PortableError:
    """Give the error of ours for a request that failed; no text of the service is in it, which may quote a request."""
    code = failure.code
    if code == "AuthorizationFailure" and "failed to authenticate" in failure.text:
        # Azurite's word for a signature that is wrong.
        code = "AuthenticationFailed"
    said = (code or f"status {failure.status}") if failure.status else failure.text
    bare = Failure(failure.status, code, said, failure.broken)
    return by_code(bare, {each: (kind, words.replace("{code}", each)) for each, (kind, words) in MEANINGS.items()})
