"""What the supervisor runs in place of a server: it drops root's rights, and becomes the server.

A program of its own, which imports nothing of ours: `launch.py SPEC`. The spec is JSON and readable by its owner
alone, so that no argument or variable passes through a config format, and no secret through an argument.
"""

from __future__ import annotations

import json
import os
import sys


def main() -> None:
    """Become the program that the spec describes."""
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123 (starts in half the time without pathlib)
        spec = json.load(file)
    # Some servers write over their environment, by which they would be found. The start tells one from a later
    # process of the same id; it is the twentieth field after the name, which may hold anything.
    with open("/proc/self/stat", encoding="utf-8", errors="replace") as file:  # noqa: PTH123 (the same)
        start = file.read().rpartition(")")[2].split()[19]
    note = os.path.join(os.path.dirname(sys.argv[1]), "server.pid")  # noqa: PTH118, PTH120 (the same)
    with open(note, "w", encoding="ascii") as file:  # noqa: PTH123 (the same)
        file.write(f"{os.getpid()} {start}")
    if os.geteuid() == 0 and spec["uid"] != 0:
        os.setgroups([])
        os.setgid(spec["gid"])
        os.setuid(spec["uid"])
    os.chdir(spec["folder"])
    os.umask(0o077)
    os.execve(spec["command"][0], spec["command"], spec["environment"])  # noqa: S606 # nosec B606 # becomes the server


main()
