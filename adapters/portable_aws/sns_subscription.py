"""Subscriptions: queues of SQS that a topic of SNS feeds, through a filter that SNS applies."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from portable.bindings import Binding
from portable.capabilities import QueueCapabilities
from portable.changes import Change
from portable.contracts import SubscriptionContract
from portable.errors import ConfigError
from portable.messages import Delivery
from portable_aws.regional import Regional
from portable_aws.service_errors import translating
from portable_aws.sns_places import TopicPlace, policy_of
from portable_aws.sqs_options import SnsOptions
from portable_aws.sqs_queue import SqsQueue

__all__ = ["SnsSubscription"]

_DIRECT = "portable-direct"
"""The attribute of what was sent to a filtered subscription and not published."""

_SINCE = "portable-filter-since"
"""The tag that says since when the queue's filter holds, in milliseconds since the epoch."""

_STATEMENT = "portable-topic"
"""The statement of the queue's policy that lets the topic send."""


class SnsSubscription(SqsQueue):
    """A queue that a topic feeds; what is sent to the subscription itself goes to its queue alone."""

    Options = SnsOptions

    def __init__(self, binding: Binding[Any], topic: Binding[Any] | None = None) -> None:
        super().__init__(binding)
        contract: Any = binding.contract
        declared: SubscriptionContract = contract
        feeding = topic or binding.topic
        if feeding is not None and feeding.url.scheme != "sns":
            raise ConfigError(
                f"the topic {feeding.resource!r} is at {feeding.url.scheme}:; a queue of SQS subscribes to sns: alone"
            )
        self._filter = declared.filter
        self._policy = policy_of(self._filter)
        self._topics = Regional(feeding) if feeding is not None else self._regional
        self._topic = TopicPlace(
            self._topics, feeding or binding, feeding.name if feeding is not None else declared.topic
        )
        if not self._topic.fifo:
            self.capabilities = _unordered(self.capabilities)
        self._since = 0.0

    def open(self) -> None:
        """Connect, and find the queue, its topic and its place there, or make them where the binding says so."""
        super().open()
        if self._filter:
            with translating():
                tags = self._client.list_queue_tags(QueueUrl=self._url).get("Tags", {})
            self._since = int(tags.get(_SINCE, 0)) / 1000

    def close(self) -> None:
        """Let go of the connections; whoever waits hears of it."""
        super().close()
        if self._topics is not self._regional:
            self._topics.close()

    def plan(self) -> list[Change]:
        """Say what would be made or changed."""
        changes = super().plan()
        with translating():
            if not self._topic.is_there():
                changes.append(Change("create", "topic", self._topic.name))
                return [*changes, Change("create", "subscription", self._setup.name)]
            if any(one.action == "create" and one.what == "queue" for one in changes):
                return [*changes, Change("create", "subscription", self._setup.name)]
            return changes + self._differences()

    def create(self) -> None:
        """Make the queue, its topic and its place there, or bring them to what is declared."""
        super().create()
        with translating():
            self._topic.make()
            attributes = self._setup.attributes(self._setup.name)
            queue = attributes["QueueArn"]
            self._allow(attributes)
            wanted = {"RawMessageDelivery": "true", "FilterPolicyScope": "MessageAttributes"}
            found = self._topic.subscriptions(queue)
            if found:
                self._filter_anew(found[0])
                self._topic.client.set_subscription_attributes(
                    SubscriptionArn=found[0], AttributeName="RawMessageDelivery", AttributeValue="true"
                )
                return
            if self._filter:
                wanted["FilterPolicy"] = self._policy
            self._topic.client.subscribe(
                TopicArn=self._topic.arn(),
                Protocol="sqs",
                Endpoint=queue,
                Attributes=wanted,
                ReturnSubscriptionArn=True,
            )

    def _differences(self) -> list[Change]:
        name = self._setup.name
        attributes = self._setup.attributes(name)
        found = self._topic.subscriptions(attributes["QueueArn"])
        if not found:
            return [Change("create", "subscription", name)]
        changes: list[Change] = []
        if self._topic_of(attributes) != self._topic.arn():
            changes.append(Change("change", "subscription", name, f"the topic {self._topic.name} may send to it"))
        held = self._topic.client.get_subscription_attributes(SubscriptionArn=found[0])["Attributes"]
        if json.loads(held.get("FilterPolicy") or "{}") != json.loads(self._policy):
            changes.append(Change("change", "subscription", name, "the filter"))
        if held.get("RawMessageDelivery") != "true":
            changes.append(Change("change", "subscription", name, "messages as they were published"))
        return changes

    def _allow(self, attributes: dict[str, str]) -> None:
        """Let the topic send to the queue, and no other one that fed it before."""
        before, topic, queue = self._topic_of(attributes), self._topic.arn(), attributes["QueueArn"]
        if before == topic:
            return
        if before is not None:
            self._leave(before, queue)
        policy = json.loads(attributes.get("Policy") or "{}")
        others = [one for one in policy.get("Statement", []) if one.get("Sid") != _STATEMENT]
        ours = {
            "Sid": _STATEMENT,
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": queue,
            "Condition": {"ArnEquals": {"aws:SourceArn": topic}},
        }
        text = json.dumps({"Version": "2012-10-17", **policy, "Statement": [*others, ours]})
        self._client.set_queue_attributes(QueueUrl=self._setup.url(), Attributes={"Policy": text})

    def _leave(self, topic: str, queue: str) -> None:
        pages = self._topic.client.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=topic)
        for page in pages:
            for one in page["Subscriptions"]:
                if one["Endpoint"] == queue:
                    self._topic.client.unsubscribe(SubscriptionArn=one["SubscriptionArn"])

    def _filter_anew(self, subscription: str) -> None:
        client = self._topic.client
        held = client.get_subscription_attributes(SubscriptionArn=subscription)["Attributes"]
        if json.loads(held.get("FilterPolicy") or "{}") == json.loads(self._policy):
            return
        client.set_subscription_attributes(
            SubscriptionArn=subscription, AttributeName="FilterPolicy", AttributeValue=self._policy
        )
        # SNS may take minutes to follow: what is published from now on is looked at once it is received.
        now = str(int(self._binding.clock() * 1000))
        self._client.tag_queue(QueueUrl=self._setup.url(), Tags={_SINCE: now})

    def _topic_of(self, attributes: dict[str, str]) -> str | None:
        """Give the topic that the queue's policy lets send, as we wrote it."""
        for one in json.loads(attributes.get("Policy") or "{}").get("Statement", []):
            if one.get("Sid") == _STATEMENT:
                return str(one["Condition"]["ArnEquals"]["aws:SourceArn"])
        return None

    def _concerning(self, deliveries: list[Delivery]) -> list[Delivery]:
        if not self._filter:
            return deliveries
        found = [one for one in deliveries if self._concerns(one)]
        if len(found) < len(deliveries):
            self.ack([one for one in deliveries if one not in found], timeout=0.0)
        return found

    def _concerns(self, delivery: Delivery) -> bool:
        if _DIRECT in delivery.attributes or delivery.sent_at < self._since:
            return True
        return all(delivery.attributes.get(name) == value for name, value in self._filter.items())

    def _ours(self) -> dict[str, str]:
        return {_DIRECT: "1"} if self._filter else {}


def _unordered(capabilities: QueueCapabilities) -> QueueCapabilities:
    """Give what a subscription of a standard topic can: what comes out of that has no order."""
    return msgspec.structs.replace(capabilities, ordered=False, dedup=False)
