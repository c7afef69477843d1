"""Azure: queues in Queue Storage, and collections in Cosmos DB."""

from portable.registry import Adapter

__all__ = ["adapter"]

adapter = Adapter(
    schemes={
        "azqueue": {"queue": "portable_azure.storage_queue:StorageQueue"},
        "cosmos": {"collection": "portable_azure.cosmos_collection:CosmosCollection"},
    },
    extra="azure",
)
