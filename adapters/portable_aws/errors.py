"""What S3 and its clients report, as errors of ours."""

from __future__ import annotations

from botocore import exceptions as theirs

from portable.errors import (
    AlreadyExists,
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
    Unsupported,
)
from portable_objectstore.failures import Broken, FailedError, Failure, Meaning
from portable_objectstore.failures import translated as by_code

__all__ = ["FAILURES", "failure_of", "is_refusal", "raised", "translated"]

FAILURES = (theirs.BotoCoreError, theirs.ClientError)
"""All that a call of boto3 may raise."""

_UNKNOWN = (Unauthenticated, "the server does not know this access key, or its secret is wrong; check the credentials")
_EXPIRED = (Unauthenticated, "the credentials have expired; get new ones")
_SLOWER = (Throttled, "the server asks to slow down: {text}")
_UNMET = (PreconditionFailed, "the object is missing or not of this version any more")
_WRONG = (InvalidArgument, "the server refused the request: {text}")
_TOO_LARGE = (LimitExceeded, "{text}")

MEANINGS: dict[str, Meaning] = {
    "NoSuchBucket": (ResourceNotFound, "there is no such bucket"),
    "NoSuchKey": (NotFound, "there is no such object"),
    "NoSuchUpload": (NotFound, "the upload is gone; begin a new one"),
    "NotFound": (NotFound, "there is no such object"),
    "PreconditionFailed": _UNMET,
    "ConditionalRequestConflict": (PreconditionFailed, "somebody else wrote to the object at the same time"),
    "BucketAlreadyExists": (AlreadyExists, "the name of the bucket belongs to somebody else; choose another"),
    "InvalidAccessKeyId": _UNKNOWN,
    "SignatureDoesNotMatch": _UNKNOWN,
    "InvalidToken": _UNKNOWN,
    "InvalidClientTokenId": _UNKNOWN,
    "MissingSecurityHeader": _UNKNOWN,
    "ExpiredToken": _EXPIRED,
    "ExpiredTokenException": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "RequestTimeTooSkewed": (Unauthenticated, "the clock of this machine and the server's differ; set it right"),
    "AccessDenied": (PermissionDenied, "the credentials do not allow it: {text}"),
    "AllAccessDisabled": (PermissionDenied, "the bucket is closed: {text}"),
    "AccountProblem": (PermissionDenied, "there is a problem with the account: {text}"),
    "SlowDown": _SLOWER,
    "Throttling": _SLOWER,
    "ThrottlingException": _SLOWER,
    "TooManyRequests": _SLOWER,
    "RequestLimitExceeded": _SLOWER,
    "RequestTimeout": (Unavailable, "the server waited too long for the data: {text}"),
    "PermanentRedirect": (ConfigError, "the bucket is in another region; set region="),
    "AuthorizationHeaderMalformed": (ConfigError, "the bucket is in another region; set region=: {text}"),
    "IllegalLocationConstraintException": (ConfigError, "the bucket is in another region; set region=: {text}"),
    "KeyTooLongError": (LimitExceeded, "the key is too long for the server"),
    "MetadataTooLarge": (LimitExceeded, "the metadata is longer than the server takes (S3: 2 KiB)"),
    "EntityTooLarge": _TOO_LARGE,
    "EntityTooSmall": _TOO_LARGE,
    "InvalidURI": _WRONG,
    "InvalidArgument": _WRONG,
    "InvalidRequest": _WRONG,
    "InvalidBucketName": (ConfigError, "the server takes no bucket of this name: {text}"),
    "BadDigest": (Unavailable, "the data was damaged on its way; nothing was written"),
    "XAmzContentSHA256Mismatch": (Unavailable, "the data was damaged on its way; nothing was written"),
    "XAmzContentChecksumMismatch": (Unavailable, "the data was damaged on its way; nothing was written"),
    "NotImplemented": (Unsupported, "the server does not have this: {text}"),
}
"""The codes of docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html that callers are told apart by."""

_REFUSALS = {"ConditionalRequestConflict", "SlowDown", "Throttling", "TooManyRequests", "OperationAborted"}


def is_refusal(failure: Failure) -> bool:
    """Whether nothing was done, and the same request may succeed a moment later."""
    return failure.broken == "connect" or failure.code in _REFUSALS or (failure.status == 503 and not failure.code)


def failure_of(error: BaseException) -> Failure:
    """Read what boto3 raised."""
    if isinstance(error, theirs.ClientError):
        answer = error.response
        code = str(answer.get("Error", {}).get("Code", ""))
        status = int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        # An answer without a body has its status for a code.
        return Failure(status, "" if code.isdigit() else code, str(answer.get("Error", {}).get("Message", "")))
    return Failure(text=type(error).__name__, broken=_broken(error))


def _broken(error: BaseException) -> Broken:
    if isinstance(error, (theirs.ConnectTimeoutError, theirs.ProxyConnectionError)):
        return "connect"
    if isinstance(error, theirs.ReadTimeoutError):
        return "timeout"
    if isinstance(error, theirs.EndpointConnectionError):
        return "connect"
    return "cut"


def translated(failure: Failure) -> PortableError:
    """Give the error of ours for a request that failed."""
    return by_code(failure, MEANINGS)


def raised(error: BaseException) -> Exception:
    """Give what to raise for what boto3 raised: a request that failed, or an error of ours where none was sent."""
    for kind, ours, words in _LOCAL:
        if isinstance(error, kind):
            return ours(words)
    if isinstance(error, theirs.SSLError):
        return Unavailable(f"TLS did not come about: {error.kwargs.get('error', '')}", retryable=False)
    if isinstance(error, _REQUESTS):
        return FailedError(failure_of(error))
    return PortableError(f"boto3 failed: {type(error).__name__}")


_REQUESTS = (
    theirs.ClientError,
    theirs.HTTPClientError,
    theirs.ConnectionError,
    theirs.IncompleteReadError,
)

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
)
