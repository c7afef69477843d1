"""What the URL of a memcached may say, and what it means for the clients of pymemcache."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated

import msgspec

from portable.bindings import Binding
from portable.drivers import Options
from portable.errors import ConfigError
from portable.quantities import Size

__all__ = ["MemcachedOptions", "addresses", "tls_context"]

PORT = 11211

Address = tuple[str, int] | str


class MemcachedOptions(Options, frozen=True, kw_only=True):
    """`memcached://host:port/physical-name`; any number of caches share one server.

    `memcached://host1:port,host2:port/name` is several servers: each key is on one of them, found by rendezvous
    hashing. `memcached:///name?socket=/run/memcached.sock` is a Unix socket. A user and password are for servers
    that have an authentication file (`memcached -Y`).

    Attributes:
        socket: the path of a Unix socket, instead of a host.
        tls: whether the connection is encrypted; the server is then verified.
        ca: a file with the certificates of authorities to trust, instead of the system's.
        certificate: a file with this client's own certificate.
        private_key: a file with the certificate's key.
        max_item_size: the largest item that the servers take (`memcached -I`), such as `4MiB`.
        max_connections: how many connections to each server calls share.
    """

    socket: Path | None = None
    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    max_item_size: Size = Size(1024 * 1024)
    max_connections: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 32


def addresses(binding: Binding[MemcachedOptions]) -> dict[str, Address]:
    """Give the servers that the URL names: what the keys are hashed with, and where each is.

    Raises:
        ConfigError: it names none, or one that is no server.
    """
    options, url = binding.options, binding.url
    if options.socket is not None:
        if url.host:
            raise ConfigError("socket= is instead of a host; write memcached:///name?socket=/path")
        if options.tls:
            raise ConfigError("tls=true is for hosts; a Unix socket has no TLS")
        return {str(options.socket): str(options.socket)}
    if not url.host:
        raise ConfigError("the URL names no host; write memcached://host:port/name")
    found: dict[str, Address] = {}
    for text in url.hosts.split(","):
        host, port = _host_and_port(text.strip())
        found[f"{host}:{port}"] = (host, port)
    return found


def _host_and_port(text: str) -> tuple[str, int]:
    bracketed = text.startswith("[")
    host, _, port = text.rpartition(":") if ("]:" in text if bracketed else ":" in text) else (text, "", "")
    if not host or (port and not (port.isdecimal() and int(port) < 65536)):
        raise ConfigError(f"{text!r} in the URL is no host:port")
    return host.strip("[]"), int(port or PORT)


def tls_context(options: MemcachedOptions) -> ssl.SSLContext | None:
    """Give what TLS needs, or None where it is not asked for.

    Raises:
        ConfigError: a file of certificates cannot be read.
    """
    if not options.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.certificate is not None:
            context.load_cert_chain(options.certificate, options.private_key)
    except OSError as error:
        raise ConfigError(f"the certificates of ca=, certificate= and private_key= cannot be read: {error}") from error
    return context
