"""What happens in a forked child: every open cloud drops its parent's clients and opens its own on first use."""

from __future__ import annotations

import os
import weakref
from typing import Any, Protocol

__all__ = ["watch"]


class _Forkable(Protocol):
    def _after_fork_in_child(self) -> list[Any]: ...


_clouds: weakref.WeakSet[Any] = weakref.WeakSet()
# A parent's client must not even be finalised in the child: closing a socket or a file twice disturbs the parent.
_abandoned: list[Any] = []


def watch(cloud: _Forkable) -> None:
    """Tell a cloud when it wakes in a forked child."""
    _clouds.add(cloud)


def _in_child() -> None:
    _abandoned.extend(cloud._after_fork_in_child() for cloud in list(_clouds))  # noqa: SLF001 (the protocol above)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
