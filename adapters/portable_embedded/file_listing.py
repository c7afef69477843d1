"""Listing a `file:` bucket in the byte order of its keys, with no more in memory than the folders on the way."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from time import monotonic

from portable.object_keys import MAX_KEY_BYTES
from portable.object_listing import behind, grouped
from portable.objects import ObjectInfo, Prefix
from portable_embedded.file_attributes import Attributes, VanishedError, describe
from portable_embedded.file_errors import MISSING
from portable_embedded.file_names import BESIDE, MORE, decoded, names_of, pieces_of
from portable_embedded.file_tree import Folder, Tree, open_object

__all__ = ["Listing"]


class _Level:
    """One folder that is being listed: what is still to come, in reverse, folders with a slash at the end."""

    __slots__ = ("folder", "key", "names")

    def __init__(self, key: bytes, names: list[bytes], folder: Folder | None) -> None:
        self.key = key
        self.names = names
        self.folder = folder


class Listing:
    """One listing: an iterator of objects and prefixes."""

    def __init__(
        self,
        tree: Tree,
        attributes: Attributes,
        prefix: str,
        *,
        delimiter: str | None = None,
        after: bytes = b"",
        timeout: float,
    ) -> None:
        """Look at nothing yet."""
        self._tree = tree
        self._attributes = attributes
        self._prefix = prefix.encode()
        self._delimiter = None if delimiter is None else delimiter.encode()
        self._after = after
        self._timeout = timeout

    def __iter__(self) -> Iterator[ObjectInfo | Prefix]:
        # Only folders that the prefix leads to are looked at, so the first is the one that its last slash ends.
        levels = [self._level(self._prefix[: self._prefix.rfind(b"/") + 1])]
        while levels:
            level = levels[-1]
            if not level.names:
                levels.pop()
                continue
            name = level.names.pop()
            key = level.key + name
            is_folder = name.endswith(b"/")
            if self._is_behind(key, is_folder=is_folder):
                continue
            group = grouped(key, self._prefix, self._delimiter)
            if is_folder and group is None:
                # One open folder at a time, however deep the keys are.
                level.folder = None
                levels.append(self._level(key))
                continue
            item: ObjectInfo | Prefix | None
            if group is None:
                item = self._object(level, key)
            else:
                item = Prefix(group.decode()) if not is_folder or self._holds_any(key) else None
            if item is not None:
                yield item
                self._after = behind(item)

    def _is_behind(self, key: bytes, *, is_folder: bool) -> bool:
        """Say whether the listing is past a key, or past all that a folder can hold."""
        return (key + b"\xff" if is_folder else key) <= self._after

    def _level(self, key: bytes) -> _Level:
        try:
            folder = self._folder(key)
        except MISSING:
            return _Level(key, [], None)
        names: list[bytes] = []
        with self._nothing_moving():
            twice = self._scan(folder, key, "", names)
        if twice:
            names = [*set(names)]
        names.sort(reverse=True)
        return _Level(key, names, folder)

    def _folder(self, key: bytes) -> Folder:
        # The empty last segment leads to the folder itself.
        return self._tree.parent(names_of(key.decode()))

    def _scan(self, folder: Folder, key: bytes, begun: str, names: list[bytes]) -> bool:
        """Gather the names in a folder; says whether one may stand there twice."""
        at_root = not key
        twice = False
        with _entries(folder) as entries:
            for entry in entries:
                name = entry.name
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder and name.endswith(MORE):
                    with contextlib.suppress(*MISSING):
                        twice |= self._scan(folder.inner(name), key, begun + name[: -len(MORE)], names)
                    continue
                if not is_folder:
                    if not entry.is_file(follow_symlinks=False):
                        continue
                    if name.endswith(BESIDE):
                        name = name[: -len(BESIDE)]
                        twice = True
                segment = _encoded(decoded(begun + name, at_root=at_root))
                if segment is None:
                    continue
                if is_folder:
                    segment += b"/"
                if self._is_wanted(key + segment, is_folder=is_folder):
                    names.append(segment)
        return twice

    def _is_wanted(self, key: bytes, *, is_folder: bool) -> bool:
        return (
            key.startswith(self._prefix)
            and 0 < len(key) <= MAX_KEY_BYTES
            and not self._is_behind(key, is_folder=is_folder)
        )

    def _object(self, level: _Level, key: bytes) -> ObjectInfo | None:
        segment = key[len(level.key) :].decode()
        try:
            if level.folder is None:
                level.folder = self._folder(level.key)
            folder = level.folder
            *more, name = pieces_of(segment, at_root=not level.key)
            for piece in more:
                folder = folder.inner(piece)
            while True:
                with contextlib.suppress(VanishedError):
                    return self._described(folder, name, key.decode())
        except MISSING:
            return None

    def _described(self, folder: Folder, name: str, key: str) -> ObjectInfo | None:
        try:
            found = open_object(folder, name)
        except PermissionError:
            # Who may not read it may still know of it.
            return describe(key, os.stat(name, dir_fd=folder.fd, follow_symlinks=False), None)
        if found is None:
            return None
        file, stat = found
        try:
            return describe(key, stat, self._attributes.read(file, stat))
        finally:
            os.close(file)

    def _holds_any(self, key: bytes) -> bool:
        """Say whether a folder holds an object that is still to come."""
        if self._after.startswith(key):
            inner = Listing(self._tree, self._attributes, key.decode(), after=self._after, timeout=self._timeout)
            return next(iter(inner), None) is not None
        try:
            return _any_below(self._folder(key))
        except MISSING:
            return False

    @contextlib.contextmanager
    def _nothing_moving(self) -> Iterator[None]:
        """Keep objects from stepping aside, so that one which is there all the time is not missed."""
        with contextlib.ExitStack() as held:
            # Without a folder of ours nobody has ever written here.
            with contextlib.suppress(FileNotFoundError):
                held.enter_context(self._tree.moving(fcntl.LOCK_SH, monotonic() + self._timeout))
            yield


@contextlib.contextmanager
def _entries(folder: Folder) -> Iterator[Iterator[os.DirEntry[str]]]:
    # A descriptor of its own, because those that share one share the place where they read.
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder.fd)
    try:
        with os.scandir(fd) as entries:
            yield entries
    finally:
        os.close(fd)


def _encoded(segment: str | None) -> bytes | None:
    """Give a segment as the bytes of a key, None for a name that is not UTF-8 and so is no key."""
    if segment is None:
        return None
    try:
        return segment.encode()
    except UnicodeEncodeError:
        return None


def _any_below(folder: Folder) -> bool:
    """Say whether there is an object in a folder or below it, without sorting what may be many."""
    # Paths, because open folders are few and keys may be deep.
    todo: list[tuple[str, ...]] = [()]
    while todo:
        path = todo.pop()
        with contextlib.suppress(*MISSING):
            inner = folder
            for name in path:
                inner = inner.inner(name)
            with _entries(inner) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append((*path, entry.name))
                    elif entry.is_file(follow_symlinks=False) and _is_object(entry.name):
                        return True
    return False


def _is_object(name: str) -> bool:
    return _encoded(decoded(name.removesuffix(BESIDE), at_root=False)) is not None
