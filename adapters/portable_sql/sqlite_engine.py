"""Engines on an SQLite file: WAL, foreign keys, transactions that take the write lock first and wait for their turn."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import URL, Engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from sqlalchemy.util import await_only

from portable.errors import IntegrityError, PermissionDenied, Unavailable
from portable_sql.sqlite_connections import Connection

__all__ = ["async_sqlite_engine", "sqlite_engine", "sqlite_error"]


def sqlite_engine(path: Path, *, durability: str, begin: str, busy: float) -> Engine:
    """Make the sync engine of a file.

    Args:
        path: the file; made by the first connection.
        durability: `"power"` or `"process"`.
        begin: how a transaction starts: `"immediate"` (takes the write lock) or `"deferred"`.
        busy: seconds a transaction waits for the write lock.
    """
    url = URL.create("sqlite+pysqlite", database=_uri(path), query={"uri": "true"})
    engine = sqlalchemy.create_engine(url, connect_args=_connect_args())
    _configure(engine, time.sleep, durability=durability, begin=begin, busy=busy)
    return engine


def async_sqlite_engine(path: Path, *, durability: str, begin: str, busy: float) -> AsyncEngine:
    """Make the async engine of a file; arguments as for the sync one.

    It keeps no idle connections: one would have to be closed before a fork, and only its own event loop could.
    """
    url = URL.create("sqlite+aiosqlite", database=_uri(path), query={"uri": "true"})
    engine = create_async_engine(url, connect_args=_connect_args(), poolclass=NullPool)
    _configure(
        engine.sync_engine,
        lambda seconds: await_only(asyncio.sleep(seconds)),
        durability=durability,
        begin=begin,
        busy=busy,
    )
    return engine


def _uri(path: Path) -> str:
    return f"file:{quote(str(path))}"


def _connect_args() -> dict[str, Any]:
    # Waiting for the write lock is done in `_begin`, outside of SQLite, so that a fork never waits for it.
    return {"factory": Connection, "isolation_level": None, "check_same_thread": False, "timeout": 0.1}


def _configure(engine: Engine, sleep: Callable[[float], object], *, durability: str, begin: str, busy: float) -> None:
    synchronous = "FULL" if durability == "power" else "NORMAL"

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", f"synchronous={synchronous}", "foreign_keys=ON"):
            _patiently(functools.partial(cursor.execute, f"PRAGMA {pragma}"), sleep, busy)
        cursor.close()

    @event.listens_for(engine, "begin")
    def start(connection: sqlalchemy.Connection) -> None:
        # A connection may ask for another start: one that only reads need not wait for those that write.
        how = connection.get_execution_options()
        statement = f"BEGIN {how.get('sqlite_begin', begin).upper()}"
        _patiently(functools.partial(connection.exec_driver_sql, statement), sleep, how.get("sqlite_busy", busy))


def _patiently(call: Callable[[], object], sleep: Callable[[float], object], busy: float) -> None:
    """Repeat a call while the file is locked, with jitter, so that many processes all get their turn."""
    deadline = time.monotonic() + busy
    while True:
        try:
            call()
        except (sqlite3.OperationalError, OperationalError) as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            sleep(random.uniform(0.001, 0.01))  # noqa: S311 (jitter needs no secrecy)
        else:
            return


def sqlite_error(path: Path, error: Exception) -> Exception:
    """Say in our terms what is wrong with a file."""
    text = str(getattr(error, "orig", error))
    with contextlib.suppress(OSError):
        if path.is_dir():
            return PermissionDenied(f"{path} is a folder; the database needs a file")
    if "unable to open" in text:
        return PermissionDenied(f"{path} cannot be opened; make the file and its folder readable and writable")
    if "not a database" in text or "malformed" in text:
        return IntegrityError(f"{path} is damaged or no SQLite database ({text}); it was left as it is")
    if "readonly" in text:
        return PermissionDenied(f"{path} may not be written ({text})")
    if "full" in text or "disk I/O" in text:
        return Unavailable(f"{path} could not be written ({text})", retryable=True)
    return Unavailable(f"{path}: {text}")
