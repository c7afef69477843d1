"""Where the values of a config were written: lines of a file, or variables of the environment."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path

from portable.errors import ConfigError

__all__ = ["Keys", "Source", "dotted", "nearest"]

Keys = tuple[str, ...]
"""The path of a value: `("profiles", "aws", "bind", "photos")`."""

_HEADER = re.compile(r"\s*\[\[?\s*([^\[\]#]+?)\s*\]\]?\s*(?:#.*)?")
_ASSIGNMENT = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_PART = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


class Source:
    """A config file's text and the variables that override it: what errors and `explain` need to name a place.

    Attributes:
        path: the file, or None where there is none.
        folder: where relative paths start.
        label: what errors name where there is no file.
        variables: the path of each overridden value → the variable that set it.
    """

    def __init__(self, path: Path | None, folder: Path, text: str = "", *, label: str = "config") -> None:
        self.path = path
        self.folder = folder
        self.label = label
        self.variables: dict[Keys, str] = {}
        self.text = text

    def origin(self, keys: Keys) -> str:
        """Name the variable or the file and line that set a value: `portable.toml:12`."""
        for length in range(len(keys), 0, -1):
            if variable := self.variables.get(keys[:length]):
                return f"${variable}"
        line = self._line(keys)
        if keys not in self._lines:
            # A table that the file does not have may have come with a variable for something inside of it.
            inner = next((name for of, name in self.variables.items() if keys and of[: len(keys)] == keys), None)
            if inner is not None:
                return f"${inner}"
        file = str(self.path) if self.path is not None else self.label
        return f"{file}:{line}" if line else file

    def error(self, keys: Keys, message: str) -> ConfigError:
        """Make the error that says where, at which key path, and what: `portable.toml:12: resources.jobs: …`."""
        return ConfigError(f"{self.where(keys)}: {message}")

    def where(self, keys: Keys) -> str:
        """Name the place and the key path of a value."""
        return f"{self.origin(keys)}: {dotted(keys)}" if keys else self.origin(keys)

    @functools.cached_property
    def _lines(self) -> dict[Keys, int]:
        return _lines(self.text)

    def _line(self, keys: Keys) -> int | None:
        for length in range(len(keys), 0, -1):
            if line := self._lines.get(keys[:length]):
                return line
        return None


def _lines(text: str) -> dict[Keys, int]:
    """Note where each table and key starts; a reading good enough to point people at a line."""
    found: dict[Keys, int] = {}
    table: Keys = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := _HEADER.fullmatch(line):
            table = _parts(header[1])
            found.setdefault(table, number)
        elif assignment := _ASSIGNMENT.match(line):
            found.setdefault((*table, *_parts(assignment[1])), number)
    return found


def _parts(text: str) -> Keys:
    return tuple(part.strip("\"'") for part in _PART.findall(text))


def dotted(keys: Keys) -> str:
    """Write a path as TOML does."""
    return ".".join(key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _quoted(key) for key in keys)


def _quoted(key: str) -> str:
    return '"' + key.encode("unicode_escape", "replace").decode().replace('"', '\\"') + '"'


def nearest(name: str, known: Iterable[str], *, write: str = "{}") -> str:
    """Give the tail of an error on an unknown name: the nearest known one, else all that are known.

    Args:
        name: what was written.
        known: what could have been.
        write: how a name is written, with `{}` in place of it.
    """
    import difflib  # noqa: PLC0415 (only an error needs it)

    choices = sorted(set(known))
    folded = {choice.lower().replace("-", "_"): choice for choice in reversed(choices)}
    near = difflib.get_close_matches(name[:100].lower().replace("-", "_"), folded, 1)
    if near:
        return f"; did you mean {write.format(folded[near[0]])}?"
    if not choices:
        return ""
    listed = ", ".join(write.format(choice) for choice in choices[:12])
    return f"; it can be {listed}" + (", …" if len(choices) > 12 else "")
