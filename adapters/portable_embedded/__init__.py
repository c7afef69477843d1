"""The embedded drivers: `file:` and `memory:` buckets, and every other kind on `sqlite:` and `memory:`."""

from portable.registry import Adapter

__all__ = ["adapter"]

adapter = Adapter(
    schemes={
        "file": {"bucket": "portable_embedded.file_bucket:FileBucket"},
        "memory": {
            "bucket": "portable_embedded.memory_bucket:MemoryBucket",
            "queue": "portable_embedded.memory_queue:MemoryQueue",
            "topic": "portable_embedded.memory_topic:MemoryTopic",
            "subscription": "portable_embedded.memory_topic:MemorySubscription",
            "stream": "portable_embedded.memory_stream:MemoryStream",
            "cache": "portable_embedded.memory_cache:MemoryCache",
            "collection": "portable_embedded.memory_collection:MemoryCollection",
        },
        "sqlite": {
            "queue": "portable_embedded.sqlite_queue:SqliteQueue",
            "topic": "portable_embedded.sqlite_topic:SqliteTopic",
            "subscription": "portable_embedded.sqlite_topic:SqliteSubscription",
            "stream": "portable_embedded.sqlite_stream:SqliteStream",
            "cache": "portable_embedded.sqlite_cache:SqliteCache",
            "collection": "portable_embedded.sqlite_collection:SqliteCollection",
        },
    },
    extra="embedded",
)
