"""The embedded caches, by their suite, in both faces."""

from __future__ import annotations

from typing import ClassVar

import pytest

from portable.testing.aio.cache import CacheSuite as AsyncCacheSuite
from portable.testing.cache import CacheSuite


class _SqliteFile:
    # What survives a power cut is tested with the store; syncing every commit would only make these slow.
    options: ClassVar = {"durability": "process"}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> None:
        request.cls.url = f"sqlite:{tmp_path_factory.mktemp('cache') / 'app.db'}"


class TestMemoryCache(CacheSuite):
    url = "memory:conformance"


class TestMemoryCacheAsync(AsyncCacheSuite):
    url = "memory:conformance"


class TestSqliteCache(_SqliteFile, CacheSuite):
    pass


class TestSqliteCacheAsync(_SqliteFile, AsyncCacheSuite):
    pass
