"""How the keys of each resource are named; `docs/wire-formats/redis.md` says the same for other programs.

The braces are hash tags: in a cluster all that belongs to one resource is in one slot, so that a script changes it in
one step.
"""

from __future__ import annotations

import itertools
import os
import secrets
import time

__all__ = ["Ids", "cache_base", "queue_base", "stream_base", "topic_base"]

DEAD = "-dead"


def cache_base(name: str) -> str:
    """Give what all keys of a cache start with."""
    return f"portable:cache:{{{name}}}"


def queue_base(name: str) -> str:
    """Give what all keys of a queue or subscription start with; a dead-letter queue is in the slot of its queue."""
    tag = name
    while tag.endswith(DEAD) and tag != DEAD:
        tag = tag.removesuffix(DEAD)
    return f"portable:queue:{{{tag}}}{name[len(tag) :]}"


def topic_base(name: str) -> str:
    """Give what all keys of a topic start with."""
    return f"portable:topic:{{{name}}}"


def stream_base(name: str) -> str:
    """Give what all keys of a stream start with."""
    return f"portable:stream:{{{name}}}"


class Ids:
    """Ids that no other message has, and that sort as this process made them.

    They are made here rather than by the server, so that a send whose answer was lost can be repeated.
    """

    def __init__(self) -> None:
        self._begin()
        _all_ids.append(self)

    def next(self) -> str:
        """Give the next one."""
        return f"{next(self._numbers):014x}-{self._mark}"

    def _begin(self) -> None:
        self._mark = secrets.token_hex(8)
        self._numbers = itertools.count(time.time_ns() // 1000)


_all_ids: list[Ids] = []


def _after_fork_in_child() -> None:
    for ids in _all_ids:
        ids._begin()  # noqa: SLF001 (the same module)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
