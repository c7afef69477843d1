"""Queues and topics on RabbitMQ, by AMQP 0-9-1: quorum queues, publisher confirms, no plugin."""

from portable.registry import Adapter

__all__ = ["adapter"]

_KINDS = {
    "queue": "portable_rabbitmq.queue:RabbitQueue",
    "topic": "portable_rabbitmq.topic:RabbitTopic",
    "subscription": "portable_rabbitmq.topic:RabbitSubscription",
}

adapter = Adapter(schemes={"amqp": _KINDS, "amqps": _KINDS}, extra="rabbitmq")
