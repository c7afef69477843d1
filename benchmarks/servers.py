"""The servers that both sides of a comparison use: services of the repository, for as long as a measurement takes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from portable.services import Services

__all__ = ["serving"]


@contextlib.contextmanager
def serving(service: str, folder: Path) -> Iterator[str]:
    """Run a service, with its dev plan, and give its URL, credentials included."""
    services = Services(folder)
    try:
        services.install(service)
        yield services.binding(service, secrets=True)["uri"]
    finally:
        for name in services.home.names():
            services.uninstall(name)
