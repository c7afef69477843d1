"""Every service of the repository in a container: installed, used, restarted, crashed, and uninstalled to nothing."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portable.errors import PortableError, Unavailable
from portable.services import Services
from portable.services.catalogue import built_in
from portable.services.instances import Instance, load
from portable.services.probing import wait_until
from portable.services.runtimes.docker_compose import LABEL
from portable.services.runtimes.docker_engine import Engine
from tests.integration.test_services_real import NAMES, READS, WRITES, asked

pytestmark = pytest.mark.timeout(900)

# Their images take minutes to build.
SLOW = {"kafka", "mariadb", "memcached", "rabbitmq", "redis", "seaweedfs"}
BUILDABLE = [name for name in NAMES if (built_in().folder / name / "Dockerfile").is_file()]


@pytest.fixture
def services(tmp_path: Path, docker_engine: Engine) -> Iterator[Services]:
    engine = Services(tmp_path)
    yield engine
    for name in engine.home.names():
        engine.uninstall(name)


def described(engine: Engine, instance: Instance) -> dict[str, Any]:
    assert instance.record.container is not None
    (found,) = engine.inspect("container", [instance.record.container.project])
    return found


def crashed(engine: Engine, instance: Instance) -> None:
    """Kill the server as an out-of-memory killer would; the engine starts it again."""
    before = described(engine, instance)["State"]["StartedAt"]
    os.kill(described(engine, instance)["State"]["Pid"], signal.SIGKILL)

    def back() -> None:
        if described(engine, instance)["State"]["StartedAt"] == before:
            raise Unavailable("not started again")
        asked(instance, instance.service.manifest.probes.ready)

    wait_until(back, timeout=300, alive=lambda: None)


def read(instance: Instance) -> None:
    """Read what was written; parts of a server may come back one after the other."""
    wait_until(lambda: asked(instance, READS[instance.name]), timeout=300, alive=lambda: None)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.thorough] * (name in SLOW)) for name in BUILDABLE]
)
def test_a_service_from_installation_to_removal(docker_engine: Engine, services: Services, name: str) -> None:
    project = services.home.project
    instance = services.install(name, on="docker")
    folder = services.home.folder
    (health,) = services.status(timeout=60)
    assert (health.runtime, health.status, health.healthy) == ("docker", "running", True)
    _check_rights(docker_engine, instance)
    _check_secrets(docker_engine, services, instance)
    if name in WRITES:
        asked(instance, WRITES[name])

    services.down()
    assert services.status()[0].status == "stopped"
    services.up()
    instance = load(services.home, name)
    if name in READS:
        read(instance)
    crashed(docker_engine, instance)
    if name in READS:
        read(instance)

    if name in READS:
        file = project / "backup"
        services.backup(name, file)
        _uninstalled(docker_engine, services, instance)
        instance = services.install(name, on="docker")
        with pytest.raises(PortableError):
            asked(instance, READS[name])
        services.restore(name, file)
        read(load(services.home, name))
        file.unlink()

    _uninstalled(docker_engine, services, load(services.home, name))
    assert list(project.iterdir()) == []
    assert not folder.exists()


def _check_rights(engine: Engine, instance: Instance) -> None:
    """Refuse a container that has what its server does not need."""
    found, manifest = described(engine, instance), instance.service.manifest
    host = found["HostConfig"]
    image = manifest.images["server"]
    assert found["Config"]["User"] == image.user
    assert host["ReadonlyRootfs"] == image.read_only_root
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["Memory"] > 0
    assert host["PidsLimit"] > 0
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    published = {port: one for port, one in found["NetworkSettings"]["Ports"].items() if one}
    assert {one["HostIp"] for several in published.values() for one in several} == {"127.0.0.1"}
    public = {f"{port.port}/tcp" for port in manifest.ports.values() if port.scope != "internal"}
    assert set(published) == public
    assert list(found["NetworkSettings"]["Networks"]) == [found["Name"].lstrip("/")]
    assert {one["Type"] for one in found["Mounts"]} <= {"volume", "bind"}
    assert not any(one["RW"] for one in found["Mounts"] if one["Type"] == "bind")
    assert sum(one["Type"] == "volume" for one in found["Mounts"]) == len(manifest.volumes)  # none without a name


def _check_secrets(engine: Engine, services: Services, instance: Instance) -> None:
    """Refuse a secret in what the engine shows, in what is shown of it, or in a file that others can read."""
    parameters = instance.service.manifest.parameters
    secrets = [str(value) for key, value in instance.values().items() if parameters[key].sensitive]
    compose = (instance.folder / "compose.yaml").read_text()
    rendered = services.render(instance.name)
    texts = [json.dumps(described(engine, instance)), compose, *rendered.values()]
    assert not any(secret in text for secret in secrets for text in texts)
    assert {"compose.yaml", *(f"files/{name}" for name in instance.service.manifest.files)} == set(rendered)
    assert rendered["compose.yaml"] == compose
    for path in (instance.folder / "files").iterdir():
        closed = stat.S_IMODE((instance.folder / "files").stat().st_mode) == 0o700
        assert closed
        assert stat.S_IMODE(path.stat().st_mode) == (0o600 if os.geteuid() == 0 else 0o444)


def _uninstalled(engine: Engine, services: Services, instance: Instance) -> None:
    """Uninstall, and compare what the engine had of it before with what it has afterwards."""
    contained = instance.record.container
    assert contained is not None
    found = described(engine, instance)
    volumes = [one["Name"] for one in found["Mounts"] if one["Type"] == "volume"]
    networks = list(found["NetworkSettings"]["Networks"])
    assert len(engine.inspect("volume", volumes)) == len(volumes)
    assert len(engine.inspect("network", networks)) == 1
    assert engine.inspect("image", [contained.image])
    services.uninstall(instance.name)
    assert engine.inspect("container", [contained.project]) == []
    assert engine.inspect("volume", volumes) == []
    assert engine.inspect("network", networks) == []
    if contained.built:
        assert engine.inspect("image", [contained.image]) == []
    for kind, listing in (("container", ["ls", "--all"]), ("volume", ["ls"]), ("network", ["ls"])):
        assert engine.call(kind, *listing, "--quiet", "--filter", f"label={LABEL}={contained.project}") == ""
