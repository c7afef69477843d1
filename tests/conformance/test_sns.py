"""SNS and its subscriptions in SQS on ministack, by the suites of topics and subscriptions, in both faces."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from portable import open_subscription, open_topic
from portable.errors import ConfigError, ResourceNotFound
from portable.testing.aio.topic import SubscriptionSuite as AsyncSubscriptionSuite
from portable.testing.aio.topic import TopicSuite as AsyncTopicSuite
from portable.testing.topic import SubscriptionSuite, TopicSuite
from tests.targets import target


class _Ministack:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("ministack", "topic")


class _Fifo:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = f"{target('ministack', 'topic')}&fifo=true"


class TestSnsTopic(_Ministack, TopicSuite):
    pass


class TestSnsTopicAsync(_Ministack, AsyncTopicSuite):
    pass


class TestSnsFifoTopic(_Fifo, TopicSuite):
    pass


class TestSnsSubscription(_Ministack, SubscriptionSuite):
    pass


class TestSnsSubscriptionAsync(_Ministack, AsyncSubscriptionSuite):
    pass


@pytest.fixture
def url() -> str:
    return target("ministack", "topic")


def test_the_subscription_says_what_was_declared(url: str) -> None:
    filter = {"type": "paid", "odd": "\x01"}  # noqa: A001 (the contract's word)
    with (
        open_topic(url, name="declared-events", create="if_missing") as topic,
        open_subscription(url, name="declared", topic="declared-events", filter=filter, create="if_missing") as queue,
    ):
        queue.receive(wait=0)
        assert queue._driver.plan() == []
        assert topic.publish(b"body")
        arn = topic.native.create_topic(Name="declared-events")["TopicArn"]
        (found,) = topic.native.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]
        held = topic.native.get_subscription_attributes(SubscriptionArn=found["SubscriptionArn"])["Attributes"]
        assert held["RawMessageDelivery"] == "true"
        # What SNS cannot see is looked at by the receiver.
        assert json.loads(held["FilterPolicy"]) == {
            "$or": [{"type": ["paid"]}, {"portable-attributes": [{"exists": True}]}]
        }
        topic.publish(b"other", attributes={"type": "paid", "odd": "\x02"})
        topic.publish(b"wanted", attributes={"type": "paid", "odd": "\x01"})
        (message,) = queue.receive(10, wait=20)
        assert message.body == b"wanted"


def test_another_topic_takes_the_place_of_the_first(url: str) -> None:
    with (
        open_topic(url, name="moved-from", create="if_missing") as old,
        open_topic(url, name="moved-to", create="if_missing") as new,
    ):
        for topic in ("moved-from", "moved-to"):
            with open_subscription(url, name="moved", topic=topic, create="if_missing") as queue:
                queue.receive(wait=0)
        old.publish(b"old")
        new.publish(b"new")
        with open_subscription(url, name="moved", topic="moved-to", create="if_missing") as queue:
            (message,) = queue.receive(10, wait=20)
            assert message.body == b"new"


def test_what_waits_stays_when_the_filter_changes(url: str) -> None:
    how: dict[str, Any] = {"name": "refiltered", "topic": "refiltered-events", "create": "if_missing"}
    with open_topic(url, name="refiltered-events", create="if_missing") as topic:
        with open_subscription(url, filter={"a": "1"}, **how) as queue:
            queue.receive(wait=0)
            topic.publish(b"old", attributes={"a": "1"})
        with open_subscription(url, filter={"a": "2"}, **how) as queue:
            (message,) = queue.receive(10, wait=20)
            assert message.body == b"old"
            message.ack()
            topic.publish(b"no longer", attributes={"a": "1"})
            topic.publish(b"new", attributes={"a": "2"})
            (message,) = queue.receive(10, wait=20)
            assert message.body == b"new"


def test_a_missing_topic_names_the_command(url: str) -> None:
    with open_topic(url, name="nowhere") as topic, pytest.raises(ResourceNotFound, match="portable resources create"):
        topic.publish(b"body")


@pytest.mark.parametrize("url", ["sns://acme/events?region=eu-west-1", "sns://events?region=eu-west-1&fife=true"])
def test_urls_that_make_no_sense(url: str) -> None:
    with pytest.raises(ConfigError):
        open_topic(url)
