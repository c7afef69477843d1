"""What an application asks of each resource: the `[resources.NAME]` tables of `portable.toml`, kind by kind."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec

from portable.capabilities import (
    BucketCapabilities,
    CacheCapabilities,
    Capabilities,
    CollectionCapabilities,
    DatabaseCapabilities,
    QueueCapabilities,
    StreamCapabilities,
    TopicCapabilities,
)
from portable.quantities import Duration, Size

__all__ = [
    "CONTRACTS",
    "BucketContract",
    "CacheContract",
    "CollectionContract",
    "Contract",
    "DatabaseContract",
    "QueueContract",
    "StreamContract",
    "SubscriptionContract",
    "TopicContract",
    "read_quantity",
]


class Contract(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What every kind has.

    Attributes:
        needs: capabilities that every profile's driver must declare.
        timeout: seconds a call may take in all, retries included; a call's own `timeout=` wins.
        retries: how often the vendor's SDK repeats a failed attempt.
    """

    kind: ClassVar[str]
    capabilities: ClassVar[type[Capabilities]]

    needs: tuple[str, ...] = ()
    timeout: Duration = Duration(60)
    retries: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 3

    def __post_init__(self) -> None:
        """Refuse durations of nothing; the message starts with the key's name."""
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if isinstance(value, Duration) and value <= 0:
                raise ValueError(f"{name}: must be more than 0")


class BucketContract(Contract, frozen=True, kw_only=True):
    """A bucket."""

    kind: ClassVar[str] = "bucket"
    capabilities: ClassVar[type[Capabilities]] = BucketCapabilities


class QueueContract(Contract, frozen=True, kw_only=True):
    """A queue.

    Attributes:
        visibility_timeout: seconds a received message stays hidden from others.
        max_deliveries: after this many deliveries without an ack it goes to the dead-letter queue.
        ordered: messages of one `ordering_key` are delivered one at a time, in order; implies the need.
        dead_letter: the queue resource that takes what could not be handled; left out, one is made beside it.
        offload: the bucket resource that takes bodies over the backend's limit.
    """

    kind: ClassVar[str] = "queue"
    capabilities: ClassVar[type[Capabilities]] = QueueCapabilities

    visibility_timeout: Duration = Duration(30)
    max_deliveries: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] = 5
    ordered: bool = False
    dead_letter: str | None = None
    offload: str | None = None


class SubscriptionContract(QueueContract, frozen=True, kw_only=True):
    """A queue that is fed by a topic.

    Attributes:
        topic: the topic resource that feeds it.
        filter: attributes that must be equal for a message to arrive.
    """

    kind: ClassVar[str] = "subscription"

    topic: str
    filter: dict[str, str] = msgspec.field(default_factory=dict)


class TopicContract(Contract, frozen=True, kw_only=True):
    """A topic."""

    kind: ClassVar[str] = "topic"
    capabilities: ClassVar[type[Capabilities]] = TopicCapabilities


class StreamContract(Contract, frozen=True, kw_only=True):
    """A stream.

    Attributes:
        partitions: how many there are when it is made.
        retention: seconds a record is kept, whoever has read it.
        checkpoint: the collection resource that keeps group positions where the backend does not.
    """

    kind: ClassVar[str] = "stream"
    capabilities: ClassVar[type[Capabilities]] = StreamCapabilities

    partitions: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 4
    retention: Duration = Duration(7 * 86400)
    checkpoint: str | None = None


class CacheContract(Contract, frozen=True, kw_only=True):
    """A cache."""

    kind: ClassVar[str] = "cache"
    capabilities: ClassVar[type[Capabilities]] = CacheCapabilities


class CollectionContract(Contract, frozen=True, kw_only=True):
    """A collection.

    Attributes:
        key: the field that holds a document's key.
        partition: the field that holds its partition; with it, a key is the pair `(partition, key)`.
        indexes: each a dotted path, or a list of paths of which the last may start with `-` (descending).
        ttl: the field that holds when a document expires (an aware datetime).
        allow_scan: whether every query may scan; a query's own `allow_scan=True` is the usual way.
    """

    kind: ClassVar[str] = "collection"
    capabilities: ClassVar[type[Capabilities]] = CollectionCapabilities

    key: str = "id"
    partition: str | None = None
    indexes: tuple[str | tuple[str, ...], ...] = ()
    ttl: str | None = None
    allow_scan: bool = False


class DatabaseContract(Contract, frozen=True, kw_only=True):
    """A database."""

    kind: ClassVar[str] = "database"
    capabilities: ClassVar[type[Capabilities]] = DatabaseCapabilities


CONTRACTS: dict[str, type[Contract]] = {
    contract.kind: contract
    for contract in (
        BucketContract,
        QueueContract,
        SubscriptionContract,
        TopicContract,
        StreamContract,
        CacheContract,
        CollectionContract,
        DatabaseContract,
    )
}
"""Every kind's contract, by the `kind` that the config file names."""


def read_quantity(type_: type, value: Any) -> Any:
    """Convert durations and sizes for msgspec (its `dec_hook`)."""
    if issubclass(type_, (Duration, Size)):
        return type_.parse(value)
    raise NotImplementedError(type_)
