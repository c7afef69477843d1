"""PostgreSQL and MariaDB when servers are killed, connections cut, credentials wrong, callers cancelled, and forks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from portable import open_cache, open_database, open_queue, open_subscription, open_topic
from portable.aio import open_queue as open_queue_async
from portable.errors import (
    Closed,
    DeadlineExceeded,
    PermissionDenied,
    PortableError,
    ResourceNotFound,
    Unauthenticated,
    Unavailable,
)
from tests.faults.cancelling import cancelled_receives_give_back
from tests.faults.queue_load import all_arrive
from tests.forks import in_child
from tests.patience import PATIENCE, persistently, wait_until
from tests.targets import Own, own, target
from tests.toxics import proxied

# Whoever may make what is missing.
MAKE: Any = {"create": "if_missing"}


@pytest.fixture
def postgres() -> str:
    return target("postgres")


@pytest.fixture(params=["postgres", "mariadb"])
def url(request: pytest.FixtureRequest) -> str:
    return target(request.param)


@pytest.fixture
def name() -> str:
    return f"t{os.urandom(6).hex()}"


@pytest.fixture(params=["postgres", "mariadb"])
def server(request: pytest.FixtureRequest) -> Iterator[Own]:
    """A server of this test's own."""
    with own(request.param) as started:
        yield started


@pytest.mark.timeout(300)
def test_the_server_is_killed_under_load(server: Own) -> None:
    def kill() -> None:
        server.kill()
        server.ready()

    jobs = all_arrive(
        server.url, kill, shares=(0.2, 0.6), at_once=100, receivers=2, visibility_timeout="5s", timeout=20
    )
    assert jobs.capabilities.durability == "power"


def test_what_was_answered_survives_a_kill() -> None:
    with (
        own("postgres") as server,
        open_queue(server.url, name="jobs", **MAKE) as jobs,
        open_topic(server.url, name="events", **MAKE) as events,
        open_subscription(server.url, name="mailer", topic="events", **MAKE) as mailer,
        open_cache(server.url, name="sessions", durability="power", **MAKE) as sessions,
        open_cache(server.url, name="quick", **MAKE) as quick,
        open_database(server.url) as main,
    ):
        mailer.receive(wait=0)
        jobs.send_many([str(number) for number in range(500)])
        events.publish(b"published")
        sessions.set("k", "value")
        held = sessions.lock("l", ttl=600)
        tokens = [quick.lock(str(number), ttl=600).token for number in range(3)]
        quick.set("k", "value")
        with main.begin() as connection:
            connection.execute(text("CREATE TABLE kept (one INTEGER)"))
        server.kill()
        server.ready()
        assert persistently(lambda: sessions.get("k")) == "value"
        with pytest.raises(DeadlineExceeded):
            sessions.lock("l", ttl=1, wait=0)
        assert persistently(lambda: sessions.lock("other", ttl=1)).token > held.token
        # What is not logged is gone whole, and says so; tokens grow all the same.
        assert quick.capabilities.durability == "none"
        assert quick.get("k") is None
        assert quick.lock("0", ttl=600).token > max(tokens)
        assert len(persistently(lambda: jobs.receive(1000))) == 500
        assert [message.body for message in persistently(mailer.receive)] == [b"published"]
        with main.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM kept")).scalar_one() == 0


def test_a_wait_outlives_a_cut(name: str) -> None:
    """Whoever waits for news hears them though the connection that listens is cut."""
    with (
        own("postgres") as server,
        open_queue(server.url, name=name, **MAKE) as jobs,
        open_queue(server.url, name=name, **MAKE) as other,
    ):
        jobs.stats()
        other.stats()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(jobs.receive, wait=PATIENCE)
            listens = "query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
            wait_until(lambda: cut(other.native, listens) > 0)
            other.send(b"body")
            assert [message.body for message in waiting.result(PATIENCE)] == [b"body"]


def test_idle_connections_that_were_cut_are_replaced(postgres: str, name: str) -> None:
    with open_cache(postgres, name=name, **MAKE) as cache, open_database(postgres) as main:
        cache.set("n", 1)
        (idle,) = server_of(cache)._idle
        assert cut(main.native, f"pid = {idle.raw.info.backend_pid}") == 1
        wait_until(lambda: not idle.is_alive())
        # Neither is it an error, nor done twice.
        assert cache.incr("n") == 2


def server_of(resource: Any) -> Any:
    """Give the connections of a resource."""
    return resource._driver._server


def news_of(resource: Any) -> Any:
    """Give what a resource has heard of others."""
    return resource._driver._hub.news


def cut(engine: Any, which: str) -> int:
    """End sessions of the server's; gives how many."""
    with engine.connect() as connection:
        rows = connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {which}"))
        return len(rows.all())


def test_close_ends_a_wait(url: str, name: str) -> None:
    with open_queue(url, name=name, **MAKE) as jobs:
        jobs.stats()
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(jobs.receive, wait=PATIENCE)
            news = news_of(jobs)
            wait_until(lambda: bool(news.waited_for()))
            jobs.close()
            with pytest.raises(Closed):
                waiting.result(PATIENCE)


def test_wrong_password(url: str, name: str) -> None:
    secret = url.split("//")[1].split("@", maxsplit=1)[0].split(":")[1]
    wrong = f"{secret}-wrong"
    for there in (url.replace(f":{secret}@", f":{wrong}@"), url.replace("//app:", "//somebody:")):
        for opened in (open_queue(there, name=name, **MAKE), open_database(there)):
            with opened as resource:
                with pytest.raises(Unauthenticated) as caught:
                    resource.check(timeout=PATIENCE)
                error = caught.value
                told = [
                    str(error),
                    repr(error),
                    str(error.__cause__),
                    repr(resource),
                    resource.url,
                    repr(error.__cause__),
                ]
                assert not [one for one in told if secret in one]
                assert not error.retryable

    async def main() -> None:
        async with open_queue_async(url.replace(f":{secret}@", f":{wrong}@"), name=name, **MAKE) as queue:
            with pytest.raises(Unauthenticated):
                await queue.send(b"body")

    asyncio.run(main())


def test_a_user_without_rights(postgres: str, name: str) -> None:
    with open_queue(postgres, name=name, **MAKE) as jobs, open_database(postgres) as main:
        jobs.send(b"body")
        with main.begin() as connection:
            connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'of-{name}'"))
        secret = postgres.split("//")[1].split("@", maxsplit=1)[0]
        with open_queue(postgres.replace(secret, f"{name}:of-{name}"), name=name) as other:
            with pytest.raises(PermissionDenied) as caught:
                other.receive(wait=0)
            assert f"of-{name}" not in str(caught.value)
        with main.begin() as connection:
            connection.execute(text(f"DROP ROLE {name}"))


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_nobody_there(scheme: str, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"{scheme}://app:secret@127.0.0.1:{taken.getsockname()[1]}/app"
        with open_queue(url, name=name) as queue, pytest.raises(Unavailable) as caught:
            queue.send(b"body")
        assert caught.value.resource == name
        assert caught.value.retryable
        assert not caught.value.maybe_applied


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_server_that_does_not_answer(scheme: str, name: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"{scheme}://app:secret@127.0.0.1:{mute.getsockname()[1]}/app"
        with open_queue(url, name=name, timeout=1.5) as queue, pytest.raises(DeadlineExceeded):
            queue.send(b"body")


def test_a_statement_that_does_not_end(postgres: str, name: str) -> None:
    """A call ends with its time though another transaction holds what it needs, and the next one works."""
    with open_queue(postgres, name=name, ordered=True, **MAKE) as jobs, open_database(postgres) as main:
        jobs.send(b"1", ordering_key="k")
        with main.begin() as connection:
            connection.execute(text("LOCK TABLE portable_queue_dedup IN ACCESS EXCLUSIVE MODE"))
            with pytest.raises(DeadlineExceeded) as caught:
                jobs.send(b"2", ordering_key="k", dedup_id="d", timeout=0.3)
            assert caught.value.retryable
        jobs.send(b"3", ordering_key="k", dedup_id="e")
        assert [message.body for message in jobs.receive(wait=PATIENCE)] == [b"1"]


def test_a_slow_and_a_hanging_connection(url: str, name: str) -> None:
    with proxied(url) as way, open_queue(way.url, name=name, **MAKE) as jobs:
        jobs.send(b"1")
        way.slow(0.5)
        with pytest.raises(DeadlineExceeded):
            jobs.send(b"2", timeout=0.2)
        assert jobs.send(b"3", timeout=PATIENCE)
        way.mend()
        way.hang()
        with pytest.raises(DeadlineExceeded) as caught:
            jobs.send(b"4", timeout=0.2)
        assert caught.value.maybe_applied
        way.mend()
        jobs.send(b"5", timeout=PATIENCE)
        found = {message.body for message in jobs.receive(10, wait=PATIENCE)}
        assert found >= {b"1", b"3", b"5"}


@pytest.mark.timeout(300)
def test_connections_are_reset_under_load(url: str, name: str) -> None:
    total, at_once = 2_000, 50
    sent: list[str] = []
    found: Counter[str] = Counter()
    how: dict[str, Any] = {"name": name, "visibility_timeout": "5s", "max_deliveries": 1000, **MAKE}
    with proxied(url) as way, open_queue(way.url, **how) as jobs:
        jobs.stats()

        def send() -> None:
            for number in range(0, total, at_once):
                batch = [str(one) for one in range(number, number + at_once)]
                persistently(lambda batch=batch: jobs.send_many(batch))  # type: ignore[misc]  # the default binds it
                sent.extend(batch)

        def receive() -> None:
            while len(found) < total:
                messages = persistently(lambda: jobs.receive(50, wait=0.5))
                found.update(message.body.decode() for message in messages)
                with contextlib.suppress(PortableError):
                    jobs.ack_many(messages)

        with ThreadPoolExecutor(2) as threads:
            working = [threads.submit(send), threads.submit(receive)]
            for share in (0.2, 0.5, 0.8):
                wait_until(lambda share=share: len(sent) >= total * share)  # type: ignore[misc]  # the default binds it
                way.reset()
                way.mend()
            for one in working:
                one.result(PATIENCE)
        assert set(found) == {str(number) for number in range(total)}


def test_a_full_pool(url: str, name: str) -> None:
    with open_queue(url, name=name, max_connections=2, **MAKE) as jobs:
        jobs.stats()
        server = server_of(jobs)
        entered, leave = threading.Barrier(3), threading.Event()
        with ThreadPoolExecutor(2) as threads:
            held = [
                threads.submit(server.run, lambda _: (entered.wait(PATIENCE), leave.wait(PATIENCE)), timeout=PATIENCE)
                for _ in range(2)
            ]
            entered.wait(PATIENCE)
            try:
                with pytest.raises(DeadlineExceeded, match="max_connections"):
                    jobs.send(b"body", timeout=0.2)
            finally:
                leave.set()
            for one in held:
                one.result(PATIENCE)
        jobs.send(b"body")


def test_a_server_that_takes_no_more_connections() -> None:
    with own("postgres") as server, open_database(server.url) as main:
        with main.connect() as connection:
            most = connection.execute(text("SHOW max_connections")).scalar_one()
        with contextlib.ExitStack() as stack:
            others = stack.enter_context(open_database(server.url, max_connections=int(most) + 1))
            with contextlib.suppress(Exception):
                for _ in range(int(most) + 1):
                    stack.enter_context(others.connect())
            with open_queue(server.url, name="jobs", retries=0, **MAKE) as jobs, pytest.raises(Unavailable) as caught:
                jobs.send(b"body")
            assert caught.value.retryable
            assert not caught.value.maybe_applied


def test_missing_resources(url: str, name: str) -> None:
    for opened in (
        open_queue(url, name=name, create="never"),
        open_topic(url, name=name, create="never"),
        open_subscription(url, name=name, topic="none", create="never"),
    ):
        with opened as resource, pytest.raises(ResourceNotFound, match="portable resources create"):
            resource.check(timeout=PATIENCE)
    with open_queue(f"{url.rpartition('/')[0]}/nothing", name=name) as jobs, pytest.raises(ResourceNotFound):
        jobs.check(timeout=PATIENCE)


def test_a_cancelled_receive_gives_back(url: str, name: str) -> None:
    cancelled_receives_give_back(url, name, total=100, turns=40)


def test_a_forked_child_opens_its_own(url: str, name: str) -> None:
    with open_queue(url, name=name, **MAKE) as jobs, open_database(url) as main:
        jobs.send(b"of the parent")
        with ThreadPoolExecutor(1) as threads, main.connect() as connection:
            (message,) = jobs.receive(wait=PATIENCE)
            waiting = threads.submit(jobs.receive, wait=PATIENCE)
            wait_until(lambda: bool(news_of(jobs).waited_for()))
            connection.execute(text("SELECT 1"))

            def work() -> None:
                with main.connect() as own:
                    own.execute(text("SELECT 1"))
                jobs.send(b"of the child")
                jobs.close()

            assert in_child(work) == 0
            # Nothing of the parent's was closed by the child.
            connection.execute(text("SELECT 1"))
            assert [one.body for one in waiting.result(PATIENCE)] == [b"of the child"]
            message.ack()


def test_a_killed_consumer_gives_back(url: str, name: str) -> None:
    """What a process held comes back when its leases end, each message once."""
    how: dict[str, Any] = {"name": name, "visibility_timeout": "1s", **MAKE}
    with open_queue(url, **how) as jobs:
        jobs.send_many([str(number) for number in range(20)])

        def work() -> None:
            assert len(jobs.receive(20, wait=PATIENCE)) == 20
            os.kill(os.getpid(), signal.SIGKILL)

        assert in_child(work) == -signal.SIGKILL
        found: list[bytes] = []
        while len(found) < 20:
            messages = jobs.receive(20, wait=PATIENCE)
            assert messages
            assert all(message.delivery_count == 2 for message in messages)
            found += [message.body for message in messages]
            jobs.ack_many(messages)
        assert sorted(found) == sorted(str(number).encode() for number in range(20))


def test_many_threads_share_a_cache(postgres: str, name: str) -> None:
    with open_cache(postgres, name=name, max_connections=4, **MAKE) as cache:
        with ThreadPoolExecutor(100) as threads:
            numbers = sorted(threads.map(lambda _: cache.incr("n"), range(500)))
        assert numbers == list(range(1, 501))
        assert len(server_of(cache)._all) <= 4


def test_names_come_after_the_database(url: str, name: str) -> None:
    """Two queues that are bound to the same database are two, and the URL's last part names one."""
    with (
        open_queue(url, name=name, **MAKE) as by_name,
        open_queue(f"{url}/{name}", **MAKE) as by_url,
        open_queue(url, name=f"{name}-2", **MAKE) as another,
    ):
        by_name.send(b"body")
        assert another.receive(wait=0) == []
        assert [message.body for message in by_url.receive(wait=PATIENCE)] == [b"body"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of nobody that anybody trusts, with its key."""
    openssl = shutil.which("openssl")
    assert openssl is not None, "openssl makes the certificate of this test; install it"
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-days", "1"]
    subprocess.run([*command, *names, "-keyout", str(path), "-out", f"{path}.crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


GREETING = (
    # Protocol 10, a version, a session, eight bytes to hash with, all capabilities, utf8mb4, a status, twelve more.
    b"\x0a8.4.0\x00" + b"\x01\0\0\0" + b"12345678\x00" + b"\xff\xff" + b"\x2d" + b"\x02\0" + b"\xff\xc1" + b"\x15"
    + bytes(10) + b"123456789012\x00" + b"mysql_native_password\x00"
)  # fmt: skip


def speak(listener: socket.socket, scheme: str, context: ssl.SSLContext) -> None:
    """Answer as a server does until TLS begins; the client goes when it sees the certificate."""
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.settimeout(PATIENCE)
            if scheme == "mysql":
                connection.sendall(len(GREETING).to_bytes(3, "little") + b"\0" + GREETING)
                connection.recv(36)
            else:
                connection.recv(8)
                connection.sendall(b"S")
            with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(1)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_certificate_that_nobody_trusts(scheme: str, name: str, certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as threads:
        threads.submit(speak, listener, scheme, context)
        url = f"{scheme}://app:secret-of-{name}@127.0.0.1:{listener.getsockname()[1]}/app"
        try:
            with open_queue(url, name=name, tls="verify") as queue, pytest.raises(Unavailable, match="ca=") as caught:
                queue.send(b"body")
        finally:
            listener.shutdown(socket.SHUT_RDWR)
        assert caught.value.resource == name
        assert not caught.value.retryable
        assert "secret" not in f"{caught.value}{caught.value.__cause__}"
