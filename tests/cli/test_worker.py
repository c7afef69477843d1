"""`portable worker` and `portable outbox relay`."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

import portable.cloud
from portable.aio import cloud as aio_cloud
from portable.worker import run_async, stopping

if TYPE_CHECKING:
    from portable.aio.message import Message as AioMessage
    from tests.cli.conftest import Command

TASKS = """
import os
import signal
import sys
import time
from dataclasses import dataclass

from portable.aio.message import Message as AioMessage
from portable.message import Message


@dataclass
class Job:
    name: str


def note(text):
    with open("done.txt", "a", encoding="utf-8") as file:
        file.write(text + "\\n")


def raw(message):
    note(repr(message.body))


def typed(message: Message[Job]) -> None:
    note(message.body.name)


async def later(message: AioMessage[Job]) -> None:
    note("later " + message.body.name)


class Later:
    async def __call__(self, message: AioMessage[Job]) -> None:
        note("later still " + message.body.name)


later_still = Later()


def failing(message: Message[Job]) -> None:
    note("failing")
    raise ValueError("no luck")


def stopping(message) -> None:
    first = not os.path.exists("done.txt")
    note("stopping")
    if first:
        os.kill(os.getpid(), signal.SIGTERM)
    else:
        # So that the rest takes far longer than the signal.
        time.sleep(0.02)


def slow(message) -> None:
    print("started", flush=True)
    sys.stdin.readline()
    note("finished")


number = 7
"""


@pytest.fixture(autouse=True)
def tasks(configured: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have a module of handlers in the working directory, and nothing of it left behind."""
    folder = configured.parent
    folder.joinpath("tasks_of_a_test.py").write_text(TASKS)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield folder / "done.txt"
    sys.modules.pop("tasks_of_a_test", None)


def worker(command: Command, function: str, *more: str) -> str:
    result = command("worker", f"tasks_of_a_test:{function}", "--queue", "jobs", *more)
    assert result.code == 0, result.stderr
    return result.stderr


@pytest.mark.parametrize(
    ("function", "noted"),
    [
        ("raw", 'b\'{"name": "Ada"}\''),
        ("typed", "Ada"),
        ("later", "later Ada"),
        ("later_still", "later still Ada"),
    ],
)
def test_each_message_is_handled_once(command: Command, tasks: Path, function: str, noted: str) -> None:
    for _ in range(3):
        command("queue", "send", "jobs", '{"name": "Ada"}')
    assert worker(command, function, "--max-messages", "3", "--concurrency", "2") == ""
    assert tasks.read_text().splitlines() == [noted] * 3
    assert command("queue", "stats", "jobs", "--json").lines == [{"ready": 0, "leased": 0, "delayed": 0, "dead": 0}]


def test_a_subscription_is_worked_off_too(command: Command, tasks: Path) -> None:
    command("resources", "create")
    command("topic", "publish", "events", '{"name": "Eve"}', "-a", "type=order.paid")
    result = command("worker", "tasks_of_a_test:typed", "--queue", "mailer", "--max-messages", "1", "--json")
    assert result.lines == [{"handled": 1}]
    assert tasks.read_text() == "Eve\n"


def test_it_ends_when_idle(command: Command, tasks: Path) -> None:
    worker(command, "raw", "--idle-timeout", "0.05")
    assert not tasks.exists()


def test_a_failure_is_logged_and_the_message_comes_back(
    command: Command, tasks: Path, caplog: pytest.LogCaptureFixture
) -> None:
    command("queue", "send", "jobs", '{"name": "Ada"}')
    worker(command, "failing", "--max-messages", "1")
    assert tasks.read_text() == "failing\n"
    assert "ValueError: no luck" in caplog.text
    (stats,) = command("queue", "stats", "jobs", "--json").lines
    assert stats["ready"] + stats["delayed"] == 1


def test_sigterm_ends_it_after_the_messages_in_hand(command: Command, tasks: Path) -> None:
    with portable.cloud.connect() as cloud:
        cloud.queue("jobs").send_many([b"x"] * 500)
    worker(command, "stopping")
    handled = len(tasks.read_text().splitlines())
    assert 1 <= handled < 500
    (stats,) = command("queue", "stats", "jobs", "--json").lines
    assert stats == {"ready": 500 - handled, "leased": 0, "delayed": 0, "dead": 0}


def test_a_process_finishes_what_it_handles(command: Command, tasks: Path) -> None:
    command("queue", "send", "jobs", "x")
    arguments = ["worker", "tasks_of_a_test:slow", "--queue", "jobs"]
    script = [sys.executable, "-c", "from portable.cli import main; main()", *arguments]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(signal.SIGTERM)
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.wait(60) == 0
        assert process.stdout.read() == "handled 1\n"
    assert tasks.read_text() == "finished\n"
    assert command("queue", "stats", "jobs", "--json").lines == [{"ready": 0, "leased": 0, "delayed": 0, "dead": 0}]


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("tasks_of_a_test", "MODULE:FUNCTION"),
        ("tasks_of_a_test:missing", "has no 'missing'"),
        ("tasks_of_a_test:number", "not a function but a int"),
        ("no_such_module:f", "no module 'no_such_module'"),
    ],
)
def test_what_is_no_function_is_wrong_usage(command: Command, function: str, said: str) -> None:
    result = command("worker", function, "--queue", "jobs")
    assert result.code == 2
    assert said in result.stderr


def test_a_second_signal_does_not_wait() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt), stopping() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.wait(60)
        signal.raise_signal(signal.SIGINT)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_signal_ends_the_async_worker() -> None:
    async def main() -> tuple[int, int]:
        async with aio_cloud.connect() as cloud:
            jobs = cloud.queue("jobs")
            for _ in range(2):
                await jobs.send(b"x")

            async def handle(_: AioMessage[bytes]) -> None:
                os.kill(os.getpid(), signal.SIGINT)
                # The loop takes note of it in its next turn.
                await asyncio.sleep(0)

            return await run_async(jobs, handle), (await jobs.stats()).ready or 0

    assert asyncio.run(main()) == (1, 1)


def test_the_outbox_is_delivered(command: Command) -> None:
    with portable.cloud.connect() as cloud:
        database = cloud.database("main")
        with database.begin() as connection:
            database.outbox(connection).send("jobs", b"from the transaction")
    assert command("outbox", "relay", "--database", "main", "--until-empty").text == "delivered 1\n"
    assert command("outbox", "relay", "--database", "main", "--until-empty", "--json").lines == [{"delivered": 0}]
    assert command("queue", "peek", "jobs", "--json").lines[0]["body"] == "from the transaction"


def test_a_signal_ends_the_relay(command: Command) -> None:
    with portable.cloud.connect() as cloud:
        database = cloud.database("main")
        with database.begin() as connection:
            database.outbox(connection).send("jobs", b"x")
            # As another program may write, or a config say that no longer declares the queue.
            connection.execute(text("UPDATE portable_outbox SET resource = 'nowhere'"))

    class Signalling(logging.Handler):
        """Sends the signal when the relay says that it is at work."""

        def emit(self, record: logging.LogRecord) -> None:
            if "outbox entry" in record.getMessage():
                os.kill(os.getpid(), signal.SIGTERM)

    handler = Signalling()
    logging.getLogger("portable").addHandler(handler)
    try:
        result = command("outbox", "relay", "--database", "main", "--interval", "0.05")
    finally:
        logging.getLogger("portable").removeHandler(handler)
    assert (result.code, result.text) == (0, "delivered 0\n")
