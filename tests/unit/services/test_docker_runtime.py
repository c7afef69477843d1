"""The docker runtime without an engine: what it would apply, and what it makes of an engine's answers and errors."""

from __future__ import annotations

import datetime as dt
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import msgspec
import pytest

from portable.errors import (
    AlreadyExists,
    ConfigError,
    DeadlineExceeded,
    IntegrityError,
    PermissionDenied,
    PortableError,
    Unavailable,
)
from portable.services.checking import findings
from portable.services.home import Home
from portable.services.instances import Contained, Instance, Record
from portable.services.manifest import Image
from portable.services.parameters import Value
from portable.services.planning import planned
from portable.services.reading import Service, read_service
from portable.services.runtimes import docker, docker_engine, docker_images, docker_volumes, runtime
from portable.services.runtimes.docker_compose import compose_file, project_of
from portable.services.runtimes.docker_engine import ENGINE, Engine, engine
from portable.services.wishes import Wish
from tests.unit.services.conftest import Write

CONTAINER = """
[ports.inner]
port = 7001
scope = "internal"

[ports.near]
port = 7002
scope = "machine"

[container]
command = ["demo", "${file:demo.conf}", "--at", "${host}:${port:main}", "--as", "${address:main}", "$$money"]
environment = { NAME = "${instance}", LEVEL = "${parameter:level}", PRICE = "$5" }
health = ["demo", "ping", "${command:demo}"]
"""


@pytest.fixture
def demo(write: Write) -> Service:
    return write(
        ('name = "demo/demo:1.0"', 'name = "demo/demo:1.0"\nuser = "12:34"\nread-only-root = true'), more=CONTAINER
    )


def instance_of(service: Service, folder: Path, **values: Any) -> Instance:
    wish = Wish(service=service, name="demo", on="docker", **values)
    wish.check()
    return planned(Home(folder), wish)


def rendered(instance: Instance) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.yaml.decode(runtime("docker").render(instance)["compose.yaml"])
    return found


def test_what_would_be_applied(demo: Service, tmp_path: Path) -> None:
    instance = instance_of(demo, tmp_path, parameters={"password": "pa$$word-of-16"})
    ports = instance.record.ports
    document = rendered(instance)
    project = project_of(instance)
    assert document["services"]["server"] == {
        "image": "demo/demo:1.0",
        "container_name": project,
        "hostname": "demo",
        "labels": {"portable.instance": project},
        "restart": "unless-stopped",
        "command": [
            "demo",
            "/etc/demo.conf",
            "--at",
            "0.0.0.0:7000",
            "--as",
            f"127.0.0.1:{ports['main']}",
            "$$$$money",
        ],
        "environment": {"NAME": "demo", "LEVEL": "2", "PRICE": "$$5"},
        "security_opt": ["no-new-privileges:true"],
        "user": "12:34",
        "cap_drop": ["ALL"],
        "read_only": True,
        "tmpfs": ["/tmp"],  # noqa: S108 (in the container)
        "ports": [f"127.0.0.1:{ports['main']}:7000", f"127.0.0.1:{ports['near']}:7002"],
        "volumes": [
            {"type": "volume", "source": "data", "target": "/data", "volume": {"nocopy": True}},
            {"type": "bind", "source": "./files/demo.conf", "target": "/etc/demo.conf", "read_only": True},
        ],
        "mem_limit": f"{32 * 1024 * 1024}b",
        "mem_reservation": f"{16 * 1024 * 1024}b",
        "pids_limit": 4096,
        "stop_grace_period": "30s",
        "healthcheck": {
            "test": ["CMD", "demo", "ping", "demo"],
            "interval": "30s",
            "timeout": "15s",
            "retries": 3,
            "start_period": "120s",
        },
        "logging": {"driver": "json-file", "options": {"max-size": "10m", "max-file": "3"}},
    }
    labels = {"portable.instance": project}
    assert document["networks"] == {"default": {"name": project, "labels": labels}}
    assert document["volumes"] == {"data": {"name": f"{project}-data", "labels": labels}}
    files = runtime("docker").render(instance)
    assert files["files/demo.conf"] == "password ***"
    assert set(files) == {"compose.yaml", "files/demo.conf"}
    assert not (tmp_path / ".portable").exists()


def test_an_address_that_is_asked_for_is_for_applications_alone(demo: Service, tmp_path: Path) -> None:
    instance = instance_of(demo, tmp_path, listen="0.0.0.0")  # noqa: S104 (asked for)
    ports = instance.record.ports
    published = rendered(instance)["services"]["server"]["ports"]
    assert published == [f"0.0.0.0:{ports['main']}:7000", f"127.0.0.1:{ports['near']}:7002"]
    assert runtime("docker").address(instance, "main") == ("127.0.0.1", ports["main"])
    other = instance_of(demo, tmp_path, listen="192.0.2.7")
    assert runtime("docker").address(other, "main")[0] == "192.0.2.7"
    assert runtime("docker").address(other, "near")[0] == "127.0.0.1"


def test_a_digest_is_part_of_the_image(write: Write, tmp_path: Path) -> None:
    digest = f"sha256:{'a' * 64}"
    service = write(('name = "demo/demo:1.0"', f'name = "demo/demo:1.0"\ndigest = "{digest}"'))
    server = rendered(instance_of(service, tmp_path))["services"]["server"]
    assert server["image"] == f"demo/demo:1.0@{digest}"
    # What the image begins as is its own affair: nothing is taken from it that it may need for that.
    assert not {"user", "cap_drop", "read_only", "command", "healthcheck"} & set(server)


def test_networks_of_needed_services(demo: Service, tmp_path: Path) -> None:
    instance = instance_of(demo, tmp_path)
    contained = Contained(engine="docker", project="portable-1-demo", image="demo:1", networks=["portable-1-other"])
    document = msgspec.yaml.decode(compose_file(instance, contained, docker.DockerRuntime().lookup(instance)))
    assert document["services"]["server"]["networks"] == ["default", "portable-1-other"]
    assert document["networks"]["portable-1-other"] == {"external": True, "name": "portable-1-other"}


def test_folders_of_this_machine_are_in_no_container(write: Write, tmp_path: Path) -> None:
    service = write(more='[container]\ncommand = ["demo", "${service}"]\n')
    with pytest.raises(ConfigError, match=r"demo: \$\{service\} is a folder of this machine"):
        rendered(instance_of(service, tmp_path))


def test_a_secret_that_the_engine_would_show_is_warned_of(write: Write) -> None:
    service = write(
        more='[container]\nenvironment = { PASSWORD = "${parameter:password}", LEVEL = "${parameter:level}" }\n'
    )
    shown = [message for severity, where, message in findings(service) if "the engine shows" in message]
    assert len(shown) == 1
    assert "password" in shown[0]


def test_templates_of_the_container_are_checked(write: Write) -> None:
    service = write(
        more='[container]\nhealth = ["demo", "${port:mian}"]\nenvironment = { A = "${address:x}", B = "${b" }\n'
    )
    errors = [message for severity, where, message in findings(service) if severity == "error"]
    assert any("no port 'mian'" in one for one in errors)
    assert any("no address 'x'" in one for one in errors)
    assert any("is no reference" in one for one in errors)


@pytest.mark.parametrize(
    ("seen", "count", "status", "detail"),
    [
        ({"Status": "running"}, 0, "running", ""),
        ({"Status": "running", "Health": {"Status": "unhealthy"}}, 0, "running", "its own check fails"),
        ({"Status": "running", "Health": {"Status": "starting"}}, 0, "running", ""),
        ({"Status": "restarting", "ExitCode": 3}, 2, "starting", "it ended with 3"),
        ({"Status": "restarting", "ExitCode": 3}, 5, "failed", "it ended with 3"),
        ({"Status": "restarting", "ExitCode": 3, "FinishedAt": "2026-01-01T01:00:00Z"}, 9, "starting",
         "it ended with 3"),
        ({"Status": "paused"}, 0, "stopped", "the container is paused"),
        ({"Status": "created"}, 0, "stopped", "the container is created"),
        ({"Status": "exited", "ExitCode": 0}, 0, "stopped", ""),
        ({"Status": "exited", "ExitCode": 143}, 0, "stopped", ""),
        ({"Status": "exited", "ExitCode": 1, "Error": "no such program"}, 0, "stopped",
         "it ended with 1: no such program"),
        ({"Status": "exited", "ExitCode": 137, "OOMKilled": True}, 0, "stopped",
         "it ended: it took more memory than its plan has; choose a larger one"),
    ],
)  # fmt: skip
def test_what_an_engine_says_of_a_container(seen: dict[str, Any], count: int, status: str, detail: str) -> None:
    state = docker._state({"State": {"StartedAt": "2026-01-01T00:00:00.123456789Z", **seen}, "RestartCount": count})
    assert (state.status, state.detail) == (status, detail)


def test_since_when() -> None:
    state = docker._state({"State": {"Status": "running", "StartedAt": "2026-01-01T00:00:00.123456789Z"}})
    assert state.since == dt.datetime(2026, 1, 1, 0, 0, 0, 123456, dt.UTC)
    assert docker._state({"State": {"Status": "created", "StartedAt": "0001-01-01T00:00:00Z"}}).since is None
    assert docker._state(None).status == "stopped"


Say = Callable[..., Engine]


@pytest.fixture
def say(tmp_path: Path) -> Say:
    """Make an engine's program that says one thing: real ones are spoken to in tests/integration."""

    def call(said: str, code: int = 1, *, stdout: str = "") -> Engine:
        program = tmp_path / "docker"
        (tmp_path / "said").write_text(said)
        (tmp_path / "stdout").write_text(stdout)
        program.write_text(f"#!/bin/sh\n/bin/cat {tmp_path}/stdout\n/bin/cat {tmp_path}/said >&2\nexit {code}\n")
        program.chmod(0o755)
        return Engine(str(program))

    return call


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        ("Cannot connect to the Docker daemon at unix:///x.sock. Is the docker daemon running?", Unavailable,
         "does not run; start it"),
        ("failed to connect to the docker API at unix:///x.sock: dial unix /x.sock: connect: no such file or directory",
         Unavailable, "does not run; start it"),
        ("permission denied while trying to connect to the Docker daemon socket", PermissionDenied,
         "usermod -aG docker"),
        ("Error: something else\nand more", Unavailable, "docker version failed: Error: something else and more"),
        ("", Unavailable, "docker version failed: 1"),
    ],
)  # fmt: skip
def test_errors_of_an_engine(say: Say, said: str, kind: type[PortableError], message: str) -> None:
    with pytest.raises(kind, match=message):
        say(said).check()
    assert issubclass(kind, PortableError)


def test_what_is_not_there_is_no_error_but_an_engine_is(say: Say) -> None:
    assert say("Error: No such object: x").inspect("container", ["x"]) == []
    assert say("Error response from daemon: network x not found", stdout="[]").inspect("network", ["x"]) == []
    assert say("", 0).inspect("network", []) == []
    assert not say("Error: No such image: x").succeeds("image", "inspect", "x")
    with pytest.raises(Unavailable, match="does not run"):
        say("Cannot connect to the Docker daemon").succeeds("image", "inspect", "x")
    with pytest.raises(Unavailable, match="does not run"):
        say("Cannot connect to the Docker daemon").inspect("container", ["x"])


def test_an_engine_that_takes_too_long(tmp_path: Path) -> None:
    program = tmp_path / "docker"
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    program.chmod(0o755)
    with pytest.raises(DeadlineExceeded, match="docker info took over"):
        Engine(str(program)).call("info", timeout=0.1)


def test_programs_that_are_not_there_or_cannot_be_run(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="is not installed; install Docker Engine"):
        Engine(str(tmp_path / "docker")).call("info")
    (tmp_path / "docker").write_text("no program")
    (tmp_path / "docker").chmod(0o755)
    with pytest.raises(Unavailable, match="cannot be run"):
        Engine(str(tmp_path / "docker")).call("info")


def test_an_engine_without_compose(say: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="has no Compose; install the plugin"):
        docker_engine._compose_command.__wrapped__(say("unknown command: docker compose").program)


def test_which_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ENGINE, raising=False)
    assert (engine().program, engine("named").program) == ("docker", "named")
    monkeypatch.setenv(ENGINE, "other")
    assert (engine().program, engine("named").program) == ("other", "named")
    monkeypatch.setenv("DOCKER_HOST", "tcp://192.0.2.7:2375")
    with pytest.raises(ConfigError, match=r"\$DOCKER_HOST is tcp://…, an engine of another machine"):
        engine("docker").check()


def test_where_an_image_can_be_had() -> None:
    digest = f"sha256:{'a' * 64}"
    image = Image(name="demo/demo:1.0", digest=digest, mirrors=["example.com/demo"])
    assert docker_images._names(image) == [f"demo/demo:1.0@{digest}", f"example.com/demo:1.0@{digest}"]
    assert docker_images._names(Image(name="demo:1.0")) == ["demo:1.0"]


def test_an_image_is_named_by_the_digest_that_was_seen(say: Say) -> None:
    digest = f"demo/demo@sha256:{'a' * 64}"
    found = msgspec.json.encode([{"RepoDigests": ["other@sha256:b", digest]}]).decode()
    assert docker_images._pinned(say("", 0, stdout=found), "demo/demo:1.0") == digest
    assert docker_images._pinned(say("", 0, stdout='[{"RepoDigests": []}]'), "demo/demo:1.0") == "demo/demo:1.0"
    assert docker_images._pinned(Engine("none"), digest) == digest


def test_the_context_of_a_build_is_known_for_one(demo: Service, tmp_path: Path) -> None:
    software = tmp_path / "software"
    (software / "bin").mkdir(parents=True)
    (software / "bin" / "demo").write_text("program")
    context = BytesIO()
    docker_images._pack(demo.folder, software, context)
    head = context.getvalue()[:512]
    assert head[:2] == b"./" or head[:1] == b"."
    assert head[257:262] == b"ustar"
    context.seek(0)
    with tarfile.open(fileobj=context) as archive:
        names = set(archive.getnames())
        assert {"./service.toml", "software/bin/demo"} <= names
        assert all((entry.uid, entry.gid) == (0, 0) for entry in archive)


def test_a_base_image_is_what_the_variable_names(demo: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(docker_images.BASE, "our/base:1")
    assert docker_images._base(Engine("none"), demo, lambda _: None) == "our/base:1"
    monkeypatch.delenv(docker_images.BASE)
    (demo.folder / "Dockerfile").write_text("FROM scratch\n")
    assert docker_images._base(Engine("none"), demo, lambda _: None) is None


def test_every_dockerfile_can_be_built_on_another_base() -> None:
    for path in sorted((Path(__file__).parents[3] / "contrib_services").glob("*/Dockerfile")):
        text = path.read_text()
        assert docker_images._ARGUMENT.search(text), path
        assert "FROM ${BASE}" in text, path
        service = read_service(path.parent)
        assert "USER " in text, path
        assert service.manifest.images["server"].user == text.split("USER ")[1].split()[0], path


def tar_of(*entries: tuple[str, bytes | None]) -> BytesIO:
    written = BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in entries:
            entry = tarfile.TarInfo(name)
            entry.mode = 0o640
            if content is None:
                entry.type = tarfile.DIRTYPE
            else:
                entry.size = len(content)
            archive.addfile(entry, BytesIO(content) if content is not None else None)
    written.seek(0)
    return written


def test_a_backup_becomes_the_servers_own(demo: Service, tmp_path: Path) -> None:
    instance, target = instance_of(demo, tmp_path), BytesIO()
    docker_volumes.own(instance, tar_of(("./", None), ("./data", None), ("./data/file", b"value")), target)
    target.seek(0)
    with tarfile.open(fileobj=target) as archive:
        entries = archive.getmembers()
        assert [entry.name.removeprefix("./") for entry in entries] == ["data", "data/file"]
        assert {(entry.uid, entry.gid, entry.mode) for entry in entries} == {(12, 34, 0o640)}
        content = archive.extractfile(entries[1])
        assert content is not None
        assert content.read() == b"value"


@pytest.mark.parametrize("name", ["../data/file", "/etc/passwd", "other/file", "data/../../x"])
def test_a_backup_that_leads_elsewhere_is_refused(demo: Service, tmp_path: Path, name: str) -> None:
    with pytest.raises(IntegrityError, match="in no volume of demo"):
        docker_volumes.own(instance_of(demo, tmp_path), tar_of((name, b"value")), BytesIO())


def test_whom_volumes_are_for(demo: Service, write: Write, tmp_path: Path) -> None:
    assert docker_volumes._owner(instance_of(demo, tmp_path)) == (12, 34)
    for user, owner in (("12", (12, 12)), ("demo", None), ("12:demo", None)):
        service = write(('name = "demo/demo:1.0"', f'name = "demo/demo:1.0"\nuser = "{user}"'), name="other")
        assert docker_volumes._owner(instance_of(service, tmp_path)) == owner


def test_values_of_every_kind(write: Write, tmp_path: Path) -> None:
    more = '[parameters.loud]\ntype = "boolean"\ndescription = "x"\ndefault = true\n'
    instance = instance_of(write(more=more), tmp_path)
    lookup = docker.DockerRuntime().lookup(instance)
    assert [lookup("parameter", "loud"), lookup("parameter", "level"), lookup("volume", "data")] == [
        "true",
        "2",
        "/data",
    ]


def test_what_is_not_prepared_has_nothing(demo: Service, tmp_path: Path) -> None:
    instance, platform = instance_of(demo, tmp_path), docker.DockerRuntime()
    assert platform.states([instance])[0].status == "stopped"
    assert list(platform.logs(instance, lines=5, follow=False)) == []
    platform.stop(instance)
    with pytest.raises(Unavailable, match="demo is not whole; run the installation again"):
        platform.execute(instance, ["demo"], timeout=1)


def test_a_project_is_named_by_its_folder(demo: Service, tmp_path: Path) -> None:
    one, two = instance_of(demo, tmp_path / "one"), instance_of(demo, tmp_path / "two")
    assert project_of(one) != project_of(two)
    assert project_of(one) == project_of(instance_of(demo, tmp_path / "one"))


@pytest.mark.parametrize("address", ["everywhere", "::1", "127.0.0.1:80", ""])
def test_an_address_that_is_none(demo: Service, address: str) -> None:
    with pytest.raises(ConfigError, match="is no IPv4 address to listen on"):
        Wish(service=demo, name="demo", on="docker", listen=address).check()


def test_another_address_than_that_of_the_installed_one(demo: Service, tmp_path: Path) -> None:
    instance = instance_of(demo, tmp_path)
    values: dict[str, Value] = {}
    Wish(service=demo, name="demo", on="docker", parameters=values).check_same(instance)
    with pytest.raises(AlreadyExists, match="another address to listen on"):
        Wish(service=demo, name="demo", on="docker", listen="192.0.2.7").check_same(instance)


def test_records_of_before_are_read() -> None:
    record = msgspec.json.decode(
        b'{"name": "a", "service": "a", "repository": "r", "revision": 1, "version": "1", "runtime": "process",'
        b'"plan": "dev", "stage": "installed", "created_at": "2026-01-01T00:00:00Z"}',
        type=Record,
    )
    assert (record.listen, record.container) == ("127.0.0.1", None)


def test_sources_are_this_machines_own() -> None:
    if shutil.which("apt-get") is None:
        assert docker_images._sources("bookworm") == []
        return
    assert docker_images._sources("no-such-release") == []
    listed = subprocess.run(["apt-get", "indextargets", "--format", "$(RELEASE)"], capture_output=True, check=True)
    if b"bookworm\n" in listed.stdout:
        assert docker_images._sources("bookworm")[0].split()[2:] == ["bookworm", "main"]
