"""Ports of this machine: free ones on the loopback address."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection

from portable.errors import AlreadyExists, Unavailable

__all__ = ["LOOPBACK", "choose_port", "is_free"]

LOOPBACK = "127.0.0.1"
# Below the range that the system takes ports of outgoing connections from: a stopped server's port stays its own.
_RANGE = range(20_000, 32_000)
_TRIES = 200


def is_free(port: int) -> bool:
    """Tell whether nobody listens on a port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # Connections of an earlier server that still wind down do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose_port(wanted: int | None, taken: Collection[int], *, name: str) -> int:
    """Give a port that is free: the one that is wanted, else any.

    Args:
        wanted: what the user asked for.
        taken: what other instances have.
        name: what it is for, for the error.

    Raises:
        AlreadyExists: the wanted port is taken.
        Unavailable: no port is free.
    """
    if wanted is not None:
        if wanted in taken:
            raise AlreadyExists(f"port {wanted} for {name} belongs to another installed service; choose another one")
        if not is_free(wanted):
            raise AlreadyExists(f"port {wanted} for {name} is taken by another program; choose another one")
        return wanted
    for _ in range(_TRIES):
        port = random.choice(_RANGE)  # noqa: S311 # nosec B311 # a port is no secret
        if port not in taken and is_free(port):
            return port
    raise Unavailable(f"no free port was found for {name} between {_RANGE.start} and {_RANGE.stop}")
