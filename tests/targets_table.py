"""What a run does about its targets: it gives them a folder, ends them, and says at last what became of each."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from portable.services import Services
from tests.targets import PROJECT, TARGETS

__all__ = ["pytest_configure", "pytest_terminal_summary", "pytest_unconfigure"]

_PREFIX = "portable-targets-"
_OURS = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the run's folder, in the process that starts the others."""
    if hasattr(config, "workerinput") or PROJECT in os.environ:
        return
    for left in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if not Path(f"/proc/{left.name.split('-')[2]}").exists():
            _remove(left)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    config.stash[_OURS] = folder
    os.environ[PROJECT] = str(folder)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Uninstall what the run installed."""
    folder = config.stash.get(_OURS, None)
    if folder is not None:
        del os.environ[PROJECT]
        _remove(folder)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say of each target how the tests went that used it, or why it could not start."""
    folder = config.stash.get(_OURS, None)
    if folder is None or not (folder / "used").is_dir():
        return
    outcomes = _outcomes(terminalreporter)
    services = Services(folder)
    terminalreporter.section("targets")
    for name in TARGETS:
        users = [path.name.partition(" ")[2].replace("|", "/") for path in (folder / "used").glob(f"{name} *")]
        if users:
            counts = sum((outcomes.get(user, Counter()) for user in users), Counter[str]())
            terminalreporter.write_line(f"{name:<20} {_state(services, folder, name):<28} {_words(counts)}")


def _outcomes(terminalreporter: pytest.TerminalReporter) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            found.setdefault(report.nodeid.partition("[")[0].rpartition("::")[0], Counter())[outcome] += 1
    return found


def _state(services: Services, folder: Path, name: str) -> str:
    failed = folder / f"{name}.failed"
    if failed.exists():
        return f"could not start: {failed.read_text()}"
    for instance in services.instances():
        if instance.name == name:
            return f"{instance.record.service} {instance.record.version}, {instance.record.runtime}"
    return "an instance a test"


def _words(counts: Counter[str]) -> str:
    return ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items())) or "nothing ran"


def _remove(folder: Path) -> None:
    services = Services(folder)
    for name in services.home.names():
        services.uninstall(name)
    shutil.rmtree(folder, ignore_errors=True)
