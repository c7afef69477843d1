"""memcached killed, restarted, forgetful, shared by threads and forked processes, or not as it should be."""

from __future__ import annotations

import contextlib
import os
import socket
import socketserver
import subprocess
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from portable import open_cache
from portable.cache import Cache
from portable.errors import ConfigError, DeadlineExceeded, LimitExceeded, Unauthenticated, Unavailable, Unsupported
from tests.targets import Own, own, target
from tests.toxics import proxied

PATIENCE = 60.0


def native(cache: Cache[Any]) -> Any:
    return cache.native


def generation_key(cache: Cache[Any]) -> bytes:
    return b"portable:cache:" + cache.name.encode() + b":generation"


@pytest.fixture
def url() -> str:
    return target("memcached")


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return f"f{os.getpid()}-{time.monotonic_ns():x}"


def test_it_comes_back_after_a_kill_with_nothing_and_without_a_wrong_value(name: str) -> None:
    with own("memcached") as server, open_cache(server.url, name=name, retries=100, timeout=PATIENCE) as cache:
        cache.set("k", "before")
        assert cache.get("k") == "before"
        server.kill()
        # Reads, and writes that may be repeated, wait for it to be back.
        deadline = time.monotonic() + PATIENCE
        while cache.get("k") == "before":
            assert time.monotonic() < deadline
        assert cache.get("k") is None
        cache.set("k", "after")
        assert cache.incr("n", 5) == 5
        assert cache.get("k") == "after"


def test_a_counter_is_never_counted_twice_by_a_kill(name: str) -> None:
    with own("memcached") as server, open_cache(server.url, name=name, retries=100, timeout=PATIENCE) as cache:
        told: list[int] = []
        failed: list[Unavailable] = []
        enough = threading.Event()

        def count() -> None:
            while len(told) < 20_000 and not enough.is_set():
                try:
                    told.append(cache.incr("n"))
                except Unavailable as error:
                    failed.append(error)
                if len(told) >= 2_000:
                    enough.set()

        with ThreadPoolExecutor(4) as pool:
            futures = [pool.submit(count) for _ in range(4)]
            while len(told) < 200:
                assert not all(future.done() for future in futures)
                threading.Event().wait(0.001)
            server.kill()
            for future in futures:
                future.result()
        # It forgot what it had and began anew: each number was told once before and once after.
        assert all(error.maybe_applied for error in failed)
        assert max(Counter(told).values()) <= 2
        assert len(set(range(1, cache.get("n", 0) + 1)) - set(told)) <= len(failed)


def test_a_server_that_is_gone_says_so(name: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"memcached://127.0.0.1:{free.getsockname()[1]}"
        with open_cache(url, name=name, retries=1) as cache, pytest.raises(Unavailable) as caught:
            cache.incr("n")
    assert caught.value.resource == name
    assert not caught.value.maybe_applied
    assert caught.value.retryable


@pytest.mark.timeout(600)  # the proxy may have to be built
def test_a_late_answer_is_never_taken_for_another_calls(url: str, name: str) -> None:
    with proxied(url) as proxy, open_cache(proxy.url, name=name, timeout=PATIENCE) as cache:
        cache.set_many({"a": "of a", "b": "of b"})
        proxy.slow(3)
        for key in ("a", "b", "a"):
            with pytest.raises(DeadlineExceeded):
                cache.get(key, timeout=0.2)
        with pytest.raises(DeadlineExceeded) as caught:
            cache.incr("n", timeout=0.2)
        # It was looked at, or not even that.
        assert not caught.value.maybe_applied
        proxy.mend()
        assert (cache.get("a"), cache.get("b")) == ("of a", "of b")
        assert cache.get("n") is None


@pytest.mark.timeout(600)  # the proxy may have to be built
def test_a_connection_that_is_reset_is_made_again(url: str, name: str) -> None:
    with (
        proxied(url) as proxy,
        open_cache(proxy.url, name=name, retries=2) as cache,
        open_cache(url, name=name) as direct,
    ):
        cache.set("k", "before")
        proxy.reset()
        with pytest.raises(Unavailable) as caught:
            cache.set("k", "after")
        assert caught.value.maybe_applied
        # The server had it: only its answer did not come.
        assert direct.get("k") in {"before", "after"}
        with pytest.raises(Unavailable):
            cache.add("once", 1)
        proxy.mend()
        assert cache.get("k") == direct.get("k")
        proxy.hang()
        with pytest.raises(DeadlineExceeded):
            cache.get("k", timeout=0.3)
        proxy.mend()
        assert cache.get("k") == direct.get("k")


def test_a_generation_that_was_evicted_takes_all_values_with_it(url: str, name: str) -> None:
    with open_cache(url, name=name) as cache, open_cache(url, name=name) as other:
        cache.set_many({"a": 1, "b": 2})
        assert other.get("a") == 1
        native(cache).delete(generation_key(cache), noreply=False)
        assert cache.get("a") is None
        cache.set("a", 3)
        assert other.get_many(["a", "b"]) == {"a": 3}
        assert not other.add("a", 4)


def test_what_another_process_cleared_is_gone_for_writers_too(url: str, name: str) -> None:
    with open_cache(url, name=name) as cache, open_cache(url, name=name) as other:
        assert other.incr("n", 7) == 7
        assert other.add("k", "old")
        cache.clear()
        assert other.incr("n", 1) == 1
        assert other.add("k", "new")
        assert not other.delete("gone")
        cache.clear()
        assert not other.touch("k", 60)
        assert other.delete_many(["k", "n"]) == 0


def test_keys_of_any_length_are_told_apart(url: str, name: str) -> None:
    keys = [
        character * length for character in ("k", "é", "🎉", "\x80", "\n") for length in (20, 24, 26, 60, 180, 5000)
    ]
    with open_cache(url, name=name) as cache:
        cache.set_many({key: number for number, key in enumerate(keys)}, ttl=600)
        assert cache.get_many(keys) == {key: number for number, key in enumerate(keys)}
        for number, key in enumerate(keys):
            assert cache.incr(key, 2) == number + 2
            assert cache.touch(key, 60)
            left = cache.ttl(key)
            assert left is not None
            assert left <= 61
            assert not cache.add(key, 0)
            assert cache.delete(key)
        with pytest.raises(LimitExceeded):
            cache.set("k" * 5000, b"v" * (1024 * 1024 - 4000))


def test_a_value_that_fits_a_larger_server_only_is_refused(url: str, name: str) -> None:
    value = b"v" * (1024 * 1024 + 1)
    with open_cache(url, name=name) as cache, pytest.raises(LimitExceeded, match="takes"):
        cache.set("k", value)
    with open_cache(url, name=name, max_item_size="4MiB") as cache:
        with pytest.raises(LimitExceeded, match="memcached -I"):
            cache.set("k", value)
        assert cache.get("k") is None
        cache.set("k", b"small")
        assert cache.get("k") == b"small"


def test_another_programs_clock_does_not_matter(url: str, name: str) -> None:
    """Values of a machine whose clock is an hour off live as long as memcached says."""
    with open_cache(url, name=name) as cache:
        cache.set("k", 1)
        client = native(cache)
        generation = client.get(generation_key(cache))
        stored = b"portable:cache:%b:value:%b:k" % (name.encode(), generation)
        for hours in (-1, 1):
            flags = (0xC << 28) | int((time.time() + 3600 * hours + 60) * 8) % (1 << 28)
            client.set(stored, b"2", expire=62, flags=flags, noreply=False)
            assert cache.get("k") == 2
            left = cache.ttl("k")
            assert left is not None
            assert 30 < left <= 61


def test_keys_are_shared_among_servers_and_one_that_is_down_takes_its_own_with_it(name: str) -> None:
    with own("memcached") as one, own("memcached") as other:
        hosts = [server.url.removeprefix("memcached://") for server in (one, other)]
        with (
            open_cache(f"memcached://{','.join(hosts)}", name=name, retries=1) as cache,
            open_cache(f"memcached://{','.join(reversed(hosts))}", name=name) as same,
        ):
            keys = [f"k{number}" for number in range(200)]
            cache.set_many(dict.fromkeys(keys, 1))
            assert same.get_many(keys) == dict.fromkeys(keys, 1)
            other.down()
            there = []
            for key in keys:
                with contextlib.suppress(Unavailable):
                    assert cache.get(key) == 1
                    there.append(key)
            assert 20 < len(there) < 180
            with pytest.raises(Unavailable):
                cache.clear()
            other.up()
            cache.clear()
            assert cache.get_many(keys) == {}


@contextlib.contextmanager
def beside(server: Own, *options: str) -> Iterator[int]:
    """Run the same program as a server's, with other options."""
    program = Path(f"/proc/{server.pid}/exe").readlink()
    entries = Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")
    environment = dict(os.fsdecode(entry).split("=", 1) for entry in entries if b"=" in entry)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Root may read the files of the test, and may not run it without saying so.
    command = [str(program), "-u", "root", "-l", "127.0.0.1", "-p", str(port), "-U", "0", *options]
    process = subprocess.Popen(command, env=environment)
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
            except OSError:
                assert time.monotonic() < deadline
                assert process.poll() is None
                time.sleep(0.02)
            else:
                break
        yield port
    finally:
        process.kill()
        process.wait()


def test_a_login_is_asked_for_and_never_told(name: str, tmp_path: Path) -> None:
    secret = f"w{uuid.uuid4().hex}"
    file = tmp_path / "logins"
    file.write_text(f"app:{secret}\n")
    with own("memcached") as server, beside(server, "-Y", str(file)) as port:
        with open_cache(f"memcached://app:{secret}@127.0.0.1:{port}", name=name) as cache:
            cache.set("k", 1)
            assert cache.get("k") == 1
            assert secret not in f"{cache!r} {cache.url}"
        for login in ("", "app:wr0ng-word@", f"other:{secret}@"):
            with open_cache(f"memcached://{login}127.0.0.1:{port}", name=name) as cache:
                with pytest.raises(Unauthenticated) as caught:
                    cache.get("k")
                assert secret not in f"{caught.value!r} {caught.value.__cause__!r}"
                assert "wr0ng-word" not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_over_tls_the_server_is_verified(name: str, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate", tmp_path / "key"
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*made, *named, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    options = ("-Z", "-o", f"ssl_chain_cert={certificate},ssl_key={key}")
    with own("memcached") as server, beside(server, *options) as port:
        url = f"memcached://127.0.0.1:{port}?tls=true"
        with open_cache(f"{url}&ca={certificate}", name=name) as cache:
            cache.set_many({f"k{number}": "v" * 2000 for number in range(300)})
            assert len(cache.get_many(f"k{number}" for number in range(300))) == 300
        with open_cache(url, name=name) as cache, pytest.raises(Unavailable, match="not trusted") as caught:
            cache.get("k")
        assert not caught.value.retryable


def test_a_server_that_is_too_old_is_refused(name: str) -> None:
    class Old(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline():
                self.wfile.write(b"VERSION 1.5.22\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Old) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with open_cache(f"memcached://127.0.0.1:{server.server_address[1]}", name=name) as cache:
                with pytest.raises(Unsupported, match=r"1\.5\.22"):
                    cache.get("k")
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("memcached:///name", "host"),
        ("memcached://h:1,:2/name", "host:port"),
        ("memcached://h:1,i:99999/name", "host:port"),
        ("memcached://h/name?socket=/tmp/s", "socket"),
        ("memcached:///name?socket=/tmp/s&tls=true", "tls"),
        ("memcached://h/name?tls=true&ca=/nothing/there", "certificates"),
    ],
)
def test_a_url_that_names_no_server_is_refused(url: str, word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        open_cache(url)


def test_many_threads_share_a_few_connections(url: str, name: str) -> None:
    with open_cache(url, name=name, max_connections=2, timeout=PATIENCE) as cache, ThreadPoolExecutor(64) as pool:

        def work(number: int) -> int:
            cache.set(f"k{number}", number)
            cache.incr("n")
            return cache.get(f"k{number}", -1)

        assert list(pool.map(work, range(1000))) == list(range(1000))
        assert cache.get("n") == 1000


def test_a_forked_child_has_connections_of_its_own(url: str, name: str) -> None:
    with open_cache(url, name=name) as cache:
        cache.set("k", "parent")
        child = os.fork()
        if child == 0:
            code = 1
            with contextlib.suppress(BaseException):
                if cache.get("k") == "parent" and cache.incr("n", 3) == 3:
                    code = 0
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert cache.incr("n") == 4
        assert cache.get("k") == "parent"
