"""One neutral API for buckets, queues, topics, streams, caches, collections and databases.

One config file decides, per environment, whether each is an AWS, Google Cloud or Azure service, a self-hosted server,
or an embedded default that needs nothing installed::

    import portable

    with portable.connect() as cloud:
        cloud.bucket("photos").put("cat.jpg", b"...")
        cloud.queue("jobs").send(b"thumbnail cat.jpg")

`portable.aio` holds the same names, to be awaited.
"""

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
from portable.queue import Queue, Subscription
from portable.records import END, START, NewRecord, Position, Record
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
