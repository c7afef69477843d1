"""Databases of dialects that we have no clients for: the suite on PostgreSQL by SQLAlchemy alone, and SQL Server's URL.

No registry has a SQL Server, so its own dialect is made and not connected.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from sqlalchemy.dialects import mssql
from sqlalchemy.exc import DBAPIError

from portable import open_database, registry
from portable.bindings import Binding, Shared
from portable.contracts import DatabaseContract
from portable.drivers import DatabaseCapabilities
from portable.errors import ConfigError, PermissionDenied, PortableError, ResourceNotFound, Unauthenticated, Unavailable
from portable.registry import Adapter
from portable.testing.database import DatabaseSuite
from portable.urls import Url
from portable_sql.database import SqlDatabase
from portable_sql.engine_place import EnginePlace
from portable_sql.engines import open_async_engine, open_engine
from portable_sql.errors import translated as server_error
from portable_sql.mssql_database import MssqlOptions, access_token, arguments, translated
from portable_sql.options import ServerOptions
from portable_sql.outbox_table import OutboxTable
from tests.targets import target


class EngineDatabase(SqlDatabase):
    """PostgreSQL, as a dialect of which nothing is known."""

    Options = ServerOptions

    def __init__(self, binding: Binding[ServerOptions]) -> None:
        at = Binding(
            resource=binding.resource,
            kind=binding.kind,
            name=binding.name,
            url=Url("postgresql", **{name: getattr(binding.url, name) for name in Url.__struct_fields__[1:]}),
            options=binding.options,
            contract=binding.contract,
            create=binding.create,
            shared=binding.shared,
        )
        place = EnginePlace(
            open_engine=lambda: open_engine(at),
            open_async_engine=lambda: open_async_engine(at),
            error=lambda error: server_error(error, sent=True),
            capabilities=DatabaseCapabilities(durability="power", transactional_ddl=True),
        )
        super().__init__(binding, place)


class TestEngineDatabase(DatabaseSuite):
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> Iterator[None]:
        here = EngineDatabase.__module__
        adapter = Adapter(schemes={"anysql": {"database": f"{here}:EngineDatabase"}}, extra="sql", place_segments=1)
        registry.register(adapter)
        cls.url = target("postgres").replace("postgresql:", "anysql:")
        yield
        registry._registered.remove(adapter)


def binding(url: str, **options: Any) -> Binding[MssqlOptions]:
    return Binding(
        resource="main",
        kind="database",
        name="main",
        url=Url.parse(url),
        options=MssqlOptions(**options),
        contract=DatabaseContract(),
        create=False,
        shared=Shared(),
    )


def connection_string(url: str, **options: Any) -> str:
    """Give what SQLAlchemy's dialect hands to ODBC."""
    how = arguments(binding(url, **options), is_async=False)
    (written,), _ = mssql.dialect().create_connect_args(how["url"])  # type: ignore[no-untyped-call]  # it has no types
    return str(written)


def test_the_url_of_sql_server_becomes_a_verified_connection() -> None:
    written = connection_string("mssql://app:p%40ss@db.example.com:1444/main").split(";")
    assert {"Server=db.example.com,1444", "Database=main", "UID=app", "PWD=p@ss"} <= set(written)
    assert {"Encrypt=yes", "TrustServerCertificate=no", "DRIVER={ODBC Driver 18 for SQL Server}"} <= set(written)
    assert "Encrypt=no" in connection_string("mssql://app:pw@127.0.0.1/main", tls=False).split(";")


def test_a_token_is_what_the_driver_of_odbc_takes() -> None:
    given = access_token("tökén")
    (length,) = struct.unpack("<I", given[:4])
    assert length == len(given) - 4
    assert given[4:].decode("utf-16-le") == "tökén"


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("mssql://app:pw@h", {}, "the URL names no database"),
        ("mssql://app@h/d", {}, "names no user and password"),
        ("mssql://app:pw@h/d", {"auth": "entra"}, "logs in without user and password"),
        ("mssql://app:pw@h/d", {"tls": False}, "may do without TLS"),
        ("mssql://app:pw@a,b/d", {}, "names no single host"),
    ],
)
def test_what_does_not_fit_sql_server_is_said(url: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        arguments(binding(url, **options), is_async=False)


@pytest.mark.parametrize(
    ("state", "ours"),
    [
        ("28000", Unauthenticated),
        ("08001", Unavailable),
        ("42S02", ResourceNotFound),
        ("42000", PermissionDenied),
        ("IM002", ConfigError),
        ("99999", PortableError),
    ],
)
def test_what_odbc_reports_is_ours(state: str, ours: type[PortableError]) -> None:
    error = translated(DBAPIError("SELECT 1", None, Exception(state, "[Microsoft] said 5ecret")))
    assert type(error) is ours
    assert "5ecret" not in str(error)


def test_the_tables_of_the_outbox_keep_text_whole_on_sql_server() -> None:
    dialect = mssql.dialect()  # type: ignore[no-untyped-call]  # it has no types
    text = " ".join(one for statements in OutboxTable.definitions(dialect).values() for one in statements)
    assert "ordering_key NVARCHAR(max) COLLATE Latin1_General_BIN2" in text
    assert "attributes NVARCHAR(max)" in text
    assert "body VARBINARY(max)" in text


def test_what_sql_server_needs_of_the_machine_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyodbc", None)
    with open_database("mssql://app:pw@127.0.0.1/main") as database:
        with pytest.raises(ConfigError, match="mssql: needs the package pyodbc and the library of ODBC"):
            database.check()
