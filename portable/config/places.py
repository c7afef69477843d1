"""From a URL as written to the URL that a driver gets: the default's rules, paths of files, installed services."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path

import msgspec

from portable.config.services import service_url
from portable.config.source import Keys
from portable.config.tables import Placed
from portable.errors import ConfigError
from portable.urls import Url

__all__ = ["Place", "default_url", "final_url", "physical_name"]


class Place(msgspec.Struct, frozen=True):
    """Where a resource was found to be written.

    Attributes:
        at: what holds the URL.
        own: the resource's own binding, if it has one.
        of_topic: whether `at` is the place of a subscription's topic.
        by_default: whether `at` is the profile's default.
    """

    at: Placed
    own: Placed | None = None
    of_topic: bool = False
    by_default: bool = False

    @property
    def keys(self) -> Keys:
        """Where it was written."""
        return (self.own or self.at).keys


def default_url(url: Url, kind: str, name: str) -> Url:
    """Give what a profile's default URL means for a resource.

    One SQLite file holds every kind but buckets and databases, which get a folder and a file of their own beside it
    (with a default of `memory:`, databases get one under `.portable/`); a folder holds a folder for each bucket.

    Returns:
        The URL itself, where the resource goes right there.
    """
    if url.host is not None:
        return url
    folder = posixpath.dirname(url.path)
    match url.scheme, kind:
        case "sqlite", "bucket":
            moved = Url("file", path=posixpath.join(folder, name), options=url.options)
        case "sqlite", "database":
            moved = Url("sqlite", path=posixpath.join(folder, f"{name}.db"), options=url.options)
        case "memory", "database":
            moved = Url("sqlite", path=f".portable/{name}.db", options=url.options)
        case "file", "bucket":
            moved = Url("file", path=posixpath.join(url.path, name), options=url.options)
        case _:
            return url
    return msgspec.structs.replace(moved, shown=f"{moved.scheme}:… ({name}, beside {url.shown})" if url.shown else "")


def final_url(url: Url, folder: Path, kind: str = "") -> Url:
    """Give the URL that a driver gets: services looked up, paths absolute.

    Args:
        url: the URL as written, references resolved.
        folder: where relative paths start.
        kind: the kind of the resource that is bound.

    Raises:
        ConfigError: the path is written in a form that others read otherwise, or the service is not installed.
    """
    if url.scheme == "service":
        url = service_url(url, folder, kind)
    # SQLAlchemy's schemes name their library too: sqlite+aiosqlite.
    backend = url.scheme.partition("+")[0]
    if backend == "memory" and url.host is not None:
        written = url.shown or f"memory://{url.hosts}"
        raise ConfigError(f"write memory:NAME (one per process) or memory: (one per cloud), not {written}")
    if backend not in {"sqlite", "file"}:
        return url
    path = f"/{url.path}" if backend == "file" and url.host in {"", "localhost"} and url.path else url.path
    if url.host is not None and path == url.path:
        raise _two_spellings(url)
    if not path.strip():
        raise ConfigError(f"{url.scheme}: names no path; write {url.scheme}:PATH, relative to {folder}, or absolute")
    if backend == "sqlite" and (path.startswith((":memory:", "file:")) or path.endswith("/")):
        raise ConfigError(f"{url.scheme}: takes the path of a file; for what lives in memory write memory:")
    absolute = os.path.normpath(folder / path)
    return msgspec.structs.replace(url, path=absolute, host=None, hosts="", username=None, password=None, port=None)


def _two_spellings(url: Url) -> ConfigError:
    if url.shown:
        relative, absolute, written = f"{url.scheme}:PATH", f"{url.scheme}:/PATH", url.shown
    else:
        path = posixpath.join(url.hosts, url.path).strip("/")
        relative, absolute = f"{url.scheme}:{path}", f"{url.scheme}:/{path}"
        written = f"{url.scheme}://{url.hosts}" + (f"/{url.path}" if url.path else "")
    return ConfigError(
        f"{written} is read differently by different tools; write {relative} (relative) or {absolute} (absolute)"
    )


def physical_name(url: Url, place_segments: int = 0) -> str | None:
    """Give the physical name that a URL holds: the path of a network URL, else an authority that is a bare name.

    Args:
        url: the URL as written.
        place_segments: how many segments of its path come before the name, and belong to the place.
    """
    if url.host is None:
        return None
    if place_segments:
        return "/".join(url.path.strip("/").split("/")[place_segments:]) or None
    if path := url.path.strip("/"):
        return path
    return url.host if url.host and url.host == url.hosts and not url.username and "," not in url.host else None
