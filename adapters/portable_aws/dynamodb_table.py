"""The table of a collection in DynamoDB: made, given indexes, and what is known of it."""

from __future__ import annotations

from time import monotonic, sleep
from typing import Any

from portable.document_layout import DocumentLayout, dump_indexes, load_indexes
from portable.errors import DeadlineExceeded
from portable_aws.dynamodb_items import ORDER_INDEX, index_columns
from portable_aws.service_errors import code_of, translating

__all__ = ["Table"]

LAYOUT_KEY: dict[str, Any] = {"pk": {"S": "layout"}, "sk": {"S": "layout"}}
"""Where a table keeps what is known of it; the keys of documents start with `d`."""

MADE_WITHIN = 3600.0
"""Seconds: an index of a large table takes as long as it takes."""

SHORTEST_PAUSE, LONGEST_PAUSE = 0.05, 5.0


class Table:
    """One table, through boto3's client.

    Args:
        client: of DynamoDB.
        name: the table's.
    """

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self.name = name

    def layout(self) -> DocumentLayout | None:
        """Read what is known of the table; None where it or that is missing."""
        try:
            answer = self._client.get_item(TableName=self.name, Key=LAYOUT_KEY, ConsistentRead=True)
        except self._client.exceptions.ResourceNotFoundException:
            return None
        item = answer.get("Item")
        if item is None:
            return None
        return DocumentLayout(
            name=self.name,
            key=item["key"]["S"],
            partition=item["partition"]["S"] if "partition" in item else None,
            ttl=item["ttl_field"]["S"] if "ttl_field" in item else None,
            number=int(item["number"]["N"]),
            filled=int(item["filled"]["N"]),
            timed=item["timed"]["BOOL"],
            indexes=load_indexes(item["indexes"]["S"]),
        )

    def keep(self, layout: DocumentLayout) -> None:
        """Write down what is known of the table."""
        item: dict[str, Any] = {
            **LAYOUT_KEY,
            "key": {"S": layout.key},
            "number": {"N": str(layout.number)},
            "filled": {"N": str(layout.filled)},
            "timed": {"BOOL": layout.timed},
            "indexes": {"S": dump_indexes(layout.indexes)},
        }
        for name, value in (("partition", layout.partition), ("ttl_field", layout.ttl)):
            if value is not None:
                item[name] = {"S": value}
        self._client.put_item(TableName=self.name, Item=item)

    def make(self, layout: DocumentLayout) -> None:
        """Make the table with all indexes, or give the one that is there those that it lacks, one after the other."""
        wanted = {ORDER_INDEX: ("order_hash", "order_sort")}
        wanted |= {column: index_columns(column) for column in layout.columns.values()}
        with translating():
            found = self._described()
            if found is None:
                self._create(wanted)
                found = self._settled()
            there = {one["IndexName"] for one in found.get("GlobalSecondaryIndexes", ())}
            for name, parts in wanted.items():
                if name not in there:
                    self._add(name, parts)
                    self._settled()
            self._expire()

    def _create(self, wanted: dict[str, tuple[str, str]]) -> None:
        try:
            self._client.create_table(
                TableName=self.name,
                BillingMode="PAY_PER_REQUEST",
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
                AttributeDefinitions=[
                    {"AttributeName": "pk", "AttributeType": "S"},
                    {"AttributeName": "sk", "AttributeType": "S"},
                    *_definitions(parts for parts in wanted.values()),
                ],
                GlobalSecondaryIndexes=[_index(name, parts) for name, parts in wanted.items()],
                Tags=[{"Key": "made-by", "Value": "portable"}],
            )
        except self._client.exceptions.ResourceInUseException:
            # Somebody else was faster.
            return

    def _add(self, name: str, parts: tuple[str, str]) -> None:
        try:
            self._client.update_table(
                TableName=self.name,
                AttributeDefinitions=_definitions([parts]),
                GlobalSecondaryIndexUpdates=[{"Create": _index(name, parts)}],
            )
        except self._client.exceptions.ClientError as error:
            # Somebody else was faster, or is at it.
            if code_of(error) not in {"ResourceInUseException", "LimitExceededException"}:
                described = self._described() or {}
                if name not in {one["IndexName"] for one in described.get("GlobalSecondaryIndexes", ())}:
                    raise

    def _expire(self) -> None:
        """Have DynamoDB remove what has expired; until it does, what has is hidden."""
        status = self._client.describe_time_to_live(TableName=self.name)["TimeToLiveDescription"]
        if status["TimeToLiveStatus"] == "DISABLED":
            try:
                self._client.update_time_to_live(
                    TableName=self.name, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"}
                )
            except self._client.exceptions.ClientError as error:
                if code_of(error) != "ValidationException":
                    raise

    def _described(self) -> dict[str, Any] | None:
        try:
            table: dict[str, Any] = self._client.describe_table(TableName=self.name)["Table"]
        except self._client.exceptions.ResourceNotFoundException:
            return None
        return table

    def _settled(self) -> dict[str, Any]:
        """Wait until the table and its indexes are there."""
        deadline, pause = monotonic() + MADE_WITHIN, SHORTEST_PAUSE
        while True:
            table = self._described()
            if table is not None:
                states = [
                    table["TableStatus"],
                    *(one["IndexStatus"] for one in table.get("GlobalSecondaryIndexes", ())),
                ]
                if all(state == "ACTIVE" for state in states):
                    return table
            if monotonic() > deadline:
                raise DeadlineExceeded(f"the table {self.name!r} was not ready within {MADE_WITHIN:g} s")
            sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def _definitions(wanted: Any) -> list[dict[str, str]]:
    return [{"AttributeName": name, "AttributeType": "B"} for parts in wanted for name in parts]


def _index(name: str, parts: tuple[str, str]) -> dict[str, Any]:
    return {
        "IndexName": name,
        "KeySchema": [
            {"AttributeName": parts[0], "KeyType": "HASH"},
            {"AttributeName": parts[1], "KeyType": "RANGE"},
        ],
        "Projection": {"ProjectionType": "ALL"},
    }
