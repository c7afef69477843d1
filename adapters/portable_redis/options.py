"""What the URL of a Redis may say, and what it means for the clients of redis-py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from portable.bindings import Binding
from portable.drivers import Options
from portable.errors import ConfigError
from portable.quantities import Duration

__all__ = ["PORT", "RedisOptions", "RedisStreamOptions", "nodes", "security"]

PORT = 6379
SENTINEL_PORT = 26379


class RedisOptions(Options, frozen=True, kw_only=True):
    """`redis://user:password@host:port/physical-name?db=0`, or `rediss:` for the same over TLS.

    Several kinds, and any number of names, share one server. `redis:///name?socket=/run/redis.sock` is a Unix socket,
    `redis://host1:port,host2:port/name?cluster=true` a cluster, and `redis://host1,host2/name?sentinel=primary` the
    primary of that name which the Sentinels on those hosts watch.

    Attributes:
        db: the number of the database; a cluster has 0 only.
        socket: the path of a Unix socket, instead of a host.
        cluster: whether the hosts are nodes of a cluster.
        sentinel: the name under which Sentinel knows the primary; the hosts are those of the Sentinels.
        sentinel_username: a user of the Sentinels, where they want one.
        sentinel_password: its password.
        ca: a file with the certificates of authorities to trust, instead of the system's.
        certificate: a file with this client's own certificate.
        private_key: a file with the certificate's key.
        auth: by which cloud's identity to log in, in place of a password: `aws-iam` (ElastiCache), `gcp-iam`
            (Memorystore) or `entra` (Azure Managed Redis); each connection has a token of its own.
        region: for `auth=aws-iam`, where the AWS configuration does not say it.
        cache: for `auth=aws-iam`, the cache's name, where the host is not the one that AWS gives it.
        credentials: for `auth`: the credentials that make tokens, as the cloud's other resources take them, in place of
            the cloud's default chain.
        max_connections: how many connections calls share; whoever waits for messages has one of its own.
    """

    db: Annotated[int, msgspec.Meta(ge=0)] = 0
    socket: Path | None = None
    cluster: bool = False
    sentinel: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None
    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    auth: str | None = None
    region: str | None = None
    cache: str | None = None
    credentials: dict[str, Any] | None = None
    max_connections: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 32


class RedisStreamOptions(RedisOptions, frozen=True, kw_only=True):
    """As for the other kinds: `redis://user:password@host:port/physical-name?db=0`, or `rediss:` over TLS.

    Attributes:
        session_timeout: after so long without a sign of life a consumer's partitions go to others, such as `10s`.
    """

    session_timeout: Duration = Duration(10)


def nodes(binding: Binding[RedisOptions]) -> list[tuple[str, int]]:
    """Give the hosts and ports that the URL names.

    Raises:
        ConfigError: it names none, or what it names does not fit its options.
    """
    options, url = binding.options, binding.url
    if options.cluster and (options.sentinel or options.socket or options.db):
        raise ConfigError("cluster=true stands alone: a cluster has no sentinel=, no socket= and no db= but 0")
    if options.socket is not None:
        if options.sentinel or url.host:
            raise ConfigError("socket= is instead of a host and of sentinel=; write redis:///name?socket=/path")
        return []
    usual = SENTINEL_PORT if options.sentinel else PORT
    if "," not in url.hosts:
        if not url.host:
            raise ConfigError("the URL names no host; write redis://host:port/name")
        return [(url.host, url.port or usual)]
    if not (options.cluster or options.sentinel):
        raise ConfigError("the URL names several hosts; say cluster=true or sentinel=NAME")
    return [_node(text.strip(), usual) for text in url.hosts.split(",")]


def _node(text: str, usual: int) -> tuple[str, int]:
    bracketed = text.startswith("[")
    host, _, port = text.rpartition(":") if not bracketed or "]:" in text else (text, "", "")
    if not host and ":" not in text:
        host, port = text, ""
    if not host or (port and not (port.isdecimal() and int(port) < 65536)):
        raise ConfigError(f"{text!r} in the URL is no host:port")
    return host.strip("[]"), int(port or usual)


def security(binding: Binding[RedisOptions]) -> dict[str, Any]:
    """Give what TLS needs, as redis-py takes it: the server is always verified."""
    if binding.url.scheme != "rediss":
        return {}
    options = binding.options
    files = {"ssl_ca_certs": options.ca, "ssl_certfile": options.certificate, "ssl_keyfile": options.private_key}
    given = {name: str(path) for name, path in files.items() if path is not None}
    return {"ssl_cert_reqs": "required", "ssl_check_hostname": True, **given}
