"""The registries' own clients, run without a shell, without a terminal and with a deadline."""

from __future__ import annotations

import os
import shutil
import subprocess  # nosec B404 # package clients are programs
from collections.abc import Mapping, Sequence
from pathlib import Path

from portable.errors import DeadlineExceeded, Unavailable, Unsupported

__all__ = ["TIMEOUT", "called", "program"]

TIMEOUT = 900.0
"""Seconds for one call: some of them build."""


def program(name: str) -> str:
    """Find a client on `$PATH`.

    Raises:
        Unsupported: it is not there.
    """
    found = shutil.which(name)
    if found is None:
        raise Unsupported(f"this machine has no {name}")
    return found


def called(command: Sequence[str], *, folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run a client, and give what it wrote to stdout.

    Args:
        command: the program and its arguments.
        folder: where it works.
        environment: variables besides our own.

    Raises:
        Unavailable: it failed; the message ends with what it said.
        DeadlineExceeded: it took too long.
    """
    try:
        done = subprocess.run(  # noqa: S603 # nosec B603 # no shell; arguments come from a checked manifest
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
            umask=0o022,
        )
    except subprocess.TimeoutExpired:
        raise DeadlineExceeded(f"{Path(command[0]).name} took over {TIMEOUT:g} s") from None
    if done.returncode != 0:
        said = (
            done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
        ).splitlines()
        errors = [line for line in said if "error" in line.lower() or line.startswith("E:")] or said
        raise Unavailable(f"{Path(command[0]).name} failed: {' '.join(errors[-2:])[:500] or done.returncode}")
    return done.stdout.decode(errors="replace")
