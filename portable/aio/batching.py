"""Batches of messages of any size, in calls that a driver takes: in order within an ordering key, side by side else."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from portable.aio._concurrency import Host, gather
from portable.batches import BatchResult
from portable.composing import Composer, several
from portable.errors import BatchError, PortableError, PreconditionFailed
from portable.messages import Outgoing

__all__ = ["send_in_batches"]

_Send = Callable[[list[Outgoing]], Awaitable[list[str | PortableError]]]
_Compose = Callable[[Any], Awaitable[Outgoing]]
_Lane = list[tuple[int, Outgoing]]


class _Batch:
    """One batch under way.

    Attributes:
        results: each entry's id or error; None while neither is known.
    """

    def __init__(self, size: int, send: _Send, max_batch: int) -> None:
        self.results: list[str | PortableError | None] = [None] * size
        self._send = send
        self._max_batch = max_batch
        # By ordering key, the first entry that failed.
        self._failed_keys: dict[str, int] = {}

    async def compose(self, entries: list[Any], composer: Composer, special: _Compose | None) -> _Lane:
        """Check and encode every entry; what is refused is a result already."""
        composed: _Lane = []
        for index, entry in enumerate(entries):
            key = entry.ordering_key if isinstance(entry, Outgoing) else None
            if key is not None and key in self._failed_keys:
                self.results[index] = _not_sent(key)
                continue
            try:
                outgoing = composer.outgoing(entry) if special is None else await special(entry)
            except PortableError as error:
                self._fail(index, key, error)
            else:
                composed.append((index, outgoing))
        return composed

    async def run(self, lane: _Lane) -> None:
        """Send the entries of a lane, one call after the other."""
        for start in range(0, len(lane), self._max_batch):
            chunk = lane[start : start + self._max_batch]
            if self._failed_keys:
                chunk = [(index, entry) for index, entry in chunk if not self._held_back(index, entry)]
                if not chunk:
                    continue
            try:
                answers = await self._send([entry for _, entry in chunk])
            except PortableError as error:
                # The backend as a whole failed: what comes after would only fail more slowly.
                for index, entry in lane[start:]:
                    if self.results[index] is None:
                        self._fail(index, entry.ordering_key, error)
                return
            for (index, entry), answer in zip(chunk, answers, strict=True):
                if isinstance(answer, str):
                    self.results[index] = answer
                else:
                    self._fail(index, entry.ordering_key, answer)

    def _held_back(self, index: int, entry: Outgoing) -> bool:
        key = entry.ordering_key
        if key is None or self._failed_keys.get(key, index) >= index:
            return False
        self.results[index] = _not_sent(key)
        return True

    def _fail(self, index: int, key: str | None, error: PortableError) -> None:
        self.results[index] = error
        if key is not None:
            self._failed_keys[key] = min(index, self._failed_keys.get(key, index))


def _not_sent(key: str) -> PreconditionFailed:
    return PreconditionFailed(
        f"not sent, because an earlier message of the ordering key {key!r} was not", retryable=True
    )


def _lanes(composed: _Lane, max_batch: int, concurrency: int) -> list[_Lane]:
    """Deal the entries out: all of one ordering key to one lane."""
    count = min(concurrency, -(-len(composed) // max_batch))
    if count <= 1:
        return [composed]
    lanes: list[_Lane] = [[] for _ in range(count)]
    for number, pair in enumerate(composed):
        key = pair[1].ordering_key
        lanes[(hash(key) if key is not None else number // max_batch) % count].append(pair)
    return lanes


async def send_in_batches(
    messages: Iterable[Any],
    composer: Composer,
    send: _Send,
    *,
    special: _Compose | None,
    max_batch: int,
    concurrency: int,
    host: Host,
    return_errors: bool,
) -> BatchResult[str]:
    """Send any number of messages; an entry that fails holds back only the rest of its ordering key.

    Args:
        messages: bodies, or `Outgoing`.
        composer: checks and encodes each.
        send: one call of the driver.
        special: replaces the composer where composing takes I/O.
        max_batch: how many a call takes.
        concurrency: how many calls at once.
        host: where they run.
        return_errors: whether failures are only returned.

    Raises:
        BatchError: an entry failed, and `return_errors` is false.
    """
    entries = list(several(messages, "messages"))
    batch = _Batch(len(entries), send, max_batch)
    composed = await batch.compose(entries, composer, special)
    lanes = _lanes(composed, max_batch, concurrency)
    if len(lanes) == 1:
        await batch.run(lanes[0])
    else:
        await gather([functools.partial(batch.run, lane) for lane in lanes], concurrency=concurrency, host=host)
    result: BatchResult[str] = BatchResult(batch.results)  # type: ignore[arg-type]  # every entry was sent or failed
    if not return_errors and (failed := result.failed):
        first = next(iter(failed))
        raise BatchError(
            f"{len(failed)} of {len(entries)} messages were not sent; the first is entry {first}: {failed[first]}",
            result=result,
        )
    return result
