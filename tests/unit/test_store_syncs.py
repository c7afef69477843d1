"""Which commits of a store are synced: all of them, but for those that are told not to be."""

from __future__ import annotations

import threading
from pathlib import Path
from time import monotonic

import pytest

from portable_embedded import connections
from portable_embedded.store import Schema, Store

SCHEMA = Schema(name="test", version=1, statements=("CREATE TABLE entry (id INTEGER PRIMARY KEY, synced INTEGER)",))
# The commit of a statement is as synced as the statement finds the connection.
INSERT = "INSERT INTO entry (synced) SELECT synchronous FROM pragma_synchronous RETURNING synced"
FULL, NORMAL = 2, 1
PATIENCE = 30.0


def opened(path: Path, durability: connections.Durability) -> Store:
    return Store.open(path / "app.db", durability=durability, schema=SCHEMA, create=True)


@pytest.mark.parametrize(("durability", "usual"), [("power", FULL), ("process", NORMAL)])
def test_a_commit_is_synced_unless_it_is_told_not_to_be(
    tmp_path: Path, durability: connections.Durability, usual: int
) -> None:
    store = opened(tmp_path, durability)
    for synced in (True, False, False, True, False):
        assert store.execute(INSERT, synced=synced) == [(usual if synced else NORMAL,)]
    assert store.write(lambda connection: connection.execute(INSERT).fetchall()) == [(usual,)]
    assert store.execute(INSERT) == [(usual,)]
    store.close()


def test_what_needs_no_sync_gets_one_in_company(tmp_path: Path) -> None:
    store = opened(tmp_path, "power")
    store.execute(INSERT, synced=False)
    inside, go_on = threading.Event(), threading.Event()
    found: list[tuple[int]] = []

    def hold(_: object) -> None:
        inside.set()
        assert go_on.wait(PATIENCE)

    holder = threading.Thread(target=lambda: store.write(hold))
    holder.start()
    assert inside.wait(PATIENCE)
    other = threading.Thread(target=lambda: found.extend(store.execute(INSERT, synced=False)))
    other.start()
    deadline = monotonic() + PATIENCE
    pause = threading.Event()
    while not store._commits._pending:
        assert monotonic() < deadline, "it never stood in line"
        pause.wait(0.001)
    go_on.set()
    holder.join()
    other.join()
    assert found == [(FULL,)]
    store.close()
