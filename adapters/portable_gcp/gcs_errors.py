"""What Cloud Storage and its clients report, as errors of ours."""

from __future__ import annotations

import re

import requests
import urllib3
from google.api_core import exceptions as theirs
from google.auth import exceptions as signing
from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

from portable.errors import (
    AlreadyExists,
    ConfigError,
    IntegrityError,
    LimitExceeded,
    NotFound,
    PermissionDenied,
    PortableError,
    PreconditionFailed,
    ResourceNotFound,
    Throttled,
    Unauthenticated,
)
from portable_gcp.errors import translated as by_class
from portable_objectstore.failures import Broken, FailedError, Failure, Meaning
from portable_objectstore.failures import translated as by_code

__all__ = ["FAILURES", "is_refusal", "raised", "translated", "unsigned"]

FAILURES = (
    theirs.GoogleAPIError,
    signing.GoogleAuthError,
    requests.RequestException,
    urllib3.exceptions.HTTPError,
    InvalidResponse,
    DataCorruption,
)
"""All that a call of the vendor's client may raise."""

_UNMET = (PreconditionFailed, "the object is missing or not of this version any more")
_UNKNOWN = (Unauthenticated, "the service does not know these credentials; check them")
_NO_ROLE = (PermissionDenied, "the credentials have no role that allows it")

MEANINGS: dict[str, Meaning] = {
    "NoSuchBucket": (ResourceNotFound, "there is no such bucket"),
    "NoSuchKey": (NotFound, "there is no such object"),
    "PreconditionFailed": _UNMET,
    "AccessDenied": _NO_ROLE,
    "AuthenticationRequired": _UNKNOWN,
    "InvalidSecurity": _UNKNOWN,
    "SlowDown": (Throttled, "the service asks to slow down: one object takes one write a second"),
    "UserProjectMissing": (ConfigError, "the bucket is one whose readers pay, which is not supported"),
    "401": _UNKNOWN,
    "403": _NO_ROLE,
    "409": (AlreadyExists, "the name of the bucket belongs to somebody else; choose another"),
    "413": (LimitExceeded, "it is larger than the service takes"),
    "429": (Throttled, "the service asks to slow down: one object takes one write a second"),
}
"""The codes of cloud.google.com/storage/docs/xml-api/reference-status, and the JSON API's statuses."""

_NO_BUCKET = re.compile(r"bucket (?:does not exist|not found)", re.IGNORECASE)
_HTTP_NOT_FOUND = 404
# The IAM API's refusal, in JSON or as Python shows it: its clients have one class for all that it answers.
_UNSIGNED = re.compile(r"""["']code["']: *([0-9]{3})""")
_NO_SIGNER: dict[str, Meaning] = {
    "401": (Unauthenticated, "the IAM API does not know these credentials; check them"),
    "403": (
        PermissionDenied,
        "the credentials may not sign as the service account; give them the role Service Account Token Creator on it",
    ),
    "404": (ConfigError, "the service account to sign as is not there"),
    "429": (Throttled, "the IAM API asks to slow down"),
}


def is_refusal(failure: Failure) -> bool:
    """Whether nothing was done, and the same request may succeed a moment later."""
    return failure.broken == "connect" or failure.status in {429, 503}


def failure_of(error: BaseException) -> Failure | None:
    """Read what the vendor's client raised; None where no request was sent, or it gave up repeating one."""
    if isinstance(error, theirs.RetryError) and error.cause is not None:
        return failure_of(error.cause)
    if isinstance(error, InvalidResponse):
        return _answered(error.response.status_code, getattr(error.response, "text", ""))
    if isinstance(error, theirs.GoogleAPICallError) and error.code is not None:
        return _answered(int(error.code), error.message or "")
    if not isinstance(error, (requests.RequestException, urllib3.exceptions.HTTPError)):
        return None
    return Failure(text=type(error).__name__, broken=_broken(error))


def _broken(error: BaseException) -> Broken:
    unsent = (
        requests.ConnectTimeout,
        requests.exceptions.ProxyError,
        urllib3.exceptions.ConnectTimeoutError,
        urllib3.exceptions.NewConnectionError,
        urllib3.exceptions.ProxyError,
    )
    if isinstance(error, unsent) or "NewConnectionError" in str(error):
        return "connect"
    return "timeout" if isinstance(error, (requests.Timeout, urllib3.exceptions.TimeoutError)) else "cut"


def _answered(status: int, text: str) -> Failure:
    if status == _HTTP_NOT_FOUND:
        return Failure(status, "NoSuchBucket" if _NO_BUCKET.search(text) else "NoSuchKey", f"status {status}")
    return Failure(status, str(status), f"status {status}")


def raised(error: Exception) -> Exception:
    """Give what to raise for what the vendor's client raised."""
    if isinstance(error, DataCorruption):
        return IntegrityError("the bytes do not have the CRC32C that the service tells of them; try again")
    failure = failure_of(error)
    return by_class(error) if failure is None else FailedError(failure)


def translated(failure: Failure) -> PortableError:
    """Give the error of ours for a request that failed; no text of the service is in it, which may quote a request."""
    return by_code(Failure(failure.status, failure.code, f"status {failure.status}", failure.broken), MEANINGS)


def unsigned(error: Exception) -> Exception:
    """Give what to raise where nothing was signed; no text of the service is in it, which may quote a request."""
    answer = _UNSIGNED.search(str(error)) if isinstance(error, signing.TransportError) else None
    if answer is None:
        return raised(error)
    return by_code(Failure(int(answer[1]), answer[1], f"status {answer[1]}"), _NO_SIGNER)
