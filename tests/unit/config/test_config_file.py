"""Where the config file is looked for, what is refused in it, and how a profile is chosen."""

import logging
from datetime import timedelta
from typing import Any

import pytest

import portable
from portable.config import Config, Profile
from portable.contracts import CONTRACTS
from portable.errors import ConfigError
from portable.quantities import Duration, Size

FULL = """\
default_profile = "local"

[resources.photos]
kind = "bucket"

[resources.jobs]
kind = "queue"
needs = ["delay"]
visibility_timeout = "45s"
max_deliveries = 7

[resources.events]
kind = "topic"

[resources.mailer]
kind = "subscription"
topic = "events"
filter = { type = "order.paid" }
ordered = true

[resources.users]
kind = "collection"
indexes = ["email", ["status", "-created"]]

[resources.main]
kind = "database"

[profiles.local]
default = "sqlite:.portable/app.db"
guard = { limits = ["aws"], needs = "strict" }
[profiles.local.bind]
photos = "file:objects"

[profiles.acme]
extends = "local"
create = "never"
[profiles.acme.bind]
jobs = { url = "acme://acme-jobs", region = "eu" }
"""


def refused(text: str, write: Any) -> str:
    path = write(text)
    with pytest.raises(ConfigError) as caught:
        Config.load(path)
    return str(caught.value)


def test_the_nearest_file_upwards_is_found(write, here, monkeypatch):
    path = write(FULL)
    below = here / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)
    config = Config.load()
    assert config.path == path
    assert config.default_profile == "local"
    assert config.profile().bound("photos", "bucket").url.path == str(here / "objects")


def test_the_environment_names_another_file(write, monkeypatch):
    write(FULL)
    other = write(FULL.replace('"local"\n', '"acme"\n', 1), "other/app.toml")
    monkeypatch.setenv("PORTABLE_CONFIG", str(other))
    assert Config.load().default_profile == "acme"
    monkeypatch.setenv("PORTABLE_CONFIG", "nowhere.toml")
    with pytest.raises(ConfigError, match=r"\$PORTABLE_CONFIG 'nowhere.toml' cannot be read: No such file"):
        Config.load()


def test_what_cannot_be_read_is_a_config_error(here, write):
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        Config.load(here)
    (here / "bad.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(ConfigError, match=r"not UTF-8 text \(at byte 5\)"):
        Config.load("bad.toml")
    with pytest.raises(ConfigError, match="no path"):
        Config.load("a\0b")
    assert "not TOML: " in refused("[resources", write)
    assert "line 2" in refused("a = 'a'\nx = = 1\n", write)
    assert "too long" in refused("x = " + "1" * 5000, write)
    assert "too deep" in refused("x = " + "[" * 5000, write)


def test_a_file_of_windows_is_read(here):
    (here / "portable.toml").write_bytes(b"\xef\xbb\xbf" + FULL.replace("\n", "\r\n").encode())
    assert Config.load().default_profile == "local"


def test_contracts_are_read():
    tree = {
        "resources": {
            "clicks": {"kind": "stream", "retention": "2h", "partitions": 2, "checkpoint": "users"},
            "users": {"kind": "collection", "timeout": 5, "retries": 0},
        }
    }
    config = Config.from_dict(tree)
    clicks: Any = config.tables.resources["clicks"].contract
    assert (clicks.retention, clicks.partitions, clicks.timeout) == (7200, 2, 60)
    assert config.tables.resources["users"].contract.timeout == Duration(5)


def test_ordered_implies_the_need(write):
    write(FULL)
    assert Config.load().tables.resources["mailer"].contract.needs == ("ordered",)
    contract = Profile.single("queue", "memory:", {"ordered": True, "needs": ["delay"]}).contract("queue", "queue")
    assert contract.needs == ("delay", "ordered")


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("default_profil", "default_profile", ":1: default_profil: unknown key; did you mean default_profile?"),
        ('default_profile = "locl"', 'default_profile = "local"', "there is no profile 'locl'; did you mean local?"),
        ("visibilty_timeout", "visibility_timeout", ":9: resources.jobs.visibilty_timeout: unknown key; did you mean"),
        ('kind = "bukcet"', 'kind = "bucket"', ":4: resources.photos.kind: there is no kind 'bukcet'; did you mean b"),
        ('knd = "bucket"', 'kind = "bucket"', ":3: resources.photos: the resource has no kind: is kind written as knd"),
        ('["dely"]', '["delay"]', ":8: resources.jobs.needs: there is no capability of a queue 'dely'; did you mean d"),
        ('"45 sec"', '"45s"', ":9: resources.jobs.visibility_timeout: '45 sec' is not a duration; write it as 250ms"),
        ("max_deliveries = 0", "max_deliveries = 7", ":10: resources.jobs.max_deliveries: expected `int` >= 1"),
        ('"0s"', '"45s"', "visibility_timeout: must be more than 0"),
        ('topic = "event"', 'topic = "events"', ":17: resources.mailer.topic: there is no topic 'event'; did you mean"),
        ('topic = "jobs"', 'topic = "events"', "resources.mailer.topic: 'jobs' is a queue, where a topic is needed"),
        ('opic = "events"', 'topic = "events"', "resources.mailer.opic: unknown key; did you mean topic?"),
        ("[resources.Photos]", "[resources.photos]", "'Photos' is no resource name; a name has 3 to 40 characters"),
        ("[resources.a-]", "[resources.photos]", "resources.a-: 'a-' is no resource name"),
        ("phtos =", "photos =", ":32: profiles.local.bind.phtos: there is no resource 'phtos'; did you mean photos?"),
        ("defualt =", "default =", ":29: profiles.local.defualt: unknown key; did you mean default?"),
        ('"stric"', '"strict"', ':30: profiles.local.guard.needs: needs is "strict"'),
        ("limts =", "limits =", "profiles.local.guard.limts: unknown key; did you mean limits?"),
        ('["awz"]', '["aws"]', ":30: profiles.local.guard.limits: 'awz' is neither"),
        ('"aws"]', '["aws"]', "not TOML"),
        ('limits = "aws"', 'limits = ["aws"]', "limits is a list of clouds or services"),
        ('"nevr"', '"never"', ':36: profiles.acme.create: create is "if_missing" or "never"'),
        ('extends = "locl"', 'extends = "local"', "profiles.acme.extends: there is no profile 'locl'; did you mean l"),
        ('extends = "acme"', 'extends = "local"', "profiles extend each other in a circle: acme → acme"),
        ('ulr = "acme://acme-jobs"', 'url = "acme://acme-jobs"', "the binding has no url: is url written as ulr?"),
        ("url = 3", 'url = "acme://acme-jobs"', "profiles.acme.bind.jobs.url: a string is needed here"),
        ("photos = 3", 'photos = "file:objects"', "a binding is a URL, or a table such as"),
        ("[profiles.'a b']", "[profiles.acme]", "not a profile name"),
        ("filter = { type = 3 }", 'filter = { type = "order.paid" }', "resources.mailer.filter: expected `str`, got"),
    ],
)
def test_a_mistake_is_named_with_file_line_path_and_nearest_spelling(wrong, right, said, write):
    assert right in FULL
    assert said in refused(FULL.replace(right, wrong, 1), write)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"resources": 3}, "resources: a table is needed here"),
        ({"resources": {"abc": 3}}, "resources.abc: a table is needed here"),
        ({"resources": {"abc": {}}}, "the resource has no kind; it can be bucket, cache, collection, database"),
        ({"resources": {"abc": {"kind": 3}}}, "resources.abc.kind: a string is needed here"),
        ({"resources": {"abc": {"kind": "subscription"}}}, "a subscription names the topic that feeds it"),
        ({"resources": {"abc": {"kind": "queue", "dead_letter": "abc"}}}, "its own dead-letter queue"),
        ({"resources": {"abc": {"kind": "queue", "dead_letter": "abd"}}}, "there is no queue 'abd'; did you mean abc?"),
        ({"resources": {"abc": {"kind": "queue", "offload": "abc"}}}, "'abc' is a queue, where a bucket is needed"),
        ({"resources": {"abc": {"kind": "stream", "partitions": 0}}}, "resources.abc.partitions: expected `int` >= 1"),
        ({"resources": {'a"b.c': {"kind": "queue"}}}, r'resources."a\"b.c": '),
        ({"resources": {"a" * 41: {"kind": "queue"}}}, "is no resource name"),
        ({"default_profile": ""}, "default_profile: a string is needed here"),
        ({"profiles": {"a": {"default": {"url": "memory:", "name": "x"}}}}, "profiles.a.default.name: a default has"),
        ({"profiles": {"a": {"default": {"url": "memory:", "create": True}}}}, "profiles.a.default.create: create is"),
        ({"profiles": {"a": {"extends": "b"}, "b": {"extends": "a"}}}, "in a circle: a → b → a"),
        ({"profiles": {"a": {"extends": 1}}}, "profiles.a.extends: a string is needed here"),
    ],
)
def test_wrong_trees_are_refused(table, said):
    with pytest.raises(ConfigError) as caught:
        Config.from_dict(table)
    assert said in str(caught.value)


def test_longest_names_are_taken():
    name = "a" * 40
    assert Config.from_dict({"resources": {name: {"kind": "queue"}}}).tables.resources[name].kind == "queue"


def test_profiles_inherit_binding_by_binding(write):
    write(FULL)
    acme = Config.load().profile("acme")
    assert acme.bound("photos", "bucket").url.scheme == "file"
    jobs = acme.bound("jobs", "queue")
    assert (jobs.url.host, jobs.physical, jobs.options, jobs.create) == (
        "acme-jobs",
        "acme-jobs",
        {"region": "eu"},
        False,
    )
    assert jobs.strict
    assert jobs.limits == ("aws",)
    assert not acme.bound("events", "topic").create
    assert Config.load().profile("local").bound("jobs", "queue").create


def test_the_profile_is_chosen_by_argument_environment_and_file(write, monkeypatch):
    write(FULL)
    assert Profile.load().name == "local"
    monkeypatch.setenv("PORTABLE_DEFAULT_PROFILE", "acme")
    assert Profile.load().name == "acme"
    monkeypatch.setenv("PORTABLE_PROFILE", "local")
    assert Profile.load().name == "local"
    assert Profile.load(profile="acme").name == "acme"
    assert Profile.load(Config.load(), profile="acme").name == "acme"
    monkeypatch.setenv("PORTABLE_PROFILE", "lokal")
    with pytest.raises(
        ConfigError, match=r"portable.toml: profiles: \$PORTABLE_PROFILE: .* 'lokal'; did you mean local"
    ):
        Profile.load()


def test_no_profile_chosen_is_an_error():
    config = Config.from_dict({"profiles": {"one": {}, "two": {}}})
    with pytest.raises(ConfigError, match=r"nothing says which profile.*it can be one, two"):
        config.profile()
    with pytest.raises(ConfigError, match="has none"):
        Config.from_dict({}).profile()


def test_without_a_config_everything_is_embedded(here, caplog):
    with caplog.at_level(logging.INFO, "portable"):
        profile: Any = Profile.load()
        Profile.load()
    assert [record.message for record in caplog.records] == [
        f"no portable.toml was found: everything is kept under {here}/.portable; `portable init` writes a config"
    ]
    users = profile.bound("users", "collection")
    assert users.contract.allow_scan
    assert users.contract.key == "id"
    assert users.url.path == str(here / ".portable" / "app.db")
    assert users.options == {"durability": "process"}
    photos = profile.bound("photos", "bucket")
    assert (photos.url.scheme, photos.url.path) == ("file", str(here / ".portable" / "photos"))
    assert (photos.options, photos.shared_options) == ({}, {"durability": "process"})
    assert profile.bound("main", "database").url.path == str(here / ".portable" / "main.db")
    assert profile.bound("mailer", "subscription", {"topic": "events"}).contract.topic == "events"
    assert profile.declared() == {}
    with pytest.raises(ConfigError, match="name its topic"):
        profile.bound("mailer", "subscription")
    with pytest.raises(ConfigError, match="no resource name"):
        profile.bound("No", "queue")
    assert Config.load().check_all() == []
    assert Config.load().profiles == []


@pytest.mark.parametrize(
    "variable",
    ["PORTABLE_PROFILE", "PORTABLE_DEFAULT_PROFILE", "PORTABLE_PROFILES__AWS__BIND__X", "PORTABLE_RESOURCES__X__KIND"],
)
def test_a_lost_config_is_an_error_where_the_environment_speaks_of_one(variable, monkeypatch):
    monkeypatch.setenv(variable, "aws")
    with pytest.raises(ConfigError, match=rf"\${variable} is set, but there is no portable.toml in"):
        Profile.load()


def test_a_profile_of_no_config_is_an_error():
    with pytest.raises(ConfigError, match=r"the profile 'aws' is asked for, but there is no portable.toml"):
        Profile.load(profile="aws")


def test_every_kind_has_a_contract_that_reads_from_nothing():
    for kind in CONTRACTS:
        tree = {"resources": {"abc": {"kind": kind, **({"topic": "abd"} if kind == "subscription" else {})}}}
        tree["resources"]["abd"] = {"kind": "topic"}
        assert Config.from_dict(tree).tables.resources["abc"].kind == kind


@pytest.mark.parametrize("text", ["-1s", "1", "1 week", "1e3s", "s", "", "9" * 400 + "s", "٣s"])
def test_bad_durations_are_refused(text):
    with pytest.raises(ValueError, match="not a duration"):
        Duration.parse(text)


@pytest.mark.parametrize("value", [-1, True, float("inf"), float("nan"), 10**400, None, timedelta(1)])
def test_bad_numbers_of_seconds_are_refused(value):
    with pytest.raises(ValueError, match="not a duration"):
        Duration.parse(value)


@pytest.mark.parametrize("value", [-1, True, 1.5, 10**400, "9" * 400 + "TiB", "1MB", "1", None])
def test_bad_sizes_are_refused(value):
    with pytest.raises(ValueError, match="not a size"):
        Size.parse(value)


def test_quantities_are_read():
    assert [Duration.parse(text) for text in ("250ms", "30s", "5m", "2h", "7d", "1.5 s", 3)] == [
        0.25,
        30,
        300,
        7200,
        604800,
        1.5,
        3,
    ]
    assert [Size.parse(text) for text in ("512B", "64KiB", "5MiB", "1.5GiB", 7)] == [512, 65536, 5242880, 1610612736, 7]


def test_what_is_no_config_profile_or_name_is_refused(here):
    wrong: Any = 5
    with pytest.raises(ConfigError, match=r"a config is a path or a portable\.Config, not int"):
        portable.connect(wrong)
    with pytest.raises(ConfigError, match="the name of a profile is a string, not int"):
        portable.connect(profile=wrong)
    with portable.connect() as cloud, pytest.raises(ConfigError, match="5 is no resource name"):
        cloud.queue(wrong)
