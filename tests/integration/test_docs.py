"""Every code block of the README, the tutorial and the how-tos does what its page says.

A page is run from top to bottom in a folder of its own. A block with a `title` is a file, and is written there; a
`python` block without one runs in the page's interpreter, where names stay from block to block; a `sh` block runs in
bash, and what follows it as a `text` block is what it prints (`…` stands for anything). Every `toml` block is a config
that loads, but for a `pyproject.toml` or a `service.toml`. Commands that set up a machine (`pip`, `make`) are not run:
that what they name is there is checked.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from markdown_it import MarkdownIt

from portable.config import Config

ROOT = Path(__file__).parents[2]
RUN = [ROOT / "README.md", ROOT / "docs/tutorial.md", *sorted((ROOT / "docs/how-to").glob("*.md"))]
PAGES = sorted({*RUN, ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")})
OTHERS = [page for page in PAGES if page not in RUN]
SETTING_UP = {"pip", "make", "python3", ".", "cd"}

# Runs each block it is given, and says when it is done; the first that fails ends it with the traceback.
INTERPRETER = """
import json, linecache, sys, types
def main():
    page = sys.modules["__main__"] = types.ModuleType("__main__")
    for line in sys.stdin:
        block = json.loads(line)
        text = "\\n" * block["line"] + block["text"]
        linecache.cache[block["page"]] = (len(text), None, text.splitlines(True), block["page"])
        exec(compile(text, block["page"], "exec"), page.__dict__)
        sys.stdout.write(block["end"])
        sys.stdout.flush()
main()
"""
END = "\0done\n"
PATIENCE = 250
"""Seconds for one block: more than any needs on a machine that does much else."""

pytestmark = pytest.mark.timeout(300)


class Block(NamedTuple):
    """One fenced block, `line` being that of its first line of code, from 0."""

    page: Path
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line + 1}"


def blocks(page: Path) -> list[Block]:
    found = []
    for token in MarkdownIt().parse(page.read_text(encoding="utf-8")):
        if token.type == "fence":
            language, _, rest = token.info.partition(" ")
            title = re.search(r'title="([^"]+)"', rest)
            assert token.map is not None
            found.append(Block(page, token.map[0] + 1, language, title[1] if title else "", token.content))
    return found


class Reader:
    """Somebody who does what a page says, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Nothing that is done or printed may depend on where the tests run.
        ours = ("PORTABLE_", "PYTEST_", "OTEL_")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.environment |= {
            "PATH": os.pathsep.join([sysconfig.get_path("scripts"), self.environment["PATH"]]),
            "COLUMNS": "120",
            "NO_COLOR": "1",
            "PYTEST_ADDOPTS": "-p no:cacheprovider",
        }
        self.python = subprocess.Popen(
            [sys.executable, "-c", INTERPRETER],
            cwd=folder,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write_files(self, page: Path) -> None:
        for block in blocks(page):
            if block.title:
                self.write_file(block)

    def write_file(self, block: Block) -> None:
        file = self.folder / block.title
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text, encoding="utf-8")

    def read(self, page: Path) -> None:
        printed: str | None = None
        for block in blocks(page):
            if block.language == "text":
                if printed is not None:
                    assert matches(block.text, printed), f"{block}: it printed\n{printed}\nand not\n{block.text}"
                printed = None
            else:
                printed = self.follow(block)
        _, errors = self.python.communicate(timeout=PATIENCE)
        assert self.python.returncode == 0, errors

    def follow(self, block: Block) -> str | None:
        if block.title:
            self.write_file(block)
        if block.language == "toml":
            check_toml(block, self.folder)
        elif block.language == "python" and not block.title:
            return self.run_python(block)
        elif block.language == "sh" and not block.title:
            return self.run_sh(block)
        else:
            assert block.title or block.language in {"", "json"}, f"{block}: nobody runs {block.language!r}"
        return None

    def run_python(self, block: Block) -> str:
        assert self.python.stdin is not None
        assert self.python.stdout is not None
        order = {"page": str(block.page), "line": block.line, "text": block.text, "end": END}
        self.python.stdin.write(json.dumps(order) + "\n")
        self.python.stdin.flush()
        printed = ""
        while not printed.endswith(END):
            line = self.python.stdout.readline()
            if not line:
                _, errors = self.python.communicate(timeout=PATIENCE)
                pytest.fail(f"{block}:\n{printed}\n{errors}")
            printed += line
        return printed.removesuffix(END)

    def run_sh(self, block: Block) -> str | None:
        if sets_up(block):
            check_setting_up(block)
            return None
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, f"{block}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def close(self) -> None:
        self.python.kill()
        self.python.communicate()


def matches(expected: str, printed: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("…"))
    lines = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    return re.fullmatch(pattern, lines, re.DOTALL) is not None


def check_toml(block: Block, folder: Path) -> None:
    if Path(block.title).name in {"pyproject.toml", "service.toml"} or "[project." in block.text:
        tomllib.loads(block.text)
    else:
        file = folder / (block.title or "fragment.toml")
        file.write_text(block.text, encoding="utf-8")
        Config.load(file)


def commands(block: Block) -> Iterator[list[str]]:
    for line in block.text.splitlines():
        for command in line.split("&&"):
            words = shlex.split(command, comments=True)
            if words:
                yield words


def sets_up(block: Block) -> bool:
    first = {words[0] for words in commands(block)}
    # One block either sets up or is run: a command hidden behind a `pip install` would never be.
    assert not (first & {"pip", "make"}) or first <= SETTING_UP, f"{block}: split what sets up from what runs"
    return bool(first & {"pip", "make"})


def check_setting_up(block: Block) -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"])
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for words in commands(block):
        if words[0] == "make":
            named = {word for word in words[1:] if "=" not in word}
            assert named <= targets, f"{block}: there is no make {named - targets}"
        if words[0] == "pip":
            assert words[1] == "install", block
            for group in re.findall(r"\[([a-z,]+)\]", " ".join(words)):
                assert set(group.split(",")) <= extras, f"{block}: there is no extra in {group}"


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    one = Reader(tmp_path)
    yield one
    one.close()


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_a_page_does_what_it_says(page: Path, reader: Reader) -> None:
    reader.read(page)


def test_the_adapter_of_the_page_is_found_once_it_is_installed(reader: Reader) -> None:
    reader.write_files(ROOT / "docs/how-to/write-an-adapter.md")
    project = tomllib.loads((reader.folder / "pyproject.toml").read_text())["project"]
    # What pip writes of a package's entry points.
    installed = reader.folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    installed.mkdir()
    points = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (installed / "entry_points.txt").write_text("\n".join(points))
    (installed / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n")
    # All cases are run by the page itself; here a few show that the command finds the driver.
    command = "portable conformance --url flat:cache.json --kind cache --json --only hostile_keys"
    done = subprocess.run(
        shlex.split(command),
        cwd=reader.folder,
        env=reader.environment | {"PYTHONPATH": str(reader.folder)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", OTHERS, ids=lambda page: str(page.relative_to(ROOT)))
def test_code_on_other_pages_can_be_read(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, str(block), "exec")
        elif block.language == "toml":
            check_toml(block, tmp_path)
        elif block.language == "sh" and sets_up(block):
            check_setting_up(block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.relative_to(ROOT)}: {target} is not there"
        assert not anchor or anchor in anchors(file), f"{page.relative_to(ROOT)}: {target} has no such heading"


def links(page: Path) -> list[str]:
    inline = [token for token in MarkdownIt("gfm-like", {"linkify": False}).parse(page.read_text()) if token.children]
    found = [str(child.attrs["href"]) for token in inline for child in token.children or () if "href" in child.attrs]
    return [target for target in found if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    tokens = MarkdownIt().parse(page.read_text())
    headings = [text.content for mark, text in itertools.pairwise(tokens) if mark.type == "heading_open"]
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_page_of_limits_is_as_the_table_says() -> None:
    command = [sys.executable, str(ROOT / "tools/limits_page.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_pages_have_blocks_of_each_kind() -> None:
    run = [block for page in RUN for block in blocks(page)]
    assert {"python", "toml", "sh", "text"} <= {block.language for block in run}
    assert {page.stem for page in RUN if not any(block.page == page for block in run)} == {"index"}


@pytest.mark.parametrize(
    ("expected", "printed", "matching"),
    [
        ("a\nb", "a\nb\n", True),
        ("a … c", "a b c", True),
        ("a\n…\nd", "a\nb\nc\nd", True),
        ("a", "a\nb", False),
        ("a.c", "abc", False),
    ],
)
def test_what_a_block_prints_is_compared(expected: str, printed: str, matching: bool) -> None:  # noqa: FBT001 (a parameter)
    assert matches(expected, printed) is matching


def test_a_block_that_fails_fails_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    for text in ("```python\nassert 1 == 2\n```", "```sh\nfalse\n```", "```sh\necho a\n```\n\n```text\nb\n```"):
        page.write_text(text)
        reading = Reader(tmp_path)
        try:
            with pytest.raises((AssertionError, pytest.fail.Exception)):
                reading.read(page)
        finally:
            reading.close()
