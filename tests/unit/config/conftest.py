"""A folder of its own and an environment without our variables for each test, and an adapter of network schemes."""

import os
import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest

from portable import registry
from portable.bindings import Binding, Options
from portable.capabilities import BucketCapabilities, Capabilities, QueueCapabilities, TopicCapabilities
from portable.quantities import Duration, Size
from portable.registry import Adapter


class AcmeOptions(Options, frozen=True, kw_only=True):
    """Attributes of Acme's URLs.

    Attributes:
        region: where it is.
        port: the port
            of the server.
    """

    region: str = "home"
    port: Annotated[int, msgspec.Meta(ge=1)] = 1
    tls: bool = True
    wait: Duration = Duration(1)
    part: Size = Size(1)
    ca: Path | None = None
    brokers: tuple[str, ...] = ()
    level: Literal["low", "high"] = "low"
    credentials: dict[str, Any] | None = None


class AcmeRequired(Options, frozen=True, kw_only=True):
    token: str


class AcmeDriver:
    Options: Any = AcmeOptions
    capabilities: Capabilities = BucketCapabilities(sign=True)

    def __init__(self, binding: Binding[Any]) -> None:
        self.binding = binding


class AcmeQueue(AcmeDriver):
    capabilities = QueueCapabilities(delay=True)


class AcmeTopic(AcmeDriver):
    capabilities = TopicCapabilities()


class AcmeSubscription(AcmeQueue):
    def __init__(self, binding: Binding[Any]) -> None:
        super().__init__(binding)
        assert binding.topic is not None


class AcmeTokenQueue(AcmeDriver):
    Options = AcmeRequired
    capabilities = QueueCapabilities()


@pytest.fixture(autouse=True)
def acme(monkeypatch):
    module = types.ModuleType("acme_drivers")
    for driver in (AcmeDriver, AcmeQueue, AcmeTopic, AcmeSubscription, AcmeTokenQueue):
        setattr(module, driver.__name__, driver)
    monkeypatch.setitem(sys.modules, "acme_drivers", module)
    schemes = {
        "acme": {
            "bucket": "acme_drivers:AcmeDriver",
            "queue": "acme_drivers:AcmeQueue",
            "topic": "acme_drivers:AcmeTopic",
            "subscription": "acme_drivers:AcmeSubscription",
            "database": "acme_drivers:AcmeDriver",
        },
        "acme-token": {"queue": "acme_drivers:AcmeTokenQueue"},
        "sqs": {"queue": "acme_drivers:AcmeQueue"},
    }
    monkeypatch.setattr(registry, "_registered", [Adapter(schemes, "acme")])


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    for name in [*os.environ]:
        if name.startswith(("PORTABLE_", "SERVICE_BINDING_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def write(here):
    def write(text, name="portable.toml"):
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write
