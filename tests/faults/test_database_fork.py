"""An SQLite database over forks: the child opens it anew or is told why not; it never hangs, and harms nobody."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

import portable
from portable.errors import Closed
from tests.forks import in_child

HUNG = -signal.SIGALRM
TOLD = 3


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


def test_a_child_opens_an_idle_database_anew(main: portable.Database) -> None:
    add(main, "parent")

    def work() -> None:
        add(main, "child")

    assert [in_child(work) for _ in range(20)] == [0] * 20
    add(main, "parent")
    assert (count(main, "child"), count(main, "parent")) == (20, 2)


def test_a_child_of_a_transaction_under_way_is_told_so(main: portable.Database) -> None:
    def work() -> None:
        with pytest.raises(Closed, match="forked"):
            add(main, "child")

    with main.begin() as connection:
        connection.execute(text("INSERT INTO who VALUES ('parent')"))
        assert in_child(work) == 0
        connection.execute(text("INSERT INTO who VALUES ('parent')"))
    assert count(main, "parent") == 2


def test_the_transaction_itself_cannot_be_used_in_the_child(main: portable.Database) -> None:
    with main.begin() as connection:

        def work() -> None:
            with pytest.raises(Closed):
                connection.execute(text("INSERT INTO who VALUES ('child')"))

        assert in_child(work) == 0
    assert count(main, "child") == 0


def test_forks_while_threads_write_neither_hang_nor_harm(main: portable.Database) -> None:
    stop = threading.Event()
    written = [0, 0]

    def loop(number: int) -> None:
        while not stop.is_set():
            add(main, f"thread-{number}")
            written[number] += 1

    def work() -> None:
        try:
            add(main, "child")
        except Closed:
            os._exit(TOLD)

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
    assert set(codes) <= {0, TOLD}
    assert count(main, "child") == codes.count(0)
    assert [count(main, f"thread-{number}") for number in range(2)] == written
    with main.connect() as connection:
        assert connection.execute(text("PRAGMA integrity_check")).scalar_one() == "ok"
