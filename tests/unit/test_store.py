"""The SQLite store: opening, reading, and write transactions that threads share."""

from __future__ import annotations

import sqlite3
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from time import monotonic

import pytest

from portable import errors
from portable_embedded import commits, connections
from portable_embedded.store import Schema, Store

SCHEMA = Schema(
    name="test",
    version=1,
    statements=(
        "CREATE TABLE entry (id INTEGER PRIMARY KEY, name TEXT UNIQUE, data BLOB)",
        "CREATE TABLE counter (n INTEGER NOT NULL)",
        "INSERT INTO counter VALUES (0)",
    ),
)
INSERT = "INSERT INTO entry (name) VALUES (?)"
PATIENCE = 30.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = Store.open(path, durability="process", schema=SCHEMA, create=True)
    yield store
    store.close()


def names(store: Store) -> list[str]:
    return [row[0] for row in store.fetch("SELECT name FROM entry ORDER BY id")]


def until(condition: Callable[[], bool]) -> None:
    """Look again until it holds; how long that takes is the machine's business, so only a hang fails."""
    deadline = monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert monotonic() < deadline, "it never happened"
        pause.wait(0.001)


def insert(connection: sqlite3.Connection, name: str) -> list[tuple[str]]:
    return connection.execute(INSERT + " RETURNING name", (name,)).fetchall()


class Held:
    """A writer that holds the lead until it is let go, so that what others bring meanwhile shares one transaction."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.statements: list[str] = []
        self.results: dict[str, object] = {}
        self._threads: list[threading.Thread] = []
        self._inside = threading.Event()
        self._go = threading.Event()
        self.start("holder", lambda: store.write(self._hold))
        assert self._inside.wait(PATIENCE)

    def _hold(self, connection: sqlite3.Connection) -> None:
        connection.set_trace_callback(self.statements.append)
        self._inside.set()
        assert self._go.wait(PATIENCE)

    def start(self, name: str, call: Callable[[], object]) -> None:
        def run() -> None:
            try:
                self.results[name] = call()
            except BaseException as error:  # noqa: BLE001 (the test looks at it)
                self.results[name] = error

        thread = threading.Thread(target=run, name=name)
        self._threads.append(thread)
        thread.start()

    def queue(self, name: str, call: Callable[[], object]) -> None:
        """Start a call and wait until it stands in line."""
        before = len(self.store._commits._pending)
        self.start(name, call)
        until(lambda: len(self.store._commits._pending) > before)

    def let_go(self) -> None:
        self._go.set()

    def release(self) -> dict[str, object]:
        self.let_go()
        for thread in self._threads:
            thread.join(PATIENCE)
            assert not thread.is_alive(), f"{thread.name} hangs"
        return self.results

    @property
    def commits(self) -> int:
        return self.statements.count("COMMIT")


# Opening


def test_a_new_file_and_its_folders_are_for_their_owner(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "app.db"
    store = Store.open(path, durability="power", schema=SCHEMA, create=True)
    with closing(store):
        store.execute(INSERT, ("a",))
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}
        assert set(modes) == {"app.db", "app.db-wal", "app.db-shm"}
        assert {mode & 0o077 for mode in modes.values()} == {0}
        assert stat.S_IMODE(path.parent.stat().st_mode) & 0o077 == 0
        assert store.write(lambda connection: connection.execute("PRAGMA journal_mode").fetchone()) == ("wal",)


@pytest.mark.parametrize(("durability", "synchronous"), [("power", 2), ("process", 1)])
def test_the_declared_durability_is_sqlites_own(
    path: Path, durability: connections.Durability, synchronous: int
) -> None:
    with closing(Store.open(path, durability=durability, schema=SCHEMA, create=True)) as store:
        found = store.write(lambda connection: connection.execute("PRAGMA synchronous").fetchone())
    assert found == (synchronous,)


def test_a_missing_file_is_named_and_not_made(path: Path) -> None:
    with pytest.raises(errors.ResourceNotFound, match=r"app\.db.*portable resources create"):
        Store.open(path, durability="power", schema=SCHEMA, create=False)
    assert not path.exists()


def test_missing_tables_are_named_and_not_made(store: Store, path: Path) -> None:
    other = Schema(name="other", version=1, statements=("CREATE TABLE other (id)",))
    with pytest.raises(errors.ResourceNotFound, match=r"no other tables.*portable resources create"):
        Store.open(path, durability="process", schema=other, create=False)
    assert store.fetch("SELECT 1 FROM sqlite_master WHERE name = 'other'") == []


def test_families_share_one_file_and_one_store_by_whatever_name(store: Store, path: Path) -> None:
    other = Schema(name="other", version=3, statements=("CREATE TABLE other (id)",))
    link = path.with_name("link.db")
    link.symlink_to(path)
    again = Store.open(link, durability="process", schema=other, create=True)
    assert again is store
    assert store.fetch("SELECT name, version FROM portable_schema ORDER BY name") == [("other", 3), ("test", 1)]
    again.close()
    store.execute(INSERT, ("still open",))
    assert names(store) == ["still open"]


def test_another_durability_is_another_store(store: Store, path: Path) -> None:
    with closing(Store.open(path, durability="power", schema=SCHEMA, create=False)) as other:
        assert other is not store
        other.execute(INSERT, ("a",))
        assert names(store) == ["a"]


def test_a_file_made_anew_is_not_the_old_store(store: Store, path: Path) -> None:
    store.execute(INSERT, ("old",))
    path.rename(path.with_name("moved.db"))
    with closing(Store.open(path, durability="process", schema=SCHEMA, create=True)) as new:
        assert new is not store
        assert names(new) == []


def test_the_last_close_refuses_every_call(path: Path) -> None:
    store = Store.open(path, durability="process", schema=SCHEMA, create=True)
    store.fetch("SELECT 1")
    store.close()
    for call in (
        lambda: store.fetch("SELECT 1"),
        lambda: store.read(lambda connection: connection.execute("SELECT 1")),
        lambda: store.execute(INSERT, ("a",)),
        lambda: store.write(lambda connection: connection.execute(INSERT, ("a",))),
    ):
        with pytest.raises(errors.Closed):
            call()
    assert not path.with_name("app.db-wal").exists()


def test_an_older_file_is_migrated_step_by_step(store: Store, path: Path) -> None:
    store.execute(INSERT, ("kept",))
    newer = Schema(
        name="test",
        version=3,
        statements=("never run",),
        migrations={
            1: ("ALTER TABLE entry ADD COLUMN size INTEGER", "UPDATE entry SET size = 7"),
            2: ("ALTER TABLE entry RENAME COLUMN size TO length",),
        },
    )
    with closing(Store.open(path, durability="power", schema=newer, create=True)) as migrated:
        assert migrated.fetch("SELECT name, length FROM entry") == [("kept", 7)]
        assert migrated.fetch("SELECT version FROM portable_schema") == [(3,)]


def test_a_migration_that_fails_leaves_the_old_file(store: Store, path: Path) -> None:
    broken = Schema(
        name="test", version=2, statements=(), migrations={1: ("ALTER TABLE entry ADD COLUMN size", "nonsense")}
    )
    with pytest.raises(sqlite3.OperationalError, match="nonsense"):
        Store.open(path, durability="power", schema=broken, create=True)
    assert store.fetch("SELECT version FROM portable_schema") == [(1,)]
    assert "size" not in [row[1] for row in store.fetch("PRAGMA table_info(entry)")]


def test_a_newer_file_is_refused_and_untouched(path: Path) -> None:
    newer = Schema(name="test", version=9, statements=SCHEMA.statements)
    Store.open(path, durability="process", schema=newer, create=True).close()
    before = path.read_bytes()
    with pytest.raises(errors.ConfigError, match=r"version 9.*up to 1.*pip install --upgrade"):
        Store.open(path, durability="process", schema=SCHEMA, create=True)
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["app.db"]


@pytest.mark.parametrize("content", [b"x", b"hello, world\n" * 8, b"not a database\n" * 1000, b"\x00" * 5000])
def test_a_file_that_is_no_database_is_refused_and_untouched(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(errors.IntegrityError, match=r"app\.db"):
        Store.open(path, durability="power", schema=SCHEMA, create=True)
    assert path.read_bytes() == content
    assert [file.name for file in path.parent.iterdir()] == ["app.db"]


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match="is not a file"):
        Store.open(tmp_path, durability="power", schema=SCHEMA, create=True)


def test_a_file_is_no_folder(path: Path) -> None:
    path.write_bytes(b"")
    with pytest.raises(errors.ConfigError, match="cannot be a file"):
        Store.open(path / "app.db", durability="power", schema=SCHEMA, create=True)


def test_an_odd_name_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a b?mode=memory#%41é.db"
    with closing(Store.open(path, durability="process", schema=SCHEMA, create=True)) as store:
        store.execute(INSERT, ("a",))
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


# Reading


def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(errors.PermissionDenied):
        store.read(lambda connection: connection.execute(INSERT, ("a",)))
    assert names(store) == []


def test_a_snapshot_sees_one_moment(store: Store) -> None:
    def count_twice(connection: sqlite3.Connection) -> list[int]:
        counts = [connection.execute("SELECT count(*) FROM entry").fetchone()[0]]
        writer = threading.Thread(target=store.execute, args=(INSERT, (f"{len(names(store))}",)))
        writer.start()
        writer.join(PATIENCE)
        return [*counts, connection.execute("SELECT count(*) FROM entry").fetchone()[0]]

    assert store.read(count_twice, snapshot=True) == [0, 0]
    assert store.read(count_twice) == [1, 2]


def test_what_a_reader_raises_comes_out_and_leaves_no_cursor(store: Store, path: Path) -> None:
    store.execute(INSERT, ("a",))

    def fail(connection: sqlite3.Connection) -> None:
        cursor = connection.execute("SELECT * FROM entry")
        raise errors.NotFound(f"not {cursor!r}")

    with pytest.raises(errors.NotFound) as kept:
        store.read(fail)
    # A statement that the traceback kept alive would pin the log for as long as somebody looks at the error.
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        busy, _, _ = other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert (busy, kept.type) == (0, errors.NotFound)


# Writing


def test_a_statement_returns_its_rows_and_survives_an_error(store: Store) -> None:
    assert store.execute(INSERT + " RETURNING id, name", ("a",)) == [(1, "a")]
    with pytest.raises(sqlite3.IntegrityError, match="UNIQUE"):
        store.execute(INSERT, ("a",))
    assert store.execute(INSERT, ("b",)) == []
    assert names(store) == ["a", "b"]


def test_a_work_that_raises_is_undone(store: Store) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute(INSERT, ("a",))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store.write(fail)
    assert names(store) == []
    assert store.write(lambda connection: connection.execute(INSERT + " RETURNING id", ("b",)).fetchall()) == [(1,)]


def test_writers_that_come_meanwhile_share_one_commit(store: Store) -> None:
    held = Held(store)
    for i in range(8):
        held.queue(f"s{i}", partial(store.execute, INSERT + " RETURNING name", (f"s{i}",)))
        held.queue(f"w{i}", partial(store.write, partial(insert, name=f"w{i}")))
    results = held.release()
    assert held.commits == 2, held.statements
    for i in range(8):
        assert results[f"s{i}"] == [(f"s{i}",)]
        assert results[f"w{i}"] == [(f"w{i}",)]
    assert len(names(store)) == 16


def test_an_error_is_its_callers_alone(store: Store) -> None:
    def fail(connection: sqlite3.Connection) -> None:
        connection.execute(INSERT, ("undone",))
        raise ZeroDivisionError

    held = Held(store)
    held.queue("first", lambda: store.execute(INSERT, ("first",)))
    held.queue("twice", lambda: store.execute(INSERT, ("first",)))
    held.queue("fails", lambda: store.write(fail))
    held.queue("last", lambda: store.write(lambda connection: connection.execute(INSERT, ("last",)).fetchall()))
    results = held.release()
    assert held.commits == 2, held.statements
    assert isinstance(results["twice"], sqlite3.IntegrityError)
    assert isinstance(results["fails"], ZeroDivisionError)
    assert (results["first"], results["last"]) == ([], [])
    assert names(store) == ["first", "last"]


def test_a_transaction_that_sqlite_rolled_back_is_lost_for_its_culprit_alone(store: Store) -> None:
    store.execute(INSERT, ("taken",))
    held = Held(store)
    held.queue("before", lambda: store.write(lambda connection: connection.execute(INSERT, ("before",)).fetchall()))
    held.queue(
        "culprit",
        lambda: store.write(
            lambda connection: connection.execute("INSERT OR ROLLBACK INTO entry (name) VALUES ('taken')")
        ),
    )
    held.queue("after", lambda: store.execute(INSERT, ("after",)))
    results = held.release()
    assert isinstance(results["culprit"], sqlite3.IntegrityError)
    assert (results["before"], results["after"]) == ([], [])
    assert sorted(names(store)) == ["after", "before", "taken"]


def test_an_interrupt_of_the_leader_costs_the_others_nothing(store: Store) -> None:
    ran_in: list[str] = []

    def interrupted(connection: sqlite3.Connection) -> str:
        ran_in.append(threading.current_thread().name)
        connection.execute(INSERT, ("followed",))
        if ran_in == ["leader"]:
            raise KeyboardInterrupt
        return "done"

    held = Held(store)
    held.queue("leader", lambda: store.execute(INSERT, ("led",)))
    held.queue("follower", lambda: store.write(interrupted))
    results = held.release()
    assert ran_in == ["leader", "follower"]
    assert isinstance(results["leader"], KeyboardInterrupt)
    assert results["follower"] == "done"
    assert names(store) == ["followed"]


def test_whoever_waits_too_long_leaves_and_nothing_of_it_happens(store: Store) -> None:
    held = Held(store)
    with pytest.raises(errors.DeadlineExceeded, match=r"app\.db.*0\.05 s") as late:
        store.execute(INSERT, ("late",), timeout=0.05)
    assert not late.value.maybe_applied
    held.queue("next", lambda: store.execute(INSERT, ("next",)))
    held.release()
    assert names(store) == ["next"]


def test_whoever_leaves_in_the_middle_is_told_that_it_may_have_happened(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside, go = threading.Event(), threading.Event()

    def slow(connection: sqlite3.Connection) -> None:
        inside.set()
        assert go.wait(PATIENCE)

    held = Held(store)
    held.queue("leads", lambda: store.write(slow))
    held.queue("leaves", lambda: store.execute(INSERT, ("left",), timeout=PATIENCE))
    request = store._commits._pending[-1]
    held.let_go()
    assert inside.wait(PATIENCE)
    # The clock runs past the deadline while the leader is at work, and the waiting thread looks at it.
    monkeypatch.setattr(commits, "monotonic", lambda: monotonic() + 10 * PATIENCE)
    request.signal()
    until(lambda: "leaves" in held.results)
    go.set()
    error = held.release()["leaves"]
    assert isinstance(error, errors.DeadlineExceeded)
    assert error.maybe_applied
    assert names(store) == ["left"]
    assert store.execute(INSERT, ("more",)) == []


@pytest.mark.parametrize("how", ["execute", "write"])
def test_a_lock_of_somebody_else_is_waited_for_within_the_timeout(store: Store, path: Path, how: str) -> None:
    def call(timeout: float) -> object:
        if how == "execute":
            return store.execute(INSERT, ("a",), timeout=timeout)
        return store.write(lambda connection: connection.execute(INSERT, ("a",)).fetchall(), timeout=timeout)

    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(errors.DeadlineExceeded, match=r"app\.db") as late:
            call(0.05)
        assert late.value.retryable
        release = threading.Timer(0.05, other.execute, ("COMMIT",))
        release.start()
        assert call(PATIENCE) == []
        release.join()
    assert names(store) == ["a"]


def test_a_write_inside_a_work_is_refused_and_a_read_is_not(store: Store) -> None:
    def nested(connection: sqlite3.Connection) -> int:
        assert names(store) == []
        for call in (lambda: store.execute(INSERT, ("a",)), lambda: store.write(lambda _: None)):
            with pytest.raises(RuntimeError, match="inside"):
                call()
        return 1

    assert store.write(nested) == 1
    assert store.read(nested) == 1
    store.execute(INSERT, ("a",))


def test_a_thousand_threads_share_a_handful_of_connections(store: Store) -> None:
    def both(i: int) -> None:
        store.execute(INSERT, (f"{i}",))
        assert store.fetch("SELECT name FROM entry WHERE name = ?", (f"{i}",)) == [(f"{i}",)]
        store.write(lambda connection: connection.execute("UPDATE counter SET n = n + 1"))

    threads = [threading.Thread(target=both, args=(i,)) for i in range(1000)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert store.fetch("SELECT n, (SELECT count(*) FROM entry) FROM counter") == [(1000, 1000)]
    assert store._readers._opened <= connections.READERS


def test_more_readers_than_connections_wait_their_turn(store: Store) -> None:
    inside = threading.Semaphore(0)
    go = threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        inside.release()
        assert go.wait(PATIENCE)

    threads = [threading.Thread(target=store.read, args=(hold,)) for _ in range(connections.READERS)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert inside.acquire(timeout=PATIENCE)
    with pytest.raises(errors.DeadlineExceeded, match="connection"):
        store.fetch("SELECT 1", timeout=0.02)
    waiting = threading.Thread(target=store.fetch, args=("SELECT 1",))
    waiting.start()
    until(lambda: store._readers._waiting == 1)
    go.set()
    for thread in [*threads, waiting]:
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_the_log_is_emptied_once_the_reader_that_pinned_it_is_gone(
    store: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 256 * 1024
    monkeypatch.setattr(commits, "LOG_LIMIT", limit)
    inside, go = threading.Event(), threading.Event()

    def pin(connection: sqlite3.Connection) -> None:
        connection.execute("SELECT count(*) FROM entry").fetchone()
        inside.set()
        assert go.wait(PATIENCE)

    reader = threading.Thread(target=lambda: store.read(pin, snapshot=True))
    reader.start()
    assert inside.wait(PATIENCE)
    for i in range(20):
        store.execute("INSERT INTO entry (name, data) VALUES (?, zeroblob(100000))", (f"{i}",))
    log = path.with_name("app.db-wal")
    assert log.stat().st_size > 4 * limit
    go.set()
    reader.join(PATIENCE)
    for _ in range(2 * commits.CHECK_LOG_EVERY):
        store.execute("UPDATE counter SET n = n + 1")
    assert log.stat().st_size < 2 * limit


def test_close_waits_for_the_call_under_way_and_refuses_those_in_line(path: Path) -> None:
    store = Store.open(path, durability="process", schema=SCHEMA, create=True)
    held = Held(store)
    held.queue("in line", lambda: store.execute(INSERT, ("a",)))
    held.start("close", store.close)
    until(lambda: store._commits._frozen)
    results = held.release()
    assert results["holder"] is None
    assert isinstance(results["in line"], errors.Closed)
    assert results["close"] is None
