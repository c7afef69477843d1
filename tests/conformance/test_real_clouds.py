"""The suites on the clouds themselves, where somebody has an account and says so.

`PORTABLE_TEST_AWS=1` (`_GCP`, `_AZURE`) runs them with the vendor's own chain of credentials. Where a kind is comes
from `PORTABLE_TEST_AWS_QUEUE` and the like, a binding's URL without a name; what has a default here needs none. Each
case makes resources whose names begin with `t` and twelve hexadecimal digits, and leaves them, which costs money.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar

import pytest

from portable.testing.bucket import BucketSuite
from portable.testing.collection import CollectionSuite
from portable.testing.queue import QueueSuite
from portable.testing.stream import StreamSuite
from portable.testing.topic import SubscriptionSuite, TopicSuite

pytestmark = pytest.mark.timeout(1800)

DEFAULTS = {
    "AWS": {
        "bucket": "s3://",
        "queue": "sqs://",
        "topic": "sns://",
        "subscription": "sns://",
        "stream": "kinesis://",
        "collection": "dynamodb://",
    },
    "GCP": {
        "bucket": "gs://",
        "queue": "pubsub://",
        "topic": "pubsub://",
        "subscription": "pubsub://",
        "collection": "firestore://",
    },
    # Whose accounts are part of the URL: az://ACCOUNT, azqueue://ACCOUNT, cosmos://ACCOUNT, eventhubs://NAMESPACE.
    "AZURE": {},
}

if not any(os.environ.get(f"PORTABLE_TEST_{cloud}") == "1" for cloud in DEFAULTS):
    pytest.skip("none of PORTABLE_TEST_AWS, PORTABLE_TEST_GCP, PORTABLE_TEST_AZURE is set", allow_module_level=True)


def on(cloud: str, kind: str) -> Any:
    """Mark a suite as one that runs at a cloud, or say what is not set."""
    asked = f"PORTABLE_TEST_{cloud}"
    url = os.environ.get(f"{asked}_{kind.upper()}", DEFAULTS[cloud].get(kind))

    def bind(suite: Any) -> Any:
        suite.url = url or ""
        missing = asked if os.environ.get(asked) != "1" else f"{asked}_{kind.upper()}"
        return pytest.mark.skipif(missing == asked or not url, reason=f"{missing} is not set")(suite)

    return bind


@on("AWS", "bucket")
class TestS3(BucketSuite):
    url: ClassVar[str]


@on("AWS", "queue")
class TestSqs(QueueSuite):
    url: ClassVar[str]


@on("AWS", "topic")
class TestSnsTopic(TopicSuite):
    url: ClassVar[str]


@on("AWS", "subscription")
class TestSnsSubscription(SubscriptionSuite):
    url: ClassVar[str]


@on("AWS", "stream")
class TestKinesis(StreamSuite):
    url: ClassVar[str]


@on("AWS", "collection")
class TestDynamoDb(CollectionSuite):
    url: ClassVar[str]


@on("GCP", "bucket")
class TestCloudStorage(BucketSuite):
    url: ClassVar[str]


@on("GCP", "queue")
class TestPubSubQueue(QueueSuite):
    url: ClassVar[str]


@on("GCP", "topic")
class TestPubSubTopic(TopicSuite):
    url: ClassVar[str]


@on("GCP", "subscription")
class TestPubSubSubscription(SubscriptionSuite):
    url: ClassVar[str]


@on("GCP", "collection")
class TestFirestore(CollectionSuite):
    url: ClassVar[str]


@on("AZURE", "bucket")
class TestBlobStorage(BucketSuite):
    url: ClassVar[str]


@on("AZURE", "queue")
class TestStorageQueue(QueueSuite):
    url: ClassVar[str]


@on("AZURE", "stream")
class TestEventHubs(StreamSuite):
    url: ClassVar[str]


@on("AZURE", "collection")
class TestCosmosDb(CollectionSuite):
    url: ClassVar[str]
