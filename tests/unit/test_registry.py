"""From schemes to drivers, and what is said where there is none."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

import portable
import portable_embedded
import portable_sql
from portable import registry
from portable.errors import ConfigError
from portable.registry import Adapter, adapters, provider, register, schemes

EMBEDDED = {
    "bucket": {"file", "memory"},
    "queue": {"memory", "sqlite"},
    "topic": {"memory", "sqlite"},
    "subscription": {"memory", "sqlite"},
    "stream": {"memory", "sqlite"},
    "cache": {"memory", "sqlite"},
    "collection": {"memory", "sqlite"},
    "database": {"sqlite"},
}


@pytest.fixture
def embedded_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no adapter installed but those that need nothing."""
    monkeypatch.setattr(registry, "installed", lambda: (portable_embedded.adapter, portable_sql.adapter))


@pytest.fixture(autouse=True)
def nothing_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr(registry, "_registered", [])
        yield


@pytest.mark.parametrize("kind", EMBEDDED)
def test_the_embedded_drivers_are_found_by_entry_point(kind: str) -> None:
    assert EMBEDDED[kind] <= set(schemes(kind))
    assert schemes(kind) == sorted(schemes(kind))
    assert "*" not in schemes(kind)
    for scheme in EMBEDDED[kind]:
        driver = provider(scheme, kind).load()
        assert driver.Options.__doc__, "an Options docstring shows its URL and every option"
        assert f"{scheme}:" in driver.Options.__doc__


@pytest.mark.parametrize(
    ("scheme", "kind", "told"),
    [
        (
            "memry",
            "cache",
            "no adapter provides the scheme memry:; did you mean memory:. a cache can be mem",
        ),
        ("xyzzy", "queue", "no adapter provides the scheme xyzzy:; a queue can be .*memory, .*sqlite"),
        ("file", "queue", "file: serves no queue .it serves bucket.; a queue can be .*memory, .*sqlite"),
        ("sqlite", "bucket", "sqlite: serves no bucket .it serves .*; a bucket can be file, memory"),
        ("s3", "bucket", r"no installed adapter provides s3:; install it with: pip install 'portable-cloud\[aws\]'"),
        ("kafka", "stream", r"pip install 'portable-cloud\[kafka\]'"),
        ("amqp", "queue", r"pip install 'portable-cloud\[rabbitmq\]'"),
    ],
)
@pytest.mark.usefixtures("embedded_alone")
def test_what_nobody_provides_is_said(scheme: str, kind: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        provider(scheme, kind)


@pytest.mark.usefixtures("embedded_alone")
def test_opening_says_the_same() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'portable-cloud\[aws\]'"):
        portable.open_bucket("s3://acme-photos?region=eu-west-1")
    with pytest.raises(ConfigError, match="did you mean memory:"):
        portable.open_cache("memori:")


def test_an_adapter_can_be_registered_and_comes_first() -> None:
    own = Adapter({"memory": {"cache": "somewhere:Own"}, "acme": {"cache": "nowhere_at_all.deep:Cache"}}, extra="acme")
    register(own)
    assert adapters()[0] is own
    assert provider("memory", "cache").path == "somewhere:Own"
    assert provider("memory", "queue").path != "somewhere:Own"
    assert "acme" in schemes("cache")


def test_a_package_that_is_missing_is_named_with_its_extra() -> None:
    register(Adapter({"acme": {"cache": "nowhere_at_all.deep:Cache"}}, extra="acme"))
    told = r"acme: caches need the package 'nowhere_at_all'; install it with: pip install 'portable-cloud\[acme\]'"
    with pytest.raises(ConfigError, match=told) as caught:
        provider("acme", "cache").load()
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)


def test_a_star_takes_the_schemes_that_nobody_names() -> None:
    register(Adapter({"*": {"database": "somewhere:Any"}, "acme": {"cache": "somewhere:Cache"}}, extra="sql"))
    assert provider("oracle", "database").path == "somewhere:Any"
    assert provider("sqlite", "database").path != "somewhere:Any"
    with pytest.raises(ConfigError, match="acme: serves no queue"):
        provider("acme", "queue")


def test_an_installed_adapter_that_is_broken_hides_no_other(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = EntryPoint("acme", "portable_of_nobody:adapter", "portable.adapters")
    whole = EntryPoint("embedded", "portable_embedded:adapter", "portable.adapters")
    monkeypatch.setattr(registry, "entry_points", lambda group: [broken, whole])
    registry.installed.cache_clear()
    try:
        assert schemes("queue") == ["memory", "sqlite"]
        (record,) = caplog.records
        assert "'portable_of_nobody:adapter' cannot be loaded" in record.getMessage()
    finally:
        registry.installed.cache_clear()
