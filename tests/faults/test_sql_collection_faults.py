"""Collections on PostgreSQL and MariaDB when servers are killed, answers lost, processes forked, callers cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

import portable
from portable import aio
from portable.documents import Check, Create, Delete, Put, Update
from portable.errors import (
    AlreadyExists,
    DeadlineExceeded,
    NotFound,
    PreconditionFailed,
    ResourceNotFound,
    Unauthenticated,
    Unavailable,
)
from tests.patience import PATIENCE, persistently, wait_until
from tests.targets import own, target

SERVERS = ["postgres", "mariadb"]
SECRET = "s3cr3t-of-the-test"  # noqa: S105 (it protects nothing)


@pytest.fixture(params=SERVERS)
def url(request: pytest.FixtureRequest) -> str:
    return target(request.param)


@pytest.fixture
def name() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


def opened(url: str, name: str, **contract: Any) -> Any:
    how: dict[str, Any] = {"name": name, "create": "if_missing", "indexes": ["n"], "timeout": 30}
    return portable.open_collection(url, **{**how, **contract})


# ---------------------------------------------------------------------- the server dies


@pytest.mark.timeout(400)
@pytest.mark.parametrize("service", SERVERS)
def test_the_server_is_killed_under_load(service: str) -> None:
    total, at_once = 10_000, 50
    stored: list[str] = []
    moved = 0
    done = threading.Event()
    with own(service) as server, opened(server.url, "users") as users:
        users.write_many([Put({"id": "from", "n": 0}), Put({"id": "to", "n": 0})])

        def store(start: int) -> None:
            for number in range(start, total, at_once * 3):
                keys = [f"k{one}" for one in range(number, number + at_once)]
                writes = [Put({"id": key, "n": -1, "text": "x" * 200}) for key in keys]
                persistently(lambda writes=writes: users.write_many(writes))  # type: ignore[misc]  # the default binds it
                stored.extend(keys)

        def transfer() -> int:
            number = 0
            while not done.is_set():
                number += 1
                with contextlib.suppress(Unavailable, DeadlineExceeded):
                    users.transact(
                        [
                            Update("from", increment={"n": -1}),
                            Update("to", increment={"n": 1}),
                            Create({"id": f"transfer{number}", "n": -2}),
                        ]
                    )
            return number

        with ThreadPoolExecutor(4) as threads:
            storing = [threads.submit(store, start * at_once) for start in range(3)]
            transferring = threads.submit(transfer)
            try:
                for share in (0.3, 0.7):
                    wait_until(lambda share=share: len(stored) >= total * share)  # type: ignore[misc]  # the default binds it
                    server.kill()
                    server.ready()
                for one in storing:
                    one.result(PATIENCE)
            finally:
                done.set()
            tried = transferring.result(PATIENCE)
        assert len(stored) == total
        found = persistently(lambda: users.get_many(stored))
        assert len(found) == total
        assert users.where("n", "==", -1).count() == total
        # What is done is done whole: both sides, the note of it, and the index.
        ends = users.get_many(["from", "to"])
        moved = ends["to"].data["n"]
        assert ends["from"].data["n"] == -moved
        assert users.where("n", "==", -2).count() == moved
        assert 0 < moved <= tried


# ---------------------------------------------------------------------- the connection breaks


class Cut:
    """Passes bytes between clients and a server; cuts the connection that a client sends some word on, once.

    Args:
        url: of the server.
        answered: whether the server gets what holds the word, and answers to nobody.
    """

    def __init__(self, url: str, *, answered: bool) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname, parts.port)
        self.answered = answered
        self._word = b""
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.url = urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}"))
        self.cuts = 0
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def on(self, word: bytes) -> None:
        # PyMySQL quotes what it sends.
        self._word = word.replace(b'"', b'\\"') if self.url.startswith("mysql") else word
        self.cuts = 0

    def on_commit(self) -> None:
        # Not on the level of isolation, in which transactions begin.
        self.on(b"COMMIT" if self.url.startswith("mysql") else b"COMMIT\0")

    def close(self) -> None:
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._open += [client, server]
                cut = threading.Event()
                threading.Thread(target=self._forward, args=(client, server, cut), daemon=True).start()
                threading.Thread(target=self._backward, args=(server, client, cut), daemon=True).start()

    def _forward(self, client: socket.socket, server: socket.socket, cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                if self._word and self._word in data:
                    self._word = b""
                    self.cuts += 1
                    cut.set()
                    if not self.answered:
                        break
                server.sendall(data)
            self._end(client, server)

    def _backward(self, server: socket.socket, client: socket.socket, cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                if cut.is_set():
                    break
                client.sendall(data)
            self._end(client, server)

    def _end(self, *both: socket.socket) -> None:
        for one in both:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


@pytest.fixture(params=[True, False], ids=["answer lost", "question lost"])
def cut(request: pytest.FixtureRequest, url: str) -> Iterator[Cut]:
    proxy = Cut(url, answered=request.param)
    try:
        yield proxy
    finally:
        proxy.close()


def test_a_write_whose_answer_is_lost_is_done_once(cut: Cut, name: str) -> None:
    with opened(cut.url, name) as users:
        users.write_many([Put({"id": "counter-of-the-test", "n": 0}), Put({"id": "guarded-in-the-test", "n": 0})])
        seen = users.get("guarded-in-the-test")
        cut.on(b"created-by-the-test")
        made = users.create({"id": "created-by-the-test", "n": 7})
        assert cut.cuts == 1
        assert users.get("created-by-the-test").revision == made.revision
        with pytest.raises(AlreadyExists):
            users.create({"id": "created-by-the-test"})
        # The first statement is the look at it; what is cut is the change.
        for times in (1, 2):
            cut.on(b'"n":%d' % times)
            assert users.update("counter-of-the-test", increment={"n": 1}).data["n"] == times
            assert cut.cuts == 1
        cut.on(b'"n":55')
        put = users.put({"id": "guarded-in-the-test", "n": 55}, if_revision=seen.revision)
        assert cut.cuts == 1
        assert users.get("guarded-in-the-test").revision == put.revision
        with pytest.raises(PreconditionFailed):
            users.put({"id": "guarded-in-the-test", "n": 55}, if_revision=seen.revision)
        assert {one.data["n"] for one in users.query(allow_scan=True)} == {2, 55, 7}


def test_a_transaction_whose_commit_is_lost(cut: Cut, name: str) -> None:
    with opened(cut.url, name) as users:
        users.put({"id": "counter", "n": 0})
        cut.on_commit()
        writes = [Update("counter", increment={"n": 1}), Create({"id": "other", "n": 5})]
        if cut.answered:
            users.transact(writes)
            assert users.get("other").data["n"] == 5
        else:
            # That the server never got it, nobody can know here.
            with pytest.raises(Unavailable) as caught:
                users.transact(writes)
            assert caught.value.maybe_applied
            with pytest.raises(NotFound):
                users.get("other")
        assert cut.cuts == 1
        assert users.get("counter").data["n"] == int(cut.answered)


def test_reads_and_plain_writes_are_repeated(cut: Cut, name: str) -> None:
    with opened(cut.url, name) as users:
        users.write_many(Put({"id": f"k{i}", "n": i}) for i in range(10))
        cut.on(b"SELECT")
        assert len(users.get_many([f"k{i}" for i in range(10)])) == 10
        cut.on(b"put-by-the-test")
        users.put({"id": "put-by-the-test", "n": 1})
        cut.on(b"DELETE")
        users.delete("put-by-the-test")
        cut.on(b"SELECT")
        assert users.where("n", ">=", 5).count() == 5
        assert cut.cuts == 1


def test_a_removal_that_may_have_happened_says_so(cut: Cut, name: str) -> None:
    with opened(cut.url, name) as users:
        seen = users.put({"id": "a", "n": 1})
        cut.on(b"DELETE")
        with pytest.raises(Unavailable) as caught:
            users.delete("a", if_revision=seen.revision)
        assert caught.value.maybe_applied
        assert (users.get_many(["a"]) == {}) is cut.answered


# ---------------------------------------------------------------------- who may not, and who is not there


def test_wrong_password(url: str, name: str) -> None:
    parts = urlsplit(url)
    there = urlunsplit(parts._replace(netloc=f"{parts.username}:{SECRET}@{parts.hostname}:{parts.port}"))
    with opened(there, name) as users:
        with pytest.raises(Unauthenticated) as caught:
            users.get("a")
        told = [str(caught.value), repr(caught.value), str(caught.value.__cause__), repr(users), users.url]
        assert not [text for text in told if SECRET in text]
        assert not caught.value.retryable
        assert caught.value.resource == name


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_nobody_there(scheme: str, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"{scheme}://app@127.0.0.1:{taken.getsockname()[1]}/app"
        with opened(url, name, timeout=2) as users, pytest.raises((Unavailable, DeadlineExceeded)) as caught:
            users.get("a")
        assert not caught.value.maybe_applied


def test_what_nobody_made(url: str, name: str) -> None:
    with opened(url, name, create="never") as users, pytest.raises(ResourceNotFound, match="portable resources create"):
        users.check()


# ---------------------------------------------------------------------- many at once

OPEN = """
import os
import sys
import portable
from portable.documents import Create, Put, Update
from portable.errors import AlreadyExists, PreconditionFailed

users = portable.open_collection(
    os.environ["TEST_URL"], name=sys.argv[1], create="if_missing", indexes=["n"], timeout=60
)
"""

RACE = """
won = []
for i in range(25):
    users.update("counter", increment={"n": 1})
    try:
        users.create({"id": f"prize{i}", "n": -1})
        won.append(i)
    except AlreadyExists:
        pass
    while True:
        seen = users.get("guarded")
        try:
            users.put({"id": "guarded", "n": seen.data["n"] + 1}, if_revision=seen.revision)
            break
        except PreconditionFailed:
            pass
print(*won)
"""

TRANSFER = """
number = 0
while True:
    number += 1
    users.transact([
        Update("from", increment={"n": -1}),
        Update("to", increment={"n": 1}, set={"last": number}),
        Create({"id": f"transfer{sys.argv[2]}-{number}", "n": number}),
    ])
    print(number, flush=True)
"""


def start(script: str, url: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OPEN + script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TEST_URL": url},
    )


def finished(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return out.split()


def test_many_processes_on_one_collection(url: str, name: str) -> None:
    with opened(url, name) as users:
        users.write_many([Put({"id": "counter", "n": 0}), Put({"id": "guarded", "n": 0})])
        processes = [start(RACE, url, name) for _ in range(4)]
        won = [prize for process in processes for prize in finished(process)]
        assert sorted(map(int, won)) == list(range(25))
        assert users.get("counter").data["n"] == 100
        assert users.get("guarded").data["n"] == 100
        assert users.where("n", "==", 100).count() == 2
        assert users.where("n", "==", -1).count() == 25


def test_a_killed_process_leaves_whole_transactions(url: str, name: str) -> None:
    with opened(url, name) as users:
        users.transact([Create({"id": "from", "n": 0}), Create({"id": "to", "n": 0})])
        total = 0
        for turn in range(3):
            process = start(TRANSFER, url, name, turn)
            assert process.stdout is not None
            done = 0
            for _ in range(10 + turn):
                done = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            # What was printed before the end is still in the pipe.
            done = max([done, *map(int, process.stdout.read().split())])
            process.communicate(timeout=60)
            # A write of ours waits for what the dead one still has locked.
            users.update("to", set={"turn": turn})
            found = users.get_many(["from", "to"])
            moved = found["to"].data["n"]
            assert found["from"].data["n"] == -moved
            # What was said to be done is there; one more may be, whose word was lost.
            assert moved - total in {done, done + 1}
            assert users.where("id", "prefix", f"transfer{turn}-", allow_scan=True).count() == moved - total
            total = moved


def test_threads_share_few_connections(url: str, name: str) -> None:
    with opened(url, name, max_connections=4) as users:
        users.put({"id": "counter", "n": 0})

        def work(number: int) -> int:
            for i in range(5):
                users.update("counter", increment={"n": 1})
                users.put({"id": f"k{number}-{i}", "n": -number})
            found: int = users.where("n", "==", -number).count()
            return found

        with ThreadPoolExecutor(40) as threads:
            assert list(threads.map(work, range(1, 41))) == [5] * 40
        assert users.get("counter").data["n"] == 200


def test_batches_that_meet_in_opposite_orders(url: str, name: str) -> None:
    keys = [f"k{i:02}" for i in range(30)]
    with opened(url, name) as users:

        def work(turn: int) -> None:
            mine = keys if turn % 2 else keys[::-1]
            if turn % 3 == 0:
                users.write_many(Put({"id": key, "n": turn}) for key in mine)
            elif turn % 3 == 1:
                users.write_many([Create({"id": key, "n": turn}) for key in mine], return_errors=True)
            else:
                users.transact([Update(key, increment={"count": 1}) for key in mine])

        users.write_many(Put({"id": key, "n": -1}) for key in keys)
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda turn: persistently(lambda: work(turn)), range(36)))
        assert len(users.get_many(keys)) == 30
        assert len({one.data.get("count") for one in users.query(allow_scan=True)}) == 1


def test_what_must_be_missing_stays_so_until_the_end(url: str, name: str) -> None:
    """Two that each check that the other's document is missing: one at most may win."""
    with opened(url, name) as users, opened(url, name) as others, ThreadPoolExecutor(2) as threads:
        for turn in range(15):
            a, b = f"a{turn}", f"b{turn}"
            gate = threading.Barrier(2)

            def attempt(collection: Any, mine: str, theirs: str, gate: threading.Barrier = gate) -> bool:
                gate.wait(PATIENCE)
                try:
                    persistently(lambda: collection.transact([Check(theirs), Create({"id": mine, "n": 1})]))
                except PreconditionFailed:
                    return False
                return True

            one, two = threads.submit(attempt, users, a, b), threads.submit(attempt, others, b, a)
            won = [one.result(PATIENCE), two.result(PATIENCE)]
            assert sum(won) == 1
            assert len(users.get_many([a, b])) == 1


def test_a_forked_child_goes_on_by_itself(url: str, name: str) -> None:
    with opened(url, name) as users:
        users.put({"id": "a", "n": 0})
        for _ in range(3):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    users.update("a", increment={"n": 1})
                    status = 0 if users.where("n", ">", 0).count() == 1 else 2
                finally:
                    os._exit(status)
            users.update("a", increment={"n": 1})
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert users.get("a").data["n"] == 6


def test_a_cancelled_call_leaves_the_old_state_or_the_new(url: str, name: str) -> None:
    async def main() -> None:
        async with aio.open_collection(url, name=name, create="if_missing", indexes=["n"]) as users:
            await users.transact([Create({"id": "a", "n": 0}), Create({"id": "b", "n": 0})])
            for turn in range(20):
                transfer = asyncio.create_task(
                    users.transact([Update("a", increment={"n": -1}), Update("b", increment={"n": 1})])
                )
                for _ in range(turn % 7):
                    await asyncio.sleep(0)
                transfer.cancel()
                await asyncio.gather(transfer, return_exceptions=True)

    asyncio.run(main())
    # Closing waited for what the threads still carried out.
    with opened(url, name) as users:
        found = users.get_many(["a", "b"])
        moved = found["b"].data["n"]
        assert found["a"].data["n"] == -moved
        assert users.where("n", "==", moved).count() == (1 if moved else 2)


def test_handles_that_add_indexes_while_others_write(url: str, name: str) -> None:
    with opened(url, name) as users:
        users.write_many(Put({"id": f"k{i}", "n": i, "a": 1, "b": 2}) for i in range(1000))
        stop = threading.Event()

        def write() -> int:
            number = 0
            while not stop.is_set() or number < 50:
                users.put({"id": f"new{number}", "n": number, "a": 1, "b": 2})
                number += 1
            users.write_many([Delete("k0"), Update("k1", set={"a": 3})])
            return number

        with ThreadPoolExecutor(1) as threads:
            writing = threads.submit(write)
            try:
                with opened(url, name, indexes=["n", "a"]) as one, opened(url, name, indexes=["b", ["a", "b"]]) as two:
                    one.get("k5")
                    two.get("k5")
                    stop.set()
                    written = writing.result(PATIENCE)
                    assert one.where("a", "==", 1).count() == 1000 - 2 + written
                    assert two.where("b", "==", 2).count() == 1000 - 1 + written
                    assert two.where("a", "==", 1).where("b", "==", 2).count() == 1000 - 2 + written
            finally:
                stop.set()
