"""DynamoDB on DynamoDB Local, against boto3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import vendor
from benchmarks.sampling import Figure, Plan
from benchmarks.servers import serving

__all__ = ["measure"]

TABLE = "books"


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure all of it on one server."""
    with serving("dynamodb-local", folder) as url:
        client = vendor.boto("dynamodb", url)

        def theirs(_: Any) -> tuple[Callable[[], str], Callable[[str], object]]:
            found = client.scan(TableName=TABLE, FilterExpression="attribute_exists(document_key)")
            (item,) = found["Items"]
            key = {name: item[name] for name in ("pk", "sk")}

            def read() -> str:
                got = client.get_item(TableName=TABLE, Key=key, ConsistentRead=True)["Item"]
                return str(got["data"]["S"])

            return read, lambda text: client.put_item(TableName=TABLE, Item={**item, "data": {"S": text}})

        yield from vendor.collection(plan, "dynamodb", "boto3", url, theirs)
