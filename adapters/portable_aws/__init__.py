"""Amazon Web Services, and servers that speak its protocols."""

from portable.registry import Adapter

__all__ = ["adapter"]

adapter = Adapter(
    schemes={
        "s3": {"bucket": "portable_aws.bucket:S3Bucket"},
        "dynamodb": {"collection": "portable_aws.dynamodb_collection:DynamoDbCollection"},
        "kinesis": {"stream": "portable_aws.kinesis_stream:KinesisStream"},
        "sqs": {
            "queue": "portable_aws.sqs_queue:SqsQueue",
            "subscription": "portable_aws.sns_subscription:SnsSubscription",
        },
        "sns": {
            "topic": "portable_aws.sns_topic:SnsTopic",
            "subscription": "portable_aws.sns_subscription:SnsSubscription",
            # The dead letters of its subscriptions.
            "queue": "portable_aws.sqs_queue:SqsQueue",
        },
    },
    extra="aws",
)
