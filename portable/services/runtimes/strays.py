"""Processes of a project's services, found whether or not anybody watches over them: by a mark, and by a note.

The mark is a variable in their environment, which their children have too. The note is the file in which a server's
launcher wrote down its id, for servers that write over their environment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["MARK", "NAME_MARK", "NOTE", "STEP_MARK", "end", "processes", "wait_gone"]

MARK = "PORTABLE_SERVICES"
"""The variable that every process of a project's services has: the services' folder."""

NAME_MARK = "PORTABLE_SERVICE"
"""The variable that holds the instance's name."""

STEP_MARK = "PORTABLE_SERVICE_STEP"
"""The variable that programs have which only do something for a server, such as to set it up."""

NOTE = "server.pid"
"""The file in an instance's folder that holds the id of the server's process, and when that started."""


def processes(folder: Path, name: str | None = None, *, steps: bool = True) -> Iterator[int]:
    """List the ids of a project's service processes, by the mark that their environment carries.

    Args:
        folder: the services' folder.
        name: an instance, or None for all, the supervisor included.
        steps: whether what only does something for a server counts, too.
    """
    wanted = {f"{MARK}={folder}".encode()}
    if name is not None:
        wanted.add(f"{NAME_MARK}={name}".encode())
    noted = set(_noted(folder, name or "*"))
    for entry in Path("/proc").glob("[0-9]*"):
        # Processes come and go, and those of other users are not ours.
        with contextlib.suppress(OSError):
            variables = set((entry / "environ").read_bytes().split(b"\0"))
            if int(entry.name) in noted or (wanted <= variables and (steps or _STEP not in variables)):
                yield int(entry.name)


_STEP = f"{STEP_MARK}=1".encode()


def _noted(folder: Path, name: str) -> Iterator[int]:
    for path in folder.glob(f"{name}/{NOTE}"):
        with contextlib.suppress(OSError, ValueError):
            pid, start = map(int, path.read_text(encoding="ascii").split())
            if _start(pid) == start:
                yield pid


def _start(pid: int) -> int:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    return int(stat.rpartition(")")[2].split()[19])


def end(pids: list[int], *, timeout: float = 10.0) -> None:
    """End processes: asked first, killed when they do not go in time."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        if wait_gone(pids, timeout=timeout):
            return


def wait_gone(pids: list[int], *, timeout: float) -> bool:
    """Wait until processes are gone; tell whether they are."""
    end_at = time.monotonic() + timeout
    while any(map(_alive, pids)):
        if time.monotonic() >= end_at:
            return False
        time.sleep(0.02)  # they are not our children, so nothing tells of their end
    return True


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
