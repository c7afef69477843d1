"""Documents by key, with atomic updates, transactions, and queries that every provider answers alike."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from time import monotonic
from typing import Any, ClassVar, Generic, TypeVar, cast

from portable.aio._concurrency import operation
from portable.aio.drivers import CollectionDriver
from portable.aio.query import Query
from portable.aio.resource import Resource
from portable.batches import BatchResult
from portable.capabilities import CollectionCapabilities
from portable.contracts import CollectionContract
from portable.document_composing import DocumentComposer
from portable.document_writes import DocumentId, Modify, Remove, Save, Stored, Verify, missing
from portable.documents import Check, Create, Document, Key, Put, Replace, Update, Write
from portable.errors import BatchError, DeadlineExceeded, InvalidArgument, PortableError
from portable.query_plan import Planner, Question

__all__ = ["Collection"]

T = TypeVar("T")

NARROW_TRANSACTION = 100


class Collection(Resource[CollectionDriver], Generic[T]):
    """Documents: dicts, or values of a `type`, each under the key that one of its fields holds.

    A key is a text of 1 to 1,024 bytes in UTF-8; in a partitioned collection it is the pair `(partition, key)`. What a
    document may hold is listed in `portable.document_values`. Reads by key see every write that returned before them.
    Every write gives the document a new revision.
    """

    kind: ClassVar[str] = "collection"

    def __init__(self, binding: Any, make: Callable[[], CollectionDriver], *, type: Any = None, **how: Any) -> None:
        """Bind the portable type to a driver; `Cloud` calls this.

        Args:
            binding: what the config says.
            make: makes the driver.
            type: what documents are: a dataclass, TypedDict, msgspec.Struct …; dicts when left out.
            how: what every resource takes.
        """
        super().__init__(binding, make, **how)
        contract: CollectionContract = binding.contract
        self._planner = Planner(contract, self.name)
        self._guard: Any = None
        if self._limits:
            from portable.limits import guard  # noqa: PLC0415 (only a guarded resource pays for the table)

            self._guard = guard(self._limits, "collection")
        self._composer = DocumentComposer(contract, type, self.capabilities, self._guard, self._require)

    @property
    def capabilities(self) -> CollectionCapabilities:
        """What the driver can do: features, as booleans, and limits, as numbers."""
        return self._driver.capabilities

    @operation
    async def create(self, data: T, *, timeout: float | None = None) -> Document[T]:
        """Store a document whose key must be free; of several that race for a key exactly one wins.

        Args:
            data: the document, its key field included.
            timeout: seconds.

        Returns:
            The document as stored, with its revision.

        Raises:
            AlreadyExists: there is a document with that key.
            InvalidArgument: the data cannot be stored, or does not fit the type.
        """
        return await self._store(Create(data), timeout)

    @operation
    async def put(self, data: T, *, if_revision: str | None = None, timeout: float | None = None) -> Document[T]:
        """Store a document, whether or not its key is taken.

        Args:
            data: the document, its key field included.
            if_revision: only over this revision.
            timeout: seconds.

        Returns:
            The document as stored, with its revision.

        Raises:
            PreconditionFailed: `if_revision` is given, and what is there is missing or at another revision.
            InvalidArgument: the data cannot be stored, or does not fit the type.
        """
        return await self._store(Put(data, if_revision), timeout)

    @operation
    async def replace(self, data: T, *, if_revision: str | None = None, timeout: float | None = None) -> Document[T]:
        """Store a document over the one with its key, which must be there.

        Args:
            data: the document, its key field included.
            if_revision: only over this revision.
            timeout: seconds.

        Returns:
            The document as stored, with its revision.

        Raises:
            NotFound: there is no document with that key.
            PreconditionFailed: `if_revision` is given, and what is there is missing or at another revision.
            InvalidArgument: the data cannot be stored, or does not fit the type.
        """
        return await self._store(Replace(data, if_revision), timeout)

    @operation
    async def get(self, key: Key, *, timeout: float | None = None) -> Document[T]:
        """Give the document with a key.

        Args:
            key: the key, or `(partition, key)` in a partitioned collection.
            timeout: seconds.

        Raises:
            NotFound: there is none.
            IntegrityError: what is stored does not fit the type.
        """
        id_ = self._composer.document_id(key)
        stored = await self._driver.get(id_, timeout=self._timeout if timeout is None else timeout)
        if stored is None:
            raise missing(id_)
        document: Document[T] = self._composer.document(stored)
        return document

    @operation
    async def get_many(self, keys: Iterable[Key], *, timeout: float | None = None) -> dict[Key, Document[T]]:
        """Give the documents with some keys.

        Args:
            keys: any number of keys.
            timeout: seconds.

        Returns:
            The documents that are there, by key, in the order of `keys`.

        Raises:
            InvalidArgument: a key is none that this collection takes.
        """
        until = self._until(timeout)
        ids = list(dict.fromkeys(self._composer.document_id(key) for key in _several(keys, "keys")))
        found: dict[Key, Document[T]] = {}
        step = max(self.capabilities.max_batch, 100)
        for start in range(0, len(ids), step):
            for stored in await self._driver.get_many(ids[start : start + step], timeout=self._left(until)):
                if stored is not None:
                    document = self._composer.document(stored)
                    found[document.key] = document
        return found

    @operation
    async def delete(self, key: Key, *, if_revision: str | None = None, timeout: float | None = None) -> None:
        """Remove the document with a key; missing is no error unless `if_revision` is given.

        Args:
            key: the key, or `(partition, key)` in a partitioned collection.
            if_revision: only this revision.
            timeout: seconds.

        Raises:
            PreconditionFailed: `if_revision` is given, and what is there is missing or at another revision.
        """
        write = Remove(self._composer.document_id(key), _revision(if_revision))
        await self._driver.write(write, timeout=self._timeout if timeout is None else timeout)

    @operation
    async def update(
        self,
        key: Key,
        *,
        set: Mapping[str, Any] | None = None,
        unset: Iterable[str] = (),
        increment: Mapping[str, int | float] | None = None,
        append: Mapping[str, Any] | None = None,
        if_revision: str | None = None,
        timeout: float | None = None,
    ) -> Document[T]:
        """Change fields of a document, atomically; no two of the paths may meet.

        Args:
            key: the key, or `(partition, key)` in a partitioned collection.
            set: values to put, by dotted path; missing parents are made.
            unset: dotted paths to remove; missing ones are no error.
            increment: what to add to numbers, by dotted path; a missing one starts at 0.
            append: one value each to add at the end of lists, by dotted path; a missing list is made.
            if_revision: only this revision.
            timeout: seconds.

        Returns:
            The whole document as it is now.

        Raises:
            NotFound: there is no document with that key.
            PreconditionFailed: `if_revision` is given, and what is there is missing or at another revision.
            InvalidArgument: a path meets a value of another type, two paths meet, the key, partition or ttl field is
                named, or the document would no longer fit the type. Nothing was changed.
        """
        # Whatever can be iterated; it is checked with the rest.
        paths: Any = unset if isinstance(unset, (str, bytes)) or not isinstance(unset, Iterable) else tuple(unset)
        write = Update(key, set or {}, paths, increment or {}, append or {}, if_revision)
        limit = self._timeout if timeout is None else timeout
        stored = await self._driver.write(self._composer.modification(write), timeout=limit)
        document: Document[T] = self._composer.document(cast("Stored", stored))
        return document

    def query(self, *, allow_scan: bool = False) -> Query[T]:
        """Ask for all documents, to be narrowed by `where`, `order_by` and `limit`; nothing is sent yet.

        Args:
            allow_scan: whether the query may read the whole collection where no index serves it.
        """
        return Query(self, Question(allow_scan=allow_scan))

    def where(self, path: str, op: str, value: Any, *, allow_scan: bool = False) -> Query[T]:
        """Ask for the documents for which a condition holds; nothing is sent yet.

        An operator sees only documents whose field is present and of the operand's type (int and float are one).

        Args:
            path: the field, dotted.
            op: `==`, `!=`, `<`, `<=`, `>`, `>=`, `in`, `not-in` (a list of values), `contains` (the field is a list
                that has the value), or `prefix` (of a text).
            value: what to compare with.
            allow_scan: whether the query may read the whole collection where no index serves it.

        Raises:
            InvalidArgument: the path, the operator or the value is wrong.
        """
        return self.query(allow_scan=allow_scan).where(path, op, value)

    def order_by(self, path: str, descending: bool = False, *, allow_scan: bool = False) -> Query[T]:  # noqa: FBT001, FBT002 (the contract's signature)
        """Ask for the documents that have a field, in its order; nothing is sent yet.

        Args:
            path: the field, dotted.
            descending: whether the order is turned round.
            allow_scan: whether the query may read the whole collection where no index serves it.

        Raises:
            InvalidArgument: the path is wrong.
        """
        return self.query(allow_scan=allow_scan).order_by(path, descending=descending)

    @operation
    async def write_many(
        self, writes: Iterable[Write], *, return_errors: bool = False, timeout: float | None = None
    ) -> BatchResult[Document[T] | None]:
        """Carry out any number of writes, each for itself; several of one document happen in their order.

        Args:
            writes: `Create`, `Put`, `Replace`, `Update` and `Delete`.
            return_errors: give the failures back instead of raising.
            timeout: seconds.

        Returns:
            For each write the document as stored, None for `Delete`, or its error.

        Raises:
            BatchError: some failed; its `result` says which and why. The others are done.
        """
        until = self._until(timeout)
        results: list[Document[T] | PortableError | None] = []
        ready: list[tuple[int, Save | Modify | Remove]] = []
        for i, entry in enumerate(_several(writes, "writes")):
            results.append(None)
            try:
                if isinstance(entry, Check):
                    raise InvalidArgument("Check belongs into transact; here use if_revision")
                write = self._composer.write(entry)
                if not isinstance(write, Verify):
                    ready.append((i, write))
            except PortableError as error:
                results[i] = error
        step = self.capabilities.max_batch
        for start in range(0, len(ready), step):
            chunk = ready[start : start + step]
            answers = await self._driver.write_many([write for _, write in chunk], timeout=self._left(until))
            for (i, _), answer in zip(chunk, answers, strict=True):
                results[i] = self._composer.document(answer) if isinstance(answer, Stored) else answer
        result: BatchResult[Document[T] | None] = BatchResult(results)
        if result.failed and not return_errors:
            raise _failed(result)
        return result

    @operation
    async def transact(self, writes: Iterable[Write], *, timeout: float | None = None) -> None:
        """Carry out all writes, or none: nobody ever sees a part of them.

        Without the capability `wide_transactions` it takes 100 writes at most, all in one partition (a collection
        without partitions is one).

        Args:
            writes: `Create`, `Put`, `Replace`, `Update`, `Delete` and `Check`, each of another document.
            timeout: seconds.

        Raises:
            AlreadyExists: a `Create` met a document.
            NotFound: a `Replace` or `Update` met none.
            PreconditionFailed: a `Check` or an `if_revision` did not hold.
            InvalidArgument: a write is wrong, or two are of one document.
            Unsupported: it is too wide.
        """
        until = self._until(timeout)
        ready: list[Save | Modify | Remove | Verify] = []
        seen: dict[DocumentId, int] = {}
        for i, entry in enumerate(_several(writes, "writes"), 1):
            try:
                write = self._composer.write(entry)
            except PortableError as error:
                error.message = f"write {i}: {error.message}"
                raise
            if write.id in seen:
                raise InvalidArgument(f"writes {seen[write.id]} and {i} are of one document; make them one write")
            seen[write.id] = i
            ready.append(write)
        if len(ready) > NARROW_TRANSACTION:
            self._require("wide_transactions", f"a transaction of {len(ready)} writes (more than {NARROW_TRANSACTION})")
        if len({partition for partition, _ in seen}) > 1:
            self._require("wide_transactions", "a transaction across partitions")
        if self._guard is not None:
            size = sum(len(write.json().encode()) for write in ready if isinstance(write, Save))
            self._guard.transaction(len(ready), size)
        if ready:
            await self._driver.transact(ready, timeout=self._left(until))

    async def _store(self, entry: Create | Put | Replace, timeout: float | None) -> Document[T]:
        write = self._composer.save(entry)
        stored = await self._driver.write(write, timeout=self._timeout if timeout is None else timeout)
        document: Document[T] = self._composer.document(cast("Stored", stored))
        return document

    def _until(self, timeout: float | None) -> float:
        return monotonic() + (self._timeout if timeout is None else timeout)

    def _left(self, until: float) -> float:
        left = until - monotonic()
        if left <= 0:
            raise DeadlineExceeded("the timeout ran out before all was done", maybe_applied=True)
        return left


def _several(entries: Any, what: str) -> Iterable[Any]:
    if isinstance(entries, (str, bytes, Mapping)) or not isinstance(entries, Iterable):
        raise InvalidArgument(f"{what} are a list, not {type(entries).__name__}")
    return entries


def _revision(revision: object) -> str | None:
    if revision is not None and not isinstance(revision, str):
        raise InvalidArgument(f"a revision is the str that a document carries, not {type(revision).__name__}")
    return revision


def _failed(result: BatchResult[Any]) -> BatchError:
    failed = result.failed
    i, first = next(iter(failed.items()))
    return BatchError(
        f"{len(failed)} of {len(result.results)} writes failed, the first is number {i + 1}: {first.message}",
        result=result,
    )
