"""Consumer groups kept in a collection, for streams whose backend keeps none: one document a group.

A document is changed by compare-and-set, so that members on any number of machines agree. Its leases are in wall
time: the machines' clocks must agree within a third of the session timeout.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from time import monotonic
from typing import Any

import msgspec

from portable.aio._concurrency import sleep
from portable.aio.collection import Collection
from portable.errors import AlreadyExists, DeadlineExceeded, NotFound, PreconditionFailed
from portable.group_state import GroupState

__all__ = ["CollectionLedger"]

PARTITION = "portable-stream-groups"
"""The partition of the documents, where the collection is a partitioned one."""

LONGEST_PAUSE = 0.05
"""Seconds between two attempts at a document that somebody else changed meanwhile, at most."""


class CollectionLedger:
    """Satisfies `portable.aio.partition_member.GroupLedger`."""

    def __init__(self, collection: Collection[Any], stream: str) -> None:
        """Keep the groups of one stream.

        Args:
            collection: where; it may hold other documents too.
            stream: the physical name of the stream.
        """
        contract: Any = collection._binding.contract  # noqa: SLF001 (another portable type; nobody else needs its key's name)
        self._collection = collection
        self._stream = stream
        self._key_field: str = contract.key
        self._partition_field: str | None = contract.partition

    async def read(self, group: str, *, timeout: float) -> GroupState:
        """Give a group's state."""
        return (await self._find(group, timeout))[0]

    async def update(
        self,
        group: str,
        change: Callable[[GroupState], object],
        *,
        quiet: bool = False,  # noqa: ARG002 (a collection wakes nobody)
        timeout: float,
    ) -> GroupState:
        """Change a group's state atomically."""
        deadline = monotonic() + timeout
        while True:
            left = deadline - monotonic()
            if left <= 0:
                raise DeadlineExceeded(f"the document of the group {group!r} was changed by others for {timeout:g} s")
            state, revision = await self._find(group, left)
            before = msgspec.json.encode(state)
            change(state)
            if msgspec.json.encode(state) == before:
                return state
            try:
                if revision is None:
                    await self._collection.create(self._document(group, state), timeout=left)
                else:
                    await self._collection.put(self._document(group, state), if_revision=revision, timeout=left)
            except (AlreadyExists, PreconditionFailed):
                await sleep(random.uniform(0, LONGEST_PAUSE))  # noqa: S311 (spreads load, hides nothing)
            else:
                return state

    async def _find(self, group: str, timeout: float) -> tuple[GroupState, str | None]:
        key = self._key(group)
        try:
            document = await self._collection.get(
                key if self._partition_field is None else (PARTITION, key), timeout=timeout
            )
        except NotFound:
            return GroupState(), None
        fields = {name: document.data.get(name, {}) for name in ("members", "partitions")}
        return msgspec.convert(fields, GroupState), document.revision

    def _document(self, group: str, state: GroupState) -> dict[str, Any]:
        document = {self._key_field: self._key(group), **msgspec.to_builtins(state)}
        if self._partition_field is not None:
            document[self._partition_field] = PARTITION
        return document

    def _key(self, group: str) -> str:
        return f"{self._stream}/{group}"
