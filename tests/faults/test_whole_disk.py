"""Files that are full, damaged, locked, of a newer release or not ours to read: said clearly, and left as they are."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import portable
from portable import errors

# One small use and one large one a kind: how it is written, how it is read back.
USES = """
import portable

def opened(kind, url):
    options = {"topic": "events"} if kind == "subscription" else {}
    return getattr(portable, f"open_{kind}")(url, name="thing", **options)

def write(kind, thing, number, size):
    data = bytes([65 + number % 26]) * size
    if kind == "bucket":
        thing.put(str(number), data)
    elif kind == "queue":
        thing.send(data)
    elif kind == "topic":
        thing.publish(data)
    elif kind == "stream":
        thing.append(data, key="a")
    elif kind == "cache":
        thing.set(str(number), data)
    elif kind == "collection":
        thing.put({"id": str(number), "data": data})
    else:
        from sqlalchemy import text
        with thing.begin() as connection:
            connection.execute(text("CREATE TABLE IF NOT EXISTS entry (number INTEGER, data BLOB)"))
            connection.execute(text("INSERT INTO entry VALUES (:number, :data)"), {"number": number, "data": data})

def sizes(kind, thing):
    '''The sizes of what is there, by its number.'''
    def numbered(bodies):
        return {body[0] - 65: len(body) for body in bodies}

    if kind == "bucket":
        return {int(info.key): info.size for info in thing.list() if thing.get(info.key)}
    if kind == "queue":
        return numbered(message.body for message in thing.peek(100))
    if kind == "stream":
        return numbered(record.data for name in thing.partitions() for record in thing.read(name))
    if kind == "cache":
        return {int(key): len(value) for key, value in thing.get_many([str(n) for n in range(30)]).items()}
    if kind == "collection":
        return {int(one.key): len(one.data["data"]) for one in thing.query(allow_scan=True)}
    from sqlalchemy import text
    with thing.connect() as connection:
        return dict(connection.execute(text("SELECT number, length(data) FROM entry")).tuples().all())
"""

FULL = """
import os, resource, sys
from portable import errors

kind, url, path = sys.argv[1:]
thing = opened(kind, url)
for number in range(5):
    write(kind, thing, number, 1000)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
for number in (5, 6):
    try:
        write(kind, thing, number, 1_000_000)
    except errors.Unavailable as error:
        assert "disk is full" in str(error) and path in str(error), error
        assert error.retryable, error
    except errors.LimitExceeded as error:
        # A limit on the size of files is what the operating system says of a single one.
        assert kind == "bucket" and "no file of that size" in str(error), error
    except Exception as error:
        # SQLAlchemy's errors are the application's own.
        assert kind == "database" and "disk I/O error" in str(error), repr(error)
    else:
        raise SystemExit("it fitted")
assert sizes(kind, thing) == {number: 1000 for number in range(5)}, sizes(kind, thing)
write(kind, thing, 7, 1000)
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
write(kind, thing, 8, 1_000_000)
expected = {**{number: 1000 for number in (0, 1, 2, 3, 4, 7)}, 8: 1_000_000}
assert sizes(kind, thing) == expected, sizes(kind, thing)
thing.close()
with opened(kind, url) as again:
    assert sizes(kind, again) == expected
print("done")
"""

STORED = ["queue", "stream", "cache", "collection", "database"]


def run(script: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", USES + script, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("kind", ["bucket", *STORED])
def test_a_full_disk_costs_only_what_did_not_fit(tmp_path: Path, kind: str) -> None:
    path = tmp_path / ("photos" if kind == "bucket" else "app.db")
    url = f"{'file' if kind == 'bucket' else 'sqlite'}:{path}"
    assert run(FULL, kind, f"{url}?durability=process", path) == "done\n"
    if kind == "bucket":
        return
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_what_was_published_to_a_full_disk_reaches_nobody(tmp_path: Path) -> None:
    script = """
import resource, sys
from portable import errors
config = portable.Config.from_dict({
    "default_profile": "local", "profiles": {"local": {"default": "sqlite:app.db?durability=process"}},
    "resources": {
        "events": {"kind": "topic"}, "one": {"kind": "subscription", "topic": "events"},
        "two": {"kind": "subscription", "topic": "events"},
    },
}, sys.argv[1])
with portable.connect(config) as cloud:
    cloud.topic("events").publish(b"small")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, hard))
    try:
        cloud.topic("events").publish(bytes(1_000_000))
    except errors.Unavailable as error:
        assert "full" in str(error), error
    else:
        raise SystemExit("it fitted")
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    cloud.topic("events").publish(bytes(1_000_000))
    for name in ("one", "two"):
        got = cloud.subscription(name).receive(10) + cloud.subscription(name).receive(10, wait=0)
        assert sorted(len(message.body) for message in got) == [5, 1_000_000], got
print("done")
"""
    assert run(script, tmp_path) == "done\n"


KINDS = [*STORED, "topic", "subscription"]


def open_one(kind: str, path: Path, **options: Any) -> Any:
    if kind == "subscription":
        options["topic"] = "events"
    return getattr(portable, f"open_{kind}")(f"sqlite:{path}", name="thing", durability="process", **options)


def first_use(kind: str, thing: Any, timeout: float = 60.0) -> None:
    uses: dict[str, Callable[[], Any]] = {
        "queue": lambda: thing.send(b"1", timeout=timeout),
        "topic": lambda: thing.publish(b"1", timeout=timeout),
        "subscription": lambda: thing.send(b"1", timeout=timeout),
        "stream": lambda: thing.append(b"1", timeout=timeout),
        "cache": lambda: thing.set("a", 1, timeout=timeout),
        "collection": lambda: thing.put({"id": "a"}, timeout=timeout),
        "database": lambda: thing.check(write=True, timeout=timeout),
    }
    uses[kind]()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@pytest.fixture
def unchanged(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Call it once the folder is as it must stay."""
    before: list[dict[str, bytes]] = []
    yield lambda: before.append(contents(tmp_path))
    assert [contents(tmp_path)] * len(before) == before


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_no_database_is_said_and_untouched(
    tmp_path: Path, unchanged: Callable[[], None], kind: str
) -> None:
    path = tmp_path / "app.db"
    path.write_bytes(os.urandom(20_000))
    unchanged()
    with open_one(kind, path) as thing:
        for _ in range(2):
            with pytest.raises(errors.IntegrityError, match=r"app\.db") as caught:
                first_use(kind, thing)
            assert "not an SQLite database" in str(caught.value) or "not a database" in str(caught.value)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "database"])
def test_a_file_of_a_newer_release_is_said_and_untouched(
    tmp_path: Path, unchanged: Callable[[], None], kind: str
) -> None:
    path = tmp_path / "app.db"
    with open_one(kind, path) as thing:
        first_use(kind, thing)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE portable_schema SET version = version + 1000")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    unchanged()
    with open_one(kind, path) as thing, pytest.raises(errors.ConfigError, match="newer"):
        first_use(kind, thing)


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_in_the_place_of_the_file_is_said(tmp_path: Path, unchanged: Callable[[], None], kind: str) -> None:
    path = tmp_path / "app.db"
    path.mkdir()
    unchanged()
    with open_one(kind, path) as thing, pytest.raises(errors.PortableError, match=r"app\.db"):
        first_use(kind, thing)
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_in_the_place_of_the_folder_is_said(tmp_path: Path, unchanged: Callable[[], None], kind: str) -> None:
    (tmp_path / "folder").write_bytes(b"a file")
    unchanged()
    with open_one(kind, tmp_path / "folder" / "app.db") as thing, pytest.raises(errors.PortableError, match="folder"):
        first_use(kind, thing)


@pytest.mark.parametrize("kind", KINDS)
def test_a_locked_file_is_said_in_time_and_works_afterwards(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "app.db"
    options = {"busy_timeout": "200ms"} if kind == "database" else {}
    with open_one(kind, path, **options) as thing:
        first_use(kind, thing)
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises((errors.DeadlineExceeded, errors.Unavailable), match="locked") as caught:
                first_use(kind, thing, timeout=0.2)
            assert caught.value.retryable
            assert not caught.value.maybe_applied
            other.execute("ROLLBACK")
        first_use(kind, thing)


UNREADABLE = """
import os, sys
from pathlib import Path
from portable import errors

folder, kinds = Path(sys.argv[1]), sys.argv[2].split()
# What opening imports is imported while everything may be read.
for kind in kinds:
    with opened(kind, f"sqlite:{folder / 'app.db'}") as thing:
        write(kind, thing, 1, 10) if kind != "subscription" else thing.send(b"1")
(folder / "app.db").chmod(0)
folder.chmod(0o755)
if os.geteuid() == 0:
    # Permissions do not bind the superuser.
    os.setuid(65534)
for kind in kinds:
    thing = opened(kind, f"sqlite:{folder / 'app.db'}")
    try:
        write(kind, thing, 1, 10) if kind not in {"subscription", "database"} else thing.check()
    except errors.PermissionDenied as error:
        assert "app.db" in str(error), error
    else:
        raise SystemExit(f"{kind} was written")
print("done")
"""


def test_an_unreadable_file_is_said_and_untouched() -> None:
    import tempfile

    # The folders of pytest are its user's alone.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        assert run(UNREADABLE, folder, " ".join(KINDS)) == "done\n"
        path = folder / "app.db"
        path.chmod(0o600)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_damaged_pages_are_said_and_not_made_worse(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    for kind in KINDS:
        with open_one(kind, path) as thing:
            for _ in range(3):
                first_use(kind, thing)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(100)
        file.write(os.urandom(size - 100))
    damaged = path.read_bytes()
    for kind in KINDS:
        with open_one(kind, path) as thing, pytest.raises(errors.IntegrityError, match=r"app\.db"):
            first_use(kind, thing)
    assert path.read_bytes() == damaged
