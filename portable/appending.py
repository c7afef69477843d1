# Generated from portable/aio/appending.py by tools/generate_sync.py; change that file, not this one.
"""Batches of records of any size, in calls that a driver takes, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from portable.batches import BatchResult
from portable.composing import several
from portable.errors import BatchError, PortableError, PreconditionFailed
from portable.record_composing import RecordComposer, key_of
from portable.records import NewRecord, Position

__all__ = ["append_in_batches"]

CHUNK_BYTES = 4 * 1024 * 1024
"""How much data one call to a driver carries at most, but for a record that is larger by itself."""


class _Batch:
    """One batch under way.

    Attributes:
        results: each entry's position or error; None while neither is known.
    """

    def __init__(self, append: Callable[[list[NewRecord]], list[Position | PortableError]], max_batch: int) -> None:
        self.results: list[Position | PortableError | None] = []
        self._append = append
        self._max_batch = max_batch
        self._chunk: list[tuple[int, NewRecord]] = []
        self._room = CHUNK_BYTES
        self._failed_keys: set[str] = set()
        self._broken: PortableError | None = None

    def run(self, entries: Iterable[Any], composer: RecordComposer) -> None:
        """Append every entry, a full chunk at a time."""
        for index, entry in enumerate(entries):
            self.results.append(self._broken)
            if self._broken is not None:
                continue
            try:
                record = composer.record(entry)
            except PortableError as error:
                self._fail(index, key_of(entry), error)
                continue
            size = len(record.data)
            full = size > self._room or len(self._chunk) >= self._max_batch
            if full and self._chunk and not self._flush():
                self.results[index] = self._broken
                continue
            if record.key in self._failed_keys:
                self.results[index] = _not_appended(record.key)
                continue
            self._chunk.append((index, record))
            self._room -= size
        if self._chunk:
            self._flush()

    def _flush(self) -> bool:
        """Append the chunk; False where the backend failed, so that nothing more is to be tried."""
        chunk, self._chunk, self._room = self._chunk, [], CHUNK_BYTES
        try:
            answers = self._append([record for _, record in chunk])
        except PortableError as error:
            # The backend as a whole failed: what comes after would only fail more slowly.
            self._broken = error
            answers = [error] * len(chunk)
        for (index, record), answer in zip(chunk, answers, strict=True):
            if answer.__class__ is Position:
                self.results[index] = answer
            else:
                self._fail(index, record.key, answer)  # type: ignore[arg-type]  # positions or errors
        return self._broken is None

    def _fail(self, index: int, key: object, error: PortableError) -> None:
        self.results[index] = error
        if isinstance(key, str):
            self._failed_keys.add(key)


def _not_appended(key: str | None) -> PreconditionFailed:
    return PreconditionFailed(f"not appended, because an earlier record of the key {key!r} was not", retryable=True)


def append_in_batches(
    entries: Iterable[Any],
    composer: RecordComposer,
    append: Callable[[list[NewRecord]], list[Position | PortableError]],
    *,
    max_batch: int,
    return_errors: bool,
) -> BatchResult[Position]:
    """Append any number of records; an entry that fails holds back only the rest of its key.

    Args:
        entries: data, `Outgoing`, `Record` or `NewRecord`.
        composer: checks and encodes each.
        append: one call of the driver.
        max_batch: how many a call takes.
        return_errors: whether failures are only returned.

    Raises:
        BatchError: an entry failed, and `return_errors` is false.
    """
    batch = _Batch(append, max_batch)
    batch.run(several(entries, "records"), composer)
    result: BatchResult[Position] = BatchResult(batch.results)  # type: ignore[arg-type]  # every entry was appended or failed
    if not return_errors and (failed := result.failed):
        first = next(iter(failed))
        raise BatchError(
            f"{len(failed)} of {len(batch.results)} records were not appended; "
            f"the first is entry {first}: {failed[first]}",
            result=result,
        )
    return result
