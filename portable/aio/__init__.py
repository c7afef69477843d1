"""The async face of `portable`: the same names, to be awaited on asyncio.

from portable import aio

async with aio.connect() as cloud:
await cloud.bucket("photos").put("cat.jpg", b"...")
await cloud.queue("jobs").send(b"thumbnail cat.jpg")
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from portable.aio.bucket import Bucket
    from portable.aio.cache import Cache
    from portable.aio.cloud import (
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
    from portable.aio.collection import Collection
    from portable.aio.database import Database
    from portable.aio.lock import Lock
    from portable.aio.message import Message
    from portable.aio.query import Query
    from portable.aio.queue import Queue, Subscription
    from portable.aio.stream import Stream
    from portable.aio.stream_consumer import StreamConsumer
    from portable.aio.topic import Topic
    from portable.batches import BatchResult, Page
    from portable.checks import CheckResult
    from portable.config import Config
    from portable.documents import Check, Create, Delete, Document, Put, Replace, Update
    from portable.messages import Outgoing, QueueStats
    from portable.objects import ObjectInfo, Prefix, SignedRequest
    from portable.records import END, START, Position, Record

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
    "Bucket": "portable.aio.bucket",
    "Cache": "portable.aio.cache",
    "Check": "portable.documents",
    "CheckResult": "portable.checks",
    "Cloud": "portable.aio.cloud",
    "Collection": "portable.aio.collection",
    "Config": "portable.config",
    "Create": "portable.documents",
    "Database": "portable.aio.database",
    "Delete": "portable.documents",
    "Document": "portable.documents",
    "END": "portable.records",
    "Lock": "portable.aio.lock",
    "Message": "portable.aio.message",
    "ObjectInfo": "portable.objects",
    "Outgoing": "portable.messages",
    "Page": "portable.batches",
    "Position": "portable.records",
    "Prefix": "portable.objects",
    "Put": "portable.documents",
    "Query": "portable.aio.query",
    "Queue": "portable.aio.queue",
    "QueueStats": "portable.messages",
    "Record": "portable.records",
    "Replace": "portable.documents",
    "START": "portable.records",
    "SignedRequest": "portable.objects",
    "Stream": "portable.aio.stream",
    "StreamConsumer": "portable.aio.stream_consumer",
    "Subscription": "portable.aio.queue",
    "Topic": "portable.aio.topic",
    "Update": "portable.documents",
    "connect": "portable.aio.cloud",
    "open_bucket": "portable.aio.cloud",
    "open_cache": "portable.aio.cloud",
    "open_collection": "portable.aio.cloud",
    "open_database": "portable.aio.cloud",
    "open_queue": "portable.aio.cloud",
    "open_stream": "portable.aio.cloud",
    "open_subscription": "portable.aio.cloud",
    "open_topic": "portable.aio.cloud",
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
