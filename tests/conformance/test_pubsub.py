"""Pub/Sub on Google's own emulator, by the suites of queues, topics and subscriptions, in both faces."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest

from portable import open_queue, open_subscription, open_topic
from portable.errors import ConfigError, ResourceNotFound, Unavailable
from portable.messages import Outgoing
from portable.testing.aio.queue import QueueSuite as AsyncQueueSuite
from portable.testing.aio.topic import SubscriptionSuite as AsyncSubscriptionSuite
from portable.testing.aio.topic import TopicSuite as AsyncTopicSuite
from portable.testing.queue import QueueSuite
from portable.testing.topic import SubscriptionSuite, TopicSuite
from portable_gcp.pubsub_messages import packed, unpacked
from tests.targets import target


class _PubSub:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("pubsub-emulator")


class TestPubSubQueue(_PubSub, QueueSuite):
    pass


class TestPubSubQueueAsync(_PubSub, AsyncQueueSuite):
    pass


class TestPubSubTopic(_PubSub, TopicSuite):
    pass


class TestPubSubTopicAsync(_PubSub, AsyncTopicSuite):
    pass


class TestPubSubSubscription(_PubSub, SubscriptionSuite):
    pass


class TestPubSubSubscriptionAsync(_PubSub, AsyncSubscriptionSuite):
    pass


@pytest.fixture
def url() -> str:
    return target("pubsub-emulator")


@pytest.mark.parametrize("body", [b"", b"text", b"\xff\n\0"])
@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"a": "1"},
        {"long": "x" * 2000},
        {"": "no name", "goog-like": "1", "n" * 300: "1"},
        {f"name-{number}": "1" for number in range(150)},
    ],
)
def test_messages_carry_what_the_service_does_not_take(body: bytes, attributes: dict[str, str]) -> None:
    made = packed(Outgoing(body, attributes))
    assert len(made["attributes"]) <= 100
    assert all(len(name) <= 256 and len(value) <= 1024 for name, value in made["attributes"].items())
    assert unpacked(made["data"], made["attributes"]) == (body, attributes)


def test_the_subscription_says_what_was_declared(url: str) -> None:
    how: dict[str, Any] = {"create": "if_missing", "topic": "declared-events", "filter": {"type": 'a "quoted" one'}}
    with (
        open_topic(url, name="declared-events", create="if_missing") as topic,
        open_subscription(url, name="declared", visibility_timeout="90s", **how) as subscription,
    ):
        topic.publish(b"body")
        subscription.receive(wait=0)
        path = "projects/portable-local/subscriptions/declared"
        found = subscription.native.get_subscription(subscription=path)
        assert found.ack_deadline_seconds == 90
        assert found.topic == "projects/portable-local/topics/declared-events"
        assert found.filter.startswith(
            '(attributes."type" = "a \\"quoted\\" one" AND NOT attributes:"portable-to") OR '
        )
        assert found.dead_letter_policy.max_delivery_attempts == 100


def test_a_missing_queue_names_the_command(url: str) -> None:
    with open_queue(url, name="nowhere") as queue, pytest.raises(ResourceNotFound, match="portable resources create"):
        queue.send(b"body")


def test_a_service_that_is_not_there_is_unavailable() -> None:
    url = "pubsub://portable-local/jobs?endpoint=http://127.0.0.1:9"
    with open_queue(url, timeout="1s") as queue, pytest.raises((Unavailable, TimeoutError)):
        queue.send(b"body")


@pytest.mark.parametrize(
    "url",
    [
        "pubsub://jobs",
        "pubsub://acme-prod/jobs?project=acme-prod",
        "pubsub://acme-prod/jobs?endpoint=acme.example",
        "pubsub://acme-prod/jobs?visibility=1",
    ],
)
def test_urls_that_make_no_sense(url: str) -> None:
    with pytest.raises(ConfigError), open_queue(url) as queue:
        queue.send(b"body")


def test_leases_and_filters_beyond_what_the_service_takes(url: str) -> None:
    with pytest.raises(ConfigError, match="at most 600 s"):
        open_queue(url, name="jobs", visibility_timeout="1h")
    with pytest.raises(ConfigError, match="256"):
        open_subscription(url, name="long", topic="events", filter={"type": "x" * 200})
