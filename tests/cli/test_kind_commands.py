"""The commands that look inside resources."""

from __future__ import annotations

import base64
import io
import os
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from portable.cli.program import run

if TYPE_CHECKING:
    from tests.cli.conftest import Command, Result

pytestmark = pytest.mark.usefixtures("configured")

EVERY_BYTE = bytes(range(256)) * 10


def done(result: Result) -> str:
    assert result.code == 0, result.stderr
    assert result.stderr == ""
    return result.text


def test_objects_go_in_and_come_out_as_they_are(command: Command, folder: Path) -> None:
    (folder / "cat.jpg").write_bytes(EVERY_BYTE)
    etag = done(command("bucket", "put", "photos", "2024/cat.jpg", "cat.jpg", "--content-type", "image/jpeg")).strip()
    done(command("bucket", "put", "photos", "2024/dog.jpg", "-", "-m", "By=Ada", stdin=b"woof"))
    assert command("bucket", "cat", "photos", "2024/cat.jpg").stdout == EVERY_BYTE
    assert command("bucket", "get", "photos", "2024/cat.jpg").stdout == EVERY_BYTE
    assert command("bucket", "cat", "photos", "2024/dog.jpg", "2024/dog.jpg").stdout == b"woofwoof"
    assert done(command("bucket", "get", "photos", "2024/cat.jpg", "copy.jpg")) == ""
    assert (folder / "copy.jpg").read_bytes() == EVERY_BYTE
    cat, dog = command("bucket", "ls", "photos", "--json").lines
    assert (cat["key"], cat["size"], cat["etag"]) == ("2024/cat.jpg", len(EVERY_BYTE), etag)
    assert dog["key"] == "2024/dog.jpg"
    (info,) = command("bucket", "get", "photos", "2024/dog.jpg", "dog.jpg", "--json").lines
    assert info["metadata"] == {"by": "Ada"}


def test_listing(command: Command) -> None:
    for key in ("a/1", "a/2", "b", "new\nline"):
        done(command("bucket", "put", "photos", key, "-", stdin=b"12345"))
    assert done(command("bucket", "ls", "photos")).splitlines() == ["a/1", "a/2", "b", "new\\nline"]
    assert done(command("bucket", "ls", "photos", "a/")).splitlines() == ["a/1", "a/2"]
    assert done(command("bucket", "ls", "photos", "--delimiter", "/")).splitlines()[0] == "a/"
    assert command("bucket", "ls", "photos", "--delimiter", "/", "--json").lines[0] == {"prefix": "a/"}
    assert done(command("bucket", "ls", "photos", "--start-after", "a/1", "--limit", "1")) == "a/2\n"
    size, moment, _, key = done(command("bucket", "ls", "photos", "b", "--long")).split()
    assert (size, key) == ("5", "b")
    assert datetime.now(UTC) - datetime.fromisoformat(moment) < timedelta(hours=1)


def test_copying_and_removing(command: Command) -> None:
    done(command("bucket", "put", "photos", "a", "-", stdin=b"x"))
    done(command("bucket", "cp", "photos/a", "photos/b/c"))
    (copied,) = command("bucket", "cp", "photos/a", "archive/a", "--json").lines
    assert copied["key"] == "a"
    assert command("bucket", "cat", "archive", "a").stdout == b"x"
    assert done(command("bucket", "rm", "photos", "a", "b/c", "never")) == ""
    assert done(command("bucket", "ls", "photos")) == ""
    assert command("bucket", "cp", "photos", "archive/a").code == 2


def test_put_only_where_nothing_is(command: Command) -> None:
    done(command("bucket", "put", "photos", "a", "-", "--if-absent", stdin=b"x"))
    result = command("bucket", "put", "photos", "a", "-", "--if-absent", "--json", stdin=b"y")
    assert result.code == 1
    assert result.error["type"] == "AlreadyExists"
    assert result.error["resource"] == "photos"


@pytest.mark.parametrize(
    "arguments",
    [
        ("bucket", "cat", "photos", "no"),
        ("bucket", "get", "photos", "no", "file"),
        ("cache", "get", "sessions", "no"),
        ("collection", "get", "users", "no"),
        ("stream", "tail", "clicks", "--partition", "no"),
    ],
)
def test_what_is_not_there_exits_with_4(command: Command, folder: Path, arguments: tuple[str, ...]) -> None:
    result = command(*arguments)
    assert result.code == 4
    assert result.stdout == b""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert not (folder / "file").exists()


def test_messages_are_sent_shown_and_given_back(command: Command) -> None:
    sent = done(command("queue", "send", "jobs", "thumbnail", "-a", "size=small")).strip()
    (first,) = command("queue", "receive", "jobs", "--max", "5", "--json").lines
    assert (first["id"], first["body"], first["attributes"]) == (sent, "thumbnail", {"size": "small"})
    assert first["delivery_count"] == 1
    shown = done(command("queue", "receive", "jobs"))
    assert "delivery 2" in shown
    assert "size=small" in shown
    assert shown.splitlines()[1] == "thumbnail"
    (last,) = command("queue", "receive", "jobs", "--ack", "--json").lines
    assert last["delivery_count"] == 3
    assert done(command("queue", "receive", "jobs", "--wait", "0")) == ""


def test_peek_stats_and_purge(command: Command) -> None:
    for body in (b"one", EVERY_BYTE):
        done(command("queue", "send", "jobs", "-", stdin=body))
    done(command("queue", "send", "jobs", "later", "--delay", "3600"))
    one, two = command("queue", "peek", "jobs", "--max", "9", "--json").lines
    assert one["body"] == "one"
    assert base64.b64decode(two["body_base64"]) == EVERY_BYTE
    assert command("queue", "stats", "jobs", "--json").lines == [{"ready": 2, "leased": 0, "delayed": 1, "dead": 0}]
    assert done(command("queue", "stats", "jobs")).split() == ["ready", "2", "leased", "0", "delayed", "1", "dead", "0"]
    refused = command("queue", "purge", "jobs")
    assert refused.code == 2
    assert "--yes" in refused.stderr
    assert done(command("queue", "purge", "jobs", "--yes")) == "purged jobs\n"
    assert command("queue", "stats", "jobs", "--json").lines[0]["ready"] == 0


@pytest.mark.parametrize(("answer", "code", "left"), [("n\n", 130, 1), ("y\n", 0, 0)])
def test_a_person_is_asked_before_a_purge(
    command: Command, monkeypatch: pytest.MonkeyPatch, answer: str, code: int, left: int
) -> None:
    class Keyboard(io.StringIO):
        def isatty(self) -> bool:
            return True

    done(command("queue", "send", "jobs", "x"))
    monkeypatch.setattr(sys, "stdin", Keyboard(answer))
    assert run(["queue", "purge", "jobs"]) == code
    assert command("queue", "stats", "jobs", "--json").lines[0]["ready"] == left


def test_dead_letters_are_shown_and_redriven(command: Command) -> None:
    sent = done(command("queue", "send", "jobs", "poison")).strip()
    for _ in range(3):
        assert len(command("queue", "receive", "jobs", "--json").lines) == 1
    assert done(command("queue", "receive", "jobs", "--wait", "0")) == ""
    (dead,) = command("queue", "peek", "jobs", "--dead-letters", "--json").lines
    assert (dead["body"], dead["original_id"]) == ("poison", sent)
    assert dead["dead_reason"]
    assert "dead: " in done(command("queue", "peek", "jobs", "--dead-letters"))
    assert done(command("queue", "redrive", "jobs")) == "1\n"
    assert command("queue", "receive", "jobs", "--ack", "--json").lines[0]["body"] == "poison"


def test_a_subscription_gets_what_is_published(command: Command) -> None:
    done(command("resources", "create"))
    done(command("topic", "publish", "events", "kept", "-a", "type=order.paid"))
    (sent,) = command("topic", "publish", "events", "-", "--json", stdin=b"filtered out").lines
    assert sent["id"]
    (message,) = command("queue", "receive", "mailer", "--max", "5", "--ack", "--json").lines
    assert message["body"] == "kept"


def test_streams_are_appended_and_tailed(command: Command) -> None:
    positions = [done(command("stream", "append", "clicks", f"r{n}", "--key", "k")).strip() for n in range(3)]
    everything = command("stream", "tail", "clicks", "--start", "start", "--no-follow", "--json").lines
    assert [record["data"] for record in everything] == ["r0", "r1", "r2"]
    assert [record["position"] for record in everything] == positions
    rest = command("stream", "tail", "clicks", "--start", positions[0], "--max", "1", "--json").lines
    assert [record["data"] for record in rest] == ["r1"]
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    assert done(command("stream", "tail", "clicks", "--start", past, "--no-follow")).count("key k") == 3
    assert done(command("stream", "tail", "clicks", "--no-follow")) == ""
    one = everything[0]["partition"]
    assert (
        len(command("stream", "tail", "clicks", "--partition", one, "--start", "start", "--max", "3", "--json").lines)
        == 3
    )
    for start in ("yesterday", "2026-01-31T12:00:00"):
        assert command("stream", "tail", "clicks", "--start", start).code == 2


def test_a_tail_shows_what_comes(command: Command) -> None:
    done(command("stream", "append", "clicks", "before"))
    from portable.cloud import connect

    with connect() as cloud:
        stream = cloud.stream("clicks")
        stop = threading.Event()

        def append() -> None:
            while not stop.wait(0.05):
                stream.append(b"now")

        appending = threading.Thread(target=append)
        appending.start()
        try:
            shown = command("stream", "tail", "clicks", "--max", "2", "--json").lines
        finally:
            stop.set()
            appending.join()
    assert [record["data"] for record in shown] == ["now", "now"]


def test_cache_values(command: Command) -> None:
    done(command("cache", "set", "sessions", "t", "plain text"))
    done(command("cache", "set", "sessions", "j", '{"a": [1, null]}', "--as", "json", "--ttl", "3600"))
    done(command("cache", "set", "sessions", "b", "-", "--as", "bytes", stdin=EVERY_BYTE))
    assert done(command("cache", "get", "sessions", "t")) == "plain text\n"
    assert done(command("cache", "get", "sessions", "j")) == '{"a":[1,null]}\n'
    assert command("cache", "get", "sessions", "b").stdout == EVERY_BYTE
    assert command("cache", "get", "sessions", "j", "--json").lines == [{"key": "j", "value": {"a": [1, None]}}]
    (binary,) = command("cache", "get", "sessions", "b", "--json").lines
    assert base64.b64decode(binary["value_base64"]) == EVERY_BYTE
    assert done(command("cache", "del", "sessions", "t", "j", "never")) == "2\n"
    assert command("cache", "get", "sessions", "t").code == 4
    assert command("cache", "set", "sessions", "x", "{", "--as", "json").code == 2
    assert command("cache", "set", "sessions", "x", "-", stdin=b"\xff").code == 2


def test_documents(command: Command) -> None:
    revision = done(command("collection", "put", "users", '{"id": "1", "name": "Ada", "age": 36}')).strip()
    done(command("collection", "put", "users", "-", stdin=b'{"id": "2", "name": "Bob", "raw": {"$bytes": "AAE="}}'))
    assert done(command("collection", "get", "users", "1")) == '{"id":"1","name":"Ada","age":36}\n'
    (document,) = command("collection", "get", "users", "2", "--json").lines
    assert document["key"] == "2"
    assert document["data"]["raw"] == {"$bytes": "AAE="}
    assert command("collection", "put", "users", '{"id": "1"}', "--create").code == 1
    assert command("collection", "put", "users", '{"id": "1"}', "--if-revision", "wrong").code == 1
    done(command("collection", "put", "users", '{"id": "1", "name": "Eve"}', "--if-revision", revision))
    assert command("collection", "put", "users", '{"id": "1"}', "--create", "--if-revision", "1").code == 2
    for wrong in ("{", "[]", '{"a": {"$bytes": 7}}'):
        result = command("collection", "put", "users", wrong)
        assert result.code == 2
        assert "not a document" in result.stderr


def test_queries(command: Command) -> None:
    for number, name in enumerate(("Ada", "Bob", "Cyd")):
        done(command("collection", "put", "users", f'{{"id": "{number}", "name": "{name}", "n": {number}}}'))
    found = command(
        "collection", "query", "users", "--where", "name", ">=", "Bob", "--order-by", "-name", "--json"
    ).lines
    assert [one["key"] for one in found] == ["2", "1"]
    assert done(command("collection", "query", "users", "--where", "name", "==", '"Ada"', "--count")) == "1\n"
    assert len(done(command("collection", "query", "users", "--allow-scan", "--limit", "2")).splitlines()) == 2
    refused = command("collection", "query", "users", "--where", "n", ">", "0")
    assert refused.code == 1
    assert "index" in refused.stderr
    found = command("collection", "query", "users", "--where", "n", ">", "0", "--allow-scan", "--json").lines
    assert [one["key"] for one in found] == ["1", "2"]


def test_a_name_that_is_not_declared_is_told_with_the_nearest(command: Command) -> None:
    for arguments in (("queue", "send", "job", "x"), ("cache", "get", "session", "k"), ("bucket", "ls", "photo")):
        result = command(*arguments)
        assert result.code == 3
        assert "did you mean" in result.stderr


def test_what_was_typed_need_not_be_text(command: Command) -> None:
    typed = os.fsdecode(b"\xff\xfe")
    done(command("queue", "send", "jobs", typed))
    (message,) = command("queue", "receive", "jobs", "--ack", "--json").lines
    assert base64.b64decode(message["body_base64"]) == b"\xff\xfe"
    refused = command("collection", "put", "users", f'{{"id": "{typed}"}}')
    assert refused.code == 2
    assert "not a document" in refused.stderr
