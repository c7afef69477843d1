# Generated from adapters/portable_redis/aio/groups.py by tools/generate_sync.py; change that file, not this one.
"""The consumer groups of a stream on Redis: each is one JSON document, changed only if it is what it was."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from portable.group_state import GroupState
from portable_redis.scripts import Script
from portable_redis.server import Server

__all__ = ["RedisGroups"]

_CHANGE = Script("change_group")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(GroupState).decode


class RedisGroups:
    """Satisfies `portable.partition_member.GroupLedger`."""

    def __init__(self, server: Server, base: str) -> None:
        """Keep the groups of a stream.

        Args:
            server: where.
            base: what the keys of the stream start with.
        """
        self._server = server
        self._base = base

    def read(self, group: str, *, timeout: float) -> GroupState:
        """Give a group's state."""
        stored = self._server.call("GET", self._key(group), timeout=timeout, again=True)
        return GroupState() if stored is None else _decode(stored)

    def update(
        self, group: str, change: Callable[[GroupState], object], *, quiet: bool = False, timeout: float
    ) -> GroupState:
        """Change a group's state, and learn what the server's clock says, by which the leases are counted."""
        keys = (self._key(group), f"{self._base}:news")
        while True:
            stored = self._server.call("GET", keys[0], timeout=timeout, again=True)
            state = GroupState() if stored is None else _decode(stored)
            change(state)
            # Repeated though it was done, it finds another state than the one before, and begins anew.
            done, seconds, microseconds = self._server.run(
                _CHANGE, keys, stored or b"", _encode(state), "1" if quiet else "0", timeout=timeout, again=True
            )
            self._server.heard(seconds, microseconds)
            if done:
                return state

    def _key(self, group: str) -> str:
        return f"{self._base}:group:{group}"
