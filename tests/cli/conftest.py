"""The command, run in this process, in a folder of its own."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from portable.cli.program import run

CONFIG = """\
default_profile = "local"

[resources.photos]
kind = "bucket"

[resources.archive]
kind = "bucket"

[resources.jobs]
kind = "queue"
max_deliveries = 3

[resources.events]
kind = "topic"

[resources.mailer]
kind = "subscription"
topic = "events"
filter = { type = "order.paid" }

[resources.clicks]
kind = "stream"
partitions = 2

[resources.sessions]
kind = "cache"

[resources.users]
kind = "collection"
key = "id"
indexes = ["name"]

[resources.main]
kind = "database"

[profiles.local]
default = "sqlite:.portable/app.db?durability=process"

[profiles.cloud]
create = "never"
default = "sqlite:.cloud/app.db?durability=process"
"""


class Result(NamedTuple):
    """What a run of the command came to."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode()

    @property
    def lines(self) -> list[Any]:
        """The JSON on each line of stdout."""
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        """The error that --json writes to stderr."""
        found: dict[str, Any] = json.loads(self.stderr)["error"]
        return found


Command = Callable[..., Result]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty folder, whatever the environment says of a config."""
    monkeypatch.chdir(tmp_path)
    for variable in ("PORTABLE_CONFIG", "PORTABLE_PROFILE", "PORTABLE_DEFAULT_PROFILE", "NO_COLOR"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


@pytest.fixture
def configured(folder: Path) -> Path:
    """Have a config with a resource of each kind."""
    path = folder / "portable.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def command(capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command: arguments, and what stdin holds."""

    def call(*arguments: str, stdin: bytes = b"") -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8"))
        capfdbinary.readouterr()
        code = run(arguments)
        out, err = capfdbinary.readouterr()
        return Result(code, out, err.decode())

    return call
