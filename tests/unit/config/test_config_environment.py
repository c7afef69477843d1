"""Overrides by the environment."""

import os
from typing import Any

import pytest

from portable.config import Config, read_options
from portable.errors import ConfigError
from portable.registry import provider

TREE: dict[str, Any] = {
    "default_profile": "aws-prod",
    "resources": {
        "photos": {"kind": "bucket"},
        "job-queue": {"kind": "queue"},
        "events": {"kind": "topic"},
        "mailer": {"kind": "subscription", "topic": "events", "filter": {"type": "a"}},
    },
    "profiles": {
        "aws-prod": {"default": "memory:", "bind": {"photos": "acme://acme-photos"}},
        "other": {"bind": {"job-queue": {"url": "acme://jobs", "credentials": {"user-id": "me"}}}},
    },
}


def config(**environ: str) -> Any:
    return Config.from_dict(TREE, environ=environ)


def refused(**environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config(**environ)
    return str(caught.value)


def test_bindings_contracts_and_the_default_profile():
    made = config(
        PORTABLE_PROFILES__AWS_PROD__BIND__PHOTOS="acme://other-photos",
        PORTABLE_PROFILES__AWS_PROD__BIND__PHOTOS__REGION="eu",
        PORTABLE_PROFILES__AWS_PROD__BIND__JOB_QUEUE="acme://jobs?region=us",
        PORTABLE_PROFILES__AWS_PROD__GUARD__LIMITS='["aws"]',
        PORTABLE_RESOURCES__JOB_QUEUE__MAX_DELIVERIES="8",
        PORTABLE_RESOURCES__JOB_QUEUE__ORDERED="true",
        PORTABLE_RESOURCES__JOB_QUEUE__NEEDS='["delay"]',
        PORTABLE_RESOURCES__JOB_QUEUE__TIMEOUT="5m",
        PORTABLE_RESOURCES__MAILER__FILTER__TYPE="b",
        PORTABLE_DEFAULT_PROFILE="other",
        PORTABLE_OTHER="x",
        HOME="/",
    )
    assert made.default_profile == "other"
    photos = made.profile("aws-prod").bound("photos", "bucket")
    assert (photos.url.host, photos.options, photos.limits) == ("other-photos", {"region": "eu"}, ("aws",))
    jobs = made.profile("aws-prod").bound("job-queue", "queue")
    assert jobs.options == {"region": "us"}
    contract = jobs.contract
    assert (contract.max_deliveries, contract.ordered, contract.timeout) == (8, True, 300)
    assert contract.needs == ("delay", "ordered")
    assert made.tables.resources["mailer"].contract.filter == {"type": "b"}
    assert TREE["profiles"]["aws-prod"]["bind"] == {"photos": "acme://acme-photos"}


def test_values_are_tables_arrays_and_quoted_strings_else_text():
    made = config(
        PORTABLE_PROFILES__OTHER__BIND__JOB_QUEUE__CREDENTIALS__USER_ID="you",
        PORTABLE_PROFILES__OTHER__BIND__JOB_QUEUE__CREDENTIALS__KEY="007",
        PORTABLE_PROFILES__OTHER__BIND__PHOTOS='{ url = "acme://p", port = 8, tls = false }',
        PORTABLE_PROFILES__OTHER__DEFAULT="'memory:'",
        PORTABLE_PROFILES__OTHER__BIND__EVENTS='acme://e?region="a',
        PORTABLE_PROFILES__OTHER__BIND__MAILER__PORT="9",
    )
    profile = made.profile("other")
    assert profile.bound("job-queue", "queue").options == {"credentials": {"user-id": "you", "key": "007"}}
    options = read_options(profile.bound("photos", "bucket"), provider("acme", "bucket").load().Options)
    assert (options.port, options.tls) == (8, False)
    assert profile.table.default.url == "memory:"
    assert profile.bound("events", "topic").options == {"region": '"a'}
    mailer = profile.bound("mailer", "subscription")
    assert (mailer.options, mailer.shared_options, mailer.physical) == ({"port": "9"}, {"region": '"a'}, "mailer")
    assert read_options(mailer, provider("acme", "subscription").load().Options).port == 9
    assert config(PORTABLE_PROFILES__OTHER__DEFAULT="[memory").profile("other").table.default.url == "[memory"
    text = "'memory:'\n[x]\ny = 1"
    assert config(PORTABLE_PROFILES__OTHER__DEFAULT=text).profile("other").table.default.url == text


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("PORTABLE_PROFILES__AWS__BIND__PHOTOS", "x", "the config has no profile AWS; it can be AWS_PROD, OTHER"),
        ("PORTABLE_PROFILES__AWS_PROD__BIND__PHOTO", "x", "the config has no resource PHOTO; did you mean PHOTOS?"),
        ("PORTABLE_PROFILES__AWS_PROD__BIN__PHOTOS", "x", "the config has no key BIN; did you mean BIND?"),
        ("PORTABLE_PROFILES__AWS_PROD__BIND", "memory:", "name the resource too, as in PORTABLE_PROFILES__AWS_PROD__B"),
        ("PORTABLE_PROFILES__AWS_PROD", "x", "name a key after the profile, as in PORTABLE_PROFILES__AWS_PROD__KEY"),
        ("PORTABLE_PROFILES__AWS_PROD____X", "x", "name a key after the profile"),
        ("PORTABLE_RESOURCES__JOBS__ORDERED", "x", "the config has no resource JOBS; it can be EVENTS, JOB_QUEUE"),
        ("PORTABLE_RESOURCES__JOB_QUEUE__ORDRED", "x", "the config has no key ORDRED; did you mean ORDERED?"),
        ("PORTABLE_RESOURCES__PHOTOS__ORDERED", "x", "the config has no key ORDERED"),
        ("PORTABLE_RESOURCE__PHOTOS__NEEDS", "x", "no such override; did you mean PORTABLE_RESOURCES__PHOTOS__NEEDS?"),
        ("PORTABLE_PROFILE__OTHER__DEFAULT", "x", "did you mean PORTABLE_PROFILES__OTHER__DEFAULT?"),
        (
            "PORTABLE_RESOURCES__JOB_QUEUE__ORDERED",
            "perhaps",
            "resources.job-queue.ordered: expected `bool`, got `str`",
        ),
        ("PORTABLE_RESOURCES__JOB_QUEUE__TIMEOUT", "soon", "resources.job-queue.timeout: 'soon' is not a duration"),
        (
            "PORTABLE_RESOURCES__JOB_QUEUE__KIND",
            "qeue",
            "resources.job-queue.kind: there is no kind 'qeue'; did you me",
        ),
        ("PORTABLE_RESOURCES__JOB_QUEUE__KIND__X", "a", "resources.job-queue.kind is no table that could hold x"),
        ("PORTABLE_PROFILES__AWS_PROD__CREATE", "no", 'profiles.aws-prod.create: create is "if_missing" or "never"'),
        ("PORTABLE_DEFAULT_PROFILE", "aws", "default_profile: there is no profile 'aws'"),
    ],
)
def test_a_wrong_variable_is_named(variable, value, said):
    message = refused(**{variable: value})
    assert message.startswith(f"${variable}: ")
    assert said in message


def test_a_value_that_is_not_utf8_is_refused():
    said = refused(PORTABLE_PROFILES__OTHER__DEFAULT=os.fsdecode(b"hunter\xff"))
    assert said == "$PORTABLE_PROFILES__OTHER__DEFAULT: the value is not UTF-8"


def test_profiles_that_one_variable_could_mean_are_refused():
    tree: dict[str, Any] = {"profiles": {"a-b": {}, "a_b": {}}}
    with pytest.raises(ConfigError, match="A_B may be any of a-b, a_b; rename all but one"):
        Config.from_dict(tree, environ={"PORTABLE_PROFILES__A_B__DEFAULT": "memory:"})


def test_an_error_of_a_binding_names_its_variable():
    made = config(PORTABLE_PROFILES__AWS_PROD__BIND__JOB_QUEUE="acmee://x")
    with pytest.raises(ConfigError, match=r"job-queue: \$PORTABLE_PROFILES__AWS_PROD__BIND__JOB_QUEUE: .*mean acme:"):
        made.profile("aws-prod").bound("job-queue", "queue")


def test_the_real_environment_overrides_a_file(write, monkeypatch):
    write("[resources.jobs]\nkind = 'queue'\n[profiles.here]\ndefault = 'memory:'\n")
    monkeypatch.setenv("PORTABLE_RESOURCES__JOBS__RETRIES", "9")
    assert Config.load().profile("here").bound("jobs", "queue").contract.retries == 9
