"""What the URL of a PostgreSQL or MySQL server may say, and what it means for the clients of either."""

from __future__ import annotations

import ipaddress
import ssl
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from portable.bindings import Binding
from portable.drivers import Options
from portable.errors import ConfigError

__all__ = [
    "SCHEMES",
    "ServerOptions",
    "database_name",
    "is_encrypted",
    "is_local",
    "is_postgresql",
    "mysql_arguments",
    "postgresql_arguments",
]

SCHEMES = ("postgresql", "mysql", "mariadb")
"""Those of the databases that are servers."""


class ServerOptions(Options, frozen=True, kw_only=True):
    """`postgresql://user:password@host:port/database/physical-name`, or `mysql:` (`mariadb:` is the same).

    The physical name may be left out: then it is the resource's own. Several kinds, and any number of names, share one
    database. `postgresql:///database?socket=/run/postgresql` is a Unix socket.

    Attributes:
        schema: the schema that the tables are in (PostgreSQL); the first of the user's search path, when left out.
        socket: the folder (PostgreSQL) or the file (MySQL) of a Unix socket, instead of a host.
        tls: `"verify"` encrypts, and verifies the server's certificate and name; `"off"` does not encrypt. Left out, it
            is `"off"` for this machine itself, and `"verify"` for every other.
        ca: a file with the certificates of authorities to trust, instead of the system's.
        certificate: a file with this client's own certificate.
        private_key: a file with the certificate's key.
        auth: by which cloud's identity to log in, in place of a password: `aws-iam` (RDS), `gcp-iam` (Cloud SQL) or
            `entra` (Azure); each connection has a token of its own.
        region: for `auth=aws-iam`, where the host's name does not say it.
        credentials: for `auth`: the credentials that make tokens, as the cloud's other resources take them, in place of
            the cloud's default chain.
        max_connections: how many connections a cloud has to this database at most; for PostgreSQL one more listens.
    """

    schema: Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_$]{0,62}$")] | None = None
    socket: Path | None = None
    tls: Literal["verify", "off"] | None = None
    ca: Path | None = None
    certificate: Path | None = None
    private_key: Path | None = None
    auth: str | None = None
    region: str | None = None
    credentials: dict[str, Any] | None = None
    max_connections: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10


def is_postgresql(binding: Binding[Any]) -> bool:
    """Whether it is PostgreSQL, and not MySQL or MariaDB."""
    return binding.url.scheme == "postgresql"


def database_name(binding: Binding[Any]) -> str:
    """Give the database, which the URL's path begins with.

    Raises:
        ConfigError: the URL names none.
    """
    name = binding.url.path.strip("/").partition("/")[0]
    if not name:
        raise ConfigError(f"the URL names no database; write {binding.url.scheme}://user@host/database")
    return name


def postgresql_arguments(binding: Binding[ServerOptions]) -> dict[str, Any]:
    """Give what psycopg needs to connect, the time limit excepted."""
    options, url = binding.options, binding.url
    given: dict[str, Any] = {
        **_place(binding),
        "dbname": database_name(binding),
        "user": url.username,
        "password": url.password,
        "application_name": "portable",
        "client_encoding": "utf-8",
    }
    if options.schema is not None:
        given["options"] = f"-csearch_path={options.schema}"
    if not is_encrypted(binding):
        # Neither asks a server on this machine for its certificate, nor waits for it to have none.
        given["sslmode"] = "disable"
    else:
        files = {"sslrootcert": options.ca or "system", "sslcert": options.certificate, "sslkey": options.private_key}
        given |= {"sslmode": "verify-full", **{name: str(path) for name, path in files.items() if path is not None}}
    return {name: value for name, value in given.items() if value is not None}


def mysql_arguments(binding: Binding[ServerOptions]) -> dict[str, Any]:
    """Give what PyMySQL needs to connect, the time limits excepted."""
    options, url = binding.options, binding.url
    if options.schema is not None:
        raise ConfigError(f"{url.scheme}: knows no schema=; the tables are in the database that the URL names")
    given: dict[str, Any] = {
        **_place(binding),
        "database": database_name(binding),
        "user": url.username,
        "password": url.password or "",
        "charset": "utf8mb4",
        "ssl": _context(options) if is_encrypted(binding) else None,
        "ssl_disabled": None if is_encrypted(binding) else True,
    }
    return {name: value for name, value in given.items() if value is not None}


def _place(binding: Binding[ServerOptions]) -> dict[str, Any]:
    options, url = binding.options, binding.url
    if options.socket is None:
        if not url.host or "," in url.hosts:
            raise ConfigError(f"the URL names no single host; write {url.scheme}://user@host/database")
        return {"host": url.host, "port": url.port or (5432 if is_postgresql(binding) else 3306)}
    if url.host:
        raise ConfigError(f"socket= is instead of a host; write {url.scheme}://user@/database?socket=/path")
    if is_postgresql(binding):
        return {"host": str(options.socket), "port": url.port or 5432}
    return {"unix_socket": str(options.socket)}


def is_encrypted(binding: Binding[ServerOptions]) -> bool:
    """Whether connections are encrypted, and the server verified."""
    tls = binding.options.tls
    return not is_local(binding) if tls is None else tls == "verify"


def is_local(binding: Binding[ServerOptions]) -> bool:
    """Whether the server is on this machine."""
    if binding.options.socket is not None:
        return True
    host = binding.url.host or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _context(options: ServerOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.certificate is not None:
            context.load_cert_chain(options.certificate, options.private_key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(f"the files of ca=, certificate= or private_key= cannot be used: {error}") from error
    return context
