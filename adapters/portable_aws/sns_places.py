"""Where a topic of SNS is: its name and its ARN."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from portable.bindings import Binding
from portable.wire import PACKED
from portable_aws.regional import Regional
from portable_aws.service_errors import FAILURES, code_of
from portable_aws.sqs_messages import carries
from portable_aws.sqs_options import account, fifo_name
from portable_aws.sqs_setup import TAGS

__all__ = ["TopicPlace", "policy_of"]

_MISSING = {"NotFound", "NotFoundException"}


class TopicPlace:
    """A topic at SNS. What it raises is boto3's own.

    Args:
        regional: gives the client.
        binding: whose URL and options say where the topic is.
        name: the topic's physical name in the config.
    """

    def __init__(self, regional: Regional, binding: Binding[Any], name: str) -> None:
        self._regional = regional
        fifo = getattr(binding.options, "fifo", False)
        self.name = fifo_name(name) if fifo else name
        self.fifo = fifo or name.endswith(".fifo")
        self._account = account(binding)
        self._arn: str | None = None

    def arn(self) -> str:
        """Give the topic's ARN, asking whose the credentials are where nothing says whose the topic is."""
        if self._arn is None:
            client = self.client
            whose = self._account or self._regional.client("sts").get_caller_identity()["Account"]
            self._arn = f"arn:{client.meta.partition}:sns:{client.meta.region_name}:{whose}:{self.name}"
        return self._arn

    def is_there(self) -> bool:
        """Say whether there is such a topic."""
        try:
            self.client.get_topic_attributes(TopicArn=self.arn())
        except FAILURES as error:
            if code_of(error) in _MISSING:
                return False
            raise
        return True

    def make(self) -> None:
        """Make the topic where it is missing."""
        if not self.is_there():
            attributes = {"FifoTopic": "true"} if self.fifo else {}
            tags = [{"Key": name, "Value": value} for name, value in TAGS.items()]
            self._arn = str(self.client.create_topic(Name=self.name, Attributes=attributes, Tags=tags)["TopicArn"])

    def subscriptions(self, endpoint: str) -> list[str]:
        """Give the ARNs of the subscriptions that one queue has."""
        pages = self.client.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=self.arn())
        return [
            str(one["SubscriptionArn"])
            for page in pages
            for one in page["Subscriptions"]
            if one["Endpoint"] == endpoint
        ]

    @property
    def client(self) -> Any:
        """boto3's client of SNS."""
        return self._regional.client("sns")


def policy_of(wanted: Mapping[str, str]) -> str:
    """Give a contract's filter as SNS takes it.

    What SNS cannot see, because it is packed, gets through, and is looked at once it is received.
    """
    seen = {name: [value] for name, value in sorted(wanted.items()) if carries(name, value)}
    if not seen:
        return "{}"
    return json.dumps({"$or": [seen, {PACKED: [{"exists": True}]}]}, sort_keys=True)
