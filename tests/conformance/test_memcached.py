"""memcached in both faces, by the whole suite of caches, on one server and on two that share the keys."""

from __future__ import annotations

from typing import ClassVar

import pytest

from portable.testing.aio.cache import CacheSuite as AsyncCacheSuite
from portable.testing.cache import CacheSuite
from tests.targets import target


class _Memcached:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("memcached")


class TestMemcachedCache(_Memcached, CacheSuite):
    pass


class TestMemcachedCacheAsync(_Memcached, AsyncCacheSuite):
    pass


class TestMemcachedCacheOnTwo(CacheSuite):
    """Both are the same server, under two names: what is on which is decided by the names alone."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        host, _, port = target("memcached").removeprefix("memcached://").rpartition(":")
        assert host == "127.0.0.1"
        cls.url = f"memcached://127.0.0.1:{port},localhost:{port}"
