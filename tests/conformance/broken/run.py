"""Runs cases of a suite against deliberately broken drivers, to prove that the suite catches each of them."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

__all__ = ["SOUND", "failed", "outcomes"]

HERE = Path(__file__).parent
SOUND = "TestSound"
"""The class of a broken module that runs the sound driver."""


def failed(module: str, cases: Iterable[tuple[str, str]]) -> dict[tuple[str, str], bool]:
    """Run pairs of a class and a case of a module beside this one, and say of each whether it failed."""
    found = _run(HERE / module, cases)
    unclear = {case: outcome for case, outcome in found.items() if outcome not in {"passed", "failed"}}
    assert not unclear, unclear
    return {case: outcome == "failed" for case, outcome in found.items()}


def outcomes(module: Path, caught_by: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Run for each class the case that must fail, and each of these cases for `TestSound`, too.

    Returns:
        By class and case `"passed"`, `"failed"`, `"error"` or `"skipped"`.
    """
    return _run(module, [*caught_by.items(), *((SOUND, case) for case in caught_by.values())])


def _run(module: Path, cases: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    nodes = [f"{module}::{name}::{case}" for name, case in sorted(set(cases))]
    plain = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-o", "addopts=--import-mode=importlib"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", *plain, f"--junitxml={report}", "--timeout=100", *nodes]
        done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=600, cwd=HERE.parents[2])
        # 0 and 1 say that all of them ran; anything else, that they did not.
        assert done.returncode in {0, 1}, done.stdout + done.stderr
        found = ET.parse(report).iter("testcase")  # noqa: S314 (pytest has just written it)
        return {
            (str(case.get("classname")).rpartition(".")[2], str(case.get("name"))): _outcome(case) for case in found
        }


def _outcome(case: ET.Element) -> str:
    for part, outcome in (("failure", "failed"), ("error", "error"), ("skipped", "skipped")):
        if case.find(part) is not None:
            return outcome
    return "passed"
