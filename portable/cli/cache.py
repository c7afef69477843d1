"""`portable cache`: look inside a cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from portable.cli.invocation import Call, command, group, read_input

if TYPE_CHECKING:
    from portable.cache import Cache

__all__ = ["cache"]

cache = group("cache", "Look inside a cache.")

_MISSING = object()


@command(cache, "get", example="portable cache get sessions user:7")
@click.argument("name")
@click.argument("key")
def get(call: Call, name: str, key: str) -> None:
    """Print the value of KEY: text and bytes as they are, anything else as JSON. Exits with 4 when there is none."""
    from portable.cli.output import show_bytes, text_or_base64, to_json
    from portable.errors import NotFound

    with call.cloud() as cloud:
        value: Any = cloud.cache(name).get(key, _MISSING)
    if value is _MISSING:
        raise NotFound(f"no key {key!r}", resource=name, operation="get")
    if call.as_json:
        call.show({"key": key, **(text_or_base64("value", value) if isinstance(value, bytes) else {"value": value})})
    elif isinstance(value, bytes):
        show_bytes(value)
    else:
        click.echo(value if isinstance(value, str) else to_json(value))


@command(cache, "set", example='portable cache set sessions user:7 \'{"name": "Ada"}\' --as json --ttl 3600')
@click.argument("name")
@click.argument("key")
@click.argument("value")
@click.option(
    "--as",
    "form",
    type=click.Choice(["text", "json", "bytes"]),
    default="text",
    show_default=True,
    help="What VALUE is.",
)
@click.option("--ttl", type=float, help="Seconds until it is gone.  [default: it stays]")
def set_(call: Call, name: str, key: str, value: str, form: str, ttl: float | None) -> None:
    """Set KEY to VALUE, or with - to what stdin holds."""
    content = _read(read_input(value), form)
    with call.cloud() as cloud:
        found: Cache[Any] = cloud.cache(name)
        found.set(key, content, ttl=ttl)
    call.show({"set": key})


@command(cache, "del", example="portable cache del sessions user:7 user:8")
@click.argument("name")
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
def delete(call: Call, name: str, keys: tuple[str, ...]) -> None:
    """Remove keys; one that is not there is no error. Print how many were."""
    with call.cloud() as cloud:
        removed = cloud.cache(name).delete_many(keys)
    call.show({"removed": removed}, str(removed))


def _read(content: bytes, form: str) -> Any:
    if form == "bytes":
        return content
    import msgspec

    try:
        return msgspec.json.decode(content) if form == "json" else content.decode()
    except UnicodeDecodeError:
        raise click.UsageError("the value is not UTF-8; give --as bytes") from None
    except msgspec.DecodeError as error:
        raise click.UsageError(f"the value is not JSON: {error}") from None
