"""The worker processes: started, one killed at random, replaced, stopped."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["WorkerFailedError", "Workers"]

_PROGRAM = Path(__file__).with_name("worker.py")


class WorkerFailedError(Exception):
    """A worker ended by itself; what it had to say is on the standard error."""


class Workers:
    """A number of worker processes, and a new one for each that is killed here.

    Attributes:
        killed: the names of those that were killed, and when (seconds since the epoch).
    """

    def __init__(self, profile: str, count: int) -> None:
        """Start them."""
        self.killed: dict[str, float] = {}
        self._profile = profile
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._started = 0
        for _ in range(count):
            self._start()

    def kill_one(self) -> str:
        """Kill one with SIGKILL, whatever it is doing, and start another; give the name of the victim."""
        name = random.choice(list(self._running))  # noqa: S311 (no secret)
        process = self._running[name]
        process.kill()
        process.wait()
        _end_input(process)
        del self._running[name]
        self.killed[name] = time.time()
        self._start()
        return name

    def check(self) -> None:
        """Fail where a worker has ended that nobody told to.

        Raises:
            WorkerFailedError: one has.
        """
        for name, process in self._running.items():
            if process.poll() is not None:
                raise WorkerFailedError(f"{name} ended with exit code {process.returncode}")

    def stop(self, timeout: float = 60.0) -> None:
        """Tell them to finish what is in hand, and wait until they have.

        Raises:
            WorkerFailedError: one did not finish well.
        """
        for process in self._running.values():
            # Not SIGTERM: one that has only just been started does not catch it yet.
            _end_input(process)
        for name, process in self._running.items():
            if code := process.wait(timeout):
                raise WorkerFailedError(f"{name} ended with exit code {code}")
        self._running.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running.values():
            _end_input(process)
            process.kill()
            process.wait()

    def _start(self) -> None:
        self._started += 1
        name = f"worker-{self._started}"
        command = [sys.executable, str(_PROGRAM), self._profile, name]
        # Its standard input ends with this process, however that ends; then the worker does too. Ctrl-C is for this
        # process alone, which then stops the workers: so they are in a session of their own.
        self._running[name] = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)  # noqa: S603 (our own program)


def _end_input(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
