"""PostgreSQL and MariaDB, by the suites of the kinds that they serve, in both faces."""

from __future__ import annotations

from typing import ClassVar

import pytest

from portable.testing.aio.cache import CacheSuite as AsyncCacheSuite
from portable.testing.aio.database import DatabaseSuite as AsyncDatabaseSuite
from portable.testing.aio.queue import QueueSuite as AsyncQueueSuite
from portable.testing.aio.topic import SubscriptionSuite as AsyncSubscriptionSuite
from portable.testing.aio.topic import TopicSuite as AsyncTopicSuite
from portable.testing.cache import CacheSuite
from portable.testing.database import DatabaseSuite
from portable.testing.queue import QueueSuite
from portable.testing.topic import SubscriptionSuite, TopicSuite
from tests.conformance.leases import LEASE
from tests.targets import target


class _Postgresql:
    url: ClassVar[str]
    lease = LEASE

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("postgres")


class _Mariadb:
    url: ClassVar[str]
    lease = LEASE

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("mariadb")


class TestPostgresqlDatabase(_Postgresql, DatabaseSuite):
    pass


class TestPostgresqlDatabaseAsync(_Postgresql, AsyncDatabaseSuite):
    pass


class TestMariadbDatabase(_Mariadb, DatabaseSuite):
    pass


class TestMariadbDatabaseAsync(_Mariadb, AsyncDatabaseSuite):
    pass


class TestPostgresqlQueue(_Postgresql, QueueSuite):
    pass


class TestPostgresqlQueueAsync(_Postgresql, AsyncQueueSuite):
    pass


class TestMariadbQueue(_Mariadb, QueueSuite):
    pass


class TestMariadbQueueAsync(_Mariadb, AsyncQueueSuite):
    pass


class TestPostgresqlTopic(_Postgresql, TopicSuite):
    pass


class TestPostgresqlTopicAsync(_Postgresql, AsyncTopicSuite):
    pass


class TestPostgresqlSubscription(_Postgresql, SubscriptionSuite):
    pass


class TestPostgresqlSubscriptionAsync(_Postgresql, AsyncSubscriptionSuite):
    pass


class TestMariadbTopic(_Mariadb, TopicSuite):
    pass


class TestMariadbTopicAsync(_Mariadb, AsyncTopicSuite):
    pass


class TestMariadbSubscription(_Mariadb, SubscriptionSuite):
    pass


class TestMariadbSubscriptionAsync(_Mariadb, AsyncSubscriptionSuite):
    pass


class TestPostgresqlCache(_Postgresql, CacheSuite):
    pass


class TestPostgresqlCacheAsync(_Postgresql, AsyncCacheSuite):
    pass


class TestPostgresqlLoggedCache(_Postgresql, CacheSuite):
    options: ClassVar = {"durability": "power"}
