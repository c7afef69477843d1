"""`portable services`, as far as nothing has to be installed for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from portable.cli.program import run
from portable.config.services import service_url
from portable.errors import ConfigError
from portable.urls import Url

from .conftest import Write

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("PORTABLE_CONFIG", "PORTABLE_PROFILE", "SERVICE_BINDING_ROOT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(["services", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def test_search_and_show(command: Command) -> None:
    code, out, _ = command("search", "cache")
    assert code == 0
    assert "valkey" in out
    assert "mariadb" not in out
    code, out, _ = command("search", "cache", "--json")
    assert {one["name"] for one in json.loads(out)} >= {"valkey", "memcached"}
    code, out, _ = command("show", "postgres")
    assert "max-connections" in out
    assert "(made)" in out
    code, out, _ = command("show", "postgres", "--json")
    assert json.loads(out)["plans"]["single"]["memory"] == "2GiB"
    code, _, err = command("show", "postgre")
    assert code == 4
    assert "did you mean postgres?" in err


def test_validate(command: Command, write: Write) -> None:
    code, out, _ = command("validate")
    assert code == 0
    assert " 0 errors" in out
    good, wrong = write().folder, write(("${volume:data}", "${volume:dat}"), name="wrong").folder
    code, out, _ = command("validate", str(good))
    assert code == 0
    code, out, _ = command("validate", str(good), str(wrong), "--json")
    assert code == 3
    assert ("wrong", "error") in {(one["service"], one["severity"]) for one in json.loads(out)}
    (wrong / "service.toml").write_text("nme = 1")
    code, out, _ = command("validate", str(wrong))
    assert code == 3
    assert "nme: no such key; did you mean name?" in out


def test_schema(command: Command) -> None:
    code, out, _ = command("schema")
    assert code == 0
    assert json.loads(out)["$defs"]["Manifest"]["additionalProperties"] is False


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["install", "valky"], 4, "did you mean valkey?"),
        (["install", "valkey", "--set", "max-memry=1"], 3, "did you mean max-memory?"),
        (["install", "valkey", "--set", "eviction=x"], 3, "parameter eviction: 'x' can be noeviction"),
        (["install", "valkey", "--set", "eviction"], 2, "is not of the form NAME=VALUE"),
        (["install", "valkey", "--port", "main=x"], 2, "'x' is no number of a port"),
        (["install", "valkey", "--plan", "sinle"], 3, "did you mean single?"),
        (["install", "valkey", "--runtime", "proces"], 3, "did you mean process?"),
        (["install", "valkey", "--as", "Bad"], 1, "is no name of an instance"),
        (["install", "valkey", "--set", "password=@no-such-file"], 1, "no-such-file: No such file"),
        (["up", "valkey"], 4, "no service 'valkey' is installed"),
        (["down", "valkey"], 4, "no service 'valkey' is installed"),
        (["logs", "valkey"], 4, "no service 'valkey' is installed"),
        (["binding", "valkey"], 4, "no service 'valkey' is installed"),
        (["uninstall", "valkey"], 4, "no service 'valkey' is installed"),
        (["status", "valkey"], 4, "no service 'valkey' is installed"),
        (["render", "valky"], 4, "did you mean valkey?"),
    ],
)
def test_what_is_wrong_is_said_and_leaves_nothing(
    command: Command, folder: Path, arguments: list[str], code: int, message: str
) -> None:
    found, out, err = command(*arguments)
    assert found == code
    assert message in err
    assert "Traceback" not in out + err
    assert list(folder.iterdir()) == []


def test_nothing_installed(command: Command) -> None:
    assert command("status") == (0, "nothing is installed; `portable services search` lists what can be\n", "")
    assert command("status", "--json")[:2] == (0, "[]\n")
    assert command("up")[:2] == (0, "nothing is installed\n")


def test_render_shows_no_secret(command: Command, folder: Path) -> None:
    (folder / "password").write_text("hunter2hunter2\n")
    code, out, _ = command("render", "valkey", "--set", "password=@password", "--set", "fsync=always")
    assert code == 0
    assert "requirepass ***" in out
    assert "appendfsync always" in out
    code, out, _ = command("render", "valkey", "--json")
    assert "requirepass ***" in json.loads(out)["files/valkey.conf"]


def place(folder: Path, **entries: str) -> None:
    folder.mkdir(parents=True)
    for name, value in entries.items():
        (folder / name.replace("_", "-")).write_text(value)


def test_bindings_of_the_project_are_found_after_the_environments(folder: Path, monkeypatch: Any) -> None:
    url = Url.parse("service:orders?x=1")
    with pytest.raises(ConfigError, match=r"`portable services status` in .* does not list it"):
        service_url(url, folder)
    place(
        folder / ".portable" / "services" / "bindings" / "orders",
        uri="redis://h:1",
        uri_queue="redis://h:2",
        password="p",  # noqa: S106 (of the test)
    )
    found = service_url(url, folder, "cache")
    assert (found.port, found.password, found.options) == (1, "p", {"x": "1"})
    assert service_url(url, folder, "queue").port == 2
    place(folder / "root" / "orders", uri="redis://h:3")
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(folder / "root"))
    assert service_url(url, folder, "queue").port == 3
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(folder / "none"))
    assert service_url(url, folder, "queue").port == 2
