"""An SQLite database over forks: the child opens it anew or is told why not; it never hangs, and harms nobody."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

import portable
from portable.errors import Closed

HUNG = -signal.SIGALRM


@pytest.fixture
def main(tmp_path: Path) -> Iterator[portable.Database]:
    with portable.open_database(f"sqlite:{tmp_path / 'main.db'}", durability="process") as database:
        with database.begin() as connection:
            connection.execute(text("CREATE TABLE who (name TEXT)"))
        yield database


def add(database: portable.Database, name: str) -> None:
    with database.begin() as connection:
        connection.execute(text("INSERT INTO who VALUES (:name)"), {"name": name})


def count(database: portable.Database, name: str) -> int:
    with database.connect() as connection:
        found = connection.execute(text("SELECT count(*) FROM who WHERE name = :name"), {"name": name})
        return int(found.scalar_one())


def in_child(work: Callable[[], int]) -> int:
    """Run `work` in a forked child; give its exit code, or minus the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)
        code = 99
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_a_child_opens_an_idle_database_anew(main: portable.Database) -> None:
    add(main, "parent")

    def work() -> int:
        add(main, "child")
        return 0

    assert [in_child(work) for _ in range(20)] == [0] * 20
    add(main, "parent")
    assert (count(main, "child"), count(main, "parent")) == (20, 2)


def test_a_child_of_a_transaction_under_way_is_told_so(main: portable.Database) -> None:
    def work() -> int:
        try:
            add(main, "child")
        except Closed as error:
            return 0 if "forked" in str(error) else 1
        return 2

    with main.begin() as connection:
        connection.execute(text("INSERT INTO who VALUES ('parent')"))
        assert in_child(work) == 0
        connection.execute(text("INSERT INTO who VALUES ('parent')"))
    assert count(main, "parent") == 2


def test_the_transaction_itself_cannot_be_used_in_the_child(main: portable.Database) -> None:
    with main.begin() as connection:

        def work() -> int:
            try:
                connection.execute(text("INSERT INTO who VALUES ('child')"))
            except Closed:
                return 0
            return 1

        assert in_child(work) == 0
    assert count(main, "child") == 0


def test_forks_while_threads_write_neither_hang_nor_harm(main: portable.Database) -> None:
    stop = threading.Event()
    written = [0, 0]

    def loop(number: int) -> None:
        while not stop.is_set():
            add(main, f"thread-{number}")
            written[number] += 1

    def work() -> int:
        try:
            add(main, "child")
        except Closed:
            return 3
        return 0

    threads = [threading.Thread(target=loop, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        codes = [in_child(work) for _ in range(30)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert HUNG not in codes
    assert set(codes) <= {0, 3}
    assert count(main, "child") == codes.count(0)
    assert [count(main, f"thread-{number}") for number in range(2)] == written
    with main.connect() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
