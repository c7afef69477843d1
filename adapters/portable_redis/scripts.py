"""The Lua scripts, each of which the server runs in one step: the files of `lua/`."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["Script"]

_FOLDER = Path(__file__).with_name("lua")


class Script:
    """One script, with the file that it shares with its neighbours in front of it.

    Attributes:
        text: what the server compiles.
        sha: what it is called by once the server knows it.
    """

    def __init__(self, name: str, *, after: str | None = None) -> None:
        """Read it.

        Args:
            name: of its file.
            after: of the file to put in front.
        """
        files = [name] if after is None else [after, name]
        self.text = "\n".join((_FOLDER / f"{file}.lua").read_text() for file in files)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
