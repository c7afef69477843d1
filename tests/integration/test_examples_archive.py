"""The archive example: on a folder of files, with a worker killed, and with results that are not right."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest

import portable

ARCHIVE = Path(__file__).parents[2] / "examples" / "archive"
# All of these read one archived folder; one worker of the run makes it once.
pytestmark = [pytest.mark.xdist_group("archive"), pytest.mark.timeout(300)]

ODD = {
    "empty.py": b"",
    "no extension": b"words words words",
    "ünïcödé/naïve — file.TXT": "Größe größe ΣΊΣΥΦΟΣ\n".encode(),
    "not utf-8.txt": b"caf\xe9 words\n",
    "image.bin": b"\0\1\2words",
    "large.txt": b"sisyphus rolls the stone\n" * 60_000,
    "one long line.txt": b"boulder " * 180_000,
    "__pycache__/left_out.pyc": b"left out",
}


def run(folder: Path, keep: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ARCHIVE / "run.py"), str(folder), "--keep", str(keep), *options],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PORTABLE_")},
        capture_output=True,
        encoding="utf-8",
        timeout=280,
        check=False,
    )


@contextlib.contextmanager
def opened(keep: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ARCHIVE_DATA", str(keep))
    with portable.connect(ARCHIVE / "portable.toml") as cloud:
        yield cloud


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files")
    for name, content in ODD.items():
        file = made / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    for number in range(300):
        (made / f"module_{number}.py").write_text(f"import threading\nlock{'x' * (number % 7)} = 'stone'\n" * 20)
    return made


@pytest.fixture(scope="module")
def archived(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    keep = tmp_path_factory.mktemp("archive")
    return keep, run(folder, keep, "--workers", "2", "--search", "Sisyphus")


@pytest.fixture
def keep(archived: tuple[Path, object], tmp_path: Path) -> Path:
    """Give a copy of what the run left, to be broken."""
    return Path(shutil.copytree(archived[0], tmp_path / "keep"))


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.loads: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.loads += [f"{name}={value}" for name, value in attrs if name in {"src", "href"}]


def test_every_file_arrives_once_though_a_worker_is_killed(
    archived: tuple[Path, subprocess.CompletedProcess[str]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep, done = archived
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every file arrived exactly once" in done.stdout
    assert "killed worker-" in done.stdout
    assert "WRONG" not in done.stdout
    assert "60,000  large.txt" in done.stdout
    paths = {file.relative_to(folder).as_posix() for file in folder.rglob("*.*") if "__pycache__" not in file.parts}
    paths |= {"no extension"}
    with opened(keep, monkeypatch) as cloud:
        documents = {one.data["path"]: one.data for one in cloud.collection("documents").query(allow_scan=True)}
        assert set(documents) == paths
        (name,) = {document["run"] for document in documents.values()}
        bucket = cloud.bucket("files")
        assert {one.key for one in bucket.list()} == {f"{name}/{path}" for path in paths}
        assert all(bucket.get(f"{name}/{path}") == (folder / path).read_bytes() for path in paths)
        assert cloud.queue("jobs").stats().ready == 0
        assert cloud.queue("jobs").stats().dead == 0
    assert documents["large.txt"]["word_count"] == 240_000
    assert documents["one long line.txt"]["word_count"] >= 180_000
    assert (documents["image.bin"]["word_count"], documents["empty.py"]["words"]) == (0, [])
    assert documents["ünïcödé/naïve — file.TXT"]["words"][0] == "größe"


def test_the_page_has_its_charts_and_loads_nothing(archived: tuple[Path, object]) -> None:
    page = Page()
    page.feed((archived[0] / "archive.html").read_text(encoding="utf-8"))
    assert page.tags["svg"] == 2
    assert page.tags["rect"] > 2
    assert page.tags["line"] == 1
    assert page.loads == []


def test_the_report_is_in_the_database(archived: tuple[Path, object]) -> None:
    with contextlib.closing(sqlite3.connect(archived[0] / "main.db")) as database:
        query = "SELECT file_count, events_everything, events_sources, clicks FROM archive_reports"
        assert database.execute(query).fetchall() == [(307, 307, 301, 307)]
        query = "SELECT file_count FROM archive_extensions WHERE extension = '.py'"
        assert database.execute(query).fetchall() == [(301,)]


def test_what_is_kept_can_be_verified_and_searched_again(keep: Path, folder: Path) -> None:
    done = run(folder, keep, "--verify-only", "--search", "nowhere")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no file has 'nowhere'" in done.stdout


@pytest.mark.parametrize("harm", ["object changed", "object gone", "object more", "document gone", "document changed"])
def test_a_wrong_result_is_found(harm: str, keep: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(keep, monkeypatch) as cloud:
        files, documents = cloud.bucket("files"), cloud.collection("documents")
        document = documents.query(allow_scan=True).where("path", "==", "module_7.py").first()
        assert document is not None
        key = f"{document.data['run']}/module_7.py"
        match harm:
            case "object changed":
                files.put(key, files.get(key).replace(b"stone", b"stole"))
            case "object gone":
                files.delete(key)
            case "object more":
                files.put(f"{key}x", b"")
            case "document gone":
                documents.delete(document.key)
            case "document changed":
                documents.put({**document.data, "sha256": "0" * 64})
    done = run(folder, keep, "--verify-only")
    assert done.returncode == 1, done.stdout
    assert "the verification FAILED" in done.stdout
    assert done.stdout.count("WRONG") == (2 if harm == "document gone" else 1)
    assert "module_7.py" in done.stdout
    assert done.stderr == ""


def test_a_file_that_changed_since_is_found(keep: Path, folder: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(folder, tmp_path / "changed"))
    (changed / "module_3.py").write_text("another\n")
    (changed / "new.py").write_text("new\n")
    done = run(changed, keep, "--verify-only")
    assert done.returncode == 1
    assert "module_3.py: the object has other bytes than the file" in done.stdout
    assert "new.py: there is no object" in done.stdout
    assert "events_sources: 301 in the report, 302 on the disk" in done.stdout


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--profile", "lokal"], 3, "local"),
        (["--workers", "0"], 2, "--workers takes a number from 1"),
        (["--verify-only"], 1, "there is no run to verify"),
        ([], 1, "holds no files"),
    ],
)
def test_a_mistake_gets_one_line(options: list[str], code: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    done = run(tmp_path / "none", tmp_path / "keep", *options)
    assert done.returncode == code, done.stdout + done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr


def test_a_folder_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(ARCHIVE / "run.py"), str(tmp_path / "nowhere")],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert done.returncode == 2
    assert "is no folder" in done.stderr
