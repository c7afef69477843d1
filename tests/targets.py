"""The real servers that tests run on: one row each, which says the service it is and the runtime that runs it.

A target is installed by the first test of the run that asks for it, shared by all processes of the run, and uninstalled
when the run ends. What a test breaks on purpose is an instance of its own: `own`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from portable.errors import PortableError
from portable.services import Services
from portable.services.health import probe
from portable.services.instances import Instance, load
from portable.services.runtimes import runtime, strays

__all__ = ["PROJECT", "REQUIRED", "TARGETS", "CannotStartError", "Own", "Target", "own", "required", "target"]

PROJECT = "PORTABLE_TEST_TARGETS"
"""The variable that tells every process of a run the folder that its targets are installed in."""

REQUIRED = os.environ.get("PORTABLE_TEST_REQUIRE") == "all"
"""Whether a target that cannot start is a failure."""

READY_WITHIN = 120.0


@dataclass(frozen=True)
class Target:
    """A row of the table.

    Attributes:
        service: the service in `contrib_services`.
        on: the runtime.
    """

    service: str
    on: str = "process"


TARGETS = {
    "redis": Target("redis"),
    "valkey": Target("valkey"),
    "memcached": Target("memcached"),
    "postgres": Target("postgres"),
    "mariadb": Target("mariadb"),
    "rabbitmq": Target("rabbitmq"),
    "kafka": Target("kafka"),
    "nats": Target("nats"),
    "seaweedfs": Target("seaweedfs"),
    "ministack": Target("ministack"),
    "elasticmq": Target("elasticmq"),
    "moto": Target("moto"),
    "kinesalite": Target("kinesalite"),
    "azurite": Target("azurite"),
    "toxiproxy": Target("toxiproxy"),
    "pubsub-emulator": Target("pubsub-emulator"),
    "firestore-emulator": Target("firestore-emulator"),
    "dynamodb-local": Target("dynamodb-local"),
    "fake-gcs-server": Target("fake-gcs-server"),
    "cosmosdb-server": Target("cosmosdb-server"),
    "event-hubs": Target("event-hubs"),
}


class CannotStartError(Exception):
    """This machine has not what a target needs; the message says what that is."""


class Own:
    """An instance that one test has for itself.

    Attributes:
        url: its binding's URL, credentials included.
    """

    def __init__(self, services: Services, name: str) -> None:
        self._services = services
        self._name = name
        self.url = services.binding(name, secrets=True)["uri"]

    @property
    def pid(self) -> int:
        """The server's process, which its supervisor watches over."""
        return int((self._services.home.folder / self._name / strays.NOTE).read_text().split()[0])

    def kill(self) -> None:
        """End the server as an out-of-memory killer would; its supervisor starts it again on what it had written."""
        os.kill(self.pid, signal.SIGKILL)

    def down(self) -> None:
        """Stop the server in good order; its data stays."""
        self._services.down([self._name])

    def up(self) -> None:
        """Start the server after `down`."""
        self._services.up([self._name])

    def ready(self) -> None:
        """Wait until the server answers."""
        instance = self._instance()
        deadline = time.monotonic() + READY_WITHIN
        while True:
            try:
                probe(runtime(instance.record.runtime), instance, instance.service.manifest.probes.ready)
            except PortableError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return

    def _instance(self) -> Instance:
        return load(self._services.home, self._name)


@contextlib.contextmanager
def own(name: str) -> Iterator[Own]:
    """Run an instance of a target's service for one test alone; it goes with the block."""
    row = TARGETS[name]
    services = Services(_project())
    instance = f"{name}-{uuid.uuid4().hex[:8]}"
    _note(name)
    try:
        with required(name), _said():
            services.install(row.service, name=instance, on=row.on)
        yield Own(services, instance)
    finally:
        if instance in services.home.names():
            services.uninstall(instance)


def target(name: str, kind: str | None = None) -> str:
    """Give a target's URL, starting it where need be; where it cannot start, skip, or fail where all are required.

    Args:
        name: the row.
        kind: the kind of resource that is bound, where the service has another URL for it.
    """
    _note(name)
    with required(name):
        found = _started(name)
        if isinstance(found, CannotStartError):
            raise found
        return found.get(f"uri-{kind}", found["uri"])


@contextlib.contextmanager
def required(name: str) -> Iterator[None]:
    """Skip what cannot start, or fail where all are required."""
    try:
        yield
    except CannotStartError as error:
        if REQUIRED:
            pytest.fail(f"the target {name} is required, and {error}")
        pytest.skip(f"the target {name} cannot start: {error}")


@functools.cache
def _started(name: str) -> dict[str, str] | CannotStartError:
    row, project = TARGETS[name], _project()
    failed = project / f"{name}.failed"
    if failed.exists():
        return CannotStartError(failed.read_text())
    services = Services(project)
    try:
        with _said():
            services.install(row.service, name=name, on=row.on)
    except CannotStartError as error:
        failed.write_text(str(error))
        return error
    return services.binding(name, secrets=True)


@contextlib.contextmanager
def _said() -> Iterator[None]:
    try:
        yield
    except PortableError as error:
        raise CannotStartError(error.message) from error


def _project() -> Path:
    return Path(os.environ[PROJECT])


def _note(name: str) -> None:
    """Write down which class of tests, or which file, uses a target, for the table at the end."""
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[0]
    if test:
        used = _project() / "used"
        used.mkdir(exist_ok=True)
        (used / f"{name} {test.replace('/', '|')}").touch()
