"""The local side of `upload` and `download`: files read and written in ranges, and the notes that let them resume."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import threading
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from zlib import crc32

import msgspec

from portable.checksums import combine, crc32_of
from portable.errors import (
    IntegrityError,
    InvalidArgument,
    PermissionDenied,
    PortableError,
    PreconditionFailed,
    Unavailable,
)
from portable.objects import ObjectInfo, Part

__all__ = [
    "Journal",
    "LocalSource",
    "LocalTarget",
    "Progress",
    "Transfer",
    "UploadJournal",
    "cut",
    "read_exactly",
    "write_checked",
]

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# What the processor's own cache holds: the copy finds there what the checksum has just read.
_BLOCK = 256 * 1024
_encode = msgspec.json.encode
_decode_part = msgspec.json.Decoder(Part).decode


class Transfer(msgspec.Struct, frozen=True):
    """What a transfer is of: the first line of its journal. Only the very same transfer is resumed.

    Attributes:
        bucket: the bucket's URL, without secrets, and physical name.
        key: the object's key.
        size: the length of the content.
        version: what tells one content from another: the etag, or the local file's time of change.
        part_bytes: the length of each part but the last.
        upload: the id of the multipart upload; empty for a download.
    """

    bucket: str
    key: str
    size: int
    version: str
    part_bytes: int
    upload: str = ""


_decode_transfer = msgspec.json.Decoder(Transfer).decode


def refusal(path: Path, error: OSError) -> PortableError:
    """Say what is wrong with a local path."""
    what = f"{path}: {error.strerror or error}"
    if isinstance(error, PermissionError):
        return PermissionDenied(what)
    if error.errno in _NO_SPACE:
        return Unavailable(f"{what}; free some space, and the same call goes on where it stopped")
    return InvalidArgument(what)


def beside(path: Path, identity: str, suffix: str) -> Path:
    """Name a hidden file beside `path` that belongs to one transfer of it."""
    return path.with_name(f".{path.name[:80]}.{crc32(identity.encode()):08x}.portable-{suffix}")


class Journal:
    """Which parts of a transfer are done: lines of JSON in a file of its own, held by one transfer at a time.

    The first line is the `Transfer`, each other line a `Part`. A line that a crash cut is no line.
    """

    def __init__(self, path: Path) -> None:
        """Take the journal at `path`, making it where there is none.

        Raises:
            OSError: it cannot be made, or another transfer holds it; then this transfer cannot resume.
        """
        self.path = path
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._file)
            raise

    def read(self) -> tuple[Transfer | None, list[Part]]:
        """Give what an interrupted transfer left, or None and nothing."""
        text = os.pread(self._file, os.fstat(self._file).st_size, 0)
        try:
            first, *lines = text.split(b"\n")[:-1]
            return _decode_transfer(first), [_decode_part(line) for line in lines]
        except (ValueError, msgspec.MsgspecError):
            return None, []

    def start(self, transfer: Transfer) -> None:
        """Begin anew."""
        cut(self._file, 0)
        os.write(self._file, _encode(transfer) + b"\n")

    def add(self, part: Part) -> None:
        """Note that a part is done."""
        with self._lock:
            os.write(self._file, _encode(part) + b"\n")

    def close(self, *, keep: bool) -> None:
        """Let go of it, and remove it unless the transfer is to be resumed."""
        if not keep:
            self.path.unlink(missing_ok=True)
        os.close(self._file)


class Progress:
    """Adds up what several threads have done, and tells it in order."""

    def __init__(self, callback: Callable[[int, int], object] | None, total: int) -> None:
        """Take the callback that is told; without one nothing is told."""
        self._callback = callback
        self._total = total
        self._done = 0
        self._lock = threading.Lock()

    def add(self, size: int) -> None:
        """Say that so many more bytes are done."""
        if self._callback is not None:
            with self._lock:
                self._done += size
                self._callback(self._done, self._total)


class UploadJournal:
    """The notes of one upload, where its file's folder can be written; without them it works, and cannot resume.

    Attributes:
        upload: the id of the multipart upload, empty before there is one.
        parts: what an interrupted upload of the same content to the same key had done.
    """

    def __init__(
        self,
        source: LocalSource,
        bucket: str,
        key: str,
        part_bytes: int,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        """Find what an earlier upload left."""
        self._transfer = Transfer(bucket, key, source.size, source.version, part_bytes)
        self._progress = Progress(progress, source.size)
        self._journal: Journal | None = None
        self.upload = ""
        self.parts: list[Part] = []
        with contextlib.suppress(OSError):
            self._journal = Journal(beside(source.path, f"{bucket} {key}", "upload"))
            earlier, parts = self._journal.read()
            if earlier is not None and msgspec.structs.replace(earlier, upload="") == self._transfer:
                self.upload, self.parts = earlier.upload, parts

    def start(self, upload: str) -> None:
        """Begin anew, with a new multipart upload."""
        self.upload, self.parts = upload, []
        if self._journal is not None:
            self._journal.start(msgspec.structs.replace(self._transfer, upload=upload))

    def go_on(self, kept: Iterable[Part]) -> None:
        """Count what an earlier upload did, and the backend still has."""
        for part in kept:
            self._progress.add(part.size)

    def noted(self, part: Part) -> None:
        """Note that a part is done; from any thread."""
        if self._journal is not None:
            self._journal.add(part)
        self._progress.add(part.size)

    def close(self, *, keep: bool) -> bool:
        """Let go of the notes; says whether they stay for another attempt."""
        if self._journal is None:
            return False
        self._journal.close(keep=keep and bool(self.upload))
        return keep


class LocalSource:
    """A local file that is read in ranges, from any thread.

    Attributes:
        size: its length when it was opened.
        version: its time of change then.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open it.

        Raises:
            InvalidArgument: it is missing or no file.
            PermissionDenied: it cannot be read.
        """
        self.path = Path(path).absolute()
        try:
            # A pipe would block until somebody writes to it.
            self._file = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
            stat = os.fstat(self._file)
            if not self.path.is_file():
                os.close(self._file)
                raise InvalidArgument(f"{self.path} is no file; upload takes regular files, put takes streams")
        except OSError as error:
            raise refusal(self.path, error) from error
        self.size = stat.st_size
        self.version = str(stat.st_mtime_ns)

    def read(self, offset: int, length: int) -> bytes:
        """Read exactly `length` bytes.

        Raises:
            PreconditionFailed: there are no longer that many.
        """
        return read_exactly(self._file, offset, length, str(self.path))

    def check_unchanged(self) -> None:
        """Make sure that what was read is one version of the file.

        Raises:
            PreconditionFailed: somebody wrote to it meanwhile.
        """
        stat = os.fstat(self._file)
        if (stat.st_size, str(stat.st_mtime_ns)) != (self.size, self.version):
            raise changed(str(self.path))

    def close(self) -> None:
        """Close it."""
        os.close(self._file)


def changed(what: str) -> PreconditionFailed:
    """Say that a file was written to while it was read."""
    return PreconditionFailed(f"{what} was changed while it was read; nothing was written, so put it again")


def read_exactly(file: int, offset: int, length: int, what: str) -> bytes:
    """Read a range of an open file.

    Raises:
        PreconditionFailed: it is shorter than it was.
    """
    data = os.pread(file, length, offset)
    if len(data) == length:
        return data
    pieces = [data]
    while (missing := length - sum(map(len, pieces))) > 0:
        data = os.pread(file, missing, offset + length - missing)
        if not data:
            raise changed(what)
        pieces.append(data)
    return b"".join(pieces)


def cut(file: int, size: int) -> None:
    """Make an open file that long."""
    # Cutting costs even where there is nothing to cut: ext4 flushes a file that was cut to nothing when it is closed.
    if os.fstat(file).st_size != size:
        os.ftruncate(file, size)


def write_checked(file: int, data: bytes | memoryview, offset: int) -> int:
    """Write all of it at an offset of an open file; gives its CRC-32."""
    view = memoryview(data)
    crc = 0
    for start in range(0, len(view), _BLOCK):
        block = view[start : start + _BLOCK]
        crc = crc32(block, crc)
        at = offset + start
        while block:
            written = os.pwrite(file, block, at)
            block, at = block[written:], at + written
    return crc


class LocalTarget:
    """A local file in the making: written in ranges beside its path, and moved there whole.

    What an interrupted download left is used where it is of the same version of the same object. While another
    download to the same path is under way this one works for itself, and leaves nothing to resume.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        bucket: str,
        info: ObjectInfo,
        part_bytes: int,
        progress: Callable[[int, int], object] | None,
    ) -> None:
        """Open the file that takes the parts.

        Raises:
            InvalidArgument: there is no such folder, or the path is a folder.
            PermissionDenied: it cannot be written.
        """
        self.path = Path(path).absolute()
        if self.path.is_dir():
            raise InvalidArgument(f"{self.path} is a folder; name the file that download is to write")
        self._info = info
        self._progress = Progress(progress, info.size)
        self._crcs: dict[int, tuple[int, int]] = {}
        self._journal: Journal | None = None
        transfer = Transfer(bucket, info.key, info.size, info.etag, part_bytes)
        identity = f"{bucket} {info.key}"
        try:
            self._temporary = beside(self.path, identity, "download")
            try:
                self._journal = Journal(beside(self.path, identity, "journal"))
            except BlockingIOError:
                self._temporary = beside(self.path, f"{identity} {uuid.uuid4()}", "download")
            self._file = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        except OSError as error:
            self._close_journal(keep=False)
            raise refusal(self.path, error) from error
        self._resume(transfer)

    @property
    def done(self) -> set[int]:
        """The numbers of the parts that are there already."""
        return set(self._crcs)

    def write(self, part: Part, data: bytes) -> None:
        """Write one part; from any thread."""
        try:
            crc = write_checked(self._file, data, part.offset)
        except OSError as error:
            raise refusal(self.path, error) from error
        self._crcs[part.number] = (crc, len(data))
        if self._journal is not None:
            self._journal.add(msgspec.structs.replace(part, token=f"{crc:08x}"))
        self._progress.add(len(data))

    def finish(self) -> None:
        """Check the whole, and move it to its path.

        Raises:
            IntegrityError: it is not what was stored; nothing is left behind.
        """
        expected = crc32_of(self._info.checksum)
        if expected is not None:
            whole = combine(self._crcs[number] for number in sorted(self._crcs))
            if whole != expected:
                raise IntegrityError(
                    f"what came of {self._info.key!r} has the CRC-32 {whole:08x}, stored was {expected:08x}"
                )
        try:
            cut(self._file, self._info.size)
            self._temporary.replace(self.path)
        except OSError as error:
            raise refusal(self.path, error) from error
        os.close(self._file)
        self._close_journal(keep=False)

    def give_up(self, *, keep: bool) -> None:
        """Stop; what is there stays for the next attempt, or goes."""
        keep = keep and self._journal is not None
        os.close(self._file)
        if not keep:
            self._temporary.unlink(missing_ok=True)
        self._close_journal(keep=keep)

    def _resume(self, transfer: Transfer) -> None:
        if self._journal is None:
            return
        earlier, parts = self._journal.read()
        if earlier != transfer:
            cut(self._file, 0)
            self._journal.start(transfer)
            return
        self._crcs.update(self._whole(parts))

    def _whole(self, parts: Iterable[Part]) -> Iterable[tuple[int, tuple[int, int]]]:
        # The journal may have reached the disk where the data did not.
        for part in parts:
            data = os.pread(self._file, part.size, part.offset)
            if len(data) == part.size and f"{crc32(data):08x}" == part.token:
                self._progress.add(part.size)
                yield part.number, (int(part.token, 16), part.size)

    def _close_journal(self, *, keep: bool) -> None:
        if self._journal is not None:
            self._journal.close(keep=keep)
