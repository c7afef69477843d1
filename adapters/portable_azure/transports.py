"""The transport of the vendor's clients, with a connection for each of many threads."""

from __future__ import annotations

from azure.core.pipeline.transport import RequestsTransport

__all__ = ["pooled"]

CONNECTIONS = 64


def pooled() -> RequestsTransport:
    """Give the clients' own transport; it keeps ten connections otherwise, and makes one for each call beyond them."""
    transport = RequestsTransport()
    transport.open()
    for adapter in transport.session.adapters.values():
        adapter.init_poolmanager(CONNECTIONS, CONNECTIONS)
    return transport
