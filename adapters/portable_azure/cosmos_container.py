"""The container of a collection in Cosmos DB, and the calls that collections make to it."""

from __future__ import annotations

import contextlib
import re
import threading
import warnings
from base64 import b64decode
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from azure.core import MatchConditions
from azure.core.credentials import AzureSasCredential
from azure.core.pipeline.transport import RequestsTransport
from azure.cosmos import ContainerProxy, CosmosClient, PartitionKey, exceptions

from portable.bindings import Binding
from portable.document_layout import DocumentLayout, dump_indexes, load_indexes
from portable.errors import Closed, ConfigError
from portable_azure.options import CosmosOptions, account, credential
from portable_azure.transports import pooled

__all__ = ["CONFLICTS", "Container"]

CONFLICTS = (
    exceptions.CosmosAccessConditionFailedError,
    exceptions.CosmosResourceExistsError,
    exceptions.CosmosResourceNotFoundError,
)
"""What a write whose condition does not hold is answered with."""

THROTTLED_AT_MOST = 30

LAYOUT = "layout"
"""Id and partition of the item that says what is known of a container."""

_INDEXED: dict[str, Any] = {
    "indexingMode": "consistent",
    "includedPaths": [{"path": "/*"}],
    "excludedPaths": [{"path": f"/{name}/?"} for name in ("data", "partition", "key", "expires", '"_etag"')],
}
"""All but what is never asked for: a new index of a collection is a new field of its items, and no new policy."""

_NAME = re.compile(r"[^/\\?#]{0,254}[^/\\?# ]")
_FRESH = {"Strong", "BoundedStaleness"}
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
        if not _NAME.fullmatch(options.database):
            raise ConfigError("database= takes 1 to 255 characters, none of / \\ ? #, and no space at the end")
        self._usual = float(binding.contract.timeout)
        self._client: CosmosClient | None = None
        self._proxy: ContainerProxy | None = None
        self._known: str | None = None
        self._closed = False

    @property
    def client(self) -> CosmosClient:
        """The vendor's client."""
        if self._closed:
            raise Closed("the resource is closed")
        if self._client is None:
            client = CosmosClient(
                self._endpoint,
                transport=_transport(verify=self._verify),
                credential=_key(self._binding),
                connection_verify=self._verify,
                connection_timeout=self._usual,
                read_timeout=self._usual,
                retry_total=self._binding.contract.retries,
                retry_backoff_max=2,
                # What is throttled waits as long as the service says, and no longer than a call may take.
                retry_throttle_total=THROTTLED_AT_MOST,
                retry_throttle_backoff_max=max(1, int(self._usual)),
                enable_endpoint_discovery=self._verify,
            )
            _part(client.client_connection)
            self._client = client
        return self._client

    @property
    def proxy(self) -> ContainerProxy:
        """The vendor's client of the container."""
        if self._proxy is None:
            database = self.client.get_database_client(self._binding.options.database)
            self._proxy = database.get_container_client(self._binding.name)
        return self._proxy

    def inspect(self) -> None:
        """See to it that the account can keep what a collection promises.

        Raises:
            ConfigError: its consistency is weaker, or several of its regions take writes.
        """
        told = self.client.get_database_account()
        if told._EnableMultipleWritableLocations:  # noqa: SLF001 (the client tells it nowhere else)
            raise ConfigError(
                "several regions of the account take writes, so that two writers can both win; let one region alone"
            )
        consistency = str((told.ConsistencyPolicy or {}).get("defaultConsistencyLevel"))
        if consistency in _FRESH or (consistency, self._binding.options.consistency) == ("Session", "session"):
            return
        raise ConfigError(
            f"the account's consistency is {consistency}, with which a read can miss what another process has written; "
            "make it Strong (or BoundedStaleness), or accept Session by consistency=session"
        )

    def close(self) -> None:
        """Let go of the connections."""
        self._closed = True
        if self._client is not None:
            self._client.__exit__()

    def make(self) -> None:
        """Make the database and the container, where they are not there."""
        database = self.client.create_database_if_not_exists(self._binding.options.database)
        with contextlib.suppress(exceptions.CosmosResourceExistsError):
            # Items without a time to live of their own stay.
            database.create_container(self._binding.name, PartitionKey("/pk"), _INDEXED, default_ttl=-1)

    def layout(self) -> DocumentLayout | None:
        """Read what is known of the container; None where it or that is missing."""
        item = self.read(LAYOUT, LAYOUT)
        self._known = None if item is None else item["_etag"]
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
        """Write down what is known of the container, unless somebody else has since it was last read or kept here."""
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
        item |= {name: value for name, value in optional.items() if value is not None}
        self._known = self.put_over(item, self._known)

    def read(self, id_: str, partition: str) -> dict[str, Any] | None:
        """Give an item; None where there is none."""
        try:
            return dict(self.proxy.read_item(id_, partition))
        except exceptions.CosmosResourceNotFoundError:
            return None

    def put(self, body: dict[str, Any]) -> None:
        """Store an item, whatever is there."""
        self.proxy.upsert_item(body, no_response=True)

    def put_over(self, body: dict[str, Any], etag: str | None) -> str:
        """Store an item over the one of an etag, or where nothing is, and give its etag."""
        if etag is None:
            return str(self.proxy.create_item(body)["_etag"])
        how: Any = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        return str(self.proxy.replace_item(body["id"], body, **how)["_etag"])

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
    ) -> list[dict[str, Any]]:
        """Give the items whose field lies in a half-open range, in its order."""
        order = f'ORDER BY c["{field}"] {"DESC" if descending else "ASC"}'
        found = self._asked(f"TOP {limit:d} *", field, (low, high), partition, order=order, limit=limit)
        return [dict(item) for item in found]

    def count(self, field: str, low: str, high: str, *, partition: str | None) -> int:
        """Count the items whose field lies in a half-open range."""
        return sum(int(number) for number in self._asked("VALUE COUNT(1)", field, (low, high), partition))

    def _asked(
        self,
        wanted: str,
        field: str,
        bounds: tuple[str | int, str | int],
        partition: str | None,
        *,
        order: str = "",
        limit: int | None = None,
    ) -> Any:
        conditions = f'c["{field}"] >= @low AND c["{field}"] < @high'
        parameters: list[dict[str, Any]] = [
            {"name": "@low", "value": bounds[0]},
            {"name": "@high", "value": bounds[1]},
        ]
        where: dict[str, Any] = {"enable_cross_partition_query": True}
        if partition is not None:
            where = {"partition_key": partition}
            conditions += " AND c.pk = @pk"
            parameters.append({"name": "@pk", "value": partition})
        query = f"SELECT {wanted} FROM c WHERE {conditions} {order}"  # noqa: S608 (all of it is ours)
        return self.proxy.query_items(query, parameters=parameters, max_item_count=limit, **where)


def _transport(*, verify: bool) -> RequestsTransport:
    """Give the transport of an account."""
    if not verify:
        # Whoever wrote verify=false knows.
        hosts = "|".join(map(re.escape, _LOOPBACK))
        warnings.filterwarnings("ignore", f"Unverified HTTPS request is being made to host '({hosts})'")
    return pooled()


def _part(connection: Any) -> None:
    """Have each thread see the headers of its own last response.

    The client keeps those of all threads in one place, where one thread changes what another one is about to copy.
    """
    own = threading.local()

    class Parted(type(connection)):  # type: ignore[misc]  # the client's own class, which it does not export
        @property
        def last_response_headers(self) -> Any:
            return getattr(own, "headers", None)

        @last_response_headers.setter
        def last_response_headers(self, headers: Any) -> None:
            own.headers = headers

    connection.__class__ = Parted


def _key(binding: Binding[CosmosOptions]) -> Any:
    given = credential(binding)
    if isinstance(given, AzureSasCredential):
        raise ConfigError("Cosmos DB takes no sas_token; give it an account_key, or an identity")
    if not isinstance(given, dict):
        return given
    try:
        b64decode(given["account_key"], validate=True)
    except ValueError:
        raise ConfigError(
            "the account_key is no Base64, as keys of Cosmos DB are; look whether all of it is there"
        ) from None
    return given["account_key"]


def _endpoint(binding: Binding[CosmosOptions]) -> str:
    endpoint = binding.options.endpoint
    if endpoint is None:
        return f"https://{account(binding)}.documents.azure.com:443/"
    if urlsplit(endpoint).scheme not in {"http", "https"}:
        raise ConfigError("endpoint= takes a URL, such as https://acme.documents.azure.com:443/")
    return endpoint
