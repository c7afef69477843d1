"""`portable stream`: append to a stream, and follow it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from portable.cli.invocation import Call, assignments, command, group, read_input

if TYPE_CHECKING:
    from portable.records import Edge, Position, Record
    from portable.stream import Stream

__all__ = ["stream"]

stream = group("stream", "Append to a stream, and follow it.")

_SHORTEST, _LONGEST = 0.1, 1.0
"""Seconds between looks at a stream that has nothing new: more and more, up to the longest."""


@command(stream, "append", example='portable stream append clicks \'{"page": "/"}\' --key visitor-7')
@click.argument("name")
@click.argument("data")
@click.option("--key", help="Records of one key go to one partition, in order.")
@assignments("--attribute", "-a", "attributes", help="An attribute of the record; may be repeated.")
def append(call: Call, name: str, data: str, key: str | None, attributes: dict[str, str]) -> None:
    """Append DATA, or with - what stdin holds, as one record; print its position."""
    with call.cloud() as cloud:
        position = cloud.stream(name).append(read_input(data), key=key, attributes=attributes)
        call.show({"position": str(position)}, str(position))


@command(stream, "tail", example="portable stream tail clicks --start 2026-01-31T12:00:00Z --json")
@click.argument("name")
@click.option("--partition", help="One partition alone.  [default: all]")
@click.option(
    "--start",
    default="end",
    show_default=True,
    help="Where to start: start, end, an ISO time with its zone, or a position (with its partition).",
)
@click.option("--max", "count", type=click.IntRange(min=1), help="Stop after so many records.")
@click.option("--no-follow", is_flag=True, help="Stop when everything was shown, instead of waiting for more.")
def tail(call: Call, name: str, partition: str | None, start: str, count: int | None, no_follow: bool) -> None:
    """Show records as they come, until Ctrl-C; no group's place moves."""
    with call.cloud() as cloud:
        found = cloud.stream(name)
        for shown, record in enumerate(_records(found, partition, start, follow=not no_follow), 1):
            _show(call, record)
            if shown == count:
                break


def _records(stream: Stream[Any], partition: str | None, start: str, *, follow: bool) -> Iterator[Record[Any]]:
    places = _places(stream, partition, start)
    pause = _SHORTEST
    while True:
        idle = True
        for name, after in places.items():
            for record in stream.read(name, after=after):
                idle = False
                places[name] = record.position
                yield record
        if idle:
            sys.stdout.flush()
            if not follow:
                return
            time.sleep(pause)
        pause = min(pause * 2, _LONGEST) if idle else _SHORTEST


def _places(stream: Stream[Any], partition: str | None, start: str) -> dict[str, Edge | Position | datetime]:
    """Find where to start in each partition."""
    from portable.errors import NotFound
    from portable.records import START, Position

    names = stream.partitions()
    if partition is not None:
        if partition not in names:
            raise NotFound(f"no partition {partition!r}; there are {', '.join(names)}", resource=stream.name)
        names = [partition]
    if start == "start":
        return dict.fromkeys(names, START)
    if start == "end":
        # Where the end is now: END itself moves with each record.
        return {name: stream._driver.end(name, timeout=stream._timeout) for name in names}  # noqa: SLF001 (no group's business)
    try:
        moment = datetime.fromisoformat(start)
    except ValueError:
        try:
            position = Position.parse(start)
        except ValueError:
            raise click.BadParameter(
                f"{start!r} is none of start, end, a time such as 2026-01-31T12:00:00Z, and a position",
                param_hint="--start",
            ) from None
        return {position.partition: position}
    if moment.tzinfo is None:
        raise click.BadParameter(f"{start!r} has no zone; write {start}Z for UTC", param_hint="--start")
    return dict.fromkeys(names, moment)


def _show(call: Call, record: Record[Any]) -> None:
    from portable.cli.output import printable, text_or_base64

    if call.as_json:
        call.show(
            {
                "position": str(record.position),
                "partition": record.partition,
                "key": record.key,
                **text_or_base64("data", record.data),
                "attributes": record.attributes,
                "timestamp": record.timestamp,
            }
        )
        return
    facts = [str(record.position), record.timestamp.isoformat(timespec="milliseconds")]
    if record.key is not None:
        facts.append(f"key {record.key}")
    facts += [f"{name}={value}" for name, value in record.attributes.items()]
    click.echo(printable("  ".join(facts)))
    click.echo(record.data)
