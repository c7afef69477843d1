"""The embedded queue against bare SQL and the peers, each at the same durability.

Peers are brought to it on their own connections: `PRAGMA synchronous` is NORMAL for `"process"` and FULL for `"power"`,
each with SQLite's write-ahead log. What each does for one message is the least that its interface has, and what it
only marks as done is cleared within the time. Huey's storage has no ack: it removes a message as it hands it over, so
that the message is lost with the process; its figure is there for orientation.
"""

from __future__ import annotations

import itertools
import queue
import sqlite3
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import portable
from benchmarks.sampling import Clock, Contender, Figure, Plan, compare, interleave

__all__ = ["measure"]

BODY = b"x" * 200
TEXT = BODY.decode()
THREADS = 16
BATCH = 1000

Durability = Literal["process", "power"]
_SYNCHRONOUS = {"process": "NORMAL", "power": "FULL"}


class Rival(Protocol):
    """A queue with one message at a time; those that only mark what is done `tidy` it away, which is timed."""

    def send(self) -> None: ...
    def receive(self) -> None: ...
    def tidy(self) -> None: ...
    def clear(self) -> None: ...


class Tidy:
    def tidy(self) -> None:
        """Do nothing: what is done is gone."""


class Portable(Tidy):
    def __init__(self, folder: Path, durability: Durability) -> None:
        self.queue = portable.open_queue(f"sqlite:{folder}/portable.db", durability=durability)

    def send(self) -> None:
        self.queue.send(BODY)

    def receive(self) -> None:
        (message,) = self.queue.receive(wait=0)
        message.ack()

    def clear(self) -> None:
        self.queue.purge()


class Bare(Tidy):
    """The statements that a queue with leases cannot do without, by hand."""

    def __init__(self, folder: Path, durability: Durability) -> None:
        self.connection = _connected(folder / "bare.db", durability)
        self.connection.execute(
            "CREATE TABLE message (id INTEGER PRIMARY KEY, due INTEGER NOT NULL, count INTEGER NOT NULL DEFAULT 0, "
            "body BLOB NOT NULL)"
        )
        self.connection.execute("CREATE INDEX message_due ON message (due, id)")
        self.connection.execute("CREATE TABLE plain (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")

    def insert(self) -> None:
        self.connection.execute("INSERT INTO plain (body) VALUES (?)", (BODY,))

    def send(self) -> None:
        self.connection.execute("INSERT INTO message (due, body) VALUES (?, ?)", (int(time.time() * 1000), BODY))

    def send_many(self) -> None:
        now = int(time.time() * 1000)
        self.connection.execute("BEGIN IMMEDIATE")
        self.connection.executemany("INSERT INTO message (due, body) VALUES (?, ?)", [(now, BODY)] * BATCH)
        self.connection.execute("COMMIT")

    def receive(self) -> None:
        now = int(time.time() * 1000)
        ((number, _),) = self.connection.execute(
            "UPDATE message SET due = ?, count = count + 1 WHERE id = "
            "(SELECT id FROM message WHERE due <= ? ORDER BY due, id LIMIT 1) RETURNING id, body",
            (now + 30_000, now),
        ).fetchall()
        self.connection.execute("DELETE FROM message WHERE id = ?", (number,))

    def clear(self) -> None:
        self.connection.execute("DELETE FROM message")
        self.connection.execute("DELETE FROM plain")


class Litequeue:
    def __init__(self, folder: Path, durability: Durability) -> None:
        import litequeue

        self.queue = litequeue.LiteQueue(folder / "litequeue.db")
        self.queue.conn.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")

    def send(self) -> None:
        self.queue.put(TEXT)

    def receive(self) -> None:
        self.queue.done(self.queue.pop().message_id)

    def tidy(self) -> None:
        self.queue.prune()

    def clear(self) -> None:
        self.queue.conn.execute("DELETE FROM Queue")


class PersistQueue:
    def __init__(self, folder: Path, durability: Durability) -> None:
        import persistqueue

        self.queue = persistqueue.SQLiteAckQueue(str(folder / "persistqueue"), multithreading=True)
        self.queue._putter.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")  # noqa: SLF001 (it has no other way)

    def send(self) -> None:
        self.queue.put(BODY)

    def receive(self) -> None:
        message = self.queue.get(block=False, raw=True)
        self.queue.ack(id=message["pqid"])

    def tidy(self) -> None:
        self.queue.clear_acked_data(max_delete=1_000_000, keep_latest=0)

    def clear(self) -> None:
        with self.queue._putter as connection:  # noqa: SLF001 (it has no other way)
            connection.execute("DELETE FROM ack_queue_default")


class Huey(Tidy):
    def __init__(self, folder: Path, durability: Durability) -> None:
        from huey.storage import SqliteStorage

        self.storage = SqliteStorage("jobs", filename=str(folder / "huey.db"))
        # Its own `fsync=False` is synchronous = OFF.
        self.storage.conn.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")

    def send(self) -> None:
        self.storage.enqueue(BODY)

    def receive(self) -> None:
        self.storage.dequeue()

    def clear(self) -> None:
        self.storage.flush_queue()


class Kombu:
    def __init__(self, folder: Path, durability: Durability) -> None:
        import kombu

        path = folder / "kombu.db"
        options = {"creator": lambda: _connected(path, durability, isolation_level="DEFERRED")}
        self.connection = kombu.Connection(f"sqla+sqlite:///{path}", transport_options=options)
        self.queue = self.connection.SimpleQueue("jobs")

    def send(self) -> None:
        self.queue.put(BODY)

    def receive(self) -> None:
        self.queue.get(block=False).ack()

    def tidy(self) -> None:
        with self.connection.channel().session as session:
            session.query(self.connection.channel().message_cls).filter_by(visible=False).delete()
            session.commit()

    def clear(self) -> None:
        self.queue.clear()


_RIVALS: dict[str, Callable[[Path, Durability], Rival]] = {
    "portable": Portable,
    "litequeue": Litequeue,
    "persist-queue": PersistQueue,
    "huey": Huey,
    "kombu": Kombu,
}


def _connected(path: Path, durability: Durability, isolation_level: Any = None) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=isolation_level, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {_SYNCHRONOUS[durability]}")
    return connection


def _repeat(call: Callable[[], object]) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for _ in itertools.repeat(None, calls):
            call()

    return run


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure both durabilities."""
    for durability in ("process", "power"):
        place = folder / durability
        place.mkdir()
        yield from _measure(plan, place, durability)


def _measure(plan: Plan, folder: Path, durability: Durability) -> Iterator[Figure]:
    bare = Bare(folder, durability)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        rivals: dict[str, Rival] = {name: make(folder, durability) for name, make in _RIVALS.items()}
    rivals["bare SQL"] = bare
    # A sync is waited for, everything else is work.
    clock: Clock = "wall" if durability == "power" else "cpu"
    seconds = plan.slice(0.1 if durability == "power" else 0.03)
    ours = rivals["portable"]
    assert isinstance(ours, Portable)

    contenders = {name: Contender(_repeat(one.send), _clearing(one)) for name, one in rivals.items()}
    if durability == "power":
        contenders["bare insert"] = Contender(_repeat(bare.insert), _clearing(bare))
    samples = interleave(contenders, rounds=plan.rounds, seconds=seconds)
    peers = [name for name in rivals if name != "portable"]
    yield from compare(samples, f"queue {durability}: send", others=peers, clock=clock)
    if durability == "power":
        yield from compare(samples, "queue power: send", others=["bare insert"], clock=clock)
        contenders = {
            "portable": Contender(lambda calls: _by_threads(ours.send, calls), _clearing(ours)),
            "bare insert": contenders["bare insert"],
        }
        samples = interleave(contenders, rounds=plan.rounds, seconds=seconds)
        yield from compare(samples, f"queue power: send by {THREADS} threads", clock=clock)

    contenders = {name: Contender(_receiving(one), _filling(one)) for name, one in rivals.items()}
    samples = interleave(contenders, rounds=plan.rounds, seconds=seconds)
    yield from compare(samples, f"queue {durability}: receive and ack", others=peers, clock=clock)
    yield from _batches(plan, ours, bare, durability, clock)


def _batches(plan: Plan, ours: Portable, bare: Bare, durability: Durability, clock: Clock) -> Iterator[Figure]:
    bodies = [BODY] * BATCH

    def receive() -> None:
        ours.queue.ack_many(ours.queue.receive(BATCH, wait=0))

    def fill(batches: int) -> None:
        ours.clear()
        for _ in range(batches):
            ours.queue.send_many(bodies)

    contenders = {
        "portable": Contender(_repeat(lambda: ours.queue.send_many(bodies)), _clearing(ours), calls=4),
        "bare SQL": Contender(_repeat(bare.send_many), _clearing(bare), calls=4),
        "receive": Contender(_repeat(receive), fill, calls=4),
    }
    samples = interleave(contenders, rounds=max(3, plan.rounds // 2), seconds=1.0)
    yield from compare(samples, f"queue {durability}: send in batches", others=["bare SQL"], clock=clock)
    for what, name in (("send", "portable"), ("receive and ack", "receive")):
        taken = samples.median(name, clock)
        yield Figure(f"queue {durability}: {what} in batches", BATCH / taken, unit="/s", ours=taken / BATCH)


def _clearing(one: Rival) -> Callable[[int], None]:
    return lambda _: one.clear()


def _receiving(one: Rival) -> Callable[[int], None]:
    def run(calls: int) -> None:
        for _ in itertools.repeat(None, calls):
            one.receive()
        one.tidy()

    return run


def _filling(one: Rival) -> Callable[[int], None]:
    def prepare(calls: int) -> None:
        one.clear()
        for _ in range(calls):
            one.send()

    return prepare


def _by_threads(call: Callable[[], object], calls: int) -> None:
    todo: queue.SimpleQueue[None] = queue.SimpleQueue()
    for _ in range(calls):
        todo.put(None)

    def work() -> None:
        try:
            while True:
                todo.get_nowait()
                call()
        except queue.Empty:
            return

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
