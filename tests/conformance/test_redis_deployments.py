"""Redis as a cluster, behind Sentinel, over TLS and on a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar

import pytest
from redis import Redis

from portable import open_cache, open_queue
from portable.aio import open_cache as open_cache_async
from portable.errors import ConfigError, DeadlineExceeded, Unavailable
from portable.testing.aio.stream import StreamSuite as AsyncStreamSuite
from portable.testing.aio.topic import TopicSuite as AsyncTopicSuite
from portable.testing.stream import StreamSuite
from portable.testing.topic import TopicSuite
from tests.redis_servers import RedisServer, free_port, redis_server

PATIENCE = 60.0


def until(condition: Callable[[], bool], what: str) -> None:
    deadline = monotonic() + PATIENCE
    pause = threading.Event()
    while not condition():
        assert monotonic() < deadline, f"{what} did not come up"
        pause.wait(0.02)


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A cluster of three nodes, a third of the slots on each."""
    with contextlib.ExitStack() as stack:
        ports = [free_port() for _ in range(3)]
        servers = [
            stack.enter_context(redis_server("--cluster-enabled", "yes", "--cluster-port", str(port))) for port in ports
        ]
        clients = [stack.enter_context(Redis(port=server.port)) for server in servers]
        for number, client in enumerate(clients):
            first, last = 16384 * number // 3, 16384 * (number + 1) // 3 - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for server, port in zip(servers[1:], ports[1:], strict=True):
            clients[0].execute_command("CLUSTER", "MEET", "127.0.0.1", server.port, port)

        def whole() -> bool:
            states = [client.cluster("INFO") for client in clients]
            return all(one["cluster_state"] == "ok" and one["cluster_size"] == "3" for one in states)

        until(whole, "the cluster of three nodes")
        yield servers[0].url


class _Cluster:
    url: ClassVar[str]
    options: ClassVar = {"cluster": True}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _url(cls, cluster: str) -> None:
        cls.url = cluster


class TestClusterTopic(_Cluster, TopicSuite):
    pass


class TestClusterTopicAsync(_Cluster, AsyncTopicSuite):
    pass


class TestClusterStream(_Cluster, StreamSuite):
    pass


class TestClusterStreamAsync(_Cluster, AsyncStreamSuite):
    pass


def use(url: str, **how: Any) -> None:
    """Use what goes through different commands, in both faces."""
    with open_cache(url, name="sessions", **how) as cache, open_cache(url, name="other", **how) as other:
        other.set("k", "stays")
        cache.set_many({f"k{number}": number for number in range(50)}, ttl=60)
        assert cache.get_many(["k1", "k2"]) == {"k1": 1, "k2": 2}
        with cache.lock("l", ttl=60):
            assert cache.incr("n", ttl=60) == 1
        cache.clear()
        assert cache.get_many(["k1", "n"]) == {}
        assert other.get("k") == "stays"
        capabilities: Any = cache.capabilities
        assert capabilities.fencing is not bool(how.get("cluster") or how.get("sentinel"))
    with open_queue(url, name="jobs", create="if_missing", max_deliveries=1, **how) as jobs:
        jobs.send(b"body", attributes={"a": "b"})
        (message,) = jobs.receive(wait=PATIENCE)
        message.reject("no")
        (letter,) = jobs.dead_letters.receive(wait=PATIENCE)
        assert (letter.body, letter.dead_reason) == (b"body", "no")
        letter.ack()

    async def main() -> None:
        async with open_cache_async(url, name="sessions", **how) as cache:
            await asyncio.gather(*(cache.set(f"k{number}", number) for number in range(50)))
            assert await cache.get("k7") == 7
            await cache.clear()
            assert await cache.get("k7") is None

    asyncio.run(main())


def test_cluster(cluster: str) -> None:
    use(cluster, cluster=True)


def test_sentinel() -> None:
    with redis_server() as primary:
        folder = primary.folder
        watch = RedisServer("--sentinel", folder=folder, arguments=[str(folder / "sentinel.conf")])
        (folder / "sentinel.conf").write_text(f"sentinel monitor primary 127.0.0.1 {primary.port} 1\n")
        with watch.running():
            use(watch.url, sentinel="primary")
            with open_cache(watch.url, name="sessions", sentinel="nobody", retries=0) as cache:
                with pytest.raises(Unavailable):
                    cache.get("k")


def test_a_failover_is_followed_and_keeps_what_was_replicated() -> None:
    with redis_server() as primary, redis_server("--replicaof", "127.0.0.1", str(primary.port)) as replica:
        folder = primary.folder
        watch = RedisServer("--sentinel", folder=folder, arguments=[str(folder / "sentinel.conf")])
        (folder / "sentinel.conf").write_text(
            f"sentinel monitor primary 127.0.0.1 {primary.port} 1\n"
            "sentinel down-after-milliseconds primary 500\nsentinel failover-timeout primary 2000\n"
        )
        with watch.running(), Redis(port=watch.port) as sentinel, Redis(port=primary.port) as plain:
            until(lambda: plain.info("replication")["connected_slaves"] == 1, "the replica")
            until(lambda: len(sentinel.sentinel_slaves("primary")) == 1, "what Sentinel knows of the replica")
            with (
                open_cache(watch.url, name="sessions", sentinel="primary") as cache,
                open_queue(watch.url, name="jobs", sentinel="primary", create="if_missing") as jobs,
            ):
                cache.set("before", 1)
                jobs.send(b"before")
                until(lambda: plain.wait(1, 100) == 1, "the copy on the replica")
                primary.kill()

                def written() -> bool:
                    try:
                        cache.set("after", 2)
                    except (Unavailable, DeadlineExceeded):
                        return False
                    return True

                until(written, "a new primary")
                assert (cache.get("before"), cache.get("after")) == (1, 2)
                (message,) = jobs.receive(wait=PATIENCE)
                assert message.body == b"before"
                assert Redis(port=replica.port).info("replication")["role"] == "master"


def test_unix_socket(tmp_path: Path) -> None:
    with redis_server("--unixsocket", str(tmp_path / "s")):
        use("redis:///", socket=str(tmp_path / "s"))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    openssl = shutil.which("openssl")
    assert openssl is not None, "openssl makes the certificates of this test; install it"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "certificate.pem")]
    subprocess.run(command, check=True, capture_output=True)
    return tmp_path / "certificate.pem"


def test_tls(certificate: Path) -> None:
    key = str(certificate.with_name("key.pem"))
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", key, "--tls-ca-cert-file", str(certificate))
    with redis_server(*files, "--tls-auth-clients", "no", tls=True) as server:
        use(server.url, ca=str(certificate))
        use(server.url, ca=str(certificate), certificate=str(certificate), private_key=key)
        # Nobody has said that this authority is to be trusted.
        with (
            open_cache(server.url, name="sessions") as cache,
            pytest.raises(Unavailable, match="not trusted") as caught,
        ):
            cache.get("k")
        assert not caught.value.retryable


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("redis://one:1,two:2/name", {}),
        ("redis:///name", {}),
        ("redis://host/name", {"socket": "/run/s"}),
        ("redis://host/name", {"cluster": True, "sentinel": "primary"}),
        ("redis://host/name", {"cluster": True, "db": 2}),
        ("redis://host:1,:2/name", {"sentinel": "primary"}),
        ("redis://host:1,host:x/name", {"sentinel": "primary"}),
        ("redis://host/name", {"db": -1}),
        ("redis://host/name", {"sentinels": "primary"}),
    ],
)
def test_urls_that_make_no_sense(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        open_cache(url, **options)
