"""`service:NAME` bindings: an installed service, found by its servicebinding.io folder."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from portable.config.references import read_entry
from portable.errors import ConfigError
from portable.urls import Url

__all__ = ["ServiceNotInstalledError", "service_url"]

_NAME = re.compile(r"(?!\.)[A-Za-z0-9._-]+")


class ServiceNotInstalledError(ConfigError):
    """A binding names a service that is not installed on this machine."""


def service_url(url: Url, folder: Path, kind: str = "") -> Url:
    """Give the URL of the installed service that a `service:` URL names.

    It is looked up under `$SERVICE_BINDING_ROOT/NAME`, then among the services that `portable services` installed for
    the project. The folder's `uri` file holds it (`uri-KIND`, where a kind has one of its own); `username` and
    `password` files add what the URI leaves out, and options of the `service:` URL are added to those of the URI.

    Args:
        url: the `service:` URL.
        folder: the project's folder.
        kind: the kind of the resource that is bound.

    Raises:
        ConfigError: no such service is installed, or its folder holds no good URI.
    """
    name = url.path
    if url.host is not None or not _NAME.fullmatch(name):
        raise ConfigError("a service binding is written service:NAME")
    # A name that came from a reference is not told.
    called = f"the service of {url.shown}" if url.shown else f"the service {name!r}"
    place = _place(folder, name, called)
    entry = _entry(place, kind)
    try:
        found = Url.parse(read_entry(place, entry))
    except ConfigError as error:
        raise ConfigError(f"the uri of {called}" + (" is no URL" if url.shown else f": {error.message}")) from None
    if found.scheme == "service":
        raise ConfigError(f"the uri of {called} names a service in turn")
    for key in ("username", "password"):
        if found.host and getattr(found, key) is None and (place / key).is_file():
            found = msgspec.structs.replace(found, **{key: read_entry(place, key)})
    return msgspec.structs.replace(found, options=found.options | url.options, shown=url.shown)


def _entry(place: Path, kind: str) -> str:
    # A subscription is where its topic is.
    kinds = [kind, "topic"] if kind == "subscription" else [kind] if kind else []
    return next((entry for one in kinds if (place / (entry := f"uri-{one}")).is_file()), "uri")


def _place(folder: Path, name: str, called: str) -> Path:
    root = os.environ.get("SERVICE_BINDING_ROOT")
    bindings = folder / ".portable" / "services" / "bindings"
    places = [Path(root, name)] if root else []
    for place in (*places, bindings / name):
        if (place / "uri").is_file():
            return place
    why = "$SERVICE_BINDING_ROOT holds no uri file for it" if root else "$SERVICE_BINDING_ROOT is not set"
    raise ServiceNotInstalledError(
        f"{called} is not installed: {why}, and `portable services status` in {folder} does not list it"
    )
