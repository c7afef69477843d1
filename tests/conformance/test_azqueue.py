"""Queue Storage on Azurite, by the suite of queues, in both faces."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import quote

import pytest

from portable import open_queue
from portable.errors import ConfigError, LimitExceeded, ResourceNotFound, Unauthenticated, Unavailable
from portable.testing.aio.queue import QueueSuite as AsyncQueueSuite
from portable.testing.queue import QueueSuite
from portable_azure.envelopes import packed, unpacked
from tests.targets import target

SECRET = "c2VjcmV0LXRoYXQtbm9ib2R5LW1heS1zZWU="  # noqa: S105 (of the test)


class _Azurite:
    url: ClassVar[str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls) -> None:
        cls.url = target("azurite", "queue")


class TestStorageQueue(_Azurite, QueueSuite):
    pass


class TestStorageQueueAsync(_Azurite, AsyncQueueSuite):
    pass


@pytest.fixture
def url() -> str:
    return target("azurite", "queue")


def test_what_others_sent_is_read_as_it_is(url: str) -> None:
    with open_queue(url, name="of-others", create="if_missing") as queue:
        queue.receive(wait=0)
        for text in ("plain", "portable1:no envelope", "portable1:bm8gZW52ZWxvcGU="):
            queue.native.send_message(text)
            (message,) = queue.receive(wait=30)
            assert (message.body, message.attributes) == (text.encode(), {})
            message.ack()
        queue.send("plain text")
        assert [one.content for one in queue.native.peek_messages()] == ["plain text"]


@pytest.mark.parametrize(
    "body", [b"", b"text", b" padded ", b"portable1:text", b"\xff\0", b"line\r\n", "emoji 🏔".encode()]
)
@pytest.mark.parametrize("attributes", [{}, {"a": "1", "": "\n"}])
def test_envelopes(body: bytes, attributes: dict[str, str]) -> None:
    assert unpacked(packed(body, attributes)) == (body, attributes)


def test_a_wrong_key_is_told_without_it(url: str) -> None:
    head, _, rest = url.partition("account_key=")
    wrong = f"{head}account_key={quote(SECRET)}&{rest.partition('&')[2]}"
    with open_queue(wrong, name="jobs", create="if_missing") as queue, pytest.raises(Unauthenticated) as caught:
        queue.send(b"body")
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(queue)


def test_a_missing_queue_names_the_command(url: str) -> None:
    with open_queue(url, name="nowhere") as queue, pytest.raises(ResourceNotFound, match="portable resources create"):
        queue.send(b"body")


def test_a_service_that_is_not_there_is_unavailable() -> None:
    url = f"azqueue://jobs?account=nobody&account_key={quote(SECRET)}&endpoint=http://127.0.0.1:9/nobody"
    with open_queue(url, retries=0, timeout="5s") as queue, pytest.raises(Unavailable):
        queue.send(b"body")


def test_what_is_too_large_is_refused_before_it_is_sent(url: str) -> None:
    with open_queue(url, name="large", create="if_missing") as queue:
        with pytest.raises(LimitExceeded):
            queue.send(b"\xff" * 50_000)
        with pytest.raises(LimitExceeded):
            queue.send(b"later", delay=8 * 86400)


@pytest.mark.parametrize(
    "url",
    [
        "azqueue://jobs",
        "azqueue://acme/jobs?account=acme",
        "azqueue://acme/jobs?endpoint=acme.example",
        "azqueue://acme/jobs?acount=x",
    ],
)
def test_urls_that_make_no_sense(url: str) -> None:
    with pytest.raises(ConfigError):
        open_queue(url)


@pytest.mark.parametrize(
    "credentials",
    [{"account_key": "a2V5", "sas_token": "sv=1"}, {"tenant_id": "t", "client_id": "c"}, {"key": "a2V5"}],
)
def test_credentials_that_make_no_sense(credentials: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught, open_queue("azqueue://acme/jobs", credentials=credentials) as queue:
        queue.send(b"body")
    assert "a2V5" not in str(caught.value)
