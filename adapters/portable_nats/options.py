"""What the URL of a NATS server may say, and what it means for the client."""

from __future__ import annotations

import re
import ssl
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import msgspec

from portable.bindings import Binding
from portable.drivers import Options
from portable.errors import ConfigError
from portable.quantities import Duration, Size

__all__ = ["NatsOptions", "NatsStreamOptions", "checked_name", "credentials", "servers", "tls_context"]

PORT = 4222

_NAME = re.compile(r"(?!.*[.*>/\\])[!-~]{1,220}")


class NatsOptions(Options, frozen=True, kw_only=True):
    """`nats://user:password@host:port/physical-name`, or `nats://host1:port,host2:port/physical-name` for a cluster.

    The server is one with JetStream, of 2.12 or later. Several kinds, and any number of names, share one account.

    Attributes:
        tls: whether the connection is secured by TLS, the server always verified.
        ca: a file with the certificates of authorities to trust, instead of the system's.
        certificate: a file with this client's own certificate.
        private_key: a file with the certificate's key.
        token: the token that the server wants instead of user and password.
        creds: a credentials file (`.creds`), with a JWT and its seed; it needs the package `nkeys`.
        nkey: a file with an NKey's seed; it needs the package `nkeys`.
        domain: the JetStream domain, where it is not the server's own.
        replicas: how many servers of a cluster keep what is made.
        max_payload: the `max_payload` of the server's own config, such as `8MiB`, where it is not the usual one.
    """

    tls: bool = False
    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    token: str | None = None
    creds: Path | None = None
    nkey: Path | None = None
    domain: str | None = None
    replicas: Annotated[int, msgspec.Meta(ge=1, le=5)] = 1
    max_payload: Size = Size(1024 * 1024)


class NatsStreamOptions(NatsOptions, frozen=True, kw_only=True):
    """As for the other kinds: `nats://user:password@host:port/physical-name`.

    Attributes:
        session_timeout: after so long without a sign of life a consumer's partitions go to others, such as `10s`.
    """

    session_timeout: Duration = Duration(10)


def servers(binding: Binding[NatsOptions]) -> list[str]:
    """Give the servers that the URL names, as nats-py takes them.

    Raises:
        ConfigError: it names none, or what it names is no host and port.
    """
    hosts = binding.url.hosts
    if not hosts:
        raise ConfigError("the URL names no host; write nats://host:port/name")
    scheme = "tls" if binding.options.tls else "nats"
    return [f"{scheme}://{_server(text.strip())}" for text in hosts.split(",")]


def _server(text: str) -> str:
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^\s:\[\]]+)(?::([0-9]{1,5}))?", text)
    if match is None or int(match[2] or PORT) > 65535:
        raise ConfigError(f"{text!r} in the URL is no host:port")
    return f"{quote(match[1], safe='[]:.-_')}:{match[2] or PORT}"


def credentials(binding: Binding[NatsOptions]) -> dict[str, Any]:
    """Give what the client proves itself with, as nats-py takes it."""
    options, url = binding.options, binding.url
    if options.creds is not None or options.nkey is not None:
        try:
            import nkeys  # type: ignore[import-not-found,import-untyped,unused-ignore]  # noqa: F401, PLC0415 (an extra of nats-py's own)
        except ImportError as error:
            raise ConfigError("creds= and nkey= need another package: pip install nkeys") from error
    given: dict[str, Any] = {}
    if url.username is not None and url.password is not None:
        given |= {"user": url.username, "password": url.password}
    elif url.username is not None:
        # Clients of NATS take it for a token, but what is in front of the @ is shown.
        raise ConfigError("the URL has a user without a password; write user:password@, or a token as ?token=")
    if options.token is not None:
        given["token"] = options.token
    if options.creds is not None:
        given["user_credentials"] = options.creds
    if options.nkey is not None:
        given["nkeys_seed"] = str(options.nkey)
    for path in (options.creds, options.nkey):
        if path is not None and not path.is_file():
            raise ConfigError(f"there is no file {path}")
    return given


def tls_context(binding: Binding[NatsOptions]) -> ssl.SSLContext | None:
    """Give what TLS needs.

    Raises:
        ConfigError: a file is missing, or holds no certificate.
    """
    options = binding.options
    if not options.tls:
        if options.ca or options.certificate or options.private_key:
            raise ConfigError("ca=, certificate= and private_key= are for TLS; say tls=true too")
        return None
    try:
        context = ssl.create_default_context(cafile=None if options.ca is None else str(options.ca))
        if options.certificate is not None:
            context.load_cert_chain(str(options.certificate), options.private_key and str(options.private_key))
    except OSError as error:
        raise ConfigError(f"the certificates cannot be read: {error}") from error
    return context


def checked_name(name: str) -> str:
    """Give a physical name that can be part of the names of streams and subjects.

    Raises:
        ConfigError: it cannot.
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigError(
            f"{name!r} cannot name something on NATS: 1 to 200 characters of printable ASCII but . * > / \\ and spaces"
        )
    return name
