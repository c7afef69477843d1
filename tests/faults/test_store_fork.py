"""The SQLite store over a fork: nobody hangs, nobody shares a connection, every commit counts once.

Each test forks in a process of its own, so that a hang is that process's and not the test run's.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
import os, signal, sqlite3, sys, threading, time
from pathlib import Path
from portable import errors
from portable_embedded.store import Schema, Store

path = Path(sys.argv[1])
schema = Schema("test", 1, ("CREATE TABLE counter (n INTEGER NOT NULL)", "INSERT INTO counter VALUES (0)"))
store = Store.open(path, durability="process", create=True, schema=schema)
ADD = "UPDATE counter SET n = n + 1"

def count():
    return store.fetch("SELECT n FROM counter")[0][0]

def forked(child):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # a hang ends as a signal that the parent sees
        code = 1
        try:
            child()
            code = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(code)
    return pid

def ended(pid):
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with {status}"
"""


def run(script: str, path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-X", "faulthandler", "-c", PRELUDE + script, str(path)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


FORKS_UNDER_LOAD = """
other = Store.open(path.with_name("other.db"), durability="power", create=True, schema=schema)
stop = threading.Event()
added = []

def write():
    n = 0
    while not stop.is_set():
        store.execute(ADD, notify="a")
        store.write(lambda connection: connection.execute(ADD), notify="a")
        n += 2
    added.append(n)

def write_other():
    while not stop.is_set():
        other.write(lambda connection: connection.execute(ADD) and None)

def read():
    while not stop.is_set():
        count()
        store.read(lambda connection: (count(), other.fetch("SELECT n FROM counter")), snapshot=True)

def wait():
    while not stop.is_set():
        store.news.wait("never", store.news.version("never"), 0.01)

threads = [threading.Thread(target=f) for f in (write, write, write, write_other, read, read, wait)]
for thread in threads:
    thread.start()

def child():
    store.execute(ADD, notify="a")
    store.write(lambda connection: connection.execute(ADD))
    assert count() > 0
    other.fetch("SELECT n FROM counter")
    store.close()
    other.close()
    assert threading.active_count() == 1

FORKS = 150
children = []
for _ in range(FORKS):
    children.append(forked(child))
    if len(children) == 4:
        ended(children.pop(0))
for pid in children:
    ended(pid)
stop.set()
for thread in threads:
    thread.join()
assert count() == sum(added) + 2 * FORKS, (count(), added)
assert store.fetch("PRAGMA integrity_check") == [("ok",)]
store.close()
other.close()
assert threading.active_count() == 1, threading.enumerate()
print("done")
"""


def test_forks_under_load_never_hang_and_lose_nothing(tmp_path: Path) -> None:
    assert run(FORKS_UNDER_LOAD, tmp_path / "app.db") == "done\n"


FORK_FROM_THREADS = """
def fork_often():
    for _ in range(20):
        ended(forked(lambda: store.execute(ADD)))
        store.execute(ADD)

threads = [threading.Thread(target=fork_often) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(count())
"""


def test_several_threads_may_fork(tmp_path: Path) -> None:
    assert run(FORK_FROM_THREADS, tmp_path / "app.db") == "120\n"


FORK_INSIDE = """
import signal
how = sys.argv[1].rsplit("-", 1)[1].removesuffix(".db")
children = []

def child_is_refused():
    signal.alarm(60)
    try:
        for call in (lambda: store.execute(ADD), count, lambda: store.write(lambda c: c.execute(ADD)),
                     lambda: Store.open(path, durability="power", create=True, schema=schema)):
            try:
                call()
            except errors.Closed as error:
                assert "forked in the middle" in str(error), error
            else:
                raise SystemExit("the child got through")
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)
    os._exit(0)

def work(connection):
    if how == "write":
        connection.execute(ADD)
    else:
        connection.execute("SELECT n FROM counter").fetchone()
    pid = os.fork()
    if pid == 0:
        try:
            connection.execute(ADD)
        except errors.Closed:
            return
        os._exit(2)
    children.append(pid)
    if how == "write":
        connection.execute(ADD)

parent = os.getpid()
try:
    if how == "write":
        store.write(work)
    else:
        store.read(work, snapshot=True)
except errors.Closed:
    assert os.getpid() != parent
    child_is_refused()
assert os.getpid() == parent
ended(children[0])
store.execute(ADD)
print(count())
"""


@pytest.mark.parametrize(("how", "expected"), [("write", "3\n"), ("read", "1\n")])
def test_a_fork_inside_a_work_is_the_parents_alone(tmp_path: Path, how: str, expected: str) -> None:
    assert run(FORK_INSIDE, tmp_path / f"app-{how}.db") == expected


FORK_WHILE_WAITING = """
import subprocess
code = ("import sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60);"
        "c.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read(); c.execute('COMMIT')")
pipe = subprocess.PIPE
with subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=pipe, stdout=pipe) as process:
    assert process.stdout.readline() == b"held\\n"
    writers = [threading.Thread(target=store.execute, args=(ADD,), kwargs={"timeout": 90.0}) for _ in range(3)]
    for writer in writers:
        writer.start()
    while not store._commits._lead.locked():
        time.sleep(0.001)
    for _ in range(10):
        ended(forked(lambda: count()))
    assert all(writer.is_alive() for writer in writers)
    process.stdin.close()
    for writer in writers:
        writer.join()
print(count())
"""


def test_a_fork_does_not_wait_for_a_lock_of_another_process(tmp_path: Path) -> None:
    assert run(FORK_WHILE_WAITING, tmp_path / "app.db") == "3\n"


CHILD_WAITS = """
# The first look of the watching thread wakes everybody, so it must be over before somebody waits.
looked = threading.Event()
kept = store.news.subscribe("a", looked.set)
assert looked.wait(60)
version = store.news.version("a")
waiting = threading.Thread(target=store.news.wait, args=("a", version, 60.0))
waiting.start()
while waiting.is_alive() and len(store.news._listeners["a"]) < 2:
    time.sleep(0.001)

def child():
    os.write(ready, b"x")
    version = store.news.version("a")
    while count() == 0:
        assert store.news.wait("a", version, 60.0)
        version = store.news.version("a")
    store.close()

go, ready = os.pipe()
pid = forked(child)
assert os.read(go, 1) == b"x"
store.execute(ADD, notify="a")
waiting.join()
ended(pid)
kept.close()
print(count())
"""


def test_the_child_waits_with_a_thread_of_its_own(tmp_path: Path) -> None:
    assert run(CHILD_WAITS, tmp_path / "app.db") == "1\n"


EXITS = """
import subprocess
pid = os.fork()
if pid == 0:
    sys.exit(0)
ended(pid)
store.execute(ADD)
pid = os.fork()
if pid == 0:
    count()
    sys.exit(0)  # leaves the store open
ended(pid)
print(count())
"""


def test_a_child_that_ends_without_closing_harms_nobody(tmp_path: Path) -> None:
    assert run(EXITS, tmp_path / "app.db") == "1\n"
