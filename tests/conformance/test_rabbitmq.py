"""RabbitMQ, by the suites of all kinds that it serves, in both faces."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import pika
import pytest

from portable.testing.aio.queue import QueueSuite as AsyncQueueSuite
from portable.testing.aio.topic import SubscriptionSuite as AsyncSubscriptionSuite
from portable.testing.aio.topic import TopicSuite as AsyncTopicSuite
from portable.testing.queue import QueueSuite
from portable.testing.topic import SubscriptionSuite, TopicSuite
from tests.targets import target


class _RabbitMQ:
    url: ClassVar[str]
    connection: ClassVar[Any]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> Iterator[None]:
        cls.url = target("rabbitmq")
        cls.connection = pika.BlockingConnection(pika.URLParameters(f"{cls.url}/%2F?heartbeat=0"))
        yield
        cls.connection.close()

    @pytest.fixture(autouse=True)
    def _swept(self) -> Iterator[None]:
        """Remove what a test has made: each quorum queue takes a part of the server's memory, also when empty."""
        yield
        names = {one._binding.name for one in vars(self).get("_open_ones", ())}
        channel = self.connection.channel()
        for name in names:
            for queue in (name, f"{name}-dead"):
                channel.queue_delete(queue)
            for exchange in (name, f"{name}.feed.0", f"{name}.feed.1"):
                channel.exchange_delete(exchange)
        channel.close()


class TestRabbitMQQueue(_RabbitMQ, QueueSuite):
    pass


class TestRabbitMQQueueAsync(_RabbitMQ, AsyncQueueSuite):
    pass


class TestRabbitMQTopic(_RabbitMQ, TopicSuite):
    pass


class TestRabbitMQTopicAsync(_RabbitMQ, AsyncTopicSuite):
    pass


class TestRabbitMQSubscription(_RabbitMQ, SubscriptionSuite):
    pass


class TestRabbitMQSubscriptionAsync(_RabbitMQ, AsyncSubscriptionSuite):
    pass
