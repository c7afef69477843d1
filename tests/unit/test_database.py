"""What the embedded database does beyond its suite: bounded checks, errors that say where, migrations side by side."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect

import portable
from portable import aio
from portable.errors import InvalidArgument, ResourceNotFound, Unavailable
from portable.testing.database import write_migration
from portable.threads import in_own_thread

PATIENCE = 60.0


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[Path]:
    """Make a database in whose middle of a transaction another program is."""
    path = tmp_path / "main.db"
    with portable.open_database(f"sqlite:{path}") as database:
        database.check(write=True)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    yield path
    other.close()


def test_a_check_waits_for_nobody_who_writes(locked: Path) -> None:
    with portable.open_database(f"sqlite:{locked}", busy_timeout="1h") as database:
        in_own_thread(database.check, timeout=0.1).result(PATIENCE)
        with pytest.raises(Unavailable, match="locked"):
            in_own_thread(database.check, write=True, timeout=0.1).result(PATIENCE)


def test_a_check_of_the_twin_waits_for_nobody_who_writes(locked: Path) -> None:
    async def main() -> None:
        async with aio.open_database(f"sqlite:{locked}", busy_timeout="1h") as database:
            await database.check(timeout=PATIENCE)
            with pytest.raises((Unavailable, TimeoutError)):
                await database.check(write=True, timeout=0.1)

    asyncio.run(main())


def test_what_is_missing_is_told_with_its_name(tmp_path: Path) -> None:
    with portable.open_database(f"sqlite:{tmp_path}/main.db", create="never", name="main") as database:
        for use in (lambda: database.engine, database.connect, database.session):
            with pytest.raises(ResourceNotFound, match=r"main \(sqlite\) \w+: there is no database file"):
                use()


def test_a_revision_that_there_is_not_is_an_error_of_ours(tmp_path: Path) -> None:
    write_migration(tmp_path / "migrations", "a1", None, "pass")
    with portable.open_database(f"sqlite:{tmp_path}/main.db") as database:
        with pytest.raises(InvalidArgument, match="Can't locate revision identified by 'a2'"):
            database.migrate(tmp_path / "migrations", revision="a2")
        database.migrate(tmp_path / "migrations", revision="a1")


def test_databases_migrate_side_by_side(tmp_path: Path) -> None:
    def migrate(number: int) -> set[str]:
        folder = tmp_path / str(number)
        for step in range(5):
            down = f"r{number}_{step - 1}" if step else None
            name = f"t{number}_{step}"
            write_migration(folder, f"r{number}_{step}", down, f'op.create_table("{name}", sa.Column("n", sa.Integer))')
        with portable.open_database(f"sqlite:{folder}/main.db", durability="process") as database:
            database.migrate(folder)
            return set(inspect(database.engine).get_table_names())

    calls = [in_own_thread(migrate, number) for number in range(6)]
    for number, call in enumerate(calls):
        assert call.result(PATIENCE) == {"alembic_version", *(f"t{number}_{step}" for step in range(5))}


class Counted:
    """The lock of a connection, and how often it was taken."""

    def __init__(self, lock: Any) -> None:
        self.lock, self.times = lock, 0

    def __enter__(self) -> None:
        self.times += 1
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_every_way_to_read_holds_the_lock_that_a_fork_takes(tmp_path: Path) -> None:
    with portable.open_database(f"sqlite:{tmp_path}/main.db") as database, database.connect() as connection:
        ours: Any = connection.connection.dbapi_connection
        ours.calling = counted = Counted(ours.calling)
        cursor = ours.cursor()
        cursor.executescript("CREATE TABLE numbers (n INTEGER); INSERT INTO numbers VALUES (1), (2)")
        cursor.execute("SELECT n FROM numbers")
        assert [row[0] for row in cursor] == [1, 2]
        ours.calling = counted.lock
    assert counted.times == 2 + 3, "a script, a query, two rows and the end of the rows"
