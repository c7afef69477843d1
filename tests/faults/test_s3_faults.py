"""Buckets on S3 when servers are killed, connections cut, credentials wrong, and processes forked."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from portable import open_bucket
from portable.errors import (
    ConfigError,
    DeadlineExceeded,
    PortableError,
    ResourceNotFound,
    Unauthenticated,
    Unavailable,
)
from tests import patience
from tests.targets import own, target

PATIENCE = 90.0
persistently = partial(patience.persistently, patience=PATIENCE)
SECRET = "s3cr3tofthetest"  # noqa: S105 (it protects nothing)
MAKE: Any = {"create": "if_missing"}
ENGINES = ["obstore", "boto3"]
MIB = 1024 * 1024


@pytest.fixture
def url() -> str:
    return target("seaweedfs", "bucket")


@pytest.fixture
def name() -> str:
    return f"t{os.urandom(6).hex()}"


class Cutting:
    """Passes bytes between clients and a server, and cuts the connections that carry more than so many up.

    Attributes:
        endpoint: its own.
        most: how many one connection may carry; None for any number.
        budget: how many all of them may carry together from now on; None for any number.
        cut: how many were cut.
    """

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._server = (parts.hostname or "", parts.port or 80)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.most: int | None = None
        self.budget: int | None = None
        self.cut = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                server = socket.create_connection(self._server)
                threading.Thread(target=self._pass, args=(client, server), kwargs={"up": True}, daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client), kwargs={"up": False}, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, *, up: bool) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                if up and self._is_over(passed, len(data)):
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _is_over(self, passed: int, more: int) -> bool:
        with self._lock:
            if self.budget is not None:
                self.budget -= more
            over = (self.most is not None and passed > self.most) or (self.budget is not None and self.budget < 0)
            self.cut += over
            return over


@pytest.fixture
def cutting(url: str) -> Iterator[Cutting]:
    proxy = Cutting(endpoint(url))
    yield proxy
    proxy.close()


def endpoint(url: str) -> str:
    return parse_qs(urlsplit(url).query)["endpoint"][0]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_wrong_secret_is_no_credential(url: str, name: str, engine: str) -> None:
    with open_bucket(url, name=name, **MAKE) as bucket:
        bucket.put("a.b", b"1")
    right = parse_qs(urlsplit(url).query)["secret_access_key"][0]
    with open_bucket(url.replace(right, SECRET), name=name, engine=engine) as bucket:
        for call in (
            lambda: bucket.get("a.b"),
            lambda: bucket.put("a.b", b"2"),
            lambda: [*bucket.list()],
            bucket.check,
        ):
            with pytest.raises(Unauthenticated) as caught:
                call()
            assert SECRET not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"
        assert SECRET not in f"{bucket!r} {bucket.url}"


def test_half_a_key_is_refused(url: str, name: str) -> None:
    right = parse_qs(urlsplit(url).query)["secret_access_key"][0]
    with pytest.raises(ConfigError):
        open_bucket(url.replace(f"&secret_access_key={right}", ""), name=name)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_missing_bucket_is_not_made_by_the_way(url: str, name: str, engine: str) -> None:
    with open_bucket(url, name=name, engine=engine, create="never") as bucket:
        for call in (lambda: bucket.put("a.b", b""), lambda: bucket.get("a.b"), lambda: [*bucket.list()]):
            with pytest.raises(ResourceNotFound, match="portable resources create"):
                call()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_that_is_not_there_is_unavailable(name: str, engine: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    url = f"s3://?endpoint=http://127.0.0.1:{port}&access_key_id=a&secret_access_key={SECRET}"
    with open_bucket(url, name=name, engine=engine, retries=0) as bucket, pytest.raises(Unavailable) as caught:
        bucket.get("a.b")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_server_that_is_silent_costs_no_more_than_the_timeout(
    url: str, name: str, cutting: Cutting, engine: str
) -> None:
    with open_bucket(url, name=name, **MAKE) as bucket:
        bucket.put("a.b", b"1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with open_bucket(url.replace(endpoint(url), cutting.endpoint), name=name, engine=engine) as bucket:
            assert bucket.get("a.b") == b"1"
            cutting._server = silent.getsockname()
            cutting.most = 0
            with contextlib.suppress(PortableError):
                bucket.get("a.b", timeout=1)
            cutting.most = None
            started = monotonic()
            with pytest.raises((DeadlineExceeded, Unavailable)):
                bucket.get("a.b", timeout=1)
            assert monotonic() - started < 30


@pytest.mark.parametrize("engine", ENGINES)
def test_a_cut_in_the_middle_of_parts_leaves_none(url: str, name: str, cutting: Cutting, engine: str) -> None:
    through = url.replace(endpoint(url), cutting.endpoint)
    with open_bucket(through, name=name, engine=engine, retries=0, **MAKE) as bucket:
        bucket.put("old.bin", b"old")
        cutting.most = 3 * MIB
        for data in (b"x" * 40 * MIB, (b"x" * MIB for _ in range(40))):
            with pytest.raises(Unavailable) as caught:
                bucket.put("old.bin", data)
            assert caught.value.maybe_applied or caught.value.retryable
        assert cutting.cut
        cutting.most = None
        assert bucket.get("old.bin") == b"old"
        assert bucket.native.list_multipart_uploads(Bucket=name).get("Uploads", []) == []


@pytest.mark.thorough
def test_an_upload_that_was_cut_goes_on(url: str, name: str, cutting: Cutting, tmp_path: Path) -> None:
    data = os.urandom(40 * MIB)
    tmp_path.joinpath("file").write_bytes(data)
    through = url.replace(endpoint(url), cutting.endpoint)
    with open_bucket(through, name=name, retries=0, **MAKE) as bucket:
        bucket.exists("a.bin")
        part, at_once = bucket.capabilities.part_bytes, bucket.capabilities.part_concurrency
        # More than all that are on their way at once can carry without one of them being whole.
        cutting.budget = at_once * part + MIB
        with pytest.raises(Unavailable):
            bucket.upload(tmp_path / "file", "a.bin")
        assert cutting.cut
        cutting.budget = None
        assert not bucket.exists("a.bin")
        # What was begun is noted beside the file, and kept by the server.
        assert len(bucket.native.list_multipart_uploads(Bucket=name)["Uploads"]) == 1
        # With its head it would be more, if all of it were sent again.
        cutting.budget = len(data)
        bucket.upload(tmp_path / "file", "a.bin")
        cutting.budget = None
        assert bucket.get("a.bin") == data
        assert bucket.native.list_multipart_uploads(Bucket=name).get("Uploads", []) == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_server_is_killed_under_load(name: str, engine: str) -> None:
    with own("seaweedfs") as server, open_bucket(server.url, name=name, engine=engine, retries=0, **MAKE) as bucket:
        bucket.put("first.txt", b"")
        accepted: dict[str, bytes] = {}
        killed = threading.Event()

        def write(worker: int) -> None:
            for number in range(60):
                key, data = f"{worker}/{number}.txt", os.urandom(2000) + b"%d" % number
                persistently(partial(bucket.put, key, data))
                accepted[key] = data
                if len(accepted) > 60 and not killed.is_set():
                    killed.set()
                    server.kill()

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(write, worker) for worker in range(4)]:
                done.result()
        assert killed.is_set()
        server.ready()
        assert len(accepted) == 240
        for key, data in accepted.items():
            assert persistently(partial(bucket.get, key)) == data
        assert {item.key for item in bucket.list()} == {"first.txt", *accepted}


@pytest.mark.parametrize("engine", ["auto", "boto3"])
def test_a_forked_child_has_clients_of_its_own(url: str, name: str, engine: str) -> None:
    with open_bucket(url, name=name, engine=engine, **MAKE) as bucket:
        bucket.put("a.b", b"parent")
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                answer = bucket.get("a.b")
                bucket.put("c.d", b"child")
                os.write(writing, answer)
            finally:
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading, "rb") as pipe:
            assert pipe.read() == b"parent"
        assert os.waitpid(pid, 0)[1] == 0
        assert bucket.get("c.d") == b"child"
