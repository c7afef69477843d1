"""What SQS, SNS, Kinesis and DynamoDB report through boto3, as errors of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

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

__all__ = ["FAILURES", "code_of", "translated", "translating"]

FAILURES = (theirs.BotoCoreError, theirs.ClientError)
"""All that a call of boto3 may raise."""

_MISSING = (ResourceNotFound, "there is no such resource; make it with `portable resources create`")
_UNKNOWN = (Unauthenticated, "the service does not know this access key, or its secret is wrong")
_EXPIRED = (Unauthenticated, "the credentials have expired; get new ones")
_FORBIDDEN = (PermissionDenied, "the credentials do not allow it")
_SLOWER = (Throttled, "the service asks to slow down")
_LOST = (LeaseLost, "the lease ran out, and the message went on without it")
_LARGE = (LimitExceeded, "it is larger than the service takes")
_FAILED = (Unavailable, "the service failed")
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
    "ReceiptHandleIsInvalid": _LOST,
    "MessageNotInflight": _LOST,
    "InvalidParameterValueMessageTooLong": _LARGE,
    "BatchRequestTooLong": _LARGE,
    "AWS.SimpleQueueService.BatchRequestTooLong": _LARGE,
    "ItemCollectionSizeLimitExceededException": _LARGE,
    "QueueDeletedRecently": _AGAIN,
    "AWS.SimpleQueueService.QueueDeletedRecently": _AGAIN,
    "InternalServerError": _FAILED,
    "InternalError": _FAILED,
    "InternalFailure": _FAILED,
    "ServiceUnavailable": _FAILED,
}

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


def translated(error: BaseException) -> PortableError:
    """Give the error of ours for one of theirs."""
    if isinstance(error, theirs.ClientError):
        code, text = code_of(error), str(error.response.get("Error", {}).get("Message", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        ours, words = _CODES.get(code, (None, ""))
        if ours is None:
            if status >= 500:
                return Unavailable(f"the service failed ({code})", maybe_applied=True)
            return InvalidArgument(f"the service refuses it ({code}): {text}")
        return ours(f"{words} ({code})", maybe_applied=ours is Unavailable)
    for kinds, ours, words in _LOCAL:
        if isinstance(error, kinds):
            return ours(words)
    if isinstance(error, theirs.ReadTimeoutError):
        return DeadlineExceeded("the service did not answer in time", maybe_applied=True)
    return Unavailable("the connection ended before the service had answered", maybe_applied=True)
