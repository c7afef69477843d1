"""The SQLite collection against a bare select, SQLAlchemy's ORM and TinyDB, on the same documents and indexes."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import msgspec

import portable
from benchmarks.sampling import Contender, Figure, Plan, compare, interleave

__all__ = ["document", "measure"]

FOUND = 20


def document(number: int, groups: int) -> dict[str, Any]:
    """One document, nested as documents are; so many groups have the same number of them."""
    return {
        "id": f"user-{number:07}",
        "city": f"city-{number % groups:05}",
        "name": f"Ada Lovelace {number}",
        "email": f"ada.{number}@example.com",
        "age": 20 + number % 60,
        "active": number % 3 == 0,
        "score": number / 7,
        "tags": ["engine", "notes", f"group-{number % 10}"],
        "address": {"street": f"{number % 300} St James's Square", "postcode": "SW1Y 4JH"},
    }


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure reading by key, then by an index."""
    many = plan.size(100_000, 2_000)
    groups = many // FOUND
    documents = [document(number, groups) for number in range(many)]
    users = portable.open_collection(f"sqlite:{folder}/portable.db", durability="process", indexes=["city"])
    users.write_many([portable.Put(one) for one in documents])
    yield from _by_key(plan, folder, users, documents)
    yield from _by_index(plan, folder, users, documents, groups)
    users.close()


def _by_key(plan: Plan, folder: Path, users: Any, documents: list[dict[str, Any]]) -> Iterator[Figure]:
    bare = sqlite3.connect(folder / "bare.db", isolation_level=None)
    bare.execute("PRAGMA journal_mode = WAL")
    bare.execute("CREATE TABLE document (key TEXT PRIMARY KEY, data TEXT NOT NULL)")
    with bare:
        bare.execute("BEGIN")
        bare.executemany("INSERT INTO document VALUES (?, ?)", [(one["id"], json.dumps(one)) for one in documents])

    def select(decode: Callable[[str], Any]) -> Callable[[str], Any]:
        return lambda key: decode(bare.execute("SELECT data FROM document WHERE key = ?", (key,)).fetchone()[0])

    keys = [one["id"] for one in documents]
    contenders = {
        "portable": _over(keys, users.get),
        "bare select": _over(keys, select(json.loads)),
        "bare select with msgspec": _over(keys, select(msgspec.json.decode)),
    }
    yield from compare(interleave(contenders, rounds=plan.rounds, seconds=plan.slice(0.03)), "collection: get")
    bare.close()


def _by_index(plan: Plan, folder: Path, users: Any, documents: list[dict[str, Any]], groups: int) -> Iterator[Figure]:
    cities = [f"city-{number:05}" for number in range(groups)]
    orm, tiny = _orm(folder, documents), _tinydb(folder, documents)

    def ours(city: str) -> list[Any]:
        return list(users.where("city", "==", city))

    assert len(ours(cities[1])) == len(orm(cities[1])) == len(tiny(cities[1])) == FOUND
    contenders = {"portable": _over(cities, ours), "SQLAlchemy": _over(cities, orm)}
    samples = interleave(contenders, rounds=plan.rounds, seconds=plan.slice(0.05))
    yield from compare(samples, f"collection: query for {FOUND}")
    # It reads its whole file each time.
    slow = Contender(_over(cities, tiny).run, calls=1)
    contenders = {"portable": _over(cities, ours), "TinyDB": slow}
    samples = interleave(contenders, rounds=3, seconds=plan.slice(0.05))
    yield from compare(samples, f"collection: query for {FOUND}")


def _orm(folder: Path, documents: list[dict[str, Any]]) -> Callable[[str], list[Any]]:
    from sqlalchemy import JSON, Boolean, Column, Float, Integer, String, create_engine, insert, select
    from sqlalchemy.orm import DeclarativeBase, Session

    class Base(DeclarativeBase):
        pass

    class User(Base):
        __tablename__ = "user"
        id = Column(String, primary_key=True)
        city = Column(String, index=True)
        name = Column(String)
        email = Column(String)
        age = Column(Integer)
        active = Column(Boolean)
        score = Column(Float)
        tags = Column(JSON)
        address = Column(JSON)

    engine = create_engine(f"sqlite:///{folder}/orm.db")
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        connection.execute(insert(User), documents)

    def find(city: str) -> list[Any]:
        with Session(engine) as session:
            return list(session.scalars(select(User).where(User.city == city)))

    return find


def _tinydb(folder: Path, documents: list[dict[str, Any]]) -> Callable[[str], list[Any]]:
    import tinydb

    database = tinydb.TinyDB(folder / "tiny.json")
    database.insert_multiple(documents)
    field = tinydb.Query().city
    return lambda city: list(database.search(field == city))


def _over(keys: list[str], call: Callable[[str], object]) -> Contender:
    """Take the keys in a random order, the same for everybody."""
    order = cycle(random.Random(17).choices(keys, k=len(keys)))  # noqa: S311 (an order, no secret)

    def run(calls: int) -> None:
        for key in islice(order, calls):
            call(key)

    return Contender(run)
