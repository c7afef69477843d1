"""Runs the suites of one kind against one URL, and gives their matrix: what `portable conformance` prints."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import msgspec
import pytest

from portable.testing import live, plugin
from portable.testing.matrix import Collector, Row

__all__ = ["Failure", "Outcome", "run"]

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
    with tempfile.TemporaryDirectory() as folder, _environment({live.URL: url, live.KIND: kind}):
        config = Path(folder, "pytest.ini")
        # Whatever the user's own project asks of pytest is not asked here.
        config.write_text("[pytest]\n", encoding="utf-8")
        arguments = [live.__file__, "-c", str(config), "--rootdir", folder, "--import-mode=importlib", "--capture=no"]
        arguments += ["-p", "no:terminal", "-p", "no:cacheprovider", "-p", "anyio.pytest_plugin", "-k", only]
        code = pytest.main(arguments, plugins=[plugin, collector, follower])
    if code in _WRONG_USAGE:
        follower.failures.append(Failure("pytest", f"pytest ended with {code}", ""))
    if code == pytest.ExitCode.INTERRUPTED and not follower.failures:
        raise KeyboardInterrupt
    rows = collector.matrix.rows()
    return Outcome(rows[0] if rows else None, follower.failures)


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables while the block runs; no other plugin of pytest is loaded then."""
    wanted = {**values, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    before = {name: os.environ.get(name) for name in (*wanted, "PYTEST_ADDOPTS")}
    os.environ.update(wanted)
    os.environ.pop("PYTEST_ADDOPTS", None)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
