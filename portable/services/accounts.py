"""Whom servers run as: an unprivileged user, where the engine itself runs as root."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path
from typing import NamedTuple

from portable.errors import ConfigError

__all__ = ["Account", "can_enter", "unprivileged", "which"]

_VARIABLE = "PORTABLE_SERVICES_USER"


class Account(NamedTuple):
    """A user of this machine.

    Attributes:
        name: the user's name.
        uid: the user's id.
        gid: the id of the user's own group.
    """

    name: str
    uid: int
    gid: int

    @property
    def owner(self) -> tuple[int, int]:
        """The ids that files are given to."""
        return self.uid, self.gid


def unprivileged() -> Account:
    """Give the user that servers run as: oneself, or for root `nobody`, or whom `$PORTABLE_SERVICES_USER` names.

    PostgreSQL and others refuse to run as root, and no server needs to.

    Raises:
        ConfigError: there is no such user, or that is root too.
    """
    if os.geteuid() != 0:
        entry = pwd.getpwuid(os.geteuid())
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    name = os.environ.get(_VARIABLE) or "nobody"
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ConfigError(f"servers do not run as root, and there is no user {name!r}; set ${_VARIABLE}") from None
    if entry.pw_uid == 0:
        raise ConfigError(f"servers do not run as root; set ${_VARIABLE} to an unprivileged user")
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def can_enter(folder: Path, account: Account) -> bool:
    """Tell whether an account may go through a folder and all above it, by their owners and permissions."""
    for path in (folder, *folder.parents):
        try:
            found = path.stat()
        except FileNotFoundError:
            continue
        if found.st_uid == account.uid:
            needed = stat.S_IXUSR
        elif found.st_gid == account.gid:
            needed = stat.S_IXGRP
        else:
            needed = stat.S_IXOTH
        if not found.st_mode & needed:
            return False
    return True


def which(program: str, account: Account) -> str | None:
    """Find a program on `$PATH` that an account may run: root's own may lie where nobody else can enter."""
    for folder in os.get_exec_path():
        path = Path(folder, program)
        if (
            os.access(path, os.X_OK)
            and path.is_file()
            and all(can_enter(one.parent, account) for one in (path.absolute(), path.resolve()))
        ):
            return str(path.absolute())
    return None
