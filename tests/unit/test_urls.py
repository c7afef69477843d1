"""Binding URLs: taken apart right, refused with words, and never showing a secret."""

from __future__ import annotations

import io
import pickle
import string
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from portable.errors import ConfigError
from portable.urls import Url, is_secret


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("memory:", {"scheme": "memory", "host": None, "path": ""}),
        ("memory:shared", {"path": "shared", "host": None}),
        ("sqlite:.portable/app.db", {"path": ".portable/app.db", "host": None}),
        ("sqlite:/var/app.db?durability=process", {"path": "/var/app.db", "options": {"durability": "process"}}),
        ("file:a%20b/%C3%A9", {"path": "a b/é"}),
        ("s3://acme-photos?region=eu-west-1", {"host": "acme-photos", "path": "", "options": {"region": "eu-west-1"}}),
        ("S3://bucket/prefix/more", {"scheme": "s3", "host": "bucket", "path": "prefix/more"}),
        (
            "postgresql://app:p%40ss%2F@db.example.com:5432/main",
            {"username": "app", "password": "p@ss/", "host": "db.example.com", "port": 5432, "path": "main"},
        ),
        ("redis://:secret@[::1]:6379/0", {"username": None, "password": "secret", "host": "::1", "port": 6379}),
        ("redis://[fe80::1]/0", {"host": "fe80::1", "port": None}),
        ("kafka://one:9092,two:9093/clicks", {"hosts": "one:9092,two:9093", "port": None, "path": "clicks"}),
        ("a+b.c-d://h?x=&y=1", {"scheme": "a+b.c-d", "options": {"x": "", "y": "1"}}),
    ],
)
def test_a_url_is_taken_apart(text: str, parts: dict[str, object]) -> None:
    url = Url.parse(text)
    assert {name: getattr(url, name) for name in parts} == parts


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "starts with no scheme"),
        ("sqlite:a%00b", "it holds a NUL character"),
        ("sqlite:a%ffb", "what it writes with % is not UTF-8"),
        ("redis://:pass%ff@h/0?x=%ff", "what it writes with % is not UTF-8"),
        ("photos", "starts with no scheme"),
        ("/var/app.db", "starts with no scheme"),
        ("5s://x", "starts with no scheme"),
        ("s3://a?x=1&x=2", "option 'x' stands twice"),
        ("redis://h:port/0", "port in the redis: URL is not a number"),
        ("redis://h:65536/0", "is not a number of 0 to 65535"),
        ("redis://h:-1/0", "is not a number"),
        ("redis://h:٣/0", "is not a number"),
        ("postgresql://app:p/ss@h/main", "write / . @ : in the password"),
        ("sqlite:a\0b", "NUL"),
        ("sqlite:a\ud800b", "surrogate"),
    ],
)
def test_what_is_no_url_is_said(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Url.parse(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://app:hidden@h:1/main", "postgresql://app:***@h:1/main"),
        ("redis://:hidden@h", "redis://:***@h"),
        ("s3://b?secret_access_key=hidden&region=eu", "s3://b?secret_access_key=***&region=eu"),
        ("sqlite:/a b/é", "sqlite:/a%20b/%C3%A9"),
        ("memory:", "memory:"),
    ],
)
def test_a_url_is_shown_without_its_secrets(text: str, shown: str) -> None:
    assert str(Url.parse(text)) == repr(Url.parse(text)) == f"{Url.parse(text)}" == shown


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "pwd",
        "client_secret",
        "session_token",
        "api_key",
        "key",
        "credentials",
        "signature",
        "sig",
        "sas",
        "auth",
        "connection_string",
        "ConnectionString",
        "SharedAccessKey",
    ],
)
def test_options_that_are_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", ["region", "endpoint", "durability", "ttl", "name", "keyspace", "prefix"])
def test_options_that_are_none(name: str) -> None:
    assert not is_secret(name)


SECRET = st.text(string.ascii_letters + string.digits + "/?@:#%&=+ é☃'\"\\", min_size=1).map(
    lambda s: f"5ecre7{s}5ecre7"
)
WORD = st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=8)


def everything_shown(url: Url) -> str:
    printed = io.StringIO()
    Console(file=printed, width=10_000).print(url, [url], {"url": url})
    return "".join([str(url), repr(url), f"{url}", repr([url]), printed.getvalue()])


@given(secret=SECRET, user=WORD, host=WORD, path=WORD)
def test_a_quoted_password_comes_back_and_is_never_shown(secret: str, user: str, host: str, path: str) -> None:
    url = Url.parse(f"postgresql://{user}:{quote(secret, safe='')}@{host}:5432/{path}")
    assert (url.username, url.password, url.host, url.port, url.path) == (user, secret, host, 5432, path)
    assert "5ecre7" not in everything_shown(url)


@given(secret=SECRET, name=st.sampled_from(["password", "secret_access_key", "sas_token", "connection_string"]))
def test_a_secret_option_is_never_shown(secret: str, name: str) -> None:
    url = Url.parse(f"s3://bucket?region=eu&{name}={quote(secret, safe='')}")
    assert url.options[name] == secret
    assert "5ecre7" not in everything_shown(url)


@given(secret=SECRET, host=WORD)
def test_a_password_that_is_not_quoted_is_never_shown(secret: str, host: str) -> None:
    check_unquoted(secret, host)


@pytest.mark.parametrize("between", ["/", "@", ":", "?x=", "#", "%", "?x=5ecre7@", "//", ",", "]", "[", "@h/", "/@:"])
def test_a_password_with_a_delimiter_is_never_shown(between: str) -> None:
    check_unquoted(f"5ecre7{between}5ecre7", "h")


def check_unquoted(secret: str, host: str) -> None:
    """People forget to quote; then the URL may be refused, or read, and in no case is the password told."""
    for text in (f"postgresql://app:{secret}@{host}/main", f"redis://:{secret}@{host}:6379/0?x=1"):
        try:
            shown = everything_shown(Url.parse(text))
        except ConfigError as error:
            shown = f"{error} {error!r} {error.__cause__}"
        assert "5ecre7" not in shown


@given(st.one_of(st.text(), st.from_regex(r"[a-z]+://?[^\n]*", fullmatch=True)))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    try:
        url = Url.parse(text)
    except ConfigError:
        return
    again = Url.parse(str(url).replace("***", "x")) if "?" not in str(url) else url
    assert again.scheme == url.scheme
    assert pickle.loads(pickle.dumps(url)) == url  # noqa: S301 (ours)
