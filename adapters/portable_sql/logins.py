"""Tokens of a cloud's identity in place of a password, fresh for each connection."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import await_only

from portable.bindings import Binding
from portable.errors import ConfigError
from portable.identities import Logins, Sought, logins
from portable_sql.options import ServerOptions, is_encrypted, is_local, is_postgresql

__all__ = ["log_in", "log_in_async", "made_logins"]


def made_logins(binding: Binding[ServerOptions]) -> Logins | None:
    """Give what makes the logins of a binding; None where it has a password, or none.

    Raises:
        ConfigError: what it says of them does not fit together.
    """
    options, url = binding.options, binding.url
    if options.auth is None:
        if options.region is not None or options.credentials is not None:
            raise ConfigError("region= and credentials say how auth= logs in, which is not set")
        return None
    if url.password is not None:
        raise ConfigError("auth= logs in without a password; take the one in the URL away")
    if not is_encrypted(binding) and not is_local(binding):
        raise ConfigError("auth= sends a token that is as good as a password, so it needs TLS; take tls=off away")
    postgresql = is_postgresql(binding)
    sought = Sought(
        protocol="postgresql" if postgresql else "mysql",
        host=url.host or "localhost",
        port=url.port or (5432 if postgresql else 3306),
        username=url.username,
        region=options.region,
        credentials=options.credentials or {},
    )
    return logins(options.auth, sought)


def log_in(engine: Engine, make: Logins) -> None:
    """Have each connection of an engine log in by a token of its own."""

    @event.listens_for(engine, "do_connect")
    def connecting(_dialect: Any, _record: Any, _arguments: Any, keywords: dict[str, Any]) -> None:
        keywords["password"] = make().password


def log_in_async(engine: AsyncEngine, make: Logins) -> None:
    """Have each connection of an engine log in by a token of its own; it is made beside the loop."""

    @event.listens_for(engine.sync_engine, "do_connect")
    def connecting(_dialect: Any, _record: Any, _arguments: Any, keywords: dict[str, Any]) -> None:
        keywords["password"] = await_only(asyncio.to_thread(make)).password
