"""init, config, resources and doctor."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.conftest import Command


def test_init_writes_a_config_that_passes_its_check(command: Command, folder: Path) -> None:
    result = command("init")
    assert (result.code, result.stderr) == (0, "")
    text = (folder / "portable.toml").read_text()
    assert 'guard = { limits = ["aws", "gcp", "azure"], needs = "strict" }' in text
    checked = command("config", "check", "--all-profiles", "--json")
    assert checked.code == 0, checked.stdout
    assert checked.lines == [{"profiles": ["local"], "problems": []}]


def test_init_overwrites_only_when_told(command: Command, folder: Path) -> None:
    (folder / "portable.toml").write_text("# mine\n")
    result = command("init")
    assert result.code == 1
    assert "--force" in result.stderr
    assert (folder / "portable.toml").read_text() == "# mine\n"
    assert command("init", "--force").code == 0
    assert "default_profile" in (folder / "portable.toml").read_text()


def test_init_writes_where_config_says(command: Command, folder: Path) -> None:
    assert command("init", "--config", "other.toml", "--json").lines == [{"path": "other.toml"}]
    assert (folder / "other.toml").exists()


def test_what_init_cannot_write_is_told_in_one_line(command: Command) -> None:
    result = command("init", "--config", "missing/portable.toml")
    assert result.code == 1
    assert result.stderr == "error: missing/portable.toml: No such file or directory\n"


def test_schema_is_a_json_schema(command: Command) -> None:
    (schema,) = command("config", "schema").lines
    assert schema["type"] == "object"
    assert {"default_profile", "resources", "profiles"} <= set(schema["properties"])


def test_explain_shows_values_and_hides_secrets(command: Command, configured: Path) -> None:
    configured.write_text(
        configured.read_text()
        + '\n[profiles.far.bind]\nmain = "postgresql://app:hunter2@db/main"\n'
        + 'photos = { url = "file:p", secret = "hunter3" }\n'
    )
    (values,) = command("config", "explain", "--profile", "far", "--json").lines
    found = {one["path"]: one for one in values}
    assert found["resources.jobs.max_deliveries"]["value"] == 3
    assert "portable.toml:" in found["resources.jobs.max_deliveries"]["origin"]
    assert found["profiles.far.bind.main"]["value"] == "postgresql://app:***@db/main"
    for result in (command("config", "explain", "--profile", "far"), command("config", "check", "--profile", "far")):
        assert "hunter" not in result.text + result.stderr
    assert command("config", "explain").text.startswith("path ")


def test_check_names_each_problem_and_exits_with_3(command: Command, configured: Path) -> None:
    configured.write_text(
        configured.read_text() + '\n[profiles.bad]\ndefault = "sqlite:x.db"\n[profiles.bad.bind]\njobs = "sqlit:x"\n'
    )
    assert command("config", "check").code == 0
    result = command("config", "check", "--all-profiles")
    assert result.code == 3
    assert "error: bad: jobs: " in result.text
    assert "did you mean sqlite:?" in result.text
    (checked,) = command("config", "check", "--profile", "bad", "--json").lines
    assert [problem["resource"] for problem in checked["problems"]] == ["jobs"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[resources.jobs]\nkind = 'queu'\n", "did you mean queue?"),
        ("[resources.jobs\n", "not TOML"),
        ("[resorces.jobs]\n", "did you mean resources?"),
    ],
)
def test_a_wrong_config_is_one_line_and_exits_with_3(command: Command, configured: Path, text: str, said: str) -> None:
    configured.write_text(text)
    for arguments in (("config", "check"), ("bucket", "ls", "photos"), ("doctor",), ("resources", "plan")):
        result = command(*arguments)
        assert result.code == 3
        assert said in result.stderr
        assert result.stderr.startswith("error: ")
        assert result.stderr.count("\n") == 1


def test_a_missing_config_where_a_profile_is_asked_for(command: Command) -> None:
    result = command("bucket", "ls", "photos", "--profile", "prod", "--json")
    assert result.code == 3
    assert result.error["type"] == "ConfigError"
    assert "prod" in result.error["message"]


def test_plan_create_and_check_where_nothing_is_made_by_itself(command: Command, configured: Path) -> None:
    assert configured.exists()
    cloud = ("--profile", "cloud")
    missing = command("queue", "send", "jobs", "x", *cloud, "--json")
    assert missing.code == 4
    assert missing.error["type"] == "ResourceNotFound"
    assert "portable resources create" in missing.error["message"]
    assert command("resources", "check", *cloud).code == 1
    (planned,) = command("resources", "plan", *cloud, "--json").lines
    changed = {one["resource"] for one in planned if one["changes"]}
    assert {"jobs", "events", "mailer", "clicks", "users"} <= changed
    assert command("resources", "check", *cloud).code == 1, "a plan changes nothing"
    made = command("resources", "create", *cloud)
    assert made.code == 0, made.stderr
    assert "create" in made.text
    again = command("resources", "create", *cloud)
    assert again.text == "nothing to do: everything is as the contract asks\n"
    assert command("resources", "check", *cloud).code == 0
    assert command("queue", "send", "jobs", "x", *cloud).code == 0
    assert command("doctor", *cloud).code == 0


def test_resources_may_be_named(command: Command, configured: Path) -> None:
    assert configured.exists()
    assert command("resources", "create", "jobs", "--profile", "cloud").code == 0
    assert command("resources", "check", "jobs", "--profile", "cloud").code == 0
    assert command("resources", "check", "--profile", "cloud").code == 1
    wrong = command("resources", "plan", "job")
    assert wrong.code == 3
    assert "did you mean jobs?" in wrong.stderr


def test_doctor_reports_and_probes(command: Command, configured: Path) -> None:
    assert command("resources", "create").code == 0
    result = command("doctor", "--write")
    assert result.code == 0, result.text
    for fact in ("portable  ", "python    3.", "config    ", "profile   local", "jobs  "):
        assert fact in result.text
    (report,) = command("doctor", "--json").lines
    assert report["environment"]["config"] == str(configured)
    assert {"cli", "sql", "testing"} <= set(report["environment"]["extras"].split(", "))
    assert {one["resource"]: one["ok"] for one in report["resources"]} == dict.fromkeys(
        ["photos", "archive", "jobs", "events", "mailer", "clicks", "sessions", "users", "main"], True
    )


def test_doctor_exits_with_1_when_a_probe_fails(command: Command, configured: Path, folder: Path) -> None:
    assert configured.exists()
    assert command("resources", "create", "photos").code == 0
    folder.joinpath(".portable").mkdir(exist_ok=True)
    database = folder / ".portable" / "app.db"
    database.write_bytes(b"this is no database" * 1000)
    result = command("doctor", "--json")
    assert result.code == 1
    (report,) = result.lines
    found = {one["resource"]: one for one in report["resources"]}
    assert not found["jobs"]["ok"]
    assert found["jobs"]["error"]["message"]
    assert found["photos"]["ok"]
    assert "FAILED" in command("doctor").text
    assert database.read_bytes() == b"this is no database" * 1000


def test_doctor_without_a_config(command: Command) -> None:
    result = command("doctor")
    assert result.code == 0
    assert "the embedded default" in result.text
    assert "portable init" in result.text


def test_what_was_made_is_there(command: Command, configured: Path, folder: Path) -> None:
    assert configured.exists()
    assert command("resources", "create").code == 0
    with sqlite3.connect(folder / ".portable" / "app.db") as connection:
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] > 0
    connection.close()
    assert json.loads(command("resources", "plan", "--json").text)[0]["resource"] == "photos"
