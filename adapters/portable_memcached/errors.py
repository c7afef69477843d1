"""What memcached and pymemcache report, as errors of ours."""

from __future__ import annotations

import ssl

from pymemcache.exceptions import MemcacheError, MemcacheUnexpectedCloseError

from portable.errors import (
    DeadlineExceeded,
    LimitExceeded,
    PortableError,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

__all__ = ["FAILURES", "UnreachedError", "is_passing", "translated"]

FAILURES = (MemcacheError, OSError)
"""All that a connection may raise."""


class UnreachedError(Exception):
    """No connection came about, so nothing was sent; the cause says why."""


def _cause(error: BaseException) -> BaseException:
    return error.__cause__ if isinstance(error, UnreachedError) and error.__cause__ is not None else error


def is_passing(error: BaseException) -> bool:
    """Whether the same call may succeed a moment later."""
    cause = _cause(error)
    return isinstance(cause, (OSError, MemcacheUnexpectedCloseError)) and not isinstance(cause, ssl.SSLError)


def translated(error: BaseException, *, maybe_applied: bool = False) -> PortableError:
    """Give the error of ours for one of theirs, which becomes its cause.

    Args:
        error: theirs.
        maybe_applied: whether something was sent that changes something, and its answer is not known.
    """
    cause = _cause(error)
    ours = _translated(cause, maybe_applied=maybe_applied)
    ours.__cause__ = cause
    return ours


def _translated(cause: BaseException, *, maybe_applied: bool) -> PortableError:
    text = _text(cause)
    if isinstance(cause, ssl.SSLCertVerificationError):
        trust = f"the server's certificate is not trusted: {cause.verify_message}; ca= names another authority"
        return Unavailable(trust, retryable=False)
    for kinds, beginnings, ours, words in _MEANINGS:
        if isinstance(cause, kinds) or text.startswith(beginnings):
            lost = ours in {DeadlineExceeded, Unavailable}
            return ours(words.format(text=text), maybe_applied=maybe_applied and lost)
    return PortableError(f"the server refused: {text}")


def _text(cause: BaseException) -> str:
    """Give what the server said, which pymemcache holds as bytes."""
    said = cause.args[0] if cause.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(cause)


_MEANINGS: tuple[tuple[tuple[type[BaseException], ...], tuple[str, ...], type[PortableError], str], ...] = (
    (
        (),
        ("unauthenticated", "authentication failure"),
        Unauthenticated,
        "the server does not know this user and password; set them in the URL as user:password@",
    ),
    (
        (),
        ("object too large", "too large"),
        LimitExceeded,
        "the value is larger than the server's items (memcached -I)",
    ),
    ((), ("out of memory",), Unavailable, "the server has no memory left for it: {text}"),
    ((TimeoutError,), (), DeadlineExceeded, "the server did not answer in time"),
    (
        (OSError, MemcacheUnexpectedCloseError),
        (),
        Unavailable,
        "the server cannot be reached, or not answer: {text}",
    ),
    ((), ("ERROR",), Unsupported, "the server does not know the command; memcached 1.6 is the first that will do"),
)
"""By which words or by whom the server or pymemcache says what, as errors of ours; the first that fits counts."""
