"""What SQLite says, in the words of `portable.errors`: the one table of this package.

Constraint violations and programming errors are not here: a driver knows what they mean, the file does not.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from portable import errors

__all__ = ["blamed", "is_busy"]

# By primary result code, https://www.sqlite.org/rescode.html: the error and what to tell the user.
_TABLE: dict[int, tuple[type[errors.PortableError], str]] = {
    sqlite3.SQLITE_BUSY: (errors.Unavailable, "is locked by another process; try again"),
    sqlite3.SQLITE_LOCKED: (errors.Unavailable, "is locked by another connection; try again"),
    sqlite3.SQLITE_FULL: (errors.Unavailable, "cannot grow: the disk or its quota is full; free some space"),
    sqlite3.SQLITE_IOERR: (errors.Unavailable, "cannot be read or written: the disk is full or failing"),
    sqlite3.SQLITE_NOMEM: (errors.Unavailable, "cannot be served: the process is out of memory"),
    sqlite3.SQLITE_PROTOCOL: (errors.Unavailable, "is contended beyond what SQLite can queue; try again"),
    sqlite3.SQLITE_CORRUPT: (
        errors.IntegrityError,
        "is damaged; restore it from a backup or recover it with `sqlite3`",
    ),
    sqlite3.SQLITE_NOTADB: (errors.IntegrityError, "is not an SQLite database; name another file"),
    sqlite3.SQLITE_READONLY: (errors.PermissionDenied, "is read-only; make the file and its folder writable"),
    sqlite3.SQLITE_CANTOPEN: (errors.PermissionDenied, "cannot be opened; make the file and its folder writable"),
    sqlite3.SQLITE_PERM: (errors.PermissionDenied, "cannot be opened; make the file and its folder writable"),
    sqlite3.SQLITE_AUTH: (errors.PermissionDenied, "refuses this statement"),
    sqlite3.SQLITE_TOOBIG: (errors.LimitExceeded, "takes at most 1 GB in one value"),
}


def _code(error: sqlite3.Error) -> int:
    # The attribute is set by the library's own errors only, not by those that the Python module makes up.
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_busy(error: sqlite3.Error) -> bool:
    """Whether somebody else holds the lock, so that the same call can succeed a moment later."""
    return _code(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL}


def blamed(error: BaseException, path: Path) -> BaseException:
    """What to raise for an error met at the file at `path`: ours where the file is at fault, else the error itself."""
    row = _TABLE.get(_code(error)) if isinstance(error, sqlite3.Error) else None
    if row is None:
        return error
    kind, what = row
    ours = kind(f"{path} {what} ({error})", provider="sqlite")
    ours.__cause__ = error
    return ours
