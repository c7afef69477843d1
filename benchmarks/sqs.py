"""SQS on ElasticMQ, against boto3."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import vendor
from benchmarks.sampling import Figure, Plan
from benchmarks.servers import serving

__all__ = ["measure"]


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure all of it on one server."""
    with serving("elasticmq", folder) as url:
        client = vendor.boto("sqs", url)

        def theirs(name: str) -> tuple[Callable[[], object], Callable[[], object]]:
            place = client.get_queue_url(QueueName=name)["QueueUrl"]

            def receive() -> None:
                answer = client.receive_message(
                    QueueUrl=place,
                    WaitTimeSeconds=5,
                    VisibilityTimeout=30,
                    MessageAttributeNames=["All"],
                    MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp", "MessageGroupId"],
                )
                (message,) = answer["Messages"]
                assert message["Body"] == vendor.TEXT
                client.delete_message(QueueUrl=place, ReceiptHandle=message["ReceiptHandle"])

            return lambda: client.send_message(QueueUrl=place, MessageBody=vendor.TEXT), receive

        yield from vendor.queue(plan, "sqs", "boto3", url, theirs)
