"""Functional probes through the neutral API: what an application would do with the server, done once.

The adapter of the binding's URL is needed for that, and what it drives; where it is not installed the server's own
protocol has to do. What a probe makes is called `portable-probe`; what it wrote it removes.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

import portable
from portable.errors import ConfigError, DeadlineExceeded, IntegrityError
from portable.registry import provider
from portable.services.manifest import Probed
from portable.urls import Url

__all__ = ["is_served", "work"]

NAME = "portable-probe"
WAIT = 1.0
"""Seconds that one try to receive waits."""


def is_served(kind: Probed, binding: Mapping[str, str]) -> bool:
    """Tell whether an adapter for a kind of resource is installed, with all that it needs."""
    try:
        provider(Url.parse(_uri(kind, binding)).scheme, kind).load()
    except ConfigError:
        return False
    return True


def work(kind: Probed, binding: Mapping[str, str], timeout: float) -> None:
    """Open a resource, write something, read it back, and remove it.

    Args:
        kind: the kind of resource.
        binding: the server's binding, as applications see it.
        timeout: seconds, in all.

    Raises:
        IntegrityError: something else came back.
        PortableError: the server did not do it.
    """
    opener, does = _WORK[kind]
    with opener(_uri(kind, binding), timeout=timeout, retries=0, create="if_missing", **_named(kind)) as resource:
        does(resource, secrets.token_hex(8), monotonic() + timeout)


def _uri(kind: Probed, binding: Mapping[str, str]) -> str:
    return binding.get(f"uri-{kind}", binding["uri"])


def _named(kind: Probed) -> dict[str, Any]:
    # A database is the one that the binding names.
    return {} if kind == "database" else {"name": NAME}


def _check(found: object, wanted: object) -> None:
    if found != wanted:
        raise IntegrityError("what was read back is not what was written")


def _bucket(bucket: portable.Bucket, mark: str, _: float) -> None:
    bucket.put(mark, mark.encode())
    try:
        _check(bucket.get(mark), mark.encode())
    finally:
        bucket.delete(mark)


def _cache(cache: portable.Cache[Any], mark: str, _: float) -> None:
    cache.set(mark, mark, ttl=60)
    _check(cache.get(mark), mark)
    _check(cache.delete(mark), wanted=True)


def _collection(collection: portable.Collection[Any], mark: str, _: float) -> None:
    collection.put({"id": mark, "value": mark})
    try:
        _check(collection.get(mark).data["value"], mark)
    finally:
        collection.delete(mark)


def _queue(queue: portable.Queue[Any], mark: str, deadline: float) -> None:
    queue.send(mark)
    while monotonic() < deadline:
        for message in queue.receive(10, wait=WAIT):
            # One of another mark is of a probe that was interrupted.
            message.ack()
            if message.body == mark.encode():
                return
    raise DeadlineExceeded("the message that was sent did not come")


def _stream(stream: portable.Stream[Any], mark: str, _: float) -> None:
    first = stream.append(mark, key=NAME)
    stream.append(mark, key=NAME)
    (record,) = stream.read(first.partition, after=first, limit=1)
    _check(record.data, mark.encode())


def _database(database: portable.Database, mark: str, _: float) -> None:
    import sqlalchemy as sa  # noqa: PLC0415 (whoever has no database has no SQLAlchemy)

    table = sa.Table("portable_probe", sa.MetaData(), sa.Column("value", sa.String(40)), prefixes=["TEMPORARY"])
    with database.begin() as connection:
        table.create(connection)
        connection.execute(table.insert().values(value=mark))
        _check(connection.execute(sa.select(table.c.value)).scalar(), mark)
        table.drop(connection)


_WORK: dict[Probed, tuple[Callable[..., Any], Callable[[Any, str, float], None]]] = {
    "bucket": (portable.open_bucket, _bucket),
    "cache": (portable.open_cache, _cache),
    "collection": (portable.open_collection, _collection),
    "database": (portable.open_database, _database),
    "queue": (portable.open_queue, _queue),
    "stream": (portable.open_stream, _stream),
}
"""Kind → what opens one, and what is done with it."""
