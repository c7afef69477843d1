"""Where a project keeps its services: `.portable/services/`, one folder an instance, and what they share.

    .portable/services/
      NAME/          an instance: its record, the copy of its manifest, secrets, config files, volumes, logs
      bindings/NAME  what applications read: servicebinding.io's files; good as $SERVICE_BINDING_ROOT
      packages/      fetched software, one folder for each set of packages, shared by the instances that use it
      supervisor/    the process that watches over the servers
      locks/         held while something is changed

Everything is made by one program at a time and put in place whole, so that an interruption leaves the old or the new.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from portable.errors import ConfigError, DeadlineExceeded, InvalidArgument
from portable.services.accounts import can_enter, unprivileged
from portable.services.manifest import NAME

__all__ = ["Home", "make_folder", "write_private"]

_ELSEWHERE = Path("/var/lib/portable")
"""Where root's services are kept whose project folder is closed to the user that servers run as."""

_SHARED = ("bindings", "packages", "supervisor", "locks", "repositories")


class Home:
    """The folder of a project's services.

    Attributes:
        project: the project's folder.
    """

    def __init__(self, project: Path) -> None:
        """Take the project's folder; nothing is made yet."""
        self.project = project.absolute()
        self._link = self.project / ".portable" / "services"

    @property
    def folder(self) -> Path:
        """The services' folder, without links: asked each time, since another process may make it elsewhere."""
        while True:
            # The link may be taken away between two looks at it.
            with contextlib.suppress(FileNotFoundError):
                return self._link.resolve()

    def prepare(self) -> None:
        """Make the folder: elsewhere, with a link to it, where servers could not enter the project's.

        Raises:
            ConfigError: it may not be made.
        """
        if self.folder.is_dir():
            return
        with self._parent_locked():
            account = unprivileged()
            if os.geteuid() == 0 and not self._link.exists() and not can_enter(self._link.parent, account):
                make_folder(_ELSEWHERE)
                if not self._link.is_symlink():
                    self._link.symlink_to(_ELSEWHERE / hashlib.sha256(str(self._link).encode()).hexdigest()[:16])
            make_folder(self.folder)

    @contextlib.contextmanager
    def _parent_locked(self) -> Iterator[None]:
        """Hold a lock on the folder that the services' folder comes and goes in."""
        parent = self._link.parent
        while True:
            make_folder(parent)
            file = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                if _same(file, parent):
                    yield
                    return
            finally:
                os.close(file)

    @property
    def bindings(self) -> Path:
        """The folder of all bindings."""
        return self.folder / "bindings"

    @property
    def packages(self) -> Path:
        """The folder of fetched software."""
        return self.folder / "packages"

    @property
    def supervisor(self) -> Path:
        """The supervisor's folder."""
        return self.folder / "supervisor"

    def instance(self, name: str) -> Path:
        """Give the folder of an instance.

        Raises:
            InvalidArgument: that is no name of an instance.
        """
        if not re.fullmatch(NAME, name):
            raise InvalidArgument(
                f"{name!r} is no name of an instance; use a to z, 0 to 9 and single hyphens, 2 to 40 long"
            )
        if name in _SHARED:
            raise InvalidArgument(f"{name!r} is a folder that the service engine keeps; take another name with --as")
        return self.folder / name

    def names(self) -> list[str]:
        """List the instances, whole or not, sorted."""
        try:
            return sorted(path.name for path in self.folder.iterdir() if path.is_dir() and path.name not in _SHARED)
        except FileNotFoundError:
            return []

    @contextlib.contextmanager
    def locked(self, what: str, *, timeout: float = 900.0) -> Iterator[None]:
        """Hold a lock between processes and threads.

        Args:
            what: what is locked: an instance's name, or a word for what all share.
            timeout: how long to wait for it, in seconds.

        Raises:
            DeadlineExceeded: another process held it all the while.
        """
        while True:
            self.prepare()
            folder = self.folder / "locks"
            path = folder / f"{what}.lock"
            try:
                make_folder(folder, 0o700)
                file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except FileNotFoundError:  # removed at this very moment
                continue
            try:
                _lock(file, what, timeout)
                # Whoever removed the folder meanwhile left us a lock that nobody else sees.
                if _same(file, path):
                    try:
                        yield
                    except BaseException:
                        # What failed before it made anything leaves no folder either.
                        with contextlib.suppress(OSError):
                            self.remove_if_unused(what)
                        raise
                    return
            finally:
                os.close(file)

    def remove_if_unused(self, *held: str) -> None:
        """Remove what the instances shared, when the last of them is gone and no repository was added.

        Args:
            held: the locks that the caller holds; another one that is held says that somebody is at work here.
        """
        if not self.folder.is_dir():
            return
        with self._parent_locked():
            folder = self.folder
            if self.names() or (folder / "repositories").is_dir():
                return
            if any(_is_held(path) for path in (folder / "locks").iterdir() if path.stem not in held):
                return
            shutil.rmtree(folder)
            if self._link.is_symlink():
                self._link.unlink()
            for parent in {self._link.parent, folder.parent}:
                with contextlib.suppress(OSError):  # other things are kept there
                    parent.rmdir()


def _is_held(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _lock(file: int, what: str, timeout: float) -> None:
    import time  # noqa: PLC0415 (only a lock that is held needs it)

    end = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise DeadlineExceeded(
                    f"another process has been changing {what} for {timeout:g} s; try again"
                ) from None
            # The system wakes nobody after a while, so this asks again.
            time.sleep(0.05)
        else:
            return


def _same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def make_folder(path: Path, mode: int = 0o755) -> None:
    """Make a folder and those above it, with the very mode that is asked for, whatever the umask.

    Raises:
        ConfigError: something else is there, or it may not be made.
    """
    try:
        if not path.parent.is_dir():
            make_folder(path.parent)
        if not path.is_dir():
            path.mkdir(mode, exist_ok=True)
            path.chmod(mode)
    except FileNotFoundError:  # another process removed what is above it at this very moment
        make_folder(path, mode)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be made: {error.strerror}") from None


def write_private(path: Path, content: str | bytes, *, owner: tuple[int, int] | None = None, mode: int = 0o600) -> None:
    """Write a file whole, readable by its owner alone.

    Args:
        path: the file.
        content: what it holds.
        owner: the user and group ids that it is for, where that is another user.
        mode: its permissions.
    """
    data = content.encode() if isinstance(content, str) else content
    number, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")  # with mode 0600
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            os.fchmod(file.fileno(), mode)
            if owner is not None and os.geteuid() == 0:
                os.fchown(file.fileno(), *owner)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
