"""Repositories: written, added from a folder and over HTTP, and refused where anything was tampered with."""

from __future__ import annotations

import functools
import http.server
import io
import json
import shutil
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from portable.cli.program import run
from portable.errors import AlreadyExists, IntegrityError, InvalidArgument, NotFound, Unavailable
from portable.services import Services
from portable.services.home import Home
from portable.services.repositories import add, added, publish, remove

from .conftest import Write


@pytest.fixture
def published(write: Write, tmp_path: Path) -> Path:
    target = tmp_path / "published"
    publish([write(), write(name="other")], target)
    return target


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A project, of which root keeps nothing elsewhere afterwards."""
    folder = tmp_path / "project"
    folder.mkdir()
    yield folder
    home = Home(folder)
    for path in (home.folder / "repositories").glob("*"):
        shutil.rmtree(path)
        (home.folder / "repositories").rmdir()
    home.remove_if_unused()
    assert not home.folder.exists()


def test_a_repository_is_added_read_and_removed(published: Path, project: Path) -> None:
    home = Home(project)
    assert added(home) == []
    found = add(home, "acme", str(published))
    assert [one.name for one in found.services] == ["demo", "other"]
    assert added(home) == [found]
    catalogue = Services(project).catalogue
    assert catalogue.service("demo").repository == "acme"
    assert catalogue.service("acme/other").name == "other"
    assert catalogue.service("valkey").repository == "contrib"
    assert add(home, "acme", str(published)) == found
    with pytest.raises(AlreadyExists, match="the repository acme is of"):
        add(home, "acme", str(project))
    with pytest.raises(NotFound, match="no repository 'acm' was added; did you mean acme"):
        remove(home, "acm")
    remove(home, "acme")
    assert list(project.iterdir()) == []


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def served(published: Path) -> Iterator[str]:
    handler = functools.partial(Quiet, directory=str(published))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(30)


def test_a_repository_is_read_over_http(served: str, project: Path) -> None:
    home = Home(project)
    assert [one.name for one in add(home, "acme", served).services] == ["demo", "other"]
    with pytest.raises(Unavailable, match=r"none/index\.json cannot be read: HTTP Error 404"):
        add(home, "none", f"{served}/none")
    with pytest.raises(InvalidArgument, match="a repository is read over https"):
        add(home, "plain", "http://services.example")


def test_the_same_files_give_the_same_archives(published: Path, write: Write, tmp_path: Path) -> None:
    again = tmp_path / "again"
    publish([write(), write(name="other")], again)
    for path in published.iterdir():
        assert (again / path.name).read_bytes()[10:] == path.read_bytes()[10:]  # gzip's head holds the time


def test_a_published_revision_never_changes(published: Path, write: Write, project: Path) -> None:
    home = Home(project)
    add(home, "acme", str(published))
    changed = write(("A demonstration", "Another one"))
    with pytest.raises(AlreadyExists, match="revision 1 of demo was published with other content; raise `revision`"):
        publish([changed], published)
    (published / "index.json").unlink()
    publish([changed, write(name="other")], published)
    with pytest.raises(IntegrityError, match="revision 1 of demo in the repository acme has changed"):
        add(home, "acme", str(published))
    assert Services(project).catalogue.service("demo").manifest.summary == "A demonstration"
    (published / "index.json").unlink()
    publish([write(("revision = 1", "revision = 2"))], published)
    assert add(home, "acme", str(published)).services[0].revision == 2


def test_a_published_revision_never_comes_back(published: Path, write: Write, project: Path) -> None:
    home = Home(project)
    add(home, "acme", str(published))
    publish([write(("revision = 1", "revision = 2"))], published)
    add(home, "acme", str(published))
    with pytest.raises(AlreadyExists, match="revision 1 of demo was published with other content"):
        publish([write(("A demonstration", "A trap"))], published)
    with pytest.raises(AlreadyExists, match="revision 2 of demo is published already; raise `revision`"):
        publish([write()], published)
    publish([write(("revision = 1", "revision = 3"))], published)
    for revision, changed, message in (
        (1, "A demonstration", "has revision 1 of demo where it had 2"),
        (2, "A trap", "revision 2 of demo in the repository acme has changed"),
    ):
        (published / "index.json").unlink()
        publish([write(("revision = 1", f"revision = {revision}"), ("A demonstration", changed))], published)
        with pytest.raises(IntegrityError, match=message):
            add(home, "acme", str(published))
    (published / "index.json").unlink()
    publish([write(("revision = 1", "revision = 3"))], published)
    assert set(add(home, "acme", str(published)).services[0].published) == {1, 2, 3}


def test_a_tampered_archive_is_refused(published: Path, write: Write, project: Path) -> None:
    other = published.with_name("elsewhere")
    publish([write(("A demonstration", "A trap"))], other)
    (published / "demo-1.tar.gz").write_bytes((other / "demo-1.tar.gz").read_bytes())
    with pytest.raises(IntegrityError, match=r"demo-1\.tar\.gz is not what the index says"):
        add(Home(project), "acme", str(published))
    assert added(Home(project)) == []
    assert not (project / ".portable" / "services" / "repositories").exists()


def test_what_was_tampered_with_after_it_was_added_is_refused(published: Path, project: Path) -> None:
    home = Home(project)
    add(home, "acme", str(published))
    path = home.folder / "repositories" / "acme" / "demo" / "service.toml"
    path.write_text(path.read_text().replace("A demonstration", "A trap"))
    catalogue = Services(project).catalogue
    with pytest.raises(IntegrityError, match="demo in the repository acme is not what its index says"):
        catalogue.service("demo")
    assert "demo" not in {one.name for one in catalogue.search()}
    (home.folder / "repositories" / "acme" / "repository.json").write_text("{")
    with pytest.raises(IntegrityError, match="is damaged"):
        added(home)
    assert Services(project).status() == []


def packed(**files: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content.encode()))
    return data.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", "no archive that may be unpacked"),
        (packed(**{"../../escaped": "x"}), "no archive that may be unpacked"),
        (packed(**{"/escaped": "x"}), "is not what the index says"),
        (packed(large="x" * (17 * 1024 * 1024)), "more than 16 MiB"),
    ],
    ids=["text", "above", "absolute", "large"],  # the archives hold the time
)
def test_hostile_archives_are_refused(published: Path, project: Path, content: bytes, message: str) -> None:
    (published / "demo-1.tar.gz").write_bytes(content)
    with pytest.raises(IntegrityError, match=message):
        add(Home(project), "acme", str(published))
    assert not (project / "escaped").exists()
    assert not (published.parent / "escaped").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"archive": "../demo-1.tar.gz"}, "leads out of the repository"),
        ({"name": "../demo"}, "leads out of the repository"),
        ({"name": ""}, "leads out of the repository"),
        ({"revision": 2}, "holds demo 1, not what the index says"),
        ({"revision": "x"}, "is no index"),
    ],
)
def test_a_wrong_index_is_refused(published: Path, project: Path, change: dict[str, object], message: str) -> None:
    path = published / "index.json"
    index = json.loads(path.read_text())
    index["services"][0] |= change
    path.write_text(json.dumps(index))
    with pytest.raises(IntegrityError, match=message):
        add(Home(project), "acme", str(published))


@pytest.mark.parametrize("name", ["contrib", "Acme", "../acme", "", "a/b"])
def test_names_of_repositories(published: Path, project: Path, name: str) -> None:
    with pytest.raises(InvalidArgument, match="cannot be a repository's name"):
        add(Home(project), name, str(published))


def test_the_commands(
    published: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.delenv("PORTABLE_CONFIG", raising=False)

    def command(*arguments: str) -> str:
        assert run(["services", *arguments]) == 0
        return capsys.readouterr().out

    assert "no repository was added" in command("repo", "list")
    assert "acme has demo, other" in command("repo", "add", "acme", str(published))
    assert "acme" in command("repo", "list")
    assert json.loads(command("repo", "list", "--json"))[0]["name"] == "acme"
    mirror = project / "mirror"
    assert "services into" in command("mirror", str(mirror))
    assert {one["name"] for one in json.loads((mirror / "index.json").read_text())["services"]} >= {"demo", "valkey"}
    assert "removed acme" in command("repo", "remove", "acme")
    assert "wrote 2 services" in command("repo", "index", str(published.parent / "repository"), str(project / "index"))
    command("repo", "add", "copy", str(mirror))
    assert "demo" in command("search", "demonstration")
    command("repo", "remove", "copy")
    assert not (project / ".portable").exists()
