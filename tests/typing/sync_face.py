"""What both type checkers make of the sync face; read by them and never run."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import Any, BinaryIO, TypedDict, assert_type

from sqlalchemy import Connection, Engine
from sqlalchemy.orm import Session

import portable
from portable.object_files import ObjectReader, ObjectWriter
from portable.query import Query


@dataclass
class Job:
    path: str


class User(TypedDict):
    id: str
    email: str


def clouds(config: portable.Config) -> None:
    assert_type(portable.connect(), portable.Cloud)
    portable.connect("portable.toml", profile="aws")
    portable.connect(config)
    with portable.connect() as cloud:
        assert_type(cloud, portable.Cloud)
        assert_type(cloud.check(write=True), list[portable.CheckResult])


def buckets(cloud: portable.Cloud) -> None:
    photos = cloud.bucket("photos")
    assert_type(photos, portable.Bucket)
    assert_type(photos.put("a", b"..."), portable.ObjectInfo)
    assert_type(photos.get("a", offset=1, length=2), bytes)
    assert_type(photos.head("a"), portable.ObjectInfo)
    assert_type(photos.open("a"), ObjectReader)
    assert_type(photos.open("a", "wb", content_type="text/plain"), ObjectWriter)
    for entry in photos.list(delimiter="/"):
        assert_type(entry, portable.ObjectInfo | portable.Prefix)
    assert_type(photos.list_page(), portable.Page[portable.ObjectInfo | portable.Prefix])
    assert_type(photos.delete_many(["a"]), portable.BatchResult[None])
    assert_type(photos.get_many(["a"]), list[bytes])
    assert_type(photos.put_many([("a", b"")]), list[portable.ObjectInfo])
    assert_type(photos.copy("a", "b", to=photos), portable.ObjectInfo)
    assert_type(photos.sign("a"), portable.SignedRequest)
    with photos.open("archive.zip") as reader:
        zipfile.ZipFile(reader).namelist()


def anything_that_reads(file: BinaryIO) -> bytes:
    return file.read()


def readers_are_binary_files(photos: portable.Bucket) -> bytes:
    return anything_that_reads(photos.open("a"))


def queues(cloud: portable.Cloud) -> None:
    raw = cloud.queue("raw")
    assert_type(raw, portable.Queue[bytes])
    assert_type(raw.send("text"), str)
    assert_type(raw.receive()[0].body, bytes)
    jobs = cloud.queue("jobs", type=Job)
    assert_type(jobs, portable.Queue[Job])
    assert_type(jobs.send(Job("a")), str)
    assert_type(jobs.send_many([Job("a"), portable.Outgoing(Job("b"), delay=1.0)]), portable.BatchResult[str])
    received = jobs.receive(10, wait=5)
    assert_type(received, list[portable.Message[Job]])
    for message in received:
        with message as held:
            assert_type(held, portable.Message[Job])
            assert_type(held.body, Job)
            assert_type(held.body.path, str)
            assert_type(held.attributes, dict[str, str])
    jobs.ack_many(received)
    assert_type(jobs.stats(), portable.QueueStats)
    assert_type(jobs.dead_letters, portable.Queue[bytes])
    assert_type(jobs.redrive(), int)


def handle(message: portable.Message[Job]) -> None:
    assert_type(message.body, Job)


def consumers(jobs: portable.Queue[Job]) -> None:
    assert_type(jobs.consume(handle, concurrency=4), int)
    assert_type(jobs.consume(lambda message: message.body.path), int)


def topics(cloud: portable.Cloud) -> None:
    events = cloud.topic("events", type=Job)
    assert_type(events, portable.Topic[Job])
    assert_type(events.publish(Job("a"), attributes={"type": "new"}), str)
    assert_type(events.publish_many([Job("a")]), portable.BatchResult[str])
    assert_type(cloud.subscription("mailer"), portable.Subscription[bytes])
    mailer = cloud.subscription("mailer", type=Job)
    assert_type(mailer, portable.Subscription[Job])
    assert_type(mailer.receive(), list[portable.Message[Job]])


def streams(cloud: portable.Cloud) -> None:
    clicks = cloud.stream("clicks", type=Job)
    assert_type(clicks, portable.Stream[Job])
    assert_type(clicks.append(Job("a"), key="b"), portable.Position)
    assert_type(clicks.append_many([Job("a")]), portable.BatchResult[portable.Position])
    assert_type(clicks.read("0", after=portable.END), list[portable.Record[Job]])
    assert_type(cloud.stream("raw").read("0")[0].data, bytes)
    with clicks.consumer("readers", start=portable.START) as consumer:
        assert_type(consumer, portable.StreamConsumer[Job])
        assert_type(consumer.poll(1.0, 10), list[portable.Record[Job]])
        for record in consumer:
            assert_type(record, portable.Record[Job])
        consumer.commit()


def caches(cloud: portable.Cloud) -> None:
    assert_type(cloud.cache("any"), portable.Cache[Any])
    jobs = cloud.cache("jobs", type=Job)
    assert_type(jobs, portable.Cache[Job])
    assert_type(jobs.get("a"), Job | None)
    assert_type(jobs.get("a", 5), Job | int)
    assert_type(jobs.get_many(["a"]), dict[str, Job])
    assert_type(jobs.add("a", Job("b"), ttl=5), bool)
    assert_type(jobs.incr("n"), int)
    assert_type(jobs.ttl("a"), float | None)
    assert_type(jobs.get_or_set("a", lambda: Job("b"), ttl=60), Job)
    with jobs.lock("a", ttl=5) as held:
        assert_type(held, portable.Lock)


def cached(jobs: portable.Cache[Job]) -> None:
    @jobs.cached(ttl=60, key="job:{number}")
    def load(number: int, *, deep: bool = False) -> Job:
        return Job(str((number, deep)))

    assert_type(load(1, deep=True), Job)


def collections(cloud: portable.Cloud) -> None:
    plain = cloud.collection("plain")
    assert_type(plain, portable.Collection[dict[str, Any]])
    users = cloud.collection("users", type=User)
    assert_type(users, portable.Collection[User])
    assert_type(users.create({"id": "a", "email": "b"}), portable.Document[User])
    assert_type(users.get("a").data, User)
    assert_type(users.get(("tenant", "a")).data["email"], str)
    assert_type(users.update("a", set={"email": "c"}), portable.Document[User])
    query = users.where("email", "==", "b").order_by("email").limit(5)
    assert_type(query, Query[User])
    for document in query:
        assert_type(document, portable.Document[User])
    assert_type(query.first(), portable.Document[User] | None)
    assert_type(query.page(), portable.Page[portable.Document[User]])
    assert_type(query.count(), int)
    users.transact([portable.Put({"id": "a"}), portable.Check("b", "1"), portable.Delete("c")])


def databases(cloud: portable.Cloud) -> None:
    main = cloud.database("main")
    assert_type(main, portable.Database)
    assert_type(main.engine, Engine)
    with main.connect() as connection:
        assert_type(connection, Connection)
    with main.begin() as transaction:
        assert_type(transaction, Connection)
    with main.session() as session:
        assert_type(session, Session)
        main.outbox(session).send("jobs", b"...")


def opened() -> None:
    assert_type(portable.open_bucket("memory:"), portable.Bucket)
    assert_type(portable.open_queue("memory:", visibility_timeout="2s"), portable.Queue[bytes])
    assert_type(portable.open_queue("memory:", type=Job), portable.Queue[Job])
    assert_type(portable.open_topic("memory:", type=Job), portable.Topic[Job])
    assert_type(portable.open_subscription("memory:", topic="events", type=Job), portable.Subscription[Job])
    assert_type(portable.open_stream("memory:", type=Job), portable.Stream[Job])
    assert_type(portable.open_cache("memory:", type=Job), portable.Cache[Job])
    assert_type(portable.open_collection("memory:"), portable.Collection[dict[str, Any]])
    assert_type(portable.open_collection("memory:", type=User, key="id"), portable.Collection[User])
    assert_type(portable.open_database("sqlite:app.db"), portable.Database)
    with portable.open_cache("memory:") as cache:
        assert_type(cache, portable.Cache[Any])
