"""The steps of a run, told as they are done."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

__all__ = ["Steps", "progress"]


class Steps:
    """What was done.

    Attributes:
        done: for each step its name, what it came to, and the seconds it took.
    """

    def __init__(self) -> None:
        """Start with none."""
        self.done: list[tuple[str, str, float]] = []

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Measure a step, and tell what the block said of it."""
        said: list[str] = []
        started = time.monotonic()
        yield said
        seconds = time.monotonic() - started
        what = ", ".join(said)
        self.done.append((name, what, seconds))
        print(f"  {name:<10} {seconds:6.2f} s   {what}", flush=True)


def progress(done: int, total: int) -> None:
    """Show how far a step is, where somebody looks on; nothing once it is done."""
    if sys.stderr.isatty():
        shown = f"\r  {done:,} of {total:,}" if done < total else "\r\033[K"
        print(shown, end="", file=sys.stderr, flush=True)
