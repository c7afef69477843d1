"""Collections in one SQLite file when many processes write, processes die, fork or are cancelled."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import portable
from portable import aio
from portable.documents import Check, Create, Put, Update
from portable.errors import NotFound, PreconditionFailed

OPEN = """
import sys
import portable
from portable.documents import Check, Create, Put, Update
from portable.errors import AlreadyExists, PreconditionFailed

users = portable.open_collection(f"sqlite:{sys.argv[1]}", name="users", durability="process", indexes=["n"])
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OPEN + script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> list[str]:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return out.split()


def opened(path: Path, **contract: Any) -> Any:
    return portable.open_collection(
        f"sqlite:{path}", **{"name": "users", "durability": "process", "indexes": ["n"], **contract}
    )


RACE = """
won = []
for i in range(40):
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


def test_many_processes_on_one_file(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with opened(path) as users:
        users.write_many([Put({"id": "counter", "n": 0}), Put({"id": "guarded", "n": 0})])
        processes = [start(RACE, path) for _ in range(4)]
        won = [prize for process in processes for prize in finished(process)]
        assert sorted(map(int, won)) == list(range(40))
        assert users.get("counter").data["n"] == 160
        assert users.get("guarded").data["n"] == 160
        assert users.where("n", "==", 160).count() == 2
        assert users.where("n", "==", -1).count() == 40


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


def test_a_killed_process_leaves_whole_transactions(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with opened(path) as users:
        users.transact([Create({"id": "from", "n": 0}), Create({"id": "to", "n": 0})])
        total = 0
        for turn in range(5):
            process = start(TRANSFER, path, turn)
            assert process.stdout is not None
            done = 0
            for _ in range(10 + turn):
                done = int(process.stdout.readline())
            os.kill(process.pid, signal.SIGKILL)
            # What was printed before the end is still in the pipe.
            done = max([done, *map(int, process.stdout.read().split())])
            process.communicate(timeout=60)
            found = users.get_many(["from", "to"])
            moved = found["to"].data["n"]
            assert found["from"].data["n"] == -moved
            # What was said to be done is there; one more may be, whose word was lost.
            assert moved - total in {done, done + 1}
            made = users.where("id", "prefix", f"transfer{turn}-", allow_scan=True).count()
            assert made == moved - total
            assert users.where("n", "==", moved - total).count() >= 1
            total = moved


FILL = """
users.close()
users = portable.open_collection(
    f"sqlite:{sys.argv[1]}", name="users", durability="process", indexes=["n", ["even", "n"], "name"]
)
from portable_embedded import sqlite_collection
sqlite_collection.FILLED_AT_ONCE = 20
print("ready", flush=True)
users.get("k0")
print("filled", flush=True)
"""


def test_a_process_killed_while_it_fills_an_index(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with opened(path) as users:
        users.write_many(Put({"id": f"k{i}", "n": i, "even": i % 2 == 0, "name": "x"}) for i in range(4000))
        process = start(FILL, path)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for i in range(40):
            users.update(f"k{i}", set={"name": "y"})
        os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=60)
        users.update("k40", set={"name": "y"})
        with opened(path, indexes=["n", ["even", "n"], "name"]) as richer:
            assert richer.where("name", "==", "y").count() == 41
            assert richer.where("name", "==", "x").count() == 3959
            assert richer.where("even", "==", True).count() == 2000


def test_processes_that_add_indexes_while_others_write(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with opened(path) as users:
        users.write_many(Put({"id": f"k{i}", "n": i, "a": 1, "b": 2}) for i in range(2000))
        writer = start("for i in range(300): users.put({'id': f'new{i}', 'n': i, 'a': 1, 'b': 2})", path)
        with opened(path, indexes=["n", "a"]) as one:
            one.get("k0")
            with opened(path, indexes=["n", "b", ["a", "b"]]) as other:
                other.get("k0")
                finished(writer)
                assert one.where("a", "==", 1).count() == 2300
                assert other.where("b", "==", 2).count() == 2300
                assert other.where("a", "==", 1).where("b", "==", 2).count() == 2300


def test_threads_share_a_collection(tmp_path: Path) -> None:
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(20):
                users.update("counter", increment={"n": 1})
                users.put({"id": f"k{number}-{i}", "n": -number})
            assert users.where("n", "==", -number).count() == 20
        except BaseException as error:  # noqa: BLE001 (told by the test's own thread)
            failed.append(error)

    with opened(tmp_path / "app.db") as users:
        users.put({"id": "counter", "n": 0})
        threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 17)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failed
        assert users.get("counter").data["n"] == 320


def test_a_forked_child_goes_on_by_itself(tmp_path: Path) -> None:
    with opened(tmp_path / "app.db") as users, portable.open_collection("memory:", name="mine") as mine:
        users.put({"id": "a", "n": 0})
        mine.put({"id": "a", "n": 0})
        for _ in range(5):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    users.update("a", increment={"n": 1})
                    mine.put({"id": "a", "n": 9})
                    status = 0 if users.where("n", ">", 0).count() == 1 else 2
                finally:
                    os._exit(status)
            users.update("a", increment={"n": 1})
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert users.get("a").data["n"] == 10
        assert mine.get("a").data["n"] == 0


def test_a_cancelled_call_leaves_the_old_state_or_the_new(tmp_path: Path) -> None:
    async def main() -> None:
        url = f"sqlite:{tmp_path / 'app.db'}"
        async with aio.open_collection(url, name="users", durability="process", indexes=["n"]) as users:
            await users.transact([Create({"id": "a", "n": 0}), Create({"id": "b", "n": 0})])
            for _ in range(30):
                transfer = asyncio.create_task(
                    users.transact([Update("a", increment={"n": -1}), Update("b", increment={"n": 1})])
                )
                await asyncio.sleep(0)
                transfer.cancel()
                await asyncio.gather(transfer, return_exceptions=True)

    asyncio.run(main())
    # Closing waited for what the threads still carried out.
    with opened(tmp_path / "app.db") as users:
        found = users.get_many(["a", "b"])
        moved = found["b"].data["n"]
        assert found["a"].data["n"] == -moved
        assert users.where("n", "==", moved).count() == (1 if moved else 2)


def test_a_check_sees_what_another_process_wrote(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with opened(path) as users:
        seen = users.create({"id": "a", "n": 0})
        finished(start("users.update('a', set={'n': 1})", path))
        try:
            users.transact([Check("a", seen.revision), Put({"id": "b"})])
        except PreconditionFailed:
            pass
        else:
            raise AssertionError("the check held over another process's write")
        try:
            users.get("b")
        except NotFound:
            return
        raise AssertionError("half of a transaction was done")
