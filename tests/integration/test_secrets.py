"""Secrets of every origin are planted in a config and in the environment: nothing that is shown anywhere holds one."""

from __future__ import annotations

import io
import json
import logging
import pprint
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import portable
from portable import registry
from portable.cli.program import run
from portable.config import Config
from portable.errors import ConfigError, PortableError, Unauthenticated
from portable.registry import Adapter
from portable_embedded.memory_bucket import MemoryBucket
from portable_embedded.memory_cache import MemoryCache, MemoryCacheOptions
from portable_embedded.memory_collection import MemoryCollection
from portable_embedded.memory_queue import MemoryQueue

SECRETS = {
    "in the URL": "5ecret-url-p%40ss",
    "in an option of the URL": "5ecret-query-token",
    "in the table": "5ecret-table-key",
    "in the credentials": "5ecret-deep-password",
    "in the environment": "5ecret-env-p@ss/word?#",
    "in a file": "5ecret-file-content",
    "in a service binding": "5ecret-binding-entry",
    "in a default": "5ecret-default",
    "in an override": "5ecret-override",
}
MARK = "5ecret"

CONFIG = """\
default_profile = "prod"

[resources.photos]
kind = "bucket"
[resources.jobs]
kind = "queue"
[resources.sessions]
kind = "cache"
[resources.users]
kind = "collection"
[resources.broken]
kind = "cache"
[resources.overridden]
kind = "cache"

[profiles.prod]
create = "if_missing"
[profiles.prod.bind]
photos = "acme://app:5ecret-url-p%40ss@acme.example/photos?token=5ecret-query-token&region=eu"
jobs.url = "acme://acme.example/jobs"
jobs.api_key = "5ecret-table-key"
jobs.credentials.password = "5ecret-deep-password"
sessions = "acme://app:${env:ACME_PASSWORD}@acme.example/sessions?token=${file:token.txt}"
users.url = "acme://acme.example/users"
users.api_key = "${binding:acme/key}"
users.token = "${env:ACME_TOKEN:-5ecret-default}"
broken = "acme://app:${env:ACME_PASSWORD}@acme.example/broken?refuse=true"
overridden = "acme://acme.example/overridden"

[profiles.wrong.bind]
photos = "acme://app:5ecret-url-p@ss/word@acme.example/photos"
jobs = { url = "acme://app:5ecret-url-p%40ss@acme.example/jobs", api_kee = "5ecret-table-key" }
sessions = "nowhere://app:5ecret-url-p%40ss@acme.example/sessions"
users = { url = "acme://app:5ecret-url-p%40ss@acme.example/users", region = 5, token = "5ecret-query-token" }
broken = "acme://app:${env:ACME_MISSING}@acme.example/broken?token=5ecret-query-token"
overridden = "acme://acme.example/overridden?token=5ecret-query-token&token=5ecret-query-token&tokn=5ecret-typo"
"""


class AcmeOptions(MemoryCacheOptions, frozen=True, kw_only=True):
    """`acme://user:password@host/name`.

    Attributes:
        region: where it is.
        api_key: a secret.
        token: another.
        credentials: more of them.
        refuse: whether the service knows us.
    """

    region: str = "eu"
    api_key: str | None = None
    token: str | None = None
    credentials: dict[str, Any] | None = None
    refuse: bool = False


class AcmeCache(MemoryCache):
    Options: Any = AcmeOptions

    def __init__(self, binding: Any) -> None:
        super().__init__(binding)
        self._binding = binding

    def open(self) -> None:
        super().open()
        if self._binding.options.refuse:
            # What a vendor's client says in its own words is its own; what we say of it is ours.
            vendors = RuntimeError(f"401 for {self._binding.url.password}")
            raise Unauthenticated("the service does not know these credentials") from vendors


class AcmeBucket(MemoryBucket):
    Options: Any = AcmeOptions


class AcmeQueue(MemoryQueue):
    Options: Any = AcmeOptions


class AcmeCollection(MemoryCollection):
    Options: Any = AcmeOptions


@pytest.fixture(autouse=True)
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "portable.toml").write_text(CONFIG)
    (tmp_path / "token.txt").write_text(SECRETS["in a file"] + "\n")
    (tmp_path / "bindings" / "acme").mkdir(parents=True)
    (tmp_path / "bindings" / "acme" / "key").write_text(SECRETS["in a service binding"])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(tmp_path / "bindings"))
    monkeypatch.setenv("ACME_PASSWORD", SECRETS["in the environment"])
    override = f"acme://app:{SECRETS['in an override']}@acme.example/overridden?token={SECRETS['in an override']}"
    monkeypatch.setenv("PORTABLE_PROFILES__PROD__BIND__OVERRIDDEN", override)
    for name in ("PORTABLE_CONFIG", "PORTABLE_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    # A name by which the registry finds these classes, however this file was imported.
    monkeypatch.setitem(sys.modules, "acme_drivers", sys.modules[__name__])
    kinds = {"bucket": "AcmeBucket", "queue": "AcmeQueue", "cache": "AcmeCache", "collection": "AcmeCollection"}
    adapter = Adapter({"acme": {kind: f"acme_drivers:{name}" for kind, name in kinds.items()}}, extra="acme")
    monkeypatch.setattr(registry, "_registered", [adapter])
    return tmp_path


def shown(thing: Any) -> str:
    """Give a thing in every way that people print it."""
    printed = io.StringIO()
    Console(file=printed, width=10_000).print(thing, [thing])
    return "\n".join([str(thing), repr(thing), f"{thing}", repr([thing]), pprint.pformat(thing), printed.getvalue()])


def use(cloud: portable.Cloud) -> None:
    cloud.bucket("photos").put("a", b"1")
    cloud.queue("jobs").send(b"1")
    cloud.cache("sessions").set("a", 1)
    cloud.collection("users").put({"id": "a"})
    cloud.cache("overridden").set("a", 1)


def test_the_secrets_reach_the_drivers() -> None:
    """Else the rest of this file would prove nothing."""
    with portable.connect() as cloud:
        bindings = {resource.name: resource._binding for resource in cloud.resources()}
    got = {
        bindings["photos"].url.password,
        bindings["photos"].options.token,
        bindings["jobs"].options.api_key,
        bindings["jobs"].options.credentials["password"],
        bindings["sessions"].url.password,
        bindings["sessions"].options.token,
        bindings["users"].options.api_key,
        bindings["users"].options.token,
        bindings["overridden"].url.password,
    }
    assert got == {*SECRETS.values()} - {"5ecret-url-p%40ss"} | {"5ecret-url-p@ss"}


def test_no_object_shows_one() -> None:
    config = Config.load()
    profile = config.profile()
    with portable.connect(config) as cloud:
        use(cloud)
        things: list[Any] = [config, profile, cloud, cloud._shared, *config.explain()]
        for resource in cloud.resources():
            binding = resource._binding
            things += [resource, resource.url, binding, binding.url, binding.options, binding.contract]
            things += [profile.bound(resource.name, resource.kind), resource._driver, resource.capabilities]
        things += cloud.check()
        for thing in things:
            assert MARK not in shown(thing), type(thing)


def test_no_error_shows_one() -> None:
    raised: list[BaseException] = []
    with portable.connect() as cloud:
        with pytest.raises(Unauthenticated) as caught:
            cloud.cache("broken").get("a")
        raised.append(caught.value)
    with portable.connect(profile="wrong") as cloud:
        opens: list[Callable[[], Any]] = [
            lambda: cloud.bucket("photos"),
            lambda: cloud.queue("jobs"),
            lambda: cloud.cache("sessions"),
            lambda: cloud.collection("users"),
            lambda: cloud.cache("broken"),
            lambda: cloud.cache("overridden"),
        ]
        for open_ in opens:
            with pytest.raises(ConfigError) as wrong:
                open_()
            raised.append(wrong.value)
            # Nor the errors beneath it, which a traceback shows.
            assert MARK not in "".join(traceback.format_exception(wrong.value, chain=True)), wrong.value
    for error in raised:
        assert isinstance(error, PortableError)
        assert MARK not in shown(error), error
        assert MARK not in str(error.__dict__)


def test_no_log_shows_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), portable.connect() as cloud:
        use(cloud)
        cloud.check(write=True)

        def fail(_: Any) -> None:
            raise ValueError("the handler failed")

        cloud.queue("jobs").consume(fail, max_messages=1)
    with caplog.at_level(logging.DEBUG), portable.connect(profile="wrong") as cloud:
        cloud.check()
    assert "handler failed" in caplog.text
    assert MARK not in caplog.text


COMMANDS = [
    "config check",
    "config check --all-profiles",
    "config explain",
    "config explain --profile wrong",
    "config schema",
    "doctor",
    "doctor --profile wrong",
    "resources plan",
    "resources create",
    "resources check",
    "resources check --profile wrong",
    "bucket ls photos",
    "bucket ls photos --profile wrong",
    "bucket get photos missing",
    "queue send jobs body",
    "queue stats jobs",
    "queue stats jobs --profile wrong",
    "cache set sessions a 1",
    "cache get sessions a",
    "cache get sessions a --profile wrong",
    "cache get broken a",
    "cache get broken a --profile wrong",
    "cache get overridden a",
    "cache get overridden a --profile wrong",
    "collection query users id==a",
    "collection query users id==a --profile wrong",
    "cache get sesions a",
    "cache get sessions a --profile prodd",
    "worker json:loads --queue jobs --profile wrong",
    "outbox relay --database photos",
    "init",
]


@pytest.mark.parametrize("arguments", COMMANDS)
@pytest.mark.parametrize("as_json", [[], ["--json"]], ids=["text", "json"])
def test_no_command_shows_one(arguments: str, as_json: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    code = run([*arguments.split(), *as_json])
    out, err = capfd.readouterr()
    assert MARK not in out
    assert MARK not in err
    assert out or err or code == 0
    if code not in {0, 2}:
        assert "Traceback" not in err
    if as_json and code not in {0, 2}:
        assert all(json.loads(line) for line in err.splitlines()), "errors are JSON too"


@pytest.mark.parametrize(
    "url",
    [
        "acme://app:5ecret-url@acme.example/sessions?refuse=true&token=5ecret-token",
        "acme://app:5ecret-url@acme.example:port/sessions",
        "acme://app:5ecret/url@acme.example/sessions",
        "nowhere://app:5ecret-url@acme.example/sessions",
        "acme://app:5ecret-url@acme.example/sessions?tokn=5ecret-token",
    ],
)
@pytest.mark.parametrize("as_json", [[], ["--json"], ["--verbose"]], ids=["text", "json", "verbose"])
def test_the_conformance_command_shows_none(url: str, as_json: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    code = run(["conformance", "--url", url, "--kind", "cache", "--only", "test_a_value_comes_back", *as_json])
    out, err = capfd.readouterr()
    assert code != 0
    assert out + err
    assert "5ecret" not in out + err
