"""What SQS, SNS, Kinesis and DynamoDB report through boto3, as errors of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from botocore import exceptions as theirs

from portable.errors import (
    ConfigError,
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

__all__ = ["FAILURES", "code_of", "is_lost", "note_lost", "translated", "translating"]

FAILURES = (theirs.BotoCoreError, theirs.ClientError)
"""All that a call of boto3 may raise."""

_MISSING = (ResourceNotFound, "there is no such resource; make it with `portable resources create`")
_UNKNOWN = (Unauthenticated, "the service does not know this access key, or its secret is wrong")
_EXPIRED = (Unauthenticated, "the credentials have expired; get new ones")
_SKEWED = (Unauthenticated, "the clock of this machine and the service's differ; set it right")
_FORBIDDEN = (PermissionDenied, "the credentials do not allow it")
_SLOWER = (Throttled, "the service asks to slow down")
_LOST = (LeaseLost, "the lease ran out, and the message went on without it")
_LARGE = (LimitExceeded, "it is larger than the service takes")
_FAILED = (Unavailable, "the service failed")
_CONFLICT = (Unavailable, "another transaction was writing to the same; try again")
_AGAIN = (Unavailable, "a queue of this name was deleted within the last minute; wait until that is over")

_CODES: dict[str, tuple[type[PortableError], str]] = {
    "ResourceNotFoundException": _MISSING,
    "QueueDoesNotExist": _MISSING,
    "AWS.SimpleQueueService.NonExistentQueue": _MISSING,
    "NotFound": _MISSING,
    "NotFoundException": _MISSING,
    "InvalidClientTokenId": _UNKNOWN,
    "UnrecognizedClientException": _UNKNOWN,
    "InvalidSignatureException": _UNKNOWN,
    "SignatureDoesNotMatch": _UNKNOWN,
    "IncompleteSignature": _UNKNOWN,
    "MissingAuthenticationToken": _UNKNOWN,
    "InvalidAccessKeyId": _UNKNOWN,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "RequestExpired": _SKEWED,
    "RequestTimeTooSkewed": _SKEWED,
    "AccessDenied": _FORBIDDEN,
    "AccessDeniedException": _FORBIDDEN,
    "AuthorizationError": _FORBIDDEN,
    "KMSAccessDeniedException": _FORBIDDEN,
    "Throttling": _SLOWER,
    "ThrottlingException": _SLOWER,
    "ThrottledException": _SLOWER,
    "RequestThrottled": _SLOWER,
    "TooManyRequestsException": _SLOWER,
    "ProvisionedThroughputExceededException": _SLOWER,
    "RequestLimitExceeded": _SLOWER,
    "LimitExceededException": _SLOWER,
    "OverLimit": _SLOWER,
    "ThrottlingError": _SLOWER,
    "ProvisionedThroughputExceeded": _SLOWER,
    "ReceiptHandleIsInvalid": _LOST,
    "MessageNotInflight": _LOST,
    "InvalidParameterValueMessageTooLong": _LARGE,
    "BatchRequestTooLong": _LARGE,
    "AWS.SimpleQueueService.BatchRequestTooLong": _LARGE,
    "ItemCollectionSizeLimitExceededException": _LARGE,
    "TransactionConflictException": _CONFLICT,
    "TransactionInProgressException": _CONFLICT,
    "QueueDeletedRecently": _AGAIN,
    "AWS.SimpleQueueService.QueueDeletedRecently": _AGAIN,
    "InternalServerError": _FAILED,
    "InternalError": _FAILED,
    "InternalFailure": _FAILED,
    "ServiceUnavailable": _FAILED,
}

_SLOWER_REASONS = {"ThrottlingError", "ProvisionedThroughputExceeded"}
"""Why a transaction was cancelled as a whole, where the service asks to slow down."""

_MARK = "portable_lost"
_SERVER_ERROR = 500

_LOCAL: tuple[tuple[tuple[type[BaseException], ...], type[PortableError], str], ...] = (
    (
        (theirs.NoCredentialsError, theirs.PartialCredentialsError, theirs.CredentialRetrievalError),
        Unauthenticated,
        "there are no credentials: the chain of boto3 finds none; set credentials = {…} or AWS_PROFILE",
    ),
    (
        (theirs.TokenRetrievalError, theirs.SSOError, theirs.UnauthorizedSSOTokenError),
        Unauthenticated,
        "the login of AWS SSO has expired; run aws sso login",
    ),
    ((theirs.ProfileNotFound,), ConfigError, "there is no such profile in the AWS config files"),
    ((theirs.NoRegionError,), ConfigError, "no region is set; write region= into the URL"),
    ((theirs.InvalidRegionError,), ConfigError, "the region is none"),
    ((theirs.ParamValidationError,), InvalidArgument, "boto3 refuses an argument of this call"),
    ((theirs.SSLError,), Unavailable, "TLS did not come about"),
    ((theirs.ConnectTimeoutError, theirs.EndpointConnectionError), Unavailable, "the service cannot be reached"),
)


@contextlib.contextmanager
def translating() -> Iterator[None]:
    """Have what boto3 raises in the block be one of our errors."""
    try:
        yield
    except FAILURES as error:
        raise translated(error) from error


def code_of(error: BaseException) -> str:
    """Give the code of what the service answered; empty where it did not."""
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, theirs.ClientError) else ""


def note_lost(found: BaseException | dict[str, Any]) -> None:
    """Write on an error, or on an answer, that an earlier attempt of its call may have been carried out."""
    # What is raised for an answer is another error, of the same answer.
    answer = found.response if isinstance(found, theirs.ClientError) else found
    if isinstance(answer, dict):
        answer.setdefault("ResponseMetadata", {})[_MARK] = True
    else:
        setattr(found, _MARK, True)


def is_lost(answer: Any) -> bool:
    """Whether an attempt before the one with this answer may have been carried out."""
    return bool(answer.get("ResponseMetadata", {}).get(_MARK))


def translated(error: BaseException) -> PortableError:
    """Give the error of ours for one of theirs."""
    answer: Any = error.response if isinstance(error, theirs.ClientError) else {}
    found = _answered(answer) if answer else _unanswered(error)
    if getattr(error, _MARK, False) or is_lost(answer):
        found.maybe_applied = True
    return found


def _answered(answer: Any) -> PortableError:
    code, text = str(answer.get("Error", {}).get("Code", "")), str(answer.get("Error", {}).get("Message", ""))
    if code == "TransactionCanceledException":
        reasons = {str(one.get("Code")) for one in answer.get("CancellationReasons", ())}
        if reasons & _SLOWER_REASONS:
            code = min(reasons & _SLOWER_REASONS)
    if "Signature expired" in text or "Signature not yet current" in text:
        return _SKEWED[0](f"{_SKEWED[1]} ({code})")
    if code == "ValidationException" and "size" in text and "exceeded" in text:
        return LimitExceeded(f"{_LARGE[1]}: {text}")
    ours, words = _CODES.get(code, (None, ""))
    if ours is not None:
        return ours(f"{words} ({code})", maybe_applied=words == _FAILED[1])
    if int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) >= _SERVER_ERROR:
        return Unavailable(f"the service failed ({code})", maybe_applied=True)
    return InvalidArgument(f"the service refuses it ({code}): {text}")


def _unanswered(error: BaseException) -> PortableError:
    for kinds, ours, words in _LOCAL:
        if isinstance(error, kinds):
            return ours(words)
    if isinstance(error, theirs.ReadTimeoutError):
        return DeadlineExceeded("the service did not answer in time", maybe_applied=True)
    return Unavailable("the connection ended before the service had answered", maybe_applied=True)
