"""Templates: `${scope:name}` in manifests and config files. `$${` stands for `${` itself.

| written | gives |
|---|---|
| `${parameter:NAME}` | a parameter's value |
| `${port:NAME}` | the number of a port |
| `${host}` | the address that the server listens on |
| `${address:NAME}` | where applications reach a port: `host:port` |
| `${volume:NAME}` | the path of a volume |
| `${file:NAME}` | the path of a file that was made |
| `${command:NAME}` | the path of a program |
| `${software}` | the folder of the unpacked software |
| `${binding:DEPENDENCY/ENTRY}` | an entry of a needed service's binding |
| `${instance}` | the instance's name |
| `${service}` | the folder of the manifest |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from portable.errors import ConfigError

__all__ = ["SCOPES", "Lookup", "expanded", "references"]

Lookup = Callable[[str, str], str]
"""Gives what a reference stands for, from its scope and its name."""

SCOPES = (
    "parameter",
    "port",
    "host",
    "address",
    "volume",
    "file",
    "command",
    "software",
    "binding",
    "instance",
    "service",
)
_REFERENCE = re.compile(r"\$\$\{|\$\{(?:([a-z]+)(?::([A-Za-z0-9._/-]+))?\})?")


def references(text: str) -> Iterator[tuple[str, str]]:
    """List the references of a template: scope and name.

    Raises:
        ConfigError: one is not written as a reference is.
    """
    for match in _REFERENCE.finditer(text):
        if match[0] == "$${":
            continue
        if match[1] is None:
            near = text[match.start() : match.start() + 30]
            raise ConfigError(f"{near!r} is no reference; write ${{scope:name}}, or $${{ for the characters themselves")
        yield match[1], match[2] or ""


def expanded(text: str, lookup: Lookup) -> str:
    """Put values in place of a template's references."""

    def value(match: re.Match[str]) -> str:
        return "${" if match[0] == "$${" else lookup(match[1], match[2] or "")

    return _REFERENCE.sub(value, text)
