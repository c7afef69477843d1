"""The SQLite store when processes die, disks fill, files rot and many processes want the same lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from portable import errors
from portable_embedded.store import Schema, Store

SCHEMA = Schema(
    name="test",
    version=1,
    statements=(
        "CREATE TABLE entry (id INTEGER PRIMARY KEY, data BLOB)",
        "CREATE TABLE counter (n INTEGER NOT NULL)",
        "INSERT INTO counter VALUES (0)",
    ),
)
PRELUDE = """
import os, sqlite3, sys, threading
from pathlib import Path
from portable import errors
from portable_embedded.store import Schema, Store

def opened(path, durability="process"):
    return Store.open(Path(path), durability=durability, create=True, schema=Schema("test", 1, (
        "CREATE TABLE entry (id INTEGER PRIMARY KEY, data BLOB)",
        "CREATE TABLE counter (n INTEGER NOT NULL)",
        "INSERT INTO counter VALUES (0)",
    )))
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return out


INCREMENT = """
store = opened(sys.argv[1])

def increment(connection):
    n = connection.execute("SELECT n FROM counter").fetchone()[0]
    connection.execute("UPDATE counter SET n = ?", (n + 1,))

def run():
    for _ in range(25):
        store.write(increment)
        store.execute("UPDATE counter SET n = n + 1")

threads = [threading.Thread(target=run) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
store.close()
print("done")
"""


def test_many_processes_make_and_count_one_file_exactly(tmp_path: Path) -> None:
    """All of them also race to make the file, and each gets through."""
    path = tmp_path / "app.db"
    processes = [start(INCREMENT, path) for _ in range(8)]
    assert [finished(process) for process in processes] == ["done\n"] * 8
    with closing(Store.open(path, durability="process", schema=SCHEMA, create=False)) as store:
        assert store.fetch("SELECT n FROM counter") == [(8 * 2 * 50,)]


COMMIT = """
store = opened(sys.argv[1], sys.argv[2])

def run():
    while True:
        rows = store.execute("INSERT INTO entry (data) VALUES (zeroblob(3000)) RETURNING id")
        rows += store.write(lambda c: [
            c.execute("INSERT INTO entry (data) VALUES (zeroblob(300)) RETURNING id").fetchone() for _ in range(2)
        ])
        os.write(1, "".join(f"{id}\\n" for id, in rows).encode())

for _ in range(3):
    threading.Thread(target=run).start()
"""


@pytest.mark.parametrize("durability", ["power", "process"])
def test_sigkill_loses_nothing_committed_and_leaves_no_lock(tmp_path: Path, durability: str) -> None:
    path = tmp_path / "app.db"
    for round_ in range(4):
        process = start(COMMIT, path, durability)
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(30 + 40 * round_)]
        process.send_signal(signal.SIGKILL)
        # The last line may be cut by the kill; every whole one was committed before it was written. What was read ahead
        # is not in what `communicate` gives.
        told += [int(line) for line in process.stdout.read().split("\n")[:-1]]
        process.communicate(timeout=60)
        with closing(Store.open(path, durability="process", schema=SCHEMA, create=False)) as store:
            stored = {row[0] for row in store.fetch("SELECT id FROM entry")}
            assert set(told) <= stored
            assert len(set(told)) == len(told)
            assert store.execute("DELETE FROM entry RETURNING 1", timeout=30.0) != []
            assert store.fetch("PRAGMA integrity_check") == [("ok",)]


FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = opened(sys.argv[1])
store.execute("INSERT INTO entry (data) VALUES (zeroblob(1000))")
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, hard))
many = "INSERT INTO entry (data) VALUES (zeroblob(1000000))"
for call in (lambda: store.execute(many), lambda: store.write(lambda connection: connection.execute(many))):
    try:
        call()
    except errors.Unavailable as error:
        assert "disk is full" in str(error) and sys.argv[1] in str(error) and error.retryable, error
    else:
        raise SystemExit("it fitted")
assert store.fetch("SELECT count(*) FROM entry") == [(1,)]
store.execute("INSERT INTO entry (data) VALUES (zeroblob(1000))")
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
store.execute(many)
store.close()
print("done")
"""


def test_a_full_disk_is_said_and_costs_only_what_did_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    assert finished(start(FULL, path)) == "done\n"
    with closing(Store.open(path, durability="process", schema=SCHEMA, create=False)) as store:
        assert store.fetch("SELECT length(data) FROM entry ORDER BY id") == [(1000,), (1000,), (1000000,)]
        assert store.fetch("PRAGMA integrity_check") == [("ok",)]


def test_a_full_quota_fails_the_one_that_does_not_fit(tmp_path: Path) -> None:
    with closing(Store.open(tmp_path / "app.db", durability="process", schema=SCHEMA, create=True)) as store:
        pages = store.write(lambda connection: connection.execute("PRAGMA page_count").fetchone()[0])
        store.write(lambda connection: connection.execute(f"PRAGMA max_page_count = {pages + 20}").fetchone())
        with pytest.raises(errors.Unavailable, match="full"):
            store.execute("INSERT INTO entry (data) VALUES (zeroblob(1000000))")
        store.execute("INSERT INTO entry (data) VALUES (zeroblob(1000))")
        assert store.fetch("SELECT length(data) FROM entry") == [(1000,)]


READ_ONLY = """
import tempfile
folder = Path(tempfile.mkdtemp())
path = folder / "app.db"
opened(path).close()
os.chmod(path, 0o444)
os.chmod(folder, 0o555)
if os.geteuid() == 0:
    # Permissions do not bind the superuser.
    os.setuid(65534)
try:
    for target in (path, folder / "new.db", folder / "new" / "app.db"):
        try:
            opened(target)
        except errors.PermissionDenied as error:
            assert str(target) in str(error) and "writable" in str(error), error
        else:
            raise SystemExit(f"{target} opened")
    print("done", path.read_bytes()[:15], os.listdir(folder), folder, sep="|")
finally:
    sys.stdout.flush()
"""


def test_a_read_only_file_or_folder_is_said(tmp_path: Path) -> None:
    done, magic, names, folder = finished(start(READ_ONLY)).strip().split("|")
    Path(folder).chmod(0o700)
    Path(folder, "app.db").unlink()
    Path(folder).rmdir()
    assert (done, magic, names) == ("done", repr(b"SQLite format 3"), "['app.db']")


def test_a_damaged_file_is_said(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(Store.open(path, durability="process", schema=SCHEMA, create=True)) as store:
        for _ in range(50):
            store.execute("INSERT INTO entry (data) VALUES (zeroblob(2000))")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(size - 4096))
    with (
        pytest.raises(errors.IntegrityError, match=r"app\.db is damaged"),
        closing(Store.open(path, durability="process", schema=SCHEMA, create=True)) as store,
    ):
        store.fetch("SELECT sum(length(data)) FROM entry")
    assert path.stat().st_size == size
