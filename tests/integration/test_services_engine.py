"""The engine and the process runtime with a server that needs no network: every change, interrupted and repeated."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import pytest

from portable.config import Config
from portable.errors import (
    AlreadyExists,
    ConfigError,
    IntegrityError,
    InvalidArgument,
    NotFound,
    PreconditionFailed,
    Unavailable,
)
from portable.services import Services
from portable.services.catalogue import Catalogue, Repository
from portable.services.instances import load, stored
from portable.services.ports import is_free
from portable.services.runtimes import strays
from portable.services.runtimes.process import ProcessRuntime
from portable.services.runtimes.supervisor import Supervisor

HERE = Path(__file__).parent / "services"
CATALOGUE = Catalogue([Repository("tests", HERE)])


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """A project, whose services are all removed at the end."""
    engine = Services(tmp_path, catalogue=CATALOGUE)
    yield engine
    folder = engine.home.folder
    for name in engine.home.names():
        engine.uninstall(name)
    assert not list(strays.processes(folder))
    assert not (tmp_path / ".portable").exists()
    assert not folder.exists()


def until(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """Wait for a condition, with a deadline far beyond what it takes."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come about in time"
        time.sleep(0.02)
    return found


class Client:
    """Speaks to the echo server."""

    def __init__(self, services: Services, name: str = "echo") -> None:
        binding = services.binding(name, secrets=True)
        self._socket = socket.create_connection((binding["host"], int(binding["port"])), timeout=30)
        self._file = self._socket.makefile("rw", encoding="utf-8", newline="\n")
        try:
            assert self.say(f"PASS {binding['password']}") == "+OK"
        except BaseException:
            self.__exit__()
            raise

    def say(self, line: str) -> str:
        self._file.write(f"{line}\n")
        self._file.flush()
        answer = self._file.readline()
        if not answer:
            raise ConnectionError("the server has gone")
        return answer.rstrip("\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()


def who(services: Services, name: str = "echo") -> tuple[int, int, str, str]:
    with Client(services, name) as client:
        pid, uid, argument, variable = json.loads(client.say("WHO")[1:])
        return pid, uid, argument, variable


def test_installed_it_runs_unprivileged_with_what_the_manifest_says(services: Services) -> None:
    said: list[str] = []
    services.install("echo", report=said.append)
    assert said[0] == "preparing echo"
    assert said[-1] == "waiting for echo"
    pid, uid, argument, variable = who(services)
    assert uid != 0
    assert argument == "an argument; # with % signs"
    assert variable == 'a; # % "value"'
    (health,) = services.status(timeout=60)
    assert (health.status, health.healthy, health.service, health.plan) == ("running", True, "echo", "dev")
    assert health.since is not None
    assert health.endpoints == {"main": f"127.0.0.1:{services.binding('echo')['port']}"}
    with Client(services) as client:
        assert client.say("GET seed") == "+seed of echo"
    assert pid in set(strays.processes(services.home.folder, "echo"))
    assert any("echo: ready" in line for line in services.logs("echo"))


def test_secrets_are_private_and_in_no_process_list(services: Services) -> None:
    services.install("echo", parameters={"password": "secret%;#word"})
    folder = services.home.folder
    for path in [*(folder / "bindings" / "echo").iterdir(), *(folder / "echo" / "secrets").iterdir()]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "echo" / "files" / "echo.conf").stat().st_mode) == 0o600
    for pid in strays.processes(folder):
        assert b"secret%" not in Path(f"/proc/{pid}/cmdline").read_bytes()
    texts = [*services.render("echo").values(), *services.binding("echo").values(), str(services.status(timeout=60))]
    assert not any("secret" in text for text in texts)
    assert "secret" not in (folder / "echo" / "instance.json").read_text()
    assert services.binding("echo", secrets=True)["password"] == "secret%;#word"  # noqa: S105 (of the test)
    assert services.binding("echo", secrets=True)["uri"].startswith("echo://app:secret%25%3B%23word@")
    assert services.binding("echo")["uri"].startswith("echo://app:***@")


def test_a_profile_finds_it(services: Services) -> None:
    services.install("echo", name="orders-db")
    binding = services.binding("orders-db", secrets=True)
    config = Config.from_dict(
        {
            "resources": {"sessions": {"kind": "cache"}},
            "profiles": {"here": {"bind": {"sessions": "service:orders-db"}}},
        },
        services.home.project,
        environ={},
    )
    with pytest.raises(ConfigError, match="echo"):  # no adapter speaks it, but its URL was found
        config.profile("here").bound("sessions", "cache")
    from portable.config.services import service_url
    from portable.urls import Url

    found = service_url(Url.parse("service:orders-db"), services.home.project, "cache")
    assert (found.scheme, found.password) == ("echo", binding["password"])


def test_installing_again_changes_nothing(services: Services) -> None:
    services.install("echo")
    before = who(services)[0]
    record = (services.home.folder / "echo" / "instance.json").read_text()
    services.install("echo", plan="dev", parameters={"mode": "well"})
    assert who(services)[0] == before
    assert (services.home.folder / "echo" / "instance.json").read_text() == record
    with pytest.raises(AlreadyExists, match="another mode, plan"):
        services.install("echo", parameters={"mode": "deaf"}, plan="large")
    with pytest.raises(AlreadyExists, match="another password; it is left"):
        services.install("echo", parameters={"password": "hunter22"})
    assert who(services)[0] == before


def test_two_instances_stand_side_by_side(services: Services) -> None:
    services.install("echo")
    services.install("echo", name="other", plan="large")
    with Client(services) as one, Client(services, "other") as two:
        assert one.say("SET a here") == two.say("SET a there") == "+OK"
        assert one.say("GET a") == "+here"
    assert [(one.name, one.plan) for one in services.status(timeout=60)] == [("echo", "dev"), ("other", "large")]
    services.uninstall("echo")
    with Client(services, "other") as two:
        assert two.say("GET a") == "+there"


def test_down_and_up_keep_data_and_end_the_supervisor(services: Services) -> None:
    services.install("echo")
    with Client(services) as client:
        client.say("SET a kept")
    port = services.binding("echo")["port"]
    assert [one.name for one in services.down()] == ["echo"]
    assert not list(strays.processes(services.home.folder))
    assert is_free(int(port))
    (health,) = services.status(timeout=60)
    assert (health.status, health.healthy) == ("stopped", None)
    services.down(["echo"])
    assert [one.name for one in services.up()] == ["echo"]
    assert services.binding("echo")["port"] == port
    with Client(services) as client:
        assert client.say("GET a") == "+kept"


def test_a_crashed_server_is_started_again(services: Services) -> None:
    services.install("echo")
    pid = who(services)[0]
    os.kill(pid, signal.SIGKILL)

    def back() -> bool:
        try:
            return who(services)[0] != pid
        except (OSError, ValueError):
            return False

    until(back)


def test_a_killed_supervisor_leaves_nothing_in_the_way(services: Services) -> None:
    services.install("echo")
    (supervisor,) = set(strays.processes(services.home.folder)) - set(strays.processes(services.home.folder, "echo"))
    os.kill(supervisor, signal.SIGKILL)
    assert strays.wait_gone([supervisor], timeout=30)
    (health,) = services.status(timeout=60)
    assert health.status == "stopped"
    services.up()
    (health,) = services.status(timeout=60)
    assert (health.status, health.healthy) == ("running", True)
    (again,) = set(strays.processes(services.home.folder)) - set(strays.processes(services.home.folder, "echo"))
    os.kill(again, signal.SIGKILL)
    assert strays.wait_gone([again], timeout=30)
    services.uninstall("echo")
    assert not list(strays.processes(services.home.folder))


def test_it_outlives_the_shell_that_installed_it(services: Services) -> None:
    script = (
        "import sys; from pathlib import Path; from portable.services import Services; "
        "from portable.services.catalogue import Catalogue, Repository; "
        "Services(sys.argv[1], catalogue=Catalogue([Repository('tests', Path(sys.argv[2]))])).install('echo')"
    )
    command = [sys.executable, "-c", script, str(services.home.project), str(HERE)]
    with subprocess.Popen(command, start_new_session=True) as shell:
        assert shell.wait(60) == 0
    # What hung up would be told so: the whole of the session is gone.
    (health,) = Services(services.home.project).status(timeout=60)
    assert (health.status, health.healthy) == ("running", True)
    for pid in strays.processes(services.home.folder):
        assert os.getsid(pid) != shell.pid


def test_a_port_that_is_asked_for_is_given_or_refused(services: Services) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(AlreadyExists, match=f"port {number} for main of echo is taken by another program"):
            services.install("echo", ports={"main": number})
        assert services.status(timeout=60) == []
    services.install("echo")
    port = int(services.binding("echo")["port"])
    with pytest.raises(AlreadyExists, match="belongs to another installed service"):
        services.install("echo", name="other", ports={"main": port})
    services.down()
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(AlreadyExists, match=f"port {port} \\(main of echo\\) is taken by another program"):
            services.up()
    services.up()
    (health,) = services.status(timeout=60)
    assert health.healthy


def test_a_server_that_crashes_at_its_start_is_told_with_its_last_words(services: Services) -> None:
    with pytest.raises(Unavailable, match="as it was told, it crashes"):
        services.install("echo", parameters={"mode": "crash"})
    (health,) = services.status(timeout=60)
    assert (health.status, health.healthy) == ("incomplete", None)
    assert "run it again, or uninstall" in health.detail
    assert not list(strays.processes(services.home.folder, "echo"))
    with pytest.raises(PreconditionFailed, match="services install"):
        services.up()
    assert services.binding("echo") == {}


@pytest.mark.parametrize("moment", ["preparing", "setting up (2 of 2)", "starting", "waiting"])
def test_an_interrupted_installation_is_taken_up(services: Services, moment: str) -> None:
    class Interrupted(BaseException):
        pass

    def interrupt(what: str) -> None:
        if what.startswith(moment):
            raise Interrupted

    with pytest.raises(Interrupted):
        services.install("echo", report=interrupt)
    assert services.status(timeout=60)[0].status == "incomplete"
    services.install("echo")
    assert services.status(timeout=60)[0].healthy
    assert (services.home.folder / "echo" / "run" / "made").read_text() == "by setup"


def test_a_folder_without_a_record_is_in_nobodys_way(services: Services) -> None:
    services.home.prepare()
    (services.home.folder / "echo" / "volumes").mkdir(parents=True)
    assert services.status(timeout=60) == []
    with pytest.raises(NotFound, match="no service 'echo' is installed"):
        services.binding("echo")
    services.install("echo")
    services.uninstall("echo")
    services.home.prepare()
    (services.home.folder / "left" / "volumes").mkdir(parents=True)
    services.uninstall("left")


def test_an_interrupted_removal_is_taken_up(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    services.install("echo")

    def fail(*_: object, **__: object) -> None:
        raise OSError("interrupted")

    with monkeypatch.context() as patch:
        patch.setattr(ProcessRuntime, "remove", fail)
        with pytest.raises(OSError, match="interrupted"):
            services.uninstall("echo")
    assert services.status(timeout=60)[0].detail == "the removal was interrupted: run uninstall again"
    with pytest.raises(PreconditionFailed, match="services uninstall"):
        services.up(["echo"])
    services.install("echo")  # takes the removal to its end, and begins anew
    assert services.status(timeout=60)[0].healthy
    services.uninstall("echo")
    with pytest.raises(NotFound):
        services.uninstall("echo")


def test_kept_data_is_found_again(services: Services) -> None:
    services.install("echo")
    with Client(services) as client:
        client.say("SET a kept")
    password = services.binding("echo", secrets=True)["password"]
    services.uninstall("echo", keep_data=True)
    (health,) = services.status(timeout=60)
    assert health.status == "kept"
    assert not list(strays.processes(services.home.folder))
    services.uninstall("echo", keep_data=True)
    services.install("echo")
    assert services.binding("echo", secrets=True)["password"] == password
    with Client(services) as client:
        assert client.say("GET a") == "+kept"


def test_two_at_once_install_once(services: Services) -> None:
    script = (
        "import sys; from pathlib import Path; from portable.services import Services; "
        "from portable.services.catalogue import Catalogue, Repository; "
        "Services(sys.argv[1], catalogue=Catalogue([Repository('tests', Path(sys.argv[2]))]))"
        ".install('echo', name=sys.argv[3])"
    )
    commands = [
        [sys.executable, "-c", script, str(services.home.project), str(HERE), name] for name in ("one", "one", "two")
    ]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE) for command in commands]
    for process in running:
        _, said = process.communicate(timeout=100)
        assert process.returncode == 0, said.decode()
    found = Services(services.home.project).status(timeout=60)
    assert [(one.name, one.healthy) for one in found] == [("one", True), ("two", True)]
    assert found[0].endpoints != found[1].endpoints


def test_removing_and_installing_at_once_ends_whole(services: Services) -> None:
    services.install("echo")
    errors: list[BaseException] = []

    def attempt(call: Callable[[], Any]) -> None:
        try:
            call()
        except NotFound:
            pass
        except BaseException as error:  # noqa: BLE001 (shown by the test's own thread)
            errors.append(error)

    mine = Services(services.home.project, catalogue=CATALOGUE)
    theirs = Services(services.home.project, catalogue=CATALOGUE)
    threads = [
        threading.Thread(target=attempt, args=(lambda: mine.uninstall("echo"),)),
        threading.Thread(target=attempt, args=(lambda: theirs.install("echo", name="other"),)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert errors == []
    assert [(one.name, one.healthy) for one in Services(services.home.project).status(timeout=60)] == [("other", True)]


def test_what_is_damaged_is_left_alone(services: Services) -> None:
    services.install("echo")
    path = services.home.folder / "echo" / "instance.json"
    good = path.read_bytes()
    path.write_text("{")
    with pytest.raises(IntegrityError, match="the data is untouched under"):
        load(services.home, "echo")
    path.write_bytes(good)
    assert stored(services.home, "echo") is not None


@pytest.mark.parametrize("name", ["../up", "A", "a", "bindings", "packages", "a--b", "x" * 41, ""])
def test_names_of_instances_stay_in_their_folder(services: Services, name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"no name of an instance|take another name"):
        services.install("echo", name=name) if name else services.home.instance(name)
    assert not (services.home.project / ".portable").exists()


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"plan": "devv"}, "echo has no plan 'devv'; did you mean dev"),
        ({"on": "proces"}, "no runtime 'proces'; did you mean process"),
        ({"ports": {"man": 1}}, "echo has no port 'man'; did you mean main"),
        ({"ports": {"main": 70_000}}, "70000 is not a number of 1 to 65535"),
        ({"parameters": {"mod": "well"}}, "echo has no parameter 'mod'; did you mean mode"),
        ({"parameters": {"mode": "wel"}}, "parameter mode: 'wel' can be well, crash, deaf"),
        ({"parameters": {"password": "a\nb"}}, "parameter password: the value holds a character that cannot be"),
    ],
)
def test_wrong_wishes_make_nothing(services: Services, wish: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        services.install("echo", **wish)
    assert not (services.home.project / ".portable").exists()


def test_rendering_needs_no_installation(services: Services) -> None:
    files = services.render("echo", parameters={"password": "hunter22"})
    assert '"password": "***"' in files["files/echo.conf"]
    assert "an argument; # with % signs" in files["program.json"]
    assert not (services.home.project / ".portable").exists()


def test_logs_go_on_as_they_are_written(services: Services) -> None:
    services.install("echo")
    log = services.home.folder / "echo" / "logs" / "server.log"
    found: list[str] = []
    seen = threading.Event()

    def follow() -> None:
        for line in services.logs("echo", lines=1, follow=True):
            found.append(line)
            if line == "after":
                seen.set()
                return

    reader = threading.Thread(target=follow, daemon=True)
    reader.start()
    until(lambda: found)
    # As the supervisor turns a log over: renamed, and a new one begun.
    log.rename(log.with_name("server.log.1"))
    log.write_text("after\n")
    assert seen.wait(60)
    reader.join(10)
    assert list(services.logs("echo", lines=2)) == [found[0], "after"]


def test_a_long_path_does_not_stop_the_supervisor(tmp_path: Path) -> None:
    project = tmp_path.joinpath(*["a-folder-with-a-long-name"] * 6)
    project.mkdir(parents=True)
    tmp_path.chmod(0o755)
    services = Services(project, catalogue=CATALOGUE)
    try:
        services.install("echo")
        assert Supervisor(services.home).running()
        assert services.status(timeout=60)[0].healthy
    finally:
        services.uninstall("echo")
    assert not Supervisor(services.home).running()
    assert not services.home.folder.exists()


def test_needed_services_come_first_and_go_last(tmp_path: Path, services: Services) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(HERE / "echo", repository / "echo")
    shutil.copytree(HERE / "echo", repository / "front")
    manifest = repository / "front" / "service.toml"
    text = manifest.read_text().replace('name = "echo"', 'name = "front"')
    text = text.replace("[probes.ready]", '[dependencies.echo]\nservice = "echo"\n\n[probes.ready]')
    text = text.replace(
        'environment = { ECHO = "a; # % \\"value\\"" }', 'environment = { ECHO = "${binding:echo/port}" }'
    )
    manifest.write_text(text)
    both = Services(services.home.project, catalogue=Catalogue([Repository("tests", repository)]))
    both.install("front")
    assert [one.name for one in both.status(timeout=60)] == ["echo", "front"]
    assert who(both, "front")[3] == both.binding("echo")["port"]
    with pytest.raises(PreconditionFailed, match="echo is needed by front"):
        both.uninstall("echo")
    assert [one.name for one in both.down()] == ["front", "echo"]
    assert [one.name for one in both.up()] == ["echo", "front"]
    both.uninstall("front")
    both.uninstall("echo")


def changed(tmp_path: Path, *replacements: tuple[str, str]) -> Catalogue:
    """Give a repository with another revision of the server."""
    repository = tmp_path / "newer"
    shutil.rmtree(repository, ignore_errors=True)
    shutil.copytree(HERE / "echo", repository / "echo")
    path = repository / "echo" / "service.toml"
    text = path.read_text()
    for old, new in replacements:
        assert old in text
        text = text.replace(old, new, 1)
    path.write_text(text)
    return Catalogue([Repository("tests", repository)])


NEWER = (('version = "1.0"', 'version = "2.0"'), ("revision = 1", 'revision = 2\nupgrades-from = ["1.*"]'))


def test_an_upgrade_keeps_data_ports_and_secrets(tmp_path: Path, services: Services) -> None:
    services.install("echo")
    with Client(services) as client:
        client.say("SET a kept")
    binding = services.binding("echo", secrets=True)
    newer = Services(tmp_path, catalogue=changed(tmp_path, *NEWER))
    said: list[str] = []
    newer.upgrade("echo", report=said.append)
    assert said[0] == "stopping echo"
    (health,) = newer.status(timeout=60)
    assert (health.version, health.healthy) == ("2.0", True)
    assert newer.binding("echo", secrets=True) == binding
    with Client(newer) as client:
        assert client.say("GET a") == "+kept"
    newer.upgrade("echo")
    assert newer.status(timeout=60)[0].healthy
    with pytest.raises(PreconditionFailed, match="is of revision 2, and the repository has the older 1"):
        services.upgrade("echo")
    assert newer.status(timeout=60)[0].healthy


def test_an_upgrade_that_would_not_read_the_data_is_refused(tmp_path: Path, services: Services) -> None:
    services.install("echo")
    pid = who(services)[0]
    newer = Services(tmp_path, catalogue=changed(tmp_path, NEWER[0]))
    with pytest.raises(PreconditionFailed, match=r"2\.0 does not take over the data of 1\.0 \(it takes none\)"):
        newer.upgrade("echo")
    assert who(services)[0] == pid


def test_an_upgrade_that_does_not_come_up_goes_back(tmp_path: Path, services: Services) -> None:
    services.install("echo", parameters={"password": "hunter22"})
    newer = Services(tmp_path, catalogue=changed(tmp_path, *NEWER, ('default = "well"', 'default = "crash"')))
    said: list[str] = []
    with pytest.raises(Unavailable, match="as it was told, it crashes"):
        newer.upgrade("echo", parameters={"password": "hunter33", "mode": "crash"}, report=said.append)
    assert "going back to 1.0" in said
    (health,) = services.status(timeout=60)
    assert (health.version, health.healthy) == ("1.0", True)
    assert services.binding("echo", secrets=True)["password"] == "hunter22"  # noqa: S105 (of the test)
    assert sorted(path.name for path in (services.home.folder / "echo").glob("service*")) == ["service-1"]


def test_parameters_plan_and_port_change_by_an_upgrade(services: Services) -> None:
    services.install("echo")
    services.upgrade("echo", parameters={"password": "changed1"}, plan="large")
    assert services.status(timeout=60)[0].plan == "large"
    assert services.binding("echo", secrets=True)["password"] == "changed1"  # noqa: S105 (of the test)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        with pytest.raises(AlreadyExists, match="taken by another program"):
            services.upgrade("echo", ports={"main": number})
    services.up()
    services.upgrade("echo", ports={"main": number})
    assert services.binding("echo")["port"] == str(number)
    assert who(services)[0]
    with pytest.raises(ConfigError, match="has no plan 'larg'"):
        services.upgrade("echo", plan="larg")


def test_an_upgrade_that_was_interrupted_before_it_was_written_down_has_changed_nothing(
    tmp_path: Path, services: Services
) -> None:
    services.install("echo")
    services.down()
    folder = services.home.folder / "echo"
    shutil.copytree(changed(tmp_path, *NEWER).repositories[0].folder / "echo", folder / "service-2")
    services.up()
    assert services.status(timeout=60)[0].version == "1.0"
    assert sorted(path.name for path in folder.glob("service*")) == ["service-1"]


def test_a_port_that_was_taken_while_software_was_fetched_is_another_one(services: Services) -> None:
    with contextlib.ExitStack() as stack:
        lost: list[int] = []

        def take(said: str) -> None:
            if said == "preparing echo":
                (number,) = load(services.home, "echo").record.ports.values()
                stack.enter_context(socket.create_server(("127.0.0.1", number)))
                lost.append(number)

        services.install("echo", report=take)
        assert load(services.home, "echo").record.ports["main"] not in lost
        assert services.status(timeout=60)[0].healthy
    with contextlib.ExitStack() as stack, socket.create_server(("127.0.0.1", 0)) as held:
        wanted = held.getsockname()[1]
        held.close()

        def take_wanted(said: str) -> None:
            if said == "preparing other":
                stack.enter_context(socket.create_server(("127.0.0.1", wanted)))

        with pytest.raises(AlreadyExists, match=f"port {wanted} for main of other is taken"):
            services.install("echo", name="other", ports={"main": wanted}, report=take_wanted)


def test_who_looks_while_services_change_sees_whole_ones(services: Services) -> None:
    services.install("echo")
    versions: set[str] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            versions.update(one.service.manifest.version for one in services.instances())

    with ThreadPoolExecutor(2) as pool:
        looking = [pool.submit(look) for _ in range(2)]
        try:
            for number in range(3):
                services.upgrade("echo", parameters={"password": f"changed{number}"})
            services.uninstall("echo", keep_data=True)
            services.install("echo")
            services.uninstall("echo")
        finally:
            done.set()
        for one in looking:
            one.result(timeout=60)
    assert versions == {"1.0"}


def test_a_backup_is_restored_into_an_empty_instance(tmp_path: Path, services: Services) -> None:
    services.install("echo")
    with Client(services) as client:
        client.say("SET a kept")
    file = tmp_path / "echo.backup"
    made = services.backup("echo", file)
    assert (made.service, made.instance, made.method) == ("echo", "echo", "volumes")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert services.status(timeout=60)[0].healthy
    with pytest.raises(AlreadyExists, match="choose another name"):
        services.backup("echo", file)
    services.install("echo", name="other")
    with Client(services, "other") as client:
        client.say("SET b gone")
    services.down(["other"])
    services.restore("other", file)
    assert services.status(["other"], timeout=60)[0].status == "stopped"
    services.up(["other"])
    with Client(services, "other") as client:
        assert client.say("GET a") == "+kept"
        assert client.say("GET b") == "-NONE"


def test_a_backup_that_does_not_fit_restores_nothing(tmp_path: Path, services: Services) -> None:
    services.install("echo")
    file = tmp_path / "echo.backup"
    services.backup("echo", file)
    with Client(services) as client:
        client.say("SET a kept")
    content = file.read_bytes()
    cut, other = tmp_path / "cut", tmp_path / "other"
    cut.write_bytes(content[: len(content) // 2])
    other.write_bytes(b"something else")
    for wrong in (cut, other):
        with pytest.raises(IntegrityError, match=r"damaged|no backup"):
            services.restore("echo", wrong)
    newer = Services(tmp_path, catalogue=changed(tmp_path, *NEWER))
    newer.upgrade("echo")
    with pytest.raises(PreconditionFailed, match="install that version, restore, and upgrade"):
        newer.restore("echo", file)
    with Client(services) as client:
        assert client.say("GET a") == "+kept"


DUMPS = """
[backup.backup]
command = ["${command:python}", "-c", "import sys; print(open(sys.argv[1] + '/a').read())", "${volume:data}"]

[backup.restore]
command = ["${command:python}", "-c", "import sys; open(sys.argv[1] + '/a', 'w').write(input())", "${volume:data}"]

[provides]"""


def test_a_dump_is_made_and_read_while_the_server_runs(tmp_path: Path, services: Services) -> None:
    dumping = Services(tmp_path, catalogue=changed(tmp_path, ("\n[provides]", DUMPS)))
    dumping.install("echo")
    file = tmp_path / "echo.backup"
    with pytest.raises(Unavailable, match=r"the backup of echo failed: FileNotFoundError: .*No such file"):
        dumping.backup("echo", file)
    assert not file.exists()
    with Client(dumping) as client:
        client.say("SET a kept")
        assert dumping.backup("echo", file).method == "dump"
        client.say("SET a changed")
        dumping.restore("echo", file)
        assert client.say("GET a") == "+kept"
    dumping.down()
    with pytest.raises(PreconditionFailed, match="services up echo"):
        dumping.backup("echo", tmp_path / "second")


def test_what_keeps_no_data_is_not_backed_up(tmp_path: Path, services: Services) -> None:
    forgetful = Services(tmp_path, catalogue=changed(tmp_path, ("persistent = true", "persistent = false")))
    forgetful.install("echo")
    with pytest.raises(PreconditionFailed, match="keeps no data"):
        forgetful.backup("echo", tmp_path / "file")
