"""The consumer groups of a stream that names no `checkpoint`: in a DynamoDB table beside it."""

from __future__ import annotations

from typing import Any

import msgspec

from portable._concurrency import Host
from portable.bindings import Binding
from portable.changes import Change
from portable.collection import Collection
from portable.contracts import CollectionContract, StreamContract
from portable.group_positions import CollectionLedger
from portable_aws.dynamodb_collection import DynamoDbCollection
from portable_aws.kinesis_options import KinesisOptions

__all__ = ["Checkpoints"]


class Checkpoints:
    """The table `NAME-checkpoints`, a collection like every other.

    Args:
        binding: the stream's.
    """

    def __init__(self, binding: Binding[KinesisOptions]) -> None:
        stream: Any = binding.contract
        contract: StreamContract = stream
        options = binding.options
        if options.checkpoint_endpoint is not None:
            options = msgspec.structs.replace(options, endpoint=options.checkpoint_endpoint)
        self._binding: Binding[Any] = Binding(
            resource=f"{binding.resource}-checkpoints",
            kind="collection",
            name=f"{binding.name}-checkpoints",
            url=binding.url,
            options=options,
            contract=CollectionContract(timeout=contract.timeout, retries=contract.retries),
            create=binding.create,
            shared=binding.shared,
            clock=binding.clock,
            on_clock_moved=binding.on_clock_moved,
        )
        self._collection: Collection[Any] = Collection(
            self._binding, lambda: DynamoDbCollection(self._binding), host=Host()
        )
        self.ledger = CollectionLedger(self._collection, binding.name)

    def plan(self) -> list[Change]:
        """Say whether the table would be made."""
        driver = DynamoDbCollection(self._binding)
        try:
            return driver.plan()
        finally:
            driver.close()

    def create(self) -> None:
        """Make the table where it is missing."""
        driver = DynamoDbCollection(self._binding)
        try:
            if driver.plan():
                driver.create()
        finally:
            driver.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._collection.close()
