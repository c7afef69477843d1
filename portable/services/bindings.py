"""The binding of an instance: what applications read of it, as servicebinding.io has it.

One folder, one file an entry, mode 0600: `type`, `provider`, `host`, `port`, `uri`, and what the manifest adds. Other
programs read the same files with `SERVICE_BINDING_ROOT=.portable/services/bindings`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from portable.services.home import make_folder, write_private
from portable.services.manifest import Manifest
from portable.services.templates import Lookup, expanded

if TYPE_CHECKING:  # a runtime writes bindings itself
    from portable.services.instances import Instance
    from portable.services.runtimes import Runtime

__all__ = ["entries", "outside", "read_entries", "remove_binding", "shown", "write_binding"]

_UNQUOTED = ("host", "port", "address", "binding")
"""Scopes whose values stand in a URL as they are."""


def entries(manifest: Manifest, lookup: Lookup) -> dict[str, str]:
    """Give a binding's entries.

    Args:
        manifest: the service's.
        lookup: gives values as an application sees them.
    """

    def in_url(scope: str, name: str) -> str:
        value = lookup(scope, name)
        return value if scope in _UNQUOTED else quote(value, safe="")

    found = {
        "type": manifest.binding.type,
        "provider": "portable",
        "host": lookup("host", ""),
        "port": lookup("port", next(iter(manifest.ports))),
        "uri": expanded(manifest.binding.uri, in_url),
    }
    for name, text in manifest.binding.entries.items():
        found[name] = expanded(text, lookup)
    for kind, provided in manifest.provides.items():
        if provided.uri is not None:
            found[f"uri-{kind}"] = expanded(provided.uri, in_url)
    return found


def outside(platform: Runtime, instance: Instance) -> dict[str, str]:
    """Give a binding's entries as applications on this machine see the server."""
    manifest = instance.service.manifest
    host, _ = platform.address(instance, next(iter(manifest.ports)))
    inside = platform.lookup(instance)

    def lookup(scope: str, name: str) -> str:
        if scope == "host":
            return host
        return str(platform.address(instance, name)[1]) if scope == "port" else inside(scope, name)

    return entries(manifest, lookup)


def write_binding(folder: Path, binding: Mapping[str, str]) -> None:
    """Write a binding's files; entries of an earlier one that it lacks are removed."""
    make_folder(folder.parent, 0o700)
    make_folder(folder, 0o700)
    for name, value in binding.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != value:
            write_private(path, value)
    for path in folder.iterdir():
        if path.name not in binding:
            path.unlink()


def read_entries(folder: Path) -> dict[str, str]:
    """Read a binding's files; empty where there are none."""
    if not folder.is_dir():
        return {}
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    return {path.name: path.read_text(encoding="utf-8") for path in files}


def remove_binding(folder: Path) -> None:
    """Remove a binding, whether it is there or not."""
    with contextlib.suppress(FileNotFoundError):
        # Moved away first, so that nobody reads half of one.
        gone = folder.with_name(f".gone-{os.getpid()}-{folder.name}")
        folder.rename(gone)
        shutil.rmtree(gone)


def shown(binding: Mapping[str, str], secrets: Mapping[str, object]) -> dict[str, str]:
    """Give a binding's entries as they may be shown: what holds a secret's value has `***` in place of it."""
    hidden = {str(value) for value in secrets.values()} | {quote(str(value), safe="") for value in secrets.values()}
    redacted = {}
    for name, text in binding.items():
        value = text
        for secret in sorted(hidden, key=len, reverse=True):
            if secret:
                value = value.replace(secret, "***")
        redacted[name] = value
    return redacted
