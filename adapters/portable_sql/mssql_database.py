"""Databases of SQL Server and Azure SQL, by SQLAlchemy's `mssql+pyodbc`, and `mssql+aioodbc` for the async engine.

Vendor pages: docs.sqlalchemy.org/en/20/dialects/mssql.html,
learn.microsoft.com/sql/connect/odbc/dsn-connection-string-attribute.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Annotated, Any

import msgspec
import sqlalchemy
from sqlalchemy import Engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.util import await_only

from portable.bindings import Binding
from portable.drivers import DatabaseCapabilities, Options
from portable.errors import (
    ConfigError,
    DeadlineExceeded,
    PermissionDenied,
    PortableError,
    ResourceNotFound,
    Unauthenticated,
    Unavailable,
)
from portable.identities import Logins, Sought, logins
from portable_sql.database import SqlDatabase
from portable_sql.engine_place import EnginePlace
from portable_sql.options import database_name

__all__ = ["MssqlDatabase", "MssqlOptions", "access_token", "arguments", "log_in", "translated"]

PORT = 1433

ACCESS_TOKEN = 1256
"""`SQL_COPT_SS_ACCESS_TOKEN` of Microsoft's ODBC driver."""


class MssqlOptions(Options, frozen=True, kw_only=True):
    """`mssql://user:password@host:port/database`.

    It needs `pip install 'portable-cloud[mssql]'`, the library of unixODBC and an ODBC driver, which no extra brings.

    Attributes:
        driver: the name of the ODBC driver, as it is installed on this machine.
        tls: whether connections are encrypted, and the server verified; only a server on this machine may do without.
        auth: `entra` logs in by a token of Entra ID, fresh for each connection, in place of user and password.
        credentials: for `auth`: the credentials that make tokens, in place of Azure's default chain.
        max_connections: how many connections a cloud has to this database at most.
    """

    driver: str = "ODBC Driver 18 for SQL Server"
    tls: bool = True
    auth: str | None = None
    credentials: dict[str, Any] | None = None
    max_connections: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 10


def arguments(binding: Binding[MssqlOptions], *, is_async: bool) -> dict[str, Any]:
    """Give what SQLAlchemy makes an engine with.

    Raises:
        ConfigError: what the binding says does not fit together.
    """
    options, url = binding.options, binding.url
    if not url.host or "," in url.hosts:
        raise ConfigError("the URL names no single host; write mssql://user:password@host/database")
    if options.auth is None and not (url.username and url.password):
        raise ConfigError(
            "the URL names no user and password; write mssql://user:password@host/database, or auth=entra"
        )
    if options.auth is not None and (url.username or url.password):
        raise ConfigError("auth= logs in without user and password; take those in the URL away")
    if not options.tls and url.host not in {"localhost", "127.0.0.1", "::1"}:
        raise ConfigError("only a server on this machine may do without TLS; take tls=false away")
    encrypted = "yes" if options.tls else "no"
    patience = float(binding.contract.timeout)
    return {
        "url": URL.create(
            "mssql+aioodbc" if is_async else "mssql+pyodbc",
            username=url.username,
            password=url.password,
            host=url.host,
            port=url.port or PORT,
            database=database_name(binding),
            query={"driver": options.driver, "Encrypt": encrypted, "TrustServerCertificate": "no", "APP": "portable"},
        ),
        "connect_args": {"timeout": max(1, round(patience))},
        "pool_size": options.max_connections,
        "max_overflow": 0,
        "pool_timeout": patience,
        "pool_pre_ping": True,
    }


def access_token(token: str) -> bytes:
    """Give a token as Microsoft's ODBC driver takes it: its length in bytes, and itself in UTF-16."""
    written = token.encode("utf-16-le")
    return struct.pack("<I", len(written)) + written


def translated(error: SQLAlchemyError) -> PortableError:
    """Give the error of ours for one of SQLAlchemy's, by the SQLSTATE that ODBC gives."""
    if isinstance(error, PoolTimeoutError):
        return DeadlineExceeded("every connection was in use all the time; see max_connections")
    cause = getattr(error, "orig", None)
    state = str(cause.args[0]) if cause is not None and cause.args else ""
    for beginning, ours, words in _STATES:
        if state.startswith(beginning):
            return ours(f"{words} ({state})")
    return PortableError(f"the server refused ({state or type(error).__name__})")


_STATES: tuple[tuple[str, type[PortableError], str], ...] = (
    ("28", Unauthenticated, "the server does not know this user"),
    ("IM002", ConfigError, "there is no such ODBC driver on this machine; see driver="),
    ("01000", ConfigError, "the ODBC driver cannot be loaded; see driver="),
    ("08", Unavailable, "the server cannot be reached, or broke off"),
    ("HYT", DeadlineExceeded, "the server did not answer in time"),
    ("40", Unavailable, "the server cannot serve this now, and may a moment later"),
    ("42S02", ResourceNotFound, "a table is missing; make it with `portable resources create`"),
    ("42000", PermissionDenied, "the server forbids it to this user, or knows no such database"),
)


class MssqlDatabase(SqlDatabase):
    """A database of SQL Server."""

    Options = MssqlOptions

    def __init__(self, binding: Binding[MssqlOptions]) -> None:
        place = EnginePlace(
            open_engine=lambda: _opened(binding),
            open_async_engine=lambda: _opened_async(binding),
            error=translated,
            capabilities=DatabaseCapabilities(
                durability="power", transactional_ddl=True, token_refresh=binding.options.auth is not None
            ),
        )
        super().__init__(binding, place)


def _opened(binding: Binding[MssqlOptions]) -> Engine:
    make = _logins(binding)
    try:
        engine = sqlalchemy.create_engine(**arguments(binding, is_async=False))
    except ImportError as error:
        raise _lacking("pyodbc", error) from error
    if make is not None:
        log_in(engine, make)
    return engine


def _opened_async(binding: Binding[MssqlOptions]) -> AsyncEngine:
    make = _logins(binding)
    try:
        engine = create_async_engine(**arguments(binding, is_async=True))
    except ImportError as error:
        raise _lacking("aioodbc", error) from error
    if make is not None:
        log_in(engine.sync_engine, lambda: await_only(asyncio.to_thread(make)))
    return engine


def _lacking(package: str, error: ImportError) -> ConfigError:
    install = "pip install 'portable-cloud[mssql]', and unixODBC beside it"
    return ConfigError(
        f"mssql: needs the package {package} and the library of ODBC ({error}); install them with: {install}"
    )


def _logins(binding: Binding[MssqlOptions]) -> Logins | None:
    options, url = binding.options, binding.url
    if options.auth is None:
        if options.credentials is not None:
            raise ConfigError("credentials say how auth= logs in, which is not set")
        return None
    sought = Sought(protocol="mssql", host=url.host or "", port=url.port or PORT, credentials=options.credentials or {})
    return logins(options.auth, sought)


def log_in(engine: Engine, make: Logins) -> None:
    """Have each connection of an engine log in by a token of its own."""

    @event.listens_for(engine, "do_connect")
    def connecting(_dialect: Any, _record: Any, positional: list[Any], keywords: dict[str, Any]) -> None:
        # Without a user SQLAlchemy asks for the login of Windows, which excludes a token.
        positional[0] = positional[0].replace(";Trusted_Connection=Yes", "")
        keywords["attrs_before"] = {ACCESS_TOKEN: access_token(make().password)}
