"""Kafka, by the suites of all kinds that it serves: both faces on confluent-kafka, one on kafka-python."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from portable.testing.aio.queue import QueueSuite as AsyncQueueSuite
from portable.testing.aio.stream import StreamSuite as AsyncStreamSuite
from portable.testing.aio.topic import SubscriptionSuite as AsyncSubscriptionSuite
from portable.testing.aio.topic import TopicSuite as AsyncTopicSuite
from portable.testing.queue import QueueSuite
from portable.testing.stream import StreamSuite
from portable.testing.topic import SubscriptionSuite, TopicSuite
from tests.targets import target


class _Kafka:
    url: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {"engine": "confluent"}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("kafka")

    @pytest.fixture(autouse=True)
    def _fresh(self) -> Iterator[None]:
        """Delete what a case has made: a broker on a small machine does not want thousands of topics.

        Set up before `_lifetime`, for fixtures come in the order of their names, it ends after it.
        """
        yield
        from confluent_kafka.admin import AdminClient

        admin = AdminClient({"bootstrap.servers": self.url.removeprefix("kafka://"), "log_level": 0})
        mark: str = self._unique  # type: ignore[attr-defined]  # every suite has one
        names = [name for name in admin.list_topics(timeout=30).topics if mark in name]
        if names:
            admin.delete_topics(names, request_timeout=30)


# The library uses what Python 3.11 deprecates, and forgets sockets.
@pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class _OnKafkaPython(_Kafka):
    options: ClassVar[dict[str, Any]] = {"engine": "kafka-python"}

    @pytest.fixture(autouse=True)
    def _collected(self) -> Iterator[None]:
        """Have what the library forgot found here, and in no test that comes after."""
        yield
        gc.collect()


class TestKafkaStream(_Kafka, StreamSuite):
    pass


class TestKafkaStreamAsync(_Kafka, AsyncStreamSuite):
    pass


class TestKafkaTopic(_Kafka, TopicSuite):
    pass


class TestKafkaTopicAsync(_Kafka, AsyncTopicSuite):
    pass


class TestKafkaSubscription(_Kafka, SubscriptionSuite):
    pass


class TestKafkaSubscriptionAsync(_Kafka, AsyncSubscriptionSuite):
    pass


class TestKafkaQueue(_Kafka, QueueSuite):
    pass


class TestKafkaQueueAsync(_Kafka, AsyncQueueSuite):
    pass


@pytest.mark.thorough
class TestKafkaStreamOnKafkaPython(_OnKafkaPython, StreamSuite):
    pass


@pytest.mark.thorough
class TestKafkaTopicOnKafkaPython(_OnKafkaPython, TopicSuite):
    pass


@pytest.mark.thorough
class TestKafkaQueueOnKafkaPython(_OnKafkaPython, QueueSuite):
    pass
