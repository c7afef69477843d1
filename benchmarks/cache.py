"""Caches: memory against cachetools behind a lock, SQLite against diskcache; values are texts and bytes of 200."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import portable
from benchmarks.sampling import Clock, Contender, Figure, Plan, compare, interleave

__all__ = ["measure"]

KEYS = [f"user:{number}" for number in range(1000)]
VALUES: dict[str, Any] = {"text": "x" * 200, "bytes": b"\xff" * 200, "dict": {"id": 17, "name": "Ada", "on": True}}
TTL = 600


class Cachetools:
    def __init__(self) -> None:
        import cachetools

        self.cache: Any = cachetools.TTLCache(maxsize=100_000, ttl=TTL)
        self.lock = threading.Lock()

    def get(self, key: str) -> Any:
        with self.lock:
            return self.cache.get(key)

    def set(self, key: str, value: Any) -> None:
        with self.lock:
            self.cache[key] = value


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure memory, then SQLite; a value is set for `TTL` seconds."""
    import diskcache

    memory, theirs = portable.open_cache("memory:"), Cachetools()
    for kind, value in VALUES.items():
        contenders = {"portable": (memory, {"ttl": TTL}), "cachetools": (theirs, {})}
        yield from _both(plan, f"cache memory {kind}", contenders, value, "cpu")
    for durability, synchronous in (("process", 1), ("power", 2)):
        sqlite = portable.open_cache(f"sqlite:{folder}/{durability}.db", durability=durability)
        disk = diskcache.Cache(str(folder / f"diskcache-{durability}"), sqlite_synchronous=synchronous)
        contenders = {"portable": (sqlite, {"ttl": TTL}), "diskcache": (disk, {"expire": TTL})}
        clock: Clock = "cpu" if durability == "process" else "wall"
        yield from _both(plan, f"cache {durability}", contenders, VALUES["bytes"], clock)
        sqlite.close()
        disk.close()


def _both(
    plan: Plan, name: str, contenders: dict[str, tuple[Any, dict[str, int]]], value: Any, clock: Clock
) -> Iterator[Figure]:
    seconds = plan.slice(0.1 if clock == "wall" else 0.02)
    setting = {who: Contender(_set(cache, value, how)) for who, (cache, how) in contenders.items()}
    yield from compare(interleave(setting, rounds=plan.rounds, seconds=seconds), f"{name}: set", clock=clock)
    for cache, how in contenders.values():
        for key in KEYS:
            cache.set(key, value, **how)
        assert cache.get(KEYS[0]) == value
    getting = {who: Contender(_get(cache)) for who, (cache, _) in contenders.items()}
    yield from compare(interleave(getting, rounds=plan.rounds, seconds=seconds), f"{name}: get", clock=clock)


def _keys(calls: int) -> Iterator[str]:
    return islice(cycle(KEYS), calls)


def _get(cache: Any) -> Callable[[int], None]:
    def run(calls: int) -> None:
        get = cache.get
        for key in _keys(calls):
            get(key)

    return run


def _set(cache: Any, value: Any, how: dict[str, int]) -> Callable[[int], None]:
    def run(calls: int) -> None:
        set_ = cache.set
        for key in _keys(calls):
            set_(key, value, **how)

    return run
