"""The benchmarks run, and their report says whether the targets hold."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.__main__ import GROUPS
from benchmarks.sampling import Contender, Figure, Samples, compare, interleave

ROOT = Path(__file__).parents[2]
PEERS = {
    "import": ["boto3", "click"],
    "queue": ["litequeue", "persistqueue", "huey", "kombu"],
    "cache": ["cachetools", "diskcache"],
    "bucket": [],
    "collection": ["sqlalchemy", "tinydb"],
    "layer": [],
    "scale": [],
    "redis": ["redis", "rq", "kombu"],
    "nats": ["nats"],
    "sql-collection": ["psycopg", "pymysql", "sqlalchemy"],
    "sql-queue": ["psycopg", "procrastinate"],
    "kafka": ["confluent_kafka"],
    "rabbitmq": ["pika"],
    "s3": ["boto3", "obstore"],
    "az": ["azure.storage.blob", "obstore"],
    "gs": ["google.cloud.storage", "obstore"],
    "sqs": ["boto3"],
    "kinesis": ["boto3"],
    "dynamodb": ["boto3"],
    "pubsub": ["google.cloud.pubsub_v1"],
    "firestore": ["google.cloud.firestore"],
    "azqueue": ["azure.storage.queue"],
    "cosmos": ["azure.cosmos"],
}
# Servers that take long to start, or much to measure.
SLOW = {
    "az",
    "azqueue",
    "cosmos",
    "dynamodb",
    "firestore",
    "gs",
    "kafka",
    "kinesis",
    "pubsub",
    "rabbitmq",
    "s3",
    "sql-queue",
    "sqs",
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "group", [pytest.param(group, marks=[pytest.mark.thorough] * (group in SLOW)) for group in GROUPS]
)
def test_a_group_measures_each_figure_that_has_a_target(group: str, tmp_path: Path) -> None:
    missing = [name for name in PEERS[group] if importlib.util.find_spec(name) is None]
    if missing and os.environ.get("PORTABLE_TEST_REQUIRE") != "all":
        pytest.skip(f"not installed: {', '.join(missing)}; pip install -r benchmarks/requirements.txt")
    command = ["-m", "benchmarks", "--quick", "--only", group, "--output", str(tmp_path), "--folder", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, *command], check=False, cwd=ROOT, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert found["quick"]
    values = {figure["name"]: figure["value"] for figure in found["figures"]}
    # A difference may come out below 0 in a run as short as this.
    assert all(math.isfinite(value) for value in values.values())
    # A quick run has smaller objects, and says so in their names.
    wanted = {name.replace("1024 MiB", "16 MiB") for name in report.Targets().names([group])}
    assert wanted, "a group without a target measures nothing"
    assert wanted <= set(values)
    for name in values:
        assert name in done.stdout


def test_each_target_belongs_to_a_group() -> None:
    targets = tomllib.loads((ROOT / "benchmarks" / "targets.toml").read_text(encoding="utf-8"))
    assert set(report.Targets().names(GROUPS)) == set(targets)


def test_what_is_missed_is_named_with_figure_and_target() -> None:
    targets = report.Targets()
    figures = [Figure("import / boto3", 0.5), Figure("import command / import click", 1.5)]
    assert report.missed(figures, targets, ["import"]) == [
        "import / boto3: 0.5 times theirs, and the target is ≤ 0.334",
        "import: foreign modules: not measured",
    ]


def test_contenders_take_turns_and_the_ratio_is_that_within_a_round() -> None:
    turns: list[str] = []
    contenders = {
        name: Contender(lambda calls, name=name: turns.extend([name] * calls), calls=2)  # type: ignore[misc]  # a default binds it
        for name in ("portable", "peer")
    }
    samples = interleave(contenders, rounds=2, seconds=1.0)
    assert turns == ["peer", "peer", "portable", "portable", "portable", "portable", "peer", "peer"]
    assert [len(samples.wall[name]) for name in contenders] == [2, 2]
    measured = Samples({"portable": [1.0, 2.0, 9.0], "peer": [2.0, 4.0, 3.0]}, {"portable": [], "peer": []})
    (figure,) = compare(measured, "what")
    assert (figure.name, figure.value, figure.ours, figure.theirs) == ("what / peer", 0.5, 2.0, 3.0)
