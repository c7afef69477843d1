# Generated from portable/aio/bucket.py by tools/generate_sync.py; change that file, not this one.
"""Buckets: objects under keys."""

from __future__ import annotations

import builtins
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, overload

from portable import object_keys
from portable._concurrency import gather, in_thread, items_of, iteration, limit, long_operation, operation
from portable.batches import BatchResult, Page
from portable.capabilities import BucketCapabilities
from portable.deadlines import Deadline
from portable.drivers import BucketDriver
from portable.errors import (
    BatchError,
    InvalidArgument,
    NotFound,
    PortableError,
    PreconditionFailed,
    ResourceNotFound,
)
from portable.local_files import LocalSource
from portable.local_transfers import download, upload
from portable.object_files import ObjectReader, ObjectWriter
from portable.objects import Condition, ObjectHeaders, ObjectInfo, Prefix, SignedRequest
from portable.resource import Resource
from portable.transfers import Target, Upload, bytes_like, put_any, put_stream

if TYPE_CHECKING:
    from portable.limits import Guard

__all__ = ["Bucket", "ObjectReader", "ObjectWriter"]

T = TypeVar("T")

_NO_HEADERS = ObjectHeaders()
_METHODS = {"GET", "HEAD", "PUT", "DELETE"}
# What changes while it is downloaded is begun again; what changes all the time is somebody's to decide.
_DOWNLOAD_ATTEMPTS = 3


class Bucket(Resource[BucketDriver]):
    """Objects under keys.

    Reading, listing and deleting are consistent after a write. A put is all or nothing, and a reader sees the old or
    the new object, never a mix. A key is any UTF-8 of 1 to 1,024 bytes, `../`, `//`, control characters and trailing
    slashes included, and no two keys collide. Content is checked end to end with a checksum of the backend. Objects
    that other programs wrote are read as they are.

    A call that moves one object in one piece takes at most `timeout` seconds, the contract's where it is not given.
    One that moves any number of bytes takes as long as they take, unless `timeout` is given.
    """

    kind: ClassVar[str] = "bucket"

    def __init__(self, *args: Any, **keywords: Any) -> None:
        """Bind the portable type to a driver; takes what `Resource` takes."""
        super().__init__(*args, **keywords)
        self._guard: Guard | None = None
        if self._limits:
            from portable.limits import guard  # noqa: PLC0415 (only where a profile keeps to limits)

            self._guard = guard(self._limits, self.kind)

    @property
    def capabilities(self) -> BucketCapabilities:
        """What the driver can do: features, as booleans, and limits, as numbers."""
        return self._driver.capabilities

    @long_operation
    def put(
        self,
        key: str,
        data: Any,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        cache_control: str | None = None,
        content_disposition: str | None = None,
        content_encoding: str | None = None,
        content_language: str | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
        timeout: float | None = None,
    ) -> ObjectInfo:
        """Write an object, whole or not at all, over what was there.

        Args:
            key: 1 to 1,024 bytes of UTF-8.
            data: bytes-like, a binary file, or an iterable of bytes-like pieces; of any length, in constant memory.
            content_type: the MIME type that it is served with.
            metadata: names, case-insensitive, to values of any UTF-8.
            cache_control: the header, printable ASCII, as the next three.
            content_disposition: the header.
            content_encoding: the header; the bytes are neither encoded nor decoded here.
            content_language: the header.
            if_absent: write only if there is nothing; atomic between processes and machines.
            if_match: write only over the version of this etag; atomic the same way.
            timeout: seconds.

        Returns:
            The object as it is now stored.

        Raises:
            AlreadyExists: `if_absent`, and there is an object.
            PreconditionFailed: `if_match`, and there is no object, or another version.
            InvalidArgument: the key, data, a header or the metadata is none.
            LimitExceeded: larger than the backend, or a cloud named in `guard.limits`, takes.
        """
        headers = object_keys.headers(
            content_type,
            metadata=metadata,
            cache_control=cache_control,
            content_disposition=content_disposition,
            content_encoding=content_encoding,
            content_language=content_language,
        )
        target = self._target(key, headers, object_keys.condition(if_absent, if_match), timeout)
        body = bytes_like(data)
        if body is not None and target.is_small(body):
            with limit(self._seconds(timeout)):
                return target.put(body)
        with limit(timeout):
            return put_any(target, data if body is None else body)

    @operation
    def get(self, key: str, *, offset: int = 0, length: int | None = None, timeout: float | None = None) -> bytes:
        """Read an object, or a range of it.

        Args:
            key: the object.
            offset: where to start, in bytes; past the end gives `b""`.
            length: how many bytes at most; None reads to the end.
            timeout: seconds.

        Raises:
            NotFound: there is no such object.
            IntegrityError: what came is not what was stored.
        """
        object_keys.check_key(key)
        if offset < 0 or (length is not None and length < 0):
            raise InvalidArgument(f"a range of {length} bytes at {offset} is none: neither may be negative")
        return self._driver.get(key, offset, length, None, timeout=self._seconds(timeout))

    @overload
    def open(self, key: str, mode: Literal["rb"] = "rb", *, timeout: float | None = None) -> ObjectReader: ...
    @overload
    def open(
        self,
        key: str,
        mode: Literal["wb"],
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        cache_control: str | None = None,
        content_disposition: str | None = None,
        content_encoding: str | None = None,
        content_language: str | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
        timeout: float | None = None,
    ) -> ObjectWriter: ...
    @long_operation  # type: ignore[misc]  # the decorator makes `self` positional, which the overloads need not say
    def open(
        self,
        key: str,
        mode: str = "rb",
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
        cache_control: str | None = None,
        content_disposition: str | None = None,
        content_encoding: str | None = None,
        content_language: str | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
        timeout: float | None = None,
    ) -> ObjectReader | ObjectWriter:
        """Open an object as a binary file.

        A reader (`"rb"`) stays with the version it was opened on, has it as `.info`, and can seek. A writer (`"wb"`)
        takes the options of `put`, commits when it is closed, and aborts when its `with` block ends by an exception.

        Args:
            key: the object.
            mode: `"rb"` or `"wb"`.
            content_type: as for `put`, as all that follow.
            metadata: names to values.
            cache_control: the header.
            content_disposition: the header.
            content_encoding: the header.
            content_language: the header.
            if_absent: commit only if there is nothing.
            if_match: commit only over the version of this etag.
            timeout: seconds: of each read, or of everything until a writer is closed.

        Raises:
            NotFound: `"rb"`, and there is no such object.
            InvalidArgument: another mode, or options of a writer with `"rb"`.
        """
        headers = object_keys.headers(
            content_type,
            metadata=metadata,
            cache_control=cache_control,
            content_disposition=content_disposition,
            content_encoding=content_encoding,
            content_language=content_language,
        )
        condition = object_keys.condition(if_absent, if_match)
        if mode == "wb":
            return ObjectWriter(self, Upload(self._target(key, headers, condition, timeout)), key)
        if mode != "rb":
            raise InvalidArgument(f'the mode {mode!r} is neither "rb" nor "wb"; for text use io.TextIOWrapper')
        if headers != _NO_HEADERS or condition is not None:
            raise InvalidArgument('headers, metadata and conditions are for mode "wb"')
        object_keys.check_key(key)
        seconds = self._seconds(timeout)
        with limit(seconds):
            return ObjectReader(self, self._driver.head(key, timeout=seconds), timeout)

    @operation
    def head(self, key: str, *, timeout: float | None = None) -> ObjectInfo:
        """Describe an object, its metadata included, without its bytes.

        Raises:
            NotFound: there is no such object.
        """
        object_keys.check_key(key)
        return self._driver.head(key, timeout=self._seconds(timeout))

    @operation
    def exists(self, key: str, *, timeout: float | None = None) -> bool:
        """Say whether there is an object under this key.

        Raises:
            InvalidArgument: the key is none that a bucket takes.
        """
        object_keys.check_key(key)
        try:
            self._driver.head(key, timeout=self._seconds(timeout))
        except ResourceNotFound:
            raise
        except NotFound:
            return False
        return True

    @operation
    def delete(self, key: str, *, if_match: str | None = None, timeout: float | None = None) -> None:
        """Delete an object; a missing one is no error.

        Args:
            key: the object.
            if_match: delete only the version of this etag; atomic between processes and machines.
            timeout: seconds.

        Raises:
            PreconditionFailed: `if_match`, and there is no object, or another version.
        """
        object_keys.check_key(key)
        object_keys.condition(False, if_match)
        self._driver.delete(key, if_match, timeout=self._seconds(timeout))

    @long_operation
    def delete_many(
        self, keys: Iterable[str], *, return_errors: bool = False, timeout: float | None = None
    ) -> BatchResult[None]:
        """Delete any number of objects; missing ones are no error.

        Args:
            keys: the objects.
            return_errors: give failures back in the result, and raise nothing.
            timeout: seconds for all of it; without it each call to the backend has the contract's.

        Returns:
            For each key, in order, None or its error.

        Raises:
            BatchError: some could not be deleted; `.result` says which.
        """
        todo = [*keys]
        for key in todo:
            object_keys.check_key(key)
        deadline = Deadline(timeout, self._timeout)
        size = self.capabilities.max_delete_batch

        def delete_one(key: str) -> None:
            self._driver.delete(key, None, timeout=deadline.left())

        def delete_some(some: Sequence[str]) -> Sequence[PortableError | None]:
            return self._driver.delete_many(some, timeout=deadline.left())

        with limit(timeout):
            if size == 1:
                results = self._each("delete_many", [functools.partial(delete_one, key) for key in todo], 16)
            else:
                batches = [todo[at : at + size] for at in range(0, len(todo), size)]
                calls = [functools.partial(delete_some, batch) for batch in batches]
                results = []
                for batch, answer in zip(batches, self._each("delete_many", calls, 4), strict=True):
                    results += [answer] * len(batch) if isinstance(answer, PortableError) else answer
        for error in results:
            if error is not None:
                self._placed(error, "delete_many")
        return _batch(results, return_errors=return_errors, what="deleted")

    @iteration
    def list(
        self,
        prefix: str = "",
        *,
        delimiter: str | None = None,
        start_after: str | None = None,
        timeout: float | None = None,
    ) -> Iterator[ObjectInfo | Prefix]:
        """List objects in the UTF-8 byte order of their keys, in constant memory.

        Args:
            prefix: only keys that start with it.
            delimiter: keys that have it behind the prefix are not listed but stand together as one `Prefix` each.
            start_after: only keys behind this one, which need not exist.
            timeout: seconds for each page of the backend.

        Yields:
            `ObjectInfo` (a backend may leave out metadata and headers) and, with `delimiter`, `Prefix`.

        Raises:
            InvalidArgument: the prefix, the delimiter or `start_after` is not UTF-8.
        """
        self._check_listing(prefix, delimiter, start_after)
        seconds = self._seconds(timeout)
        pages = self._driver.list_pages(prefix, delimiter, start_after, None, 1000, timeout=seconds)
        return items_of(pages)

    @operation
    def list_page(
        self,
        prefix: str = "",
        *,
        delimiter: str | None = None,
        limit: int = 1000,
        cursor: str | None = None,
        timeout: float | None = None,
    ) -> Page[ObjectInfo | Prefix]:
        """List one page, as `list` would.

        Args:
            prefix: only keys that start with it.
            delimiter: as for `list`.
            limit: how many items at most; a backend may give fewer, even none, before the end.
            cursor: the last page's; it goes on behind that page's last item, whatever was written or deleted since.
            timeout: seconds.

        Returns:
            The page; its cursor is None at the end.

        Raises:
            InvalidArgument: the limit is below 1, or the cursor is not one of this bucket's.
        """
        self._check_listing(prefix, delimiter, None)
        if limit < 1:
            raise InvalidArgument(f"a page of {limit} items is none; the limit is at least 1")
        seconds = self._seconds(timeout)
        pages = self._driver.list_pages(prefix, delimiter, None, cursor, limit, timeout=seconds)
        try:
            return next(pages)
        finally:
            pages.close()  # type: ignore[attr-defined]  # a generator by every driver

    @long_operation
    def copy(self, source: str, target: str, *, to: Bucket | None = None, timeout: float | None = None) -> ObjectInfo:
        """Copy an object with its headers and metadata, over what was there.

        Args:
            source: the key to read here.
            target: the key to write.
            to: the bucket to write to, of any provider; this one when left out. The provider copies where it can,
                else the bytes are streamed through this process.
            timeout: seconds.

        Returns:
            The copy.

        Raises:
            NotFound: there is no such object.
            PreconditionFailed: it was written to while it was streamed.
        """
        if to is not None and not isinstance(to, Bucket):
            raise InvalidArgument(f"`to` is a Bucket of this face, not {type(to).__name__}")
        bucket = self if to is None else to
        object_keys.check_key(source)
        with limit(timeout):
            return bucket._take(self, source, target, timeout)  # noqa: SLF001 (another bucket's own half)

    @long_operation
    def put_many(
        self, items: Iterable[tuple[str, Any]], *, concurrency: int = 16, timeout: float | None = None
    ) -> builtins.list[ObjectInfo]:
        """Write any number of objects side by side.

        Args:
            items: pairs of a key and its data, as `put` takes them; an iterable is consumed as it is needed.
            concurrency: how many at once.
            timeout: seconds for each.

        Returns:
            The objects, in the order of `items`.

        Raises:
            BatchError: some were not written; `.result` says which, and why. The others are.
        """
        _check_concurrency(concurrency)

        def put_one(item: tuple[str, Any]) -> ObjectInfo:
            try:
                key, data = item
            except (TypeError, ValueError):
                raise InvalidArgument("put_many takes pairs (key, data)") from None
            return self.put(key, data, timeout=timeout)

        results: builtins.list[ObjectInfo | PortableError] = []
        window: builtins.list[Callable[[], ObjectInfo]] = []
        for item in items:
            window.append(functools.partial(put_one, item))
            if len(window) == concurrency * 8:
                results += self._each("put_many", window, concurrency)
                window = []
        results += self._each("put_many", window, concurrency)
        return _batch(results, return_errors=False, what="written").succeeded

    @long_operation
    def get_many(
        self, keys: Iterable[str], *, concurrency: int = 16, timeout: float | None = None
    ) -> builtins.list[bytes]:
        """Read any number of whole objects side by side.

        Args:
            keys: the objects.
            concurrency: how many at once.
            timeout: seconds for each.

        Returns:
            Their bytes, in the order of `keys`.

        Raises:
            BatchError: some could not be read; `.result` has the others and the errors.
        """
        _check_concurrency(concurrency)
        todo = [*keys]
        for key in todo:
            object_keys.check_key(key)
        calls = [functools.partial(self.get, key, timeout=timeout) for key in todo]
        return _batch(self._each("get_many", calls, concurrency), return_errors=False, what="read").succeeded

    @long_operation
    def upload(
        self,
        path: str | os.PathLike[str],
        key: str,
        *,
        progress: Callable[[int, int], object] | None = None,
        timeout: float | None = None,
    ) -> ObjectInfo:
        """Write a local file as an object, in parallel parts.

        An upload that was interrupted, by a crash or a failing network, goes on with the parts it has when it is
        called again for the same file and key: a hidden file beside `path` notes them. The object appears whole.

        Args:
            path: a regular file.
            key: the object.
            progress: called with the bytes done and the bytes in all, from any thread, one call at a time.
            timeout: seconds.

        Raises:
            InvalidArgument: there is no such file.
            PreconditionFailed: the file was changed while it was read.
        """
        target = self._target(key, _NO_HEADERS, None, timeout)
        source = in_thread(self._host, LocalSource, path)
        try:
            if self._guard is not None:
                self._guard.object_size(source.size)
            with limit(timeout):
                return upload(target, source, self._identity, progress)
        finally:
            source.close()

    @long_operation
    def download(
        self,
        key: str,
        path: str | os.PathLike[str],
        *,
        progress: Callable[[int, int], object] | None = None,
        timeout: float | None = None,
    ) -> ObjectInfo:
        """Read an object into a local file, in parallel parts.

        The file appears whole, checked, and over what was there, or not at all. A download that was interrupted goes
        on with the parts it has when it is called again and the object is still the same: hidden files beside `path`
        keep them.

        Args:
            key: the object.
            path: the file to write; its folder exists.
            progress: called with the bytes done and the bytes in all, from any thread, one call at a time.
            timeout: seconds.

        Returns:
            The object.

        Raises:
            NotFound: there is no such object.
            InvalidArgument: there is no such folder.
            IntegrityError: what came is not what was stored.
            PreconditionFailed: the object is written to again and again.
        """
        object_keys.check_key(key)
        deadline = Deadline(timeout, self._timeout)
        with limit(timeout):
            for attempt in range(1, _DOWNLOAD_ATTEMPTS + 1):
                info = self._driver.head(key, timeout=deadline.left())
                try:
                    download(
                        self._driver,
                        self._host,
                        info,
                        path,
                        bucket=self._identity,
                        progress=progress,
                        deadline=deadline,
                    )
                except PreconditionFailed:
                    if attempt == _DOWNLOAD_ATTEMPTS:
                        raise
                else:
                    return info
            raise AssertionError("the last attempt returns or raises")

    @operation
    def sign(
        self,
        key: str,
        *,
        method: str = "GET",
        expires: float = 3600,
        content_type: str | None = None,
        timeout: float | None = None,
    ) -> SignedRequest:
        """Make a request that anybody who holds it may send, without credentials, until it expires.

        Args:
            key: the object, which need not exist.
            method: `"GET"`, `"HEAD"`, `"PUT"` or `"DELETE"`.
            expires: seconds from now.
            content_type: for `"PUT"`, the type that must be sent.
            timeout: seconds.

        Raises:
            Unsupported: the backend cannot sign (`sign` capability).
            LimitExceeded: longer than the backend, or a cloud named in `guard.limits`, allows.
        """
        self._require("sign", "sign()")
        object_keys.check_key(key)
        object_keys.headers(content_type)
        if method not in _METHODS:
            raise InvalidArgument(f"the method {method!r} cannot be signed; it is one of {', '.join(sorted(_METHODS))}")
        if expires <= 0:
            raise InvalidArgument(f"a request that expires in {expires} seconds is of no use; give a number above 0")
        if self._guard is not None:
            self._guard.sign(expires)
        return self._driver.sign(key, method, expires, content_type, timeout=self._seconds(timeout))

    def _take(self, origin: Bucket, source: str, key: str, timeout: float | None) -> ObjectInfo:
        """Copy an object of another bucket, or of this one, into this one."""
        if not self._opened:
            self._open()
        deadline = self._target(key, _NO_HEADERS, None, timeout).deadline
        if origin._provider == self._provider:
            binding = None if origin is self else origin._binding
            copied = self._driver.copy(source, key, binding, timeout=deadline.left())
            if copied is not None:
                return copied
        info = origin._driver.head(source, timeout=deadline.left())
        reader = ObjectReader(origin, info, timeout)
        return put_stream(self._target(key, _headers_of(info), None, timeout), reader)

    def _seconds(self, timeout: float | None) -> float:
        return self._timeout if timeout is None else timeout

    def _target(self, key: str, headers: ObjectHeaders, condition: Condition | None, timeout: float | None) -> Target:
        object_keys.check_key(key)
        if self._guard is not None:
            self._guard.key(key)
            self._guard.metadata(headers)
        return Target(self._driver, self._host, self._guard, key, headers, condition, Deadline(timeout, self._timeout))

    def _check_listing(self, prefix: str, delimiter: str | None, start_after: str | None) -> None:
        object_keys.check_prefix(prefix, "the prefix")
        if delimiter is not None:
            object_keys.check_prefix(delimiter, "the delimiter")
            if not delimiter:
                raise InvalidArgument("the delimiter is empty; leave it out to list every key")
        if start_after is not None:
            object_keys.check_prefix(start_after, "start_after")

    @property
    def _identity(self) -> str:
        return f"{self.url} {self._binding.name}"

    def _each(
        self, operation: str, calls: Sequence[Callable[[], T]], concurrency: int
    ) -> builtins.list[T | PortableError]:
        """Make all calls, and give each one's value or error, in order."""

        def settled(call: Callable[[], T]) -> T | PortableError:
            try:
                return call()
            except PortableError as error:
                return self._placed(error, operation)

        # A driver that never blocks gains nothing from threads.
        width = 1 if self._instant else concurrency
        return gather([functools.partial(settled, call) for call in calls], concurrency=width, host=self._host)

    def _read(self, info: ObjectInfo, offset: int, length: int, timeout: float | None) -> bytes:
        """Read a range for a reader of this bucket."""
        seconds = self._seconds(timeout)
        try:
            if not self._opened:
                self._open()
            with limit(seconds):
                return self._driver.get(info.key, offset, length, info.etag, timeout=seconds)
        except PortableError as error:
            raise self._placed(error, "read")  # noqa: B904 (the same error, which keeps its cause)

    def _write(self, upload: Upload, data: Any) -> None:
        """Take bytes from a writer of this bucket."""
        try:
            if not self._opened:
                self._open()
            upload.write(data)
        except PortableError as error:
            raise self._placed(error, "write")  # noqa: B904 (the same)

    def _commit(self, upload: Upload) -> ObjectInfo:
        """Commit what a writer of this bucket wrote."""
        try:
            if not self._opened:
                self._open()
            return upload.commit()
        except BaseException as error:
            upload.abort()
            if isinstance(error, PortableError):
                self._placed(error, "write")
            raise


def _headers_of(info: ObjectInfo) -> ObjectHeaders:
    return ObjectHeaders(**{name: getattr(info, name) for name in ObjectHeaders.__struct_fields__})


def _check_concurrency(concurrency: int) -> None:
    if concurrency < 1:
        raise InvalidArgument(f"a concurrency of {concurrency} does nothing; it is at least 1")


def _batch(results: Sequence[T | PortableError], *, return_errors: bool, what: str) -> BatchResult[T]:
    result = BatchResult([*results])
    failed = result.failed
    if failed and not return_errors:
        first = next(iter(failed))
        raise BatchError(
            f"{len(failed)} of {len(results)} were not {what}; the first was number {first}: {failed[first]}",
            result=result,
        )
    return result
