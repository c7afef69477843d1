"""NATS JetStream, by the suites of all kinds that it serves, in both faces."""

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


class _Nats:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("nats")


class TestNatsCache(_Nats, CacheSuite):
    pass


class TestNatsCacheAsync(_Nats, AsyncCacheSuite):
    pass


class TestNatsQueue(_Nats, QueueSuite):
    pass


class TestNatsQueueAsync(_Nats, AsyncQueueSuite):
    pass


class TestNatsTopic(_Nats, TopicSuite):
    pass


class TestNatsTopicAsync(_Nats, AsyncTopicSuite):
    pass


class TestNatsSubscription(_Nats, SubscriptionSuite):
    pass


class TestNatsSubscriptionAsync(_Nats, AsyncSubscriptionSuite):
    pass


class TestNatsStream(_Nats, StreamSuite):
    pass


class TestNatsStreamAsync(_Nats, AsyncStreamSuite):
    pass
