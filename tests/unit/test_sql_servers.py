"""What URLs of PostgreSQL and MySQL mean, what their errors become, and how waiting for news ends; without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

import portable
from portable.bindings import Binding, Shared
from portable.config import Config
from portable.contracts import QueueContract
from portable.errors import (
    ConfigError,
    DeadlineExceeded,
    LimitExceeded,
    PermissionDenied,
    PortableError,
    ResourceNotFound,
    Unauthenticated,
    Unavailable,
)
from portable.messages import Outgoing
from portable.urls import Url
from portable_sql import outgoing
from portable_sql.errors import is_duplicate, translated
from portable_sql.listening import Teller
from portable_sql.options import ServerOptions, mysql_arguments, postgresql_arguments
from portable_sql.queue_layout import New, behind, decode_attributes, decode_filter, encode_filter
from portable_sql.servers import Server


def binding(url: str, *, shared: Shared | None = None, **options: Any) -> Binding[ServerOptions]:
    return Binding(
        resource="jobs",
        kind="queue",
        name="jobs",
        url=Url.parse(url),
        options=ServerOptions(**options),
        contract=QueueContract(),
        create=True,
        shared=shared or Shared(),
    )


def physical(url: str, *names: str, **bind: Any) -> list[str]:
    config = Config.from_dict(
        {
            "default_profile": "one",
            "resources": {name: {"kind": "queue"} for name in names},
            "profiles": {"one": {"bind": dict.fromkeys(names, url) | bind}},
        },
        Path.cwd(),
    )
    with portable.connect(config) as cloud:
        return [cloud.queue(name)._binding.name for name in names]


def test_two_queues_in_a_database_are_two() -> None:
    assert physical("postgresql://app@db/main", "jobs", "mails") == ["jobs", "mails"]


def test_the_last_part_of_the_path_is_the_name() -> None:
    assert physical("mysql://app@db/main/work", "jobs") == ["work"]
    assert physical("mariadb://app@db/main/", "jobs") == ["jobs"]
    assert physical("postgresql://app@db/main/a", "jobs", jobs={"url": "postgresql://db/main", "name": "main"}) == [
        "main"
    ]


def test_one_server_for_a_database_and_its_options() -> None:
    shared = Shared()
    one = Server.of(binding("postgresql://app:x@db/main/jobs", shared=shared))
    assert Server.of(binding("postgresql://app:x@db/main/mails", shared=shared)) is one
    for other in ("postgresql://app:x@db/other", "postgresql://app:y@db/main", "postgresql://app:x@db2/main"):
        assert Server.of(binding(other, shared=shared)) is not one
    assert Server.of(binding("postgresql://app:x@db/main", shared=shared, max_connections=2)) is not one


@pytest.mark.parametrize(
    ("url", "options", "words"),
    [
        ("postgresql://app@db", {}, "names no database"),
        ("postgresql:///main", {}, "names no single host"),
        ("postgresql://a,b/main", {}, "names no single host"),
        ("postgresql://db/main", {"socket": Path("/run")}, "instead of a host"),
        ("mysql://db/main", {"schema": "one"}, "knows no schema"),
        ("mysql://db/main", {"ca": Path("/nowhere/ca.pem")}, "cannot be used"),
    ],
)
def test_wrong_urls(url: str, options: dict[str, Any], words: str) -> None:
    bound = binding(url, **options)
    with pytest.raises(ConfigError, match=words):
        postgresql_arguments(bound) if url.startswith("postgresql") else mysql_arguments(bound)


def test_tls_is_verified_but_on_this_machine() -> None:
    for host, mode in (("127.0.0.1", "disable"), ("localhost", "disable"), ("[::1]", "disable"), ("db", "verify-full")):
        assert postgresql_arguments(binding(f"postgresql://{host}/main"))["sslmode"] == mode
        assert ("ssl" in mysql_arguments(binding(f"mysql://{host}/main"))) == (mode == "verify-full")
    assert postgresql_arguments(binding("postgresql://db/main", tls="off"))["sslmode"] == "disable"
    assert postgresql_arguments(binding("postgresql://127.0.0.1/main", tls="verify"))["sslrootcert"] == "system"
    assert mysql_arguments(binding("mysql://db/main"))["ssl"].check_hostname
    assert postgresql_arguments(binding("postgresql:///main", socket=Path("/run/pg")))["host"] == "/run/pg"
    assert mysql_arguments(binding("mysql:///main", socket=Path("/run/my.sock")))["unix_socket"] == "/run/my.sock"


@pytest.mark.parametrize(
    ("error", "kind", "maybe_applied"),
    [
        (psycopg.errors.lookup("28P01")(), Unauthenticated, False),
        (psycopg.errors.lookup("42501")(), PermissionDenied, False),
        (psycopg.errors.lookup("42P01")(), ResourceNotFound, False),
        (psycopg.errors.lookup("40P01")(), Unavailable, False),
        (psycopg.errors.lookup("53100")(), Unavailable, False),
        (psycopg.errors.lookup("57P01")(), Unavailable, True),
        (psycopg.errors.lookup("54000")(), LimitExceeded, False),
        (psycopg.OperationalError("server closed the connection unexpectedly"), Unavailable, True),
        (psycopg.OperationalError('FATAL: password authentication failed for user "app"'), Unauthenticated, False),
        (pymysql.err.OperationalError(1045, "Access denied"), Unauthenticated, False),
        (pymysql.err.OperationalError(1213, "Deadlock found"), Unavailable, False),
        (pymysql.err.OperationalError(2013, "Lost connection"), Unavailable, True),
        (pymysql.err.ProgrammingError(1146, "Table does not exist"), ResourceNotFound, False),
        (pymysql.err.OperationalError(1153, "Got a packet bigger"), LimitExceeded, False),
        (TimeoutError(), DeadlineExceeded, True),
        (pymysql.err.IntegrityError(1062, "Duplicate entry"), PortableError, False),
    ],
)
def test_errors(error: Exception, kind: type[PortableError], *, maybe_applied: bool) -> None:
    ours = translated(error, sent=True)
    assert type(ours) is kind
    assert ours.__cause__ is error
    assert ours.maybe_applied == maybe_applied
    assert not translated(error, sent=False).maybe_applied


def test_duplicates() -> None:
    assert is_duplicate(psycopg.errors.lookup("23505")())
    assert is_duplicate(pymysql.err.IntegrityError(1062, "Duplicate entry"))
    assert not is_duplicate(psycopg.errors.lookup("23503")())


def test_a_certificate_that_is_not_trusted_does_not_pass() -> None:
    for error in (
        psycopg.OperationalError("SSL error: certificate verify failed"),
        pymysql.err.OperationalError(2003, "Can't connect (CERTIFICATE_VERIFY_FAILED)"),
    ):
        ours = translated(error, sent=False)
        assert isinstance(ours, Unavailable)
        assert not ours.retryable
        assert "ca=" in ours.message


def test_a_burst_is_told_of_once() -> None:
    told: list[list[str]] = []

    class Recorded:
        def fetch(self, sql: str, parameters: tuple[str, list[str]], **_: Any) -> list[Any]:
            told.append(parameters[1])
            return []

    server: Any = Recorded()
    teller = Teller(server)
    # The second is within ten milliseconds only where this machine is not held up.
    teller._since = {"queue:1": float("inf")}
    teller.tell(["queue:1"], timeout=1)
    assert told == []
    teller.tell(["queue:1", "queue:2"], timeout=1)
    assert told == [["queue:2"]]


def test_batches_are_cut_by_size_and_checked() -> None:
    messages = [Outgoing(b"x" * 3_000_000), Outgoing(b"y" * 3_000_000), Outgoing(b"z"), Outgoing(b"w")]
    cut = list(outgoing.parts(outgoing.prepared(messages)))
    assert [len(part) for part in cut] == [1, 3]
    long = "k" * 1025
    rows = outgoing.prepared([Outgoing(b"1", ordering_key=long), Outgoing(b"2", ordering_key=long), Outgoing(b"3")])
    assert [type(row) for row in rows] == [LimitExceeded, PortableError, New]
    assert [type(row) for row in outgoing.prepared([Outgoing(b"1", dedup_id="d" * 2000)])] == [LimitExceeded]


def test_attributes_of_others_are_read_as_far_as_they_can_be() -> None:
    assert decode_attributes(None) == {}
    assert decode_attributes('{"a": "b"}') == {"a": "b"}
    assert decode_attributes('{"a": 1, "b": "c"}') == {"a": "1", "b": "c"}
    assert decode_attributes("[1]") == {}
    assert decode_attributes("no JSON") == {}


def test_filters_and_places_in_a_key() -> None:
    assert decode_filter(encode_filter({"b": "2", "a": "1"})) == (("a", "1"), ("b", "2"))
    assert encode_filter({}) is None
    rows = [New(b"", None, key) for key in (b"a", None, b"a", None, b"b")]
    assert behind(rows) == [False, False, True, False, False]
