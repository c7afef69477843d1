"""Who comes to Kafka, and how: passwords, tokens and certificates, on one broker and with both engines."""

from __future__ import annotations

import base64
import contextlib
import gc
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from time import monotonic, time
from typing import Any
from urllib.parse import quote

import pytest

from portable import open_queue, open_stream, open_topic
from portable.errors import ConfigError, PortableError, Unauthenticated, Unavailable
from portable_gcp.kafka_tokens import kafka_token
from tests.certificates import SigningKey
from tests.kafka_broker import AUDIENCE, SECRET, SecureBroker

pytestmark = [
    pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated"),
    # kafka-python forgets sockets where it is refused.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ENGINES = pytest.mark.parametrize("engine", ["confluent", "kafka-python"])
OPENERS: dict[str, Any] = {"queue": open_queue, "stream": open_stream, "topic": open_topic}
PATIENCE = 60.0
EMAIL = "app@acme.iam.gserviceaccount.com"
ACCESS_TOKEN = "ya29.s3cr3t-access-token"  # noqa: S105 (of nobody)


@pytest.fixture(autouse=True)
def _forgotten_sockets() -> Iterator[None]:
    """Have what kafka-python forgot found here, and in no test that comes after."""
    yield
    gc.collect()


@pytest.fixture
def name() -> str:
    return f"t{os.urandom(6).hex()}"


def works(url: str, name: str, **options: Any) -> None:
    """Have a stream written and read, by a group too, so that each kind of client has to come in."""
    with open_stream(url, name=name, create="if_missing", partitions=1, **options) as stream:
        position = stream.append(b"record")
        assert [one.data for one in stream.read(position.partition)] == [b"record"]
        with stream.consumer("group") as consumer:
            (record,) = consumer.poll(timeout=PATIENCE)
            assert record.data == b"record"
            committed(consumer)


def committed(consumer: Any) -> None:
    """Commit, once no rebalance is in the way."""
    deadline = monotonic() + PATIENCE
    while True:
        try:
            consumer.commit()
        except PortableError as error:
            if not error.retryable or monotonic() > deadline:
                raise
            consumer.poll(timeout=0.5)
        else:
            return


def refused(url: str, name: str, kind: str = "stream", **options: Any) -> PortableError:
    """Give the error of a resource that cannot come in, which names the resource."""
    with OPENERS[kind](url, name=name, create="if_missing", **{"timeout": "20s", **options}) as resource:
        with pytest.raises(PortableError) as caught:
            resource.check(timeout=20)
        assert name in str(caught.value)
        assert SECRET not in f"{caught.value}{caught.value.__cause__}{resource!r}"
    return caught.value


@ENGINES
@pytest.mark.parametrize("sasl", ["plain", "scram-sha-256", "scram-sha-512"])
def test_passwords(secure_kafka: SecureBroker, name: str, engine: str, sasl: str) -> None:
    """The right one works; a wrong one is `Unauthenticated`, and not shown."""
    tail = f"@{secure_kafka.at('sasl')}?engine={engine}&sasl={sasl}"
    works(f"kafka://tester:{SECRET}{tail}", name)
    assert isinstance(refused(f"kafka://tester:wrong-{SECRET}{tail}", name), Unauthenticated)


@ENGINES
@pytest.mark.parametrize("kind", OPENERS)
def test_a_wrong_password_is_told_by_every_kind(secure_kafka: SecureBroker, name: str, kind: str, engine: str) -> None:
    url = f"kafka://tester:wrong-{SECRET}@{secure_kafka.at('sasl')}?engine={engine}"
    assert isinstance(refused(url, name, kind), Unauthenticated)


@ENGINES
def test_tls(secure_kafka: SecureBroker, name: str, engine: str) -> None:
    """The broker is verified; one that cannot be is said to be so, and told no password."""
    folder = secure_kafka.folder
    url = f"kafka://tester:{SECRET}@{secure_kafka.at('secure')}?engine={engine}&sasl=scram-sha-512&tls=true"
    works(f"{url}&ca={folder}/ca.pem", name)
    error = refused(f"{url}&ca={folder}/other-ca.pem", name)
    assert isinstance(error, Unavailable)
    assert not error.retryable
    assert "TLS" in str(error)
    assert isinstance(refused(f"{url}&ca={folder}/ca.pem".replace(SECRET, "wrong"), name), Unauthenticated)


@ENGINES
def test_client_certificates(secure_kafka: SecureBroker, name: str, engine: str) -> None:
    """A broker that knows its clients by certificates, and one whose own is over."""
    folder = secure_kafka.folder
    options = f"?engine={engine}&tls=true&ca={folder}/ca.pem"
    own = f"&certificate={folder}/client.pem&private_key={folder}/client.key"
    works(f"kafka://{secure_kafka.at('mutual')}{options}{own}", name)
    refused(f"kafka://{secure_kafka.at('mutual')}{options}", name, timeout="3s")
    error = refused(f"kafka://{secure_kafka.at('stale')}{options}", name)
    assert isinstance(error, Unavailable)
    assert "expired" in str(error)


@pytest.fixture
def token_file(secure_kafka: SecureBroker, name: str) -> Path:
    return secure_kafka.folder / f"{name}.token"


def with_token(broker: SecureBroker, file: Path, engine: str) -> str:
    """Give a URL whose tokens are what a file has at the time."""
    command = quote(f"cat {file}")
    return f"kafka://{broker.at('secure')}?engine={engine}&tls=true&ca={broker.folder}/ca.pem&token_command={command}"


@ENGINES
def test_tokens(secure_kafka: SecureBroker, name: str, token_file: Path, engine: str) -> None:
    """A token that its issuer signed is believed; another one, or one that is over, is `Unauthenticated`."""
    url = with_token(secure_kafka, token_file, engine)
    token_file.write_text(secure_kafka.token())
    works(url, name)
    another = SigningKey().token(aud=AUDIENCE)
    for text in (another, secure_kafka.token(aud="https://elsewhere"), secure_kafka.token(lives=-60), "no-token"):
        token_file.write_text(text)
        error = refused(url, name)
        assert isinstance(error, Unauthenticated)
        assert text not in str(error)


@ENGINES
def test_a_command_that_gives_no_token(secure_kafka: SecureBroker, name: str, token_file: Path, engine: str) -> None:
    error = refused(with_token(secure_kafka, token_file, engine), name)
    assert isinstance(error, Unauthenticated)
    assert "token_command 'cat' failed" in str(error)


@pytest.mark.parametrize("engine", ["confluent", pytest.param("kafka-python", marks=pytest.mark.thorough)])
def test_tokens_that_end_are_renewed(secure_kafka: SecureBroker, name: str, token_file: Path, engine: str) -> None:
    """All clients of a resource go on beyond the end of the token that they came in with."""
    lives = 20.0
    token_file.write_text(secure_kafka.token(lives=lives))
    ends = time() + lives + 1
    url = with_token(secure_kafka, token_file, engine)
    with open_stream(url, name=name, create="if_missing", partitions=1) as stream:
        first = stream.append(b"0")
        assert [one.data for one in stream.read(first.partition)] == [b"0"]
        with stream.consumer("group") as consumer:
            assert [one.data for one in consumer.poll(timeout=PATIENCE)] == [b"0"]
            token_file.write_text(secure_kafka.token())
            while time() < ends:
                # It keeps its place in the group meanwhile.
                assert consumer.poll(timeout=0.5) == []
            stream.append(b"1")
            stream.check(timeout=PATIENCE)
            assert [one.data for one in stream.read(first.partition, after=first)] == [b"1"]
            assert [one.data for one in consumer.poll(timeout=PATIENCE)] == [b"1"]
            committed(consumer)


@ENGINES
def test_an_identity_of_google(secure_kafka: SecureBroker, name: str, engine: str) -> None:
    """What Google's credentials give is put into the form that Managed Service for Apache Kafka documents.

    A local server stands for Google's, which exchanges what a service account's key signed for an access token.
    """
    folder = secure_kafka.folder
    where = f"?engine={engine}&tls=true&ca={folder}/ca.pem&auth=gcp-iam"
    with token_server() as (uri, asked):
        key = {"type": "service_account", "client_email": EMAIL, "private_key": SigningKey().pem, "token_uri": uri}
        key_file = folder / f"{name}.json"
        key_file.write_text(json.dumps(key))
        credentials = {"key_file": str(key_file)}
        works(f"kafka://{secure_kafka.at('google')}{where}", name, credentials=credentials)
        assert asked
        # One that looks at signatures does not believe it.
        error = refused(f"kafka://{secure_kafka.at('secure')}{where}", name, credentials=credentials)
        assert isinstance(error, Unauthenticated)
        assert ACCESS_TOKEN not in f"{error}{error.__cause__}"


def test_the_form_of_googles_tokens() -> None:
    head, claims, access = (
        base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
        for part in kafka_token(ACCESS_TOKEN, EMAIL, 2_000_000_000.5).split(".")
    )
    assert json.loads(head) == {"typ": "JWT", "alg": "GOOG_OAUTH2_TOKEN"}
    found = json.loads(claims)
    assert abs(found.pop("iat") - time()) < PATIENCE
    assert found == {
        "exp": 2_000_000_000,
        "iss": "Google",
        "scope": "kafka",
        "sub": EMAIL,
    }
    assert access.decode() == ACCESS_TOKEN


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("kafka://h/x?auth=gcp-iam", "tls=true"),
        ("kafka://h/x?auth=gpc-iam&tls=true", "gcp-iam"),
        ("kafka://h/x?auth=gcp-iam&tls=true&token_command=cat", "both give tokens"),
        ("kafka://u@h/x?auth=gcp-iam&tls=true&sasl=plain", "sasl=plain takes no tokens"),
        ("kafka://u:secret@h/x?auth=gcp-iam&tls=true", "user alone"),
        ("kafka://u@h/x?sasl=scram-sha-256", "password"),
        ("kafka://h/x?sasl=oauthbearer", "token_command"),
        ("kafka://h/x?ca=/ca.pem", "tls"),
    ],
)
def test_urls_that_make_no_sense(url: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        open_stream(url, name="events")
    assert "secret" not in str(caught.value)


def test_credentials_of_an_identity_are_read() -> None:
    with pytest.raises(ConfigError, match="key_fil"):
        open_stream("kafka://h/x?auth=gcp-iam&tls=true", name="events", credentials={"key_fil": "/key.json"})
    with pytest.raises(ConfigError, match="auth="):
        open_stream("kafka://h/x", name="events", credentials={"key_file": "/key.json"})


@contextlib.contextmanager
def token_server() -> Iterator[tuple[str, list[str]]]:
    """Give access tokens; gives its URL, and what it is asked."""
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps({"access_token": ACCESS_TOKEN, "expires_in": 3600}).encode())

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/token", asked
        finally:
            server.shutdown()
            thread.join()
