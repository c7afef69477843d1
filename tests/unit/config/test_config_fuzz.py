"""Whatever stands in a config: it is read or refused with a `ConfigError`, and no secret is ever told."""

import contextlib
import copy
import os
import tempfile
from collections.abc import Callable, Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote

from hypothesis import given, settings
from hypothesis import strategies as st

from portable.config import Config, Profile, read_options
from portable.errors import ConfigError, PortableError
from portable.registry import provider
from portable.urls import Url

# The same examples in every run: what a longer search finds becomes a case of its own.
FUZZ = settings(derandomize=True, deadline=None, max_examples=100, database=None)

VALID: dict[str, Any] = {
    "default_profile": "here",
    "resources": {
        "photos": {"kind": "bucket", "needs": ["sign"]},
        "jobs": {"kind": "queue", "visibility_timeout": "30s", "dead_letter": "dead", "offload": "photos"},
        "dead": {"kind": "queue"},
        "events": {"kind": "topic"},
        "mailer": {"kind": "subscription", "topic": "events", "filter": {"a": "b"}, "ordered": True},
        "users": {"kind": "collection", "indexes": ["a", ["b", "-c"]]},
        "clicks": {"kind": "stream", "retention": "7d", "checkpoint": "users"},
        "main": {"kind": "database"},
    },
    "profiles": {
        "here": {
            "default": "acme://host/x?port=3",
            "guard": {"limits": ["aws"], "needs": "strict"},
            "bind": {
                "jobs": {"url": "acme://u:${env:FUZZ}@h/x", "region": "${env:FUZZ:-a}", "name": "acme-jobs"},
                "users": "service:users",
                "clicks": "sqlite:a.db",
            },
        },
        "there": {"extends": "here", "create": "never", "bind": {"mailer": {"port": 3}}},
    },
}

words = st.sampled_from([
    "", "a", "here", "there", "jobs", "events", "queue", "bucket", "url", "kind", "bind", "extends", "default", "name",
    "30s", "9e9s", "if_missing", "strict", "aws", "acme:", "acme://h", "acme://h:x/y", "sqlite:", "sqlite:///x",
    "file:/", "memory:", "memory://a", "service:x", "service:..", "${env:FUZZ}", "${env:X", "${", "$${", "${file:/}",
    "${vault:x}", "${binding:a/b}", "${env:FUZZ}://h", "acme://h/x?a=1&a=2", "acme://[::1]:5/x", "acme://[", "?", "#",
    "://", "x" * 300,
])  # fmt: skip
text = st.one_of(words, st.text(max_size=20), st.builds("".join, st.lists(words, max_size=3)))
scalars = st.one_of(
    text,
    st.integers(),
    st.sampled_from([2**63, -(2**63) - 1, 10**400]),
    st.floats(),
    st.booleans(),
    st.sampled_from([date(2020, 1, 1), datetime(2020, 1, 1), time(1)]),  # noqa: DTZ001 (TOML has local times)
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)),
    max_leaves=6,
)


def paths(tree: dict[str, Any], at: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, value in tree.items():
        yield (*at, key)
        if isinstance(value, dict):
            yield from paths(value, (*at, key))


@st.composite
def damaged(draw: st.DrawFn) -> dict[str, Any]:
    """A good config with a few keys set, renamed or removed."""
    tree = copy.deepcopy(VALID)
    for _ in range(draw(st.integers(1, 3))):
        *outer, key = draw(st.sampled_from(sorted(paths(tree))))
        table = tree
        for name in outer:
            table = table[name]
        match draw(st.sampled_from(["set", "add", "rename", "remove"])):
            case "set":
                table[key] = draw(values)
            case "add":
                table[draw(text)] = draw(values)
            case "rename":
                table[draw(text)] = table.pop(key)
            case _:
                del table[key]
    return tree


def use(config: Config) -> list[str]:
    """Do everything that a config is for, and collect all that is said."""
    said = [repr(config)]
    for name in config.profiles:
        profile = config.profile(name)
        said += [repr(profile), repr(profile.table)]
        said += [str((one.path, one.value, one.origin)) for one in config.explain(name)]
        for resource, kind in profile.declared().items():
            try:
                bound = profile.bound(resource, kind)
                said += [repr(bound), str(bound.url)]
                said.append(repr(read_options(bound, provider(bound.url.scheme, kind).load().Options)))
            except PortableError as error:
                said += [str(error), repr(error), repr(error.__cause__)]
    said += [repr(problem) for problem in config.check_all()]
    return said


def refusal(work: Callable[[], Any]) -> str | None:
    try:
        work()
    except ConfigError as error:
        return str(error)
    return None


@FUZZ
@given(tree=st.one_of(damaged(), st.dictionaries(text, values, max_size=4)))
def test_any_tree_is_read_or_refused(tree):
    with contextlib.suppress(ConfigError):
        use(Config.from_dict(tree))


@FUZZ
@given(content=st.one_of(st.text(), st.binary(), st.builds("{}={}".format, words, text)))
def test_any_file_is_read_or_refused(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "portable.toml")
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        said = refusal(lambda: use(Config.load(path)))
        assert said is None or str(path) in said


environment_text = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20)
segments = st.sampled_from([
    "HERE", "THERE", "BIND", "JOBS", "MAILER", "DEFAULT", "GUARD", "NEEDS", "LIMITS", "KIND", "X", "", "URL", "FILTER",
])  # fmt: skip
names = st.builds(
    lambda section, parts: "__".join([f"PORTABLE_{section}", *parts]),
    st.sampled_from(["PROFILES", "RESOURCES", "PROFILE", "OTHER"]),
    st.lists(segments, max_size=5),
)


@FUZZ
@given(environ=st.dictionaries(names, st.one_of(environment_text, words, st.just("{a=[1]}")), max_size=3))
def test_any_variable_is_taken_or_refused(environ):
    said = refusal(lambda: use(Config.from_dict(VALID, environ=environ)))
    assert said is None or "$PORTABLE_" in said


@FUZZ
@given(kind=st.sampled_from(["queue", "bucket", "database", "topic"]), url=text, options=st.dictionaries(text, values))
def test_any_single_resource_is_opened_or_refused(kind, url, options):
    with contextlib.suppress(ConfigError):
        profile = Profile.single(kind, url, options)
        (name,) = profile.declared()
        bound = profile.bound(name, kind)
        read_options(bound, provider(bound.url.scheme, kind).load().Options)


@FUZZ
@given(text=st.one_of(text, st.text(), st.builds("acme://{}".format, st.text())))
def test_any_text_is_a_url_or_refused(text):
    try:
        url = Url.parse(text)
    except ConfigError:
        return
    assert str(url)
    assert url.password is None or "***" in str(url)


MARK = "hunter2"
secrets = st.builds(
    lambda before, after: before + MARK + after,
    st.one_of(
        environment_text,
        st.sampled_from(
            [
                "acme://",
                "acme://h/x?level=",
                "acme://h/x?region=a&",
                "acme://h/x?port=",
                "sqlite:",
                "12/",
                "acme://u:",
                "x@",
            ]
        ),
    ),
    environment_text,
)
places = st.sampled_from([
    "${env:FUZZ}", "acme://u:${env:FUZZ}@h/x", "acme://${env:FUZZ}@h/x", "acme://${env:FUZZ}/x", "acme://h:${env:FUZZ}/x",
    "acme://h/${env:FUZZ}", "acme://h/x?region=${env:FUZZ}", "acme://h/x?port=${env:FUZZ}", "acme://h/x?${env:FUZZ}=1",
    "${env:FUZZ}:x", "${env:FUZZ}${env:FUZZ}", "sqlite:${env:FUZZ}", "sqlite:///${env:FUZZ}", "memory:${env:FUZZ}",
    "memory://${env:FUZZ}", "service:${env:FUZZ}", "sqs://${env:FUZZ}", "zz:${env:FUZZ}", "acme://u:${file:secret}@h/x",
    "${binding:db/password}", "${file:secret}", "acme://h/x?level=${binding:db/password}", "file:${env:FUZZ}/a",
])  # fmt: skip


@FUZZ
@given(secret=secrets, place=places, option=places, default=places)
def test_no_secret_that_a_reference_gives_is_told(secret, place, option, default):
    tree = copy.deepcopy(VALID)
    tree["profiles"]["here"] |= {"default": default}
    tree["profiles"]["here"]["bind"] |= {
        "events": place,
        "mailer": {"name": option, "port": option},
        "main": {"url": place, "level": option, "credentials": {"inner": [option]}, "wait": option},
        "photos": {"url": "acme://h/x", "region": option, "ca": option, "brokers": option},
    }
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "db").mkdir()
        for path in (Path(folder, "secret"), Path(folder, "db", "password")):
            path.write_bytes(secret.encode())
        with mock.patch.dict(os.environ, {"FUZZ": secret, "SERVICE_BINDING_ROOT": folder}):
            said = use(Config.from_dict(tree, folder))
    assert not [one for one in said if MARK in one]


@FUZZ
@given(secret=secrets, option=st.sampled_from(["password", "api_key", "token", "client_secret", "sasl_password"]))
def test_no_secret_that_stands_in_the_config_is_told(secret, option):
    written = quote(secret, safe="")
    tree = copy.deepcopy(VALID)
    tree["profiles"]["here"]["default"] = f"acme://u:{written}@h/x?{option}={written}"
    tree["profiles"]["here"]["bind"] |= {
        "events": f"acme://u:{written}@h/x?{option}={written}",
        "main": {"url": "${env:GONE:-acme://u:" + written + "@h/x}", option: secret.replace("${", "")},
        "photos": {"url": "acme://h/x", "credentials": {"inner": [secret.replace("${", "")]}},
    }
    assert not [one for one in use(Config.from_dict(tree)) if MARK in one]
