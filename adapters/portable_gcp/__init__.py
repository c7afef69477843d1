"""Google Cloud: buckets in Cloud Storage, queues, topics and subscriptions in Pub/Sub, and collections in Firestore."""

from portable.registry import Adapter

__all__ = ["adapter"]

adapter = Adapter(
    schemes={
        "firestore": {"collection": "portable_gcp.firestore_collection:FirestoreCollection"},
        "gs": {"bucket": "portable_gcp.gcs_bucket:GcsBucket"},
        "pubsub": {
            "queue": "portable_gcp.pubsub_queue:PubSubQueue",
            "topic": "portable_gcp.pubsub_topic:PubSubTopic",
            "subscription": "portable_gcp.pubsub_topic:PubSubSubscription",
        },
    },
    extra="gcp",
)
