"""What both type checkers make of the async face; read by them and never run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict, assert_type

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession

import portable
from portable import aio
from portable.aio.object_files import ObjectReader, ObjectWriter
from portable.aio.query import Query


@dataclass
class Job:
    path: str


class User(TypedDict):
    id: str
    email: str


async def clouds() -> None:
    assert_type(aio.connect(profile="aws"), aio.Cloud)
    async with aio.connect() as cloud:
        assert_type(cloud, aio.Cloud)
        assert_type(await cloud.check(write=True), list[portable.CheckResult])


async def buckets(cloud: aio.Cloud) -> None:
    photos = cloud.bucket("photos")
    assert_type(photos, aio.Bucket)
    assert_type(await photos.put("a", b"..."), portable.ObjectInfo)
    assert_type(await photos.get("a"), bytes)
    async with await photos.open("a") as reader:
        assert_type(reader, ObjectReader)
        assert_type(await reader.read(), bytes)
    async with await photos.open("a", "wb") as writer:
        assert_type(writer, ObjectWriter)
        await writer.write(b"...")
    async for entry in photos.list():
        assert_type(entry, portable.ObjectInfo | portable.Prefix)
    assert_type(await photos.list_page(), portable.Page[portable.ObjectInfo | portable.Prefix])
    assert_type(await photos.get_many(["a"]), list[bytes])


async def queues(cloud: aio.Cloud) -> None:
    assert_type(cloud.queue("raw"), aio.Queue[bytes])
    jobs = cloud.queue("jobs", type=Job)
    assert_type(jobs, aio.Queue[Job])
    assert_type(await jobs.send(Job("a")), str)
    received = await jobs.receive(10, wait=5)
    assert_type(received, list[aio.Message[Job]])
    for message in received:
        async with message as held:
            assert_type(held.body, Job)
        await message.ack()
    assert_type(await jobs.stats(), portable.QueueStats)
    assert_type(jobs.dead_letters, aio.Queue[bytes])
    assert_type(await jobs.consume(handle, concurrency=4), int)


async def handle(message: aio.Message[Job]) -> None:
    assert_type(message.body, Job)


async def topics(cloud: aio.Cloud) -> None:
    events = cloud.topic("events", type=Job)
    assert_type(events, aio.Topic[Job])
    assert_type(await events.publish_many([Job("a")]), portable.BatchResult[str])
    assert_type(cloud.subscription("mailer", type=Job), aio.Subscription[Job])


async def streams(cloud: aio.Cloud) -> None:
    clicks = cloud.stream("clicks", type=Job)
    assert_type(clicks, aio.Stream[Job])
    assert_type(await clicks.append(Job("a")), portable.Position)
    assert_type(await clicks.read("0"), list[portable.Record[Job]])
    assert_type(await clicks.consumer("readers"), aio.StreamConsumer[Job])
    async with clicks.consumer("readers") as consumer:
        assert_type(consumer, aio.StreamConsumer[Job])
        assert_type(await consumer.poll(), list[portable.Record[Job]])
        async for record in consumer:
            assert_type(record, portable.Record[Job])


async def caches(cloud: aio.Cloud) -> None:
    assert_type(cloud.cache("any"), aio.Cache[Any])
    jobs = cloud.cache("jobs", type=Job)
    assert_type(jobs, aio.Cache[Job])
    assert_type(await jobs.get("a"), Job | None)
    assert_type(await jobs.get("a", 5), Job | int)
    assert_type(await jobs.get_or_set("a", make, ttl=60), Job)
    assert_type(await jobs.lock("a", ttl=5), aio.Lock)
    async with jobs.lock("a", ttl=5) as held:
        assert_type(held, aio.Lock)

    @jobs.cached(ttl=60, key="job:{number}")
    async def load(number: int) -> Job:
        return Job(str(number))

    assert_type(await load(1), Job)


async def make() -> Job:
    return Job("a")


async def collections(cloud: aio.Cloud) -> None:
    assert_type(cloud.collection("plain"), aio.Collection[dict[str, Any]])
    users = cloud.collection("users", type=User)
    assert_type(users, aio.Collection[User])
    assert_type(await users.create({"id": "a", "email": "b"}), portable.Document[User])
    query = users.where("email", "==", "b").limit(5)
    assert_type(query, Query[User])
    async for document in query:
        assert_type(document, portable.Document[User])
    assert_type(await query.first(), portable.Document[User] | None)
    assert_type(await query.page(), portable.Page[portable.Document[User]])


async def databases(cloud: aio.Cloud) -> None:
    main = cloud.database("main")
    assert_type(main, aio.Database)
    assert_type(main.engine, AsyncEngine)
    async with main.begin() as connection:
        assert_type(connection, AsyncConnection)
    async with main.session() as session:
        assert_type(session, AsyncSession)
        await main.outbox(session).send("jobs", b"...")


async def opened() -> None:
    assert_type(aio.open_bucket("memory:"), aio.Bucket)
    assert_type(aio.open_queue("memory:"), aio.Queue[bytes])
    assert_type(aio.open_queue("memory:", type=Job), aio.Queue[Job])
    assert_type(aio.open_topic("memory:", type=Job), aio.Topic[Job])
    assert_type(aio.open_subscription("memory:", topic="events", type=Job), aio.Subscription[Job])
    assert_type(aio.open_stream("memory:", type=Job), aio.Stream[Job])
    assert_type(aio.open_cache("memory:", type=Job), aio.Cache[Job])
    assert_type(aio.open_collection("memory:"), aio.Collection[dict[str, Any]])
    assert_type(aio.open_collection("memory:", type=User), aio.Collection[User])
    async with aio.open_database("sqlite:app.db") as database:
        assert_type(database, aio.Database)
