"""Tokens of a cloud's identity in place of a password, fresh for each connection."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import time
from typing import Any

from redis.credentials import CredentialProvider

from portable.bindings import Binding
from portable.errors import ConfigError
from portable.identities import Logins, Sought, logins
from portable_redis.options import PORT, RedisOptions

__all__ = ["TokenProvider", "login"]

SPARE = 60.0
"""Seconds that a connection is no longer used before its login ends."""


class TokenProvider(CredentialProvider):
    """Has each connection log in by a token of its own.

    Attributes:
        until: to what moment of the monotonic clock a connection may be used that logged in last.
    """

    def __init__(self, make: Logins) -> None:
        self._make = make
        self.until = math.inf

    def get_credentials(self) -> tuple[str, str]:
        """Make a login."""
        made = self._make()
        self.until = time.monotonic() + made.ends - time.time() - SPARE
        return made.username, made.password

    async def get_credentials_async(self) -> tuple[str, str]:
        """Make a login beside the loop, for somebody may have to be asked."""
        return await asyncio.to_thread(self.get_credentials)


def login(binding: Binding[RedisOptions], nodes: list[tuple[str, int]]) -> dict[str, Any]:
    """Give who logs in, as redis-py takes it.

    Raises:
        ConfigError: what the binding says of it does not fit together.
    """
    options, url = binding.options, binding.url
    if options.auth is None:
        if options.region is not None or options.cache is not None or options.credentials is not None:
            raise ConfigError("region=, cache= and credentials say how auth= logs in, which is not set")
        return {"username": url.username, "password": url.password}
    if url.password is not None:
        raise ConfigError("auth= logs in without a password; take the one in the URL away")
    if options.sentinel is not None:
        raise ConfigError("auth= is for the caches of clouds, which have no Sentinels; take sentinel= away")
    if url.scheme != "rediss" and not all(_is_local(host) for host, _ in nodes):
        raise ConfigError("auth= sends a token that is as good as a password, so it needs TLS; write rediss:")
    host, port = nodes[0] if nodes else ("localhost", PORT)
    sought = Sought(
        protocol="redis",
        host=host,
        port=port,
        username=url.username,
        region=options.region,
        cache=options.cache,
        credentials=options.credentials or {},
    )
    return {"credential_provider": TokenProvider(logins(options.auth, sought))}


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
