"""Functional probes through the neutral API: the work that they do, and the URLs that the manifests give for it."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

import portable
from portable.errors import ConfigError, DeadlineExceeded, IntegrityError, NotFound
from portable.registry import Adapter, register
from portable.services import neutral
from portable.services.bindings import entries
from portable.services.catalogue import built_in
from portable.services.checking import findings
from portable.services.manifest import Probed
from portable.services.reading import read_service
from portable_embedded.memory_cache import MemoryCache

from .conftest import Write

SERVICES = sorted(path.parent.name for path in built_in().folder.glob("*/service.toml"))


class Forgetful(MemoryCache):
    def get(self, key: str, *, timeout: float) -> bytes | None:
        return b'"another"'


register(
    Adapter(
        schemes={
            "forgetful": {"cache": f"{__name__}:Forgetful"},
            "lacking": {"cache": "portable_no_such_package.cache:Cache"},
        },
        extra="none",
    )
)


@pytest.mark.parametrize("kind", get_args(Probed))
def test_each_kind_is_written_and_read_and_left_clean(tmp_path: Path, kind: Probed) -> None:
    binding = {"uri": f"sqlite:{tmp_path / 'probe.db'}", "uri-bucket": f"file:{tmp_path / 'bucket'}"}
    assert neutral.is_served(kind, binding)
    for _ in range(2):
        neutral.work(kind, binding, 30)
    if kind == "bucket":
        with portable.open_bucket(binding["uri-bucket"], name=neutral.NAME) as bucket:
            assert list(bucket.list()) == []
    if kind == "queue":
        with portable.open_queue(binding["uri"], name=neutral.NAME) as queue:
            assert (queue.stats().ready, queue.stats().leased) == (0, 0)
    if kind == "collection":
        with portable.open_collection(binding["uri"], name=neutral.NAME) as collection, pytest.raises(NotFound):
            collection.get("x")


def test_what_another_probe_left_in_a_queue_is_no_answer(tmp_path: Path) -> None:
    binding = {"uri": f"sqlite:{tmp_path / 'probe.db'}"}
    with portable.open_queue(binding["uri"], name=neutral.NAME) as queue:
        queue.send("left by another")
        neutral.work("queue", binding, 30)
        assert queue.receive(wait=0) == []
        with pytest.raises(DeadlineExceeded):
            neutral._queue(queue, "never", 0.0)


def test_a_server_that_gives_something_else_is_not_well() -> None:
    with pytest.raises(IntegrityError):
        neutral.work("cache", {"uri": "forgetful:"}, 5)


def test_a_kind_that_no_adapter_serves_is_left_to_the_servers_protocol() -> None:
    assert not neutral.is_served("cache", {"uri": "no-such-scheme://127.0.0.1:1"})
    assert not neutral.is_served("queue", {"uri": "forgetful:"})
    assert not neutral.is_served("cache", {"uri": "lacking:"})
    assert neutral.is_served("cache", {"uri": "no-such-scheme://127.0.0.1:1", "uri-cache": "memory:"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[probes.functional]\n", '[probes.functional]\nresource = "queue"\n', "names no queue"),
        ("[probes.ready]\n", '[probes.ready]\nresource = "cache"\n', "the functional probe alone"),
    ],
)
def test_a_resource_that_cannot_be_probed_is_an_error(write: Write, old: str, new: str, message: str) -> None:
    service = write((old, new))
    assert any(message in found for severity, _, found in findings(service) if severity == "error")


def test_a_kind_that_has_no_probe_is_refused(write: Write) -> None:
    with pytest.raises(ConfigError, match=r"probes\.functional\.resource"):
        write(("[probes.functional]\n", '[probes.functional]\nresource = "topic"\n'))


@pytest.mark.parametrize("name", SERVICES)
def test_binding_urls_are_such_as_the_adapters_take(name: str) -> None:
    """Opening makes the driver, which reads its options, and connects to nothing."""
    manifest = read_service(built_in().folder / name).manifest
    known = {"host": "127.0.0.1", "port": "1234"}
    binding = entries(manifest, lambda scope, _: known.get(scope, "abcdefgh1234"))
    for kind in manifest.provides:
        if neutral.is_served(kind, binding):  # type: ignore[arg-type] # topics, too, are served
            named = {} if kind == "database" else {"name": "probe-name"}
            getattr(portable, f"open_{kind}")(binding.get(f"uri-{kind}", binding["uri"]), **named).close()
