"""Objects as files: a reader that fetches what is read, and a writer whose object appears when it is closed."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from zlib import crc32

from portable.aio._concurrency import BinaryFile
from portable.checksums import crc32_of
from portable.errors import IntegrityError, InvalidArgument
from portable.objects import ObjectInfo

if TYPE_CHECKING:
    from portable.aio.bucket import Bucket
    from portable.aio.transfers import Upload

__all__ = ["ObjectReader", "ObjectWriter"]

READ_AHEAD = 256 * 1024


class ObjectReader(BinaryFile):
    """One version of an object as a binary file: read, seek, lines.

    Every read is of the version that was there when it was opened; once that is overwritten or deleted, reading what
    was not fetched yet raises `PreconditionFailed`. Content that is read from its start to its end is checked.
    """

    def __init__(self, bucket: Bucket, info: ObjectInfo, timeout: float | None) -> None:
        """Stand at the start; `Bucket.open` calls this."""
        self._bucket = bucket
        self._info = info
        self._timeout = timeout
        self._position = 0
        self._ahead = b""
        self._ahead_at = 0
        self._is_closed = False
        self._checked = 0
        self._crc = 0

    @property
    def info(self) -> ObjectInfo:
        """The object as it was when it was opened."""
        return self._info

    @property
    def name(self) -> str:
        """The key."""
        return self._info.key

    @property
    def mode(self) -> str:
        """`"rb"`."""
        return "rb"

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._is_closed

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """True."""
        return True

    def writable(self) -> bool:
        """False."""
        return False

    def tell(self) -> int:
        """Give the position, in bytes from the start."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Move to `offset` bytes from the start (`whence` 0), from here (1) or from the end (2).

        Raises:
            InvalidArgument: before the start, or no such `whence`.
        """
        self._check_open()
        origins = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._info.size}
        if whence not in origins or origins[whence] + offset < 0:
            raise InvalidArgument(f"seek({offset}, {whence}): there is nothing before the start; whence is 0, 1 or 2")
        self._position = origins[whence] + offset
        return self._position

    async def read(self, size: int | None = -1, /) -> bytes:
        """Read up to `size` bytes, all that are left with -1 or None; `b""` at the end.

        Raises:
            PreconditionFailed: this version is gone.
            IntegrityError: what came is not what was stored.
        """
        self._check_open()
        left = max(0, self._info.size - self._position)
        wanted = left if size is None or size < 0 else min(size, left)
        data = self._from_ahead(wanted)
        if len(data) < wanted:
            missing = wanted - len(data)
            if missing < READ_AHEAD:
                self._ahead_at = self._position + len(data)
                self._ahead = await self._fetch(self._ahead_at, min(READ_AHEAD, self._info.size - self._ahead_at))
                more = self._ahead[:missing]
            else:
                more = await self._fetch(self._position + len(data), missing)
            data = data + more if data else more
        self._position += len(data)
        return data

    async def read1(self, size: int = -1, /) -> bytes:
        """Read what is at hand, at most `size` bytes, with at most one call to the bucket."""
        return await self.read(READ_AHEAD if size < 0 else min(size, READ_AHEAD))

    async def readinto(self, buffer: Any, /) -> int:
        """Read into a buffer; gives how many bytes."""
        view = memoryview(buffer).cast("B")
        data = await self.read(len(view))
        view[: len(data)] = data
        return len(data)

    async def readinto1(self, buffer: Any, /) -> int:
        """Read into a buffer with at most one call to the bucket; gives how many bytes."""
        view = memoryview(buffer).cast("B")
        data = await self.read1(len(view))
        view[: len(data)] = data
        return len(data)

    async def readline(self, size: int | None = -1, /) -> bytes:
        """Read up to and with the next newline, at most `size` bytes; `b""` at the end."""
        bound = -1 if size is None else size
        pieces: list[bytes] = []
        length = 0
        while bound < 0 or length < bound:
            start = self._position
            chunk = await self.read1(-1 if bound < 0 else bound - length)
            end = chunk.find(b"\n") + 1
            if end:
                chunk = chunk[:end]
                self._position = start + end
            pieces.append(chunk)
            length += len(chunk)
            if end or not chunk:
                break
        return b"".join(pieces)

    async def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        """Read the lines that are left, or the first ones of at least `hint` bytes together."""
        lines: list[bytes] = []
        length = 0
        while line := await self.readline():
            lines.append(line)
            length += len(line)
            if hint is not None and 0 < hint <= length:
                break
        return lines

    async def close(self) -> None:
        """Forget what was read ahead; closing twice is no error."""
        self._is_closed = True
        self._ahead = b""

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def _check_open(self) -> None:
        if self._is_closed:
            # What every file of Python raises, and its callers expect.
            raise ValueError("the reader is closed")

    def _from_ahead(self, wanted: int) -> bytes:
        start = self._position - self._ahead_at
        if 0 <= start < len(self._ahead):
            return self._ahead[start : start + wanted]
        return b""

    async def _fetch(self, offset: int, length: int) -> bytes:
        data = await self._bucket._read(self._info, offset, length, self._timeout)  # noqa: SLF001 (the bucket's own reader)
        if len(data) != length:
            raise self._bucket._placed(self._is_cut(offset, len(data), length), "read")  # noqa: SLF001 (the same)
        if offset == self._checked:
            self._checked += length
            expected = crc32_of(self._info.checksum)
            if expected is not None:
                self._crc = crc32(data, self._crc)
                if self._checked == self._info.size and self._crc != expected:
                    raise self._bucket._placed(self._is_damaged(expected), "read")  # noqa: SLF001 (the same)
        return data

    def _is_cut(self, offset: int, got: int, wanted: int) -> IntegrityError:
        return IntegrityError(f"{self.name!r} is cut: {got} bytes came at {offset}, not {wanted}")

    def _is_damaged(self, expected: int) -> IntegrityError:
        return IntegrityError(f"what came of {self.name!r} has the CRC-32 {self._crc:08x}, stored was {expected:08x}")


class ObjectWriter(BinaryFile):
    """An object in the making as a binary file: `close` commits it, leaving a `with` block by an exception aborts it.

    Nothing is in the bucket before `close` returned; a writer that is never closed writes nothing.
    """

    def __init__(self, bucket: Bucket, upload: Upload, key: str) -> None:
        """Write nothing yet; `Bucket.open` calls this."""
        self._bucket = bucket
        self._upload = upload
        self._key = key
        self._is_closed = False
        self._info: ObjectInfo | None = None

    @property
    def info(self) -> ObjectInfo | None:
        """The object once it is committed; None before."""
        return self._info

    @property
    def name(self) -> str:
        """The key."""
        return self._key

    @property
    def mode(self) -> str:
        """`"wb"`."""
        return "wb"

    @property
    def closed(self) -> bool:
        """Whether it was committed or aborted."""
        return self._is_closed

    def readable(self) -> bool:
        """False."""
        return False

    def seekable(self) -> bool:
        """False."""
        return False

    def writable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Give how many bytes were written."""
        return self._upload.size

    async def write(self, data: Any, /) -> int:
        """Take bytes; gives how many.

        Raises:
            InvalidArgument: not bytes-like.
        """
        self._check_open()
        if isinstance(data, str):
            raise InvalidArgument("a writer takes bytes; encode the text first, or wrap it in io.TextIOWrapper")
        before = self._upload.size
        await self._bucket._write(self._upload, data)  # noqa: SLF001 (the bucket's own writer)
        return self._upload.size - before

    async def writelines(self, lines: Iterable[Any], /) -> None:
        """Take several pieces, one after the other."""
        for line in lines:
            await self.write(line)

    async def flush(self) -> None:
        """Do nothing: an object appears whole, when it is closed."""

    async def close(self) -> None:
        """Commit the object; closing twice is no error.

        Raises:
            AlreadyExists: `if_absent` was given, and there is one.
            PreconditionFailed: `if_match` did not hold.
        """
        if not self._is_closed:
            self._is_closed = True
            self._info = await self._bucket._commit(self._upload)  # noqa: SLF001 (the same)

    async def abort(self) -> None:
        """Drop what was written; the object stays as it was."""
        if not self._is_closed:
            self._is_closed = True
            await self._upload.abort()

    async def __aenter__(self) -> Self:
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            await self.close()
        else:
            await self.abort()

    def __del__(self) -> None:
        """Say that a writer was forgotten; what it wrote is not committed."""
        if not getattr(self, "_is_closed", True):
            warnings.warn(
                f"the writer of {self._key!r} was never closed, so nothing was written", ResourceWarning, stacklevel=2
            )

    def _check_open(self) -> None:
        if self._is_closed:
            # What every file of Python raises, and its callers expect.
            raise ValueError("the writer is closed")
