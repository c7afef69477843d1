"""The engine's parts: parameters, templates, bindings, ports, probes, accounts, locks and the catalogue."""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from portable.errors import AlreadyExists, ConfigError, DeadlineExceeded, InvalidArgument, NotFound, Unavailable
from portable.services.accounts import Account, can_enter, unprivileged, which
from portable.services.bindings import entries, read_entries, remove_binding, shown, write_binding
from portable.services.catalogue import Catalogue, Repository
from portable.services.home import Home, make_folder, write_private
from portable.services.manifest import Probe, Software, Step
from portable.services.parameters import Generated, Parameter, Value, check_value, decided, generate, read_value
from portable.services.ports import choose_port, is_free
from portable.services.probing import Answer, ask, wait_until
from portable.services.runtimes import runtime
from portable.services.software import Fetched, environment_of, fetch, locate
from portable.services.templates import expanded, references

from .conftest import Write

TEXT = Parameter(type="string", description="a text", min_length=2, max_length=5, pattern="[a-z]+")
NUMBER = Parameter(type="number", description="a number", minimum=0.5, maximum=2)
SECRET = Parameter(type="string", description="a secret", sensitive=True, generated=Generated(length=20))


@pytest.mark.parametrize(
    ("parameter", "text", "value"),
    [
        (TEXT, "abc", "abc"),
        (NUMBER, "1.5", 1.5),
        (Parameter(type="integer", description="d"), "-3", -3),
        (Parameter(type="boolean", description="d"), "True", True),
        (Parameter(type="string", description="d", enum=["a", "b"]), "b", "b"),
    ],
)
def test_values_are_read_from_text(parameter: Parameter, text: str, value: Value) -> None:
    assert read_value("p", parameter, text) == value


@pytest.mark.parametrize(
    ("parameter", "text", "message"),
    [
        (TEXT, "a", "'a' must have at least 2 characters"),
        (TEXT, "abcdef", "must have at most 5 characters"),
        (TEXT, "ABC", r"'ABC' must match \[a-z\]\+"),
        (NUMBER, "0.1", "must be at least 0.5"),
        (NUMBER, "3", "must be at most 2"),
        (NUMBER, "nan", "is not finite"),
        (NUMBER, "x", "'x' is no number"),
        (Parameter(type="integer", description="d"), "1.5", "is no integer"),
        (Parameter(type="boolean", description="d"), "yes", "is no boolean"),
        (Parameter(type="string", description="d", enum=["a", "b"]), "c", "'c' can be a, b"),
        (Parameter(type="string", description="d"), "a\nb", "cannot be printed"),
    ],
)
def test_values_that_do_not_fit_are_refused(parameter: Parameter, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"parameter p: .*{message}"):
        read_value("p", parameter, text)


def test_a_secret_is_not_repeated() -> None:
    with pytest.raises(ConfigError) as caught:
        read_value("p", Parameter(type="string", description="d", sensitive=True, max_length=3), "hunter2")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigError, match="the value is no string"):
        check_value("p", SECRET, 5)
    with pytest.raises(ConfigError, match="is no integer"):
        check_value("p", Parameter(type="integer", description="d"), value=True)


def test_values_are_decided_in_order() -> None:
    parameters = {"a": TEXT, "secret": SECRET, "n": Parameter(type="integer", description="d", default=1)}
    with pytest.raises(ConfigError, match=r"parameter a has no value .* give it with --set a="):
        decided(parameters, {}, {}, {})
    first = decided(parameters, {"a": "given"}, {"a": "plan", "n": 7}, {})
    assert (first["a"], first["n"]) == ("given", 7)
    assert len(str(first["secret"])) == 20
    again = decided(parameters, {"a": "other"}, {}, first)
    assert (again["a"], again["n"], again["secret"]) == ("other", 7, first["secret"])
    with pytest.raises(ConfigError, match="no parameter 'secrets'; did you mean secret"):
        decided(parameters, {"secrets": "x"}, {}, {})


def test_secrets_differ() -> None:
    made = {generate(SECRET) for _ in range(100)}
    assert len(made) == 100
    assert all(text.isalnum() and len(text) == 20 for text in made)
    assert len(generate(TEXT)) == 32


def test_templates() -> None:
    def lookup(scope: str, name: str) -> str:
        return f"<{scope}|{name}>"

    assert expanded("a ${host} ${port:main} $${x} $x", lookup) == "a <host|> <port|main> ${x} $x"
    assert list(references("${binding:db/uri} $${no} ${file:a.b}")) == [("binding", "db/uri"), ("file", "a.b")]
    for wrong in ("${", "${A}", "${a b}", "${a:}"):
        with pytest.raises(ConfigError, match="is no reference"):
            list(references(wrong))


def test_bindings_are_encoded_private_and_redacted(write: Write, tmp_path: Path) -> None:
    manifest = write(("[provides]", 'entries = { password = "${parameter:password}" }\n\n[provides]')).manifest
    values = {("parameter", "password"): "a/b@c", ("host", ""): "127.0.0.1", ("port", "main"): "7001"}
    found = entries(manifest, lambda scope, name: values[scope, name])
    assert found["uri"] == "demo://:a%2Fb%40c@127.0.0.1:7001"
    assert found["password"] == "a/b@c"  # noqa: S105 (of the test)
    folder = tmp_path / "bindings" / "demo"
    write_binding(folder, found)
    assert read_entries(folder) == found
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    write_binding(folder, {"uri": "demo://other"})
    assert read_entries(folder) == {"uri": "demo://other"}
    assert shown(found, {"password": "a/b@c"})["uri"] == "demo://:***@127.0.0.1:7001"
    assert shown(found, {"password": "a/b@c"})["password"] == "***"  # noqa: S105 (of the test)
    assert shown(found, {"password": ""}) == found
    remove_binding(folder)
    remove_binding(folder)
    assert read_entries(folder) == {}
    assert list(folder.parent.iterdir()) == []


def test_a_kind_can_have_a_uri_of_its_own(write: Write) -> None:
    manifest = write(("cache = {}", 'cache = { uri = "other://${host}" }')).manifest
    assert entries(manifest, lambda scope, _: f"<{scope}>")["uri-cache"] == "other://<host>"


def test_ports_are_free_and_not_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.getsockname()[1]
        assert not is_free(number)
        with pytest.raises(AlreadyExists, match=f"port {number} for p is taken by another program"):
            choose_port(number, (), name="p")
    assert is_free(number)
    assert choose_port(number, (), name="p") == number
    with pytest.raises(AlreadyExists, match="belongs to another installed service"):
        choose_port(number, {number}, name="p")
    assert 20_000 <= choose_port(None, (), name="p") < 32_000
    with pytest.raises(Unavailable, match="no free port was found for p"):
        choose_port(None, range(20_000, 32_000), name="p")


@pytest.fixture
def server() -> Iterator[tuple[str, int]]:
    """A server that greets, echoes lines in parts, and hangs up on `bye`."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, connection.makefile("rwb", buffering=0) as file:
                file.write(b"hello\r\n")
                for line in file:
                    if line.startswith(b"bye"):
                        break
                    for byte in line:
                        file.write(bytes([byte]))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield listening.getsockname()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()
    thread.join(10)


def nowhere(_: str) -> tuple[str, int]:
    raise AssertionError


def no_command(_: Probe, __: float) -> Answer:
    raise AssertionError


def test_a_conversation_goes_on_with_another_port(server: tuple[str, int]) -> None:
    steps = [Step(expect="^hello"), Step(send="a\n", expect="^a"), Step(port="other", expect="^hello")]
    asked: list[str] = []

    def address(port: str) -> tuple[str, int]:
        asked.append(port)
        return server

    ask(Probe(port="main", exchange=steps), address=address, lookup=lambda s, _: s, run=no_command)
    assert asked == ["main", "other"]
    last = [*steps[:2], Step(port="other", expect="^bye")]
    with pytest.raises(DeadlineExceeded):
        ask(Probe(port="main", exchange=last), address=address, lookup=lambda s, _: s, run=no_command, timeout=0.3)


def test_a_conversation_is_followed(server: tuple[str, int]) -> None:
    steps = [Step(expect="^hello"), Step(send="a${host}\n", expect="a<host>"), Step(send_hex="62 0a", expect="^b\n")]
    ask(Probe(port="main", exchange=steps), address=lambda _: server, lookup=lambda s, _: f"<{s}>", run=no_command)


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (Step(send="bye\n", expect="good"), Unavailable, "the answer to step 2 does not match 'good'"),
        (Step(send="secret\n", expect="good"), DeadlineExceeded, "no answer from 127.0.0.1:"),
    ],
)
def test_a_wrong_answer_is_told_without_what_was_sent(
    server: tuple[str, int], step: Step, error: type[Exception], message: str
) -> None:
    probe = Probe(port="main", exchange=[Step(expect="hello"), step])
    with pytest.raises(error, match=message) as caught:
        ask(probe, address=lambda _: server, lookup=lambda s, _: s, run=no_command, timeout=0.3)
    assert "secret" not in str(caught.value)


def test_nobody_listening_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = closed.getsockname()
    with pytest.raises(Unavailable, match=f"127.0.0.1:{address[1]}: Connection refused"):
        ask(
            Probe(port="main", exchange=[Step(expect="x")]),
            address=lambda _: address,
            lookup=lambda s, _: s,
            run=no_command,
        )


def test_a_command_is_judged_by_its_code_and_output() -> None:
    probe = Probe(command=["x"], expect="^works")
    for answer, message in [
        (Answer(0, "works"), None),
        (Answer(0, "no"), "output does not match"),
        (Answer(3, "a\nlast\n"), "the probe ended with 3: last"),
        (Answer(3, ""), "without a word"),
    ]:
        if message is None:
            ask(probe, address=nowhere, lookup=lambda s, _: s, run=lambda *_, found=answer: found)
        else:
            with pytest.raises(Unavailable, match=message):
                ask(probe, address=nowhere, lookup=lambda s, _: s, run=lambda *_, found=answer: found)


def test_waiting_ends_with_the_last_answer_or_when_it_is_in_vain() -> None:
    tries: list[int] = []

    def question() -> None:
        tries.append(1)
        if len(tries) < 3:
            raise Unavailable("not yet")

    wait_until(question, timeout=60, alive=lambda: None)
    assert len(tries) == 3

    def never() -> None:
        raise Unavailable("no")

    with pytest.raises(Unavailable, match="not ready within 0 s: no"):
        wait_until(never, timeout=0, alive=lambda: None)

    def dead() -> None:
        raise Unavailable("it ended")

    with pytest.raises(Unavailable, match="it ended"):
        wait_until(never, timeout=60, alive=dead)

    def wrong() -> None:
        raise ConfigError("no question")

    with pytest.raises(ConfigError, match="no question"):
        wait_until(wrong, timeout=60, alive=lambda: None)


def test_servers_do_not_run_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        assert unprivileged().name == "nobody"
        assert unprivileged().uid != 0
        monkeypatch.setenv("PORTABLE_SERVICES_USER", "no-such-user")
        with pytest.raises(ConfigError, match="there is no user 'no-such-user'"):
            unprivileged()
        monkeypatch.setenv("PORTABLE_SERVICES_USER", "root")
        with pytest.raises(ConfigError, match="servers do not run as root"):
            unprivileged()
    else:
        assert unprivileged().uid == os.geteuid()


def test_who_can_enter_a_folder(tmp_path: Path) -> None:
    inner = tmp_path / "a"
    inner.mkdir(0o700)
    mine = Account("me", os.geteuid(), os.getegid())
    stranger = Account("stranger", 64_123, 64_123)
    assert can_enter(inner, mine) == can_enter(tmp_path, mine)
    assert not can_enter(inner, stranger)
    assert not can_enter(inner / "not-there", stranger)
    assert can_enter(Path("/usr/bin"), stranger)
    fellow = Account("fellow", 64_123, inner.stat().st_gid)
    assert not can_enter(inner, fellow)


def test_programs_are_found_where_servers_may_run_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir(0o700)
    (hidden / "sh").write_text("#!/bin/true")
    (hidden / "sh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{hidden}:/usr/bin:/bin")
    assert which("sh", Account("stranger", 64_123, 64_123)) in {"/usr/bin/sh", "/bin/sh"}
    assert which("no-such-program", unprivileged()) is None


def test_files_are_written_whole_and_private(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    write_private(path, "one")
    write_private(path, b"two")
    assert path.read_bytes() == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(TypeError):
        write_private(path, None)  # type: ignore[arg-type] # what fails half way
    assert [one.name for one in tmp_path.iterdir()] == ["secret"]
    with pytest.raises(ConfigError, match="cannot be made"):
        make_folder(path / "inner")


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    home = Home(tmp_path)
    with home.locked("a"):
        with home.locked("b"):
            pass
        with pytest.raises(DeadlineExceeded, match="another process has been changing a for 0 s"):
            with Home(tmp_path).locked("a", timeout=0):
                pass
        # Somebody is at work, so nothing is removed.
        Home(tmp_path).remove_if_unused()
        assert home.folder.is_dir()
    with home.locked("a"):
        home.remove_if_unused("a")
    assert not (tmp_path / ".portable").exists()
    home.remove_if_unused()


def test_a_lock_that_was_removed_meanwhile_is_taken_anew(tmp_path: Path) -> None:
    home = Home(tmp_path)
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with Home(tmp_path).locked("a"):
            order.append("second")
            with pytest.raises(DeadlineExceeded), Home(tmp_path).locked("a", timeout=0):
                pass

    with home.locked("a"):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(60)
        order.append("first")
        home.remove_if_unused("a")
    thread.join(60)
    assert order == ["first", "second"]
    assert (home.folder / "locks" / "a.lock").exists()
    home.remove_if_unused()


def test_what_others_keep_beside_it_stays(tmp_path: Path) -> None:
    (tmp_path / ".portable").mkdir()
    (tmp_path / ".portable" / "app.db").write_text("data")
    home = Home(tmp_path)
    with home.locked("a"):
        home.remove_if_unused("a")
    assert [path.name for path in (tmp_path / ".portable").iterdir()] == ["app.db"]


def test_the_catalogue_finds_and_searches(write: Write, tmp_path: Path) -> None:
    write()
    write(("A demonstration", "Something else"), ("cache = {}", "queue = {}"), name="other")
    repository = Repository("mine", tmp_path / "repository")
    (repository.folder / "wrong").mkdir()
    (repository.folder / "wrong" / "service.toml").write_text("x = 1")
    catalogue = Catalogue([Repository("none", tmp_path / "none"), repository])
    assert catalogue.names() == ["demo", "other", "wrong"]
    assert [one.name for one in catalogue.search()] == ["demo", "other"]
    assert [one.name for one in catalogue.search(["DEMO"])] == ["demo"]
    assert [one.name for one in catalogue.search(["queue"])] == ["other"]
    assert [one.name for one in catalogue.search(["test", "cache"])] == ["demo"]
    assert catalogue.service("mine/demo").repository == "mine"
    with pytest.raises(NotFound, match="no service 'dem' in any repository; did you mean demo"):
        catalogue.service("dem")
    with pytest.raises(NotFound, match="no repository 'min'; did you mean mine"):
        catalogue.service("min/demo")
    with pytest.raises(NotFound):
        catalogue.service("../demo")


def test_services_that_need_each_other_are_refused(write: Write, tmp_path: Path) -> None:
    for name, needs in (("one", "two"), ("two", "three"), ("three", "one"), ("four", "five"), ("five", "demo")):
        write(name=name, more=f'\n[dependencies.{needs}]\nservice = "{needs}"\n')
    write()
    catalogue = Catalogue([Repository("mine", tmp_path / "repository")])
    with pytest.raises(ConfigError, match="in a circle: two → three → one → two"):
        catalogue.with_dependencies("two")
    assert [one.name for one in catalogue.with_dependencies("four")] == ["demo", "five", "four"]


def test_software_of_this_machine(tmp_path: Path) -> None:
    home = Home(tmp_path)
    here = Software(source="path", commands={"sh": "sh", "also": "/bin/s*h"})
    kept: list[Fetched] = []
    fetched = fetch(home, [Software(source="path", commands={"x": "no-such"}), here], report=print, keep=kept.append)
    assert (fetched.number, fetched.folder, kept) == (1, "", [fetched])
    assert Path(locate(here, None)["sh"]).is_file()
    refused = [
        Software(source="path", commands={"x": "no-such"}),
        Software(source="path", requires=["no-such-either"]),
    ]
    with pytest.raises(Unavailable) as caught:
        fetch(home, refused, report=print, keep=kept.append)
    assert str(caught.value) == (
        "its software cannot be had: path: this machine has no no-such; "
        "path: this machine has no no-such-either that servers may run"
    )


def test_software_that_was_unpacked_is_told_where(tmp_path: Path) -> None:
    libraries = tmp_path / "root" / "usr" / "lib"
    libraries.mkdir(parents=True)
    debian = environment_of(Software(source="debian", packages=["x"]), tmp_path)
    assert str(libraries) in debian["LD_LIBRARY_PATH"].split(":")
    assert str(tmp_path / "root" / "usr/bin") in debian["PATH"].split(":")
    python = Software(source="pypi", packages=["x==1"], dependencies=True)
    assert environment_of(python, tmp_path) == {"PYTHONPATH": str(tmp_path / "root")}
    assert environment_of(Software(source="path"), None) == {}


def test_runtimes_are_known_by_name() -> None:
    assert runtime("process").name == "process"
    with pytest.raises(ConfigError, match="no runtime 'proces'; did you mean process"):
        runtime("proces")


def test_a_home_knows_its_names(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert home.names() == []
    with pytest.raises(InvalidArgument, match="is a folder that the service engine keeps"):
        home.instance("locks")
