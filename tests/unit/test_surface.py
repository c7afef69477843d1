"""The public surface: every name, method and argument of the contract, in both faces, documented."""

from __future__ import annotations

import asyncio
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import portable
import portable.aio
import portable.aio.lock
import portable.aio.message
import portable.aio.query
import portable.aio.resource
import portable.aio.stream_consumer
import portable.errors
import portable.lock
import portable.message
import portable.query
import portable.resource
import portable.stream_consumer

ANY: Any = object()
"""A default that the contract leaves open."""


class Cloud:
    def bucket(self, name): ...
    def queue(self, name, *, type=None): ...
    def topic(self, name, *, type=None): ...
    def subscription(self, name, *, topic=None, type=None): ...
    def stream(self, name, *, type=None): ...
    def cache(self, name, *, type=None): ...
    def collection(self, name, *, type=None): ...
    def database(self, name): ...
    def check(self, timeout=2.0, *, write=False): ...
    def close(self): ...


class Bucket:
    def put(
        self,
        key,
        data,
        *,
        content_type=None,
        metadata=None,
        cache_control=None,
        content_disposition=None,
        content_encoding=None,
        content_language=None,
        if_absent=False,
        if_match=None,
        timeout=None,
    ): ...
    def get(self, key, *, offset=0, length=None, timeout=None): ...
    def open(
        self,
        key,
        mode="rb",
        *,
        content_type=None,
        metadata=None,
        cache_control=None,
        content_disposition=None,
        content_encoding=None,
        content_language=None,
        if_absent=False,
        if_match=None,
        timeout=None,
    ): ...
    def head(self, key, *, timeout=None): ...
    def exists(self, key, *, timeout=None): ...
    def delete(self, key, *, if_match=None, timeout=None): ...
    def delete_many(self, keys, *, timeout=None): ...
    def list(self, prefix="", *, delimiter=None, start_after=None, timeout=None): ...
    def list_page(self, prefix="", *, delimiter=None, limit=1000, cursor=None, timeout=None): ...
    def copy(self, source, target, *, to=None, timeout=None): ...
    def put_many(self, items, *, concurrency=ANY, timeout=None): ...
    def get_many(self, keys, *, concurrency=ANY, timeout=None): ...
    def upload(self, path, key, *, progress=None, timeout=None): ...
    def download(self, key, path, *, progress=None, timeout=None): ...
    def sign(self, key, *, method="GET", expires=3600, content_type=None, timeout=None): ...


class Queue:
    dead_letters: Any

    def send(self, body, *, attributes=None, delay=0.0, ordering_key=None, dedup_id=None, timeout=None): ...
    def send_many(self, messages, *, return_errors=False, timeout=None): ...
    def receive(self, max_messages=1, *, wait=1.0, visibility_timeout=None, timeout=None): ...
    def consume(
        self, handler, *, concurrency=1, stop=None, max_messages=None, idle_timeout=None, drain_timeout=30.0
    ): ...
    def handle_event(self, event, handler): ...
    def ack_many(self, messages, *, timeout=None): ...
    def stats(self, *, timeout=None): ...
    def purge(self, *, timeout=None): ...
    def peek(self, max_messages=1, *, timeout=None): ...
    def redrive(self, max_messages=None, *, timeout=None): ...


class Message:
    id: Any
    body: Any
    attributes: Any
    ordering_key: Any
    delivery_count: Any
    sent_at: Any

    def ack(self, *, timeout=None): ...
    def nack(self, delay=0, *, timeout=None): ...
    def reject(self, reason="", *, timeout=None): ...
    def extend(self, seconds, *, timeout=None): ...


class Topic:
    def publish(self, body, *, attributes=None, ordering_key=None, timeout=None): ...
    def publish_many(self, messages, *, timeout=None): ...


class Stream:
    def append(self, data, *, key=None, attributes=None, timeout=None): ...
    def append_many(self, records, *, timeout=None): ...
    def partitions(self, *, timeout=None): ...
    def read(self, partition, *, after=portable.START, limit=ANY, timeout=None): ...
    def consumer(self, group, *, start=portable.START, checkpoint=None, timeout=None): ...


class StreamConsumer:
    def poll(self, timeout=ANY, max_records=ANY): ...
    def commit(self, *, timeout=None): ...
    def seek(self, position, *, timeout=None): ...
    def lag(self, *, timeout=None): ...
    def close(self): ...


class Cache:
    def get(self, key, default=None, *, timeout=None): ...
    def set(self, key, value, *, ttl=None, timeout=None): ...
    def add(self, key, value, *, ttl=None, timeout=None): ...
    def delete(self, key, *, timeout=None): ...
    def get_many(self, keys, *, timeout=None): ...
    def set_many(self, mapping, *, ttl=None, timeout=None): ...
    def delete_many(self, keys, *, timeout=None): ...
    def incr(self, key, by=1, *, ttl=None, timeout=None): ...
    def touch(self, key, ttl, *, timeout=None): ...
    def ttl(self, key, *, timeout=None): ...
    def clear(self, *, timeout=None): ...
    def get_or_set(self, key, factory, *, ttl, stale=None, timeout=None): ...
    def cached(self, *, ttl, key, stale=None): ...
    def lock(self, name, *, ttl, wait=None, timeout=None): ...


class Lock:
    token: Any

    def extend(self, ttl=ANY, *, timeout=None): ...


class Collection:
    def create(self, data, *, timeout=None): ...
    def put(self, data, *, if_revision=None, timeout=None): ...
    def replace(self, data, *, if_revision=None, timeout=None): ...
    def get(self, key, *, timeout=None): ...
    def get_many(self, keys, *, timeout=None): ...
    def delete(self, key, *, if_revision=None, timeout=None): ...
    def update(self, key, *, set=ANY, unset=ANY, increment=ANY, append=ANY, if_revision=None, timeout=None): ...
    def where(self, path, op, value, *, allow_scan=False): ...
    def order_by(self, path, descending=False, *, allow_scan=False): ...  # noqa: FBT002 (the contract's signature)
    def write_many(self, writes, *, return_errors=False, timeout=None): ...
    def transact(self, writes, *, timeout=None): ...


class Query:
    def where(self, path, op, value, *, allow_scan=False): ...
    def order_by(self, path, descending=False): ...  # noqa: FBT002 (the contract's signature)
    def limit(self, n): ...
    def page(self, cursor=None, *, timeout=None): ...
    def first(self, *, timeout=None): ...
    def count(self, *, timeout=None): ...
    def delete(self, *, timeout=None): ...


class Database:
    engine: Any

    def connect(self): ...
    def begin(self): ...
    def session(self): ...
    def migrate(self, directory): ...
    def outbox(self, session): ...


class Resource:
    name: Any
    url: Any
    capabilities: Any
    native: Any

    def check(self, *, timeout=ANY): ...
    def close(self): ...


RESOURCES = (Bucket, Queue, Topic, Stream, Cache, Collection, Database)
CLASSES = (Cloud, *RESOURCES, Message, StreamConsumer, Lock, Query, Resource)
INNER = {
    "Message": "message",
    "StreamConsumer": "stream_consumer",
    "Lock": "lock",
    "Query": "query",
    "Resource": "resource",
}
"""Where a class is that an application meets and never makes."""
FIELDS = {
    "ObjectInfo": "key size etag modified content_type metadata cache_control content_disposition content_encoding "
    "content_language",
    "SignedRequest": "url method headers expires_at",
    "QueueStats": "ready leased delayed dead",
    "Record": "data key attributes partition position timestamp",
    "Document": "key data revision expires_at",
    "Outgoing": "body attributes delay ordering_key dedup_id",
    "Page": "items cursor",
    "BatchResult": "results failed",
    "Create": "data",
    "Put": "data if_revision",
    "Replace": "data if_revision",
    "Update": "key set unset increment append if_revision",
    "Delete": "key if_revision",
    "Check": "key revision",
}
OPENERS = {
    "connect": (["config"], ["profile"]),
    "open_bucket": (["url"], []),
    "open_queue": (["url"], ["type"]),
    "open_topic": (["url"], ["type"]),
    "open_subscription": (["url"], ["topic", "type"]),
    "open_stream": (["url"], ["type"]),
    "open_cache": (["url"], ["type"]),
    "open_collection": (["url"], ["type"]),
    "open_database": (["url"], []),
}
NOT_AWAITED = {
    "Cloud": {"bucket", "queue", "topic", "subscription", "stream", "cache", "collection", "database"},
    "Bucket": {"list"},
    "Cache": {"cached"},
    "Collection": {"where", "order_by"},
    "Query": {"where", "order_by", "limit"},
    "Database": {"session", "outbox"},
}
"""What does no I/O of its own, or is iterated."""
HELD = {("Cache", "lock"), ("Stream", "consumer"), ("Database", "connect"), ("Database", "begin")}
"""What is awaited, or held by `async with` at once."""
NEVER_FAILS = {"Database.outbox"}


def face(name: str, module: Any) -> Any:
    if name in INNER:
        package = "portable.aio" if module is portable.aio else "portable"
        return getattr(sys.modules[f"{package}.{INNER[name]}"], name)
    return getattr(module, name)


def methods(contract: type) -> dict[str, inspect.Signature]:
    return {name: inspect.signature(value) for name, value in vars(contract).items() if inspect.isfunction(value)}


def promised() -> list[Any]:
    return [
        pytest.param(contract, name, id=f"{contract.__name__}.{name}")
        for contract in CLASSES
        for name in methods(contract)
    ]


@pytest.mark.parametrize("module", [portable, portable.aio], ids=["sync", "aio"])
@pytest.mark.parametrize(("contract", "name"), promised())
def test_a_method_takes_what_the_contract_says(contract: type, name: str, module: Any) -> None:
    wanted = methods(contract)[name].parameters
    method = getattr(face(contract.__name__, module), name)
    found = inspect.signature(method).parameters
    assert [p for p in found if p in wanted] == list(wanted), "names and their order"
    for parameter in wanted.values():
        assert found[parameter.name].kind is parameter.kind, parameter
        if parameter.default is not ANY:
            assert found[parameter.name].default == parameter.default, parameter
        else:
            assert found[parameter.name].default is not inspect.Parameter.empty, parameter
    extra = [found[p] for p in found if p not in wanted]
    assert all(p.kind in {p.KEYWORD_ONLY, p.VAR_KEYWORD} for p in extra), extra
    assert all(p.default is not p.empty for p in extra if p.kind is p.KEYWORD_ONLY), extra


@pytest.mark.parametrize(("contract", "name"), promised())
def test_the_twin_of_a_method_is_awaited(contract: type, name: str) -> None:
    plain = getattr(face(contract.__name__, portable), name)
    twin = getattr(face(contract.__name__, portable.aio), name)
    assert not inspect.iscoroutinefunction(plain)
    awaited = name not in NOT_AWAITED.get(contract.__name__, set()) and (contract.__name__, name) not in HELD
    assert inspect.iscoroutinefunction(twin) is awaited


def public_of(cls: type) -> Iterator[str]:
    return (name for name in dir(cls) if not name.startswith("_"))


@pytest.mark.parametrize("contract", CLASSES, ids=lambda contract: contract.__name__)
def test_both_faces_are_the_same(contract: type) -> None:
    """Whatever is public, promised or not, has its twin with the same parameters."""
    plain, twin = face(contract.__name__, portable), face(contract.__name__, portable.aio)
    assert set(public_of(plain)) == set(public_of(twin))
    for name in public_of(plain):
        one, other = getattr(plain, name), getattr(twin, name)
        if not callable(one):
            continue
        kinds = [
            [(p.name, p.kind, p.default) for p in inspect.signature(method).parameters.values()]
            for method in (one, other)
        ]
        assert kinds[0] == kinds[1], name
        assert in_words(one) == in_words(other), name


def in_words(method: Any) -> str:
    """A docstring without the words that are the one face's or the other's."""
    text = inspect.getdoc(method) or ""
    return re.sub(r"\b(async|await|aio|asyncio)\b\.?|\s+|portable", "", text.replace("aiter", "iter"))


@pytest.mark.parametrize("contract", CLASSES, ids=lambda contract: contract.__name__)
def test_attributes_of_the_contract_are_there(contract: type) -> None:
    for name in getattr(contract, "__annotations__", {}):
        for module in (portable, portable.aio):
            assert hasattr(face(contract.__name__, module), name), name


@pytest.mark.parametrize("contract", RESOURCES, ids=lambda contract: contract.__name__)
def test_a_kind_is_a_resource_and_a_context_manager(contract: type) -> None:
    plain, twin = face(contract.__name__, portable), face(contract.__name__, portable.aio)
    assert issubclass(plain, portable.resource.Resource)
    assert issubclass(twin, portable.aio.resource.Resource)
    assert hasattr(plain, "__enter__")
    assert hasattr(twin, "__aenter__")


def test_what_is_iterated_and_held() -> None:
    assert hasattr(portable.query.Query, "__iter__")
    assert hasattr(portable.aio.query.Query, "__aiter__")
    assert hasattr(portable.StreamConsumer, "__iter__")
    assert hasattr(portable.aio.StreamConsumer, "__aiter__")
    for name in ("Cloud", "Message", "Lock"):
        assert hasattr(getattr(portable, name), "__enter__"), name
        assert hasattr(getattr(portable.aio, name), "__aenter__"), name
    assert issubclass(portable.Subscription, portable.Queue)
    assert issubclass(portable.aio.Subscription, portable.aio.Queue)


@pytest.mark.parametrize("name", FIELDS)
def test_a_value_has_its_fields(name: str) -> None:
    value = getattr(portable, name)
    assert getattr(portable.aio, name) is value
    assert [field for field in FIELDS[name].split() if not hasattr(value, field)] == []


@pytest.mark.parametrize("name", OPENERS)
@pytest.mark.parametrize("module", [portable, portable.aio], ids=["sync", "aio"])
def test_an_opener_takes_what_the_contract_says(name: str, module: Any) -> None:
    found = inspect.signature(getattr(module, name)).parameters
    positional, keywords = OPENERS[name]
    assert [p.name for p in found.values() if p.kind is p.POSITIONAL_OR_KEYWORD] == positional
    assert sorted(p.name for p in found.values() if p.kind is p.KEYWORD_ONLY) == sorted(keywords)
    assert any(p.kind is p.VAR_KEYWORD for p in found.values()) is (name != "connect")
    assert not inspect.iscoroutinefunction(getattr(module, name)), "`async with aio.connect()` has no await"


def test_both_faces_export_the_same_names() -> None:
    assert portable.__all__ == portable.aio.__all__
    for name in portable.__all__:
        assert getattr(portable, name) is not None
        assert getattr(portable.aio, name) is not None
    assert set(portable.__all__) <= set(dir(portable))
    assert set(portable.aio.__all__) <= set(dir(portable.aio))
    for module in (portable, portable.aio):
        with pytest.raises(AttributeError, match="no attribute 'bucket_'"):
            _ = module.bucket_


def documented() -> list[Any]:
    names = [*portable.__all__, "Query", "Resource"]
    return [
        pytest.param(name, face(name, portable), id=name) for name in names if inspect.isclass(face(name, portable))
    ]


@pytest.mark.parametrize(("name", "cls"), documented())
def test_every_public_member_says_what_it_does(name: str, cls: type) -> None:
    assert len(cls.__doc__ or "") > 20
    for member in public_of(cls):
        static = inspect.getattr_static(cls, member)
        if isinstance(static, property):
            assert static.fget is not None
            assert static.fget.__doc__, member
        elif callable(getattr(cls, member)):
            check_docstring(getattr(cls, member))


@pytest.mark.parametrize("name", OPENERS)
def test_every_opener_says_what_it_does(name: str) -> None:
    check_docstring(getattr(portable, name))


def check_docstring(call: Any) -> None:
    """It has a summary, each of several arguments under `Args:`, and under `Raises:` what its arguments may cause."""
    text = inspect.getdoc(call) or ""
    where = getattr(call, "__qualname__", call)
    assert re.match(r"[A-Z`].*[.:]", text), f"{where} has no summary"
    own = [name for name in inspect.signature(call).parameters if name not in {"self", "timeout"}]
    if len(own) > 1 and "type" not in own:
        for name in own:
            assert re.search(rf"^    \*{{0,2}}{name}\b[^\n]*:|^    [^\n]*\b{name}\b[^\n]*:", text, re.MULTILINE), (
                f"{where} does not describe {name}"
            )
    required = [p for p in inspect.signature(call).parameters.values() if p.default is p.empty and p.name != "self"]
    raises = text.partition("Raises:\n")[2]
    if required and where not in NEVER_FAILS:
        assert raises, f"{where} says of none of its errors"
    for error in re.findall(r"^    (\w+):", raises, re.MULTILINE):
        builtin = getattr(__import__("builtins"), error, None)
        assert hasattr(portable.errors, error) or builtin is not None, f"{where} raises an unknown {error}"


LOADED = """
import sys
import portable
sdks = {"boto3", "botocore", "google", "azure", "redis", "kafka", "confluent_kafka", "obstore", "pika", "nats",
        "pymemcache", "sqlalchemy", "alembic", "opentelemetry", "asyncio", "sqlite3", "concurrent", "msgspec",
        "click", "rich", "pytest", "importlib.metadata", "tomllib", "portable_embedded", "portable_sql"}
print(sorted(sdks & set(sys.modules)))
with portable.open_queue("memory:") as queue:
    queue.send(b"one")
print(sorted((sdks - {"msgspec", "importlib.metadata", "concurrent", "portable_embedded"}) & set(sys.modules)))
"""


def test_importing_loads_nothing_that_is_not_used() -> None:
    # A measured interpreter would load what measures it.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, timeout=60, check=True, env=env
    )
    imported, used = done.stdout.splitlines()
    assert imported == "[]"
    assert not {"sqlalchemy", "asyncio", "opentelemetry", "click", "sqlite3", "pytest"} & set(re.findall(r"\w+", used))


def test_a_held_twin_can_also_be_awaited() -> None:
    async def main() -> None:
        async with portable.aio.open_cache("memory:") as cache:
            async with cache.lock("a", ttl=5.0, wait=0) as held:
                assert held is not None
            again = await cache.lock("a", ttl=5.0, wait=0)
            await again.release()
            assert again.name

    asyncio.run(main())
