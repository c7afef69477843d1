"""Batches of SQS and SNS: packed by count and size, with an answer for each entry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from botocore.exceptions import ClientError

from portable.errors import InvalidArgument, LeaseLost, PortableError, PreconditionFailed, Unavailable
from portable_aws.service_errors import FAILURES, is_lost, translated
from portable_aws.sqs_messages import Entry

__all__ = ["BATCH", "send_all", "settle_all"]

BATCH = 10


def send_all(
    entries: Sequence[Entry | PortableError],
    keys: Sequence[str | None],
    call: Callable[[list[tuple[str, Entry]]], Any],
    *,
    most_bytes: int,
) -> list[str | PortableError]:
    """Send messages in as few calls as hold them; of an ordering key one a call, so that none overtakes a failed one.

    Args:
        entries: what is sent, or why it cannot be.
        keys: for each the key that keeps its order, or None.
        call: sends a batch of entries, each with its id in the batch.
        most_bytes: how large a batch may be.
    """
    answers: dict[int, str | PortableError] = {}
    failed: set[str | None] = set()
    waiting = list(range(len(entries)))
    while waiting:
        batch: list[tuple[str, Entry]] = []
        size, taken = 0, set[str]()
        for index in waiting:
            entry, key = entries[index], keys[index]
            if key is not None and key in failed:
                answers[index] = PreconditionFailed(
                    f"not sent, because an earlier message of the ordering key {key!r} was not", retryable=True
                )
            elif key is not None and key in taken:
                continue
            elif isinstance(entry, PortableError):
                answers[index] = entry
                failed.add(key)
            else:
                if len(batch) < BATCH and size + entry.size <= most_bytes:
                    batch.append((str(index), entry))
                    size += entry.size
                if key is not None:
                    # What did not fit holds back what is behind it.
                    taken.add(key)
        try:
            answers |= _sent(batch, call)
        except FAILURES as error:
            if not any(isinstance(one, str) for one in answers.values()):
                raise translated(error) from error
            # What was sent before is sent.
            answers |= dict.fromkeys((int(id_) for id_, _ in batch), translated(error))
        failed |= {keys[int(id_)] for id_, _ in batch if not isinstance(answers[int(id_)], str)}
        waiting = [index for index in waiting if index not in answers]
    return [answers[index] for index in range(len(entries))]


def _sent(
    batch: list[tuple[str, Entry]], call: Callable[[list[tuple[str, Entry]]], Any]
) -> dict[int, str | PortableError]:
    if not batch:
        return {}
    answer = call(batch)
    unknown = Unavailable("the service did not say what became of it", maybe_applied=True)
    answers: dict[int, str | PortableError] = {int(id_): unknown for id_, _ in batch}
    answers |= {int(one["Id"]): str(one["MessageId"]) for one in answer.get("Successful", ())}
    return answers | {int(one["Id"]): _refused(one, "Send", answer) for one in answer.get("Failed", ())}


def settle_all(receipts: Sequence[str], call: Callable[[list[dict[str, Any]]], Any]) -> list[PortableError | None]:
    """Settle deliveries; for each, None or its error.

    Args:
        receipts: the handles of the deliveries.
        call: settles a batch of entries that have an id and a handle.
    """
    answers: list[PortableError | None] = [None] * len(receipts)
    for start in range(0, len(receipts), BATCH):
        chunk = receipts[start : start + BATCH]
        entries = [{"Id": str(start + index), "ReceiptHandle": receipt} for index, receipt in enumerate(chunk)]
        try:
            answer = call(entries)
        except FAILURES as error:
            answers[start : start + BATCH] = [translated(error)] * len(chunk)
            continue
        for one in answer.get("Failed", ()):
            refused: PortableError = _refused(one, "Settle", answer)
            if isinstance(refused, InvalidArgument):
                # Of a delivery there is one argument that can be wrong: the handle, once its lease has run out.
                lost = refused.maybe_applied
                refused = LeaseLost("the lease ran out, and the message went on without it", maybe_applied=lost)
            answers[int(one["Id"])] = refused
    return answers


def _refused(failure: dict[str, Any], operation: str, answer: Any) -> PortableError:
    """Give the error of an entry; where an attempt before was lost, it may have been what did it."""
    status = 400 if failure.get("SenderFault") else 500
    error = translated(
        ClientError(
            {
                "Error": {"Code": failure.get("Code", ""), "Message": failure.get("Message", "")},
                "ResponseMetadata": {"HTTPStatusCode": status},
            },
            operation,
        )
    )
    error.maybe_applied = error.maybe_applied or is_lost(answer)
    return error
