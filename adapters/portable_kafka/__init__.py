"""Streams, topics, subscriptions and queues on Apache Kafka and what speaks its protocol."""

from portable.registry import Adapter

__all__ = ["adapter"]

adapter = Adapter(
    schemes={
        "kafka": {
            "queue": "portable_kafka.queue:KafkaQueue",
            "topic": "portable_kafka.topic:KafkaTopic",
            "subscription": "portable_kafka.topic:KafkaSubscription",
            "stream": "portable_kafka.stream:KafkaStream",
        }
    },
    extra="kafka",
)
