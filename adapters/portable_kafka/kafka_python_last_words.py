"""A mend of kafka-python: what a broker says right before it closes a connection is read.

The library forgets what arrives together with the end of a connection. On a busy machine that is the answer that the
credentials are wrong, after which it would connect again and again until the time is over.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["mend"]


def mend() -> None:
    """Have the library's connections give what they read, and their end with the next look; once is enough."""
    transports: Any = importlib.import_module("kafka.net.transport")
    kinds: list[Any] = [getattr(transports, name, None) for name in ("KafkaTCPTransport", "KafkaSSLTransport")]
    for kind in kinds:
        original = getattr(kind, "__dict__", {}).get("_sock_recv")
        if original is not None and not hasattr(original, "hears_last_words"):
            kind._sock_recv = _hearing(original)  # noqa: SLF001 (there is no other way)


def _hearing(original: Any) -> Any:
    def receive(transport: Any) -> tuple[bytes, BaseException | None]:
        data, error = original(transport)
        # The socket says again that it is at its end.
        return (data, None) if data else (data, error)

    receive.hears_last_words = True  # type: ignore[attr-defined]  # a function has room for it
    return receive
