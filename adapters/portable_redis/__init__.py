"""Caches, queues, topics and streams on Redis and Valkey: one server, Sentinel, or a cluster."""

from portable.registry import Adapter

__all__ = ["adapter"]

_KINDS = {
    "cache": "portable_redis.cache:RedisCache",
    "queue": "portable_redis.queue:RedisQueue",
    "topic": "portable_redis.topic:RedisTopic",
    "subscription": "portable_redis.topic:RedisSubscription",
    "stream": "portable_redis.stream:RedisStream",
}

adapter = Adapter(schemes={"redis": _KINDS, "rediss": _KINDS}, extra="redis")
