"""Google Cloud: queues, topics and subscriptions in Pub/Sub."""

from portable.registry import Adapter

__all__ = ["adapter"]

adapter = Adapter(
    schemes={
        "pubsub": {
            "queue": "portable_gcp.pubsub_queue:PubSubQueue",
            "topic": "portable_gcp.pubsub_topic:PubSubTopic",
            "subscription": "portable_gcp.pubsub_topic:PubSubSubscription",
        },
    },
    extra="gcp",
)
