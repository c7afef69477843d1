"""References: what they give, where, and that nothing of it is shown."""

import os
import types
from importlib import metadata
from io import StringIO
from typing import Any
from urllib.parse import quote

import pytest
from rich.console import Console
from rich.pretty import Pretty

from portable.config import Config, Profile, read_options
from portable.config.references import parse_url, redacted, redacted_url
from portable.errors import ConfigError, Unavailable
from portable.registry import provider

SECRET = "p@ss/w:?#rd&%41 ü"  # noqa: S105 (what is to stay hidden)


def config(**bind: Any) -> Config:
    tree = {
        "resources": {name: {"kind": "database" if name == "main" else "queue"} for name in bind},
        "profiles": {"here": {"bind": bind}},
    }
    return Config.from_dict(tree)


def bound(binding: Any, name: str = "jobs") -> Any:
    return config(**{name: binding}).profile("here").bound(name, "database" if name == "main" else "queue")


def refused(binding: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        bound(binding)
    return str(caught.value)


@pytest.fixture
def secret(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", SECRET)
    return SECRET


def test_any_character_of_a_password_stays_in_the_password(secret):
    url = bound("acme://app:${env:DB_PASSWORD}@db.example.com:5432/main?region=eu", "main").url
    assert (url.username, url.password, url.host, url.port, url.path) == ("app", secret, "db.example.com", 5432, "main")
    assert url.options == {"region": "eu"}
    assert str(url) == "acme://app:${env:DB_PASSWORD}@db.example.com:5432/main?region=eu"


def test_references_stand_in_every_part_of_a_url(monkeypatch):
    monkeypatch.setenv("USER_NAME", "a:b")
    monkeypatch.setenv("HOST", "db:77")
    monkeypatch.setenv("NAME", "x/y?z")
    monkeypatch.setenv("REGION", "a&b=c")
    found = bound("acme://${env:USER_NAME}:pw@${env:HOST}/${env:NAME}?region=${env:REGION}", "main")
    assert (found.url.username, found.url.password) == ("a:b", "pw")
    assert (found.url.host, found.url.port, found.url.path) == ("db", 77, "x/y?z")
    assert found.options == {"region": "a&b=c"}
    assert str(found.url) == "acme://${env:USER_NAME}:***@${env:HOST}/${env:NAME}?region=${env:REGION}"


def test_a_reference_may_give_the_whole_url(monkeypatch):
    monkeypatch.setenv("JOBS_URL", "acme://user:hunter2@host/acme-jobs?region=eu")
    found = bound("${env:JOBS_URL}")
    assert (found.url.password, found.physical, found.options) == ("hunter2", "acme-jobs", {"region": "eu"})
    assert str(found.url) == "${env:JOBS_URL}"
    assert "hunter2" not in repr(found)


def test_options_are_resolved_at_any_depth(secret, here):
    (here / "ca").write_text("certificate\n")
    found = bound(
        {
            "url": "acme://host/acme-jobs",
            "region": "${env:REGION:-eu}${file:ca}",
            "credentials": {"keys": ["${env:DB_PASSWORD}", 3, "$${env:X}"], "inner": {"user": "${env:NONE:-}"}},
        }
    )
    assert found.options["region"] == "eucertificate"
    assert found.options["credentials"] == {"keys": [secret, 3, "${env:X}"], "inner": {"user": ""}}
    assert found.referenced == {"region", "credentials"}
    assert SECRET not in repr(found)
    options = read_options(found, provider("acme", "queue").load().Options)
    assert repr(options) == "AcmeOptions(region, credentials)"
    table = config(jobs="acme://u:" + quote(secret, safe="") + "@h/x").profile("here").table
    for one in (options, found, found.url, table):
        printed = Console(file=StringIO(), record=True)
        printed.print(Pretty(one))
        text = printed.export_text()
        assert SECRET not in text
        assert quote(SECRET, safe="") not in text


def test_a_default_is_for_what_is_unset_or_empty(monkeypatch):
    monkeypatch.setenv("EMPTY", "")
    assert bound("acme://h/${env:EMPTY:-acme-one}").physical == "acme-one"
    assert bound("acme://h/${env:UNSET_ONE:-acme-two}").physical == "acme-two"
    assert bound("acme://h/acme${env:EMPTY}").physical == "acme"


def test_references_are_resolved_late_and_each_time(monkeypatch):
    profile = config(jobs="acme://h/${env:LATE}", main="acme://h/main").profile("here")
    assert profile.bound("main", "database").physical == "main"
    with pytest.raises(ConfigError, match="the environment has no LATE; set it"):
        profile.bound("jobs", "queue")
    monkeypatch.setenv("LATE", "acme-a")
    assert profile.bound("jobs", "queue").physical == "acme-a"
    monkeypatch.setenv("LATE", "acme-b")
    assert profile.bound("jobs", "queue").physical == "acme-b"


def test_a_missing_reference_is_named_alone(secret):
    said = refused("acme://${env:DB_PASSWORD}:${env:GONE}@h/x")
    assert said == (
        "jobs: config: profiles.here.bind.jobs: the environment has no GONE; set it, or write ${env:GONE:-default}"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("acme://h/${env:1X}", "an env reference is written ${env:NAME} or ${env:NAME:-default}"),
        ("acme://h/${env:}", "an env reference is written"),
        ("acme://h/${env:X", "`${` starts no reference; write ${env:NAME}"),
        ("acme://h/${X}", "`${` starts no reference"),
        ("acme://h/${file:}", "the file of ${file:} cannot be read: Is a directory"),
        ("acme://h/${file:gone}", "the file of ${file:gone} cannot be read: No such file or directory"),
        ("acme://h/${file:binary}", "is not UTF-8 text"),
        ("acme://h/${file:large}", "is larger than 1 MiB"),
        ("acme://h/${binding:db}", "a binding reference is written ${binding:name/key}"),
        ("acme://h/${binding:../up/key}", "a binding reference is written"),
        ("acme://h/${binding:db/..}", "a binding reference is written"),
        ("acme://h/${binding:db/key}", "$SERVICE_BINDING_ROOT is not set, so there is no binding 'db'"),
        ("acme://h/${envv:X}", "nobody resolves ${envv:…}; did you mean ${env:…}?"),
        ("acme://h/${vault:}", "a reference to a secret is written ${vault:NAME}, or ${vault:NAME#field}"),
        ("acme://h/${vault:X#}", "a reference to a secret is written ${vault:NAME}, or ${vault:NAME#field}"),
        ("acme://h/${aws-secret:#x}", "a reference to a secret is written ${aws-secret:NAME}"),
        ("acme://h/${aws-secret:?region=x}", "${aws-secret:?region=x}: the reference names no secret"),
        ("acme://h/${aws-secret:X?regoin=x}", "no option 'regoin'; it can be endpoint, profile, region, version"),
        ("acme://h/${aws-secret:X?region=x&region=y}", "an option of the reference stands twice"),
        ("acme://h/${aws-secret:X?region}", "what follows the ? of a reference is written option=value"),
        ("acme://h/${vault:X}", "pip install 'portable-cloud[vault]'"),
    ],
)
def test_what_is_no_reference_is_said(text, said, here):
    (here / "binary").write_bytes(b"\xff\xfe")
    (here / "large").write_bytes(b"a" * (1024 * 1024 + 1))
    assert said in refused(text)
    assert said in refused({"url": "acme://h/x", "region": text})


def test_what_is_not_utf8_is_refused(monkeypatch):
    monkeypatch.setenv("RAW", os.fsdecode(b"hunter\xff"))
    said = refused("acme://h/${env:RAW}")
    assert "what the env reference gives is not UTF-8" in said
    assert "hunter" not in said


def test_bindings_are_read(here, monkeypatch):
    (here / "bindings" / "db").mkdir(parents=True)
    (here / "bindings" / "db" / "password").write_text("hunter2\n")
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(here / "bindings"))
    assert bound("acme://app:${binding:db/password}@h/x", "main").url.password == "hunter2"  # noqa: S105 (what was planted)
    assert "the entry 'gone' of the binding 'db' under $SERVICE_BINDING_ROOT cannot be read" in refused(
        "acme://h/${binding:db/gone}"
    )


@pytest.fixture
def secrets(monkeypatch):
    """A secret manager by entry point, as an adapter brings one."""
    module = types.ModuleType("acme_secrets")

    def read(name):
        if name == "down":
            raise Unavailable("the secret manager is away")
        if name == "bug":
            raise KeyError("hunter2")
        if name == "lacking":
            raise ModuleNotFoundError("no acme", name="acme_client")
        if name.startswith("json/"):
            readings.append(name)
            return JSON[name]
        return f"value of {name}"

    readings: list[str] = []
    vars(module)["read"] = read
    monkeypatch.setitem(__import__("sys").modules, "acme_secrets", module)
    point = metadata.EntryPoint("acme-secret", "acme_secrets:read", "portable.references")
    real = metadata.entry_points
    monkeypatch.setattr(
        metadata,
        "entry_points",
        lambda **how: metadata.EntryPoints([point]) if how == {"group": "portable.references"} else real(**how),
    )
    return readings


JSON = {
    "json/db": '{"user": "a:b", "password": "p@ss", "port": 5432, "ratio": 0.5, "tls": false, "deep": [1], "no": null}',
    "json/list": '["hunter2"]',
    "json/text": "hunter2",
    "json/deep": "[" * 100_000,
}


def test_fields_of_a_secret_come_from_one_reading(secrets):
    url = bound(
        "acme://${acme-secret:json/db#user}:${acme-secret:json/db#password}@h:${acme-secret:json/db#port}/x", "main"
    ).url
    assert (url.username, url.password, url.port) == ("a:b", "p@ss", 5432)
    assert (
        str(url) == "acme://${acme-secret:json/db#user}:${acme-secret:json/db#password}@h:${acme-secret:json/db#port}/x"
    )
    assert len(secrets) == 1
    found = bound({"url": "acme://h/x", "a": "${acme-secret:json/db#ratio}", "b": "${acme-secret:json/db#tls}"}, "main")
    assert found.options == {"a": "0.5", "b": "false"}
    assert len(secrets) == 2


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("json/db#gone", "the secret has no field 'gone'"),
        ("json/db#deep", "the field is neither text, nor a number, nor a boolean"),
        ("json/db#no", "the field is neither text, nor a number, nor a boolean"),
        ("json/list#x", "the secret is no JSON object, so it has no fields"),
        ("json/text#x", "the secret is no JSON object, so it has no fields"),
        ("json/deep#x", "the secret is no JSON object, so it has no fields"),
    ],
)
def test_a_field_that_is_not_there_is_named_without_the_secret(written, said):
    message = refused(f"acme://h/${{acme-secret:{written}}}")
    assert f"${{acme-secret:{written}}}: {said}" in message
    assert "hunter2" not in message


@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize("extra", ["aws", "gcp", "azure"])
def test_what_resolves_a_secret_can_be_installed(extra):
    assert f"pip install 'portable-cloud[{extra}]'" in refused(f"acme://h/${{{extra}-secret:X}}")


@pytest.mark.usefixtures("secrets")
def test_adapters_bring_secret_managers():
    assert bound("acme://app:${acme-secret:prod/db}@h/x", "main").url.password == "value of prod/db"  # noqa: S105 (what was planted)
    with pytest.raises(Unavailable, match=r"^jobs: .*\$\{acme-secret:down\}: the secret manager is away"):
        bound("acme://h/${acme-secret:down}")
    assert "${acme-secret:bug} was not resolved: KeyError" in refused("acme://h/${acme-secret:bug}")
    assert "hunter2" not in refused("acme://h/${acme-secret:bug}")
    assert "${acme-secret:…} needs the package 'acme_client'" in refused("acme://h/${acme-secret:lacking}")
    assert "did you mean ${acme-secret:…}?" in refused("acme://h/${acme-secrt:x}")


@pytest.mark.parametrize(
    "text",
    [
        "${env:DB_PASSWORD}",
        "${env:DB_PASSWORD}://h/x",
        "acme://h:${env:DB_PASSWORD}/x",
        "zzz:${env:DB_PASSWORD}",
        "sqlite:///${env:DB_PASSWORD}",
        "memory://${env:DB_PASSWORD}",
        "sqlite:${env:DB_PASSWORD}/",
        "sqs://h/${env:DB_PASSWORD}",
        "service:${env:DB_PASSWORD}",
    ],
)
def test_a_secret_in_the_wrong_place_is_not_told(text, secret):
    said = refused(text)
    for part in (secret, "p@ss", "p%40ss", "w:?#rd"):
        assert part not in said


def test_a_secret_scheme_is_not_told(monkeypatch):
    monkeypatch.setenv("TOKEN", "hunter2:rest")
    said = refused("${env:TOKEN}")
    assert "hunter2" not in said
    assert "what the reference gives is no URL of a queue, which can be acme:" in said


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("port", "what the reference gives is not a value that the option takes"),
        ("level", "what the reference gives is not one of 'low', 'high'"),
        ("wait", "what the reference gives is not a duration"),
        ("tls", "what the reference gives is not a bool"),
        ("credentials", "what the reference gives is not a value that the option takes"),
    ],
)
def test_a_secret_of_the_wrong_type_is_not_told(option, said, secret):
    found = bound({"url": "acme://h/acme-jobs", option: "${env:DB_PASSWORD}"})
    with pytest.raises(ConfigError) as caught:
        read_options(found, provider("acme", "queue").load().Options)
    assert said in str(caught.value)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("acme://u:pw@h/x", "acme://u:***@h/x"),
        ("acme://:pw@h/x", "acme://:***@h/x"),
        ("acme://u@h/x", "acme://u@h/x"),
        ("acme://u:a${env:X}@h/x", "acme://u:***@h/x"),
        ("acme://u:${env:X}${file:y}@h/x", "acme://u:${env:X}${file:y}@h/x"),
        ("acme://u:${env:X:-hunter2}@h/x", "acme://u:${env:X:-***}@h/x"),
        ("${env:X:-acme://u:hunter2@h/x}", "${env:X:-acme://u:***@h/x}"),
        ("acme://h/x?token=a&region=eu&api_key=${env:K:-b}", "acme://h/x?token=***&region=eu&api_key=${env:K:-***}"),
        ("acme://u:p@h/x?password=q", "acme://u:***@h/x?password=***"),
        ("just words", "just words"),
    ],
)
def test_urls_are_redacted(written, shown):
    assert redacted_url(written) == shown
    assert redacted_url(shown) == shown


def test_options_are_redacted():
    assert redacted("credentials", {"profile": "prod", "n": 3}) == {"profile": "***", "n": "***"}
    assert redacted("password", "") == ""
    assert redacted("password", "${env:X}") == "${env:X}"
    assert redacted("hosts", ["acme://u:p@h", 3]) == ["acme://u:***@h", 3]
    assert redacted("port", 3) == 3


def test_a_url_without_references_says_what_is_wrong_with_it():
    with pytest.raises(ConfigError, match="not a URL"):
        parse_url("$${x}", lambda scheme, argument: "")
    with pytest.raises(ConfigError, match="%2F"):
        parse_url("acme://u:12/3@h/x", lambda scheme, argument: "")


def test_single_resources_take_references_too(secret):
    profile = Profile.single("database", "acme://app:${env:DB_PASSWORD}@h/main", {})
    (name,) = profile.declared()
    assert profile.bound(name, "database").url.password == secret
