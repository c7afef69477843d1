"""What the operating system says of files, in the words of `portable.errors`: the one table of `file:` buckets."""

from __future__ import annotations

import errno

from portable import errors

__all__ = ["MISSING", "translated"]

MISSING = (FileNotFoundError, NotADirectoryError)
"""There is no such file, or what should be its folder is none."""

_TABLE: dict[int, tuple[type[errors.PortableError], str]] = {
    errno.EACCES: (errors.PermissionDenied, "give this user the right to read and write there"),
    errno.EPERM: (errors.PermissionDenied, "give this user the right to read and write there"),
    errno.EROFS: (errors.PermissionDenied, "the file system is read-only"),
    errno.ENOSPC: (errors.Unavailable, "free some space; nothing was written"),
    errno.EDQUOT: (errors.Unavailable, "the quota is used up; nothing was written"),
    errno.EFBIG: (errors.LimitExceeded, "the file system takes no file of that size"),
    errno.ENAMETOOLONG: (errors.LimitExceeded, "the file system takes no name of that length"),
    errno.EMFILE: (errors.Unavailable, "this process has too many files open"),
    errno.ENFILE: (errors.Unavailable, "this machine has too many files open"),
    errno.ELOOP: (errors.PermissionDenied, "symbolic links inside a bucket are not followed"),
}


def translated(error: OSError, what: str) -> errors.PortableError:
    """Give the neutral error for what went wrong with `what`."""
    kind, advice = _TABLE.get(error.errno or 0, (errors.Unavailable, "the disk or its file system is failing"))
    return kind(f"{what}: {error.strerror or error}; {advice}")
