# Generated from portable/aio/transfers.py by tools/generate_sync.py; change that file, not this one.
"""How bytes of any length come into a bucket and out of it: in one call while they are few, in parts when they grow."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from portable._concurrency import Host, chunks, gather, in_thread
from portable.deadlines import Deadline
from portable.errors import IntegrityError, InvalidArgument, PortableError
from portable.local_files import read_exactly
from portable.objects import Condition, ObjectHeaders, ObjectInfo, Part

if TYPE_CHECKING:
    from portable.drivers import BucketDriver
    from portable.limits import Guard

__all__ = [
    "Target",
    "Upload",
    "bytes_like",
    "fetch_ranges",
    "part_size",
    "put_any",
    "put_ranges",
    "put_stream",
    "store_ranges",
]

_PARTS_OF_ONE_SIZE = 1000


class Target(msgspec.Struct, frozen=True):
    """Where an upload goes.

    Attributes:
        driver: of the bucket.
        host: the threads that serve it.
        guard: the limits that the bucket keeps to.
        key: the object.
        headers: what is stored beside its bytes.
        condition: what must hold when it is committed.
        deadline: the time that is left.
    """

    driver: BucketDriver
    host: Host
    guard: Guard | None
    key: str
    headers: ObjectHeaders
    condition: Condition | None
    deadline: Deadline

    def put(self, data: bytes | memoryview) -> ObjectInfo:
        """Write the object in one go."""
        if self.guard is not None:
            self.guard.object_size(len(data))
        return self.driver.put(self.key, data, self.headers, self.condition, timeout=self.deadline.left())

    def is_small(self, data: bytes | memoryview) -> bool:
        """Say whether parts would not be worth their while."""
        capabilities = self.driver.capabilities
        return len(data) <= capabilities.part_bytes * capabilities.part_concurrency

    def begin(self) -> str:
        """Begin a multipart upload, and give its id."""
        return self.driver.begin_upload(self.key, self.headers, timeout=self.deadline.left())

    def write_part(self, upload: str, number: int, offset: int, data: Any) -> Part:
        """Write one part."""
        left = self.deadline.left()
        return self.driver.write_part(self.key, upload, number, offset, data, timeout=left)

    def commit(self, upload: str, parts: list[Part]) -> ObjectInfo:
        """Make the parts the object."""
        left = self.deadline.left()
        return self.driver.commit_upload(self.key, upload, parts, self.headers, self.condition, timeout=left)

    def abort(self, upload: str) -> None:
        """Drop the parts; what fails here is left to the backend's own cleaning."""
        try:
            self.driver.abort_upload(self.key, upload, timeout=5.0)
        except PortableError:
            return


def part_size(size: int, part_bytes: int, max_parts: int | None) -> int:
    """Give the length of the parts of an object of known size, so that they are not too many."""
    if max_parts is None or size <= part_bytes * max_parts:
        return part_bytes
    # Whole multiples, because some backends want all parts of one length.
    return part_bytes * -(-size // (part_bytes * max_parts))


class Upload:
    """One object of unknown length on its way: a single put while it fits a few parts, a multipart upload beyond.

    It holds a few parts in memory, and nothing is in the bucket before `commit`. Parts grow after the first thousand,
    because a backend takes only so many.
    """

    def __init__(self, target: Target) -> None:
        """Write nothing yet."""
        capabilities = target.driver.capabilities
        self._target = target
        self._part_bytes = capabilities.part_bytes
        self._grows = capabilities.max_parts is not None
        self._width = max(1, capabilities.part_concurrency)
        self._room = self._part_bytes
        self._filling = bytearray()
        self._full: list[bytearray] = []
        self._upload: str | None = None
        self._parts: list[Part] = []
        self._numbered = 0
        self._offset = 0
        self.size = 0

    def write(self, data: Any) -> None:
        """Take bytes of any length."""
        view = memoryview(data).cast("B")
        self.size += len(view)
        if self._target.guard is not None:
            self._target.guard.object_size(self.size)
        while view:
            taken = view[: self._room - len(self._filling)]
            self._filling += taken
            view = view[len(taken) :]
            if len(self._filling) == self._room:
                self._part_is_full()

    def commit(self) -> ObjectInfo:
        """Make what was written the object."""
        if self._filling or not self._full:
            self._full.append(self._filling)
        if self._upload is None:
            whole = self._full[0] if len(self._full) == 1 else b"".join(self._full)
            return self._target.put(memoryview(whole))
        self._send()
        return self._target.commit(self._upload, self._parts)

    def abort(self) -> None:
        """Drop what was written."""
        if self._upload is not None:
            self._target.abort(self._upload)

    def _part_is_full(self) -> None:
        self._full.append(self._filling)
        self._filling = bytearray()
        if len(self._full) >= self._width:
            self._send()
        if self._grows:
            doublings = (self._numbered + len(self._full)) // _PARTS_OF_ONE_SIZE
            self._room = self._part_bytes << doublings

    def _send(self) -> None:
        if self._upload is None:
            self._upload = self._target.begin()
        upload, full, self._full = self._upload, self._full, []

        def sending(data: bytearray) -> Callable[[], Any]:
            self._numbered += 1
            number, offset = self._numbered, self._offset
            self._offset += len(data)

            def send() -> Part:
                return self._target.write_part(upload, number, offset, memoryview(data))

            return send

        calls = [sending(data) for data in full if data]
        self._parts += gather(calls, concurrency=self._width, host=self._target.host)


class _Ranges:
    """Hands out the ranges of a content that are still to be moved, to several workers."""

    def __init__(self, size: int, part_bytes: int, done: set[int]) -> None:
        self._size = size
        self._part_bytes = part_bytes
        # One step of a list's iterator cannot be interrupted by another thread.
        self._todo = iter([number for number in range(1, -(-size // part_bytes) + 1) if number not in done])
        self._failed = False

    def __iter__(self) -> Iterator[Part]:
        for number in self._todo:
            if self._failed:
                return
            offset = (number - 1) * self._part_bytes
            yield Part(number, offset, min(self._part_bytes, self._size - offset), "")

    def fail(self) -> None:
        """Hand out no more."""
        self._failed = True


def store_ranges(
    target: Target,
    upload: str,
    read: Callable[[int, int], Any],
    size: int,
    *,
    part_bytes: int,
    done: dict[int, Part],
    noted: Callable[[Part], None] | None = None,
) -> None:
    """Write the parts of a multipart upload that are not in `done` yet, side by side, and put them there.

    Args:
        target: where they go.
        upload: the id of the upload.
        read: gives the bytes from an offset, so many; called from threads.
        size: the length of the content.
        part_bytes: the length of each part but the last.
        done: the parts that are there, by number.
        noted: is told of each part that was written; called from threads.
    """
    ranges = _Ranges(size, part_bytes, set(done))

    def work() -> None:
        try:
            for part in ranges:
                data = in_thread(target.host, read, part.offset, part.size)
                done[part.number] = stored = target.write_part(upload, part.number, part.offset, data)
                # Else it is kept until the next part is read.
                del data
                if noted is not None:
                    noted(stored)
        except BaseException:
            ranges.fail()
            raise

    width = max(1, target.driver.capabilities.part_concurrency)
    gather([work] * width, concurrency=width, host=target.host)


def fetch_ranges(
    driver: BucketDriver,
    host: Host,
    info: ObjectInfo,
    *,
    part_bytes: int,
    done: set[int],
    write: Callable[[Part, bytes], None],
    deadline: Deadline,
) -> None:
    """Read the parts of one version of an object that are not in `done`, side by side.

    Args:
        driver: of the bucket.
        host: the threads that serve it.
        info: the object, of this very version.
        part_bytes: the length of each part but the last.
        done: the numbers of the parts that are not needed.
        write: takes each part; called from threads.
        deadline: the time that is left.

    Raises:
        PreconditionFailed: the object was written to, or deleted, meanwhile.
        IntegrityError: less came than there should be.
    """
    ranges = _Ranges(info.size, part_bytes, done)

    def work() -> None:
        try:
            for part in ranges:
                data = driver.get(info.key, part.offset, part.size, info.etag, timeout=deadline.left())
                _check_length(info.key, part, data)
                in_thread(host, write, part, data)
                # Else it is kept until the next part has come.
                del data
        except BaseException:
            ranges.fail()
            raise

    width = max(1, driver.capabilities.part_concurrency)
    gather([work] * width, concurrency=width, host=host)


def _check_length(key: str, part: Part, data: bytes) -> None:
    if len(data) != part.size:
        raise IntegrityError(f"{key!r} is cut: {len(data)} bytes came at {part.offset}, not {part.size}")


def put_any(target: Target, data: Any) -> ObjectInfo:
    """Write an object from bytes-like data, a binary file, or an iterable of bytes-like pieces.

    Raises:
        InvalidArgument: the data is none of these.
    """
    body = bytes_like(data)
    if body is not None:
        view = memoryview(body)
        return put_ranges(target, lambda offset, length: view[offset : offset + length], len(view))
    if isinstance(data, str):
        raise InvalidArgument("data is bytes, not str; encode it first, as in text.encode()")
    if not any(hasattr(data, name) for name in ("read", "__iter__", "__iter__")):
        raise InvalidArgument(f"data is bytes-like, a binary file or an iterable of bytes, not {type(data).__name__}")
    file = _local_file(data)
    return put_stream(target, data) if file is None else _put_file(target, data, file)


def put_ranges(target: Target, read: Callable[[int, int], Any], size: int) -> ObjectInfo:
    """Write an object of known size whose parts can be read side by side."""
    if target.guard is not None:
        target.guard.object_size(size)
    capabilities = target.driver.capabilities
    part_bytes = part_size(size, capabilities.part_bytes, capabilities.max_parts)
    upload = target.begin()
    try:
        parts: dict[int, Part] = {}
        store_ranges(target, upload, read, size, part_bytes=part_bytes, done=parts)
        return target.commit(upload, [parts[number] for number in sorted(parts)])
    except BaseException:
        target.abort(upload)
        raise


def put_stream(target: Target, data: Any) -> ObjectInfo:
    """Write an object of unknown size from a binary file or an iterable."""
    upload = Upload(target)
    try:
        for chunk in chunks(data, target.driver.capabilities.part_bytes, target.host):
            upload.write(_piece(chunk))
        return upload.commit()
    except BaseException:
        upload.abort()
        raise


def _put_file(target: Target, data: Any, file: int) -> ObjectInfo:
    """Write what is left of a plain local file."""
    start = data.tell()
    size = os.fstat(file).st_size - start
    if size <= target.driver.capabilities.part_bytes:
        return put_stream(target, data)

    def read(offset: int, length: int) -> bytes:
        return read_exactly(file, start + offset, length, str(data.name))

    info = put_ranges(target, read, size)
    data.seek(start + size)
    return info


def bytes_like(data: Any) -> bytes | memoryview | None:
    """Give bytes-like data as bytes or a view of them, None where it is something else."""
    if type(data) is bytes:
        return data
    try:
        view = memoryview(data)
    except TypeError:
        return None
    return view.cast("B") if view.c_contiguous and view.ndim and view.nbytes else bytes(view)


def _piece(chunk: Any) -> bytes | memoryview:
    piece = bytes_like(chunk)
    if piece is None:
        raise InvalidArgument(
            f"the data gives {type(chunk).__name__}, not bytes; open files in binary mode, encode text"
        )
    return piece


def _local_file(data: Any) -> int | None:
    """Give the descriptor of a plain local file, opened for reading; None for everything else."""
    # Exactly these: what derives from them may well give other bytes than the file has.
    raw = data.raw if type(data) is io.BufferedReader else data
    return raw.fileno() if type(raw) is io.FileIO and raw.readable() and raw.seekable() else None
