"""What Redis and redis-py report, as errors of ours."""

from __future__ import annotations

import ssl

from redis import exceptions as theirs

from portable.errors import (
    DeadlineExceeded,
    IntegrityError,
    PermissionDenied,
    PortableError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

__all__ = ["FAILURES", "UnreachedError", "is_passing", "is_refused", "translated"]

FAILURES = (theirs.RedisError, theirs.RedisClusterException, OSError)
"""All that a call of redis-py may raise."""

# The server says so before it does anything, and may do it a moment later.
_REFUSALS = (
    theirs.BusyLoadingError,
    theirs.ReadOnlyError,
    theirs.TryAgainError,
    theirs.ClusterDownError,
    theirs.MasterDownError,
)
_REFUSED = ("LOADING", "READONLY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "BUSY ", "MISCONF", "OOM", "NOREPLICAS")


class UnreachedError(Exception):
    """No connection came about, so nothing was sent; the cause says why."""


def _cause(error: BaseException) -> BaseException:
    return error.__cause__ if isinstance(error, UnreachedError) and error.__cause__ is not None else error


def is_refused(error: BaseException) -> bool:
    """Whether nothing was done, for sure."""
    return isinstance(error, (UnreachedError, *_REFUSALS)) or str(error).startswith(_REFUSED)


def is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later."""
    cause = _cause(error)
    if isinstance(cause, (theirs.AuthenticationError, theirs.AuthorizationError)) or _certificate(cause):
        return False
    return isinstance(cause, (theirs.ConnectionError, theirs.TimeoutError, OSError, *_REFUSALS)) or is_refused(error)


def translated(error: BaseException) -> PortableError:
    """Give the error of ours for one of theirs, which becomes its cause."""
    cause = _cause(error)
    sent = not is_refused(error)
    ours = _translated(cause, sent=sent)
    ours.__cause__ = cause
    return ours


def _translated(cause: BaseException, *, sent: bool) -> PortableError:
    text = str(cause)
    if certificate := _certificate(cause):
        trust = f"the server's certificate is not trusted: {certificate}; ca= names another authority"
        return Unavailable(trust, retryable=False)
    for kinds, beginnings, ours, words in _MEANINGS:
        if isinstance(cause, kinds) or text.startswith(beginnings):
            maybe_applied = sent and ours in {DeadlineExceeded, Unavailable}
            return ours(words.format(text=text), maybe_applied=maybe_applied)
    return PortableError(f"the server refused: {text}")


_MEANINGS: tuple[tuple[tuple[type[BaseException], ...], tuple[str, ...], type[PortableError], str], ...] = (
    (
        (theirs.AuthenticationError,),
        ("WRONGPASS", "NOAUTH"),
        Unauthenticated,
        "the server does not know this user and password; set them in the URL as user:password@",
    ),
    (
        (theirs.NoPermissionError, theirs.AuthorizationError),
        ("NOPERM",),
        PermissionDenied,
        "the server's ACL forbids it: {text}",
    ),
    ((theirs.TimeoutError, TimeoutError), (), DeadlineExceeded, "the server did not answer in time"),
    ((), ("OOM",), Unavailable, "the server has used up its maxmemory, and evicts nothing: {text}"),
    (
        (theirs.ConnectionError, OSError, *_REFUSALS),
        _REFUSED,
        Unavailable,
        "the server cannot be reached, or not answer: {text}",
    ),
    (
        (),
        ("WRONGTYPE",),
        IntegrityError,
        "another program keeps something else under a key of this resource: {text}",
    ),
    (
        (),
        ("unknown command", "Unknown Redis command", "ERR unknown command"),
        Unsupported,
        "the server is too old, or restricted: {text}",
    ),
)
"""By whom or by which words the server or redis-py says what, as errors of ours; the first that fits counts."""


def _certificate(cause: BaseException | None) -> str:
    """Give the reason why TLS did not come about, wherever in the chain it is."""
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        cause = cause.__cause__ or cause.__context__
    return ""
