"""Collections on PostgreSQL and MariaDB against their bare clients and SQLAlchemy's ORM, on the same documents."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

import portable
from benchmarks.collection import document
from benchmarks.sampling import Contender, Figure, Plan, compare, interleave
from benchmarks.servers import serving

__all__ = ["measure"]

FOUND = 20
BATCH = 500
TURN = 0.2


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure PostgreSQL, then MariaDB."""
    many = plan.size(20_000, 1_000)
    documents = [document(number, many // FOUND) for number in range(many)]
    with serving("postgres", folder) as url:
        yield from _postgres(plan, url, documents)
    with serving("mariadb", folder) as url:
        yield from _mariadb(plan, url, documents)


def _postgres(plan: Plan, url: str, documents: list[dict[str, Any]]) -> Iterator[Figure]:
    import psycopg

    with _filled(url, documents) as users, psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.cursor(binary=True)
        cursor.execute("CREATE TABLE bare (key text PRIMARY KEY, revision bigint NOT NULL, data jsonb NOT NULL)")
        cursor.execute("CREATE INDEX ON bare ((data->>'city'), key)")
        cursor.executemany(
            "INSERT INTO bare VALUES (%s, 1, %s)", [(one["id"], msgspec.json.encode(one).decode()) for one in documents]
        )
        cursor.execute("ANALYZE")
        select = "SELECT revision, data::text FROM bare WHERE key = %s"
        query = "SELECT key, revision, data::text FROM bare WHERE data->>'city' = %s ORDER BY key LIMIT 501"
        upsert = (
            "INSERT INTO bare VALUES (%s, %s, %s) ON CONFLICT (key) DO UPDATE SET "
            "revision = excluded.revision, data = excluded.data"
        )
        bare = _Bare("psycopg", cursor, (select, query, upsert))
        yield from _compared(plan, "postgres", users, bare, documents=documents, orm=_orm(url, documents))


def _mariadb(plan: Plan, url: str, documents: list[dict[str, Any]]) -> Iterator[Figure]:
    import pymysql

    parts = urlsplit(url)
    place: dict[str, Any] = {"host": parts.hostname, "port": parts.port, "database": parts.path.strip("/")}
    with (
        _filled(url, documents) as users,
        pymysql.connect(user=parts.username, password=parts.password or "", autocommit=True, **place) as connection,
    ):
        cursor = connection.cursor()
        cursor.execute(
            "CREATE TABLE bare (`key` VARCHAR(200) PRIMARY KEY, revision BIGINT NOT NULL, data JSON NOT NULL, "
            "city VARCHAR(200) AS (json_value(data, '$.city')) STORED, INDEX (city, `key`))"
        )
        cursor.executemany(
            "INSERT INTO bare (`key`, revision, data) VALUES (%s, 1, %s)",
            [(one["id"], msgspec.json.encode(one).decode()) for one in documents],
        )
        select = "SELECT revision, data FROM bare WHERE `key` = %s"
        query = "SELECT `key`, revision, data FROM bare WHERE city = %s ORDER BY `key` LIMIT 501"
        upsert = (
            "INSERT INTO bare (`key`, revision, data) VALUES (%s, %s, %s) ON DUPLICATE KEY UPDATE "
            "revision = VALUES(revision), data = VALUES(data)"
        )
        bare = _Bare("PyMySQL", cursor, (select, query, upsert))
        yield from _compared(plan, "mariadb", users, bare, documents=documents, orm=_orm(url, documents))


def _filled(url: str, documents: list[dict[str, Any]]) -> Any:
    users = portable.open_collection(url, name="users", create="if_missing", indexes=["city"])
    users.write_many([portable.Put(one) for one in documents])
    return users


class _Bare:
    """The client itself, doing the same work: documents come back as dicts, and have a revision."""

    def __init__(self, name: str, cursor: Any, statements: tuple[str, str, str]) -> None:
        self.name = name
        self._cursor = cursor
        self._select, self._query, self._upsert = statements

    def get(self, key: str) -> Any:
        self._cursor.execute(self._select, (key,))
        return msgspec.json.decode(self._cursor.fetchall()[0][1])

    def find(self, city: str) -> list[Any]:
        self._cursor.execute(self._query, (city,))
        return [msgspec.json.decode(row[2]) for row in self._cursor.fetchall()]

    def put(self, data: dict[str, Any]) -> None:
        self._cursor.execute(self._upsert, (data["id"], random.getrandbits(59), msgspec.json.encode(data).decode()))


def _compared(
    plan: Plan, server: str, users: Any, bare: _Bare, *, documents: list[dict[str, Any]], orm: Any
) -> Iterator[Figure]:
    keys = [one["id"] for one in documents]
    cities = sorted({one["city"] for one in documents})
    get, find = orm
    assert users.get(keys[1]).data == bare.get(keys[1]) == documents[1]
    assert len(list(users.where("city", "==", cities[1]))) == len(bare.find(cities[1])) == len(find(cities[1])) == FOUND
    groups: dict[str, dict[str, Contender]] = {
        "get": {"portable": _over(keys, users.get), bare.name: _over(keys, bare.get), "SQLAlchemy": _over(keys, get)},
        f"query for {FOUND}": {
            "portable": _over(cities, lambda city: list(users.where("city", "==", city))),
            bare.name: _over(cities, bare.find),
            "SQLAlchemy": _over(cities, find),
        },
        "put": {"portable": _over(documents, users.put), bare.name: _over(documents, bare.put)},
        f"{BATCH} puts at once": _batches(users, documents),
    }
    for what, contenders in groups.items():
        samples = interleave(contenders, rounds=plan.rounds, seconds=plan.slice(TURN))
        yield from compare(samples, f"sql-collection {server}: {what}", clock="wall")


def _batches(users: Any, documents: list[dict[str, Any]]) -> dict[str, Contender]:
    """Both put a whole batch a turn."""
    ahead = cycle(documents)

    def at_once(calls: int) -> None:
        users.write_many([portable.Put(one) for one in islice(ahead, calls * BATCH)])

    def one_by_one(calls: int) -> None:
        for one in islice(ahead, calls * BATCH):
            users.put(one)

    return {"portable": Contender(at_once, calls=1), "one by one": Contender(one_by_one, calls=1)}


def _orm(url: str, documents: list[dict[str, Any]]) -> tuple[Callable[[str], Any], Callable[[str], Any]]:
    from sqlalchemy import JSON, Boolean, Column, Float, Integer, String, create_engine, insert, select
    from sqlalchemy.orm import DeclarativeBase, Session

    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "orm_user"
        id = Column(String(200), primary_key=True)
        city = Column(String(200), index=True)
        name = Column(String(200))
        email = Column(String(200))
        age = Column(Integer)
        active = Column(Boolean)
        score = Column(Float)
        tags = Column(JSON)
        address = Column(JSON)

    for scheme, client in (("postgresql:", "postgresql+psycopg:"), ("mysql:", "mysql+pymysql:")):
        url = url.replace(scheme, client)
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    Base.metadata.create_all(engine)
    with engine.connect() as connection:
        connection.execute(insert(User), documents)

    def get(key: str) -> Any:
        with Session(engine) as session:
            return session.get(User, key)

    def find(city: str) -> list[Any]:
        with Session(engine) as session:
            return list(session.scalars(select(User).where(User.city == city).order_by(User.id)))

    return get, find


def _over(values: list[Any], call: Callable[[Any], object]) -> Contender:
    """Take the values in a random order, the same for everybody."""
    order = cycle(random.Random(17).choices(values, k=len(values)))  # noqa: S311 (an order, no secret)

    def run(calls: int) -> None:
        for value in islice(order, calls):
            call(value)

    return Contender(run)
