"""What a driver gets: URL, path, physical name, options, and whether it makes what is missing."""

import os
from pathlib import Path
from typing import Any

import pytest

from portable.capabilities import QueueCapabilities
from portable.config import Config, Profile, read_options
from portable.errors import ConfigError, LimitExceeded
from portable.registry import provider
from portable.urls import Url


def single(kind: str, url: Any, **options: Any) -> Any:
    profile = Profile.single(kind, url, options)
    (name,) = profile.declared()
    return profile.bound(name, kind)


def refused(kind: str, url: Any, **options: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        single(kind, url, **options)
    return str(caught.value)


def bound(binding: Any, kind: str = "queue", **profile: Any) -> Any:
    tree: dict[str, Any] = {"resources": {"jobs": {"kind": kind}}, "profiles": {"here": profile}}
    if binding is not None:
        profile["bind"] = {"jobs": binding}
    return Config.from_dict(tree).profile("here").bound("jobs", kind)


def acme_options(found: Any) -> Any:
    return read_options(found, provider(found.url.scheme, found.kind).load().Options)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:jobs.db", "{here}/jobs.db"),
        ("sqlite:/var/jobs.db", "/var/jobs.db"),
        ("sqlite:../jobs.db", "{above}/jobs.db"),
        ("sqlite:./a//b.db", "{here}/a/b.db"),
        ("SQLITE:a%20b%3F.db", "{here}/a b?.db"),
        ("sqlite:jobs.db?durability=process", "{here}/jobs.db"),
    ],
)
def test_paths_start_at_the_folder(url, path, here):
    assert single("queue", url).url.path == path.format(here=here, above=here.parent)


def test_paths_of_a_config_start_at_its_folder(write, here, monkeypatch):
    write("[resources.jobs]\nkind='queue'\n[profiles.p.bind]\njobs='sqlite:data/j.db'\n", "etc/portable.toml")
    config = Config.load("etc/portable.toml")
    monkeypatch.chdir("/")
    assert config.profile("p").bound("jobs", "queue").url.path == str(here / "etc" / "data" / "j.db")


def test_file_urls_are_absolute():
    assert single("bucket", "file:///srv/photos").url.path == "/srv/photos"
    assert single("bucket", "file://localhost/srv/photos").url == Url("file", path="/srv/photos")
    assert single("bucket", "file:photos").physical == "bucket"


@pytest.mark.parametrize(
    ("kind", "url", "said"),
    [
        ("queue", "sqlite:///app.db", "write sqlite:app.db (relative) or sqlite:/app.db (absolute)"),
        ("queue", "sqlite:////var/app.db", "write sqlite:var/app.db (relative) or sqlite:/var/app.db (absolute)"),
        ("queue", "sqlite://app.db", "write sqlite:app.db (relative) or sqlite:/app.db (absolute)"),
        ("database", "sqlite+aiosqlite:///app.db", "write sqlite+aiosqlite:app.db (relative) or sqlite+aiosqlite:/app"),
        ("bucket", "file://photos/x", "write file:photos/x (relative) or file:/photos/x (absolute)"),
        ("bucket", "file:///", "read differently"),
        ("bucket", "file:", "names no path"),
        ("queue", "sqlite:", "names no path"),
        ("queue", "sqlite: ", "names no path"),
        ("queue", "sqlite::memory:", "for what lives in memory write memory:"),
        ("queue", "sqlite:file:x?mode=memory", "for what lives in memory write memory:"),
        ("queue", "sqlite:x/", "takes the path of a file"),
        ("queue", "memory://shared", "write memory:NAME (one per process) or memory: (one per cloud)"),
        ("queue", "jobs.db", "not a URL: it starts with no scheme"),
        ("queue", "", "not a URL"),
        ("queue", "sqlite:a\0b", "NUL"),
        ("queue", "sqlite:\ud800", "surrogate"),
        ("queue", "sqlit:a", "did you mean sqlite:?"),
        ("queue", "file:a", "file: serves no queue"),
        ("queue", "servicebus://people", "pip install 'portable-cloud[azure]'"),
        ("queue", "acme://h:99999/x", "the port in the acme: URL is not a number"),
        ("queue", "acme://h:²/x", "the port in the acme: URL is not a number"),
        ("queue", "acme://h/x?a=1&a=2", "the option 'a' stands twice"),
        ("queue", "sqs://h/bad%20name", "SQS"),
    ],
)
def test_urls_that_are_refused(kind, url, said):
    assert said in refused(kind, url)


def test_single_options_that_are_refused():
    assert "open_queue: visibility_timeout: '2x' is not a duration" in refused(
        "queue", "memory:", visibility_timeout="2x"
    )
    assert "open_queue: needs: there is no capability of a queue 'dealy'; did you mean delay?" in refused(
        "queue", "memory:", needs=["dealy"]
    )
    assert "open_queue: name: a string is needed here" in refused("queue", "memory:", name=3)
    assert "open_queue: create: create is" in refused("queue", "memory:", create="no")
    assert "open_queue: url: a URL is needed here, not PosixPath" in refused("queue", Path("x"))
    found = single("queue", "acme://h/x", visibilty_timeout=3)
    with pytest.raises(ConfigError, match="queues have no option 'visibilty_timeout'; did you mean visibility_timeout"):
        acme_options(found)


def test_single_names_and_creation():
    assert single("queue", "memory:").resource == "queue"
    named = single("queue", "memory:", name="jobs", visibility_timeout=2, max_deliveries=3)
    assert (named.resource, named.physical, named.contract.visibility_timeout) == ("jobs", "jobs", 2)
    assert named.create
    assert not single("queue", "acme://acme-jobs").create
    assert single("queue", "acme://acme-jobs", create=True).create
    assert not single("queue", "memory:", create=False).create
    assert not single("queue", "memory:", create="never").create


def test_a_single_resource_reaches_its_neighbours():
    profile = Profile.single("subscription", "acme://h/acme-mailer?region=eu", {"topic": "events"})
    topic = profile.bound("events", "topic")
    assert (topic.url.host, topic.url.path) == ("h", "acme-mailer")
    assert topic.physical == "events"
    assert topic.options == {}
    assert topic.shared_options == {"region": "eu"}
    assert [one.resource for one in profile.subscriptions("events")] == ["subscription"]
    queue = Profile.single("queue", "memory:", {"dead_letter": "graveyard", "name": "jobs"})
    assert queue.bound("graveyard", "queue").physical == "graveyard"


@pytest.mark.parametrize(
    ("binding", "physical"),
    [
        ("memory:", "jobs"),
        ("memory:shared", "jobs"),
        ("acme://acme-jobs", "acme-jobs"),
        ("acme://acme-jobs/", "acme-jobs"),
        ("acme://project/acme-jobs", "acme-jobs"),
        ("acme://host:77/acme-jobs", "acme-jobs"),
        ("acme://host:77", "jobs"),
        ("acme://user@host", "jobs"),
        ("acme://a,b", "jobs"),
        ("acme://", "jobs"),
        ({"url": "acme://host/x", "name": "acme-jobs"}, "acme-jobs"),
        ({"url": "memory:", "name": "${env:HERE_NAME}"}, "named"),
    ],
)
def test_physical_names(binding, physical, monkeypatch):
    monkeypatch.setenv("HERE_NAME", "named")
    assert bound(binding).physical == physical


def test_the_default_covers_what_is_not_bound():
    def path(kind: str, default: str) -> tuple[str, str, str]:
        found = bound(None, kind, default=default)
        return found.url.scheme, os.path.relpath(found.url.path), found.physical

    assert path("bucket", "sqlite:.portable/app.db") == ("file", ".portable/jobs", "jobs")
    assert path("database", "sqlite:.portable/app.db") == ("sqlite", ".portable/jobs.db", "jobs")
    assert path("queue", "sqlite:.portable/app.db") == ("sqlite", ".portable/app.db", "jobs")
    assert path("bucket", "sqlite:/data/app.db")[0:2] == ("file", os.path.relpath("/data/jobs"))
    assert path("database", "memory:") == ("sqlite", ".portable/jobs.db", "jobs")
    assert path("bucket", "file:store") == ("file", "store/jobs", "jobs")
    assert bound(None, "bucket", default="memory:").url == Url("memory")
    assert bound(None, "queue", default="acme://host:7/x").physical == "jobs"
    with pytest.raises(ConfigError, match="file: serves no queue"):
        bound(None, "queue", default="file:store")


def test_the_default_may_come_from_a_reference(monkeypatch, here):
    monkeypatch.setenv("DATA", "hidden")
    found = bound(None, "bucket", default="sqlite:${env:DATA}/app.db")
    assert found.url.path == str(here / "hidden" / "jobs")
    assert "hidden" not in str(found.url)
    assert str(found.url) == "file:… (jobs, beside sqlite:${env:DATA}/app.db)"


def test_options_of_a_default_go_to_whom_they_fit():
    queue = bound(None, "queue", default="sqlite:a.db?durability=process")
    assert queue.options == {"durability": "process"}
    bucket = bound(None, "bucket", default={"url": "sqlite:a.db", "durability": "process"})
    assert (bucket.options, bucket.shared_options) == ({}, {"durability": "process"})


def test_a_resource_without_a_place_is_an_error():
    with pytest.raises(
        ConfigError, match=r'the profile does not bind .jobs.; add jobs = "…" to \[profiles.here.bind\]'
    ):
        bound(None)


def test_who_makes_what_is_missing():
    assert bound("memory:").create
    assert not bound("memory:", create="never").create
    assert bound({"url": "acme://x", "create": "if_missing"}).create
    assert bound("acme://x", create="if_missing").create
    assert not bound("acme://x").create
    assert not bound({"url": "memory:", "create": "never"}, create="if_missing").create


@pytest.fixture
def topic_tree():
    return {
        "resources": {
            "events": {"kind": "topic"},
            "mailer": {"kind": "subscription", "topic": "events"},
            "audit": {"kind": "subscription", "topic": "events"},
        },
        "profiles": {
            "here": {
                "default": "memory:",
                "bind": {
                    "events": {"url": "acme://project/acme-events", "region": "eu", "create": "if_missing"},
                    "audit": {"name": "acme-audit", "port": "3"},
                },
            },
            "covered": {"default": "memory:"},
            "bare": {},
        },
    }


def test_a_subscription_lives_where_its_topic_does(topic_tree):
    profile = Config.from_dict(topic_tree).profile("here")
    mailer, audit = profile.subscriptions("events")
    assert (mailer.url.path, mailer.physical, mailer.create) == ("acme-events", "mailer", True)
    assert (mailer.options, mailer.shared_options) == ({}, {"region": "eu"})
    assert (audit.physical, audit.options, audit.create) == ("acme-audit", {"port": "3"}, True)
    assert acme_options(audit).region == "eu"
    assert acme_options(audit).port == 3
    covered = Config.from_dict(topic_tree).profile("covered").bound("mailer", "subscription")
    assert (covered.url.scheme, covered.physical) == ("memory", "mailer")
    with pytest.raises(ConfigError, match="does not bind 'events'"):
        Config.from_dict(topic_tree).profile("bare").bound("mailer", "subscription")


def test_a_declared_resource_is_not_taken_for_another(topic_tree):
    profile = Config.from_dict(topic_tree).profile("here")
    assert profile.bound("mailer", "subscription", {"topic": "events"}).resource == "mailer"
    with pytest.raises(ConfigError, match="the config says otherwise than topic='other'"):
        profile.bound("mailer", "subscription", {"topic": "other"})
    with pytest.raises(ConfigError, match=r"'mailer' is a subscription, not a queue; use cloud.subscription\('mailer'"):
        profile.bound("mailer", "queue")
    with pytest.raises(ConfigError, match="no subscription 'mailr' is declared; did you mean mailer"):
        profile.bound("mailr", "subscription")
    with pytest.raises(ConfigError, match="no cache 'event' is declared; did you mean events"):
        profile.bound("event", "cache")


def test_options_are_read_as_the_driver_wants_them(here):
    found = bound("acme://h/x?port=8&tls=false&wait=2m&part=5MiB&ca=certs/ca.pem&brokers=a,%20b,&level=high")
    options = acme_options(found)
    assert (options.port, options.tls, options.wait, options.part) == (8, False, 120, 5 * 1024**2)
    assert (options.ca, options.brokers, options.level) == (here / "certs" / "ca.pem", ("a", "b"), "high")
    assert acme_options(bound({"url": "acme://h/x?port=8", "port": 9})).port == 9


@pytest.mark.parametrize(
    ("binding", "said"),
    [
        ("acme://h/x?regoin=eu", "bind.jobs.regoin: acme: queues have no option 'regoin'; did you mean region?"),
        ("acme://h/x?port=a", "bind.jobs.port: an option of acme: queues does not fit: expected `int`, got `str`"),
        ("acme://h/x?port=0", "bind.jobs.port: an option of acme: queues does not fit: expected `int` >= 1"),
        ("acme://h/x?level=mid", "bind.jobs.level: an option of acme: queues does not fit: invalid enum value 'mid'"),
        ("acme://h/x?wait=soon", "bind.jobs.wait: an option of acme: queues does not fit: 'soon' is not a duration"),
        ({"url": "acme://h/x", "brokers": ["a", 3]}, "bind.jobs.brokers: an option of acme: queues does not fit"),
        ({"url": "acme://h/x", "ca": 3}, "bind.jobs.ca: an option of acme: queues does not fit"),
        ("acme-token://h/x", "an option of acme-token: queues does not fit: object missing required field `token`"),
    ],
)
def test_options_that_do_not_fit_are_named(binding, said):
    with pytest.raises(ConfigError) as caught:
        acme_options(bound(binding))
    assert said in str(caught.value)
    assert str(caught.value).startswith("jobs: ")


def test_needs_are_checked_against_the_driver():
    tree = {
        "resources": {"jobs": {"kind": "queue", "needs": ["delay", "peek", "dedup"]}},
        "profiles": {"here": {"bind": {"jobs": "acme://h/x"}}},
    }
    profile = Config.from_dict(tree).profile("here")
    found = profile.bound("jobs", "queue")
    profile.check_needs(found, QueueCapabilities(delay=True, peek=True, dedup=True))
    with pytest.raises(
        ConfigError, match=r"profile 'here' binds 'jobs' to acme:, which lacks what it needs: peek, dedup$"
    ):
        profile.check_needs(found, QueueCapabilities(delay=True))
    alone = Profile.single("queue", "memory:", {"ordered": True})
    with pytest.raises(ConfigError, match=r"open_queue: needs: .* lacks what it needs: ordered"):
        alone.check_needs(alone.bound("queue", "queue"), QueueCapabilities())


def test_names_that_a_service_refuses_fail_before_the_network():
    with pytest.raises(ConfigError, match=r"profiles.here.bind.jobs: .*SQS") as caught:
        bound({"url": "sqs://x", "name": "no spaces"})
    assert isinstance(caught.value.__cause__, LimitExceeded)
    with pytest.raises(ConfigError, match="SQS"):
        bound({"url": "memory:", "name": "no spaces"}, guard={"limits": ["aws"]})


def test_services_are_found_by_their_binding_folder(here, monkeypatch):
    with pytest.raises(ConfigError, match=r"the service 'orders' is not installed: \$SERVICE_BINDING_ROOT is not set"):
        bound("service:orders", "database")
    root = here / "bindings"
    (root / "orders").mkdir(parents=True)
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(root))
    with pytest.raises(ConfigError, match="holds no uri file for it"):
        bound("service:orders", "database")
    (root / "orders" / "uri").write_text("acme://db:77/main?region=eu\n")
    (root / "orders" / "username").write_text("app")
    (root / "orders" / "password").write_text("hunter2\n")
    found = bound("service:orders?port=3", "database")
    assert (found.url.username, found.url.password, found.url.port) == ("app", "hunter2", 77)
    assert (found.options, found.physical, found.create) == ({"region": "eu", "port": "3"}, "jobs", True)
    assert "hunter2" not in repr(found)
    (root / "orders" / "uri").write_text("acme://other:pw@db/main")
    assert bound("service:orders", "database").url.username == "other"
    assert bound({"url": "service:orders", "name": "main"}, "database").physical == "main"
    for uri, said in (
        ("service:orders", "names a service in turn"),
        ("hunter2", "the uri of the service 'orders': not"),
    ):
        (root / "orders" / "uri").write_text(uri)
        with pytest.raises(ConfigError, match=said) as caught:
            bound("service:orders", "database")
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("url", ["service://orders", "service:", "service:../orders", "service:.", "service:a/b"])
def test_service_names_stay_in_their_folder(url, monkeypatch, here):
    monkeypatch.setenv("SERVICE_BINDING_ROOT", str(here))
    with pytest.raises(ConfigError, match="a service binding is written service:NAME"):
        bound(url)
