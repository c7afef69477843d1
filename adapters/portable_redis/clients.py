# Generated from adapters/portable_redis/aio/clients.py by tools/generate_sync.py; change that file, not this one.
"""The clients of redis-py for whatever a URL names: one server, the primary that Sentinels know, or a cluster."""

from __future__ import annotations

from typing import Any

from redis.backoff import NoBackoff

from portable.bindings import Binding
from portable_redis import _concurrency as face
from portable_redis.logins import login
from portable_redis.options import RedisOptions, security

__all__ = ["made_client"]

# The releases of redis-py differ in how these are typed.
_vendor: Any = face


def made_client(binding: Binding[RedisOptions], nodes: list[tuple[str, int]]) -> tuple[Any, Any]:
    """Make a client, and give its pool; a cluster has none that serves all keys."""
    options = binding.options
    usual = float(binding.contract.timeout)
    how: dict[str, Any] = {
        **login(binding, nodes),
        "protocol": 2,
        # On a loop every call bounds itself.
        "socket_timeout": None if face.IS_ASYNC else usual,
        "socket_connect_timeout": usual,
        # `Server.call` repeats what may be repeated.
        "retry": _vendor.Retry(NoBackoff(), 0),
    }
    if options.cluster:
        known = [_vendor.ClusterNode(host, port) for host, port in nodes]
        client = face.open_cluster(
            startup_nodes=known, max_connections=options.max_connections, **how, **_secure(binding)
        )
        return client, None
    how["db"] = options.db
    if options.sentinel is not None:
        client = _primary(binding, nodes, how)
        return client, client.connection_pool
    if options.socket is not None:
        how |= {"connection_class": _vendor.UnixDomainSocketConnection, "path": str(options.socket)}
    else:
        ((host, port),) = nodes
        kind = _vendor.SSLConnection if binding.url.scheme == "rediss" else _vendor.Connection
        how |= {"connection_class": kind, "host": host, "port": port, "socket_keepalive": True, **security(binding)}
    pool = _vendor.ConnectionPool(**how)
    return _vendor.Redis(connection_pool=pool), pool


def _primary(binding: Binding[RedisOptions], nodes: list[tuple[str, int]], how: dict[str, Any]) -> Any:
    options = binding.options
    own = {
        "username": options.sentinel_username,
        "password": options.sentinel_password,
        "socket_timeout": float(binding.contract.timeout),
        **_secure(binding),
    }
    sentinel = _vendor.Sentinel(nodes, sentinel_kwargs=own)
    return sentinel.master_for(options.sentinel, **how, **_secure(binding))


def _secure(binding: Binding[RedisOptions]) -> dict[str, Any]:
    return {"ssl": True, **security(binding)} if binding.url.scheme == "rediss" else {}
