"""Collections on PostgreSQL, and on MySQL or MariaDB. The tables: `docs/wire-formats/sql-collection.md`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from hashlib import blake2b
from time import monotonic
from typing import Any, TypeVar

import msgspec

from portable import document_json
from portable.bindings import Binding
from portable.capabilities import CollectionCapabilities
from portable.changes import Change
from portable.contracts import CollectionContract
from portable.document_layout import DocumentLayout
from portable.document_writes import DocumentId, Modify, Remove, Save, Stored, Write, outcome, refused
from portable.errors import (
    DeadlineExceeded,
    LimitExceeded,
    PortableError,
    PreconditionFailed,
    ResourceNotFound,
    Unavailable,
)
from portable.query_plan import Plan, SortPosition, index_fields
from portable_sql import collection_tables
from portable_sql.collection_batches import CollidedError, Result, carry_out
from portable_sql.collection_dialects import Dialect, Mysql, Postgresql
from portable_sql.collection_ranges import Piece, Row, read
from portable_sql.collection_statements import Statements, drawn_revision
from portable_sql.options import ServerOptions
from portable_sql.servers import Server

__all__ = ["SqlCollection"]

T = TypeVar("T")

PURGE_EVERY = 64
PURGED_AT_ONCE = 256
FILLED_AT_ONCE = 500
CREATED_WITHIN = 3600.0
"""Seconds that a server may take for an index where an application does not wait for it."""

UNKNOWN_COLUMN = {"42703", 1054}
UNKNOWN_TABLE = {"42P01", 1146}


class SqlCollection:
    """The driver of `postgresql:` and `mysql:` collections."""

    Options = ServerOptions

    capabilities = CollectionCapabilities(
        durability="power",
        wide_transactions=True,
        big_int=True,
        query_consistency=True,
        max_batch=500,
    )

    def __init__(self, binding: Binding[ServerOptions]) -> None:
        self._binding = binding
        self._contract: CollectionContract = binding.contract  # type: ignore[assignment]  # of this kind
        self._patience = float(binding.contract.timeout)
        self._server: Server
        self._dialect: Dialect
        self._statements: Statements
        self._writes = 0

    @property
    def native(self) -> Any:
        """SQLAlchemy's engine on the database."""
        return self._server.engine

    # ------------------------------------------------------------------ the table

    def open(self) -> None:
        """Connect; where the binding says so make the collection."""
        self._connect()
        if self._binding.create:
            self._create(always=False, patience=self._patience)
        else:
            self._look()

    def close(self) -> None:
        """Do nothing: the connections are those of the whole cloud."""

    def check(self, *, write: bool, timeout: float) -> None:
        """Look at the collection; with `write`, whether it may be written."""
        self._connect()
        found = self._read(timeout)
        if found is None:
            raise self._missing()
        if write:
            table = Statements(found, self._dialect).table
            sql = f"UPDATE {table} SET revision = revision WHERE 1 = 0"
            self._server.execute(sql, timeout=timeout)

    def plan(self) -> list[Change]:
        """Say what `create` would do."""
        self._connect()
        found = self._read(self._patience)
        return collection_tables.changes(self._wanted(found), found, self._dialect)

    def create(self) -> None:
        """Make the collection and its indexes where they are missing, and fill new indexes while others write."""
        self._connect()
        self._create(always=True, patience=CREATED_WITHIN)

    def _connect(self) -> None:
        self._server = Server.of(self._binding)
        if self._server.is_postgresql:
            self._dialect = Postgresql()
        else:
            rows = self._server.fetch("SELECT @@max_allowed_packet", timeout=self._patience, again=True)
            self._dialect = Mysql(int(rows[0][0]))

    def _read(self, timeout: float) -> DocumentLayout | None:
        def attempt() -> DocumentLayout | None:
            return self._server.run(
                lambda connection: collection_tables.read(connection, self._dialect, self._binding.name),
                timeout=timeout,
                again=True,
            )

        try:
            return attempt()
        except ResourceNotFound:
            if self._server.missing_tables([collection_tables.REGISTRY], timeout=timeout):
                return None
        # Somebody made it in between.
        return attempt()

    def _wanted(self, found: DocumentLayout | None) -> DocumentLayout:
        contract = self._contract
        if found is not None:
            return found.wanted(contract)
        indexes = tuple(index_fields(contract))
        # An empty table has every document in every index.
        return DocumentLayout(
            self._binding.name, contract.key, contract.partition, contract.ttl, filled=len(indexes), indexes=indexes
        )

    def _create(self, *, always: bool, patience: float) -> None:
        deadline = monotonic() + patience
        while True:
            layout = self._read(self._patience)
            if always or layout is None or self._wanted(layout) != layout:
                layout = self._make(patience)
            statements = Statements(layout, self._dialect)
            try:
                if not layout.complete:
                    self._fill(statements)
                break
            except PortableError as error:
                # Somebody made another index meanwhile.
                if _unknown(error) is None or monotonic() > deadline:
                    raise
        self._statements = statements

    def _make(self, patience: float) -> DocumentLayout:
        registry = {collection_tables.REGISTRY: [self._dialect.registry]}
        self._server.make_tables(registry, timeout=self._patience)
        with self._alone(patience) as connection:
            return collection_tables.make(connection, self._dialect, self._binding.name, self._wanted)

    def _alone(self, patience: float) -> contextlib.AbstractContextManager[Any]:
        """Keep others from changing the table."""
        # The lock's name has room for 64 characters.
        purpose = f"collection.{blake2b(self._binding.name.encode(), digest_size=12).hexdigest()}"
        return self._server.alone(purpose, timeout=patience)

    def _fill(self, statements: Statements) -> None:
        """Put every document into every index. Whoever writes meanwhile keeps them already, so steps may be small."""
        last: DocumentId | None = None
        while True:
            after = last
            last = self._server.transact(
                lambda connection, after=after: statements.fill(connection, after, FILLED_AT_ONCE),  # type: ignore[misc]  # of this turn
                timeout=self._patience,
            )
            if last is None:
                break
        self._server.run(
            lambda connection: collection_tables.note_filled(connection, statements.layout), timeout=self._patience
        )

    def _look(self) -> None:
        """Learn the layout that is there."""
        self._take(self._read(self._patience))

    def _take(self, found: DocumentLayout | None) -> None:
        if found is None:
            raise self._missing()
        found.wanted(self._contract)
        if not found.serves(self._contract):
            raise ResourceNotFound(
                f"the collection {self._binding.name!r} has not all of its indexes; "
                "make them with `portable resources create`"
            )
        self._statements = Statements(found, self._dialect)

    def _missing(self) -> ResourceNotFound:
        return ResourceNotFound(
            f"the database has no collection {self._binding.name!r}; make it with `portable resources create`"
        )

    def _current(self, call: Callable[[Statements], T]) -> T:
        """Run a call with the layout as we know it, and again when it changed meanwhile."""
        while True:
            try:
                return call(self._statements)
            except PortableError as error:
                unknown = _unknown(error)
                number = self._statements.layout.number
                if unknown is None or (unknown in UNKNOWN_COLUMN and f"layout_{number}" not in str(error)):
                    raise
            self._look()
            if self._statements.layout.number == number:
                # MySQL shows a changed table before its note: whoever changes it has the lock until both are there.
                with self._alone(self._patience) as connection:
                    found = collection_tables.read(connection, self._dialect, self._binding.name)
                self._take(found)
                if self._statements.layout.number == number:
                    raise self._missing()

    # ------------------------------------------------------------------ reading

    def get(self, id_: DocumentId, *, timeout: float) -> Stored | None:
        """Give one document."""
        rows = self._current(lambda one: self._server.fetch(one.get, one.id(id_), timeout=timeout, again=True))
        if not rows:
            return None
        revision, text = rows[0]
        return Stored(id_, document_json.load(text), str(revision))

    def get_many(self, ids: Sequence[DocumentId], *, timeout: float) -> list[Stored | None]:
        """Give some documents, by one statement."""
        if not ids:
            return []
        found = self._current(
            lambda one: self._server.run(lambda connection: one.find(connection, ids), timeout=timeout, again=True)
        )
        return [found.get(id_) for id_ in ids]

    def query(self, plan: Plan, *, after: SortPosition | None, limit: int, timeout: float) -> list[Stored]:
        """Give the next documents of a plan."""

        def look(one: Statements) -> list[Stored]:
            def work(connection: Any) -> list[Row]:
                def fetch(piece: Piece, number: int) -> list[Row]:
                    return one.fetch(connection, piece, plan, number)

                return read(one.pieces(plan, after), fetch, limit, one.columns_of(plan), descending=plan.descending)

            return one.stored(self._server.run(work, timeout=timeout, again=True))

        return self._current(look)

    def count(self, plan: Plan, *, timeout: float) -> int:
        """Count the documents of a plan."""

        def look(one: Statements) -> int:
            def work(connection: Any) -> int:
                return sum(int(connection.fetch(*one.count(piece, plan))[0][0]) for piece in one.pieces(plan, None))

            return self._server.run(work, timeout=timeout, again=True)

        return self._current(look)

    # ------------------------------------------------------------------ writing

    def write(self, write: Save | Modify | Remove, *, timeout: float) -> Stored | None:
        """Carry out one write."""
        deadline = monotonic() + timeout
        result: Stored | None = None
        if isinstance(write, Modify):
            result = self._modify(write, deadline)
        elif isinstance(write, Save):
            result = self._save(write, deadline)
        else:
            self._remove(write, deadline)
        self._count_writes(1, deadline)
        return result

    def _save(self, save: Save, deadline: float) -> Stored:
        revision = drawn_revision()
        stored = Stored(save.id, save.data, str(revision))
        plain = save.exists is None and save.revision is None
        lost: PortableError | None = None
        while True:
            try:
                if self._run(lambda one, connection: one.save(connection, save, revision), deadline, again=plain):
                    return stored
            except Unavailable as error:
                if not error.maybe_applied or lost is not None:
                    raise
                lost = error
            found = self._read_back(save.id, lost, deadline)
            if found == stored.revision:
                return stored
            if lost is None and (save.exists is not False or found is not None):
                raise refused(save, found=found)
            if lost is not None and not self._still_holds(save, found):
                raise lost
            # What has just expired was removed meanwhile; or the answer was lost, and nothing has happened: doing it
            # again is safe, as the first would be told by its revision.

    def _still_holds(self, save: Save, found: str | None) -> bool:
        if not self._binding.contract.retries:
            return False
        return (found is None) is (save.exists is False) and save.revision in {None, found}

    def _read_back(self, id_: DocumentId, lost: PortableError | None, deadline: float) -> str | None:
        """Give the revision that is there."""
        try:
            found = self.get(id_, timeout=_left(deadline))
        except PortableError as error:
            raise lost or error from error
        return None if found is None else found.revision

    def _modify(self, write: Modify, deadline: float) -> Stored | None:
        found = self.get(write.id, timeout=_left(deadline))
        save = outcome(write, found)
        if save is None or found is None:
            return None
        try:
            return self._save(msgspec.structs.replace(save, exists=None, revision=found.revision), deadline)
        except PreconditionFailed:
            # Somebody was faster, and may be again: now with a lock.
            (stored,) = self._together([write], deadline, whole=True)
            return stored if isinstance(stored, Stored) else None

    def _remove(self, write: Remove, deadline: float) -> None:
        plain = write.revision is None
        if not self._run(
            lambda one, connection: one.remove(connection, write.id, write.revision), deadline, again=plain
        ):
            raise refused(write, found=self._read_back(write.id, None, deadline))

    def write_many(
        self, writes: Sequence[Save | Modify | Remove], *, timeout: float
    ) -> list[Stored | PortableError | None]:
        """Carry out writes, each for itself: in one statement where nothing has to be looked at, else in four."""
        deadline = monotonic() + timeout
        results = self._at_once(writes, deadline)
        if results is None:
            results = self._together(writes, deadline, whole=False)
        self._count_writes(len(writes), deadline)
        return results

    def _at_once(self, writes: Sequence[Write], deadline: float) -> list[Result] | None:
        """Carry out writes that ask for nothing, of different documents; None where they are others."""
        ids = sorted({write.id for write in writes})
        if len(ids) < len(writes) or not writes:
            return None
        if all(isinstance(write, Remove) and write.revision is None for write in writes):
            self._run(lambda one, connection: one.remove_all(connection, ids), deadline, again=True)
            return [None for _ in writes]
        if not all(isinstance(write, Save) and write.exists is None and write.revision is None for write in writes):
            return None
        saves = {write.id: (write, drawn_revision()) for write in writes if isinstance(write, Save)}

        def store(one: Statements, connection: Any) -> None:
            # In the order of their keys, as everybody locks them.
            one.store_all(connection, [one.row(*saves[id_]) for id_ in ids], over=True)

        try:
            self._run(store, deadline, again=True)
        except LimitExceeded:
            # Some can be stored.
            return None
        return [Stored(id_, save.data, str(revision)) for id_, (save, revision) in saves.items()]

    def transact(self, writes: Sequence[Write], *, timeout: float) -> None:
        """Carry out all writes, or none."""
        if writes:
            deadline = monotonic() + timeout
            self._together(writes, deadline, whole=True)
            self._count_writes(len(writes), deadline)

    def _together(self, writes: Sequence[Write], deadline: float, *, whole: bool) -> list[Result]:
        """Carry out writes in one transaction."""
        results: list[Result] = []

        def work(one: Statements, connection: Any) -> None:
            results[:] = carry_out(connection, one, writes, whole=whole)

        while True:
            try:
                self._current(
                    lambda one: self._server.transact(lambda connection: work(one, connection), timeout=_left(deadline))
                )
            except CollidedError:
                continue
            except Unavailable as error:
                if not error.maybe_applied or not self._is_applied(results, error, deadline):
                    raise
            return results

    def _is_applied(self, results: Sequence[Result], lost: PortableError, deadline: float) -> bool:
        """Whether a transaction whose answer was lost was carried out, as one of its revisions tells."""
        for result in results:
            if isinstance(result, Stored):
                return self._read_back(result.id, lost, deadline) == result.revision
        return False

    def _run(self, work: Callable[[Statements, Any], T], deadline: float, *, again: bool) -> T:
        return self._current(
            lambda one: self._server.run(lambda connection: work(one, connection), timeout=_left(deadline), again=again)
        )

    def _count_writes(self, number: int, deadline: float) -> None:
        """Purge now and then, so that no single write pays for all that expired."""
        if self._statements.layout.ttl is None:
            return
        self._writes += number
        if self._writes >= PURGE_EVERY:
            self._writes = 0
            # The write itself is done, whatever becomes of this.
            with contextlib.suppress(PortableError):
                self._server.execute(self._statements.purge, (PURGED_AT_ONCE,), timeout=_left(deadline))


def _left(deadline: float) -> float:
    left = deadline - monotonic()
    if left <= 0:
        raise DeadlineExceeded("the timeout ran out before the call was done")
    return left


def _unknown(error: PortableError) -> str | int | None:
    """Give the code of the server for a column or table that it does not have; None for any other error."""
    cause: Any = error.__cause__
    number = cause.args[0] if cause is not None and cause.args else None
    codes: tuple[str | int | None, ...] = (number, getattr(cause, "sqlstate", None))
    return next((code for code in codes if code in UNKNOWN_COLUMN or code in UNKNOWN_TABLE), None)
