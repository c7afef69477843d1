"""The container engine, driven by its own command: Docker's, or one that takes the same words."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess  # nosec B404 # engines are driven by their programs
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import msgspec

from portable.errors import ConfigError, DeadlineExceeded, PermissionDenied, PortableError, Unavailable

__all__ = ["ENGINE", "Engine", "engine"]

ENGINE = "PORTABLE_CONTAINER_ENGINE"
"""The variable that names the engine's program, where it is not `docker`."""

TIMEOUT = 120.0
"""Seconds for a call that neither fetches nor builds."""

_ABSENT = ("cannot connect to", "is the docker daemon running", "connection refused", "no such file or directory")


class Engine:
    """One container engine of this machine.

    Attributes:
        program: the command that drives it.
    """

    def __init__(self, program: str) -> None:
        """Take the program's name; nothing is called yet."""
        self.program = program

    def check(self) -> None:
        """Refuse where the engine does not run here, may not be used, or cannot read Compose files.

        Raises:
            ConfigError: it is another machine's, where neither files nor ports of this one are.
            PermissionDenied: this user may not use it.
            Unavailable: it is not installed or does not run, or there is no Compose.
        """
        where = os.environ.get("DOCKER_HOST", "")
        if where and not where.startswith(("unix://", "npipe://")):
            raise ConfigError(
                f"$DOCKER_HOST is {where.partition('://')[0]}://…, an engine of another machine; the runtime mounts "
                f"files of this machine and uses its ports, so use an engine that runs here"
            )
        self.call("version", "--format", "{{.Server.Version}}", timeout=30)
        self._compose_command()

    def call(
        self,
        *arguments: str,
        stdin: bytes | IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> str:
        """Run the engine's command, and give what it wrote to stdout.

        Args:
            arguments: its arguments.
            stdin: what it reads.
            environment: variables besides our own.
            timeout: seconds.

        Raises:
            PermissionDenied: this user may not use the engine.
            Unavailable: it failed; the message ends with what it said.
            DeadlineExceeded: it took too long.
        """
        return self._run([self.program, *arguments], stdin=stdin, environment=environment, timeout=timeout)

    def succeeds(self, *arguments: str) -> bool:
        """Tell whether the engine's command succeeds: whether something is there, for one.

        Raises:
            PermissionDenied: this user may not use the engine.
            Unavailable: the engine does not run.
        """
        try:
            self.call(*arguments)
        except Unavailable as error:
            if isinstance(error, _EngineAbsentError):
                raise
            return False
        return True

    def inspect(self, kind: str, names: Sequence[str]) -> list[dict[str, Any]]:
        """Give what the engine knows of objects; those that it does not have are left out.

        Raises:
            PermissionDenied: this user may not use the engine.
            Unavailable: the engine does not run.
        """
        if not names:
            return []
        command = [self.program, "inspect", "--type", kind, *names]
        done = self._attempt(command, stdin=None, environment=None, timeout=TIMEOUT)
        if done.returncode != 0 and not _is_missing(done.stderr):
            raise self._failure(command, done)
        found: list[dict[str, Any]] = msgspec.json.decode(done.stdout or b"[]")
        return found

    def compose(self, folder: Path, project: str, *arguments: str, timeout: float = TIMEOUT) -> str:
        """Run Compose on the `compose.yaml` of a folder.

        Raises:
            Unavailable: it failed, or is not there.
            DeadlineExceeded: it took too long.
        """
        named = ["--project-name", project, "--file", str(folder / "compose.yaml")]
        command = [*self._compose_command(), *named, *arguments]
        # Those that users set for their own projects would add files or names to ours.
        kept = {name: text for name, text in os.environ.items() if not name.startswith("COMPOSE_")}
        return self._run(command, stdin=None, environment=kept, timeout=timeout, whole=True)

    def _compose_command(self) -> tuple[str, ...]:
        return _compose_command(self.program)

    def _run(
        self,
        command: Sequence[str],
        *,
        stdin: bytes | IO[bytes] | None,
        environment: Mapping[str, str] | None,
        timeout: float,
        whole: bool = False,
    ) -> str:
        done = self._attempt(command, stdin=stdin, environment=environment, timeout=timeout, whole=whole)
        if done.returncode != 0:
            raise self._failure(command, done)
        return done.stdout.decode(errors="replace")

    def _attempt(
        self,
        command: Sequence[str],
        *,
        stdin: bytes | IO[bytes] | None,
        environment: Mapping[str, str] | None,
        timeout: float,
        whole: bool = False,
    ) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(  # noqa: S603 # nosec B603 # no shell
                command,
                env=environment if whole else {**os.environ, **(environment or {})},
                input=stdin if isinstance(stdin, bytes) else None,
                stdin=None if isinstance(stdin, bytes) else stdin or subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except FileNotFoundError:
            raise Unavailable(
                f"{command[0]} is not installed; install Docker Engine, or take another runtime"
            ) from None
        except OSError as error:
            raise Unavailable(f"{command[0]} cannot be run: {error.strerror}") from None
        except subprocess.TimeoutExpired:
            raise DeadlineExceeded(f"{_called(command)} took over {timeout:g} s") from None

    def _failure(self, command: Sequence[str], done: subprocess.CompletedProcess[bytes]) -> PortableError:
        said = (done.stderr.strip() or done.stdout.strip()).decode(errors="replace")
        low = said.lower()
        if "permission denied" in low and ("socket" in low or "daemon" in low or ".sock" in low):
            return PermissionDenied(
                f"{self.program} may not be used by this user; have an administrator run `usermod -aG docker NAME` and "
                f"log in again, or use rootless Docker"
            )
        if any(words in low for words in _ABSENT) and ("daemon" in low or ".sock" in low):
            return _EngineAbsentError(
                f"the engine of {self.program} does not run; start it (`systemctl start docker`), or take another "
                f"runtime"
            )
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        return Unavailable(f"{_called(command)} failed: {' '.join(lines[-2:])[-500:] or done.returncode}")


class _EngineAbsentError(Unavailable):
    """The engine itself did not answer."""


def _called(command: Sequence[str]) -> str:
    """Name a call by its program and first plain word; what follows can be long."""
    words = [word for word in command[1:] if word.isalpha()]
    return f"{Path(command[0]).name} {words[0]}" if words else Path(command[0]).name


def _is_missing(stderr: bytes) -> bool:
    said = stderr.lower()
    return b"no such" in said or b"not found" in said


@functools.cache
def _compose_command(program: str) -> tuple[str, ...]:
    """Find Compose: the engine's own plugin, or the program that stands alone."""
    for command in ((program, "compose"), ("docker-compose",)):
        if shutil.which(command[0]) is None:
            continue
        done = subprocess.run([*command, "version"], capture_output=True, timeout=60, check=False)  # noqa: S603 # nosec B603 # no shell
        if done.returncode == 0:
            return command
    raise Unavailable(
        f"{program} has no Compose; install the plugin docker-compose-plugin (`{program} compose`) or docker-compose"
    )


def engine(program: str | None = None) -> Engine:
    """Give the container engine: the one named, or what `$PORTABLE_CONTAINER_ENGINE` names, else Docker's."""
    return Engine(program or os.environ.get(ENGINE) or "docker")
