"""One neutral API for buckets, queues, topics, streams, caches, collections and databases.

One config file decides, per environment, whether each is an AWS, Google Cloud or Azure service, a self-hosted server,
or an embedded default that needs nothing installed::

    import portable

    with portable.connect() as cloud:
        cloud.bucket("photos").put("cat.jpg", b"...")
        cloud.queue("jobs").send(b"thumbnail cat.jpg")

`portable.aio` holds the same names, to be awaited.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portable.batches import BatchResult, Page
    from portable.bucket import Bucket
    from portable.cache import Cache
    from portable.checks import CheckResult
    from portable.cloud import (
        Cloud,
        connect,
        open_bucket,
        open_cache,
        open_collection,
        open_database,
        open_queue,
        open_stream,
        open_subscription,
        open_topic,
    )
    from portable.collection import Collection
    from portable.config import Config
    from portable.database import Database
    from portable.documents import Check, Create, Delete, Document, Put, Replace, Update
    from portable.lock import Lock
    from portable.message import Message
    from portable.messages import Outgoing, QueueStats
    from portable.objects import ObjectInfo, Prefix, SignedRequest
    from portable.query import Query
    from portable.queue import Queue, Subscription
    from portable.records import END, START, Position, Record
    from portable.stream import Stream
    from portable.stream_consumer import StreamConsumer
    from portable.topic import Topic

__version__ = "0.1.0"

__all__ = [
    "END",
    "START",
    "BatchResult",
    "Bucket",
    "Cache",
    "Check",
    "CheckResult",
    "Cloud",
    "Collection",
    "Config",
    "Create",
    "Database",
    "Delete",
    "Document",
    "Lock",
    "Message",
    "ObjectInfo",
    "Outgoing",
    "Page",
    "Position",
    "Prefix",
    "Put",
    "Query",
    "Queue",
    "QueueStats",
    "Record",
    "Replace",
    "SignedRequest",
    "Stream",
    "StreamConsumer",
    "Subscription",
    "Topic",
    "Update",
    "connect",
    "open_bucket",
    "open_cache",
    "open_collection",
    "open_database",
    "open_queue",
    "open_stream",
    "open_subscription",
    "open_topic",
]

_HOMES = {
    "BatchResult": "portable.batches",
    "Bucket": "portable.bucket",
    "Cache": "portable.cache",
    "Check": "portable.documents",
    "CheckResult": "portable.checks",
    "Cloud": "portable.cloud",
    "Collection": "portable.collection",
    "Config": "portable.config",
    "Create": "portable.documents",
    "Database": "portable.database",
    "Delete": "portable.documents",
    "Document": "portable.documents",
    "END": "portable.records",
    "Lock": "portable.lock",
    "Message": "portable.message",
    "ObjectInfo": "portable.objects",
    "Outgoing": "portable.messages",
    "Page": "portable.batches",
    "Position": "portable.records",
    "Prefix": "portable.objects",
    "Put": "portable.documents",
    "Query": "portable.query",
    "Queue": "portable.queue",
    "QueueStats": "portable.messages",
    "Record": "portable.records",
    "Replace": "portable.documents",
    "START": "portable.records",
    "SignedRequest": "portable.objects",
    "Stream": "portable.stream",
    "StreamConsumer": "portable.stream_consumer",
    "Subscription": "portable.queue",
    "Topic": "portable.topic",
    "Update": "portable.documents",
    "connect": "portable.cloud",
    "open_bucket": "portable.cloud",
    "open_cache": "portable.cloud",
    "open_collection": "portable.cloud",
    "open_database": "portable.cloud",
    "open_queue": "portable.cloud",
    "open_stream": "portable.cloud",
    "open_subscription": "portable.cloud",
    "open_topic": "portable.cloud",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: a program that only caches need not load seven kinds.
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
