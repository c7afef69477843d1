"""`python -m benchmarks`: measure, print a table, and write JSON and a plot.

Examples:
    python -m benchmarks                     everything, in less than ten minutes
    python -m benchmarks --only queue        one group
    python -m benchmarks --check             also compare with targets.toml, and fail naming each one missed
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import report
from benchmarks.sampling import Figure, Plan

GROUPS = {
    "import": "benchmarks.imports",
    "queue": "benchmarks.queue",
    "cache": "benchmarks.cache",
    "bucket": "benchmarks.bucket",
    "collection": "benchmarks.collection",
    "layer": "benchmarks.layer",
    "scale": "benchmarks.scale",
    "redis": "benchmarks.redis",
    "kafka": "benchmarks.kafka",
    "s3": "benchmarks.s3",
    "az": "benchmarks.az",
    "gs": "benchmarks.gs",
    "sqs": "benchmarks.sqs",
    "kinesis": "benchmarks.kinesis",
    "dynamodb": "benchmarks.dynamodb",
    "pubsub": "benchmarks.pubsub",
    "firestore": "benchmarks.firestore",
    "azqueue": "benchmarks.azqueue",
    "cosmos": "benchmarks.cosmos",
    "nats": "benchmarks.nats",
    "rabbitmq": "benchmarks.rabbitmq",
    "sql-collection": "benchmarks.sql_collection",
    "sql-queue": "benchmarks.sql_queue",
}


def main() -> int:
    """Measure what the command line asks for; gives the exit code."""
    arguments = _arguments()
    plan = Plan(quick=arguments.quick)
    targets = report.Targets()
    chosen = arguments.only or list(GROUPS)
    begun = time.monotonic()
    figures: list[Figure] = []
    print(f"{'figure':<58} {'value':>15} {'ours':>9}  {'theirs':>9}  target", flush=True)
    for name in chosen:
        with tempfile.TemporaryDirectory(prefix="portable-bench-", dir=arguments.folder) as folder:
            for figure in importlib.import_module(GROUPS[name]).measure(plan, Path(folder)):
                figures.append(figure)
                print(report.line(figure, targets), flush=True)
    seconds = time.monotonic() - begun
    report.write(figures, targets, arguments.output / "report.json", quick=plan.quick, seconds=seconds)
    report.plot(figures, targets, arguments.output / "report.svg")
    print(f"{len(figures)} figures in {seconds:.0f} s; see {arguments.output}")
    if not arguments.check:
        return 0
    failed = report.missed(figures, targets, chosen)
    for one in failed:
        print(f"missed: {one}", file=sys.stderr)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="fail where a target is missed, or was not measured")
    parser.add_argument("--only", action="append", choices=GROUPS, metavar="GROUP", help=f"one of {', '.join(GROUPS)}")
    parser.add_argument("--quick", action="store_true", help="prove that it works; the numbers mean little")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).with_name("results"), help="where the report goes"
    )
    parser.add_argument("--folder", type=Path, help="where to measure; the system's temporary folder when left out")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
