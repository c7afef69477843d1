"""`portable services` from installing to removing, as a user types it, with a server that needs no network."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from portable.cli.program import run
from portable.services import Services
from portable.services.repositories import remove
from portable.services.runtimes import strays

HERE = Path(__file__).parent / "services"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "project"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("PORTABLE_CONFIG", "PORTABLE_PROFILE", "SERVICE_BINDING_ROOT"):
        monkeypatch.delenv(name, raising=False)
    yield folder
    engine = Services(folder)
    home = engine.home.folder
    for name in engine.home.names():
        engine.uninstall(name)
    remove(engine.home, "tests")
    assert not list(strays.processes(home))
    assert not home.exists()


@pytest.fixture
def command(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    def call(*arguments: str) -> tuple[int, str, str]:
        code = run(["services", *arguments])
        out, err = capsys.readouterr()
        return code, out, err

    assert call("repo", "index", str(HERE), str(tmp_path / "published"))[0] == 0
    assert call("repo", "add", "tests", str(tmp_path / "published"))[0] == 0
    return call


def done(result: tuple[int, str, str]) -> str:
    code, out, err = result
    assert code == 0, err
    return out


def parsed(result: tuple[int, str, str]) -> Any:
    return json.loads(done(result))


def test_the_life_of_a_service(command: Command, project: Path, tmp_path: Path) -> None:
    (project / "secret").write_text("hunter22\n")
    out = done(command("install", "echo", "--as", "orders", "--plan", "large", "--set", "password=@secret"))
    assert "***" in out
    assert "hunter22" not in out
    assert out.endswith("bind a resource to it in portable.toml with: service:orders\n")
    (row,) = parsed(command("status", "--timeout", "60", "--json"))
    assert (row["name"], row["service"], row["status"], row["healthy"]) == ("orders", "echo", "running", True)
    table = done(command("status", "--timeout", "60"))
    assert table.split("\n")[0].split() == ["name", "service", "version", "plan", "runtime", "status", "health",
                                            "since", "endpoints"]  # fmt: skip
    assert row["endpoints"]["main"] in table
    assert parsed(command("binding", "orders", "--show-secrets", "--json"))["binding"]["password"] == "hunter22"  # noqa: S105 (of the test)
    assert "hunter22" not in done(command("render", "orders"))
    code, _, err = command("render", "orders", "--runtime", "docker")
    assert code != 0
    assert "orders is installed on process" in err
    assert "echo: ready" in done(command("logs", "orders"))
    assert json.loads(done(command("logs", "orders", "-n", "1", "--json")))["line"]

    file = tmp_path / "orders.backup"
    assert parsed(command("backup", "orders", str(file), "--json"))["service"] == "echo"
    assert "restored orders from" in done(command("restore", "orders", str(file)))
    assert "runs echo 1.0 (revision 1)" in done(command("upgrade", "orders", "--set", "password=changed1"))
    assert done(command("down")) == "orders is down\n"
    assert parsed(command("up", "orders", "--json")) == [{"name": "orders", "service": "echo"}]
    assert done(command("uninstall", "orders", "--keep-data")) == "uninstalled orders; its data is kept\n"
    code, out, _ = command("status", "--timeout", "60")
    assert code == 0
    assert "only data is left" in out
    assert done(command("uninstall", "orders")) == "uninstalled orders\n"


def test_status_fails_where_something_is_wrong(command: Command) -> None:
    code, _, err = command("install", "echo", "--set", "mode=crash")
    assert code == 1
    assert "as it was told, it crashes" in err
    code, out, _ = command("status", "--timeout", "60")
    assert code == 1
    assert "the installation was interrupted: run it again, or uninstall" in out


def test_a_terminal_is_asked(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    # Two answers: a password, which is read as hidden input is, and the default.
    answers = iter(["typed123", ""])
    monkeypatch.setattr("click.termui.hidden_prompt_func", lambda _: next(answers))
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _="": next(answers))
    done(command("install", "echo", "--ask"))
    assert parsed(command("binding", "echo", "--show-secrets", "--json"))["binding"]["password"] == "typed123"  # noqa: S105 (of the test)


def test_a_secret_comes_from_stdin(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("piped123\n"))
    done(command("install", "echo", "--set", "password=-"))
    assert parsed(command("binding", "echo", "--show-secrets", "--json"))["binding"]["password"] == "piped123"  # noqa: S105 (of the test)


def test_what_a_profile_binds_is_installed_at_once(command: Command, project: Path) -> None:
    bind = 'terms = "service:echo"\nseen = "service:echo"\nkept = "memory:"\n'
    caches = "".join(f"[resources.{name}]\nkind = 'cache'\n" for name in ("terms", "seen", "kept", "others"))
    text = (
        f'default_profile = "here"\n{caches}[profiles.here]\ndefault = "service:orders"\n[profiles.here.bind]\n{bind}'
    )
    (project / "portable.toml").write_text(text)
    done(command("install", "echo", "--as", "orders"))
    done(command("down"))
    assert parsed(command("install", "--json")) == [
        {"name": "echo", "service": "echo"},
        {"name": "orders", "service": "echo"},
    ]
    assert done(command("install")) == "echo is up\norders is up\n"
    assert {row["status"] for row in parsed(command("status", "--timeout", "60", "--json"))} == {"running"}
    assert command("install", "--as", "x")[0] == 2
    assert command("uninstall")[0] == command("uninstall", "echo", "--all")[0] == 2
    assert done(command("uninstall", "--all")) == "uninstalled echo\nuninstalled orders\n"


def test_a_profile_that_binds_an_unknown_instance_says_so(command: Command, project: Path) -> None:
    (project / "portable.toml").write_text(
        '[resources.terms]\nkind = "cache"\n[profiles.x]\ndefault = "service:orders"\n'
    )
    code, _, err = command("install", "--profile", "x")
    assert code != 0
    assert "orders" in err
