"""The archive on servers and emulators of the service repository: the same result wherever the resources are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.targets import PROJECT, target

ARCHIVE = Path(__file__).parents[2] / "examples" / "archive"
# All of these read one folder, and compare with one archive of it.
pytestmark = [pytest.mark.xdist_group("profiles"), pytest.mark.timeout(600)]

BOUND = {
    "selfhosted": ["seaweedfs", "rabbitmq", "kafka", "postgres", "valkey"],
    "mixed": ["nats", "mariadb", "redis", "memcached"],
    "aws": ["ministack", "valkey", "postgres"],
    "gcp": ["fake-gcs-server", "pubsub-emulator", "firestore-emulator", "kafka", "valkey", "postgres"],
    "azure": ["azurite", "cosmosdb-server", "event-hubs", "valkey", "postgres"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("files")
    (made / "ünïcödé").mkdir()
    (made / "ünïcödé" / "naïve — file.TXT").write_text("Größe größe ΣΊΣΥΦΟΣ\n", encoding="utf-8")
    (made / "empty.py").touch()
    (made / "image.bin").write_bytes(b"\0\1\2words")
    (made / "large.txt").write_bytes(b"sisyphus rolls the stone\n" * 60_000)
    for number in range(60):
        (made / f"module_{number}.py").write_text(f"import threading\nlock{'x' * (number % 7)} = 'stone'\n" * 20)
    return made


@pytest.fixture(scope="module")
def expected(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    return archived("local", folder, tmp_path_factory.mktemp("local"))


def archived(profile: str, folder: Path, keep: Path) -> str:
    """Archive a folder, and give the hash of what was found out of its files."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PORTABLE_")}
    environment["SERVICE_BINDING_ROOT"] = str(Path(os.environ[PROJECT]) / ".portable" / "services" / "bindings")
    command = [sys.executable, str(ARCHIVE / "run.py"), str(folder), "--keep", str(keep), "--profile", profile]
    done = subprocess.run(
        [*command, "--workers", "2"],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every file arrived exactly once" in done.stdout
    assert "killed worker-" in done.stdout
    (result,) = re.findall(r"result ([0-9a-f]{16}),", done.stdout)
    return str(result)


@pytest.mark.parametrize("profile", BOUND)
def test_the_result_is_the_same_on_servers(profile: str, folder: Path, expected: str, tmp_path: Path) -> None:
    for name in BOUND[profile]:
        target(name)
    assert archived(profile, folder, tmp_path) == expected


def test_every_profile_of_servers_is_run() -> None:
    text = (ARCHIVE / "portable.toml").read_text(encoding="utf-8")
    profiles = set(re.findall(r"^\[profiles\.([a-z]+)\]", text, re.MULTILINE))
    assert profiles == {"local", *BOUND}
    for profile, names in BOUND.items():
        (bound,) = re.findall(rf"\[profiles\.{profile}\.bind\]\n((?:.+\n)+)", text)
        assert set(re.findall(r'"service:([a-z-]+)"', bound)) == set(names)
