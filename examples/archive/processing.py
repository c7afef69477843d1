"""The middle of a run: workers at work, one of them killed, until every file is dealt with."""

from __future__ import annotations

import random
import time

from followers import Followers
from ingest import SourceFile
from steps import progress
from workers import Workers

__all__ = ["process"]

# Seconds without anything new after which a run counts as stuck: longer than any lease.
_STUCK = 90.0


def process(files: list[SourceFile], followers: Followers, workers: Workers, *, kill: bool) -> None:
    """Wait until every file is dealt with; meanwhile kill a worker, at a moment that nobody knows before.

    Args:
        files: what was queued.
        followers: those who count what is done.
        workers: those who do it; they are stopped at the end.
        kill: whether one is killed.

    Raises:
        WorkerFailedError: a worker ended by itself.
        TimeoutError: nothing moves any more.
    """
    expected = (len(files), sum(one.extension == ".py" for one in files), len(files))
    kill_at = random.uniform(0.1, 0.5) * len(files)  # noqa: S311 (no secret)
    seen, moved = followers.counts(), time.monotonic()
    while True:
        if kill and not workers.killed and seen[0] >= kill_at:
            workers.kill_one()
        if seen == expected:
            break
        workers.check()
        known = seen
        if followers.wait(lambda: followers.counts() != known, timeout=0.5):  # noqa: B023 (called at once)
            seen, moved = followers.counts(), time.monotonic()
        elif time.monotonic() - moved > _STUCK:
            raise TimeoutError(f"nothing moved for {_STUCK:g} s: {seen[0]:,} of {len(files):,} files are done")
        progress(seen[0], len(files))
    workers.stop()
