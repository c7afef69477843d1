"""NATS as it is deployed: over TLS, with a token, and as a cluster that loses a server; and URLs that make no sense."""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from portable import open_cache, open_queue, open_stream
from portable.errors import ConfigError, Unauthenticated, Unavailable
from tests.patience import PATIENCE, persistently
from tests.targets import own

TOKEN = "t0ken-of-the-test"  # noqa: S105 (it protects nothing)

# Whoever may make what is missing.
MAKE: Any = {"create": "if_missing"}


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    """The server that the service of the repository runs."""
    with own("nats") as server:
        yield Path(f"/proc/{server.pid}/exe").resolve()


def free_ports(count: int) -> list[int]:
    """Give ports that nobody has, and that the system gives to nobody who does not ask for them by their numbers."""
    found: set[int] = set()
    while len(found) < count:
        port = random.randrange(10_000, 28_000)  # noqa: S311 (hides nothing)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.add(port)
    return list(found)


class Server:
    """A server with a config of its own."""

    def __init__(self, program: Path, folder: Path, port: int, config: str) -> None:
        folder.mkdir()
        file = folder / "nats.conf"
        file.write_text(f'listen: "127.0.0.1:{port}"\njetstream {{ store_dir: "{folder / "data"}" }}\n{config}\n')
        self.port = port
        log = (folder / "log").open("wb")
        with log:
            self._process = subprocess.Popen([program, "-c", file], stdout=log, stderr=log)

    def ready(self) -> None:
        """Wait until it greets."""
        deadline, nothing = monotonic() + PATIENCE, threading.Event()
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                if probe.recv(4096).startswith(b"INFO"):
                    return
            assert self._process.poll() is None
            assert monotonic() < deadline
            nothing.wait(0.05)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    openssl = shutil.which("openssl")
    assert openssl is not None, "openssl makes the certificates of this test; install it"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "certificate.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return tmp_path / "certificate.pem"


def test_tls_and_a_token(program: Path, certificate: Path, tmp_path: Path) -> None:
    key = certificate.with_name("key.pem")
    config = f'tls {{ cert_file: "{certificate}", key_file: "{key}" }}\nauthorization {{ token: "{TOKEN}" }}'
    (port,) = free_ports(1)
    server = Server(program, tmp_path / "server", port, config)
    try:
        server.ready()
        url = f"nats://127.0.0.1:{port}"
        with open_cache(url, name="sessions", tls=True, ca=str(certificate), token=TOKEN, **MAKE) as cache:
            cache.set("k", "v")
            assert cache.get("k") == "v"
            assert TOKEN not in f"{cache!r} {cache.url}"
        with (
            open_cache(url, name="sessions", tls=True, ca=str(certificate), token="wrong") as cache,  # noqa: S106 (it is)
            pytest.raises(Unauthenticated),
        ):
            cache.get("k")
        # Nobody has said that this authority is to be trusted, whether TLS was asked for or the server wants it.
        untrusted: list[dict[str, Any]] = [{"tls": True}, {}]
        for options in untrusted:
            with (
                open_cache(url, name="sessions", token=TOKEN, **options) as cache,
                pytest.raises(Unavailable, match="not trusted") as caught,
            ):
                cache.get("k")
            assert not caught.value.retryable
    finally:
        server.kill()


def test_no_secret_is_told_without_tls() -> None:
    heard: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def serve() -> None:
            near, _ = plain.accept()
            with near:
                near.sendall(b'INFO {"version":"2.15.1","max_payload":1048576,"headers":true,"auth_required":true}\r\n')
                while data := near.recv(4096):
                    heard.append(data)

        thread = threading.Thread(target=serve)
        thread.start()
        url = f"nats://app:{TOKEN}@127.0.0.1:{plain.getsockname()[1]}"
        with open_cache(url, name="sessions", tls=True) as cache, pytest.raises(Unavailable, match="no TLS") as caught:
            cache.get("k")
        assert not caught.value.retryable
        thread.join(PATIENCE)
    assert TOKEN.encode() not in b"".join(heard)


@pytest.mark.timeout(300)
def test_a_cluster_that_loses_a_server(program: Path, tmp_path: Path) -> None:
    ports, routes = free_ports(3), free_ports(3)
    known = ", ".join(f'"nats://127.0.0.1:{port}"' for port in routes)
    servers = [
        Server(
            program,
            tmp_path / f"server{number}",
            port,
            f'server_name: s{number}\ncluster {{ name: c, listen: "127.0.0.1:{route}", routes: [{known}] }}',
        )
        for number, (port, route) in enumerate(zip(ports, routes, strict=True))
    ]
    try:
        for server in servers:
            server.ready()
        url = "nats://" + ",".join(f"127.0.0.1:{port}" for port in ports)
        how: dict[str, Any] = {"replicas": 3, "timeout": 10, **MAKE}
        with (
            open_cache(url, name="sessions", **how) as cache,
            open_queue(url, name="jobs", **how) as jobs,
            open_stream(url, name="clicks", partitions=1, **how) as clicks,
        ):
            persistently(lambda: cache.set("k", "before"))
            persistently(lambda: jobs.send_many([b"1", b"2", b"3"]))
            persistently(lambda: clicks.append(b"record"))
            assert cache.capabilities.durability == "replicated"
            servers[0].kill()
            assert persistently(lambda: cache.get("k")) == "before"
            persistently(lambda: cache.set("k", "after"))
            # What was set is what everybody gets, whichever server is asked.
            for port in ports[1:]:
                with open_cache(f"nats://127.0.0.1:{port}", name="sessions", **how) as other:
                    assert persistently(lambda: other.get("k")) == "after"
            bodies: set[bytes] = set()
            while len(bodies) < 3:
                messages = persistently(lambda: jobs.receive(10, wait=5))
                bodies |= {message.body for message in messages}
                persistently(lambda: jobs.ack_many(messages))  # noqa: B023 (called at once)
            assert bodies == {b"1", b"2", b"3"}
            assert [record.data for record in persistently(lambda: clicks.read("0"))] == [b"record"]
    finally:
        for server in servers:
            server.kill()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("nats:///name", {}),
        ("nats://one:x,two/name", {}),
        ("nats://one,:2/name", {}),
        ("nats://user@host/name", {}),
        ("nats://host/name", {"ca": "/ca.pem"}),
        ("nats://host/name", {"tls": True, "ca": "/no/such/file"}),
        ("nats://host/name", {"creds": "/no/such/file"}),
        ("nats://host/name", {"replicas": 0}),
        ("nats://host/name", {"max_payload": "much"}),
        ("nats://host/name", {"tokens": "x"}),
        ("nats://host/a.b", {}),
    ],
)
def test_urls_that_make_no_sense(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        open_cache(url, **options).get("k")
