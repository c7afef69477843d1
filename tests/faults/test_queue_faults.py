"""Queues when processes die, calls are cancelled, and many do the same at once."""

from __future__ import annotations

import asyncio
import queue
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from portable import open_queue, open_subscription, open_topic
from portable.aio import open_queue as open_async

WORKER = Path(__file__).with_name("queue_worker.py")
PATIENCE = 60.0


class Worker:
    """A process of `queue_worker.py`; what it says arrives at `heard`, and its end as None."""

    def __init__(self, *arguments: str, heard: queue.Queue[str | None] | None = None) -> None:
        self.lines: list[str] = []
        self.heard: queue.Queue[str | None] = queue.Queue() if heard is None else heard
        self._process = subprocess.Popen(
            [sys.executable, str(WORKER), *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.lines.append(line.rstrip("\n"))
            self.heard.put(self.lines[-1])
        self.heard.put(None)

    def hear(self, count: int = 1) -> str:
        """Wait until it has said so many more lines, and give the last."""
        said = ""
        for _ in range(count):
            line = self.heard.get(timeout=PATIENCE)
            assert line is not None, "it ended too early"
            said = line
        return said

    def kill(self) -> None:
        """End it as an out-of-memory killer would, and hear what it had said."""
        self._process.kill()
        self.wait()

    def wait(self) -> int:
        """Wait for its end, and give its exit code."""
        self._listening.join(PATIENCE)
        assert not self._listening.is_alive()
        code = self._process.wait(PATIENCE)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        return code


@pytest.fixture
def workers() -> Iterator[list[Worker]]:
    started: list[Worker] = []
    yield started
    for worker in started:
        worker.kill()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path / 'app.db'}"


@pytest.mark.timeout(300)
def test_consumers_are_killed(url: str, workers: list[Worker]) -> None:
    kinds = [("receive", url), ("receive", url), ("consume", url, "1"), ("consume", url, "3")]
    heard: queue.Queue[str | None] = queue.Queue()
    workers += [Worker(*kind, heard=heard) for kind in kinds]
    doomed = [workers[0], workers[3]]
    killed: list[Worker] = []
    bodies: list[str] = []
    with open_queue(url, name="jobs", durability="process") as jobs:
        while len(bodies) < 10_000 or doomed:
            chunk = [str(number) for number in range(len(bodies), len(bodies) + 100)]
            jobs.send_many(chunk)
            bodies += chunk
            if len(bodies) > 2000:
                # No faster than they are handled, or all would be sent before the first worker is up.
                for _ in chunk:
                    heard.get(timeout=PATIENCE)
            # Somewhere in the middle of what it does.
            for worker in [one for one in doomed if len(one.lines) > 100]:
                worker.kill()
                doomed.remove(worker)
                killed.append(worker)
                workers.append(Worker("receive", url, heard=heard))
        survivors = [worker for worker in workers if worker not in killed]
        assert [worker.wait() for worker in survivors] == [0] * 4
        handled = Counter(line for worker in workers for line in worker.lines)
        # The last line of one that was killed may be cut short.
        for worker in killed:
            if worker.lines[-1] not in handled.keys() & set(bodies):
                del handled[worker.lines[-1]]
        assert set(handled) == set(bodies)
        of_the_killed = {line for worker in killed for line in worker.lines}
        assert {body for body, times in handled.items() if times > 1} <= of_the_killed
        stats = jobs.stats()
        assert (stats.ready, stats.leased, stats.delayed, stats.dead) == (0, 0, 0, 0)


def test_senders_are_killed(url: str, workers: list[Worker]) -> None:
    workers += [Worker("send", url, name, "100000") for name in "abcd"]
    for worker in workers:
        worker.hear(300)
        worker.kill()
    with open_queue(url, name="jobs", durability="process", visibility_timeout="10m") as jobs:
        found: Counter[str] = Counter()
        while messages := jobs.receive(1000, wait=0):
            found.update(message.body.decode() for message in messages)
    for worker in workers:
        # What it was about to say when it was killed was sent, too, or not at all.
        said = [line for line in worker.lines if line in found]
        assert len(said) >= len(worker.lines) - 1
        assert all(found[line] == 1 for line in said)
    assert len(found) <= sum(len(worker.lines) + 1 for worker in workers)


def test_what_a_killed_process_held_comes_back(url: str, workers: list[Worker]) -> None:
    with open_queue(url, name="jobs", durability="process") as jobs:
        jobs.send(b"x")
        workers.append(Worker("hold", url))
        assert workers[0].hear() == "x"
        workers[0].kill()
        (message,) = jobs.receive(wait=PATIENCE)
        assert (message.body, message.delivery_count) == (b"x", 2)


def test_waiting_costs_little_and_wakes_soon(url: str, workers: list[Worker]) -> None:
    delays: list[float] = []
    processor_time = 0.0
    with open_queue(url, name="jobs", durability="process") as jobs, open_queue("memory:") as nothing:
        workers.append(Worker("wait", url))
        before = float(workers[0].hear().split()[1])
        for number in range(10):
            # Time passes.
            nothing.receive(wait=0.3)
            jobs.send(b"end" if number == 9 else b"x")
            delay, processor_time = map(float, workers[0].hear().split())
            delays.append(delay)
        assert workers[0].wait() == 0
    assert min(delays) < 0.25
    # Of more than three seconds, work and interpreter included.
    assert processor_time - before < 0.3


def test_threads_share_a_queue(url: str) -> None:
    with open_queue(url, name="jobs", durability="process", visibility_timeout="10m") as jobs:
        with ThreadPoolExecutor(100) as threads:
            ids = set(threads.map(lambda number: jobs.send(str(number)), range(1000)))
            assert len(ids) == 1000

            def take(_: int) -> list[str]:
                messages = jobs.receive(10, wait=0)
                jobs.ack_many(messages)
                return [message.id for message in messages]

            taken = Counter(one for batch in threads.map(take, range(200)) for one in batch)
        assert taken == Counter(ids)
        stats = jobs.stats()
        assert (stats.ready, stats.leased) == (0, 0)


def test_processes_and_threads_publish(url: str) -> None:
    with (
        open_topic(url, name="events", durability="process") as events,
        open_subscription(url, name="one", topic="events", durability="process") as one,
        open_subscription(url, name="two", topic="events", durability="process") as two,
    ):
        for subscription in (one, two):
            subscription.check(timeout=PATIENCE)
        with ThreadPoolExecutor(50) as threads:
            ids = set(threads.map(lambda number: events.publish(str(number)), range(500)))
        for subscription in (one, two):
            assert {message.id for message in subscription.receive(1000)} == ids


@pytest.mark.parametrize("scheme", ["memory:", "sqlite:"])
def test_a_cancelled_receive_gives_back(tmp_path: Path, scheme: str) -> None:
    url = f"sqlite:{tmp_path / 'app.db'}" if scheme == "sqlite:" else scheme
    how: dict[str, Any] = {"durability": "process"} if scheme == "sqlite:" else {}

    async def main() -> None:
        async with open_async(url, name="jobs", visibility_timeout="10m", **how) as jobs:
            sent = set((await jobs.send_many([str(number) for number in range(300)])).succeeded)
            taken: list[str] = []
            for turns in range(150):
                receiving = asyncio.create_task(jobs.receive(3, wait=0))
                for _ in range(turns):
                    await asyncio.sleep(0)
                receiving.cancel()
                try:
                    messages = await receiving
                except asyncio.CancelledError:
                    continue
                assert all(message.delivery_count == 1 for message in messages)
                taken += [message.id for message in messages]
            while len(taken) < len(sent):
                # What a thread is giving back just now is there in a moment.
                messages = await jobs.receive(100, wait=PATIENCE)
                assert messages
                # A receive that was cancelled does not count as a delivery.
                assert all(message.delivery_count == 1 for message in messages)
                taken += [message.id for message in messages]
            assert sorted(taken) == sorted(sent)

    asyncio.run(main())


def test_a_cancelled_consumer_gives_back(url: str) -> None:
    async def main() -> None:
        async with open_async(url, name="jobs", durability="process", visibility_timeout="10m") as jobs:
            await jobs.send_many([b"x"] * 5)
            begun = asyncio.Event()

            async def hang(_: object) -> None:
                begun.set()
                await asyncio.Event().wait()

            consuming = asyncio.create_task(jobs.consume(hang, concurrency=3))
            await asyncio.wait_for(begun.wait(), PATIENCE)
            consuming.cancel()
            with pytest.raises(asyncio.CancelledError):
                await consuming
            taken = 0
            while taken < 5:
                messages = await jobs.receive(10, wait=PATIENCE)
                assert messages
                taken += len(messages)
            assert taken == 5

    asyncio.run(main())


def test_plain_functions_handle_on_the_loop_too(url: str) -> None:
    threads: set[str] = set()

    async def main() -> int:
        async with open_async(url, name="jobs", durability="process") as jobs:
            await jobs.send_many([b"x"] * 3)
            handler: Any = lambda _: threads.add(threading.current_thread().name)  # noqa: E731 (a plain function)
            return await jobs.consume(handler, max_messages=3)

    assert asyncio.run(main()) == 3
    assert threading.main_thread().name not in threads
