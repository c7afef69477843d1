"""The conformance suite of databases."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from portable.errors import Closed, InvalidArgument
from portable.testing.aio._concurrency import race
from portable.testing.aio.suite import Suite, needs

if TYPE_CHECKING:
    from portable.aio.database import Database

__all__ = ["DatabaseSuite"]

_MIGRATION = """
from alembic import op
import sqlalchemy as sa

revision = "{revision}"
down_revision = {down}
branch_labels = depends_on = None


def upgrade():
    {upgrade}


def downgrade():
    pass
"""


def write_migration(directory: Path, revision: str, down: str | None, upgrade: str) -> None:
    """Write one Alembic migration into `directory/versions`."""
    versions = directory / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    text = _MIGRATION.format(revision=revision, down=repr(down), upgrade=upgrade)
    (versions / f"{revision}.py").write_text(text)


class DatabaseSuite(Suite):
    """What `api.md` promises of databases."""

    kind: ClassVar[str] = "database"

    async def _table(self, database: Database) -> Any:
        from sqlalchemy import Column, Integer, MetaData, String, Table
        from sqlalchemy.schema import CreateTable

        table = Table(
            self.physical("items").replace("-", "_"),
            MetaData(),
            Column("id", Integer, primary_key=True, autoincrement=False),
            Column("name", String(40)),
        )
        async with database.begin() as connection:
            await connection.execute(CreateTable(table))
        return table

    async def test_begin_commits_at_the_end_of_the_block(self) -> None:
        from sqlalchemy import insert, select

        database = self.open()
        table = await self._table(database)
        async with database.begin() as connection:
            await connection.execute(insert(table).values(id=1, name="ähre"))
        async with database.connect() as connection:
            assert (await connection.execute(select(table.c.name))).scalars().all() == ["ähre"]

    async def test_begin_rolls_back_on_an_exception(self) -> None:
        from sqlalchemy import func, insert, select

        database = self.open()
        table = await self._table(database)
        with pytest.raises(LookupError):
            async with database.begin() as connection:
                await connection.execute(insert(table).values(id=1, name="a"))
                raise LookupError
        async with database.connect() as connection:
            assert (await connection.execute(select(func.count()).select_from(table))).scalar_one() == 0

    async def test_connect_leaves_nothing_without_a_commit(self) -> None:
        from sqlalchemy import func, insert, select

        database = self.open()
        table = await self._table(database)
        async with database.connect() as connection:
            await connection.execute(insert(table).values(id=1, name="a"))
        async with database.connect() as connection:
            assert (await connection.execute(select(func.count()).select_from(table))).scalar_one() == 0

    async def test_a_session_stores_objects(self) -> None:
        from sqlalchemy import select
        from sqlalchemy.orm import registry

        database = self.open()
        table = await self._table(database)

        class Item:
            id: int
            name: str

        registry().map_imperatively(Item, table)
        async with database.session() as session:
            item = Item()
            item.id, item.name = 7, "seven"
            session.add(item)
            await session.commit()
        async with database.session() as session:
            assert (await session.execute(select(Item))).scalars().one().name == "seven"

    async def test_another_handle_sees_what_was_committed(self) -> None:
        from sqlalchemy import insert, select

        database = self.open()
        table = await self._table(database)
        async with database.begin() as connection:
            await connection.execute(insert(table).values(id=3, name="x"))
        async with self.open().connect() as connection:
            assert (await connection.execute(select(table.c.id))).scalars().all() == [3]

    async def test_racing_transactions_lose_no_increment(self) -> None:
        from sqlalchemy import insert, select, update

        database = self.open()
        table = await self._table(database)
        async with database.begin() as connection:
            await connection.execute(insert(table).values(id=1, name="0"))

        async def increment() -> None:
            async with database.begin() as connection:
                row = await connection.execute(select(table.c.name).where(table.c.id == 1).with_for_update())
                await connection.execute(update(table).values(name=str(int(row.scalar_one()) + 1)))

        assert await race([increment] * 20) == [None] * 20
        async with database.connect() as connection:
            assert (await connection.execute(select(table.c.name))).scalar_one() == "20"

    async def test_check_passes_and_leaves_nothing_behind(self) -> None:
        from sqlalchemy import inspect

        database = self.open()
        await database.check(timeout=10)
        before = await self._names(database, inspect)
        await database.check(write=True, timeout=10)
        left = await self._names(database, inspect) - before
        # Other cases of suites may be at work in the same database.
        assert [name for name in left if not re.search("t[0-9a-f]{12}", name)] == []

    async def _names(self, database: Database, inspect: Any) -> set[str]:
        return set(inspect(database.native).get_table_names())

    async def test_migrate_runs_each_migration_once(self, tmp_path: Path) -> None:
        from sqlalchemy import inspect

        database = self.open()
        table = self.physical("kinds").replace("-", "_")
        write_migration(tmp_path, "a1", None, f'op.create_table("{table}", sa.Column("id", sa.Integer))')
        version_table = self.physical("version")
        await database.migrate(tmp_path, version_table=version_table)
        await database.migrate(tmp_path, version_table=version_table)
        assert table in await self._names(database, inspect)
        write_migration(tmp_path, "a2", "a1", f'op.add_column("{table}", sa.Column("more", sa.Integer))')
        await database.migrate(tmp_path, version_table=version_table)
        columns = [column["name"] for column in inspect(database.native).get_columns(table)]
        assert columns == ["id", "more"]

    @needs("transactional_ddl")
    async def test_a_migration_that_fails_leaves_nothing(self, tmp_path: Path) -> None:
        from sqlalchemy import inspect

        database = self.open()
        table = self.physical("half").replace("-", "_")
        upgrade = f'op.create_table("{table}", sa.Column("id", sa.Integer)); raise LookupError("half way")'
        write_migration(tmp_path, "b1", None, upgrade)
        with pytest.raises(LookupError):
            await database.migrate(tmp_path, version_table=self.physical("version"))
        assert table not in await self._names(database, inspect)

    async def test_migrate_refuses_a_folder_without_migrations(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidArgument, match="versions"):
            await self.open().migrate(tmp_path)

    async def test_a_closed_database_says_so(self) -> None:
        database = self.open()
        await database.close()
        for use in (lambda: database.engine, database.connect, database.begin, database.session):
            with pytest.raises(Closed):
                use()

    async def test_create_is_idempotent_and_then_nothing_is_planned(self) -> None:
        database = self.open()
        for _ in range(2):
            await database._driver.create()
            assert await database._driver.plan() == []

    async def test_many_threads_or_tasks_share_it(self) -> None:
        from sqlalchemy import func, insert, select

        database = self.open()
        table = await self._table(database)

        async def store(number: int) -> None:
            async with database.begin() as connection:
                await connection.execute(insert(table).values(id=number, name="x"))

        assert await race([functools.partial(store, number) for number in range(30)]) == [None] * 30
        async with database.connect() as connection:
            assert (await connection.execute(select(func.count()).select_from(table))).scalar_one() == 30
