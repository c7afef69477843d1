"""The folders of a `file:` bucket: paths are walked name by name from the root, and no symbolic link is followed."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat as modes
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic

from portable.errors import PermissionDenied, ResourceNotFound
from portable_embedded.file_errors import MISSING
from portable_embedded.file_locks import lock_file
from portable_embedded.file_names import BESIDE, INTERNAL, MORE, key_of

__all__ = ["Folder", "InTheWayError", "Tree", "open_object"]

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
# A pipe would block whoever opens it until somebody writes.
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK

# Nothing there, a symbolic link, a socket or a device without a driver: no object.
_NO_OBJECT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENODEV}


class Folder:
    """An open folder, closed when nobody uses it any more."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        """Own a descriptor."""
        self.fd = fd

    def __del__(self) -> None:
        """Close the descriptor: not earlier, because another thread may be at it."""
        os.close(self.fd)

    def inner(self, name: str) -> Folder:
        """Open a folder in this one.

        Raises:
            FileNotFoundError: there is none.
            NotADirectoryError: it is something else, such as a symbolic link.
        """
        return Folder(os.open(name, _FOLDER, dir_fd=self.fd))

    def sync(self) -> None:
        """Make the names in it survive a power cut."""
        os.fsync(self.fd)


class InTheWayError(Exception):
    """A file has the name that a folder needs."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self.names = tuple(names)


class Tree:
    """The root of a bucket, and the ways from it."""

    def __init__(self, path: Path, *, durable: bool) -> None:
        """Open nothing yet."""
        self.path = path
        self._durable = durable
        self._root: Folder | None = None
        self._workspace: Folder | None = None
        self._making = threading.Lock()

    @property
    def internal(self) -> Path:
        """The path of the folder of ours."""
        return self.path / INTERNAL

    def open(self, *, create: bool) -> None:
        """Open the root, making it where it may be made.

        Raises:
            ResourceNotFound: it is not there.
        """
        if create:
            self.path.mkdir(parents=True, exist_ok=True)
        try:
            self._root = Folder(os.open(self.path, os.O_RDONLY | os.O_DIRECTORY))
        except MISSING as error:
            raise ResourceNotFound(
                f"there is no folder {self.path}; make it, or let `portable resources create` do so"
            ) from error

    def close(self) -> None:
        """Let go of every folder."""
        self._root = self._workspace = None

    @property
    def root(self) -> Folder:
        """The open root."""
        if self._root is None:
            self.open(create=False)
        assert self._root is not None  # noqa: S101 (just opened)
        return self._root

    @property
    def is_gone(self) -> bool:
        """Whether the folder that is open was removed."""
        root = self.root
        return os.fstat(root.fd).st_nlink == 0

    def workspace(self) -> Folder:
        """Give the folder for files that are being written; made when the first is.

        Keep what comes back while its descriptor is in use: it is closed with its last user.
        """
        workspace = self._workspace
        if workspace is None:
            with self._making:
                workspace = self._workspace
                if workspace is None:
                    internal = self._made(self.root, INTERNAL)
                    self._made(internal, "locks")
                    workspace = self._workspace = self._made(internal, "tmp")
        return workspace

    def parent(self, names: Sequence[str]) -> Folder:
        """Open the folder that holds the last of `names`.

        Raises:
            FileNotFoundError: there is no such folder.
            NotADirectoryError: a file has its name.
        """
        folder = self.root
        for name in names[:-1]:
            folder = folder.inner(name)
        return folder

    def parents(self, names: Sequence[str]) -> list[Folder]:
        """Open every folder on the way to the last of `names`, the root first."""
        folders = [self.root]
        for name in names[:-1]:
            folders.append(folders[-1].inner(name))
        return folders

    def make_parent(self, names: Sequence[str]) -> Folder:
        """Open the folder that holds the last of `names`, making what is missing.

        Raises:
            InTheWayError: a file has the name of one of its folders.
            FileNotFoundError: somebody removed a folder at the same time; try again.
        """
        folder = self.root
        for depth, name in enumerate(names[:-1], 1):
            try:
                folder = self._made(folder, name)
            except NotADirectoryError:
                raise InTheWayError(names[:depth]) from None
        return folder

    def _made(self, folder: Folder, name: str) -> Folder:
        try:
            return folder.inner(name)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=folder.fd)
                if self._durable:
                    folder.sync()
            return folder.inner(name)

    def prune(self, folders: Sequence[Folder], names: Sequence[str]) -> None:
        """Remove the folders on the way to the last of `names` that are empty, the innermost first."""
        for depth in range(len(folders) - 1, 0, -1):
            try:
                os.rmdir(names[depth - 1], dir_fd=folders[depth - 1].fd)
            except OSError:
                # Not empty, or not ours to remove.
                return

    def step_aside(self, names: Sequence[str], until: float) -> None:
        """Make the file at a path a folder, and move the object that it was to the name beside.

        The caller holds the stripe of the object's key, so that nobody writes or deletes it meanwhile.

        Raises:
            PermissionDenied: what is in the way is no object.
        """
        folder, name = self.parent(names), names[-1]
        with self.moving(fcntl.LOCK_EX, until):
            try:
                found = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
            except FileNotFoundError:
                return
            if modes.S_ISDIR(found.st_mode):
                return
            if not modes.S_ISREG(found.st_mode) or name.endswith((MORE, BESIDE)):
                raise PermissionDenied(
                    f"{self.path.joinpath(*names)} is in the way of {key_of(names)!r}: "
                    f"it is a symbolic link or a special file, which is neither followed nor replaced"
                )
            os.rename(name, name + BESIDE, src_dir_fd=folder.fd, dst_dir_fd=folder.fd)
            # Another writer below it may be making the folder, too.
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=folder.fd)
        if self._durable:
            folder.sync()

    @contextlib.contextmanager
    def moving(self, how: int, until: float) -> Iterator[None]:
        """Hold the lock of what moves objects aside (exclusive) or must not miss them (shared).

        A descriptor of its own, because threads that share one share its lock.
        """
        flags = os.O_RDONLY if how == fcntl.LOCK_SH else os.O_RDWR | os.O_CREAT
        file = os.open(self.internal / "locks" / "moving", flags | os.O_NOFOLLOW, 0o666)
        try:
            lock_file(file, how, until - monotonic(), "the folders")
            yield
        finally:
            os.close(file)


def open_object(folder: Folder, name: str) -> tuple[int, os.stat_result] | None:
    """Open the object that a name stands for: the file of that name, or the one that stepped aside for a folder."""
    for candidate in (name, name + BESIDE):
        try:
            file = os.open(candidate, _FILE, dir_fd=folder.fd)
        except OSError as error:
            if error.errno not in _NO_OBJECT:
                raise
            continue
        found = os.fstat(file)
        if modes.S_ISREG(found.st_mode):
            return file, found
        os.close(file)
    return None
