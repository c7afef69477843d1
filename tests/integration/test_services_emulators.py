"""What the services for tests and for the web are for: faults of a network, files, an application behind a server."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import shutil
import socket
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portable.errors import ConfigError, Unavailable
from portable.services import Services
from portable.services.catalogue import Catalogue, Repository, built_in
from portable.services.instances import Instance
from portable.services.runtimes import strays

HERE = Path(__file__).parent / "services"
PATIENCE = 60.0


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    engine = Services(tmp_path)
    yield engine
    for name in engine.home.names():
        engine.uninstall(name)
    assert not list(strays.processes(engine.home.folder))


def installed(services: Services, name: str, **how: Any) -> Instance:
    """Install a service, where this machine can have its software; CI has to."""
    try:
        return services.install(name, **how)
    except Unavailable as error:
        if "its software cannot be had" in error.message and os.environ.get("PORTABLE_TEST_REQUIRE") != "all":
            pytest.skip(error.message)
        raise


def asked(
    services: Services, name: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    binding = services.binding(name)
    connection = http.client.HTTPConnection(binding["host"], int(binding["port"]), timeout=PATIENCE)
    try:
        connection.request(method, path, body=body if body is None else json.dumps(body), headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.fixture
def upstream() -> Iterator[int]:
    """A server that sends back what it gets."""

    class Echo(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while line := self.rfile.readline():
                self.wfile.write(line)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.mark.timeout(600)
def test_toxiproxy_cuts_and_mends_a_connection(services: Services, upstream: int) -> None:
    installed(services, "toxiproxy")
    wish = {"name": "echo", "listen": "127.0.0.1:0", "upstream": f"127.0.0.1:{upstream}"}
    status, answer = asked(services, "toxiproxy", "POST", "/proxies", wish)
    assert status == 201, answer
    host, _, port = json.loads(answer)["listen"].rpartition(":")
    assert host == "127.0.0.1"
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as through:
        through.sendall(b"first\n")
        assert through.recv(100) == b"first\n"
        toxic = {"name": "cut", "type": "reset_peer", "attributes": {"timeout": 0}}
        status, answer = asked(services, "toxiproxy", "POST", "/proxies/echo/toxics", toxic)
        assert status == 200, answer
        # The connection has ended, in good order or not, and nothing more came through.
        received = b"?"
        with contextlib.suppress(ConnectionError):
            while received:
                through.sendall(b"second\n")
                received = through.recv(100)
                assert received in {b"", b"second\n"}
    assert asked(services, "toxiproxy", "DELETE", "/proxies/echo/toxics/cut")[0] == 204
    with socket.create_connection((host, int(port)), timeout=PATIENCE) as through:
        through.sendall(b"third\n")
        assert through.recv(100) == b"third\n"


@pytest.fixture
def site() -> Iterator[Path]:
    """A folder that servers may read, whoever runs them."""
    folder = Path(tempfile.mkdtemp(prefix="portable-site-"))
    folder.chmod(0o755)
    (folder / "sub").mkdir(mode=0o755)
    for name, text in {
        "index.html": "<h1>home</h1>",
        "sub/page.txt": "a page",
        ".secret": "hidden",
        "sub/.x": "x",
    }.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o644)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.timeout(600)
def test_web_serves_a_folder_and_nothing_else(services: Services, site: Path) -> None:
    with pytest.raises(ConfigError, match="folder"):
        services.install("web", parameters={"folder": '/srv"; respond'})
    installed(services, "web", parameters={"folder": str(site)})
    assert asked(services, "web", "GET", "/") == (200, b"<h1>home</h1>")
    assert asked(services, "web", "GET", "/sub/page.txt") == (200, b"a page")
    for path in ("/nothing", "/.secret", "/sub/.x", "/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/sub/"):
        status, answer = asked(services, "web", "GET", path)
        assert (status, b"root:" in answer, b"hidden" in answer) == (404, False, False), path
    assert asked(services, "web", "PUT", "/new", {"a": 1})[0] == 404
    assert asked(services, "web", "PUT", "/sub/page.txt", {"a": 1})[0] == 405
    assert sorted(path.name for path in site.rglob("*")) == [".secret", ".x", "index.html", "page.txt", "sub"]
    assert (site / "sub" / "page.txt").read_text() == "a page"


@pytest.mark.timeout(600)
def test_web_stands_before_the_application(services: Services) -> None:
    class Application(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = self.rfile.read(length) + f" from {self.headers['X-Forwarded-For']} at {self.path}".encode()
            self.send_response(201)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application) as application:
        installed(
            services,
            "web",
            parameters={
                "serve": "application",
                "application": f"127.0.0.1:{application.server_address[1]}",
                "max-body": "1KB",
            },
        )
        thread = threading.Thread(target=application.serve_forever)
        thread.start()
        try:
            assert asked(services, "web", "POST", "/a?b=c", 5) == (201, b"5 from 127.0.0.1 at /a?b=c")
            status, _ = asked(services, "web", "POST", "/large", "x" * 5000)
            assert status in {413, 502}
        finally:
            application.shutdown()
            thread.join()
    status, _ = asked(services, "web", "GET", "/")
    assert status == 502
    # Its own page does not need the application.
    services.down()
    services.up()


def test_an_emulator_whose_software_is_nowhere_says_what_is_missing(tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    for name in ("pubsub-emulator", "firestore-emulator"):
        shutil.copytree(built_in().folder / name, repository / name)
        path = repository / name / "service.toml"
        text = path.read_text()
        start = text.index("[[process.software]]\n# Where the machine knows")
        text = text[:start] + text[text.index("[process]", start) :]
        for root in ("/usr/lib/", "/usr/share/", "/opt/", "/snap/"):
            text = text.replace(f'"{root}google-cloud', f'"/nowhere{root}google-cloud')
        path.write_text(text)
        engine = Services(tmp_path, catalogue=Catalogue([Repository("elsewhere", repository)]))
        with pytest.raises(Unavailable, match=r"cannot be had: path: this machine has no .*google-cloud") as caught:
            engine.install(name)
        assert "/nowhere/opt/google-cloud" in caught.value.message
        engine.uninstall(name)
    assert not (tmp_path / ".portable").exists()


@pytest.mark.parametrize("served", [True, False])
def test_a_functional_probe_works_through_an_adapter_where_there_is_one(tmp_path: Path, *, served: bool) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(HERE / "echo", repository / "echo")
    path = repository / "echo" / "service.toml"
    text = path.read_text()
    text = text.replace("[probes.functional]\n", '[probes.functional]\nresource = "cache"\n')
    text = text.replace("print(sys.stdin.read())", "print(sys.stdin.read()); open('asked', 'w')")
    file = tmp_path / "cache.db"
    uri = f"sqlite:{file}" if served else "served-by-nobody://127.0.0.1"
    path.write_text(text.replace("cache = {}", f'cache = {{ uri = "{uri}" }}'))
    engine = Services(tmp_path, catalogue=Catalogue([Repository("tests", repository)]))
    try:
        engine.install("echo")
        asked_its_own_way = (engine.home.folder / "echo" / "run" / "asked").exists()
        assert (file.exists(), asked_its_own_way) == (served, not served)
    finally:
        engine.uninstall("echo")
