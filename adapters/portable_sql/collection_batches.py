"""Several writes of documents in one transaction: what is there is locked, the writes are looked at, then stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from portable import document_json
from portable.document_writes import DocumentId, Save, Stored, Verify, Write, outcome
from portable.errors import PortableError
from portable_sql.collection_ranges import Row
from portable_sql.collection_statements import Statements, drawn_revision
from portable_sql.errors import is_duplicate

__all__ = ["CollidedError", "Result", "carry_out"]

Result: TypeAlias = Stored | PortableError | None


class CollidedError(Exception):
    """Somebody stored a document where there was none a moment ago: look again, it can be locked now."""


def carry_out(connection: Any, statements: Statements, writes: Sequence[Write], *, whole: bool) -> list[Result]:
    """Carry out writes in the transaction of a connection.

    Args:
        connection: the connection.
        statements: those of the collection.
        writes: the writes; several of one document happen in their order.
        whole: whether the first that fails raises, and so ends the transaction.

    Raises:
        CollidedError: the transaction has to be done again.
    """
    ids = sorted({write.id for write in writes})
    locked = statements.lock(connection, ids)
    # What each document would be; its text and not its data, which a write may change and then fail.
    texts = {id_: locked.get(id_) for id_ in ids}
    rows: dict[DocumentId, Row] = {}
    touched: set[DocumentId] = set()
    absent: set[DocumentId] = set()
    results: list[Result] = []
    for write in writes:
        try:
            save = outcome(write, _stored(write.id, texts[write.id]))
            revision = drawn_revision()
            row = None if save is None else statements.row(save, revision)
        except PortableError as error:
            if whole:
                raise
            results.append(error)
            continue
        if isinstance(write, Verify):
            if write.revision is None:
                absent.add(write.id)
            results.append(None)
            continue
        touched.add(write.id)
        if save is None or row is None:
            texts[write.id] = None
            rows.pop(write.id, None)
            results.append(None)
        else:
            texts[write.id] = (str(revision), save.json())
            rows[write.id] = row
            results.append(Stored(save.id, save.data, str(revision)))
    _store(connection, statements, rows, locked, absent=absent - locked.keys())
    if gone := sorted(id_ for id_ in touched - rows.keys() if id_ in locked):
        statements.remove_all(connection, gone)
    return results


def _stored(id_: DocumentId, there: tuple[str, str] | None) -> Stored | None:
    return None if there is None else Stored(id_, document_json.load(there[1]), there[0])


def _store(
    connection: Any,
    statements: Statements,
    rows: dict[DocumentId, Row],
    locked: dict[DocumentId, Any],
    *,
    absent: set[DocumentId],
) -> None:
    old = [rows[id_] for id_ in sorted(rows.keys() & locked.keys())]
    new = [rows[id_] for id_ in sorted(rows.keys() - locked.keys())]
    # What must stay missing until the end of the transaction cannot be locked, unless it is there for so long.
    new += [statements.row(Save(id_, {}), drawn_revision()) for id_ in sorted(absent)]
    try:
        if new:
            statements.store_all(connection, new, over=False)
        if old:
            statements.store_all(connection, old, over=True)
    except connection.FAILURES as error:
        if is_duplicate(error):
            raise CollidedError from error
        raise
    if absent:
        statements.remove_all(connection, sorted(absent))
