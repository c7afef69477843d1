"""What PostgreSQL, MySQL and their clients report, as errors of ours."""

from __future__ import annotations

import contextlib
from typing import Any

from portable.errors import (
    DeadlineExceeded,
    IntegrityError,
    InvalidArgument,
    LimitExceeded,
    PermissionDenied,
    PortableError,
    ResourceNotFound,
    Unauthenticated,
    Unavailable,
    Unsupported,
)

__all__ = ["is_duplicate", "said", "translated"]

_Meaning = tuple[type[PortableError], str]
"""An error of ours, and its words."""

_TRUST = "ca= names another authority, and tls=off is for a network that is trusted"
_LOGIN = "the server does not know this user and password; set them in the URL as user:password@"
_MAKE = "make it with `portable resources create`"
_PASSING = "the server cannot serve this now, and may a moment later: {text}"
_REFUSED = "the server forbids it to this user: {text}"
_LARGE = "the server takes nothing that large: {text}"
_GONE = "the server cannot be reached, or broke off: {text}"
_LATE = "the server did not answer in time"
_ODD = "the server takes no such value: {text}"
_FULL = "the server has no room left: {text}"

_STATES: tuple[tuple[str, _Meaning], ...] = (
    ("28", (Unauthenticated, _LOGIN)),
    ("08", (Unavailable, _GONE)),
    ("57014", (DeadlineExceeded, _LATE)),
    ("57P", (Unavailable, _GONE)),
    ("40", (Unavailable, _PASSING)),
    ("55P03", (Unavailable, _PASSING)),
    ("53300", (Unavailable, "the server has as many connections as it takes: {text}")),
    ("53", (Unavailable, _FULL)),
    ("25006", (Unavailable, "the server is read-only: {text}")),
    ("3D000", (ResourceNotFound, "there is no such database: {text}")),
    ("3F000", (ResourceNotFound, "there is no such schema: {text}")),
    ("42501", (PermissionDenied, _REFUSED)),
    ("42P01", (ResourceNotFound, "a table is missing ({text}); " + _MAKE)),
    ("42", (Unsupported, "the server is too old, or its tables are not ours: {text}")),
    ("54", (LimitExceeded, _LARGE)),
    ("22001", (LimitExceeded, _LARGE)),
    ("22", (InvalidArgument, _ODD)),
    ("XX", (IntegrityError, "the server found damage: {text}")),
    ("58", (Unavailable, _PASSING)),
)
"""By the beginning of PostgreSQL's SQLSTATE (https://www.postgresql.org/docs/current/errcodes-appendix.html)."""

_TEXTS: tuple[tuple[str, _Meaning], ...] = (
    ("password authentication failed", (Unauthenticated, _LOGIN)),
    ("authentication failed", (Unauthenticated, _LOGIN)),
    ("no password supplied", (Unauthenticated, _LOGIN)),
    ("no pg_hba.conf entry", (PermissionDenied, _REFUSED)),
    ("not permitted to log in", (PermissionDenied, _REFUSED)),
    ("permission denied", (PermissionDenied, _REFUSED)),
    ("does not exist", (ResourceNotFound, "there is no such database, or user: {text}")),
    ("certificate verify failed", (Unavailable, "the server's certificate is not trusted: {text}; " + _TRUST)),
    ("server certificate for", (Unavailable, "the server's certificate is not its own: {text}; " + _TRUST)),
    ("does not support SSL", (Unavailable, "the server does not encrypt: {text}; " + _TRUST)),
    ("sslrootcert", (Unavailable, "the server's certificate cannot be verified: {text}; " + _TRUST)),
    ("timeout expired", (DeadlineExceeded, _LATE)),
)
"""By the words of what went wrong before there was a connection, of which libpq gives no SQLSTATE."""

_NUMBERS: dict[int, _Meaning] = {
    number: (ours, words)
    for numbers, ours, words in (
        ((1045, 1698, 1862, 2059, 4151), Unauthenticated, _LOGIN),
        ((1044, 1142, 1143, 1227, 1370, 1410), PermissionDenied, _REFUSED),
        ((1049,), ResourceNotFound, "there is no such database: {text}"),
        ((1146, 1932), ResourceNotFound, "a table is missing ({text}); " + _MAKE),
        ((1040, 1203, 1226), Unavailable, "the server has as many connections as it takes: {text}"),
        ((1205, 1213, 1020, 1412, 3572), Unavailable, _PASSING),
        (
            (1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1927, 2002, 2003, 2006, 2013, 2014, 2055),
            Unavailable,
            _GONE,
        ),
        ((1290, 1792, 1836), Unavailable, "the server is read-only: {text}"),
        ((1021, 1114, 1041, 1037, 1038, 3, 28), Unavailable, _FULL),
        ((1317, 1969, 3024, 1907), DeadlineExceeded, _LATE),
        ((1153, 1301, 1406, 1118, 1301), LimitExceeded, _LARGE),
        ((1366, 1264, 1300, 1292, 3988), InvalidArgument, _ODD),
        ((1034, 1194, 1195, 126, 127), IntegrityError, "the server found damage: {text}"),
        ((1064, 1054, 1305, 1193), Unsupported, "the server is too old, or its tables are not ours: {text}"),
        ((2026,), Unavailable, "the server does not encrypt as it should: {text}; " + _TRUST),
    )
    for number in numbers
}
"""By the number of an error of MySQL's (https://dev.mysql.com/doc/mysql-errors/8.4/en/) or of MariaDB's."""

_DISTRUST: _Meaning = (Unavailable, "the server's certificate is not trusted: {text}; " + _TRUST)

_BROKEN_OFF = {1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1317, 1927, 2006, 2013, 2014, 2055}
"""After which of these numbers nobody knows whether the statement was carried out."""

_NEVER_PASSES = ("certificate", "encrypt")


def translated(error: BaseException, *, sent: bool) -> PortableError:
    """Give the error of ours for one of a client's, which becomes its cause.

    Args:
        error: of psycopg, PyMySQL, the operating system, or of SQLAlchemy around one of these.
        sent: whether the statement may have reached the server, and changed something there.
    """
    cause = getattr(error, "orig", None) or error
    kind, words = _meaning(cause)
    text = said(cause)
    ours = kind(words.format(text=text) if words else f"the server refused: {text}")
    if isinstance(ours, (Unavailable, DeadlineExceeded)):
        ours.maybe_applied = sent and not _is_refused(cause)
        ours.retryable = not any(one in words for one in _NEVER_PASSES)
    ours.__cause__ = cause
    return ours


def said(error: BaseException) -> str:
    """Give what the server said, in one line."""
    number = _number(error)
    text = str(error.args[1]) if number and len(error.args) > 1 else str(error)
    return " ".join(text.split())


def is_duplicate(error: BaseException) -> bool:
    """Whether there is a row already that is the only one of its kind."""
    return (_number(error) or getattr(error, "sqlstate", None)) in {1062, "23505"}


def _is_refused(cause: BaseException) -> bool:
    """Whether the server said itself that it did nothing."""
    if number := _number(cause):
        return number not in _BROKEN_OFF
    state: str | None = getattr(cause, "sqlstate", None)
    return state is not None and not state.startswith(("08", "57P01", "57P02"))


def _meaning(cause: BaseException) -> _Meaning:
    if isinstance(cause, TimeoutError) or isinstance(_beneath(cause), TimeoutError):
        return DeadlineExceeded, _LATE
    unknown: _Meaning = (PortableError, "")
    if number := _number(cause):
        return _DISTRUST if "CERTIFICATE_VERIFY_FAILED" in str(cause) else _NUMBERS.get(number, unknown)
    state: str | None = getattr(cause, "sqlstate", None)
    if state is None:
        return next((meaning for part, meaning in _TEXTS if part in str(cause)), (Unavailable, _GONE))
    return next((meaning for beginning, meaning in _STATES if state.startswith(beginning)), unknown)


def _beneath(cause: BaseException) -> Any:
    """Give what PyMySQL met before it raised an error of its own."""
    return getattr(cause, "original_exception", None) or cause.__cause__ or cause.__context__


def _number(error: BaseException) -> int:
    with contextlib.suppress(IndexError):
        if isinstance(error.args[0], int) and not isinstance(error, OSError):
            return error.args[0]
    return 0
