"""The targets that tests run on: shared by all, or a test's own that is killed and comes back with its data."""

from __future__ import annotations

import pytest

from portable import open_cache
from portable.services import Services
from tests.targets import TARGETS, CannotStartError, own, required, target


def test_a_target_is_one_for_all() -> None:
    assert target("valkey") == target("valkey")
    with open_cache(target("valkey"), name="targets") as cache:
        cache.set("key", "value")
        assert cache.get("key") == "value"


def test_ones_own_comes_back_after_a_kill_and_goes_with_the_block() -> None:
    with own("valkey") as server:
        assert server.url != target("valkey")
        with open_cache(server.url, name="targets") as cache:
            cache.set("key", "value")
        before = server.pid
        server.kill()
        server.ready()
        assert server.pid != before
        server.down()
        server.up()
        with open_cache(server.url, name="targets") as cache:
            cache.set("key", "value")


def test_what_cannot_start_is_skipped_or_fails_where_all_are_required(monkeypatch: pytest.MonkeyPatch) -> None:
    for everything, outcome in ((False, pytest.skip.Exception), (True, pytest.fail.Exception)):
        monkeypatch.setattr("tests.targets.REQUIRED", everything)
        with pytest.raises(outcome, match=r"the target valkey .*no java"), required("valkey"):
            raise CannotStartError("no java")


def test_every_row_is_a_service() -> None:
    for row in TARGETS.values():
        assert Services().catalogue.service(row.service).name == row.service
