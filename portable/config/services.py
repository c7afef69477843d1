"""`service:NAME` bindings: an installed service, found by its servicebinding.io folder `$SERVICE_BINDING_ROOT/NAME`."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from portable.config.references import read_binding_entry
from portable.errors import ConfigError
from portable.urls import Url

__all__ = ["ServiceNotInstalledError", "service_url"]

_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]+")


class ServiceNotInstalledError(ConfigError):
    """A binding names a service that is not installed on this machine."""


def service_url(url: Url) -> Url:
    """Give the URL of the installed service that a `service:` URL names.

    The folder's `uri` file holds it; `username` and `password` files add what the URI leaves out, and options of the
    `service:` URL are added to those of the URI.

    Raises:
        ConfigError: no such service is installed, or its folder holds no good URI.
    """
    name = url.path
    if url.host is not None or not _NAME.fullmatch(name):
        raise ConfigError("a service binding is written service:NAME")
    # A name that came from a reference is not told.
    called = f"the service of {url.shown}" if url.shown else f"the service {name!r}"
    root = os.environ.get("SERVICE_BINDING_ROOT")
    folder = Path(root, name) if root else None
    if folder is None or not (folder / "uri").is_file():
        why = "$SERVICE_BINDING_ROOT holds no uri file for it" if root else "$SERVICE_BINDING_ROOT is not set"
        raise ServiceNotInstalledError(f"{called} is not installed: {why}")
    try:
        found = Url.parse(read_binding_entry(name, "uri"))
    except ConfigError as error:
        raise ConfigError(f"the uri of {called}" + (" is no URL" if url.shown else f": {error.message}")) from None
    if found.scheme == "service":
        raise ConfigError(f"the uri of {called} names a service in turn")
    for key in ("username", "password"):
        if found.host and getattr(found, key) is None and (folder / key).is_file():
            found = msgspec.structs.replace(found, **{key: read_binding_entry(name, key)})
    return msgspec.structs.replace(found, options=found.options | url.options, shown=url.shown)
