"""The embedded database, by its suite, in both faces."""

from __future__ import annotations

from typing import ClassVar

import pytest

from portable.testing.aio.database import DatabaseSuite as AsyncDatabaseSuite
from portable.testing.database import DatabaseSuite


class _SqliteFile:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.url = f"sqlite:{tmp_path_factory.mktemp('database') / 'main.db'}"


class TestSqliteDatabase(_SqliteFile, DatabaseSuite):
    pass


class TestSqliteDatabaseAsync(_SqliteFile, AsyncDatabaseSuite):
    pass
