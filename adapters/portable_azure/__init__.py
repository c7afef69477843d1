"""Azure: buckets in Blob Storage, queues in Queue Storage, collections in Cosmos DB, streams in Event Hubs."""

from portable.registry import Adapter

__all__ = ["adapter"]

adapter = Adapter(
    schemes={
        "az": {"bucket": "portable_azure.blob_bucket:BlobBucket"},
        "azqueue": {"queue": "portable_azure.storage_queue:StorageQueue"},
        "eventhubs": {
            "stream": "portable_azure.event_hubs:EventHubsStream",
            "topic": "portable_azure.event_hubs:EventHubsTopic",
            "subscription": "portable_azure.event_hubs:EventHubsSubscription",
            # The dead letters of its subscriptions.
            "queue": "portable_azure.event_hubs:EventHubsQueue",
        },
        "cosmos": {"collection": "portable_azure.cosmos_collection:CosmosCollection"},
    },
    extra="azure",
)
