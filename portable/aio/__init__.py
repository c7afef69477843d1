"""The async face of `portable`: the same names, to be awaited on asyncio.

from portable import aio

async with aio.connect() as cloud:
await cloud.bucket("photos").put("cat.jpg", b"...")
await cloud.queue("jobs").send(b"thumbnail cat.jpg")
"""

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
from portable.records import END, START, NewRecord, Position, Record

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
    "NewRecord",
    "ObjectInfo",
    "Outgoing",
    "Page",
    "Position",
    "Prefix",
    "Put",
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
