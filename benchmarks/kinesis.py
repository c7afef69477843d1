"""Kinesis on Kinesalite, against boto3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import portable
from benchmarks import vendor
from benchmarks.sampling import Figure, Plan
from benchmarks.servers import serving

__all__ = ["measure"]

KEY = "key1"


def measure(plan: Plan, folder: Path) -> Iterator[Figure]:
    """Measure all of it on one server."""
    with (
        serving("kinesalite", folder) as url,
        portable.open_stream(url, name="events", partitions=1, create="if_missing") as ours,
    ):
        ours.append(vendor.BODY)
        client = vendor.boto("kinesis", url)
        calls = {
            "append": (
                lambda: ours.append(vendor.BODY, key=KEY),
                lambda: client.put_record(StreamName="events", Data=vendor.BODY, PartitionKey=KEY),
            )
        }
        yield from vendor.side_by_side(plan, "kinesis", "boto3", calls)
        yield from vendor.together(
            plan,
            "kinesis: append 1,000",
            lambda count: ours.append_many([vendor.BODY] * count),
            lambda: ours.append(vendor.BODY),
        )
