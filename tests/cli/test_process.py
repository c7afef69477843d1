"""The command as a process: pipes, signals, terminals, and what is missing."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

import portable.cloud

COMMAND = [sys.executable, "-c", "from portable.cli import main; main()"]

pytestmark = pytest.mark.usefixtures("configured")


def environment(**more: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    return plain | {"TERM": "xterm-256color"} | more


@pytest.fixture
def large_stream() -> Iterator[None]:
    """Have more in a stream than a pipe holds."""
    with portable.cloud.connect() as cloud:
        cloud.stream("clicks").append_many([b"x" * 100_000 for _ in range(20)])
        yield


@pytest.mark.usefixtures("large_stream")
def test_a_reader_that_has_enough_ends_it_quietly() -> None:
    arguments = ["stream", "tail", "clicks", "--start", "start", "--no-follow"]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(10)
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""


@pytest.mark.usefixtures("large_stream")
def test_ctrl_c_ends_it_quietly() -> None:
    arguments = ["stream", "tail", "clicks", "--start", "start", "--json"]
    with subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(20):
            assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stderr.read() == b""


def on_a_terminal(arguments: Sequence[str], **more: str) -> bytes:
    """Run the command with stderr on a terminal, and give what it shows there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], stdout=subprocess.DEVNULL, stderr=theirs, env=environment(**more)
    )
    os.close(theirs)
    shown = b""
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
    except OSError:  # how a terminal says that nobody writes to it any more
        pass
    finally:
        os.close(ours)
    process.wait(60)
    return shown


def test_errors_are_red_on_a_terminal_alone() -> None:
    arguments = ["bucket", "ls", "photo"]
    assert b"\x1b[31m" in on_a_terminal(arguments)
    assert b"\x1b[" not in on_a_terminal(arguments, NO_COLOR="1")
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, env=environment(), check=False)
    assert done.returncode == 3
    assert done.stderr.startswith(b"error: ")
    assert b"\x1b" not in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_without_click_it_says_what_to_install() -> None:
    script = "import sys; sys.modules['click'] = None; from portable.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "error: the command needs the package 'click'; install it with: pip install 'portable-cloud[cli]'\n"
    )


def test_without_pytest_conformance_says_what_to_install() -> None:
    script = "import sys; sys.modules['pytest'] = None; from portable.cli import main; main()"
    arguments = ["conformance", "--url", "memory:", "--kind", "cache"]
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "portable-cloud[testing]" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_installed_command_runs(folder: Path) -> None:
    installed = Path(sys.executable).with_name("portable")
    done = subprocess.run([installed, "--version"], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0
    assert done.stdout.startswith("portable ")


def test_completion_for_shells() -> None:
    more = environment(_PORTABLE_COMPLETE="bash_source")
    done = subprocess.run(COMMAND, capture_output=True, text=True, env=more, check=False)
    assert "_PORTABLE_COMPLETE=bash_complete" in done.stdout
