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
    if os.geteuid() == 0 and spec["uid"] != 0:
        os.setgroups([])
        os.setgid(spec["gid"])
        os.setuid(spec["uid"])
    os.chdir(spec["folder"])
    os.umask(0o077)
    os.execve(spec["command"][0], spec["command"], spec["environment"])  # noqa: S606 # nosec B606 # becomes the server


main()
