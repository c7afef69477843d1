"""Collections of two clouds by way of a server that can refuse, change and lose: what their fault tests share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from portable import open_collection
from portable.batches import BatchResult
from portable.collection import Collection
from portable.documents import Put
from tests.faults.between import Answer, Between, GrpcBetween, Refusal
from tests.patience import PATIENCE
from tests.targets import target

__all__ = ["VENDORS", "Amazon", "Google", "Vendor", "dynamodb_error", "keys", "opened", "put_many"]


class Vendor:
    """One cloud's collections, by way of a server that can refuse and lose.

    Attributes:
        putting: the operation that writes a document, whatever is there.
        creating: the operation that writes one on a condition.
        getting: the operation that reads one.
        batching: the operation that writes several, each for itself.
        transacting: the operation that writes several, all or none.
        telling: seconds after which a call that is refused all the time has failed: what has no number of attempts
            goes on until its time is over.
        between: the server.
    """

    telling = PATIENCE
    putting: str
    creating: str
    getting: str
    batching: str
    transacting: str
    target: str

    def __init__(self) -> None:
        self.direct = target(self.target)
        self.between: Any = self.server(self.direct)

    @staticmethod
    def server(url: str) -> Any:
        return Between(url)

    def refuse(self, code: str) -> Callable[..., Any]:
        """Give the fault that answers `slow`, `expired`, `unknown`, `forbidden`, `missing` or `broken`."""
        raise NotImplementedError


def dynamodb_error(status: int, code: str, **more: Any) -> Answer:
    said = {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "on purpose", **more}
    return Answer(status, json.dumps(said).encode(), {"Content-Type": "application/x-amz-json-1.0"})


class Amazon(Vendor):
    putting, creating, getting = "PutItem", "PutItem", "GetItem"
    batching, transacting = "BatchWriteItem", "TransactWriteItems"
    target = "dynamodb-local"
    codes = {  # noqa: RUF012 (of the test)
        "slow": (400, "ProvisionedThroughputExceededException"),
        "expired": (400, "ExpiredTokenException"),
        "unknown": (400, "UnrecognizedClientException"),
        "forbidden": (400, "AccessDeniedException"),
        "missing": (400, "ResourceNotFoundException"),
        "broken": (500, "InternalServerError"),
    }

    def refuse(self, code: str) -> Callable[..., Any]:
        answer = dynamodb_error(*self.codes[code])
        return lambda request, passed: answer


class Google(Vendor):
    putting, creating, getting = "Commit", "Commit", "BatchGetDocuments"
    batching, transacting = "BatchWrite", "Commit"
    target = "firestore-emulator"
    telling = 4.0
    codes = {  # noqa: RUF012 (of the test)
        "slow": grpc.StatusCode.RESOURCE_EXHAUSTED,
        "expired": grpc.StatusCode.UNAUTHENTICATED,
        "unknown": grpc.StatusCode.UNAUTHENTICATED,
        "forbidden": grpc.StatusCode.PERMISSION_DENIED,
        "missing": grpc.StatusCode.NOT_FOUND,
        "broken": grpc.StatusCode.INTERNAL,
    }

    @staticmethod
    def server(url: str) -> Any:
        return GrpcBetween(url)

    def refuse(self, code: str) -> Callable[..., Any]:
        def fault(request: bytes, passed: Any) -> Any:
            raise Refusal(self.codes[code])

        return fault


VENDORS: dict[str, type[Vendor]] = {"dynamodb": Amazon, "firestore": Google}


@contextmanager
def opened(vendor: Vendor, name: str, **how: Any) -> Iterator[Collection[Any]]:
    """Open a collection through the server between, and make sure of it before anything goes wrong."""
    with open_collection(vendor.between.url, name=name, create="if_missing", **{"timeout": PATIENCE, **how}) as books:
        books.check()
        vendor.between.calls.clear()
        yield books


def keys(books: Collection[Any]) -> list[Any]:
    """Give the keys of all documents, in order."""
    return [one.key for one in books.query(allow_scan=True)]


def put_many(books: Collection[Any], documents: list[dict[str, Any]], **how: Any) -> BatchResult[Any]:
    """Put documents in one batch."""
    return books.write_many([Put(one) for one in documents], **how)
