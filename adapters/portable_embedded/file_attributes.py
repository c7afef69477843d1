"""What a `file:` bucket knows of an object beside its bytes, so kept that data and attributes change together.

It is one extended attribute of the data file, set before the file gets its name. Where the file system has none, or
it does not fit, it is a file under `.portable/attributes` whose name is the identity of the data file.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from portable.checksums import named
from portable.objects import ObjectHeaders, ObjectInfo

__all__ = ["Attributes", "Stored", "VanishedError", "describe", "etag_of", "identity_of", "sync_folder"]

NAME = "user.portable"
VERSION = 1
_HAS_XATTRS = hasattr(os, "setxattr")
_NO_HEADERS = ObjectHeaders()


class Stored(msgspec.Struct, frozen=True, array_like=True):
    """The attributes as they are stored: a JSON array.

    Attributes:
        version: of this form.
        token: the etag; new with every write.
        crc32: of the content.
        modified: of the data file, in nanoseconds, when this was written; another value means that another program
            wrote to the file since.
        size: of the data file, for the same.
        headers: the headers and metadata; True where they are in `.portable/attributes`.
    """

    version: int
    token: str
    crc32: int
    modified: int
    size: int
    headers: ObjectHeaders | bool | None = None

    def is_of(self, stat: os.stat_result) -> bool:
        """Say whether the content is still what this was written for."""
        return stat.st_mtime_ns == self.modified and stat.st_size == self.size


class Beside(msgspec.Struct, frozen=True):
    """A file under `.portable/attributes`.

    Attributes:
        key: of the object, so that what was left by a crash can be told.
        stored: the attributes.
    """

    key: str
    stored: Stored


class VanishedError(Exception):
    """The data file was replaced while it was read; look again."""


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Stored).decode
_decode_beside = msgspec.json.Decoder(Beside).decode


class Attributes:
    """Reads and writes the attributes of the objects of one bucket."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        """Touch nothing yet.

        Args:
            folder: the path of `.portable/attributes`, made when it is first needed.
            durable: whether what is written there survives a power cut.
        """
        self._folder = folder
        self._durable = durable

    def attach(self, file: int, key: str, crc: int, headers: ObjectHeaders) -> tuple[Stored, os.stat_result]:
        """Give the attributes to a data file that has all its bytes, and no name yet that readers know."""
        stat = os.fstat(file)
        token = secrets.token_hex(7)
        if headers == _NO_HEADERS:
            stored = Stored(VERSION, token, crc, stat.st_mtime_ns, stat.st_size)
            # Up to 64 bytes are kept in the inode by ext4, which halves the time of a write.
            text = b'[%d,"%b",%d,%d,%d]' % (VERSION, token.encode(), crc, stat.st_mtime_ns, stat.st_size)
        else:
            stored = Stored(VERSION, token, crc, stat.st_mtime_ns, stat.st_size, headers)
            text = _encode(stored)
        if not _set(file, text):
            self._write_beside(Beside(key, stored), stat)
            _set(file, _encode(msgspec.structs.replace(stored, headers=True)))
        return stored, stat

    def read(self, file: int, stat: os.stat_result) -> Stored | None:
        """Give the attributes of an open data file, None where it has none: another program wrote it.

        Raises:
            VanishedError: they are gone, because the file was replaced.
        """
        stored: Stored | None = None
        if _HAS_XATTRS:
            try:
                stored = _decode(os.getxattr(file, NAME))
            except (OSError, ValueError, msgspec.MsgspecError):
                stored = None
            else:
                if stored.headers is not True:
                    return stored
        try:
            return self._read_beside(stat)
        except FileNotFoundError:
            if os.fstat(file).st_nlink == 0:
                raise VanishedError from None
            return stored

    def forget(self, stat: os.stat_result) -> None:
        """Remove what stands under `.portable/attributes` for a data file that is gone."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            self._folder.joinpath(identity_of(stat)).unlink()

    @property
    def in_use(self) -> bool:
        """Whether anything was ever kept under `.portable/attributes`."""
        return os.access(self._folder, os.F_OK)

    def left_over(self, before: float, count: int) -> list[tuple[str, str]]:
        """Give what stands under `.portable/attributes` since before that time: its name, and the key it was for.

        Only `count` entries are looked at, because whoever opens a bucket waits for it.
        """
        found: list[tuple[str, str]] = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in itertools.islice(entries, count):
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        found.append((entry.name, self._key_in(entry.path)))
        return found

    def drop(self, name: str) -> None:
        """Remove one of what `left_over` gave."""
        with contextlib.suppress(FileNotFoundError):
            self._folder.joinpath(name).unlink()

    def _key_in(self, path: str) -> str:
        try:
            return _decode_beside(Path(path).read_bytes()).key
        except (ValueError, msgspec.MsgspecError):
            return ""

    def _read_beside(self, stat: os.stat_result) -> Stored:
        return _decode_beside(self._folder.joinpath(identity_of(stat)).read_bytes()).stored

    def _write_beside(self, beside: Beside, stat: os.stat_result) -> None:
        self._folder.mkdir(exist_ok=True)
        # Its identity is that of a file that nobody else can have yet, so nobody else writes here.
        with self._folder.joinpath(identity_of(stat)).open("wb") as file:
            file.write(_encode(beside))
            if self._durable:
                file.flush()
                os.fsync(file.fileno())
        if self._durable:
            sync_folder(self._folder)


def sync_folder(path: Path) -> None:
    """Make the names in a folder survive a power cut."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def identity_of(stat: os.stat_result) -> str:
    """Name a data file by what changes whenever it is written."""
    return f"{stat.st_ino:x}-{stat.st_mtime_ns:x}-{stat.st_size:x}"


def _set(file: int, text: bytes) -> bool:
    if not _HAS_XATTRS:
        return False
    try:
        os.setxattr(file, NAME, text)
    except OSError:
        # No such thing on this file system, or no room: both are what `.portable/attributes` is for.
        return False
    return True


def etag_of(stat: os.stat_result, stored: Stored | None) -> str:
    """Give the etag: the one that was stored, or one of the file itself where another program wrote it."""
    return stored.token if stored is not None and stored.is_of(stat) else identity_of(stat)


def describe(key: str, stat: os.stat_result, stored: Stored | None) -> ObjectInfo:
    """Describe an object."""
    modified = datetime.fromtimestamp(stat.st_mtime, UTC)
    if stored is None:
        return ObjectInfo(key, stat.st_size, identity_of(stat), modified)
    checksum = named(stored.crc32) if stored.is_of(stat) else None
    etag = etag_of(stat, stored)
    if not isinstance(stored.headers, ObjectHeaders):
        return ObjectInfo(key, stat.st_size, etag, modified, checksum=checksum)
    headers = stored.headers
    return ObjectInfo(
        key,
        stat.st_size,
        etag,
        modified,
        headers.content_type,
        headers.metadata.copy(),
        headers.cache_control,
        headers.content_disposition,
        headers.content_encoding,
        headers.content_language,
        checksum,
    )
