"""Event Hubs, as a Kafka with its passwords, TLS and limits stands for it, by the suites of its kinds."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from portable import open_queue, open_stream, open_subscription, open_topic
from portable.errors import ConfigError, ResourceNotFound, Unauthenticated, Unsupported
from portable.testing.stream import StreamSuite
from portable.testing.topic import SubscriptionSuite, TopicSuite
from tests.certificates import SigningKey
from tests.kafka_broker import AUDIENCE, CONNECTION, KEY, NAMESPACE, SecureBroker

PATIENCE = 60.0


def hubs(broker: SecureBroker) -> str:
    """Give a URL of hubs on the broker; it says nothing of credentials."""
    where = f"endpoint={broker.at('secure')}&ca={quote(str(broker.folder))}/ca.pem"
    return f"eventhubs://hub?namespace={NAMESPACE}&make_hubs=true&{where}"


class _EventHubs:
    url: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {"connection_string": CONNECTION, "session_timeout": "10s"}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls, secure_kafka: SecureBroker) -> None:
        cls.url = hubs(secure_kafka)


class TestEventHubsStream(_EventHubs, StreamSuite):
    pass


class TestEventHubsTopic(_EventHubs, TopicSuite):
    pass


class TestEventHubsSubscription(_EventHubs, SubscriptionSuite):
    pass


@pytest.fixture
def name() -> str:
    return f"t{os.urandom(6).hex()}"


def test_a_wrong_key_is_told_without_it(secure_kafka: SecureBroker, name: str) -> None:
    wrong = CONNECTION.replace(KEY, f"d3Jvbmc{KEY}")
    with open_stream(hubs(secure_kafka), name=name, connection_string=wrong, timeout="20s") as stream:
        with pytest.raises(Unauthenticated, match=name) as caught:
            stream.append(b"record")
        assert KEY not in f"{caught.value}{caught.value.__cause__}{stream!r}"


def test_an_identity_of_entra(secure_kafka: SecureBroker, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Azure's default chain gives a token for the namespace, which the broker verifies; another is `Unauthenticated`.

    A local server stands for App Service's, which gives the tokens of a managed identity.
    """
    with managed_identity() as (endpoint, give, asked):
        monkeypatch.setenv("IDENTITY_ENDPOINT", endpoint)
        monkeypatch.setenv("IDENTITY_HEADER", "header")
        give(secure_kafka.token())
        with open_stream(hubs(secure_kafka), name=name, partitions=1, create="if_missing") as stream:
            assert asked == []
            position = stream.append(b"record")
            assert [one.data for one in stream.read(position.partition)] == [b"record"]
        assert asked
        assert set(asked) == {AUDIENCE}
        wrong = SigningKey().token(aud=AUDIENCE)
        give(wrong)
        with open_stream(hubs(secure_kafka), name=name, timeout="20s") as stream:
            with pytest.raises(Unauthenticated) as caught:
                stream.append(b"record")
            assert wrong not in f"{caught.value}{caught.value.__cause__}"


def test_who_has_no_identity_is_told(secure_kafka: SecureBroker, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with managed_identity() as (endpoint, _, __):
        monkeypatch.setenv("IDENTITY_ENDPOINT", endpoint)
        monkeypatch.setenv("IDENTITY_HEADER", "header")
        credentials = {"client_id": "nobody"}
        with (
            open_stream(hubs(secure_kafka), name=name, credentials=credentials, timeout="20s") as stream,
            pytest.raises(Unauthenticated, match=name),
        ):
            stream.append(b"record")


def test_hubs_are_not_made_where_the_service_does_not(secure_kafka: SecureBroker, name: str) -> None:
    """https://learn.microsoft.com/azure/event-hubs/apache-kafka-configurations: no AdminClient makes topics."""
    url = hubs(secure_kafka)
    how: dict[str, Any] = {"name": name, "connection_string": CONNECTION}
    with (
        open_stream(url, make_hubs=False, create="if_missing", **how) as stream,
        pytest.raises(Unsupported, match=f"--namespace-name {NAMESPACE} ") as caught,
    ):
        stream.append(b"record")
    assert name in str(caught.value)
    with open_stream(url, make_hubs=False, **how) as stream, pytest.raises(ResourceNotFound):
        stream.append(b"record")
    with open_stream(url, create="if_missing", **how) as stream:
        stream.append(b"record")
    # What others have made is used, and the group of a subscription is made all the same.
    there: dict[str, Any] = {"connection_string": CONNECTION, "topic": name, "name": f"{name}-sub"}
    with open_subscription(url, create="if_missing", **there) as subscription:
        subscription.send(b"ready")
    with (
        open_topic(url, make_hubs=False, create="if_missing", **how) as topic,
        open_subscription(url, make_hubs=False, create="if_missing", **there) as subscription,
    ):
        topic.publish(b"body")
        found = Counter(message.body for _ in range(2) for message in subscription.receive(1, wait=PATIENCE))
        assert found == {b"ready": 1, b"body": 1}


def test_much_that_is_done_out_of_order(secure_kafka: SecureBroker, name: str) -> None:
    """More than 1,024 bytes beside an offset could hold: what is open comes again, and nothing is lost."""
    url, total = hubs(secure_kafka), 600
    how: dict[str, Any] = {"name": name, "connection_string": CONNECTION, "partitions": 1, "create": "if_missing"}
    bodies = {str(number).encode() for number in range(total)}
    done = set()
    with open_queue(url, visibility_timeout="600s", **how) as queue:
        queue.send_many(sorted(bodies))
        held: list[Any] = []
        while len(held) < total:
            held += queue.receive(min(100, total - len(held)), wait=PATIENCE)
        queue.ack_many(held[::2])
        done = {message.body for message in held[::2]}
    with open_queue(url, **how) as queue:
        left: Counter[bytes] = Counter()
        while not bodies - done <= set(left):
            messages = queue.receive(100, wait=PATIENCE)
            assert messages
            left.update(message.body for message in messages)
            queue.ack_many(messages)
    # What the text had room for did not come again.
    assert len(left) < total


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("eventhubs://hub", "namespace="),
        ("eventhubs://acme/hub?namespace=acme", "not both"),
        ("eventhubs://user@acme/hub", "connection_string="),
        ("eventhubs://ac_me/hub", "no namespace"),
        ("eventhubs://acme/hub?endpoint=https://acme/x", "HOST:PORT"),
        ("eventhubs://acme/hub?compression=zstd", "compression"),
        ("eventhubs://acme/hub?connection_string=secret", "connection_string is none"),
        (f"eventhubs://acme/hub?connection_string={quote(CONNECTION)}", "the URL names acme.servicebus.windows.net"),
        (f"eventhubs://{NAMESPACE}/hub?connection_string={quote(CONNECTION)}%3BEntityPath%3Dother", "'other' alone"),
        (
            "eventhubs://acme/hub?connection_string=Endpoint%3Dsb://acme.example/;SharedAccessSignature%3Dsecret",
            "no shared access signature",
        ),
    ],
)
def test_urls_that_make_no_sense(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        open_stream(url)
    assert KEY not in str(caught.value)
    assert "=secret" not in str(caught.value)


@pytest.mark.parametrize(
    "credentials",
    [{"account_key": "a2V5"}, {"connection_string": CONNECTION, "client_id": "c"}, {"key": "a2V5"}],
)
def test_credentials_that_make_no_sense(credentials: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        open_stream(f"eventhubs://{NAMESPACE}/hub", credentials=credentials)
    assert KEY not in str(caught.value)
    assert "a2V5" not in str(caught.value)


@contextlib.contextmanager
def managed_identity() -> Iterator[tuple[str, Any, list[str]]]:
    """Give tokens as App Service does; gives its URL, what sets the next token, and the resources asked for."""
    asked: list[str] = []
    tokens: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            known = bool(tokens) and "client_id" not in query and self.headers["X-IDENTITY-HEADER"] == "header"
            if known:
                asked.append(query["resource"][0])
            body: dict[str, Any] = {"error": "invalid_request", "error_description": "no such identity"}
            if known:
                body = {"access_token": tokens[-1], "expires_on": "9999999999", "token_type": "Bearer"}
                body |= {"resource": query["resource"][0]}
            self.send_response(200 if known else 400)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/token", tokens.append, asked
        finally:
            server.shutdown()
            thread.join()
