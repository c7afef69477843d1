"""Manifests to begin from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from portable.services.reading import Service, read_service

MANIFEST = """\
schema = 1
name = "demo"
summary = "A demonstration"
revision = 1
version = "1.0"
license = "Apache-2.0"
homepage = "https://example.com"
categories = ["test"]
persistent = true

[parameters.password]
type = "string"
description = "what clients say"
sensitive = true
generated = { length = 16 }

[parameters.level]
type = "integer"
description = "how loud"
minimum = 1
maximum = 9
default = 3

[plans.dev]
summary = "small"
memory = "16MiB"
parameters = { level = 2 }

[ports.main]
port = 7000

[volumes.data]
path = "/data"

[files."demo.conf"]
text = "password ${parameter:password}"
path = "/etc/demo.conf"

[images.server]
name = "demo/demo:1.0"

[[process.software]]
source = "pypi"
packages = ["demo-bin==1.0"]
commands = { demo = "bin/demo" }

[process]
command = ["${command:demo}", "${file:demo.conf}", "${volume:data}"]

[[process.setup]]
command = ["${command:demo}", "init"]
volume = "data"

[probes.ready]
port = "main"
exchange = [{ send = "PING ${parameter:password}", expect = "PONG" }]

[probes.functional]
command = ["${command:demo}", "check"]

[backup.backup]
command = ["${command:demo}", "dump"]

[backup.restore]
command = ["${command:demo}", "load"]

[binding]
type = "demo"
uri = "demo://:${parameter:password}@${host}:${port:main}"

[provides]
cache = {}
"""

Write = Callable[..., Service]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a service's folder, with parts of the manifest replaced, and read it."""

    def call(*replacements: tuple[str, str], name: str = "demo", more: str = "") -> Service:
        folder = tmp_path / "repository" / name
        folder.mkdir(parents=True, exist_ok=True)
        text = MANIFEST.replace('name = "demo"', f'name = "{name}"')
        for old, new in replacements:
            assert old in text, old
            text = text.replace(old, new, 1)
        (folder / "service.toml").write_text(text + more)
        (folder / "README.md").write_text(f"# {name}\n")
        return read_service(folder)

    return call
