"""What the neutral layer adds to its own driver: the same calls through both, in turns, and the difference.

It is that of the fastest turns: what disturbs a turn, such as the journal of a file system, only ever adds to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import portable
from benchmarks.sampling import Contender, Figure, Plan, interleave
from portable.document_writes import Save
from portable.messages import Outgoing
from portable.objects import ObjectHeaders

__all__ = ["measure"]

BODY = b"x" * 200
LIMIT = 10.0
NOW_AND_THEN = 0.02

Calls = dict[str, tuple[Callable[[], object], Callable[[], object]]]
"""By operation: the call of the portable type, and what it makes of it at the driver."""


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure each kind on memory and on disk, where there is no waiting for syncs."""
    for scheme, url in (("memory", "memory:"), ("sqlite", f"sqlite:{folder}/layer.db?durability=process")):
        yield from _differences(plan, f"layer cache {scheme}", _cache(portable.open_cache(url)))
        yield from _differences(plan, f"layer queue {scheme}", _queue(portable.open_queue(url)))
        collection = portable.open_collection(url, indexes=["city"])
        yield from _differences(plan, f"layer collection {scheme}", _collection(collection))
    for scheme, url in (("memory", "memory:"), ("file", f"file:{folder}/layer?durability=process")):
        yield from _differences(plan, f"layer bucket {scheme}", _bucket(portable.open_bucket(url)))


def _differences(plan: Plan, prefix: str, calls: Calls) -> Iterator[Figure]:
    for name, (whole, inner) in calls.items():
        contenders = {"whole": Contender(_repeat(whole)), "driver": Contender(_repeat(inner))}
        samples = interleave(contenders, rounds=plan.rounds * 2, seconds=plan.slice(NOW_AND_THEN))
        ours, theirs = min(samples.cpu["whole"]), min(samples.cpu["driver"])
        yield Figure(f"{prefix}: {name}", (ours - theirs) * 1e6, unit="µs", ours=ours, theirs=theirs)


def _repeat(call: Callable[[], object]) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for _ in repeat(None, calls):
            call()

    return run


def _cache(cache: Any) -> Calls:
    cache.set("user:17", BODY)
    driver = cache._driver  # noqa: SLF001 (what lies below is what is compared)
    return {
        "get": (lambda: cache.get("user:17"), lambda: driver.get("user:17", timeout=LIMIT)),
        "set": (
            lambda: cache.set("user:17", BODY, ttl=60),
            lambda: driver.set("user:17", BODY, 60, timeout=LIMIT),
        ),
    }


def _queue(queue: Any) -> Calls:
    queue.send(BODY)
    queue.purge()
    driver = queue._driver  # noqa: SLF001 (the same)
    outgoing = Outgoing(BODY)

    def whole() -> None:
        queue.send(BODY)
        (message,) = queue.receive(wait=0)
        message.ack()

    def inner() -> None:
        driver.send([outgoing], timeout=LIMIT)
        deliveries = driver.receive(1, visibility=30.0, timeout=LIMIT)
        driver.ack(deliveries, timeout=LIMIT)

    return {"send, receive and ack": (whole, inner)}


def _collection(collection: Any) -> Calls:
    data = {"id": "user-17", "city": "London", "name": "Ada Lovelace", "age": 36, "active": True, "tags": ["a", "b"]}
    collection.put(data)
    for number in range(19):
        collection.put({**data, "id": f"user-{number + 100}"})
    collection.put({**data, "id": "alone", "city": "Paris"})
    driver = collection._driver  # noqa: SLF001 (the same)
    id_ = ("", "user-17")
    save = Save(id_, data, special=False)
    calls: Calls = {
        "get": (lambda: collection.get("user-17"), lambda: driver.get(id_, timeout=LIMIT)),
        "put": (lambda: collection.put(data), lambda: driver.write(save, timeout=LIMIT)),
    }
    for name, city in (("query for 1", "Paris"), ("query for 20", "London")):
        calls[name] = _query(collection, city)
    return calls


def _query(collection: Any, city: str) -> tuple[Callable[[], object], Callable[[], object]]:
    asked: list[tuple[Any, dict[str, Any]]] = []
    driver = collection._driver  # noqa: SLF001 (the same)
    real = driver.query

    def recorded(plan: Any, **how: Any) -> Any:
        asked.append((plan, how))
        return real(plan, **how)

    driver.query = recorded
    try:
        assert list(collection.where("city", "==", city))
    finally:
        del driver.query
    ((plan, how),) = asked
    return lambda: list(collection.where("city", "==", city)), lambda: driver.query(plan, **how)


def _bucket(bucket: Any) -> Calls:
    data = BODY * 20
    bucket.put("photos/cat.jpg", data)
    driver = bucket._driver  # noqa: SLF001 (the same)
    headers = ObjectHeaders()
    return {
        "get": (
            lambda: bucket.get("photos/cat.jpg"),
            lambda: driver.get("photos/cat.jpg", 0, None, None, timeout=LIMIT),
        ),
        "put": (
            lambda: bucket.put("photos/cat.jpg", data),
            lambda: driver.put("photos/cat.jpg", data, headers, None, timeout=LIMIT),
        ),
        "head": (lambda: bucket.head("photos/cat.jpg"), lambda: driver.head("photos/cat.jpg", timeout=LIMIT)),
    }
