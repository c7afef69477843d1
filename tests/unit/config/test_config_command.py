"""What `portable config check`, `explain` and `schema` are made of."""

import json
import re
from typing import Any

import msgspec
import pytest

from portable.config import Config
from portable.config.checking import Problem
from portable.contracts import CONTRACTS

TEXT = """\
default_profile = "here"
[resources.jobs]
kind = "queue"
needs = ["delay"]
visibility_timeout = "45s"
ordered = false
[resources.events]
kind = "topic"
[resources.mailer]
kind = "subscription"
topic = "events"
ordered = true
[resources.main]
kind = "database"

[profiles.shared]
default = "sqlite:.portable/app.db?password=hunter2"
guard = { limits = ["aws"] }
[profiles.here]
extends = "shared"
[profiles.here.bind]
jobs = { url = "acme://u:hunter2@h/jobs", name = "acme-jobs", region = "${env:REGION}", password = { p = "hunter2" } }
events = "${env:EVENTS_URL}"
[profiles.broken.bind]
jobs = { url = "acme://h/jobs", regoin = "x" }
"""


@pytest.fixture
def explained(write, monkeypatch):
    write(TEXT)
    monkeypatch.setenv("PORTABLE_PROFILES__HERE__BIND__MAIN", "acme://app:hunter2@db/main?token=hunter2")
    monkeypatch.setenv("PORTABLE_RESOURCES__JOBS__MAX_DELIVERIES", "8")
    monkeypatch.setenv("REGION", "hunter2")
    return {one.path: (one.value, one.origin) for one in Config.load().explain()}


def test_explain_shows_each_value_and_where_it_came_from(explained, here):
    file = f"{here}/portable.toml"
    assert explained["resources.jobs.kind"] == ("queue", f"{file}:3")
    assert explained["resources.jobs.visibility_timeout"] == ("45s", f"{file}:5")
    assert explained["resources.jobs.max_deliveries"] == (8, "$PORTABLE_RESOURCES__JOBS__MAX_DELIVERIES")
    assert explained["resources.jobs.timeout"] == ("60s", "default")
    assert explained["resources.mailer.needs"] == (["ordered"], f"{file}:12")
    assert explained["profiles.here.extends"] == ("shared", f"{file}:20")
    assert explained["profiles.here.default"] == (
        "sqlite:.portable/app.db?password=***",
        f"{file}:17 (profiles.shared)",
    )
    assert explained["profiles.here.guard.limits"] == (["aws"], f"{file}:18 (profiles.shared)")
    assert explained["profiles.here.guard.needs"] == ("lenient", "default")
    assert explained["profiles.here.bind.jobs"] == ("acme://u:***@h/jobs", f"{file}:22")
    assert explained["profiles.here.bind.jobs.name"] == ("acme-jobs", f"{file}:22")
    assert explained["profiles.here.bind.jobs.region"] == ("${env:REGION}", f"{file}:22")
    assert explained["profiles.here.bind.jobs.password"] == ({"p": "***"}, f"{file}:22")
    assert explained["profiles.here.bind.mailer"] == ("${env:EVENTS_URL}", f"{file}:23 (its topic's)")
    assert explained["profiles.here.bind.main"] == (
        "acme://app:***@db/main?token=***",
        "$PORTABLE_PROFILES__HERE__BIND__MAIN",
    )


def test_explain_is_json_and_holds_no_secret(explained):
    assert "hunter2" not in json.dumps(explained)


def test_explain_shows_what_the_default_makes_of_it_and_what_is_not_bound(write):
    write(TEXT)
    config = Config.load()
    shared = {one.path: one for one in config.explain("shared")}
    assert shared["profiles.shared.bind.main"].value == "sqlite:.portable/main.db?password=***"
    assert shared["profiles.shared.bind.main"].origin.endswith(":17 (the default)")
    broken = {one.path: one for one in config.explain("broken")}
    assert broken["profiles.broken.bind.events"].origin == "not bound"
    wrong = Config.from_dict(
        {
            "resources": {"jobs": {"kind": "queue", "timeout": 0.5}},
            "profiles": {"a": {"default": {"url": "no-url", "region": 3}}},
        }
    )
    shown = {one.path: one.value for one in wrong.explain("a")}
    assert (shown["profiles.a.bind.jobs"], shown["profiles.a.default.region"]) == ("no-url", 3)
    assert shown["resources.jobs.timeout"] == "0.5s"


def test_explain_of_the_embedded_default():
    assert Config.load().explain()[0].path == "profiles.embedded.default"


def checked(resources: Any, bind: Any, **profile: Any) -> list[Problem]:
    tree = {"resources": resources, "profiles": {"here": {"bind": bind, **profile}}}
    return Config.from_dict(tree).check_all()


QUEUE = {"jobs": {"kind": "queue", "needs": ["delay"]}}


@pytest.mark.parametrize(
    "binding",
    [
        "acme://acme-jobs",
        "acme://u:${env:UNSET}@h:${env:UNSET_PORT}/${env:UNSET}?region=${file:unset}&port=${env:UNSET}",
        {"url": "acme://h/x", "port": "${env:UNSET}", "level": "${binding:a/b}"},
        "${env:UNSET_URL}",
        {"url": "${env:UNSET_URL}", "anything": "${file:x}"},
    ],
)
def test_a_good_profile_has_no_problems_though_its_references_are_elsewhere(binding):
    assert checked(QUEUE, {"jobs": binding}) == []


@pytest.mark.parametrize(
    ("binding", "said"),
    [
        ("acmee://x", "no adapter provides the scheme acmee:; did you mean acme:?"),
        ("gs://x", "gs"),
        ("acme://h/x?regoin=${env:UNSET}", "queues have no option 'regoin'; did you mean region?"),
        ("acme://h/x?port=many", "bind.jobs.port: an option of acme: queues does not fit"),
        ({"url": "acme://h/x", "port": "${envv:X}"}, "nobody resolves ${envv:…}; did you mean ${env:…}?"),
        ("${vault:x}", "pip install 'portable-cloud[vault]'"),
        ("${env:1}", "an env reference is written"),
        ("${binding:x}", "a binding reference is written"),
        ("${env:X", "starts no reference"),
        ({"url": "sqs://x", "name": "no spaces"}, "SQS"),
        ("acme-token://h/x?token=t", "which lacks what it needs: delay"),
        ("acme-token://h/x", "missing required field `token`"),
        ("sqlite:///x", "read differently"),
    ],
)
def test_each_problem_is_found_offline(binding, said):
    (problem,) = checked(QUEUE, {"jobs": binding})
    assert (problem.profile, problem.resource, problem.severity) == ("here", "jobs", "error")
    assert said in problem.message


def test_what_needs_a_secret_to_be_made_is_not_judged():
    assert checked(QUEUE, {"jobs": "acme-token://h/x?token=${env:UNSET}"}) == []


def test_a_service_that_is_not_installed_here_is_a_warning():
    (problem,) = checked(QUEUE, {"jobs": "service:kafka"})
    assert problem.severity == "warning"
    assert "the service 'kafka' is not installed" in problem.message


@pytest.fixture
def installed(here, monkeypatch):
    """Install the service `acme`, whose binding has these entries."""

    def install(**entries: str) -> None:
        (here / "bindings" / "acme").mkdir(parents=True)
        for name, value in entries.items():
            (here / "bindings" / "acme" / name.replace("_", "-")).write_text(value)
        monkeypatch.setenv("SERVICE_BINDING_ROOT", str(here / "bindings"))

    return install


def test_what_an_installed_service_says_is_judged(installed):
    installed(uri="acme-token://h?token=hunter2")
    (problem,) = checked(QUEUE, {"jobs": "service:acme"})
    assert problem.message.endswith("lacks what it needs: delay")


def test_a_subscription_is_where_the_topic_of_its_service_is(installed):
    resources = {"events": {"kind": "topic"}, "mailer": {"kind": "subscription", "topic": "events"}}
    installed(uri="acme-token://h", uri_topic="acme://h?region=eu")
    assert checked(resources, {"events": "service:acme"}) == []
    assert checked(resources, {"events": "service:acme", "mailer": "service:acme"}) == []


def test_an_unbound_resource_is_a_problem_under_its_profile_alone():
    tree = {
        "resources": {"photos": {"kind": "bucket"}, **QUEUE},
        "profiles": {"one": {"bind": {"photos": "acme://p", "jobs": "acme://j"}}, "two": {}},
    }
    problems = Config.from_dict(tree).check_all()
    assert [(one.profile, one.resource) for one in problems] == [("two", "photos"), ("two", "jobs")]
    assert isinstance(problems[0], Problem)


def test_subscriptions_are_checked_with_their_topic():
    resources = {"events": {"kind": "topic"}, "mailer": {"kind": "subscription", "topic": "events", "needs": ["peek"]}}
    (problem,) = checked(resources, {"events": "acme://project/acme-events?region=eu"})
    assert (problem.resource, problem.message.rpartition(": ")[2]) == ("mailer", "peek")


def test_the_schema_knows_every_contract_and_the_options_of_drivers():
    schema = Config.schema()
    json.dumps(schema)
    for kind, contract in CONTRACTS.items():
        made = schema["$defs"][kind]
        assert set(made["properties"]) == {"kind", *contract.__struct_fields__}
        assert made["additionalProperties"] is False
        assert made["properties"]["kind"] == {"const": kind}
        assert made["properties"]["needs"]["items"] == {"enum": list(contract.capabilities.features())}
        assert all("description" in one for name, one in made["properties"].items() if name != "kind")
    assert schema["$defs"]["subscription"]["required"] == ["kind", "topic"]
    tables = schema["$defs"]["binding"]["anyOf"]
    (acme,) = [one for one in tables if one.get("properties", {}).get("url", {}).get("pattern") == "^acme:"]
    assert acme["properties"]["port"]["description"] == "the port of the server."
    assert acme["properties"]["port"]["anyOf"][1] == {"type": "string"}
    assert acme["additionalProperties"] is False
    assert re.match(acme["properties"]["wait"]["anyOf"][0]["anyOf"][0]["pattern"], "30s")


def test_the_schema_takes_the_keys_that_are_read():
    schema = Config.schema()
    profile = schema["$defs"]["profile"]["properties"]
    assert set(profile) == {"default", "bind", "extends", "create", "guard"}
    assert set(schema["properties"]) == {"default_profile", "resources", "profiles"}
    assert msgspec.json.decode(msgspec.json.encode(schema)) == schema
