"""What NATS and nats-py report, as errors of ours."""

from __future__ import annotations

import ssl

from nats import errors as theirs

from portable.errors import (
    AlreadyExists,
    DeadlineExceeded,
    InvalidArgument,
    LimitExceeded,
    PermissionDenied,
    PortableError,
    ResourceNotFound,
    Throttled,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

__all__ = [
    "BATCH_UNKNOWN",
    "CONSUMER_MISSING",
    "FAILURES",
    "FULL",
    "STREAM_MISSING",
    "WRONG_LAST",
    "ApiError",
    "ConnectionLostError",
    "refused",
    "unreached",
]

FAILURES = (theirs.Error, OSError)
"""All that a call of nats-py may raise."""

STREAM_MISSING = 10059
CONSUMER_MISSING = 10014
WRONG_LAST = frozenset({10071, 10164})
"""A condition on the last message of a subject did not hold."""
FULL = 10210
BATCH_UNKNOWN = 10176

_LOGIN = ("authorization violation", "authentication timeout", "authentication expired", "authentication revoked")


class ApiError(Exception):
    """What JetStream answered instead of what it was asked for."""

    def __init__(self, code: int, number: int, text: str) -> None:
        """Keep it.

        Args:
            code: as of HTTP.
            number: JetStream's own number of the error.
            text: JetStream's words.
        """
        super().__init__(f"{text} ({number})")
        self.code = code
        self.number = number
        self.text = text


class ConnectionLostError(Exception):
    """The connection went while an answer was awaited."""


_REFUSALS: dict[int, tuple[type[PortableError], str]] = {
    10002: (Unavailable, "JetStream has not the resources for it: {text}"),
    10023: (Unavailable, "JetStream has not the resources for it: {text}"),
    10026: (LimitExceeded, "the account may have no more consumers: {text}"),
    10027: (LimitExceeded, "the account may have no more streams: {text}"),
    10028: (Unavailable, "the account's share of JetStream's memory is used up: {text}"),
    10035: (PermissionDenied, "JetStream is not enabled for this account: {text}"),
    10039: (PermissionDenied, "JetStream is not enabled for this account: {text}"),
    10047: (Unavailable, "JetStream has not the storage for it: {text}"),
    10054: (LimitExceeded, "the message is larger than its stream takes: {text}"),
    10058: (AlreadyExists, "there is a stream of another program by that name: {text}"),
    10059: (ResourceNotFound, "it is not there: {text}; make it with `portable resources create`"),
    10014: (ResourceNotFound, "it is not there: {text}; make it with `portable resources create`"),
    10065: (AlreadyExists, "a stream of another program takes these subjects: {text}"),
    10074: (InvalidArgument, "so many replicas are not to be had: {text}"),
    10076: (Unsupported, "JetStream is not enabled; start the server with -js"),
    10077: (Unavailable, "the stream has reached a limit of its own: {text}"),
    FULL: (Throttled, "JetStream works on as many batches as it takes: {text}"),
}
"""By JetStream's number what it means; https://docs.nats.io/reference/reference-protocols/nats_api_reference."""


def refused(error: ApiError) -> PortableError:
    """Give the error of ours for an answer of JetStream, which becomes its cause."""
    kind, words = _REFUSALS.get(error.number, (None, "JetStream refused: {text}"))
    if kind is None:
        kind = Unavailable if error.code == 503 else PortableError
    ours = kind(words.format(text=error.text))
    ours.__cause__ = error
    return ours


def unreached(error: BaseException, last: BaseException | None) -> PortableError:
    """Give the error of ours for a connection that did not come about.

    Args:
        error: what nats-py raised; it becomes the cause.
        last: what it met last.
    """
    reason = last if isinstance(error, theirs.NoServersError) and last is not None else error
    text = str(reason) or type(reason).__name__
    ours: PortableError
    if certificate := _certificate(reason):
        trust = f"the server's certificate is not trusted: {certificate}; ca= names another authority"
        ours = Unavailable(trust, retryable=False)
    elif isinstance(reason, theirs.AuthorizationError) or any(words in text.lower() for words in _LOGIN):
        login = "the server does not know this user and password; set them in the URL as user:password@"
        ours = Unauthenticated(login)
    elif isinstance(reason, TimeoutError):
        ours = DeadlineExceeded("the server did not answer in time")
    else:
        ours = Unavailable(f"the server cannot be reached: {text}")
    ours.__cause__ = reason
    return ours


def _certificate(cause: BaseException | None) -> str:
    """Give the reason why TLS did not come about, wherever in the chain it is."""
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        cause = cause.__cause__ or cause.__context__
    return ""
