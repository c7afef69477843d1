"""The support matrix that a run of the suites writes, and the runs of `portable conformance`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from portable.testing.matrix import Case, Matrix

pytest_plugins = ["pytester"]

SUITE = """
from typing import Any

import pytest
from portable.testing.aio.suite import Suite as AioSuite
from portable.testing.suite import Suite, lacks, needs

class CacheSuite(Suite):
    kind = "cache"

    def test_a_value_is_kept(self):
        cache = self.open()
        cache.set("k", 1)
        assert cache.get("k") == 1

    @needs("lock")
    def test_locks(self):
        with self.open().lock("l", ttl=5):
            pass

    @lacks("lock")
    def test_locks_are_refused(self):
        raise AssertionError

    @needs("fencing")
    def test_fencing(self):
        assert self.open().name == "wrong"

class TestMemory(CacheSuite):
    url = "memory:matrix"

class TestAioMemory(AioSuite):
    kind = "cache"
    url = "memory:matrix"

    async def test_a_value_is_kept(self):
        cache = self.open()
        await cache.set("k", 1)
        assert await cache.get("k") == 2

def test_something_else():
    pass
"""

ROW = "| `memory:` | 1/2 ✗ | ✓ | ✗ | ? |"


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["alone", "xdist"])
def test_a_run_writes_the_matrix(pytester: pytest.Pytester, workers: list[str]) -> None:
    pytester.makepyfile(SUITE)
    target = pytester.path / "docs" / "matrix.md"
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--portable-matrix", "docs/matrix.md", *workers)
    result.assert_outcomes(passed=3, failed=2, skipped=1)
    page = target.read_text()
    assert "## cache\n\n| provider | guarantees | `lock` | `fencing` | `negative_counters` |\n" in page
    assert ROW in page


def test_without_the_option_nothing_is_written(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_it(): pass")
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    assert sorted(path.suffix for path in pytester.path.iterdir() if path.is_file()) == [".py"]


CASE = Case(kind="queue", scheme="acme", face="sync", name="a case", needs=[], lacks=[], declared=[])


def report(case: Case, outcome: str, when: str = "call", nodeid: str = "") -> Any:
    told = [("portable_case", msgspec.to_builtins(case))]
    return SimpleNamespace(user_properties=told, nodeid=nodeid or case.name, outcome=outcome, when=when)


def test_the_worst_phase_counts() -> None:
    matrix = Matrix()
    for when, outcome in (("setup", "passed"), ("call", "passed"), ("teardown", "failed")):
        matrix.add(report(CASE, outcome, when))
    (row,) = matrix.rows()
    assert (row.passed, row.ran, row.ok) == (0, 1, False)


def test_a_guarantee_that_was_skipped_did_not_pass() -> None:
    matrix = Matrix()
    matrix.add(report(CASE, "skipped", "setup"))
    (row,) = matrix.rows()
    assert row.guarantees == {"a case": "skipped"}
    assert (row.passed, row.ran, row.ok) == (0, 1, False)


def test_the_worse_face_counts() -> None:
    matrix = Matrix()
    matrix.add(report(CASE, "passed", nodeid="sync"))
    matrix.add(report(msgspec.structs.replace(CASE, face="aio"), "failed", nodeid="aio"))
    (row,) = matrix.rows()
    assert row.guarantees == {"a case": "failed"}


@pytest.mark.parametrize(
    ("declared", "needed", "lacking", "proof"),
    [
        (["delay"], "passed", "skipped", "proven"),
        (["delay"], "failed", "skipped", "failed"),
        (["delay"], "skipped", "skipped", "not proven"),
        ([], "skipped", "passed", "not declared"),
        ([], "skipped", "failed", "failed"),
    ],
)
def test_what_is_said_of_a_capability(declared: list[str], needed: str, lacking: str, proof: str) -> None:
    matrix = Matrix()
    base = msgspec.structs.replace(CASE, declared=declared)
    matrix.add(report(msgspec.structs.replace(base, name="delays", needs=["delay"]), needed))
    matrix.add(report(msgspec.structs.replace(base, name="refuses", lacks=["delay"]), lacking))
    (row,) = matrix.rows()
    assert row.capabilities["delay"] == proof
    assert row.ran == 0


def test_rows_come_in_the_order_of_the_kinds() -> None:
    matrix = Matrix()
    for kind, scheme in (("cache", "b"), ("bucket", "z"), ("cache", "a")):
        matrix.add(report(msgspec.structs.replace(CASE, kind=kind, scheme=scheme), "passed", nodeid=kind + scheme))
    assert [(row.kind, row.scheme) for row in matrix.rows()] == [("bucket", "z"), ("cache", "a"), ("cache", "b")]


def test_the_page_is_the_same_for_the_same_run(tmp_path: Path) -> None:
    pages = set()
    for order in ((0, 1), (1, 0)):
        matrix = Matrix()
        for number in order:
            matrix.add(report(msgspec.structs.replace(CASE, name=f"case {number}"), "passed"))
        pages.add(matrix.markdown())
    assert len(pages) == 1
