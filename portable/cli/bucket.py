"""`portable bucket`: put, get, list, copy and remove objects."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from portable.cli.invocation import Call, assignments, command, group

if TYPE_CHECKING:
    from portable.bucket import Bucket
    from portable.objects import ObjectInfo, Prefix

__all__ = ["bucket"]

bucket = group("bucket", "Look inside a bucket.")

_CHUNK = 1024 * 1024


@command(bucket, "put", example="portable bucket put photos 2024/cat.jpg cat.jpg --content-type image/jpeg")
@click.argument("name")
@click.argument("key")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=str))
@click.option("--content-type", help="The object's MIME type.")
@assignments("--metadata", "-m", "metadata", help="An entry of the object's metadata; may be repeated.")
@click.option("--if-absent", is_flag=True, help="Only where nothing is stored under the key.")
def put(
    call: Call,
    name: str,
    key: str,
    file: str,
    content_type: str | None,
    metadata: dict[str, str],
    if_absent: bool,
) -> None:
    """Store FILE, or with - what stdin holds, under KEY; print the etag."""
    from portable.cli.output import progress

    plain = content_type is None and not metadata and not if_absent
    with call.cloud() as cloud:
        found = cloud.bucket(name)
        size = Path(file).stat().st_size if Path(file).is_file() else None
        with progress(f"storing {key}", size, in_bytes=True) as report:
            if plain and size is not None:
                # In parallel parts, and again after an interruption with those that are there.
                stored = found.upload(file, key, progress=lambda done, _total: report(done))
            else:
                with click.open_file(file, "rb") as source:
                    chunks = _read(source, report)
                    stored = found.put(key, chunks, content_type=content_type, metadata=metadata, if_absent=if_absent)
        call.show(_structure(stored), stored.etag)


@command(bucket, "get", example="portable bucket get photos 2024/cat.jpg cat.jpg")
@click.argument("name")
@click.argument("key")
@click.argument("file", required=False, default="-")
def get(call: Call, name: str, key: str, file: str) -> None:
    """Write the object under KEY to FILE, whole or not at all, or to stdout as it is."""
    from portable.cli.output import progress

    with call.cloud() as cloud:
        found = cloud.bucket(name)
        if file == "-":
            _write_out(found, key)
            return
        size = found.head(key).size
        with progress(f"fetching {key}", size, in_bytes=True) as report:
            info = found.download(key, file, progress=lambda done, _total: report(done))
        call.show(_structure(info))


@command(bucket, "cat", example="portable bucket cat logs 2024/01/31.log | grep error")
@click.argument("name")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def cat(call: Call, name: str, keys: tuple[str, ...]) -> None:
    """Write objects to stdout as they are, one after the other."""
    with call.cloud() as cloud:
        found = cloud.bucket(name)
        for key in keys:
            _write_out(found, key)


@command(bucket, "rm", example="portable bucket rm photos 2024/cat.jpg 2024/dog.jpg")
@click.argument("name")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def rm(call: Call, name: str, keys: tuple[str, ...]) -> None:
    """Remove objects; one that is not there is no error."""
    with call.cloud() as cloud:
        cloud.bucket(name).delete_many(keys)
    call.show({"removed": list(keys)})


@command(bucket, "ls", example="portable bucket ls photos 2024/ --long")
@click.argument("name")
@click.argument("prefix", default="")
@click.option("--long", "-l", "is_long", is_flag=True, help="Show size, time and etag too.")
@click.option("--delimiter", "-d", help="Group keys that go on after it, as / does for folders.")
@click.option("--start-after", help="List what comes after this key.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
def ls(
    call: Call,
    name: str,
    prefix: str,
    is_long: bool,
    delimiter: str | None,
    start_after: str | None,
    limit: int | None,
) -> None:
    """List the keys that start with PREFIX, in the order of their bytes."""
    import itertools

    with call.cloud() as cloud:
        listed = cloud.bucket(name).list(prefix, delimiter=delimiter, start_after=start_after)
        for entry in itertools.islice(listed, limit):
            _show(call, entry, is_long=is_long)


@command(bucket, "cp", example="portable bucket cp photos/2024/cat.jpg archive/cat.jpg")
@click.argument("source", metavar="NAME/KEY")
@click.argument("target", metavar="NAME/KEY")
def cp(call: Call, source: str, target: str) -> None:
    """Copy an object, within its bucket or to another; print the new etag."""
    from portable.cli.output import working

    (from_name, from_key), (to_name, to_key) = _place(source), _place(target)
    with call.cloud() as cloud, working(f"copying {from_key}"):
        to = None if to_name == from_name else cloud.bucket(to_name)
        copied = cloud.bucket(from_name).copy(from_key, to_key, to=to)
    call.show(_structure(copied), copied.etag)


def _place(text: str) -> tuple[str, str]:
    name, slash, key = text.partition("/")
    if not slash or not name or not key:
        raise click.UsageError(f"{text!r} is not of the form NAME/KEY")
    return name, key


def _read(source: IO[bytes], report: Callable[[int], None]) -> Iterator[bytes]:
    done = 0
    while chunk := source.read(_CHUNK):
        yield chunk
        done += len(chunk)
        report(done)


def _write_out(found: Bucket, key: str) -> None:
    from portable.cli.output import show_bytes

    with found.open(key) as reader:
        while chunk := reader.read(_CHUNK):
            show_bytes(chunk)
    sys.stdout.flush()


def _structure(info: ObjectInfo) -> dict[str, Any]:
    from msgspec.structs import asdict

    return asdict(info)


def _show(call: Call, entry: ObjectInfo | Prefix, *, is_long: bool) -> None:
    from portable.cli.output import printable
    from portable.objects import Prefix

    key = printable(entry.key)
    if isinstance(entry, Prefix):
        call.show({"prefix": entry.key}, f"{'':>12}  {'':20}  {'':16}  {key}" if is_long else key)
        return
    moment = entry.modified.strftime("%Y-%m-%dT%H:%M:%SZ")
    call.show(_structure(entry), f"{entry.size:>12}  {moment}  {entry.etag:16}  {key}" if is_long else key)
