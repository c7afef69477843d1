"""Cosmos DB on a server of its protocol, against azure-cosmos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import vendor
from benchmarks.sampling import Figure, Plan
from benchmarks.servers import serving

__all__ = ["measure"]


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure all of it on one server."""
    from azure.cosmos import CosmosClient

    with serving("cosmosdb-server", folder) as url:
        options = vendor.options_of(url)

        def theirs(_: Any) -> tuple[Callable[[], str], Callable[[str], object]]:
            client = CosmosClient(
                options["endpoint"], options["account_key"], connection_verify=False, enable_endpoint_discovery=False
            )
            container = client.get_database_client("portable").get_container_client("books")
            everything = container.query_items("SELECT * FROM c", enable_cross_partition_query=True)
            (found,) = [one for one in everything if one.get("key") == "document"]
            item = {name: value for name, value in found.items() if not name.startswith("_")}

            def read() -> str:
                return str(container.read_item(item["id"], item["pk"])["data"])

            return read, lambda text: container.upsert_item({**item, "data": text})

        yield from vendor.collection(plan, "cosmos", "azure-cosmos", url, theirs)
