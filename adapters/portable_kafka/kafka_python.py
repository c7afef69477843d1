"""The engine on kafka-python, for where nothing but Python can be installed."""

from __future__ import annotations

import importlib
from typing import Any

from portable_kafka.kafka_python_admin import PythonAdmin
from portable_kafka.kafka_python_consuming import PythonConsumer
from portable_kafka.kafka_python_last_words import mend
from portable_kafka.kafka_python_producing import PythonProducer, PythonTransactions
from portable_kafka.options import Connection
from portable_kafka.tokens import Tokens

__all__ = ["KafkaPythonEngine"]

# The type checkers know those of another release.
_oauth: Any = importlib.import_module("kafka.net.sasl.oauth")

mend()


class _Provider(_oauth.AbstractTokenProvider):  # type: ignore[misc]  # the library has no types
    """Tokens, as kafka-python asks for them."""

    def __init__(self, tokens: Tokens) -> None:
        super().__init__()
        self._tokens = tokens
        self._extensions: dict[str, str] = {}

    def token(self) -> str:
        """Give a token."""
        token = self._tokens()
        self._extensions = token.extensions
        return token.value

    def extensions(self) -> dict[str, str]:
        """Give what the server wants besides."""
        return self._extensions


class KafkaPythonEngine:
    """Satisfies `portable_kafka.engine.Engine`."""

    def __init__(self, where: Connection) -> None:
        self._where = where

    def producer(self) -> PythonProducer:
        """Make a producer."""
        return PythonProducer(self._config(), self._where)

    def transactions(self, name: str) -> PythonTransactions:
        """Make a producer with transactions."""
        return PythonTransactions(self._config(), self._where, name)

    def consumer(self, group: str | None) -> PythonConsumer:
        """Make a consumer."""
        return PythonConsumer(self._config(), self._where, group)

    def admin(self) -> PythonAdmin:
        """Make a client for topics."""
        return PythonAdmin(self._config())

    def _config(self) -> dict[str, Any]:
        where = self._where
        config: dict[str, Any] = {
            "bootstrap_servers": list(where.servers),
            "client_id": "portable",
            "security_protocol": ("SASL_" if where.mechanism else "") + ("SSL" if where.tls else "PLAINTEXT"),
            "reconnect_backoff_ms": 50,
            "reconnect_backoff_max_ms": 1000,
            "retry_backoff_ms": 50,
            # Clouds forget connections that are idle for four minutes.
            "connections_max_idle_ms": 180_000,
            "bootstrap_timeout_ms": max(1000, int(where.timeout * 1000)),
        }
        if where.mechanism:
            config["sasl_mechanism"] = where.mechanism
        if where.tokens is not None:
            config["sasl_oauth_token_provider"] = _Provider(where.tokens)
        elif where.mechanism:
            config |= {"sasl_plain_username": where.username, "sasl_plain_password": where.password}
        files = {"ssl_cafile": where.ca, "ssl_certfile": where.certificate, "ssl_keyfile": where.private_key}
        return config | {name: str(path) for name, path in files.items() if path is not None}
