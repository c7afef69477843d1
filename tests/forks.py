"""Work in a forked child."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

__all__ = ["in_child"]

ENDS_WITHIN = 60


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked child, where an error is 99.

    Returns:
        The child's exit code, or minus the signal that ended it.
    """
    pid = os.fork()
    if pid == 0:
        signal.alarm(ENDS_WITHIN)
        code = 99
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
