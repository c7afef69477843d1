"""The public types under both checkers: what they infer, and the mistakes that they see."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = [f"tests/typing/{name}.py" for name in ("sync_face", "aio_face", "mistakes")]


@pytest.mark.parametrize("command", [("mypy", "--strict"), ("basedpyright", "--warnings")], ids=lambda one: one[0])
def test_the_checkers_agree_with_the_contract(command: tuple[str, ...]) -> None:
    program, *options = command
    done = subprocess.run(
        [sys.executable, "-m", program, *options, *FILES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "portable" / "py.typed").exists()
    for adapter in ("portable_embedded", "portable_sql"):
        assert (ROOT / "adapters" / adapter / "py.typed").exists()
