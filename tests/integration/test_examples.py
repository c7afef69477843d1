"""The examples of one kind, and the web application: each does what it says, with no config."""

from __future__ import annotations

import asyncio
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import portable

EXAMPLES = Path(__file__).parents[2] / "examples"
SAID = {
    "bucket": ["a cat {'mood': 'sleepy'}", "cats/kit.txt", "cats/tom.txt"],
    "queue": ["thumbnail of tom.jpg", "thumbnail of kit.jpg", "0 left"],
    "topic": ["order.paid order 17 is paid"],
    "stream": ["visitor-7 /", "visitor-7 /shop", "visitor-7 /shop/cart"],
    "cache": ["{'name': 'Ada'} 1", "computing once …", "144 144"],
    "collection": ["bob 5"],
    "database": ["pack a teapot"],
}


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PORTABLE_")}
    return {**kept, "PYTHONIOENCODING": "utf-8"}


@pytest.mark.parametrize("kind", SAID)
def test_an_example_of_one_kind_says_what_it_does(kind: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"with_{kind}.py")],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        encoding="utf-8",
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, SAID[kind]), done.stderr


def test_there_is_an_example_of_every_kind() -> None:
    assert {file.stem.removeprefix("with_") for file in EXAMPLES.glob("with_*.py")} == set(SAID)


async def requests(app: Any) -> list[httpx.Response]:
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://notes") as client,
    ):
        made = await client.post("/notes", json={"text": "buy tea"})
        path = f"/notes/{made.json()['id']}"
        return [
            made,
            await client.get(path),
            await client.get(path),
            await client.get("/notes/none"),
            await client.post("/notes", json={"txt": "a typo"}),
            await client.get("/health"),
        ]


def test_the_web_application_keeps_caches_and_announces_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("PORTABLE_"):
            monkeypatch.delenv(name)
    app = runpy.run_path(str(EXAMPLES / "starlette_app.py"))["app"]
    made, *others = asyncio.run(requests(app))
    assert [made.status_code] + [one.status_code for one in others] == [201, 200, 200, 404, 400, 200]
    note = made.json()
    assert note["text"] == "buy tea"
    assert [one.json() for one in others[:2]] == [note, note]
    with portable.connect() as cloud:
        assert cloud.cache("recent").get(note["id"]) == note
        assert [message.body.decode() for message in cloud.queue("new-notes").receive(10, wait=5)] == [note["id"]]
