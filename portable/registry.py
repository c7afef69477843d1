"""From a URL's scheme to the driver that serves it, found through the entry points `portable.adapters`."""

from __future__ import annotations

import difflib
import functools
import importlib
import logging
from importlib.metadata import entry_points
from typing import Any

import msgspec

from portable.errors import ConfigError

__all__ = ["Adapter", "Provider", "adapters", "installed", "provider", "register", "schemes"]

KNOWN_EXTRAS = {
    "s3": "aws",
    "sqs": "aws",
    "sns": "aws",
    "kinesis": "aws",
    "dynamodb": "aws",
    "gs": "gcp",
    "pubsub": "gcp",
    "firestore": "gcp",
    "az": "azure",
    "azqueue": "azure",
    "servicebus": "azure",
    "eventhubs": "azure",
    "cosmos": "azure",
    "kafka": "kafka",
    "redis": "redis",
    "rediss": "redis",
    "memcached": "memcached",
    "amqp": "rabbitmq",
    "amqps": "rabbitmq",
    "nats": "nats",
    "postgresql": "sql",
    "mysql": "sql",
    "mariadb": "sql",
    "mssql": "sql",
    "oracle": "sql",
}
"""Which extra brings a scheme, for the error that says what to install."""


class Adapter(msgspec.Struct, frozen=True):
    """What a package under the entry point group `portable.adapters` offers.

    Attributes:
        schemes: scheme → kind → `"module:Class"` of the driver, as strings, so that nothing is imported early. The
            scheme `"*"` takes every scheme that no adapter names, for the kinds it lists.
        extra: the extra of `portable-cloud` that brings what the drivers import.
        place_segments: how many segments of a network URL's path come before the physical name, as a database does.
    """

    schemes: dict[str, dict[str, str]]
    extra: str
    place_segments: int = 0


class Provider(msgspec.Struct, frozen=True):
    """One driver class, before it is imported.

    Attributes:
        scheme: the URL's scheme.
        kind: the resource kind.
        path: `"module:Class"`.
        extra: what to install where its imports are missing.
        place_segments: how many segments of the URL's path come before the physical name.
    """

    scheme: str
    kind: str
    path: str
    extra: str
    place_segments: int = 0

    def load(self) -> Any:
        """Import the driver class; its `Options` stand beside it as `Class.Options`.

        Raises:
            ConfigError: a package that it needs is not installed; the message says which extra brings it.
        """
        module, _, name = self.path.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"{self.scheme}: {self.kind}s need the package {error.name!r}; "
                f"install it with: pip install 'portable-cloud[{self.extra}]'"
            ) from error


_log = logging.getLogger("portable")

_registered: list[Adapter] = []


def register(adapter: Adapter) -> None:
    """Add an adapter that is not installed as a package, such as one that its author is testing."""
    _registered.append(adapter)


@functools.cache
def installed() -> tuple[Adapter, ...]:
    """Every adapter that is installed as a package."""
    found = []
    for point in entry_points(group="portable.adapters"):
        try:
            found.append(point.load())
        except Exception as error:  # noqa: BLE001 (whatever is wrong with one package, the others serve)
            _log.warning("the adapter %r cannot be loaded, so its schemes are missing: %r", point.value, error)
    return tuple(found)


def adapters() -> tuple[Adapter, ...]:
    """Every adapter: those registered in this process first, then the installed ones."""
    return (*_registered, *installed())


def schemes(kind: str) -> list[str]:
    """The schemes that serve a kind, sorted."""
    return sorted({name for adapter in adapters() for name, kinds in adapter.schemes.items() if kind in kinds} - {"*"})


def provider(scheme: str, kind: str) -> Provider:
    """Find the driver of a scheme and kind.

    Raises:
        ConfigError: nobody provides it; the message says which extra does, or the nearest scheme that exists.
    """
    for name in (scheme, "*"):
        for adapter in adapters():
            path = adapter.schemes.get(name, {}).get(kind)
            if path is not None:
                return Provider(scheme, kind, path, adapter.extra, adapter.place_segments)
    offered = schemes(kind)
    served = sorted({served for adapter in adapters() for served in adapter.schemes.get(scheme, {})})
    if served:
        raise ConfigError(
            f"{scheme}: serves no {kind} (it serves {', '.join(served)}); a {kind} can be {', '.join(offered)}"
        )
    if scheme in KNOWN_EXTRAS:
        raise ConfigError(
            f"no installed adapter provides {scheme}:; "
            f"install it with: pip install 'portable-cloud[{KNOWN_EXTRAS[scheme]}]'"
        )
    near = difflib.get_close_matches(scheme, offered, 1)
    hint = f"did you mean {near[0]}:? " if near else ""
    raise ConfigError(f"no adapter provides the scheme {scheme}:; {hint}a {kind} can be {', '.join(offered)}")
