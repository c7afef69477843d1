"""Buckets under processes that compete and die, forks, full disks, and cancelled callers."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import portable.aio.cloud
from portable.cloud import open_bucket
from portable.errors import DeadlineExceeded, LimitExceeded, PreconditionFailed
from portable_embedded.file_bucket import FileBucket
from portable_embedded.file_locks import Stripes
from tests.forks import in_child

RACE = """
import sys
from portable.cloud import open_bucket
from portable.errors import AlreadyExists, PreconditionFailed
with open_bucket(sys.argv[1], durability="process") as bucket:
    print("ready", flush=True)
    sys.stdin.readline()
    won = 0
    for number in range(50):
        try:
            bucket.put(f"new/{number}", sys.argv[2].encode(), if_absent=True)
            won += 1
        except AlreadyExists:
            pass
    added = 0
    while added < 50:
        info = bucket.head("counter")
        count = int(bucket.get("counter"))
        try:
            bucket.put("counter", b"%d" % (count + 1), if_match=info.etag)
            added += 1
        except PreconditionFailed:
            pass
    print(won, flush=True)
"""

WRITE = """
import sys
from portable.cloud import open_bucket
with open_bucket(sys.argv[1], durability="process") as bucket:
    number = 0
    while True:
        number += 1
        letter = b"%d" % (number % 10)
        def pieces():
            for _ in range(12):
                yield letter * 500_000
        bucket.put("a/large", pieces(), metadata={"letter": letter.decode()})
        bucket.put("a/small", letter * 3000, metadata={"letter": letter.decode()})
        bucket.put("a", letter, metadata={"letter": letter.decode()})
        bucket.delete("a")
        print(number, flush=True)
"""

UPLOAD = """
import sys, threading
from portable.cloud import open_bucket
with open_bucket(sys.argv[1], durability="process") as bucket:
    def told(done, total):
        if done >= total // 2:
            print("half", flush=True)
            threading.Event().wait()
    bucket.upload(sys.argv[2], "key", progress=told)
"""

CHURN = """
import sys
from portable.cloud import open_bucket
with open_bucket(sys.argv[1], durability="process") as bucket:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(60):
        for key in (f"a/b/{sys.argv[2]}", f"a/b/c/{sys.argv[2]}", f"{sys.argv[2]}/a"):
            bucket.put(key, b"x")
            bucket.delete(key)
        bucket.put(f"kept/{number}/{sys.argv[2]}", b"x")
    print("done", flush=True)
"""


# The children do nothing that the threads which they do not have could keep from them.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file:{tmp_path / 'root'}"


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def finish(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    assert process.wait(60) == 0


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_conditions_hold_between_processes(url: str) -> None:
    with open_bucket(url, durability="process") as bucket:
        bucket.put("counter", b"0")
        processes = [start(RACE, url, str(number)) for number in range(4)]
        assert [line(process) for process in processes] == ["ready"] * 4
        for process in processes:
            go(process)
        won = [int(line(process)) for process in processes]
        for process in processes:
            finish(process)
        assert sum(won) == 50
        assert bucket.get("counter") == b"200"
        owners = bucket.get_many([f"new/{number}" for number in range(50)])
        assert [owners.count(b"%d" % number) for number in range(4)] == won


def test_folders_come_and_go_between_processes(url: str) -> None:
    processes = [start(CHURN, url, str(number)) for number in range(3)]
    assert [line(process) for process in processes] == ["ready"] * 3
    for process in processes:
        go(process)
    assert [line(process) for process in processes] == ["done"] * 3
    for process in processes:
        finish(process)
    with open_bucket(url) as bucket:
        kept = [item.key for item in bucket.list()]
    assert sorted(kept) == sorted(f"kept/{number}/{owner}" for number in range(60) for owner in range(3))


@pytest.mark.parametrize("after", range(4))
def test_a_killed_writer_leaves_whole_objects(url: str, after: int) -> None:
    writer = start(WRITE, url)
    for _ in range(after + 1):
        assert line(writer)
    with open_bucket(url, durability="process") as bucket:
        # Somewhere within the next round: readers meanwhile see whole objects only.
        for _ in range(5 * after):
            check_whole(bucket, "a/large", 6_000_000)
        kill(writer)
        check_whole(bucket, "a/large", 6_000_000)
        check_whole(bucket, "a/small", 3000)
        assert {item.key for item in bucket.list()} <= {"a", "a/large", "a/small"}
        # What it held is free again.
        for key in ("a", "a/large", "a/small"):
            bucket.put(key, b"new", timeout=30)
            bucket.delete(key)
        assert list(bucket.list()) == []


def check_whole(bucket: Any, key: str, size: int) -> None:
    while True:
        try:
            with bucket.open(key) as reader:
                data = reader.read()
        except PreconditionFailed:
            continue
        assert data == reader.info.metadata["letter"].encode() * size
        return


def test_an_upload_of_a_killed_process_goes_on(url: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(20_000_000))
    process = start(UPLOAD, url, str(path))
    assert line(process) == "half"
    kill(process)
    told: list[int] = []
    with open_bucket(url, durability="process") as bucket:
        assert not bucket.exists("key")
        info = bucket.upload(path, "key", progress=lambda done, _: told.append(done))
        assert info.size == 20_000_000
        assert bucket.get("key") == path.read_bytes()
    # The first that is told counts what was there, part by part; fewer were sent than there are.
    assert told[-1] == 20_000_000
    assert list(tmp_path.joinpath("root", ".portable", "tmp").iterdir()) == []
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "root"]


FULL = """
import resource, signal, sys
from portable.cloud import open_bucket
from portable.errors import PortableError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with open_bucket(sys.argv[1], durability="process") as bucket:
    bucket.put("key", b"old")
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    for data in (b"x" * 200_000, [b"x" * 200_000] * 100, b"x" * 9_000_000):
        try:
            bucket.put("key", data)
        except PortableError as error:
            print(type(error).__name__, flush=True)
    bucket.put("other", b"fits")
"""


def test_a_disk_that_takes_no_more_keeps_the_old_object(url: str, tmp_path: Path) -> None:
    process = start(FULL, url)
    said = [line(process) for _ in range(3)]
    finish(process)
    assert said == [LimitExceeded.__name__] * 3
    with open_bucket(url) as bucket:
        assert bucket.get("key") == b"old"
        assert bucket.get("other") == b"fits"
    assert list(tmp_path.joinpath("root", ".portable", "tmp").iterdir()) == []


def test_a_forked_child_has_locks_of_its_own(url: str) -> None:
    with open_bucket(url, durability="process") as bucket:
        bucket.put("key", b"parent")
        assert in_child(lambda: _put_and_check(bucket)) == 0
        assert bucket.get("key") == b"child"
        bucket.put("key", b"parent", if_match=bucket.head("key").etag)


def _put_and_check(bucket: Any) -> None:
    assert bucket.get("key") == b"parent"
    bucket.put("key", b"child", if_match=bucket.head("key").etag)
    assert [item.key for item in bucket.list()] == ["key"]


def test_a_fork_while_others_write_never_hangs(url: str, tmp_path: Path) -> None:
    with open_bucket(url, durability="process") as bucket:
        bucket.put("key", b"")
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                bucket.put("key", b"parent")

        writers = [threading.Thread(target=write) for _ in range(3)]
        for writer in writers:
            writer.start()
        try:
            for _ in range(10):
                assert in_child(partial(bucket.put, "key", b"child", timeout=60)) == 0
        finally:
            stop.set()
            for writer in writers:
                writer.join()


def test_a_child_does_not_keep_what_its_parent_held(tmp_path: Path) -> None:
    stripes = Stripes(tmp_path)
    held = stripes.acquire("key", 1)

    def work() -> None:
        other = Stripes(tmp_path)
        try:
            other.acquire("key", 0.01)
        except DeadlineExceeded:
            stripes.forget()
            stripes.close()
            return
        raise AssertionError("the parent's lock did not hold in the child")

    assert in_child(work) == 0
    stripes.release(held)
    other = Stripes(tmp_path)
    other.release(other.acquire("key", 1))
    other.close()
    stripes.close()


@pytest.mark.anyio
async def test_a_cancelled_put_leaves_old_or_new(url: str, tmp_path: Path) -> None:
    size = 30_000_000
    async with portable.aio.cloud.open_bucket(url, durability="process") as bucket:
        await bucket.put("key", b"old")
        begun = asyncio.Event()

        async def pieces() -> Any:
            for _ in range(30):
                yield b"x" * (size // 30)
                begun.set()

        for source in (pieces(), b"x" * size):
            begun.clear()
            task = asyncio.create_task(bucket.put("key", source))
            if isinstance(source, bytes):
                await asyncio.sleep(0)
            else:
                await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert (await bucket.get("key"))[:3] in {b"old", b"xxx"}
            assert (await bucket.head("key")).size in {3, size}
        assert [item.key async for item in bucket.list()] == ["key"]
        with pytest.raises(DeadlineExceeded):
            await bucket.put("other", _endless(), timeout=0.1)
        assert not await bucket.exists("other")


async def _endless() -> Any:
    while True:
        yield b"x" * 1000
        await asyncio.sleep(0)


@pytest.mark.anyio
async def test_a_cancelled_upload_and_download_go_on(url: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(20_000_000))
    async with portable.aio.cloud.open_bucket(url, durability="process") as bucket:
        for transfer in (partial(bucket.upload, path, "key"), partial(bucket.download, "key", tmp_path / "down")):
            await _cancelled(transfer)
            await transfer()
    assert tmp_path.joinpath("down").read_bytes() == path.read_bytes()
    assert _names(tmp_path) == ["down", "file", "root"]


async def _cancelled(transfer: Any) -> None:
    loop = asyncio.get_running_loop()
    begun = asyncio.Event()
    task = asyncio.create_task(transfer(progress=lambda *_: loop.call_soon_threadsafe(begun.set)))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def _names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_a_thousand_threads_share_a_bucket(url: str) -> None:
    with open_bucket(url, durability="process") as bucket:
        failed: list[BaseException] = []

        def work(number: int) -> None:
            try:
                bucket.put(f"{number % 10}/{number}", b"%d" % number)
                assert bucket.get(f"{number % 10}/{number}") == b"%d" % number
            except BaseException as error:
                failed.append(error)
                raise

        threads = [threading.Thread(target=work, args=(number,)) for number in range(1000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert sum(1 for _ in bucket.list()) == 1000
        assert isinstance(bucket._driver, FileBucket)
