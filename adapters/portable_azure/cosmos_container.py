"""The container of a collection in Cosmos DB, and the calls that collections make to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from azure.core import MatchConditions
from azure.cosmos import ContainerProxy, CosmosClient, PartitionKey, exceptions

from portable.bindings import Binding
from portable.document_layout import DocumentLayout, dump_indexes, load_indexes
from portable.errors import Closed, ConfigError
from portable_azure.options import CosmosOptions, credential

__all__ = ["CONFLICTS", "Container"]

CONFLICTS = (
    exceptions.CosmosAccessConditionFailedError,
    exceptions.CosmosResourceExistsError,
    exceptions.CosmosResourceNotFoundError,
)
"""What a write whose condition does not hold is answered with."""

LAYOUT = "layout"
"""Id and partition of the item that says what is known of a container."""

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Container:
    """One container, through the vendor's client."""

    def __init__(self, binding: Binding[CosmosOptions]) -> None:
        self._binding = binding
        options = binding.options
        self._endpoint = _endpoint(binding)
        self._verify = options.verify
        if not self._verify and urlsplit(self._endpoint).hostname not in _LOOPBACK:
            raise ConfigError("verify=false is for an emulator on this machine only")
        self._usual = float(binding.contract.timeout)
        self._client: CosmosClient | None = None
        self._proxy: ContainerProxy | None = None
        self._closed = False

    @property
    def client(self) -> CosmosClient:
        """The vendor's client."""
        if self._closed:
            raise Closed("the resource is closed")
        if self._client is None:
            given = credential(self._binding)
            key = given["account_key"] if isinstance(given, dict) else given
            self._client = CosmosClient(
                self._endpoint,
                credential=key,
                connection_verify=self._verify,
                connection_timeout=self._usual,
                read_timeout=self._usual,
                retry_total=self._binding.contract.retries,
                retry_backoff_max=2,
                enable_endpoint_discovery=self._verify,
            )
        return self._client

    @property
    def proxy(self) -> ContainerProxy:
        """The vendor's client of the container."""
        if self._proxy is None:
            database = self.client.get_database_client(self._binding.options.database)
            self._proxy = database.get_container_client(self._binding.name)
        return self._proxy

    def close(self) -> None:
        """Let go of the connections."""
        self._closed = True
        if self._client is not None:
            self._client.__exit__()  # type: ignore[no-untyped-call]  # it has no other close

    def make(self, layout: DocumentLayout) -> None:
        """Make the database and the container, or have the one that is there index what is declared."""
        database = self.client.create_database_if_not_exists(self._binding.options.database)
        paths = ["/order/?", "/layout/?", *(f"/{column}/?" for column in layout.columns.values())]
        policy = {
            "indexingMode": "consistent",
            "includedPaths": [{"path": path} for path in paths],
            "excludedPaths": [{"path": "/*"}],
        }
        how: dict[str, Any] = {
            "partition_key": PartitionKey("/pk"),
            "indexing_policy": policy,
            # Items without a time to live of their own stay.
            "default_ttl": -1,
        }
        try:
            database.create_container(self._binding.name, **how)
        except exceptions.CosmosResourceExistsError:
            if layout.number > 1:
                database.replace_container(self._binding.name, **how)

    def layout(self) -> DocumentLayout | None:
        """Read what is known of the container; None where it or that is missing."""
        item = self.read(LAYOUT, LAYOUT)
        if item is None:
            return None
        return DocumentLayout(
            name=self._binding.name,
            key=item["key"],
            partition=item.get("partition"),
            ttl=item.get("ttl_field"),
            number=item["number"],
            filled=item["filled"],
            timed=item["timed"],
            indexes=load_indexes(item["indexes"]),
        )

    def keep(self, layout: DocumentLayout) -> None:
        """Write down what is known of the container."""
        item: dict[str, Any] = {
            "id": LAYOUT,
            "pk": LAYOUT,
            "key": layout.key,
            "number": layout.number,
            "filled": layout.filled,
            "timed": layout.timed,
            "indexes": dump_indexes(layout.indexes),
        }
        optional = {"partition": layout.partition, "ttl_field": layout.ttl}
        self.proxy.upsert_item(item | {name: value for name, value in optional.items() if value is not None})

    def read(self, id_: str, partition: str) -> dict[str, Any] | None:
        """Give an item; None where there is none."""
        try:
            return dict(self.proxy.read_item(id_, partition))
        except exceptions.CosmosResourceNotFoundError:
            return None

    def put(self, body: dict[str, Any]) -> dict[str, Any]:
        """Store an item, whatever is there."""
        return dict(self.proxy.upsert_item(body))

    def put_over(self, body: dict[str, Any], etag: str | None) -> dict[str, Any]:
        """Store an item over the one of an etag, or where nothing is."""
        if etag is None:
            return dict(self.proxy.create_item(body))
        return dict(self.proxy.replace_item(body["id"], body, etag=etag, match_condition=MatchConditions.IfNotModified))

    def remove(self, id_: str, partition: str, etag: str | None) -> None:
        """Remove an item, whatever is there or that of an etag; nothing is no error without one."""
        how: dict[str, Any] = {}
        if etag is not None:
            how = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        try:
            self.proxy.delete_item(id_, partition, **how)
        except exceptions.CosmosResourceNotFoundError:
            if etag is not None:
                raise

    def together(self, operations: Sequence[tuple[Any, ...]], partition: str) -> None:
        """Carry out operations on one partition, all of them or none."""
        self.proxy.execute_item_batch(list(operations), partition)

    def between(
        self, field: str, low: str | int, high: str | int, *, descending: bool, limit: int, partition: str | None
    ) -> Iterator[dict[str, Any]]:
        """Give the items whose field lies in a half-open range, in its order."""
        bounds = f"c.{field} >= @low AND c.{field} < @high"
        order = f"c.{field} {'DESC' if descending else 'ASC'}"
        query = f"SELECT TOP {limit:d} * FROM c WHERE {bounds} ORDER BY {order}"  # noqa: S608 (field is a column of ours)
        yield from map(dict, self._asked(query, low, high, partition))

    def count(self, field: str, low: str, high: str, *, partition: str | None) -> int:
        """Count the items whose field lies in a half-open range."""
        query = f"SELECT VALUE COUNT(1) FROM c WHERE c.{field} >= @low AND c.{field} < @high"  # noqa: S608 (the same)
        return sum(int(number) for number in self._asked(query, low, high, partition))

    def _asked(self, query: str, low: str | int, high: str | int, partition: str | None) -> Any:
        parameters: list[dict[str, Any]] = [{"name": "@low", "value": low}, {"name": "@high", "value": high}]
        if partition is not None:
            return self.proxy.query_items(query, parameters=parameters, partition_key=partition)
        return self.proxy.query_items(query, parameters=parameters, enable_cross_partition_query=True)


def _endpoint(binding: Binding[CosmosOptions]) -> str:
    from portable_azure.options import account  # noqa: PLC0415 (an endpoint may stand in its place)

    endpoint = binding.options.endpoint
    if endpoint is None:
        return f"https://{account(binding)}.documents.azure.com:443/"
    if urlsplit(endpoint).scheme not in {"http", "https"}:
        raise ConfigError("endpoint= takes a URL, such as https://acme.documents.azure.com:443/")
    return endpoint
