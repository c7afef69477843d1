"""The consumer groups of a stream on JetStream: each is one JSON document, changed only if it is what it was."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from portable.group_state import GroupState
from portable_nats.entries import Entries
from portable_nats.escaping import token
from portable_nats.jetstream import JetStream, Message

__all__ = ["NatsGroups"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(GroupState).decode


class NatsGroups:
    """Satisfies `portable.aio.partition_member.GroupLedger`."""

    def __init__(self, js: JetStream, entries: Entries, news: str) -> None:
        """Keep the groups of a stream.

        Args:
            js: where.
            entries: the bucket that keeps them.
            news: the subject on which changes are told of.
        """
        self._js = js
        self._entries = entries
        self._news = news

    async def read(self, group: str, *, timeout: float) -> GroupState:
        """Give a group's state."""
        _, state = await self._read(group, timeout)
        return state

    async def update(
        self, group: str, change: Callable[[GroupState], object], *, quiet: bool = False, timeout: float
    ) -> GroupState:
        """Change a group's state."""
        while True:
            revision, state = await self._read(group, timeout)
            change(state)
            message = self._entries.kept(_key(group), _encode(state), None)
            if await self._entries.change(message, revision, timeout=timeout) is not None:
                break
            await self._entries.pause()
        if not quiet:
            await self._js.connection.tell([Message(self._news, b"")], timeout=timeout)
        return state

    async def _read(self, group: str, timeout: float) -> tuple[int, GroupState]:
        # The leases are counted by the server's clock.
        await self._js.fresh(self._entries.stream, timeout=timeout)
        revision, found = await self._entries.read(_key(group), timeout=timeout)
        return revision, GroupState() if found is None else _decode(found.data)


def _key(group: str) -> str:
    return f"group.{token(group)}"
