"""Streams when processes die, calls are cancelled, and many do the same at once."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portable import open_stream
from portable.aio import open_stream as open_async
from portable.messages import Outgoing
from portable.records import START, Position, Record

WORKER = Path(__file__).with_name("stream_worker.py")
PATIENCE = 60.0


class Worker:
    """A process of `stream_worker.py`, and what it has said so far."""

    def __init__(self, *arguments: str, heard: queue.Queue[tuple[Worker, str]] | None = None) -> None:
        self.lines: list[str] = []
        self._heard = heard
        self._ended: str | None = None
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))
            if self._heard is not None:
                self._heard.put((self, self.lines[-1]))

    def kill(self) -> None:
        """End it as an out-of-memory killer would, and hear what it had said."""
        self._process.send_signal(signal.SIGKILL)
        self.wait()

    def wait(self) -> str:
        """Wait for its end, and give what it complained of."""
        if self._ended is not None:
            return self._ended
        self._listening.join(PATIENCE)
        assert not self._listening.is_alive()
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._ended = self._process.stderr.read()
        self._process.wait(PATIENCE)
        self._process.stdout.close()
        self._process.stderr.close()
        return self._ended


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    started: list[Worker] = []
    yield started
    for worker in started:
        worker.kill()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path / 'app.db'}"


def test_a_reader_misses_nothing_while_processes_append_and_die(url: str, workers: list[Worker]) -> None:
    with open_stream(url, name="clicks", durability="process") as stream:
        partitions = stream.partitions()
        heard: queue.Queue[tuple[Worker, str]] = queue.Queue()
        doomed = Worker("append", url, "doomed", "0", heard=heard)
        workers += [doomed, *(Worker("append", url, f"writer-{number}", "200", heard=heard) for number in range(3))]
        tail: dict[str, list[Record[bytes]]] = {name: [] for name in partitions}

        def follow() -> None:
            for name in partitions:
                while records := stream.read(name, after=tail[name][-1].position if tail[name] else START, limit=7):
                    tail[name] += records

        killed = False
        while any(worker._process.poll() is None for worker in workers):
            follow()
            if not killed and len(doomed.lines) > 50:
                doomed.kill()
                killed = True
        assert killed
        for worker in workers[1:]:
            assert worker.wait() == ""
        follow()
        for name in partitions:
            # Whatever became visible while it was followed is what is there, without a gap.
            assert tail[name] == stream.read(name, limit=100_000)
            assert [int(record.position.value) for record in tail[name]] == list(range(1, len(tail[name]) + 1))
        kept = {str(record.position): record.data.decode() for records in tail.values() for record in records}
        for worker in workers:
            assert worker.lines
            for line in worker.lines:
                position, data = line.split(" ")
                assert kept[position] == data
        for writer in ("doomed", "writer-0", "writer-1", "writer-2"):
            written = [data for data in kept.values() if data.startswith(f"{writer}.")]
            assert written == [f"{writer}.{number}" for number in range(len(written))]
        # Of the killed one at most the record whose answer it did not live to see.
        assert sum(data.startswith("doomed.") for data in kept.values()) - len(doomed.lines) in {0, 1}


def test_a_killed_members_records_come_to_the_others(url: str, workers: list[Worker]) -> None:
    total = 400
    heard: queue.Queue[tuple[Worker, str]] = queue.Queue()
    with open_stream(url, name="clicks", durability="process", partitions=6) as stream:
        stream.append_many([Outgoing(str(number), ordering_key=str(number)) for number in range(total)])
    missing = {str(number) for number in range(total)}
    doomed = Worker("consume", url, heard=heard)
    workers.append(doomed)
    missing.discard(heard.get(timeout=PATIENCE)[1])
    # In the middle of a batch, with all the partitions in its hands.
    doomed.kill()
    workers += [Worker("consume", url, heard=heard) for _ in range(2)]
    while missing:
        missing.discard(heard.get(timeout=PATIENCE)[1])
    # Nobody has read a record that another had committed.
    uncommitted = _after_last_commit(doomed.lines)
    counts = Counter(line for one in workers for line in one.lines if line != "committed")
    assert {line for line, count in counts.items() if count > 1} <= set(uncommitted)
    # It may have committed its last batch without living to say so.
    assert len(uncommitted) <= 5


def _after_last_commit(lines: list[str]) -> list[str]:
    last = max((number for number, line in enumerate(lines) if line == "committed"), default=-1)
    return lines[last + 1 :]


def test_a_waiting_poll_hears_of_another_process(url: str, workers: list[Worker]) -> None:
    with open_stream(url, name="clicks", durability="process") as stream:
        consumer = stream.consumer("g")
        assert consumer.poll(timeout=0) == []
        workers.append(Worker("append", url, "other", "1"))
        (record,) = consumer.poll(timeout=PATIENCE)
        assert record.data == b"other.0"


async def _cancel_polls(address: str) -> None:
    async with open_async(address, name="cancelled", partitions=2) as stream:
        consumer = await stream.consumer("g")
        got: list[int] = []
        sent = 0
        for attempt in range(60):
            polling = asyncio.create_task(consumer.poll(timeout=PATIENCE))
            # Cancelled after so many turns of the loop, so that it is caught at every place.
            for _ in range(attempt % 20):
                await asyncio.sleep(0)
            await stream.append_many([str(number) for number in range(sent, sent + 4)])
            sent += 4
            polling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                got += [int(record.data) for record in await polling]
            await consumer.commit()
        while len(got) < sent:
            records = await consumer.poll(timeout=PATIENCE)
            assert records
            got += [int(record.data) for record in records]
        assert sorted(got) == list(range(sent))


def test_a_cancelled_poll_loses_nothing_in_memory() -> None:
    asyncio.run(_cancel_polls("memory:"))


def test_a_cancelled_poll_loses_nothing_in_a_file(url: str) -> None:
    asyncio.run(_cancel_polls(f"{url}?durability=process"))


def test_waiting_polls_hold_no_thread_of_the_pool(url: str) -> None:
    async def wait_all() -> None:
        async with open_async(url, name="waiting", durability="process", partitions=1) as stream:
            consumers = [await stream.consumer(f"group-{number}") for number in range(50)]
            polls = [asyncio.create_task(consumer.poll(timeout=PATIENCE)) for consumer in consumers]
            await asyncio.sleep(0)
            async with asyncio.timeout(PATIENCE):
                # More polls wait than the pool has threads; the append gets one all the same.
                await stream.append(b"x")
                for records in await asyncio.gather(*polls):
                    assert [record.data for record in records] == [b"x"]

    asyncio.run(wait_all())


def test_threads_share_a_consumer(url: str) -> None:
    total = 600
    with open_stream(url, name="clicks", durability="process") as stream:
        consumer = stream.consumer("g")
        got: list[bytes] = []
        lock = threading.Lock()

        def read() -> None:
            for record in consumer:
                with lock:
                    got.append(record.data)
                    if len(got) == total:
                        done.set()

        done = threading.Event()
        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for start in range(0, total, 50):
            stream.append_many([str(number) for number in range(start, start + 50)])
        assert done.wait(PATIENCE)
        consumer.commit()
        assert consumer.lag() == 0
        consumer.close()
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        assert sorted(got) == sorted(str(number).encode() for number in range(total))


def test_positions_outlive_their_process(url: str, workers: list[Worker]) -> None:
    workers.append(Worker("append", url, "w", "3"))
    assert workers[0].wait() == ""
    positions = [Position.parse(line.split(" ")[0]) for line in workers[0].lines]
    with open_stream(url, name="clicks", durability="process") as stream:
        after: list[Any] = stream.read(positions[0].partition, after=positions[0])
        assert [record.data for record in after] == [b"w.1", b"w.2"]
        assert [record.position for record in after] == positions[1:]
