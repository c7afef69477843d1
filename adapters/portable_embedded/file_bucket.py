"""Objects as plain files under a folder: `docs/wire-formats/bucket.md` has the layout."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar
from zlib import crc32

from portable import drivers
from portable.batches import Page
from portable.bindings import Binding
from portable.bridges import undone_by
from portable.capabilities import BucketCapabilities
from portable.changes import Change
from portable.checksums import combine
from portable.errors import (
    ConfigError,
    IntegrityError,
    InvalidArgument,
    NotFound,
    PortableError,
    ResourceNotFound,
    Unsupported,
)
from portable.local_files import cut, write_checked
from portable.object_listing import beginning, paged
from portable.objects import Condition, ObjectHeaders, ObjectInfo, Part, Prefix, SignedRequest
from portable_embedded.file_attributes import Attributes, Stored, VanishedError, describe, etag_of
from portable_embedded.file_errors import MISSING, translated
from portable_embedded.file_listing import Listing
from portable_embedded.file_names import names_of
from portable_embedded.file_tree import Tree, open_object
from portable_embedded.file_writing import PUT, UPLOAD, Writing, unmet

__all__ = ["FileBucket", "FileBucketOptions"]

P = ParamSpec("P")
T = TypeVar("T")

_BLOCK = 256 * 1024
_UPLOAD_ID = re.compile(r"[0-9a-f]{16}")
_NO_HEADERS = ObjectHeaders()


class FileBucketOptions(drivers.Options, frozen=True, kw_only=True):
    """`file:PATH` keeps each object as a plain file in that folder, relative to the config file's.

    Attributes:
        durability: `"power"` (the default: what was written survives a power cut) or `"process"` (it survives the
            end of the process, and writing is faster).
    """

    durability: Literal["power", "process"] = "power"


def _spoken(
    method: Callable[Concatenate[FileBucket, str, P], T],
) -> Callable[Concatenate[FileBucket, str, P], T]:
    """Make what the system says of a key's files our own errors."""

    @functools.wraps(method)
    def call(self: FileBucket, key: str, /, *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(self, key, *args, **kwargs)
        except PortableError:
            raise
        except OSError as error:
            raise translated(error, f"the file of {key!r}") from error

    return call


class FileBucket:
    """A bucket of plain files; safe with threads and with other processes on this machine."""

    Options = FileBucketOptions
    one_per_url = True

    def __init__(self, binding: Binding[FileBucketOptions]) -> None:
        """Name the folder, without any I/O."""
        if not binding.url.path:
            raise ConfigError("file: names no folder; write file:PATH, relative to the config file, or file:/PATH")
        self._path = Path(binding.url.path).absolute()
        self._create = binding.create
        self._durable = binding.options.durability == "power"
        self.capabilities = BucketCapabilities(
            durability=binding.options.durability,
            server_side_copy=True,
            part_bytes=1024 * 1024,
            max_parts=None,
        )
        self._tree = Tree(self._path, durable=self._durable)
        self._attributes = Attributes(self._tree.internal / "attributes", durable=self._durable)
        self._writing = Writing(self._tree, self._attributes, create=self._create, durable=self._durable)

    @property
    def native(self) -> Path:
        """The folder."""
        return self._path

    def open(self) -> None:
        """Open the folder, and remove what killed processes left in it long ago."""
        try:
            self._tree.open(create=self._create)
            self._writing.sweep()
        except PortableError:
            raise
        except OSError as error:
            raise translated(error, f"the folder {self._path}") from error

    def close(self) -> None:
        """Let go of the folder and its locks."""
        self._writing.close()
        self._tree.close()

    def check(self, *, write: bool, timeout: float) -> None:  # noqa: ARG002 (the file system does not wait)
        """Look whether the folder is there and can be read, and with `write` written."""
        try:
            if not self._path.is_dir():
                raise ResourceNotFound(f"there is no folder {self._path}; make it with `portable resources create`")
            with os.scandir(self._path):
                pass
            if write:
                name, file = self._writing.new_file(PUT)
                os.close(file)
                self._writing.drop_file(name)
        except PortableError:
            raise
        except OSError as error:
            raise translated(error, f"the folder {self._path}") from error

    def plan(self) -> list[Change]:
        """Say whether the folder is missing."""
        return [] if self._path.is_dir() else [Change("create", "folder", str(self._path))]

    def create(self) -> None:
        """Make the folder."""
        try:
            self._path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise translated(error, f"the folder {self._path}") from error

    @_spoken
    def put(
        self, key: str, data: bytes | memoryview, headers: ObjectHeaders, condition: Condition | None, *, timeout: float
    ) -> ObjectInfo:
        """Write an object."""
        until = monotonic() + timeout
        name, file = self._writing.new_file(PUT)
        try:
            try:
                crc = write_checked(file, data, 0)
                return self._publish(key, name, file, crc=crc, headers=headers, condition=condition, until=until)
            finally:
                os.close(file)
        except BaseException:
            self._writing.drop_file(name)
            raise

    @_spoken
    def get(self, key: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> bytes:  # noqa: ARG002 (the file system does not wait)
        """Read a range of an object."""
        while True:
            file, stat = self._open(key, etag)
            try:
                return self._content(key, file, stat, offset=offset, length=length, etag=etag)
            except VanishedError:
                continue
            finally:
                os.close(file)

    @_spoken
    def head(self, key: str, *, timeout: float) -> ObjectInfo:  # noqa: ARG002 (the file system does not wait)
        """Describe an object."""
        while True:
            file, stat = self._open(key, None)
            try:
                return describe(key, stat, self._attributes.read(file, stat))
            except VanishedError:
                continue
            finally:
                os.close(file)

    @_spoken
    def delete(self, key: str, etag: str | None, *, timeout: float) -> None:
        """Delete an object."""
        self._writing.delete(key, etag, monotonic() + timeout)

    def delete_many(self, keys: Sequence[str], *, timeout: float) -> list[PortableError | None]:
        """Delete objects."""
        results: list[PortableError | None] = []
        for key in keys:
            try:
                self.delete(key, None, timeout=timeout)
            except PortableError as error:
                results.append(error)
            else:
                results.append(None)
        return results

    def list_pages(
        self,
        prefix: str,
        delimiter: str | None,
        start_after: str | None,
        cursor: str | None,
        limit: int,
        *,
        timeout: float,
    ) -> Iterator[Page[ObjectInfo | Prefix]]:
        """Yield pages."""
        after = beginning(start_after, cursor)
        try:
            listing = Listing(self._tree, self._attributes, prefix, delimiter=delimiter, after=after, timeout=timeout)
            yield from paged(listing, limit)
        except PortableError:
            raise
        except OSError as error:
            raise translated(error, f"the folder {self._path}") from error

    @_spoken
    def copy(self, source: str, target: str, origin: Binding[Any] | None, *, timeout: float) -> ObjectInfo | None:
        """Copy an object of this bucket."""
        if origin is not None:
            return None
        until = monotonic() + timeout
        while True:
            file, stat = self._open(source, None)
            try:
                return self._copied(file, stat, target, until)
            except VanishedError:
                continue
            finally:
                os.close(file)

    def sign(self, key: str, method: str, expires: float, content_type: str | None, *, timeout: float) -> SignedRequest:  # noqa: ARG002 (the portable type never gets here)
        """Refuse: a folder serves no requests."""
        raise Unsupported("file: cannot sign requests")

    def _undo_upload(self, upload: str) -> None:
        self.abort_upload("", upload, timeout=0)

    @undone_by(_undo_upload)
    @_spoken
    def begin_upload(self, key: str, headers: ObjectHeaders, *, timeout: float) -> str:  # noqa: ARG002 (the headers come again with the commit)
        """Begin an upload: a file that grows out of sight."""
        name, file = self._writing.new_file(UPLOAD)
        os.close(file)
        return name.removeprefix(UPLOAD)

    @_spoken
    def write_part(
        self,
        key: str,
        upload: str,
        number: int,
        offset: int,
        data: bytes | memoryview,
        *,
        timeout: float,  # noqa: ARG002 (the file system does not wait)
    ) -> Part:
        """Write one part in its place."""
        file = self._open_upload(key, upload)
        try:
            crc = write_checked(file, data, offset)
        finally:
            os.close(file)
        return Part(number, offset, len(data), f"{crc:08x}")

    @_spoken
    def kept_parts(self, key: str, upload: str, parts: Sequence[Part], *, timeout: float) -> list[Part]:  # noqa: ARG002 (the file system does not wait)
        """Say which parts are there, whole: a power cut may have taken what was not committed."""
        file = self._open_upload(key, upload)
        try:
            return [
                part
                for part in parts
                if len(data := os.pread(file, part.size, part.offset)) == part.size
                and f"{crc32(data):08x}" == part.token
            ]
        finally:
            os.close(file)

    @_spoken
    def commit_upload(
        self,
        key: str,
        upload: str,
        parts: Sequence[Part],
        headers: ObjectHeaders,
        condition: Condition | None,
        *,
        timeout: float,
    ) -> ObjectInfo:
        """Make the parts the object."""
        until = monotonic() + timeout
        size = sum(part.size for part in parts)
        file = self._open_upload(key, upload)
        try:
            if os.fstat(file).st_size < size:
                raise InvalidArgument(f"the upload of {key!r} has fewer than its {size} bytes; upload it again")
            cut(file, size)
            crc = combine((int(part.token, 16), part.size) for part in parts)
            return self._publish(key, UPLOAD + upload, file, crc=crc, headers=headers, condition=condition, until=until)
        finally:
            os.close(file)

    @_spoken
    def abort_upload(self, key: str, upload: str, *, timeout: float) -> None:  # noqa: ARG002 (the file system does not wait)
        """Remove what was uploaded."""
        if _UPLOAD_ID.fullmatch(upload):
            self._writing.drop_file(UPLOAD + upload)

    def _open(self, key: str, etag: str | None) -> tuple[int, os.stat_result]:
        names = names_of(key)
        try:
            found = open_object(self._tree.parent(names), names[-1])
        except MISSING:
            found = None
        if found is not None:
            return found
        if self._tree.is_gone:
            # Somebody removed the bucket and perhaps made it again.
            self._tree.close()
            self._tree.open(create=self._create)
            return self._open(key, etag)
        raise unmet(key) if etag is not None else NotFound(f"there is no object {key!r}")

    def _content(
        self, key: str, file: int, stat: os.stat_result, *, offset: int, length: int | None, etag: str | None
    ) -> bytes:
        size = stat.st_size
        is_whole = offset == 0 and (length is None or length >= size)
        stored = self._attributes.read(file, stat) if is_whole or etag is not None else None
        if etag is not None and etag_of(stat, stored) != etag:
            raise unmet(key)
        wanted = max(0, size - offset) if length is None else min(length, max(0, size - offset))
        data = _read(file, offset, wanted)
        if is_whole and stored is not None and stored.is_of(stat) and crc32(data) != stored.crc32:
            if stored.is_of(os.fstat(file)):
                raise IntegrityError(f"the file of {key!r} is damaged: its content has not the CRC-32 that was stored")
            # Another program is writing to it.
            raise VanishedError
        return data

    def _copied(self, source: int, stat: os.stat_result, target: str, until: float) -> ObjectInfo:
        stored = self._attributes.read(source, stat)
        name, file = self._writing.new_file(PUT)
        try:
            try:
                crc = _copy(source, file, stat.st_size, stored if stored is not None and stored.is_of(stat) else None)
                if _was_written(source, stat):
                    raise VanishedError
                headers = stored.headers if stored is not None else None
                given = headers if isinstance(headers, ObjectHeaders) else _NO_HEADERS
                return self._publish(target, name, file, crc=crc, headers=given, condition=None, until=until)
            finally:
                os.close(file)
        except BaseException:
            self._writing.drop_file(name)
            raise

    def _publish(
        self,
        key: str,
        name: str,
        file: int,
        *,
        crc: int,
        headers: ObjectHeaders,
        condition: Condition | None,
        until: float,
    ) -> ObjectInfo:
        stored, stat = self._attributes.attach(file, key, crc, headers)
        if self._durable:
            os.fsync(file)
        self._writing.publish(key, name, condition, until)
        return describe(key, stat, stored)

    def _open_upload(self, key: str, upload: str) -> int:
        if _UPLOAD_ID.fullmatch(upload):
            with contextlib.suppress(FileNotFoundError):
                return self._writing.open_file(UPLOAD + upload)
        raise NotFound(f"the upload of {key!r} is gone; begin a new one")


def _was_written(file: int, stat: os.stat_result) -> bool:
    """Say whether an open file was written to since `stat`."""
    now = os.fstat(file)
    return (now.st_mtime_ns, now.st_size) != (stat.st_mtime_ns, stat.st_size)


def _read(file: int, offset: int, length: int) -> bytes:
    """Read up to `length` bytes at an offset, fewer where the file ends."""
    data = os.pread(file, length, offset) if length else b""
    if len(data) == length:
        return data
    pieces = [data]
    got = len(data)
    while got < length and (data := os.pread(file, length - got, offset + got)):
        pieces.append(data)
        got += len(data)
    return b"".join(pieces)


def _copy(source: int, target: int, size: int, stored: Stored | None) -> int:
    """Copy a file's content; gives its CRC-32, the stored one where there is one."""
    if stored is not None and hasattr(os, "copy_file_range"):
        copied = 0
        # Some file systems do not copy, and then nothing was.
        with contextlib.suppress(OSError):
            while copied < size and (step := os.copy_file_range(source, target, size - copied, copied, copied)):
                copied += step
        if copied == size:
            return stored.crc32
    crc = 0
    offset = 0
    while data := os.pread(source, _BLOCK, offset):
        crc = crc32(data, crc)
        write_checked(target, data, offset)
        offset += len(data)
    if stored is not None and crc != stored.crc32:
        raise IntegrityError("the source's file is damaged: its content has not the CRC-32 that was stored")
    return crc
