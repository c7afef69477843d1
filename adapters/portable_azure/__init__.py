"""Azure: buckets in Blob Storage, queues in Queue Storage."""

from portable.registry import Adapter

__all__ = ["adapter"]

adapter = Adapter(
    schemes={
        "az": {"bucket": "portable_azure.blob_bucket:BlobBucket"},
        "azqueue": {"queue": "portable_azure.storage_queue:StorageQueue"},
    },
    extra="azure",
)
