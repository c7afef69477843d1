"""The engine on confluent-kafka (librdkafka): the default, for it is many times as fast."""

from __future__ import annotations

import functools
import logging
from typing import Any

from portable_kafka.confluent_admin import ConfluentAdmin
from portable_kafka.confluent_consuming import ConfluentConsumer
from portable_kafka.confluent_faults import Faults
from portable_kafka.confluent_producing import ConfluentProducer, ConfluentTransactions
from portable_kafka.options import Connection

__all__ = ["ConfluentEngine"]

# What librdkafka has to say besides errors is of use to those who look for it.
_log = logging.getLogger("portable.kafka")
_log.addHandler(logging.NullHandler())
_log.propagate = False


class ConfluentEngine:
    """Satisfies `portable_kafka.engine.Engine`."""

    def __init__(self, where: Connection) -> None:
        self._where = where

    def producer(self) -> ConfluentProducer:
        """Make a producer."""
        return ConfluentProducer(self._config, self._where)

    def transactions(self, name: str) -> ConfluentTransactions:
        """Make a producer with transactions."""
        return ConfluentTransactions(self._config, self._where, name)

    def consumer(self, group: str | None) -> ConfluentConsumer:
        """Make a consumer."""
        return ConfluentConsumer(self._config, self._where, group)

    def admin(self) -> ConfluentAdmin:
        """Make a client for topics."""
        return ConfluentAdmin(self._config)

    def _config(self, faults: Faults) -> dict[str, Any]:
        where = self._where
        protocol = ("SASL_" if where.mechanism else "") + ("SSL" if where.tls else "PLAINTEXT")
        config: dict[str, Any] = {
            "bootstrap.servers": ",".join(where.servers),
            "security.protocol": protocol,
            "client.id": "portable",
            "error_cb": faults.hear,
            "logger": _log,
            # A broker that is back is found soon.
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            "retry.backoff.ms": 50,
            # Clouds forget connections that are idle for four minutes.
            "socket.keepalive.enable": True,
            "metadata.max.age.ms": 180_000,
            "allow.auto.create.topics": False,
        }
        if where.mechanism:
            config["sasl.mechanism"] = where.mechanism
        if where.tokens is not None:
            faults.fetch(where.tokens)
            config["oauth_cb"] = functools.partial(faults.token, where.tokens)
        elif where.mechanism:
            config |= {"sasl.username": where.username, "sasl.password": where.password}
        files = {
            "ssl.ca.location": where.ca,
            "ssl.certificate.location": where.certificate,
            "ssl.key.location": where.private_key,
        }
        return config | {name: str(path) for name, path in files.items() if path is not None}
