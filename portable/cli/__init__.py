"""The `portable` command: one file a command group, each imported when it is asked for."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command on the process's arguments, and exit with its code."""
    try:
        from portable.cli.program import run
    except ModuleNotFoundError as error:
        if error.name != "click":
            raise
        sys.exit("error: the command needs the package 'click'; install it with: pip install 'portable-cloud[cli]'")
    sys.exit(run(sys.argv[1:]))
