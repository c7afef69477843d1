"""The servers that both sides of a comparison use: services of the repository, for as long as a measurement takes."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from portable.services import Services

__all__ = ["distant", "serving"]


@contextlib.contextmanager
def serving(service: str, folder: Path, kind: str | None = None) -> Iterator[str]:
    """Run a service, with its dev plan, and give its URL, credentials included.

    Args:
        service: the service.
        folder: where it is installed.
        kind: the kind of resource that is bound, where the service has another URL for it.
    """
    services = Services(folder)
    try:
        services.install(service)
        binding = services.binding(service, secrets=True)
        yield binding.get(f"uri-{kind}", binding["uri"])
    finally:
        for name in services.home.names():
            services.uninstall(name)


@contextlib.contextmanager
def distant(endpoint: str, *, milliseconds: int) -> Iterator[str]:
    """Give the URL by which each answer of a server comes so much later, as from another machine.

    Args:
        endpoint: the server's URL.
        milliseconds: how much later.
    """
    parts = urlsplit(endpoint)
    where = [str(parts.hostname), str(parts.port), str(milliseconds / 1000)]
    command = [sys.executable, "-m", "benchmarks.distance", *where]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 (a module of ours)
        try:
            assert process.stdout is not None
            yield parts._replace(netloc=f"127.0.0.1:{int(process.stdout.readline())}").geturl()
        finally:
            process.terminate()
