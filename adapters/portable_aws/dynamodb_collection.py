"""Collections in DynamoDB: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import monotonic, sleep
from typing import Any, TypeVar

import msgspec

from portable.backoff import ChangedError, until_unchanged
from portable.bindings import Binding
from portable.capabilities import CollectionCapabilities
from portable.changes import Change
from portable.contracts import CollectionContract
from portable.document_layout import DocumentLayout
from portable.document_order import BEYOND, encode, place, spans
from portable.document_places import count_alive, place_of
from portable.document_values import expiry
from portable.document_writes import DocumentId, Modify, Remove, Save, Stored, Verify, Write, outcome, refused
from portable.errors import LimitExceeded, PortableError, ResourceNotFound
from portable.query_plan import Plan, SortPosition
from portable_aws.dynamodb_batches import identity, read_all, write_all
from portable_aws.dynamodb_items import ALL, index_columns, item_of, key_of, stored
from portable_aws.dynamodb_ranges import Range, cut
from portable_aws.dynamodb_table import Table
from portable_aws.regional import Regional, RegionalOptions
from portable_aws.service_errors import code_of, translating

__all__ = ["DynamoDbCollection", "DynamoDbOptions"]

T = TypeVar("T")

LARGEST = 380_000
"""Bytes of a document as JSON: DynamoDB's 400 KB an item has to hold keys and names, too."""

BATCH, READ_AT_ONCE, TRANSACTION = 25, 100, 100

LEARN_EVERY = 5.0
"""Seconds: a writer looks that often for indexes that others have added."""

_ALIVE = "(attribute_not_exists(expires) OR expires > :now)"


class DynamoDbOptions(RegionalOptions, frozen=True, kw_only=True):
    """`dynamodb://table-name?region=eu-west-1`."""


class DynamoDbCollection:
    """Satisfies `portable.drivers.CollectionDriver`."""

    Options = DynamoDbOptions
    capabilities = CollectionCapabilities(durability="power", big_int=True, max_document_bytes=LARGEST, max_batch=BATCH)

    def __init__(self, binding: Binding[DynamoDbOptions]) -> None:
        contract: Any = binding.contract
        self._contract: CollectionContract = contract
        self._binding = binding
        self._name = binding.name
        self._now = binding.clock
        self._regional = Regional(binding)
        self._partitioned = contract.partition is not None
        self._first = DocumentLayout(self._name, contract.key, contract.partition, contract.ttl)
        self._layout = self._first
        self._learned = 0.0

    @property
    def native(self) -> Any:
        """boto3's client of DynamoDB."""
        return self._client

    def open(self) -> None:
        """Connect, and find the table with its indexes, or make them where the binding says so."""
        changes = self.plan()
        if changes and self._binding.create:
            self.create()
        elif changes:
            raise ResourceNotFound(
                f"there is no {changes[0].what} {changes[0].name!r} {changes[0].detail}".rstrip()
                + "; make it with `portable resources create`"
            )

    def close(self) -> None:
        """Let go of the connections."""
        self._regional.close()

    def check(self, *, write: bool, timeout: float) -> None:  # noqa: ARG002 (the client bounds its calls)
        """Read what is known of the table; with `write`, write it as it is."""
        with translating():
            found = self._table.layout()
            if found is not None and write:
                self._table.keep(found)
        if found is None:
            raise ResourceNotFound(f"there is no table {self._name!r}; make it with `portable resources create`")

    def plan(self) -> list[Change]:
        """Say what would be made."""
        with translating():
            old = self._table.layout()
        wanted = (old or self._first).wanted(self._contract)
        self._know(wanted)
        return [] if old is not None and wanted == old and old.complete else wanted.changes(old)

    def create(self) -> None:
        """Make the table and its indexes, write down what is known of them, and fill in what documents lack."""
        with translating():
            old = self._table.layout()
            wanted = (old or self._first).wanted(self._contract)
            if wanted == old and wanted.complete:
                self._know(wanted)
                return
            self._table.make(wanted)
            if old is None:
                # A new table has nothing to fill in.
                wanted = msgspec.structs.replace(wanted, filled=len(wanted.indexes), timed=True)
                self._table.keep(wanted)
                self._know(wanted)
                return
            self._table.keep(wanted)
            self._know(wanted)
            # By then every writer knows of the new layout.
            sleep(LEARN_EVERY + 1)
            self._fill(wanted)
            complete = msgspec.structs.replace(wanted, filled=len(wanted.indexes), timed=True)
            self._table.keep(complete)
            self._know(complete)

    def get(self, id_: DocumentId, *, timeout: float) -> Stored | None:  # noqa: ARG002 (the client bounds its calls)
        """Give one document."""
        with translating():
            return stored(self._item(id_), self._now())

    def get_many(self, ids: Sequence[DocumentId], *, timeout: float) -> list[Stored | None]:
        """Give documents, in the order of their ids."""
        found: dict[DocumentId, Stored] = {}
        deadline = monotonic() + timeout
        wanted = list(dict.fromkeys(ids))
        with translating():
            for start in range(0, len(wanted), READ_AT_ONCE):
                for item in self._read(wanted[start : start + READ_AT_ONCE], deadline):
                    one = stored(item, self._now())
                    if one is not None:
                        found[one.id] = one
        return [found.get(id_) for id_ in ids]

    def write(self, write: Save | Modify | Remove, *, timeout: float) -> Stored | None:
        """Carry out one write, on DynamoDB's own conditions."""
        self._learn()
        with translating():
            if isinstance(write, Modify):
                return until_unchanged(lambda _: self._modify(write), timeout)
            try:
                if isinstance(write, Save):
                    return self._put(write)
                self._remove(write)
            except self._client.exceptions.ConditionalCheckFailedException as error:
                current = stored(error.response.get("Item"), self._now())
                raise refused(write, found=None if current is None else current.revision) from error
        return None

    def write_many(
        self, writes: Sequence[Save | Modify | Remove], *, timeout: float
    ) -> list[Stored | PortableError | None]:
        """Carry out writes, each for itself: those without conditions together."""
        self._learn()
        results: list[Stored | PortableError | None] = [None] * len(writes)
        deadline = monotonic() + timeout
        waiting: dict[DocumentId, int] = {}

        def flush() -> None:
            indexes = list(waiting.values())
            waiting.clear()
            if indexes:
                self._together(writes, indexes, results, deadline)

        for index, write in enumerate(writes):
            if write.id in waiting:
                flush()
            free = isinstance(write, Remove) or (isinstance(write, Save) and write.exists is None)
            if free and write.revision is None:
                waiting[write.id] = index
                continue
            try:
                results[index] = self.write(write, timeout=max(0.001, deadline - monotonic()))
            except PortableError as error:
                results[index] = error
        flush()
        return results

    def transact(self, writes: Sequence[Write], *, timeout: float) -> None:
        """Carry out all writes, or none: read, and write on condition that nothing of it has changed."""
        self._learn()
        if len(writes) > TRANSACTION:
            raise LimitExceeded(f"a transaction of DynamoDB holds {TRANSACTION} writes at most, not {len(writes)}")
        with translating():
            until_unchanged(lambda left: self._attempt(writes, left), timeout)

    def query(self, plan: Plan, *, after: SortPosition | None, limit: int, timeout: float) -> list[Stored]:  # noqa: ARG002 (the client bounds its calls)
        """Give the next documents of a plan."""
        found: list[Stored] = []
        now = self._now()
        with translating():
            for item in self._items(plan, after, limit):
                one = stored(item, now)
                if one is not None:
                    found.append(one)
                    if len(found) == limit:
                        break
        return found

    def count(self, plan: Plan, *, timeout: float) -> int:
        """Count the documents of a plan; where documents expire, by looking at each."""
        if self._contract.ttl is not None:
            return count_alive(lambda after, most: self.query(plan, after=after, limit=most, timeout=timeout), plan)
        whole = not plan.index and plan.partition is None
        with translating():
            ranges = [Range.everything()] if whole else self._asked(plan, None)
            return sum(self._counted(one) for one in ranges)

    def _counted(self, wanted: Range) -> int:
        if not wanted.excluded:
            return sum(answer["Count"] for answer in self._pages({**wanted.how(), "Select": "COUNT"}))
        pages = self._pages({**wanted.how(), "ProjectionExpression": wanted.sort})
        return sum(item[wanted.sort] not in wanted.excluded for answer in pages for item in answer["Items"])

    # What one write is to DynamoDB.

    def _put(self, save: Save) -> Stored:
        item = self._made(save)
        how: dict[str, Any] = {}
        values = {":now": {"N": f"{self._now():.3f}"}}
        if save.revision is not None:
            how["ConditionExpression"] = f"revision = :revision AND {_ALIVE}"
            values[":revision"] = {"S": save.revision}
        elif save.exists is True:
            how["ConditionExpression"] = f"attribute_exists(pk) AND {_ALIVE}"
        elif save.exists is False:
            how["ConditionExpression"] = "attribute_not_exists(pk) OR expires <= :now"
        if how:
            how |= {"ExpressionAttributeValues": values, "ReturnValuesOnConditionCheckFailure": "ALL_OLD"}
        self._conditional(how).put_item(TableName=self._name, Item=item, **how)
        return Stored(save.id, save.data, item["revision"]["S"])

    def _remove(self, write: Remove) -> None:
        how: dict[str, Any] = {}
        if write.revision is not None:
            how = {
                "ConditionExpression": f"revision = :revision AND {_ALIVE}",
                "ExpressionAttributeValues": {
                    ":revision": {"S": write.revision},
                    ":now": {"N": f"{self._now():.3f}"},
                },
                "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
            }
        self._conditional(how).delete_item(TableName=self._name, Key=self._key(write.id), **how)

    def _modify(self, write: Modify) -> Stored:
        current = stored(self._item(write.id), self._now())
        save = outcome(write, current)
        if save is None or current is None:
            raise refused(write, found=None)
        try:
            return self._put(msgspec.structs.replace(save, revision=current.revision))
        except self._client.exceptions.ConditionalCheckFailedException as error:
            raise ChangedError from error

    def _attempt(self, writes: Sequence[Write], timeout: float) -> None:
        found = dict(zip((one.id for one in writes), self._seen([one.id for one in writes], timeout), strict=True))
        now = self._now()
        entries: list[dict[str, Any]] = []
        for write in writes:
            item = found[write.id]
            save = outcome(write, stored(item, now))
            condition: dict[str, Any] = {"TableName": self._name, "ConditionExpression": "attribute_not_exists(pk)"}
            if item is not None:
                condition["ConditionExpression"] = "revision = :revision"
                condition["ExpressionAttributeValues"] = {":revision": item["revision"]}
            if save is not None:
                entries.append({"Put": {**condition, "Item": self._made(save)}})
            elif isinstance(write, Verify):
                entries.append({"ConditionCheck": {**condition, "Key": self._key(write.id)}})
            else:
                entries.append({"Delete": {**condition, "Key": self._key(write.id)}})
        try:
            self._once.transact_write_items(TransactItems=entries)
        except self._client.exceptions.TransactionCanceledException as error:
            reasons = {one.get("Code", "None") for one in error.response.get("CancellationReasons", ())}
            if reasons & {"ConditionalCheckFailed", "TransactionConflict"}:
                raise ChangedError from error
            raise
        except self._client.exceptions.ClientError as error:
            if code_of(error) in {"TransactionInProgressException", "TransactionConflictException"}:
                raise ChangedError from error
            raise

    def _together(
        self,
        writes: Sequence[Save | Modify | Remove],
        indexes: Sequence[int],
        results: list[Stored | PortableError | None],
        deadline: float,
    ) -> None:
        requests: list[dict[str, Any]] = []
        sent: list[int] = []
        for index in indexes:
            write = writes[index]
            try:
                if isinstance(write, Save):
                    item = self._made(write)
                    results[index] = Stored(write.id, write.data, item["revision"]["S"])
                    requests.append({"PutRequest": {"Item": item}})
                else:
                    requests.append({"DeleteRequest": {"Key": self._key(write.id)}})
                sent.append(index)
            except LimitExceeded as error:
                results[index] = error
        for start in range(0, len(requests), BATCH):
            chunk, whose = requests[start : start + BATCH], sent[start : start + BATCH]
            left = {identity(request): index for request, index in zip(chunk, whose, strict=True)}
            failure = write_all(self._client, self._name, chunk, left, deadline)
            for index in left.values():
                results[index] = failure

    # Reading.

    def _read(self, ids: Sequence[DocumentId], deadline: float) -> Iterator[dict[str, Any]]:
        return read_all(self._client, self._name, [self._key(id_) for id_ in ids], deadline)

    def _seen(self, ids: Sequence[DocumentId], timeout: float) -> list[dict[str, Any] | None]:
        """Give items as they are, expired ones too."""
        found = {
            (item["document_partition"]["S"], item["document_key"]["S"]): item
            for item in self._read(ids, monotonic() + timeout)
        }
        return [found.get(id_) for id_ in ids]

    def _item(self, id_: DocumentId) -> dict[str, Any] | None:
        answer = self._client.get_item(TableName=self._name, Key=self._key(id_), ConsistentRead=True)
        item: dict[str, Any] | None = answer.get("Item")
        return item

    def _items(self, plan: Plan, after: SortPosition | None, limit: int) -> Iterator[dict[str, Any]]:
        for asked in self._asked(plan, after):
            for answer in self._pages({**asked.how(), "ScanIndexForward": not plan.descending, "Limit": limit + 2}):
                for item in answer["Items"]:
                    if item[asked.sort] not in asked.excluded:
                        yield item

    def _pages(self, how: dict[str, Any]) -> Iterator[dict[str, Any]]:
        start: dict[str, Any] = {}
        while True:
            answer = self._client.query(TableName=self._name, **how, **start)
            yield answer
            if not answer.get("LastEvaluatedKey"):
                return
            start = {"ExclusiveStartKey": answer["LastEvaluatedKey"]}

    def _asked(self, plan: Plan, after: SortPosition | None) -> Iterator[Range]:
        """Give the ranges of DynamoDB that a plan comes to, in its order."""
        if plan.index:
            yield from self._of_index(plan, after)
        elif not self._partitioned:
            yield from cut([Range.everything()], None if after is None else {"B": after.id[1].encode()}, plan)
        elif plan.partition is not None:
            wanted = Range.of_keys(plan.partition, plan.ranges)
            yield from cut(wanted, None if after is None else {"S": after.id[1]}, plan)
        else:
            for partition in self._partitions(plan, after):
                inside = after is not None and after.id[0] == partition
                yield from cut(
                    Range.of_keys(partition, ()), {"S": after.id[1]} if inside and after is not None else None, plan
                )

    def _of_index(self, plan: Plan, after: SortPosition | None) -> Iterator[Range]:
        column = self._layout.columns[plan.index]
        hash_name, sort_name = index_columns(column)
        first = b"".join(map(encode, plan.equals[: len(plan.index) - 1]))
        ranges = [
            Range(
                column,
                hash_name,
                {"B": first or ALL},
                sort_name,
                {"B": low[len(first) :] or ALL},
                {"B": high[len(first) :]},
            )
            for low, high in spans(plan, after=BEYOND)
        ]
        start = None if after is None else {"B": place(plan, after.value)[len(first) :] + place_of(after.id)}
        yield from cut(ranges, start, plan)

    def _partitions(self, plan: Plan, after: SortPosition | None) -> Iterator[str]:
        """Give the partitions in order, each found by asking for the first document behind the one before."""
        everything = Range.everything()
        at = None if after is None else after.id[0]
        if at is not None:
            yield at
        while True:
            (behind,) = cut([everything], None if at is None else {"B": at.encode()}, plan)
            found = None
            for answer in self._pages({**behind.how(), "ScanIndexForward": not plan.descending, "Limit": 1000}):
                found = next((item for item in answer["Items"] if item["order_sort"] not in behind.excluded), None)
                if found is not None:
                    break
            if found is None:
                return
            at = str(found["document_partition"]["S"])
            yield at

    # Small things.

    @property
    def _client(self) -> Any:
        return self._regional.client("dynamodb")

    def _conditional(self, how: dict[str, Any]) -> Any:
        """Give the client: one that repeats nothing where a second attempt would meet the first."""
        return self._once if how else self._client

    @property
    def _once(self) -> Any:
        return self._regional.client("dynamodb", repeats=False, refused=True)

    @property
    def _table(self) -> Table:
        return Table(self._client, self._name)

    def _key(self, id_: DocumentId) -> dict[str, Any]:
        return key_of(id_, partitioned=self._partitioned)

    def _made(self, save: Save) -> dict[str, Any]:
        return item_of(save, self._layout, partitioned=self._partitioned)

    def _know(self, layout: DocumentLayout) -> None:
        self._layout = layout
        self._learned = monotonic()

    def _learn(self) -> None:
        """Look for indexes that others have added, so that what is written now has its place in them."""
        if monotonic() - self._learned >= LEARN_EVERY:
            with translating():
                found = self._table.layout()
            if found is not None:
                self._know(found.wanted(self._contract))

    def _fill(self, layout: DocumentLayout) -> None:
        """Write anew what was written under an older layout."""
        for answer in self._client.get_paginator("scan").paginate(
            TableName=self._name,
            ConsistentRead=True,
            FilterExpression="layout < :number AND attribute_exists(document_key)",
            ExpressionAttributeValues={":number": {"N": str(layout.number)}},
        ):
            for item in answer["Items"]:
                self._refill(item, layout)

    def _refill(self, item: dict[str, Any], layout: DocumentLayout) -> None:
        found = stored(item, 0.0)
        if found is None:
            return
        expires = None if layout.ttl is None else expiry(found.data, layout.ttl)
        made = item_of(Save(found.id, found.data, expires=expires), layout, partitioned=self._partitioned)
        try:
            self._client.put_item(
                TableName=self._name,
                # The document is the same, and whoever holds its revision goes on.
                Item={**made, "revision": item["revision"]},
                ConditionExpression="revision = :revision",
                ExpressionAttributeValues={":revision": item["revision"]},
            )
        except self._client.exceptions.ConditionalCheckFailedException:
            # It was written meanwhile, under the new layout.
            return
