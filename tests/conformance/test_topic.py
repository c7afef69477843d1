"""The embedded topics and subscriptions, by their suites, in both faces."""

from __future__ import annotations

from typing import ClassVar

import pytest

from portable.testing.aio.topic import SubscriptionSuite as AsyncSubscriptionSuite
from portable.testing.aio.topic import TopicSuite as AsyncTopicSuite
from portable.testing.topic import SubscriptionSuite, TopicSuite
from tests.conformance.leases import LEASE


class _SqliteFile:
    # What survives a power cut is tested with the store; syncing every commit would only make these slow.
    options: ClassVar = {"durability": "process"}
    lease = LEASE

    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.url = f"sqlite:{tmp_path_factory.mktemp('topic') / 'app.db'}"


class TestMemoryTopic(TopicSuite):
    url = "memory:conformance"
    lease = LEASE


class TestMemoryTopicAsync(AsyncTopicSuite):
    url = "memory:conformance"
    lease = LEASE


class TestSqliteTopic(_SqliteFile, TopicSuite):
    pass


class TestSqliteTopicAsync(_SqliteFile, AsyncTopicSuite):
    pass


class TestMemorySubscription(SubscriptionSuite):
    url = "memory:conformance"
    lease = LEASE


class TestMemorySubscriptionAsync(AsyncSubscriptionSuite):
    url = "memory:conformance"
    lease = LEASE


class TestSqliteSubscription(_SqliteFile, SubscriptionSuite):
    pass


class TestSqliteSubscriptionAsync(_SqliteFile, AsyncSubscriptionSuite):
    pass
