"""What a cache's driver answers when a lock is asked for."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Attempt"]


class Attempt(NamedTuple):
    """One try to obtain a lock.

    Attributes:
        name: the lock, as the driver was asked for it.
        holder: who asked: a random text of that one try, by which the lock is extended and released.
        obtained: whether the holder has it now.
        token: where `fencing` is declared, a number greater than that of every earlier holder; else None.
        seconds: until the lease runs out: the holder's own, or that of whoever has it.
    """

    name: str
    holder: str
    obtained: bool
    token: int | None
    seconds: float
