"""`portable conformance`: the matrix of a live service."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from portable import registry
from portable.registry import Adapter
from portable_embedded.memory_cache import MemoryCache

if TYPE_CHECKING:
    from tests.cli.conftest import Command

ONLY = ("--only", "miss_gives or counter_goes or lock_is_held")


class Deaf(MemoryCache):
    """A cache that answers every question with something of its own."""

    def get(self, key: str, *, timeout: float) -> bytes | None:
        return b'"mine"'


def settings() -> dict[str, str]:
    """Give the environment without what every pytest changes."""
    return {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}


@pytest.fixture
def deaf() -> Iterator[str]:
    adapter = Adapter(schemes={"deaf": {"cache": f"{__name__}:Deaf"}}, extra="none")
    registry.register(adapter)
    yield "deaf:conformance"
    registry._registered.remove(adapter)


def test_what_conforms_exits_with_0(command: Command) -> None:
    before = settings()
    result = command("conformance", "--url", "memory:", "--kind", "cache", *ONLY)
    assert result.code == 0, result.text
    assert result.stderr == ""
    lines = result.text.splitlines()
    assert "passed  a miss gives the default" in lines
    assert ["proven", "negative_counters"] in [line.split() for line in lines]
    assert "cache at memory: 2 of 2 cases of guarantees passed" in lines
    assert settings() == before


def test_it_can_be_read_by_scripts(command: Command) -> None:
    (found,) = command("conformance", "--url", "memory:", "--kind", "cache", *ONLY, "--json").lines
    assert (found["kind"], found["provider"], found["ok"]) == ("cache", "memory", True)
    assert found["guarantees"]["a miss gives the default"] == "passed"
    assert found["capabilities"]["negative_counters"] == "proven"
    assert found["failures"] == []


def test_what_does_not_conform_exits_with_1(command: Command, deaf: str) -> None:
    result = command("conformance", "--url", deaf, "--kind", "cache", *ONLY, "--json")
    assert result.code == 1
    (found,) = result.lines
    assert found["guarantees"]["a miss gives the default"] == "failed"
    failures: list[dict[str, Any]] = found["failures"]
    assert len([one for one in failures if "miss_gives_the_default" in one["case"]]) == 2, "both faces"
    shown = command("conformance", "--url", deaf, "--kind", "cache", *ONLY, "--verbose")
    assert shown.code == 1
    assert "failed: CacheSuite" in shown.text or "failed: Test" in shown.text
    assert "def test_a_miss_gives_the_default" in shown.text


def test_no_case_is_no_success(command: Command) -> None:
    result = command("conformance", "--url", "memory:", "--kind", "cache", "--only", "nothing_is_called_so")
    assert result.code == 1
    assert "no case ran" in result.text


def test_a_wrong_url_is_told_once(command: Command) -> None:
    result = command("conformance", "--url", "memry:", "--kind", "cache")
    assert result.code == 3
    assert result.stderr.count("\n") == 1
    assert "did you mean memory:?" in result.stderr
    assert command("conformance", "--url", "file:x", "--kind", "cache").code == 3
