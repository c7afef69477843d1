"""What a bucket on an object store is, whoever's: which engine serves a call, and what is checked around it."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

from portable.batches import Page
from portable.bindings import Binding
from portable.changes import Change
from portable.checksums import crc32_of
from portable.errors import Closed, NotFound, PortableError, PreconditionFailed, ResourceNotFound
from portable.objects import Condition, ObjectHeaders, ObjectInfo, Part, Prefix, SignedRequest
from portable_objectstore.attempts import unmet
from portable_objectstore.descriptions import Digest, Got
from portable_objectstore.failures import FailedError
from portable_objectstore.hidden_keys import is_long
from portable_objectstore.service import FastWrites, Names, ObjectService, Reads

__all__ = ["SMALL", "ObjectStoreBucket"]

T = TypeVar("T")

SMALL = 256 * 1024
"""Within this many bytes an object is written in the fast way; beyond, a vendor's client costs little beside them."""

_NO_RANGE = 416


class ObjectStoreBucket:
    """A bucket at a service: the fast way for the calls that it serves as the vendor's client would, that for others.

    A driver adds its `Options` and `capabilities`, and brings the service.
    """

    def __init__(self, binding: Binding[Any], service: ObjectService) -> None:
        """Take the options, without any I/O."""
        self._binding = binding
        self._service = service
        self._attempts = service.attempts
        self._reads: Reads | None = None
        self._writes: FastWrites | None = None
        self._names: Names | None = None

    def open(self) -> None:
        """Find the bucket, or make it where that is ours to do.

        Raises:
            ResourceNotFound: there is none, and it is not ours to make.
        """
        missing = self.plan()
        if missing:
            if not self._binding.create:
                raise ResourceNotFound(
                    f"there is no {missing[0].what} {self._binding.name!r}; make it with: portable resources create, "
                    'or bind it with create = "if_missing"'
                )
            self.create()
        names = self._service.names()
        self._reads, self._writes = self._service.fast()
        self._names = names

    def close(self) -> None:
        """Close every connection."""
        self._names = None
        self._service.close()

    def check(self, *, write: bool, timeout: float) -> None:
        """List, and where asked write and delete, one object."""
        with self._attempts.at(self._binding.name):
            self._service.probe(timeout=timeout)
        if write:
            key = f".portable/check-{uuid.uuid4().hex}"
            self.put(key, b"", ObjectHeaders(), None, timeout=timeout)
            self.delete(key, None, timeout=timeout)

    def plan(self) -> list[Change]:
        """Say whether the bucket is to be made."""
        return self._service.plan()

    def create(self) -> None:
        """Make the bucket where there is none."""
        self._service.create()

    def put(
        self,
        key: str,
        data: bytes | memoryview,
        headers: ObjectHeaders,
        condition: Condition | None,
        *,
        timeout: float,
    ) -> ObjectInfo:
        """Write an object."""
        name = self._name(key)
        self._check_condition(key, condition)
        fast = self._writes
        put = self._service.calls.put if fast is None or len(data) > SMALL or not fast.carries(name) else fast.put

        def write(left: float) -> ObjectInfo:
            return put(name, data, headers, condition, timeout=left, key=_told(key, name))

        return _under(key, self._attempts.settled(key, condition, write, timeout))

    def get(self, key: str, offset: int, length: int | None, etag: str | None, *, timeout: float) -> bytes:
        """Read a range of an object, and check it where it is the whole."""
        condition = None if etag is None else Condition(etag=etag)
        self._check_condition(key, condition)
        if length == 0:
            return self._nothing(key, etag, timeout)

        def read(name: str) -> bytes:
            fast = self._reads
            reads = self._service.calls if fast is None or not fast.carries(name) else fast
            try:
                got = reads.get(name, offset, length, etag, timeout=timeout)
            except FailedError as error:
                if error.failure.code == "InvalidRange" or error.failure.status == _NO_RANGE:
                    # There is an object, and nothing behind the offset; an empty one has no range at all.
                    return b""
                raise self._attempts.placed(error, key, condition) from error.__cause__
            if offset == 0 and len(got.data) == got.size:
                self._verify(key, name, got, timeout)
            return got.data

        return self._either(key, read)

    def head(self, key: str, *, timeout: float) -> ObjectInfo:
        """Describe an object."""

        def read(name: str) -> ObjectInfo:
            fast = self._reads
            with self._attempts.at(key):
                if fast is None or not fast.carries(name):
                    return self._service.calls.head(name, timeout=timeout).info
                return fast.head(name, timeout=timeout)

        return _under(key, self._either(key, read))

    def delete(self, key: str, etag: str | None, *, timeout: float) -> None:
        """Delete an object."""
        name = self._name(key)
        calls, fast = self._service.calls, self._reads
        if etag is None:
            with self._attempts.at(key):
                for each in filter(None, (name, self._other_name(key, name))):
                    if fast is None or not fast.carries(each):
                        calls.delete(each, None, timeout=timeout)
                    else:
                        fast.delete(each, timeout=timeout)
            return
        condition = Condition(etag=etag)
        self._check_condition(key, condition)
        self._attempts.settled(key, condition, lambda left: calls.delete(name, etag, timeout=left), timeout)

    def delete_many(self, keys: Sequence[str], *, timeout: float) -> list[PortableError | None]:
        """Delete objects."""
        names = [self._name(key) for key in keys]
        others = {
            number: other
            for number, (key, name) in enumerate(zip(keys, names, strict=True))
            if (other := self._other_name(key, name))
        }
        with self._attempts.at(self._binding.name):
            results = self._service.delete_many(names, timeout=timeout)
            if others:
                more = self._service.delete_many(list(others.values()), timeout=timeout)
                for number, error in zip(others, more, strict=True):
                    results[number] = results[number] or error
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
        self._opened()
        with self._attempts.at(self._binding.name):
            yield from self._service.pages(prefix, delimiter, start_after, cursor, limit, timeout=timeout)

    def copy(self, source: str, target: str, origin: Binding[Any] | None, *, timeout: float) -> ObjectInfo | None:
        """Copy an object within the service."""
        from_name, to_name = self._name(source), self._name(target)
        # The metadata of a long name's object holds its key.
        if is_long(from_name) or is_long(to_name) or not (origin is None or self._service.is_same(origin)):
            return None
        with self._attempts.at(source):
            return _under(target, self._service.copy(from_name, to_name, origin, timeout=timeout))

    def sign(self, key: str, method: str, expires: float, content_type: str | None, *, timeout: float) -> SignedRequest:
        """Make a request that anybody may send for a while."""
        name = self._name(key)
        seconds = max(1, int(expires))
        with self._attempts.at(key):
            return self._service.sign(name, method, seconds, content_type, key=_told(key, name), timeout=timeout)

    def begin_upload(self, key: str, headers: ObjectHeaders, *, timeout: float) -> str:
        """Begin an upload in parts."""
        name = self._name(key)
        with self._attempts.at(key):
            return self._service.uploads.begin(name, headers, key=_told(key, name), timeout=timeout)

    def write_part(
        self, key: str, upload: str, number: int, offset: int, data: bytes | memoryview, *, timeout: float
    ) -> Part:
        """Write one part."""
        with self._attempts.at(key):
            return self._service.uploads.write(self._name(key), upload, number, offset, data, timeout=timeout)

    def kept_parts(self, key: str, upload: str, parts: Sequence[Part], *, timeout: float) -> list[Part]:
        """Say which parts are there."""
        with self._attempts.at(key):
            return self._service.uploads.kept(self._name(key), upload, parts, timeout=timeout)

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
        name = self._name(key)
        self._check_condition(key, condition)
        uploads = self._service.uploads

        def commit(left: float) -> ObjectInfo:
            return uploads.commit(name, upload, parts, headers, condition, key=_told(key, name), timeout=left)

        return _under(key, self._attempts.settled(key, condition, commit, timeout))

    def abort_upload(self, key: str, upload: str, *, timeout: float) -> None:
        """Drop an upload and its parts."""
        with self._attempts.at(key):
            self._service.uploads.abort(self._name(key), upload, timeout=timeout)

    def _opened(self) -> Names:
        if self._names is None:
            raise Closed("the bucket is not open")
        return self._names

    def _name(self, key: str) -> str:
        return self._opened().name(key)

    def _other_name(self, key: str, name: str) -> str | None:
        """Give the name under which another program may keep the object of a key, or None."""
        return None if name == key else self._opened().other_name(key)

    def _check_condition(self, key: str, condition: Condition | None) -> None:
        """Refuse what is no etag of any object, and cannot be sent as one."""
        etag = None if condition is None else condition.etag
        if etag is not None and self._service.etags.fullmatch(etag) is None:
            raise unmet(key)

    def _either(self, key: str, read: Callable[[str], T]) -> T:
        """Read our object of a key, or where there is none the one that another program keeps under a plain name."""
        name = self._name(key)
        other = self._other_name(key, name)
        if other is None:
            return read(name)
        try:
            return read(name)
        except (NotFound, PreconditionFailed) as error:
            if isinstance(error, ResourceNotFound):
                raise
            try:
                return read(other)
            except NotFound:
                raise error from None

    def _nothing(self, key: str, etag: str | None, timeout: float) -> bytes:
        """Read nothing of an object, which has to be there all the same."""
        try:
            found = self.head(key, timeout=timeout).etag
        except NotFound as error:
            if etag is None or isinstance(error, ResourceNotFound):
                raise
            raise unmet(key) from error
        if etag is not None and found != etag:
            raise unmet(key)
        return b""

    def _verify(self, key: str, name: str, got: Got, timeout: float) -> None:
        """Check a whole object: by what came with it, or else by what the service keeps.

        Raises:
            IntegrityError: it is not what was stored.
        """
        crc = crc32_of(got.checksum)
        if crc is not None:
            Digest.by_crc(crc).check(key, got.data)
            return
        if got.is_checked or self._service.is_sound(got):
            return
        try:
            found = self._service.calls.head(name, timeout=timeout)
        except FailedError:
            # Gone meanwhile, and with it what it could be checked by.
            return
        if found.digest is not None and found.info.etag == got.etag:
            found.digest.check(key, got.data)


def _told(key: str, name: str) -> str | None:
    """Give the key that metadata is to tell, because the name does not."""
    return key if is_long(name) else None


def _under(key: str, info: ObjectInfo) -> ObjectInfo:
    """Give an object's description by its key in place of its name."""
    return info if info.key == key else msgspec.structs.replace(info, key=key)
