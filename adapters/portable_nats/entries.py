"""Entries of a key-value bucket: read, and changed only if they are what they were."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from portable.changes import Change
from portable.errors import PortableError, ResourceNotFound
from portable_nats.errors import WRONG_LAST, ApiError, refused
from portable_nats.jetstream import JetStream, Message, Stored
from portable_nats.options import NatsOptions

__all__ = ["EXPIRES", "Entries"]

EXPIRES = "Portable-Expires"
"""The header that says when an entry expires, in milliseconds since the epoch, by the server's clock."""

OPERATION = "KV-Operation"
REMOVED_FOR = 60
"""Seconds that the note stays which says that an entry was removed."""

LONGEST = 10**9
"""Seconds: what lives longer is not removed by the server."""

LONGEST_PAUSE = 0.02


class Entries:
    """A key-value bucket: a stream that keeps the last message of each subject."""

    def __init__(self, js: JetStream, bucket: str, options: NatsOptions) -> None:
        """Look at a bucket.

        Args:
            js: where it is.
            bucket: its name.
            options: the resource's.
        """
        self._js = js
        self._options = options
        self.stream = f"KV_{bucket}"
        self._prefix = f"$KV.{bucket}."

    async def missing(self, what: str, name: str, *, timeout: float) -> list[Change]:
        """Say whether it has to be made."""
        return [Change("create", what, name)] if await self._js.stream(self.stream, timeout=timeout) is None else []

    async def make(self, *, timeout: float) -> None:
        """Make the bucket, where there is none."""
        config: Mapping[str, Any] = {
            "name": self.stream,
            "subjects": [f"{self._prefix}>"],
            "max_msgs_per_subject": 1,
            "discard": "new",
            "storage": "file",
            "num_replicas": self._options.replicas,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            "allow_direct": True,
            "allow_msg_ttl": True,
            "allow_atomic": True,
        }
        await self._js.make_stream(config, timeout=timeout)

    async def find(self, what: str, name: str, *, timeout: float) -> None:
        """Make sure that it is there, and learn the server's clock."""
        if await self._js.stream(self.stream, timeout=timeout) is None:
            raise ResourceNotFound(f"the server has no {what} {name!r}; make it with `portable resources create`")

    async def read(self, key: str, *, timeout: float) -> tuple[int, Stored | None]:
        """Give the revision of an entry, and the entry itself where it is neither removed nor expired."""
        replicas = self._options.replicas
        found = await self._js.last(self.stream, self._prefix + key, timeout=timeout, replicas=replicas)
        if found is None:
            return 0, None
        if OPERATION in found.headers:
            return found.sequence, None
        expires = expiry(found)
        if expires is not None and expires <= await self._js.fresh(self.stream, timeout=timeout):
            return found.sequence, None
        return found.sequence, found

    async def written(
        self, key: str, data: bytes, ttl: float | None, *, extra: Mapping[str, str] | None = None, timeout: float
    ) -> Message:
        """Give the message that makes an entry what it shall be, for `ttl` seconds from now."""
        if ttl is None:
            return self.kept(key, data, None, extra=extra)
        now = await self._js.fresh(self.stream, timeout=timeout)
        return self.kept(key, data, now + ttl, extra=extra)

    def kept(self, key: str, data: bytes, expires: float | None, *, extra: Mapping[str, str] | None = None) -> Message:
        """Give the message that makes an entry what it shall be, until a moment."""
        headers = dict(extra or {})
        if expires is not None:
            # The server counts seconds, and removes what nobody sees any more.
            seconds = max(1, math.ceil(expires - self._js.now()) + 1)
            headers |= {EXPIRES: str(math.ceil(expires * 1000)), "Nats-TTL": f"{min(seconds, LONGEST)}s"}
        return Message(self._prefix + key, data, headers or None)

    def removed(self, key: str) -> Message:
        """Give the message that removes an entry."""
        return Message(self._prefix + key, b"", {OPERATION: "DEL", "Nats-TTL": f"{REMOVED_FOR}s"})

    async def write(self, messages: Sequence[Message], *, timeout: float) -> None:
        """Write entries, whatever they were; raise why one was not written."""
        for message in messages:
            if (error := self._js.refuse_larger(message)) is not None:
                raise error
        for answer in await self._js.publish_each(self.stream, messages, timeout=timeout):
            if isinstance(answer, PortableError):
                raise answer

    async def change(self, message: Message, revision: int, *, timeout: float) -> int | None:
        """Write an entry if it is at a revision (0: if there is none); give its new one, None where it is not."""
        if (error := self._js.refuse_larger(message)) is not None:
            raise error
        headers = {**(message.headers or {}), "Nats-Expected-Last-Subject-Sequence": str(revision)}
        try:
            return await self._js.publish(
                self.stream, [Message(message.subject, message.data, headers)], timeout=timeout
            )
        except ApiError as refusal:
            if refusal.number in WRONG_LAST:
                return None
            raise refused(refusal) from refusal

    async def pause(self) -> None:
        """Let somebody else have gone on before an entry is read again that was changed meanwhile."""
        await asyncio.sleep(random.uniform(0, LONGEST_PAUSE))  # noqa: S311 (spreads load, hides nothing)

    async def clear(self, prefix: str, *, timeout: float) -> None:
        """Remove every entry whose key starts with a token."""
        await self._js.purge(self.stream, f"{self._prefix}{prefix}.>", timeout=timeout)


def expiry(found: Stored) -> float | None:
    """Give when an entry expires; another program's by the server's own rule."""
    if (ours := found.headers.get(EXPIRES, "")).isdecimal():
        return int(ours) / 1000
    theirs = found.headers.get("Nats-TTL", "").removesuffix("s")
    return found.time + int(theirs) if theirs.isdecimal() else None
