"""Caches on memcached: one server, or several that share the keys."""

from portable.registry import Adapter

__all__ = ["adapter"]

adapter = Adapter(schemes={"memcached": {"cache": "portable_memcached.cache:MemcachedCache"}}, extra="memcached")
