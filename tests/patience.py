"""Waiting in tests, each time for a condition and never for a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from portable.errors import BatchError, PortableError

__all__ = ["PATIENCE", "persistently", "wait_until"]

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds: far beyond what anything takes that a test waits for."""


def persistently(call: Callable[[], T], *, patience: float = PATIENCE) -> T:
    """Repeat a call that fails for a passing reason, as a worker would."""
    deadline, nothing = monotonic() + patience, threading.Event()
    while True:
        try:
            return call()
        except BatchError as error:
            if monotonic() > deadline or not all(one.retryable for one in error.result.failed.values()):
                raise
        except PortableError as error:
            if not error.retryable or monotonic() > deadline:
                raise
        nothing.wait(0.02)


def wait_until(is_true: Callable[[], object], *, patience: float = PATIENCE) -> None:
    """Look again and again, for as long as patience lasts; what is asserted afterwards says whether it came true."""
    deadline, nothing = monotonic() + patience, threading.Event()
    while not is_true() and monotonic() < deadline:
        nothing.wait(0.01)
