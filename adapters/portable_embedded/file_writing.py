"""How a finished file becomes an object of a `file:` bucket, and how an object goes: under the lock of its key."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat as modes
import threading
from collections.abc import Iterator, Sequence
from time import monotonic, time

from portable.errors import AlreadyExists, DeadlineExceeded, PreconditionFailed, Unavailable
from portable.objects import Condition
from portable_embedded.file_attributes import Attributes, Stored, VanishedError, etag_of, identity_of
from portable_embedded.file_errors import MISSING
from portable_embedded.file_locks import Stripes, let_go, stripes_of
from portable_embedded.file_names import BESIDE, key_of, names_of
from portable_embedded.file_tree import Folder, InTheWayError, Tree, open_object

__all__ = ["PUT", "UPLOAD", "Writing", "unmet"]

PUT = "put-"
"""Begins the name of a file that one call writes."""
UPLOAD = "upload-"
"""Begins the name of a file that a multipart upload writes."""

# Of what a killed process left. A call writes all the time; an upload may be resumed within the week.
_LEFT_OVER_AFTER = {PUT: 3600, UPLOAD: 7 * 86400}
_LOOKED_AT = 10_000


def unmet(key: str) -> PreconditionFailed:
    """Say that `if_match` did not hold."""
    return PreconditionFailed(f"the object {key!r} is missing or not of this version any more")


class Writing:
    """The writing side of one bucket."""

    def __init__(self, tree: Tree, attributes: Attributes, *, create: bool, durable: bool) -> None:
        """Touch nothing yet."""
        self._tree = tree
        self._attributes = attributes
        self._create = create
        self._durable = durable
        self._stripes: Stripes | None = None
        self._let_go: tuple[int, int] | None = None
        self._taking = threading.Lock()

    def new_file(self, begins: str) -> tuple[str, int]:
        """Make a file that no reader sees; gives its name in the workspace, and its descriptor."""
        name = begins + secrets.token_hex(8)
        try:
            return name, self.open_file(name, os.O_CREAT | os.O_EXCL)
        except FileNotFoundError:
            # Somebody removed the bucket and perhaps made it again.
            self._tree.close()
            self._tree.open(create=self._create)
            return name, self.open_file(name, os.O_CREAT | os.O_EXCL)

    def open_file(self, name: str, flags: int = 0) -> int:
        """Open a file of the workspace; gives its descriptor."""
        workspace = self._tree.workspace()
        return os.open(name, os.O_RDWR | os.O_NOFOLLOW | flags, 0o666, dir_fd=workspace.fd)

    def drop_file(self, name: str) -> None:
        """Remove a file that was not published; one that is gone is no error."""
        workspace = self._tree.workspace()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=workspace.fd)

    def publish(self, key: str, source: str, condition: Condition | None, until: float) -> None:
        """Give a finished file of the workspace its place, over what was there.

        Raises:
            AlreadyExists: the condition is `absent`, and there is an object.
            PreconditionFailed: the condition's etag is not the object's.
            DeadlineExceeded: others were writing to the key all the time.
        """
        names = names_of(key)
        while True:
            try:
                folder = self._tree.make_parent(names)
                with self._holding(key, until):
                    if condition is not None:
                        self._check(key, folder, names[-1], condition)
                    self._place(source, folder, names[-1])
            except InTheWayError as blocked:
                # Where its folder has gone meanwhile, nothing is in the way any more.
                with self._holding(key_of(blocked.names), until), contextlib.suppress(*MISSING):
                    self._tree.step_aside(blocked.names, until)
            except (AlreadyExists, PreconditionFailed):
                self._prune(names)
                raise
            except FileNotFoundError:
                self._check_still_there(source, until)
            else:
                if self._durable:
                    folder.sync()
                return

    def delete(self, key: str, etag: str | None, until: float) -> None:
        """Remove an object, and the folders that it leaves empty.

        Raises:
            PreconditionFailed: `etag` is not the object's.
        """
        names = names_of(key)
        try:
            folders = self._tree.parents(names)
        except MISSING:
            if etag is not None:
                raise unmet(key) from None
            return
        folder = folders[-1]
        with self._holding(key, until):
            if etag is not None:
                self._check(key, folder, names[-1], Condition(etag=etag))
            # The file beside goes first: while the other is there nobody reads it.
            removed = [self._remove(folder, name) for name in (names[-1] + BESIDE, names[-1])]
        if any(removed):
            if self._durable:
                folder.sync()
            self._tree.prune(folders, names)

    def current(self, folder: Folder, name: str) -> tuple[os.stat_result, Stored | None] | None:
        """Give what is known of the object of that name, None where there is none."""
        while True:
            found = open_object(folder, name)
            if found is None:
                return None
            file, stat = found
            try:
                with contextlib.suppress(VanishedError):
                    return stat, self._attributes.read(file, stat)
            finally:
                os.close(file)

    def sweep(self) -> None:
        """Remove what killed processes left, where it is old enough that nobody can be at it."""
        folder = self._tree.internal / "tmp"
        now = time()
        with contextlib.suppress(FileNotFoundError, PermissionError), os.scandir(folder) as entries:
            for entry in entries:
                age = _LEFT_OVER_AFTER.get(entry.name[: entry.name.find("-") + 1])
                with contextlib.suppress(FileNotFoundError):
                    if age is not None and entry.stat(follow_symlinks=False).st_mtime < now - age:
                        folder.joinpath(entry.name).unlink()
        with contextlib.suppress(PermissionError):
            for name, key in self._attributes.left_over(now - _LEFT_OVER_AFTER[PUT], _LOOKED_AT):
                if not self._is_needed(name, key):
                    self._attributes.drop(name)

    def close(self) -> None:
        """Let go of the locks."""
        taken, self._let_go, self._stripes = self._let_go, None, None
        if taken is not None:
            let_go(taken)

    @contextlib.contextmanager
    def _holding(self, key: str, until: float) -> Iterator[None]:
        stripes = self._stripes
        if stripes is None:
            stripes = self._take_stripes()
        stripe = stripes.acquire(key, until - monotonic())
        try:
            yield
        finally:
            stripes.release(stripe)

    def _take_stripes(self) -> Stripes:
        self._tree.workspace()
        with self._taking:
            if self._stripes is None:
                self._stripes, self._let_go = stripes_of(self._tree.internal / "locks")
            return self._stripes

    def _check(self, key: str, folder: Folder, name: str, condition: Condition) -> None:
        found = self.current(folder, name)
        if condition.absent and found is not None:
            raise AlreadyExists(f"there is an object {key!r} already")
        if condition.etag is not None and (found is None or etag_of(*found) != condition.etag):
            raise unmet(key)

    def _place(self, source: str, folder: Folder, name: str) -> None:
        workspace = self._tree.workspace()
        old = self.current(folder, name) if self._attributes.in_use else None
        try:
            os.rename(source, name, src_dir_fd=workspace.fd, dst_dir_fd=folder.fd)
        except IsADirectoryError:
            os.rename(source, name + BESIDE, src_dir_fd=workspace.fd, dst_dir_fd=folder.fd)
        if old is not None:
            self._attributes.forget(old[0])

    def _remove(self, folder: Folder, name: str) -> bool:
        try:
            stat = os.stat(name, dir_fd=folder.fd, follow_symlinks=False)
            if not modes.S_ISREG(stat.st_mode):
                return False
            os.unlink(name, dir_fd=folder.fd)
        except MISSING:
            return False
        if self._attributes.in_use:
            self._attributes.forget(stat)
        return True

    def _prune(self, names: Sequence[str]) -> None:
        with contextlib.suppress(*MISSING):
            self._tree.prune(self._tree.parents(names), names)

    def _check_still_there(self, source: str, until: float) -> None:
        """Tell a folder that was removed at the same time, which is made again, from a file that is gone."""
        workspace = self._tree.workspace()
        try:
            os.stat(source, dir_fd=workspace.fd)
        except FileNotFoundError:
            raise Unavailable("the file in .portable/tmp was removed while it was written; try again") from None
        if monotonic() >= until:
            raise DeadlineExceeded("the folders of the object were removed again and again; nothing was written")

    def _is_needed(self, name: str, key: str) -> bool:
        if not key:
            return False
        names = names_of(key)
        try:
            found = self.current(self._tree.parent(names), names[-1])
        except MISSING:
            return False
        return found is not None and identity_of(found[0]) == name
