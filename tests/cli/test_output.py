"""What the command says when something goes wrong or takes long."""

from __future__ import annotations

import io
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from portable.batches import BatchResult
from portable.cli import failures, output
from portable.errors import BatchError, NotFound, Throttled, Unavailable

if TYPE_CHECKING:
    from tests.cli.conftest import Command


class Terminal(io.StringIO):
    """Text that says it is a terminal, and tells when something of a kind was shown on it."""

    def __init__(self, awaited: str) -> None:
        super().__init__()
        self.awaited = awaited
        self.seen = threading.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        count = super().write(text)
        if self.awaited in self.getvalue():
            self.seen.set()
        return count


def test_what_takes_long_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_SLOW", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal("copying the moon")
    monkeypatch.setattr(sys, "stderr", terminal)
    with output.progress("copying the moon", 10) as report:
        report(5)
        assert terminal.seen.wait(30)
    with output.working("copying the moon"):
        pass


def test_what_is_fast_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_SLOW", 3600.0)
    terminal = Terminal("x")
    monkeypatch.setattr(sys, "stderr", terminal)
    with output.progress("x", 10, in_bytes=True) as report:
        report(10)
    assert terminal.getvalue() == ""


def test_what_is_no_terminal_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "_SLOW", 0.0)
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stderr", shown)
    with output.working("x"):
        pass
    assert shown.getvalue() == ""


@pytest.mark.parametrize(
    ("error", "code"), [(NotFound("gone"), 4), (Throttled("slow down"), 1), (OSError(28, "No space left"), 1)]
)
def test_errors_have_their_codes(error: Exception, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert failures.report(error, as_json=False) == code
    assert capsys.readouterr().err.startswith("error: ")


def test_a_fault_of_ours_is_not_hidden() -> None:
    assert failures.report(ZeroDivisionError(), as_json=False) is None


def test_a_batch_says_which_entries_failed(capsys: pytest.CaptureFixture[str]) -> None:
    result: BatchResult[str] = BatchResult(["id", Unavailable("cut off")])
    assert failures.report(BatchError("1 of 2 failed", result=result), as_json=False) == 1
    assert capsys.readouterr().err == "error: 1 of 2 failed\n  entry 1: cut off\n"


def test_wrong_usage_exits_with_2(command: Command) -> None:
    result = command("bucket", "ls")
    assert result.code == 2
    assert "Missing argument 'NAME'" in result.stderr
    assert "portable bucket ls --help" in result.stderr
    result = command("bucket", "ls", "--json")
    assert result.code == 2
    assert result.error["type"] == "UsageError"
    assert "did you mean bucket?" in command("buckt").stderr
    assert "No such command" in command("xyz").stderr
    assert command("queue", "send", "jobs", "x", "-a", "novalue").code == 2
    assert command().code == 2
    assert command("bucket").code == 2


def test_help_exits_with_0(command: Command) -> None:
    for arguments in (["--help"], ["bucket", "-h"], ["bucket", "ls", "--help"], ["--version"]):
        result = command(*arguments)
        assert (result.code, result.stderr) == (0, "")


def test_text_that_moves_the_cursor_is_escaped() -> None:
    assert output.printable("a\x1b[2Jb\nü\u202e") == "a\\x1b[2Jb\\nü\\u202e"
    assert output.printable("\ud800") == "\\ud800"
