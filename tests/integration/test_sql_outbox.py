"""The transactional outbox on PostgreSQL and MariaDB: what leaves, what does not, and that one relay delivers."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

import portable
from portable import aio
from portable.config import Config
from tests.targets import target

PATIENCE = 60.0


def config(folder: Path, url: str) -> Config:
    """Give a config whose database is a new one on the server, so that its outbox is this test's own."""
    name = f"t{os.urandom(6).hex()}"
    with portable.open_database(url) as main, main.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT").execute(text(f"CREATE DATABASE {name}"))
    return Config.from_dict(
        {
            "default_profile": "local",
            "resources": {
                "jobs": {"kind": "queue", "ordered": True},
                "events": {"kind": "topic"},
                "mailer": {"kind": "subscription", "topic": "events"},
                "main": {"kind": "database"},
            },
            "profiles": {
                "local": {"default": f"{url.rpartition('/')[0]}/{name}", "create": "if_missing"},
            },
        },
        folder,
    )


@pytest.fixture(params=["postgres", "mariadb"])
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    return config(tmp_path, target(request.param))


@pytest.fixture
def cloud(made: Config) -> Iterator[portable.Cloud]:
    with portable.connect(made) as one:
        with one.database("main").begin() as connection:
            connection.execute(text("CREATE TABLE orders (id INTEGER PRIMARY KEY)"))
        yield one


def orders(cloud: portable.Cloud) -> int:
    with cloud.database("main").connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM orders")).scalar_one())


def test_a_message_leaves_when_the_transaction_commits(cloud: portable.Cloud) -> None:
    main, jobs, mailer = cloud.database("main"), cloud.queue("jobs"), cloud.subscription("mailer")
    mailer.receive(wait=0)
    # More than MySQL's own text and blob take.
    body = os.urandom(200_000)
    with main.session() as session:
        session.execute(text("INSERT INTO orders VALUES (1)"))
        main.outbox(session).send("jobs", body, attributes={"a": "ä" * 100_000}, ordering_key="k")
        main.outbox(session).publish("events", b"two")
        session.commit()
    assert main.relay(until_empty=True) == 2
    (message,) = jobs.receive(wait=PATIENCE)
    assert (message.body, message.attributes["a"], message.ordering_key) == (body, "ä" * 100_000, "k")
    assert [one.body for one in mailer.receive(wait=PATIENCE)] == [b"two"]
    assert main.relay(until_empty=True) == 0
    assert orders(cloud) == 1


def test_the_first_message_does_not_commit_the_rest(cloud: portable.Cloud) -> None:
    """The tables are made beside the transaction, which MySQL would commit otherwise."""
    main, jobs = cloud.database("main"), cloud.queue("jobs")
    with pytest.raises(LookupError), main.begin() as connection:
        connection.execute(text("INSERT INTO orders VALUES (1)"))
        main.outbox(connection).send("jobs", b"one", ordering_key="k")
        raise LookupError
    assert orders(cloud) == 0
    assert main.relay(until_empty=True) == 0
    assert jobs.receive(wait=0) == []


def test_order_within_a_key_and_many_writers(cloud: portable.Cloud) -> None:
    main, jobs = cloud.database("main"), cloud.queue("jobs")
    ready = threading.Barrier(4)

    def write(key: str) -> None:
        ready.wait(PATIENCE)
        for number in range(10):
            with main.begin() as connection:
                main.outbox(connection).send("jobs", f"{key}{number}", ordering_key=key)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, "abcd"))
        delivered = sum(threads.map(lambda _: main.relay(until_empty=True), range(2)))
    assert delivered == 40
    found: dict[str, list[str]] = {}
    while messages := jobs.receive(100, wait=0):
        for message in messages:
            found.setdefault(message.ordering_key or "", []).append(message.body.decode())
            message.ack()
    assert found == {key: [f"{key}{number}" for number in range(10)] for key in "abcd"}


def test_async(cloud: portable.Cloud, made: Config) -> None:
    async def main() -> Any:
        async with aio.connect(made) as there:
            database = there.database("main")
            async with database.session() as session:
                await database.outbox(session).send("jobs", b"one", ordering_key="k")
                await session.commit()
            assert await database.relay(until_empty=True) == 1
            return [message.body for message in await there.queue("jobs").receive(wait=PATIENCE)]

    assert asyncio.run(main()) == [b"one"]
    assert orders(cloud) == 0
