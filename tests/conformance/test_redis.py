"""Redis in both faces, and Valkey, by the suites of all kinds that they serve."""

from __future__ import annotations

from typing import ClassVar

import pytest

from portable.testing.aio.cache import CacheSuite as AsyncCacheSuite
from portable.testing.aio.queue import QueueSuite as AsyncQueueSuite
from portable.testing.aio.stream import StreamSuite as AsyncStreamSuite
from portable.testing.aio.topic import SubscriptionSuite as AsyncSubscriptionSuite
from portable.testing.aio.topic import TopicSuite as AsyncTopicSuite
from portable.testing.cache import CacheSuite
from portable.testing.queue import QueueSuite
from portable.testing.stream import StreamSuite
from portable.testing.topic import SubscriptionSuite, TopicSuite
from tests.targets import target


class _Redis:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("redis")


class TestRedisCache(_Redis, CacheSuite):
    pass


class TestRedisCacheAsync(_Redis, AsyncCacheSuite):
    pass


class TestRedisQueue(_Redis, QueueSuite):
    pass


class TestRedisQueueAsync(_Redis, AsyncQueueSuite):
    pass


class TestRedisTopic(_Redis, TopicSuite):
    pass


class TestRedisTopicAsync(_Redis, AsyncTopicSuite):
    pass


class TestRedisSubscription(_Redis, SubscriptionSuite):
    pass


class TestRedisSubscriptionAsync(_Redis, AsyncSubscriptionSuite):
    pass


class TestRedisStream(_Redis, StreamSuite):
    pass


class TestRedisStreamAsync(_Redis, AsyncStreamSuite):
    pass


class _Valkey:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("valkey")


class TestValkeyCache(_Valkey, CacheSuite):
    pass


class TestValkeyQueue(_Valkey, QueueSuite):
    pass


class TestValkeyTopic(_Valkey, TopicSuite):
    pass


class TestValkeySubscription(_Valkey, SubscriptionSuite):
    pass


class TestValkeyStream(_Valkey, StreamSuite):
    pass
