"""SQLAlchemy's engines on PostgreSQL and MySQL, as a binding sets them up: pool, time limits, TLS, credentials."""

from __future__ import annotations

from typing import Any

import sqlalchemy
from sqlalchemy import Engine
from sqlalchemy.engine import URL
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from portable.bindings import Binding
from portable_sql.logins import log_in, log_in_async, made_logins
from portable_sql.options import ServerOptions, is_postgresql, mysql_arguments, postgresql_arguments

__all__ = ["open_async_engine", "open_engine"]


def open_engine(binding: Binding[ServerOptions]) -> Engine:
    """Make the sync engine; nothing is connected before it is used."""
    engine = sqlalchemy.create_engine(**_how(binding, is_async=False))
    if make := made_logins(binding):
        log_in(engine, make)
    return engine


def open_async_engine(binding: Binding[ServerOptions]) -> AsyncEngine:
    """Make the async engine; nothing is connected before it is used."""
    engine = create_async_engine(**_how(binding, is_async=True))
    if make := made_logins(binding):
        log_in_async(engine, make)
    return engine


def _how(binding: Binding[ServerOptions], *, is_async: bool) -> dict[str, Any]:
    patience = float(binding.contract.timeout)
    if is_postgresql(binding):
        dialect, arguments = "postgresql+psycopg", postgresql_arguments(binding)
        place = {name: arguments.pop(of, None) for name, of in _IN_URL.items()}
        place["database"] = arguments.pop("dbname")
    else:
        dialect, arguments = "mysql+asyncmy" if is_async else "mysql+pymysql", mysql_arguments(binding)
        place = {name: arguments.pop(of, None) for name, of in _IN_URL.items()}
        place["database"] = arguments.pop("database")
        arguments.pop("charset")
        place["query"] = {"charset": "utf8mb4"}
        if is_async:
            arguments.pop("ssl_disabled", None)
    return {
        "url": URL.create(dialect, **place),
        "connect_args": {**arguments, "connect_timeout": max(1, round(patience))},
        "pool_size": binding.options.max_connections,
        "max_overflow": 0,
        "pool_timeout": patience,
        "pool_pre_ping": True,
    }


_IN_URL = {"host": "host", "port": "port", "username": "user", "password": "password"}
"""Which part of SQLAlchemy's URL is which argument of the clients."""
