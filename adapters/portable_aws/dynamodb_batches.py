"""Batches of DynamoDB, which does as much of one as it likes: what it leaves is asked again."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic
from typing import Any

from portable.backoff import Backoff
from portable.errors import DeadlineExceeded, PortableError, Throttled
from portable_aws.service_errors import FAILURES, translated

__all__ = ["Identity", "identity", "read_all", "write_all"]

Identity = tuple[str, str]

_BUSY = "the table is too busy, and the time is over; try again"


def write_all(
    client: Any, table: str, requests: list[dict[str, Any]], left: dict[Identity, int], deadline: float
) -> PortableError | None:
    """Write a batch until nothing of it is left; where that fails, say why.

    Args:
        client: boto3's.
        table: the table's name.
        requests: the entries of the batch.
        left: by `identity`, which entry is which; those that are done are taken out.
        deadline: when to give up, by `monotonic`.
    """
    backoff = Backoff(deadline - monotonic(), _BUSY)
    while left:
        try:
            answer = client.batch_write_item(RequestItems={table: requests})
            requests = answer.get("UnprocessedItems", {}).get(table, [])
            for done in left.keys() - {identity(request) for request in requests}:
                del left[done]
            if left:
                backoff.rest()
        except FAILURES as error:
            return translated(error)
        except DeadlineExceeded as error:
            return Throttled(error.message)
    return None


def read_all(client: Any, table: str, keys: list[dict[str, Any]], deadline: float) -> Iterator[dict[str, Any]]:
    """Give the items that are there, in any order.

    Args:
        client: boto3's.
        table: the table's name.
        keys: the primary keys.
        deadline: when to give up, by `monotonic`.

    Raises:
        Throttled: the table did not give all of them in time.
    """
    backoff = Backoff(deadline - monotonic(), _BUSY)
    while keys:
        answer = client.batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})
        yield from answer["Responses"].get(table, ())
        keys = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
        if keys:
            try:
                backoff.rest()
            except DeadlineExceeded as error:
                raise Throttled(error.message) from None


def identity(request: dict[str, Any]) -> Identity:
    """Give the key of what an entry of a batch writes or deletes."""
    key = request["PutRequest"]["Item"] if "PutRequest" in request else request["DeleteRequest"]["Key"]
    return key["pk"]["S"], key["sk"]["S"]
