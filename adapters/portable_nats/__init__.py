"""Queues, topics, streams and caches on NATS JetStream."""

from portable.registry import Adapter

__all__ = ["adapter"]

adapter = Adapter(
    schemes={
        "nats": {
            "queue": "portable_nats.queue:NatsQueue",
            "topic": "portable_nats.topic:NatsTopic",
            "subscription": "portable_nats.subscription:NatsSubscription",
            "cache": "portable_nats.cache:NatsCache",
            "stream": "portable_nats.stream:NatsStream",
        }
    },
    extra="nats",
)
