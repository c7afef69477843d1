"""Logins by the identity of a cloud: a token for each connection, at real databases and at a real Redis.

The tokens are those that the adapters of the clouds make, by the vendors' clients. No cloud is here that would check
them for the server, so its user gets each token as password when it is made: an older one no longer opens.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import stat
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt
import psycopg
import pymysql
import pytest
from botocore.auth import SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from redis import Redis
from sqlalchemy import text

import portable
import portable.aio
from portable.errors import ConfigError, Unauthenticated
from portable.identities import Login, Logins, Sought, logins
from tests.redis_servers import free_port, redis_server
from tests.targets import target
from tests.vendor_services import CLIENT, CLIENT_SECRET, OBJECT, TENANT, VendorServices, vendor_services

REGION = "eu-west-1"
KEY, KEY_SECRET = "AKIAEXAMPLE", "5ecret-of-the-key"


class Clouds:
    """Who makes logins, and what becomes of each token before it is used.

    Attributes:
        tokens: all that were made.
        accept: told of each login as it is made.
    """

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.accept: Callable[[Login], None] = lambda _login: None

    def around(self, module: str) -> Callable[[Sought], Logins]:
        make = __import__(module, fromlist=["logins"]).logins

        def watched(sought: Sought) -> Logins:
            inner = make(sought)

            def login() -> Login:
                made: Login = inner()
                self.tokens.append(made.password)
                self.accept(made)
                return made

            return login

        return watched


class Point:
    """An entry point of `portable.identities`, watched."""

    def __init__(self, name: str, clouds: Clouds, module: str) -> None:
        self.name = name
        self._clouds = clouds
        self._module = module

    def load(self) -> Any:
        return self._clouds.around(self._module)


class Points(dict[str, Point]):
    @property
    def names(self) -> set[str]:
        return set(self)


@pytest.fixture
def clouds(monkeypatch: pytest.MonkeyPatch) -> Clouds:
    watched = Clouds()
    real = metadata.entry_points
    points = {point.name: Point(point.name, watched, point.module) for point in real(group="portable.identities")}
    assert set(points) == {"aws-iam", "gcp-iam", "entra"}
    monkeypatch.setattr(
        metadata,
        "entry_points",
        lambda **how: Points(points) if how == {"group": "portable.identities"} else real(**how),
    )
    return watched


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEY_SECRET)
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[VendorServices]:
    with vendor_services(tmp_path) as services:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(services.certificate))
        yield services


@pytest.fixture
def entra(vendor: VendorServices) -> dict[str, str]:
    return {"tenant_id": TENANT, "client_id": CLIENT, "client_secret": CLIENT_SECRET, "authority": vendor.url}


def replaced(url: str, user: str) -> str:
    """Put a user without a password into a URL."""
    parts = urlsplit(url)
    return parts._replace(netloc=f"{user}@{parts.netloc.rpartition('@')[2]}").geturl()


@contextlib.contextmanager
def postgresql_role(clouds: Clouds) -> Iterator[str]:
    """Make a role whose password is the newest token."""
    url, name = target("postgres"), f"portable_id_{uuid.uuid4().hex[:12]}"
    admin = psycopg.connect(url, autocommit=True)

    def accept(login: Login) -> None:
        assert login.username == name
        admin.execute(f"ALTER ROLE {name} PASSWORD '{login.password}'")

    with admin:
        admin.execute(f"CREATE ROLE {name} LOGIN")
        try:
            database = urlsplit(url).path.strip("/")
            admin.execute(f'GRANT ALL ON DATABASE "{database}" TO {name}')
            admin.execute(f"CREATE SCHEMA {name} AUTHORIZATION {name}")
            clouds.accept = accept
            yield replaced(url, name) + f"?schema={name}"
        finally:
            admin.execute(f"DROP OWNED BY {name} CASCADE")
            admin.execute(f"DROP ROLE {name}")


@contextlib.contextmanager
def mariadb_user(clouds: Clouds) -> Iterator[str]:
    """Make a user, with a database of its own, whose password is the newest token."""
    url, name = target("mariadb"), f"portable_id_{uuid.uuid4().hex[:12]}"
    parts = urlsplit(url)
    admin = pymysql.connect(host=parts.hostname, port=parts.port, user=parts.username, password=parts.password)

    def accept(login: Login) -> None:
        assert login.username == name
        with admin.cursor() as cursor:
            cursor.execute(f"ALTER USER {name} IDENTIFIED BY '{login.password}'")

    with admin, admin.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
        cursor.execute(f"CREATE USER {name} IDENTIFIED BY 'none-yet'")
        try:
            cursor.execute(f"GRANT ALL ON {name}.* TO {name}")
            clouds.accept = accept
            yield urlsplit(replaced(url, name))._replace(path=f"/{name}").geturl()
        finally:
            cursor.execute(f"DROP USER {name}")
            cursor.execute(f"DROP DATABASE {name}")


SERVERS = {"postgresql": postgresql_role, "mariadb": mariadb_user}


def verified(token: str, service: str) -> dict[str, str]:
    """Check a token as AWS does: by its signature, with the key's secret, as botocore computes it."""
    place, _, query = token.partition("?")
    asked = {name: values[0] for name, values in parse_qs(query).items()}
    signed, _, signature = query.partition("&X-Amz-Signature=")
    auth = SigV4QueryAuth(Credentials(KEY, KEY_SECRET), service, REGION)
    request = AWSRequest(method="GET", url=f"https://{place}?{signed}")
    request.context["timestamp"] = asked["X-Amz-Date"]
    assert auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request) == signature
    assert asked["X-Amz-Credential"].split("/")[2:] == [REGION, service, "aws4_request"]
    assert asked["X-Amz-Expires"] == "900"
    return {"place": place, **asked}


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize("server", SERVERS)
class TestDatabasesByAwsIam:
    def test_each_connection_of_the_engine_has_a_token_of_its_own(self, server: str, clouds: Clouds) -> None:
        with SERVERS[server](clouds) as url, portable.open_database(url, auth="aws-iam", region=REGION) as database:
            with database.connect() as one, database.connect() as other:
                for connection in (one, other):
                    user = connection.execute(text("SELECT current_user")).scalar_one()
                    assert user.partition("@")[0] == urlsplit(url).username
            assert len(clouds.tokens) == 2
            # The pool keeps them.
            with database.connect() as again:
                again.execute(text("SELECT 1"))
            assert len(clouds.tokens) == 2
            said = verified(clouds.tokens[0], "rds-db")
            parts = urlsplit(url)
            assert said["place"] == f"{parts.hostname}:{parts.port}/"
            assert (said["Action"], said["DBUser"]) == ("connect", parts.username)
            assert "5ecret" not in repr(database)
            capabilities: Any = database.capabilities
            assert capabilities.token_refresh

    def test_so_has_each_of_the_async_engine(self, server: str, clouds: Clouds) -> None:
        async def run(url: str) -> None:
            async with portable.aio.open_database(url, auth="aws-iam", region=REGION) as database:
                async with database.connect() as one, database.connect() as other:
                    assert (await one.execute(text("SELECT 1"))).scalar_one() == 1
                    assert (await other.execute(text("SELECT 1"))).scalar_one() == 1

        with SERVERS[server](clouds) as url:
            asyncio.run(run(url))
        assert len(clouds.tokens) == 2

    def test_so_have_queues_and_checks(self, server: str, clouds: Clouds) -> None:
        with SERVERS[server](clouds) as url:
            credentials = {"access_key_id": KEY, "secret_access_key": KEY_SECRET}
            with portable.open_queue(
                url, name="by-token", create=True, auth="aws-iam", region=REGION, credentials=credentials
            ) as queue:
                queue.check()
                queue.send(b"hello")
                (message,) = queue.receive(wait=10)
                assert message.body == b"hello"
                message.ack()
        assert clouds.tokens
        verified(clouds.tokens[0], "rds-db")

    def test_a_token_that_the_server_does_not_take_is_said(self, server: str, clouds: Clouds) -> None:
        with SERVERS[server](clouds) as url:
            clouds.accept = lambda _login: None
            with portable.open_database(url, auth="aws-iam", region=REGION) as database:
                with pytest.raises(
                    Unauthenticated, match="does not take this user by a token of auth=aws-iam"
                ) as caught:
                    database.check()
                assert clouds.tokens[0] not in str(caught.value)
                with pytest.raises(Exception, match=r"(?i)password|access denied") as raw, database.connect():
                    pass
                assert clouds.tokens[1] not in str(raw.value)


def test_google_logs_in_by_a_service_accounts_token(clouds: Clouds, vendor: VendorServices) -> None:
    with postgresql_role(clouds) as url:
        how: dict[str, Any] = {"auth": "gcp-iam", "credentials": {"key_file": str(vendor.key_file)}}
        with portable.open_database(url, **how) as database, database.connect(), database.connect():
            assert clouds.tokens == [vendor.tokens[0][1]] * 2
        # One that is about to end is not used any more.
        vendor.lasts = 60
        with portable.open_database(url, **how) as database, database.connect(), database.connect():
            assert len(set(clouds.tokens)) == 3
    assert {scope for scope, _ in vendor.tokens} == {"https://www.googleapis.com/auth/sqlservice.login"}


def test_entra_logs_in_by_an_applications_token(clouds: Clouds, vendor: VendorServices, entra: dict[str, str]) -> None:
    with postgresql_role(clouds) as url:
        how: dict[str, Any] = {"auth": "entra", "credentials": entra}
        with portable.open_database(url, **how) as database, database.connect(), database.connect():
            assert clouds.tokens == [vendor.tokens[0][1]] * 2
        vendor.lasts = 60
        with portable.open_database(url, **how) as database, database.connect(), database.connect():
            assert len(set(clouds.tokens)) == 3
        vendor.client_secret = "5ecret-that-is-new"  # noqa: S105 (what the test knows)
        with portable.open_database(url, **how) as database, pytest.raises(Unauthenticated) as caught:
            database.check()
        assert "auth=entra: " in str(caught.value)
        assert "5ecret" not in str(caught.value)
    assert {scope.split(" ")[0] for scope, _ in vendor.tokens} == {"https://ossrdbms-aad.database.windows.net/.default"}


@pytest.mark.usefixtures("aws")
def test_keys_that_are_rotated_are_those_of_the_next_token(tmp_path: Path) -> None:
    """A profile's process gives keys that end within minutes, so each token asks it again."""
    keys, program = tmp_path / "keys.json", tmp_path / "keys"
    program.write_text(f"#!/bin/sh\ncat {keys}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "config").write_text(f"[profile prod]\ncredential_process = {program}\n")

    def rotate(number: int) -> None:
        ends = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 300))
        given = {"Version": 1, "AccessKeyId": f"AKIA{number}", "SecretAccessKey": "5ecret", "Expiration": ends}
        keys.write_text(json.dumps(given))

    rotate(1)
    sought = Sought(
        protocol="mysql",
        host="db.x.eu-west-1.rds.amazonaws.com",
        port=3306,
        username="app",
        credentials={"profile": "prod"},
    )
    login = logins("aws-iam", sought)
    assert "X-Amz-Credential=AKIA1%2F" in login().password
    rotate(2)
    assert "X-Amz-Credential=AKIA2%2F" in login().password
    program.write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(Unauthenticated) as caught:
        logins("aws-iam", sought)()
    assert str(caught.value).startswith("auth=aws-iam: there are no credentials")


@contextlib.contextmanager
def redis_user(clouds: Clouds, name: str, *options: str) -> Iterator[str]:
    """Start a Redis with a user whose password is the newest token."""
    with redis_server(*options) as server, Redis(port=server.port) as admin:
        if options:
            admin.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            while admin.cluster("INFO")["cluster_state"] != "ok":
                threading.Event().wait(0.02)
        admin.execute_command("ACL", "SETUSER", name, "on", "~*", "&*", "+@all")

        def accept(login: Login) -> None:
            assert login.username == name
            admin.execute_command("ACL", "SETUSER", name, "resetpass", f">{login.password}")

        clouds.accept = accept
        yield f"redis://{{}}127.0.0.1:{server.port}/by-token"


@pytest.mark.usefixtures("aws")
def test_redis_takes_tokens_of_aws(clouds: Clouds) -> None:
    with redis_user(clouds, "app") as url:
        how: dict[str, Any] = {"auth": "aws-iam", "region": REGION, "cache": "Orders"}
        with portable.open_cache(url.format("app@"), **how) as cache:
            cache.set("key", "value")
            assert cache.get("key") == "value"
            assert cache.native.execute_command("ACL", "WHOAMI") == b"app"
            said = verified(clouds.tokens[0], "elasticache")
            assert (said["place"], said["Action"], said["User"]) == ("orders/", "connect", "app")
            assert "ResourceType" not in said
    with redis_user(clouds, "app") as url:
        clouds.accept = lambda _login: None
        with portable.open_cache(url.format("app@"), **how) as cache, pytest.raises(Unauthenticated) as caught:
            cache.get("key")
        assert clouds.tokens[-1] not in str(caught.value)


def test_redis_takes_tokens_of_google(clouds: Clouds, vendor: VendorServices) -> None:
    with redis_user(clouds, "default") as url:
        how: dict[str, Any] = {"auth": "gcp-iam", "credentials": {"key_file": str(vendor.key_file)}}
        with portable.open_cache(url.format(""), **how) as cache:
            cache.set("key", "value")
            assert cache.get("key") == "value"
        assert clouds.tokens == [vendor.tokens[0][1]]
        assert vendor.tokens[0][0] == "https://www.googleapis.com/auth/cloud-platform"


def test_redis_takes_tokens_of_entra_and_leaves_a_connection_before_its_token_ends(
    clouds: Clouds, vendor: VendorServices, entra: dict[str, str]
) -> None:
    with redis_user(clouds, OBJECT) as url:
        how: dict[str, Any] = {"auth": "entra", "credentials": entra}
        with portable.open_cache(url.format(""), **how) as cache:
            for number in range(3):
                cache.set("key", number)
            assert len(clouds.tokens) == 1
            assert jwt.decode(clouds.tokens[0], options={"verify_signature": False})["oid"] == OBJECT
        vendor.lasts = 30
        clouds.tokens.clear()
        with portable.open_cache(url.format(""), **how) as cache:
            for number in range(3):
                cache.set("key", number)
            assert cache.get("key") == 2
            assert len(set(clouds.tokens)) > 3

        async def run() -> None:
            async with portable.aio.open_cache(url.format(""), **how) as cache:
                assert await cache.get("key") == 2

        clouds.tokens.clear()
        asyncio.run(run())
        assert clouds.tokens
    assert {scope.split(" ")[0] for scope, _ in vendor.tokens} == {"https://redis.azure.com/.default"}


@pytest.mark.usefixtures("aws")
def test_a_cluster_of_redis_takes_tokens(clouds: Clouds) -> None:
    how: dict[str, Any] = {"auth": "aws-iam", "region": REGION, "cache": "orders", "cluster": True}

    async def run(url: str) -> None:
        async with portable.aio.open_cache(url, **how) as cache:
            assert await cache.get("key") == "value"

    with redis_user(clouds, "app", "--cluster-enabled", "yes", "--cluster-port", str(free_port())) as url:
        with portable.open_cache(url.format("app@"), **how) as cache:
            cache.set("key", "value")
            assert cache.get("key") == "value"
        count = len(clouds.tokens)
        asyncio.run(run(url.format("app@")))
        assert len(clouds.tokens) > count > 0


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(
    ("host", "named", "serverless"),
    [
        ("orders-a1b2c3.serverless.euw1.cache.amazonaws.com", "orders", "ServerlessCache"),
        ("master.orders.a1b2c3.euw1.cache.amazonaws.com", "orders", None),
        ("clustercfg.Orders.a1b2c3.euw1.cache.amazonaws.com", "orders", None),
        ("orders.a1b2c3.ng.0001.euw1.cache.amazonaws.com", "orders", None),
    ],
)
def test_the_host_says_which_cache_a_token_is_for(host: str, named: str, serverless: str | None) -> None:
    sought = Sought(protocol="redis", host=host, port=6379, username="app", region=REGION)
    said = verified(logins("aws-iam", sought)().password, "elasticache")
    assert said["place"] == f"{named}/"
    assert said.get("ResourceType") == serverless


@pytest.mark.usefixtures("aws")
def test_the_host_says_which_region_a_database_is_in() -> None:
    host = f"orders.a1b2c3.{REGION}.rds.amazonaws.com"
    login = logins("aws-iam", Sought(protocol="postgresql", host=host, port=5432, username="app"))()
    assert verified(login.password, "rds-db")["place"] == f"{host}:5432/"
    assert "5ecret" not in repr(login)
    assert login.password not in repr(login)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("postgresql://app@h/d", {"auth": "aws"}, "it can be aws-iam, entra, gcp-iam"),
    ("postgresql://app:5ecret@h/d", {"auth": "aws-iam"}, "auth= logs in without a password"),
    ("postgresql://app@h/d", {"auth": "aws-iam", "tls": "off"}, "it needs TLS"),
    ("postgresql://h/d", {"auth": "aws-iam", "region": REGION}, "needs the user in the URL"),
    ("postgresql://app@h/d", {"auth": "aws-iam"}, "no region is set"),
    ("postgresql://app@h/d", {"region": REGION}, "say how auth= logs in, which is not set"),
    ("mysql://app@h/d", {"credentials": {"profile": "5ecret"}}, "say how auth= logs in, which is not set"),
    ("mysql://app@h/d", {"auth": "aws-iam", "credentials": {"profil": "5ecret"}}, "contains unknown field `profil`"),
    ("mysql://app@h/d", {"auth": "aws-iam", "credentials": {"profile": 5}}, "Expected `str | null`, got `int`"),
    ("mysql://app@h/d", {"auth": "gcp-iam", "region": REGION}, "auth=gcp-iam needs no region="),
    ("mysql://h/d", {"auth": "gcp-iam"}, "needs the user in the URL"),
    ("mysql://app@h/d", {"auth": "gcp-iam", "credentials": {"key_file": "key"}}, "an absolute path is needed here"),
    ("mysql://app@h/d", {"auth": "entra", "region": REGION}, "auth=entra needs no region="),
    ("mysql://h/d", {"auth": "entra"}, "needs the user in the URL"),
    ("mysql://app@h/d", {"auth": "entra", "credentials": {"account_key": "5ecret"}}, "this wants an identity"),
    ("mysql://app@h/d", {"auth": "entra", "credentials": {"client_secret": "5ecret"}}, "one is missing"),
    ("redis://app@h/n", {"auth": "aws-iam"}, "it needs TLS; write rediss:"),
    ("rediss://app:5ecret@h/n", {"auth": "aws-iam"}, "auth= logs in without a password"),
    ("rediss://app@h/n", {"auth": "aws-iam", "region": REGION}, "write cache=NAME"),
    ("rediss://app@h/n", {"auth": "aws-iam", "sentinel": "x"}, "have no Sentinels"),
    ("rediss://app@h/n", {"cache": "orders"}, "say how auth= logs in, which is not set"),
]


@pytest.mark.usefixtures("aws")
@pytest.mark.parametrize(("url", "how", "said"), REFUSED)
def test_what_does_not_fit_is_said_before_the_network(url: str, how: dict[str, Any], said: str) -> None:
    opened = portable.open_cache if url.startswith("redis") else portable.open_database
    with pytest.raises(ConfigError) as caught, opened(url, **how) as resource:
        resource.check()
    assert said in str(caught.value)
    assert "5ecret" not in str(caught.value)


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    sought = Sought(protocol="redis", host="h", port=1)
    monkeypatch.setitem(sys.modules, "portable_azure.identities", None)
    with pytest.raises(ConfigError, match=r"pip install 'portable-cloud\[azure\]'"):
        logins("entra", sought)
    monkeypatch.setattr(metadata, "entry_points", lambda **_how: metadata.EntryPoints([]))
    with pytest.raises(ConfigError, match=r"pip install 'portable-cloud\[gcp\]'"):
        logins("gcp-iam", sought)


@pytest.mark.parametrize("vendor_name", ["aws", "gcp", "azure"])
def test_every_driver_of_a_cloud_takes_credentials(vendor_name: str) -> None:
    from portable.registry import installed

    (adapter,) = [one for one in installed() if one.extra == vendor_name]
    for kinds in adapter.schemes.values():
        for path in kinds.values():
            module, _, name = path.partition(":")
            options = getattr(__import__(module, fromlist=[name]), name).Options
            assert "credentials" in options.__struct_fields__, path
