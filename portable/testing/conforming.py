"""Runs the suites of one kind against one URL, and gives their matrix: what `portable conformance` prints."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import msgspec
import pytest

from portable.testing import plugin
from portable.testing.matrix import Collector, Row

__all__ = ["Failure", "Outcome", "classes", "run"]

_FILE = """\
from portable.testing.conforming import classes

TestSync, TestAio = classes()
"""
"""What pytest collects; the URL, which may hold a secret, is in no file."""

_MODULES = {"subscription": "topic"}
"""Where a kind's suite is, if not in the module of its name."""

_target: ContextVar[tuple[str, str]] = ContextVar("target")

_WRONG_USAGE = {pytest.ExitCode.INTERNAL_ERROR, pytest.ExitCode.USAGE_ERROR}


class Failure(msgspec.Struct, frozen=True):
    """One case that failed.

    Attributes:
        case: its name.
        message: what the assertion or error said, in one line.
        detail: the whole of what pytest says of it.
    """

    case: str
    message: str
    detail: str


class Outcome(msgspec.Struct, frozen=True):
    """What a run came to.

    Attributes:
        row: what was proven; None where nothing ran.
        failures: the cases that failed, and the files that could not be collected.
    """

    row: Row | None
    failures: list[Failure]

    @property
    def ok(self) -> bool:
        """Whether something ran and all of it passed."""
        return self.row is not None and not self.failures


def classes() -> tuple[Any, Any]:
    """Give the sync and the async suite of the run under way, at its URL."""
    kind, url = _target.get()
    made = []
    for face in ("portable.testing", "portable.testing.aio"):
        module = importlib.import_module(f"{face}.{_MODULES.get(kind, kind)}")
        suite = getattr(module, f"{kind.capitalize()}Suite")
        made.append(type(suite.__name__, (suite,), {"url": url}))
    return made[0], made[1]


class _Follower:
    """Tells of progress, and keeps what failed."""

    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self.failures: list[Failure] = []
        self._progress = progress
        self._total = 0
        self._done = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._total = len(session.items)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._note(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._note(report)
        if report.when == "teardown":
            self._done += 1
            self._progress(self._done, self._total)

    def _note(self, report: pytest.CollectReport | pytest.TestReport) -> None:
        crash = getattr(report.longrepr, "reprcrash", None)
        message = crash.message if crash is not None else str(report.longrepr)
        self.failures.append(
            Failure(report.nodeid.partition("::")[2], message.partition("\n")[0], str(report.longrepr))
        )


def run(kind: str, url: str, progress: Callable[[int, int], None], *, only: str = "") -> Outcome:
    """Run both faces' suites of a kind; every case makes resources of its own at the URL.

    Args:
        kind: the kind.
        url: where to run.
        progress: called with how many cases are done, and of how many.
        only: an expression of pytest's `-k` that chooses cases; empty for all.
    """
    collector, follower = Collector(), _Follower(progress)
    with tempfile.TemporaryDirectory() as folder, _alone():
        config, cases = Path(folder, "pytest.ini"), Path(folder, "test_conformance.py")
        # Whatever the user's own project asks of pytest is not asked here.
        config.write_text("[pytest]\n", encoding="utf-8")
        cases.write_text(_FILE, encoding="utf-8")
        arguments = [str(cases), "-c", str(config), "--rootdir", folder, "--import-mode=importlib", "--capture=no"]
        arguments += ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "anyio.pytest_plugin", "-k", only]
        token = _target.set((kind, url))
        try:
            code = pytest.main(arguments, plugins=[plugin, collector, follower])
        finally:
            _target.reset(token)
            sys.modules.pop(cases.stem, None)
    if code in _WRONG_USAGE:
        follower.failures.append(Failure("pytest", f"pytest ended with {code}", ""))
    if code == pytest.ExitCode.INTERRUPTED and not follower.failures:
        raise KeyboardInterrupt
    rows = collector.matrix.rows()
    return Outcome(rows[0] if rows else None, follower.failures)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Load no other plugin of pytest while the block runs, and none of its options."""
    variables = ("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_ADDOPTS")
    before = {name: os.environ.pop(name, None) for name in variables}
    os.environ[variables[0]] = "1"
    try:
        yield
    finally:
        del os.environ[variables[0]]
        os.environ.update({name: value for name, value in before.items() if value is not None})
