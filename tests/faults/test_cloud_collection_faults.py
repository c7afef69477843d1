"""DynamoDB and Firestore that refuse, throttle, do half of a batch, lose answers, or are gone for a while."""

from __future__ import annotations

import itertools
import json
import threading
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.cloud.firestore_v1 import types
from google.rpc import status_pb2  # type: ignore[import-untyped]  # Google gives no types with it

from portable import open_collection
from portable.collection import Collection
from portable.documents import Put
from portable.errors import (
    AlreadyExists,
    BatchError,
    DeadlineExceeded,
    InvalidArgument,
    LimitExceeded,
    PermissionDenied,
    PortableError,
    ResourceNotFound,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from tests.faults.between import Answer, Request, lost, times
from tests.faults.cloud_collections import VENDORS, Amazon, Google, Vendor, dynamodb_error, keys, opened, put_many
from tests.patience import PATIENCE, persistently
from tests.targets import own


@pytest.fixture
def name() -> str:
    return f"f-{uuid.uuid4().hex[:16]}"


@pytest.fixture(params=VENDORS)
def vendor(request: pytest.FixtureRequest) -> Iterator[Vendor]:
    made = VENDORS[request.param]()
    with made.between:
        yield made


@pytest.mark.parametrize(
    ("code", "ours"), [("expired", Unauthenticated), ("unknown", Unauthenticated), ("forbidden", PermissionDenied)]
)
def test_credentials_that_are_refused_are_told_and_work_again(
    vendor: Vendor, name: str, code: str, ours: type[PortableError]
) -> None:
    with opened(vendor, name) as books:
        for operation in (vendor.putting, vendor.getting):
            vendor.between.faults[operation] = vendor.refuse(code)
        calls: list[Callable[[], Any]] = [
            lambda: books.put({"id": "1"}),
            lambda: books.create({"id": "1"}),
            lambda: books.get("1"),
        ]
        for call in calls:
            with pytest.raises(ours) as caught:
                call()
            assert not caught.value.retryable
            assert not caught.value.maybe_applied
            assert name in str(caught.value)
        # The key was rotated, or the role given.
        vendor.between.faults.clear()
        books.create({"id": "1"})
        assert keys(books) == ["1"]


def test_a_table_that_is_gone_is_told(name: str) -> None:
    vendor = Amazon()
    with vendor.between, opened(vendor, name) as books:
        books.native.delete_table(TableName=name)
        for call in (
            lambda: books.put({"id": "1"}),
            lambda: books.create({"id": "1"}),
            lambda: books.get("1"),
            lambda: keys(books),
        ):
            with pytest.raises(ResourceNotFound, match="resources create"):
                call()
        with pytest.raises(BatchError) as caught:
            put_many(books, [{"id": "1"}, {"id": "2"}])
        assert {type(error) for error in caught.value.result.failed.values()} == {ResourceNotFound}


def writes(books: Collection[Any], vendor: Vendor) -> dict[str, tuple[str, Callable[[str], Any]]]:
    """Give every way to write one document, with the operation that it comes to."""
    return {
        "put": (vendor.putting, lambda key: books.put({"id": key})),
        "create": (vendor.creating, lambda key: books.create({"id": key})),
        "transact": (vendor.transacting, lambda key: books.transact([Put({"id": key})])),
    }


@pytest.mark.parametrize("way", ["put", "create", "transact"])
def test_throttling_that_ends_is_waited_for(vendor: Vendor, name: str, way: str) -> None:
    with opened(vendor, name, retries=3) as books:
        operation, write = writes(books, vendor)[way]
        vendor.between.faults[operation] = times(1, vendor.refuse("slow"))
        write("1")
        assert vendor.between.calls[operation] == 2
        vendor.between.faults[vendor.getting] = times(1, vendor.refuse("slow"))
        assert books.get("1").key == "1"


@pytest.mark.parametrize("way", ["put", "create", "transact"])
def test_throttling_that_does_not_end_is_told(vendor: Vendor, name: str, way: str) -> None:
    with opened(vendor, name, retries=1, timeout=vendor.telling) as books:
        operation, write = writes(books, vendor)[way]
        vendor.between.faults[operation] = vendor.refuse("slow")
        with pytest.raises(Throttled) as caught:
            write("1")
        assert caught.value.retryable
        assert not caught.value.maybe_applied
        assert vendor.between.calls[operation] > 1
        vendor.between.faults.clear()
        assert keys(books) == []


@pytest.mark.parametrize("way", ["create", "transact"])
def test_a_conditional_write_whose_answer_is_lost_may_have_been_done_and_is_not_repeated(
    vendor: Vendor, name: str, way: str
) -> None:
    with opened(vendor, name, retries=3) as books:
        operation, write = writes(books, vendor)[way]
        vendor.between.faults[operation] = lost
        with pytest.raises((Unavailable, DeadlineExceeded)) as caught:
            write("1")
        assert caught.value.maybe_applied
        assert vendor.between.calls[operation] == 1
        vendor.between.faults.clear()
        with pytest.raises(AlreadyExists):
            books.create({"id": "1"})


def test_a_put_whose_answer_is_lost_once_goes_through(vendor: Vendor, name: str) -> None:
    with opened(vendor, name, retries=3) as books:
        vendor.between.faults[vendor.putting] = times(1, lost)
        books.put({"id": "1", "n": 1})
        assert vendor.between.calls[vendor.putting] == 2
        vendor.between.faults[vendor.getting] = times(1, lost)
        assert books.get("1").data == {"id": "1", "n": 1}


def test_a_service_that_fails_is_unavailable(vendor: Vendor, name: str) -> None:
    with opened(vendor, name, retries=0, timeout=vendor.telling) as books:
        vendor.between.faults[vendor.putting] = vendor.refuse("broken")
        with pytest.raises(Unavailable) as caught:
            books.put({"id": "1"})
        assert caught.value.retryable
        assert caught.value.maybe_applied


def test_amazon_is_gone_after_an_answer_was_lost(name: str) -> None:
    vendor = Amazon()
    with vendor.between, opened(vendor, name, retries=2) as books:

        def fault(request: Request, passed: Any) -> None:
            vendor.between.refuse_connections()
            lost(request, passed)

        vendor.between.faults["PutItem"] = fault
        with pytest.raises(Unavailable) as caught:
            books.put({"id": "1"})
        assert caught.value.maybe_applied
        with pytest.raises(Unavailable) as caught:
            books.put({"id": "2"})
        assert not caught.value.maybe_applied
    with open_collection(vendor.direct, name=name) as books:
        assert keys(books) == ["1"]


# DynamoDB's own.


def test_another_transaction_under_way_is_waited_for(name: str) -> None:
    vendor = Amazon()
    with vendor.between, opened(vendor, name, retries=2) as books:
        conflict = dynamodb_error(400, "TransactionConflictException")
        puts: list[Callable[[], Any]] = [lambda: books.put({"id": "1"}), lambda: books.create({"id": "2"})]
        for write in puts:
            vendor.between.faults["PutItem"] = times(1, lambda request, passed: conflict)
            vendor.between.calls.clear()
            write()
            assert vendor.between.calls["PutItem"] == 2
        vendor.between.faults["PutItem"] = lambda request, passed: conflict
        with pytest.raises(Unavailable, match="another transaction") as caught:
            books.put({"id": "1"})
        assert not caught.value.maybe_applied
        cancelled = dynamodb_error(
            400, "TransactionCanceledException", CancellationReasons=[{"Code": "TransactionConflict"}]
        )
        vendor.between.faults["TransactWriteItems"] = times(2, lambda request, passed: cancelled)
        books.transact([Put({"id": "3"})])
        assert keys(books) == ["1", "2", "3"]


def test_a_transaction_that_is_throttled_as_a_whole_is_told(name: str) -> None:
    vendor = Amazon()
    with vendor.between, opened(vendor, name, retries=1) as books:
        reasons = [{"Code": "None"}, {"Code": "ThrottlingError"}]
        cancelled = dynamodb_error(400, "TransactionCanceledException", CancellationReasons=reasons)
        vendor.between.faults["TransactWriteItems"] = lambda request, passed: cancelled
        with pytest.raises(Throttled):
            books.transact([Put({"id": "1"}), Put({"id": "2"})])
        assert vendor.between.calls["TransactWriteItems"] == 2


def leaving(every: int) -> Callable[[Request, Callable[[Request], Answer]], Answer]:
    """Leave every so-manieth entry of a batch undone, each time."""
    numbers = itertools.count()

    def fault(request: Request, passed: Callable[[Request], Answer]) -> Answer:
        body = json.loads(request.body)
        ((table, entries),) = body["RequestItems"].items()
        undone = [one for one in entries if next(numbers) % every == 0]
        kept = [one for one in entries if one not in undone]
        if kept:
            changed = json.dumps({**body, "RequestItems": {table: kept}}).encode()
            answer = passed(Request(request.method, request.path, request.headers, changed))
            assert answer.status == 200
        left = {"UnprocessedItems": {table: undone} if undone else {}}
        return Answer(200, json.dumps(left).encode(), {"Content-Type": "application/x-amz-json-1.0"})

    return fault


def test_what_dynamodb_leaves_of_a_batch_is_asked_again(name: str) -> None:
    vendor = Amazon()
    with vendor.between, opened(vendor, name) as books:
        vendor.between.faults["BatchWriteItem"] = leaving(3)
        documents = [{"id": str(number)} for number in range(60)]
        result = put_many(books, documents)
        assert not result.failed
        assert vendor.between.calls["BatchWriteItem"] > 3
        vendor.between.faults.clear()

        def unread(request: Request, passed: Callable[[Request], Answer]) -> Answer:
            body = json.loads(request.body)
            ((table, asked),) = body["RequestItems"].items()
            keys = asked["Keys"]
            half = {table: {**asked, "Keys": keys[: len(keys) // 2 + 1]}}
            changed = json.dumps({**body, "RequestItems": half}).encode()
            answer = json.loads(passed(Request(request.method, request.path, request.headers, changed)).body)
            if rest := keys[len(keys) // 2 + 1 :]:
                answer["UnprocessedKeys"] = {table: {**asked, "Keys": rest}}
            return Answer(200, json.dumps(answer).encode(), {"Content-Type": "application/x-amz-json-1.0"})

        vendor.between.faults["BatchGetItem"] = unread
        wanted = [one["id"] for one in documents]
        found = books.get_many(wanted)
        assert list(found) == wanted


def test_what_dynamodb_never_does_of_a_batch_is_told_entry_by_entry(name: str) -> None:
    vendor = Amazon()
    with vendor.between, opened(vendor, name) as books:

        def odd_never(request: Request, passed: Callable[[Request], Answer]) -> Answer:
            body = json.loads(request.body)
            ((table, entries),) = body["RequestItems"].items()
            undone = [one for one in entries if int(one["PutRequest"]["Item"]["document_key"]["S"]) % 2]
            kept = [one for one in entries if one not in undone]
            if kept:
                changed = json.dumps({**body, "RequestItems": {table: kept}}).encode()
                passed(Request(request.method, request.path, request.headers, changed))
            left = json.dumps({"UnprocessedItems": {table: undone}}).encode()
            return Answer(200, left, {"Content-Type": "application/x-amz-json-1.0"})

        vendor.between.faults["BatchWriteItem"] = odd_never
        with pytest.raises(BatchError) as caught:
            put_many(books, [{"id": str(number)} for number in range(10)], timeout=2.0)
        failed = caught.value.result.failed
        assert {index: type(error) for index, error in failed.items()} == dict.fromkeys((1, 3, 5, 7, 9), Throttled)
        assert not any(error.maybe_applied for error in failed.values())
        vendor.between.faults.clear()
        assert keys(books) == ["0", "2", "4", "6", "8"]


def test_an_item_that_dynamodb_finds_too_large_is_told(name: str) -> None:
    vendor = Amazon()
    said = json.dumps(
        {
            "__type": "com.amazon.coral.validate#ValidationException",
            "message": "Item size has exceeded the maximum allowed size",
        }
    ).encode()
    with vendor.between, opened(vendor, name) as books:
        vendor.between.faults["PutItem"] = lambda request, passed: Answer(400, said)
        with pytest.raises(LimitExceeded, match="Item size"):
            books.put({"id": "1"})


# Firestore's own.


def with_statuses(codes: dict[int, int]) -> Callable[[bytes, Callable[[bytes], list[bytes]]], list[bytes]]:
    """Have some entries of a batch end with a status, and not be written."""

    def fault(request: bytes, passed: Callable[[bytes], list[bytes]]) -> list[bytes]:
        asked = types.BatchWriteRequest.deserialize(request)
        kept = [one for index, one in enumerate(asked.writes) if index not in codes]
        answer = types.BatchWriteResponse()
        if kept:
            changed = types.BatchWriteRequest(database=asked.database, writes=kept)
            answer = types.BatchWriteResponse.deserialize(passed(types.BatchWriteRequest.serialize(changed))[0])
        done = iter(zip(answer.status, answer.write_results, strict=True))
        made = types.BatchWriteResponse()
        for index in range(len(asked.writes)):
            refused = (status_pb2.Status(code=codes.get(index, 0), message="on purpose"), types.WriteResult())
            status, result = refused if index in codes else next(done)
            made.status.append(status)
            made.write_results.append(result)
        return [types.BatchWriteResponse.serialize(made)]

    return fault


def test_firestore_refuses_some_of_a_batch(name: str) -> None:
    vendor = Google()
    with vendor.between, opened(vendor, name) as books:
        vendor.between.faults["BatchWrite"] = with_statuses({3: 7, 4: 13})
        with pytest.raises(BatchError) as caught:
            put_many(books, [{"id": str(number)} for number in range(6)])
        failed = caught.value.result.failed
        assert {index: type(error) for index, error in failed.items()} == {3: PermissionDenied, 4: Unavailable}
        vendor.between.faults.clear()
        assert keys(books) == ["0", "1", "2", "5"]


def test_what_firestore_puts_off_of_a_batch_is_asked_again(name: str) -> None:
    vendor = Google()
    with vendor.between, opened(vendor, name) as books:
        vendor.between.faults["BatchWrite"] = times(2, with_statuses({0: 8, 1: 10}))
        documents = [{"id": str(number)} for number in range(4)]
        assert not put_many(books, documents).failed
        assert vendor.between.calls["BatchWrite"] == 3
        assert keys(books) == ["0", "1", "2", "3"]
        vendor.between.faults["BatchWrite"] = with_statuses({0: 8, 1: 10})
        with pytest.raises(BatchError) as caught:
            put_many(books, [{"id": str(number), "new": True} for number in range(4)], timeout=4.0)
        failed = caught.value.result.failed
        assert {index: type(error) for index, error in failed.items()} == {0: Throttled, 1: Throttled}
        assert not any(error.maybe_applied for error in failed.values())
        vendor.between.faults.clear()
        assert ["new" in books.get(str(number)).data for number in range(4)] == [False, False, True, True]


# Limits, before the network.


def test_what_is_too_large_is_refused_before_the_network(vendor: Vendor, name: str) -> None:
    with opened(vendor, name) as books:
        largest = books.capabilities.max_document_bytes
        assert largest is not None
        large = {"id": "1", "text": "x" * (largest + 1)}
        with pytest.raises(LimitExceeded, match=str(largest)):
            books.put(large)
        with pytest.raises(InvalidArgument, match="1024"):
            books.put({"id": "x" * 1025})
        with pytest.raises(InvalidArgument, match="1024"):
            books.get("x" * 1025)
        assert not vendor.between.calls
        with pytest.raises(BatchError) as caught:
            put_many(books, [{"id": "0"}, large, {"id": "2"}])
        assert {index: type(error) for index, error in caught.value.result.failed.items()} == {1: LimitExceeded}
        assert keys(books) == ["0", "2"]


def test_the_longest_key_and_value_are_taken(vendor: Vendor, name: str) -> None:
    with opened(vendor, name) as books:
        key = "ä" * 512
        books.put({"id": key, "text": "x"})
        assert books.get(key).key == key
        assert keys(books) == [key]


# Services that are killed: neither emulator keeps anything.


@pytest.mark.thorough
@pytest.mark.parametrize("kind", VENDORS)
def test_a_service_that_comes_back_empty_is_told_and_used_again(kind: str, name: str) -> None:
    with own(VENDORS[kind].target) as server:
        told: list[PortableError] = []
        done, gone = threading.Event(), threading.Event()
        how: dict[str, Any] = {"name": name, "timeout": 5.0, "retries": 1}
        with open_collection(server.url, create="if_missing", **how) as books:
            books.check()
            numbers = itertools.count()

            def work(call: Callable[[str], Any]) -> None:
                while not done.is_set():
                    try:
                        call(str(next(numbers)))
                    except PortableError as error:
                        told.append(error)
                        gone.set()

            calls: list[Callable[[str], Any]] = [
                lambda key: books.put({"id": key}),
                lambda key: books.create({"id": key}),
                lambda key: books.get_many([key]),
                lambda key: put_many(books, [{"id": key}, {"id": f"{key}-2"}]),
            ]
            threads = [threading.Thread(target=work, args=(call,)) for call in calls]
            for thread in threads:
                thread.start()
            try:
                server.kill()
                assert gone.wait(PATIENCE)
                server.ready()
            finally:
                done.set()
                for thread in threads:
                    thread.join(PATIENCE)
            assert not any(thread.is_alive() for thread in threads)
            expected = (Unavailable, DeadlineExceeded, ResourceNotFound)
            for error in told:
                inner = error.result.failed.values() if isinstance(error, BatchError) else [error]
                assert all(isinstance(one, expected) for one in inner), error
            with open_collection(server.url, create="if_missing", **how) as again:
                persistently(again.check)
            persistently(lambda: books.put({"id": "after"}))
            assert books.get("after").key == "after"
