"""The docker runtime where something goes wrong, or two want the same, with small servers on a real engine."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from portable import open_cache
from portable.errors import AlreadyExists, ConfigError, PermissionDenied, PortableError, Unavailable
from portable.services import Services, repositories
from portable.services.catalogue import Catalogue, Repository, built_in
from portable.services.instances import Instance, load
from portable.services.ports import choose_port
from portable.services.runtimes import docker_volumes, runtime
from portable.services.runtimes.docker_engine import ENGINE, Engine
from portable.services.runtimes.docker_images import BASE, drop_built
from portable.testing.containers import container
from tests.docker_engine import ONCE

pytestmark = pytest.mark.timeout(900)

FRONT = r"""
schema = 1
name = "FRONT"
summary = "Asks the cache that it needs"
revision = 1
version = "1"
license = "Apache-2.0"
homepage = "https://example.com"
categories = ["test"]
persistent = false

[plans.dev]
summary = "small"
memory = "32MiB"

[ports.main]
port = 7000

[dependencies.SMALL]
service = "SMALL"

[container]
command = ["sleep", "infinity"]
environment = { DOLLAR = "a$b$${c}" }

[probes.ready]
command = ["bash", "-c", '''
exec 3<>/dev/tcp/${binding:SMALL/host}/${binding:SMALL/port}
printf "PING\r\n" >&3
read -r line <&3
echo "$line $DOLLAR"
''']
expect = '^-NOAUTH.* a\$b\$\{c\}'

[probes.functional]
command = ["bash", "-c", "read -r word; echo $word $VARIABLE"]
input = "said\n"
environment = { VARIABLE = "${instance}" }
expect = "^said FRONT"

[binding]
type = "front"
uri = "tcp://${address:main}"
"""
DOCKERFILE = "ARG BASE=debian:bookworm-slim\nFROM ${BASE}\nSTOPSIGNAL SIGKILL\nUSER 1000:1000\n"


@pytest.fixture
def small() -> str:
    """Name a service that no other test has: images go by the service's name."""
    return f"small{uuid.uuid4().hex[:8]}"


@pytest.fixture
def catalogue(tmp_path: Path, docker_engine: Engine, small: str) -> Catalogue:
    """Valkey under that name, built in no time on an image that is made once, and a service that needs it."""
    repository = tmp_path / "repository"
    folder = repository / small
    shutil.copytree(built_in().folder / "valkey", folder)
    manifest = folder / "service.toml"
    manifest.write_text(manifest.read_text().replace('name = "valkey"', f'name = "{small}"', 1))
    (folder / "Dockerfile").write_text(f"FROM {ONCE}\nLABEL portable.test=small\n")
    front = repository / front_of(small)
    front.mkdir()
    (front / "service.toml").write_text(FRONT.lstrip().replace("SMALL", small).replace("FRONT", front_of(small)))
    (front / "Dockerfile").write_text(DOCKERFILE)
    (front / "README.md").write_text("# Front\n")
    return Catalogue([Repository("tests", repository)])


def front_of(small: str) -> str:
    return small.replace("small", "front")


def _without_software(manifest: Path) -> None:
    """Have nothing fetched for the image."""
    text = manifest.read_text()
    start, end = (
        text.index('[[process.software]]\nsource = "pypi"'),
        text.index('[[process.software]]\nsource = "path"'),
    )
    manifest.write_text(text[:start] + text[end:])


@pytest.fixture
def services(tmp_path: Path, catalogue: Catalogue, docker_engine: Engine, small: str) -> Iterator[Services]:
    _without_software(catalogue.repositories[0].folder / small / "service.toml")
    project = tmp_path / "project"
    project.mkdir()
    engine = Services(project, catalogue=catalogue)
    yield engine
    folder = engine.home.folder
    for name in sorted(engine.home.names(), key=lambda one: not one.startswith("front")):
        engine.uninstall(name)
    assert not folder.exists()
    assert list(project.iterdir()) == []
    assert left(docker_engine, engine, small) == []


def left(engine: Engine, services: Services, small: str) -> list[str]:
    """List what the engine still has of a test."""
    place = hashlib.sha256(str(services.home.folder).encode()).hexdigest()[:8]
    found = ""
    for service in (small, front_of(small)):
        found += engine.call("image", "ls", "--quiet", "--filter", f"label=portable.built={service}")
    for kind, listing in (("container", ["ls", "--all"]), ("volume", ["ls"]), ("network", ["ls"])):
        found += engine.call(kind, *listing, "--quiet", "--filter", f"name=portable-{place}")
    return found.split()


def replace(catalogue: Catalogue, service: str, file: str, old: str, new: str) -> None:
    path = catalogue.repositories[0].folder / service / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def project_of(instance: Instance) -> str:
    assert instance.record.container is not None
    return instance.record.container.project


class InterruptedHereError(Exception):
    """A stop in the middle of an installation."""


@pytest.mark.parametrize("word", ["preparing", "fetching", "building", "starting", "waiting"])
def test_an_interrupted_installation_is_taken_up(services: Services, word: str, small: str) -> None:
    def stop(said: str) -> None:
        if said.startswith(word):
            raise InterruptedHereError

    with pytest.raises(InterruptedHereError):
        services.install(small, name="small", on="docker", report=stop)
    assert services.status()[0].status == "incomplete"
    services.install(small, name="small", on="docker")
    assert services.status(timeout=60)[0].healthy


@pytest.mark.parametrize("word", ["building", "waiting"])
def test_an_interrupted_installation_is_removed(services: Services, word: str, small: str) -> None:
    def stop(said: str) -> None:
        if said.startswith(word):
            raise InterruptedHereError

    with pytest.raises(InterruptedHereError):
        services.install(small, name="small", on="docker", report=stop)
    services.uninstall("small")
    assert services.instances() == []


def test_an_interruption_between_container_and_volumes(
    services: Services, monkeypatch: pytest.MonkeyPatch, small: str
) -> None:
    with monkeypatch.context() as patch:

        def stop(*_: object) -> None:
            raise InterruptedHereError

        patch.setattr(docker_volumes, "hand_over", stop)
        with pytest.raises(InterruptedHereError):
            services.install(small, name="small", on="docker")
    services.install(small, name="small", on="docker")
    assert services.status(timeout=60)[0].healthy


def test_several_at_once_beside_each_other(services: Services, catalogue: Catalogue, small: str) -> None:
    names = ["small", "other-one", "other-two", "small"]
    with ThreadPoolExecutor(len(names)) as pool:
        done = list(pool.map(lambda name: services.install(small, name=name, on="docker"), names))
    assert {one.name for one in done} == set(names)
    assert all(one.healthy for one in services.status(timeout=60))
    with open_cache(services.binding("small", secrets=True)["uri"], name="one") as cache:
        cache.set("key", "small")
    with open_cache(services.binding("other-one", secrets=True)["uri"], name="two") as cache:
        assert cache.get("key") is None
    # The image stays for as long as an instance has it.
    services.uninstall("other-one")
    services.up(["other-two"])


def test_data_is_kept_where_it_is_asked_for_and_over_an_upgrade(
    services: Services, catalogue: Catalogue, small: str
) -> None:
    manifest = catalogue.repositories[0].folder / small / "service.toml"
    text = manifest.read_text()
    manifest.write_text(text.replace('version = "9.1.2"', 'version = "9.0.0"'))
    old = services.install(small, name="small", on="docker")
    with open_cache(services.binding("small", secrets=True)["uri"], name="kept") as cache:
        cache.set("key", "value")
    services.uninstall("small", keep_data=True)
    assert services.status()[0].status == "kept"
    services.install(small, name="small", on="docker")
    manifest.write_text(text)
    services.upgrade("small", parameters={"max-memory": "64mb"})
    new = load(services.home, "small")
    assert (old.record.version, new.record.version) == ("9.0.0", "9.1.2")
    assert project_of(old) == project_of(new)
    with open_cache(services.binding("small", secrets=True)["uri"], name="kept") as cache:
        assert cache.get("key") == "value"


def test_a_failed_upgrade_goes_back(services: Services, catalogue: Catalogue, small: str) -> None:
    services.install(small, name="small", on="docker")
    replace(catalogue, small, "service.toml", "revision = 1", "revision = 2")
    replace(catalogue, small, "files/valkey.conf", "appendonly yes", "appendonly perhaps")
    with pytest.raises(Unavailable, match=r"ended at its start(.|\n)*appendonly"):
        services.upgrade("small")
    assert load(services.home, "small").record.revision == 1
    assert services.status(timeout=60)[0].healthy


def test_what_does_not_start_says_why_and_is_not_started_again(
    services: Services, catalogue: Catalogue, small: str
) -> None:
    replace(catalogue, small, "files/valkey.conf", "appendonly yes", "appendonly perhaps")
    with pytest.raises(Unavailable, match=r"small ended at its start; its log ends with:(.|\n)*perhaps"):
        services.install(small, name="small", on="docker")
    instance = load(services.home, "small")
    (state,) = runtime("docker").states([instance])
    assert state.status == "stopped"
    replace(catalogue, small, "files/valkey.conf", "appendonly perhaps", "appendonly yes")
    services.uninstall("small")
    services.install(small, name="small", on="docker")


def test_a_service_reaches_the_one_that_it_needs(services: Services, docker_engine: Engine, small: str) -> None:
    services.install(front_of(small), on="docker")
    assert {one.name: one.healthy for one in services.status(timeout=60)} == {front_of(small): True, small: True}
    assert services.binding(front_of(small))["uri"].startswith("tcp://127.0.0.1:")
    services.down()
    services.up()
    (found,) = docker_engine.inspect("container", [project_of(load(services.home, front_of(small)))])
    assert len(found["NetworkSettings"]["Networks"]) == 2


def test_a_taken_port_is_refused(services: Services, small: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(AlreadyExists, match=f"port {number}"):
            services.install(small, name="small", on="docker", ports={"main": number})
        services.install(small, name="small", on="docker")
        services.down()
    port = load(services.home, "small").record.ports["main"]
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(AlreadyExists, match=rf"port {port} \(main of small\) is taken"),
    ):
        services.up()
    services.up()


def test_ports_are_on_other_addresses_only_where_asked(services: Services, docker_engine: Engine, small: str) -> None:
    number = choose_port(None, (), name="main")
    services.install(small, name="small", on="docker", listen="0.0.0.0", ports={"main": number})  # noqa: S104 (asked for)
    (found,) = docker_engine.inspect("container", [project_of(load(services.home, "small"))])
    assert found["NetworkSettings"]["Ports"]["6379/tcp"][0] == {"HostIp": "0.0.0.0", "HostPort": str(number)}  # noqa: S104
    assert services.binding("small")["host"] == "127.0.0.1"
    with pytest.raises(AlreadyExists, match="another address to listen on"):
        services.install(small, name="small", on="docker", listen="127.0.0.1")
    with pytest.raises(ConfigError, match=r"the process runtime listens on 127\.0\.0\.1 alone"):
        services.install(small, name="other-one", listen="0.0.0.0")  # noqa: S104
    with pytest.raises(ConfigError, match="no IPv4 address to listen on"):
        services.install(small, name="other-one", on="docker", listen="everywhere")


def test_logs(services: Services, small: str) -> None:
    services.install(small, name="small", on="docker")
    lines = list(services.logs("small", lines=1000))
    assert any("Ready to accept connections" in line for line in lines)
    assert len(list(services.logs("small", lines=2))) == 2
    following = services.logs("small", lines=1, follow=True)
    assert next(following)
    services.down()
    assert "bye bye" in next(line for line in following if "bye bye" in line)
    following.close()  # type: ignore[attr-defined] # it is a generator


def test_an_image_removed_meanwhile_is_built_again(services: Services, docker_engine: Engine, small: str) -> None:
    instance = services.install(small, name="small", on="docker")
    services.uninstall("small", keep_data=True)
    drop_built(docker_engine, small)
    assert instance.record.container is not None
    assert docker_engine.inspect("image", [instance.record.container.image]) == []
    services.install(small, name="small", on="docker")


def test_an_engine_that_does_not_run(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: str
) -> None:
    services.install(small, name="small", on="docker")
    address = os.environ.get("DOCKER_HOST", "")
    with monkeypatch.context() as patch:
        patch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
        with pytest.raises(Unavailable, match=r"the engine of docker does not run; start it"):
            services.install(small, name="other-one", on="docker")
        (health,) = services.status()
        assert (health.status, health.detail.startswith("the engine of docker does not run")) == ("failed", True)
        with pytest.raises(Unavailable, match="does not run"):
            services.uninstall("small")
        patch.setenv("DOCKER_HOST", "ssh://somewhere.example")
        with pytest.raises(ConfigError, match="an engine of another machine"):
            services.install(small, name="other-one", on="docker")
        patch.setenv(ENGINE, str(tmp_path / "missing"))
        patch.setenv("DOCKER_HOST", address)
        with pytest.raises(Unavailable, match="is not installed"):
            services.install(small, name="other-one", on="docker")
        patch.delenv(ENGINE)
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(Unavailable, match="docker is not installed"):
            services.install(small, name="other-one", on="docker")
    assert [one.name for one in services.instances()] == ["small"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user whom the engine does not know")
def test_an_engine_that_may_not_be_used(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: str
) -> None:
    program = tmp_path / "docker"
    program.write_text(f'#!/bin/sh\nexec setpriv --reuid=65534 --clear-groups {shutil.which("docker")} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv(ENGINE, str(program))
    with pytest.raises(PermissionDenied, match="may not be used by this user"):
        services.install(small, name="small", on="docker")
    assert services.instances() == []


def test_no_image_can_be_had(
    services: Services, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch, small: str
) -> None:
    replace(catalogue, small, "Dockerfile", "LABEL portable.test=small", "COPY nothing /")
    replace(catalogue, small, "service.toml", 'name = "valkey/valkey:9.1.2"', 'name = "portable-tests/none:9.1.2"')
    with pytest.raises(
        Unavailable, match=r"there is no image of small\w+: portable-tests/none:9.1.2: .*building it failed: .*nothing"
    ):
        services.install(small, name="small", on="docker")
    services.uninstall("small")
    (catalogue.repositories[0].folder / small / "Dockerfile").unlink()
    with pytest.raises(Unavailable, match="its folder has no Dockerfile to build one"):
        services.install(small, name="small", on="docker")
    services.uninstall("small")
    (catalogue.repositories[0].folder / small / "Dockerfile").write_text(
        "ARG BASE=portable-tests/none:1\nFROM ${BASE}\n"
    )
    monkeypatch.delenv(BASE)
    with pytest.raises(Unavailable, match=f"name an image of Debian that the engine has in .{BASE}"):
        services.install(small, name="small", on="docker")


def test_a_damaged_backup_leaves_the_data(services: Services, tmp_path: Path, small: str) -> None:
    services.install(small, name="small", on="docker")
    with open_cache(services.binding("small", secrets=True)["uri"], name="kept") as cache:
        cache.set("key", "value")
    services.backup("small", tmp_path / "backup")
    (tmp_path / "broken").write_bytes((tmp_path / "backup").read_bytes()[:-100])
    with pytest.raises(PortableError):
        services.restore("small", tmp_path / "broken")
    with open_cache(services.binding("small", secrets=True)["uri"], name="kept") as cache:
        assert cache.get("key") == "value"


def test_backups_go_from_one_runtime_to_another(
    tmp_path: Path, catalogue: Catalogue, docker_engine: Engine, small: str
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    services = Services(project, catalogue=catalogue)
    try:
        services.install(small, name="one")
        services.install(small, name="two", on="docker")
        for source, target in (("one", "two"), ("two", "one")):
            with open_cache(services.binding(source, secrets=True)["uri"], name="moved") as cache:
                cache.set("from", source)
            file = tmp_path / f"{source}.backup"
            services.backup(source, file)
            services.restore(target, file)
            with open_cache(services.binding(target, secrets=True)["uri"], name="moved") as cache:
                assert cache.get("from") == source
    finally:
        for name in services.home.names():
            services.uninstall(name)
    assert list(project.iterdir()) == []
    assert left(docker_engine, services, small) == []


def test_a_container_for_a_test(tmp_path: Path, catalogue: Catalogue, docker_engine: Engine, small: str) -> None:
    home = Services(tmp_path).home
    repositories.publish([catalogue.service(small)], tmp_path / "published")
    repositories.add(home, "tests", str(tmp_path / "published"))
    try:
        with container(small, parameters={"max-memory": "32mb"}, project=tmp_path) as url:
            (found,) = _of(docker_engine, small)
            assert found["HostConfig"]["ReadonlyRootfs"]
            assert found["HostConfig"]["CapDrop"] == ["ALL"]
            assert {one["HostIp"] for one in found["NetworkSettings"]["Ports"]["6379/tcp"]} == {"127.0.0.1"}
            assert not [one for one in found["Mounts"] if one["Type"] == "volume"]
            with open_cache(url, name="tests") as cache:
                cache.set("key", "value")
                assert cache.get("key") == "value"
        assert _of(docker_engine, small) == []
        with pytest.raises(ZeroDivisionError), container(small, project=tmp_path):
            raise ZeroDivisionError
        assert _of(docker_engine, small) == []
        with pytest.raises(ConfigError, match="no parameter 'max-memry'"):
            container(small, parameters={"max-memry": "1mb"}, project=tmp_path).__enter__()
    finally:
        repositories.remove(home, "tests")
        drop_built(docker_engine, small)


def _of(engine: Engine, small: str) -> list[dict[str, Any]]:
    names = engine.call(
        "container", "ls", "--all", "--filter", f"label=portable.built={small}", "--format", "{{.Names}}"
    )
    return engine.inspect("container", names.split())
