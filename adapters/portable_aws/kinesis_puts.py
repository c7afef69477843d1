"""Appending to Kinesis: calls packed by count and size, what is refused put again, record by record."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Any

from botocore.exceptions import ClientError

from portable.errors import PortableError, PreconditionFailed, Unavailable
from portable.records import Position
from portable_aws.kinesis_records import Entry, value
from portable_aws.service_errors import FAILURES, translated

__all__ = ["BATCH", "Puts"]

# https://docs.aws.amazon.com/kinesis/latest/APIReference/API_PutRecords.html
BATCH = 500
MOST_BYTES = 5 * 1024 * 1024

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0
"""Seconds before what was refused is put again: twice as many each time, and by chance down to half."""

Answer = Position | PortableError


class Puts:
    """Puts the records of one call of the driver.

    Args:
        call: one call of PutRecords, which repeats nothing by itself.
        retries: how often a record is put again that was refused.
        deadline: when to give up, by `monotonic`.
    """

    def __init__(self, call: Callable[[list[dict[str, Any]]], Any], *, retries: int, deadline: float) -> None:
        self._call = call
        self._retries = retries
        self._deadline = deadline

    def run(self, entries: Sequence[Entry | PortableError], keys: Sequence[str | None]) -> list[Answer]:
        """Put records, of a key one a call: Kinesis keeps no order within a call, and refuses single records.

        Args:
            entries: what is put, or why it cannot be.
            keys: for each the key that keeps its order, or None.

        Raises:
            PortableError: the first call failed as a whole.
        """
        answers: dict[int, Answer] = {}
        failed: set[str] = set()
        waiting = list(range(len(entries)))
        while waiting:
            wave = self._wave(waiting, entries, keys, answers, failed)
            try:
                self._put({index: entries[index] for index in wave}, answers)  # type: ignore[misc]  # errors are no part of a wave
            except PortableError as error:
                if not any(isinstance(answer, Position) for answer in answers.values()):
                    raise
                # What was appended before is appended; what was not tried certainly is not.
                answers.update({index: answers.get(index, error) for index in wave})
                answers.update({index: answers.get(index, _not_tried()) for index in waiting})
            failed.update(key for index in wave if (key := keys[index]) and isinstance(answers[index], PortableError))
            waiting = [index for index in waiting if index not in answers]
        return [answers[index] for index in range(len(entries))]

    def _wave(
        self,
        waiting: list[int],
        entries: Sequence[Entry | PortableError],
        keys: Sequence[str | None],
        answers: dict[int, Answer],
        failed: set[str],
    ) -> list[int]:
        """Choose what the next call puts; answer what cannot be put at all."""
        wave: list[int] = []
        size, taken = 0, set[str]()
        for index in waiting:
            entry, key = entries[index], keys[index]
            if key is not None and key in failed:
                answers[index] = PreconditionFailed(
                    f"not appended, because an earlier record of the key {key!r} was not", retryable=True
                )
            elif key is not None and key in taken:
                continue
            elif isinstance(entry, PortableError):
                answers[index] = entry
                if key is not None:
                    failed.add(key)
            else:
                if len(wave) < BATCH and size + entry.size <= MOST_BYTES:
                    wave.append(index)
                    size += entry.size
                if key is not None:
                    # What did not fit holds back what is behind it.
                    taken.add(key)
        return wave

    def _put(self, wave: dict[int, Entry], answers: dict[int, Answer]) -> None:
        """Put records, and again those that were refused, until the retries or the time are over."""
        tries = 0
        while wave:
            refused: dict[int, PortableError] = {}
            try:
                found = self._call([entry.fields() for entry in wave.values()])["Records"]
            except FAILURES as error:
                ours = translated(error)
                # Whatever may have been done is not done again.
                if not ours.retryable or ours.maybe_applied or not self._again(tries):
                    raise ours from error
            else:
                for index, one in zip(wave, found, strict=True):
                    if one.get("ErrorCode"):
                        refused[index] = _refusal(one)
                    else:
                        answers[index] = Position(one["ShardId"], value(one["SequenceNumber"]))
                if not refused or not self._again(tries):
                    answers.update(refused)
                    return
                wave = {index: wave[index] for index in refused}
            tries += 1

    def _again(self, tries: int) -> bool:
        """Whether to try again; waits before it says so."""
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**tries) * random.uniform(0.5, 1)  # noqa: S311 (spreads load, hides nothing)
        if tries >= self._retries or monotonic() + pause >= self._deadline:
            return False
        sleep(pause)
        return True


def _refusal(one: dict[str, Any]) -> PortableError:
    """Give the error of a record that Kinesis did not take."""
    code = str(one.get("ErrorCode"))
    if code == "InternalFailure":
        return Unavailable("the service did not take the record (InternalFailure)")
    answer: Any = {
        "Error": {"Code": code, "Message": one.get("ErrorMessage", "")},
        "ResponseMetadata": {"HTTPStatusCode": 400},
    }
    return translated(ClientError(answer, "PutRecords"))


def _not_tried() -> PreconditionFailed:
    return PreconditionFailed("not appended, because the call before it failed", retryable=True)
