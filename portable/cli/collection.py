"""`portable collection`: read, store and query documents, as the JSON that `docs/wire-formats/collection.md` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from portable.cli.invocation import Call, command, group, read_input

if TYPE_CHECKING:
    from portable.collection import Collection
    from portable.documents import Document
    from portable.query import Query

__all__ = ["collection"]

collection = group("collection", "Look inside a collection.")


@command(collection, "get", example="portable collection get users 7")
@click.argument("name")
@click.argument("key")
@click.option("--partition", help="The document's partition, where the collection has them.")
def get(call: Call, name: str, key: str, partition: str | None) -> None:
    """Print the document with KEY as JSON. Exits with 4 when there is none."""
    with call.cloud() as cloud:
        found = cloud.collection(name).get(key if partition is None else (partition, key))
        _show(call, found)


@command(collection, "put", example='portable collection put users \'{"id": "7", "email": "ada@example.com"}\'')
@click.argument("name")
@click.argument("document")
@click.option("--create", is_flag=True, help="Only where the key is free.")
@click.option("--if-revision", "revision", help="Only over this revision.")
def put(call: Call, name: str, document: str, create: bool, revision: str | None) -> None:
    """Store DOCUMENT, a JSON object, or with - what stdin holds; print its revision."""
    if create and revision is not None:
        raise click.UsageError("give --create (nothing is there) or --if-revision (this is there), not both")
    data = _object(read_input(document))
    with call.cloud() as cloud:
        found: Collection[dict[str, Any]] = cloud.collection(name)
        stored = found.create(data) if create else found.put(data, if_revision=revision)
    call.show({"key": stored.key, "revision": stored.revision}, stored.revision)


@command(collection, "query", example="portable collection query users --where status == paid --order-by -created")
@click.argument("name")
@click.option(
    "--where",
    "conditions",
    nargs=3,
    multiple=True,
    metavar="PATH OP VALUE",
    help="A condition, its value as JSON or plain text; may be repeated. Operators: == != < <= > >= in not-in contains "
    "prefix",
)
@click.option("--order-by", "order", help="The field to order by; -FIELD turns it round.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@click.option("--allow-scan", is_flag=True, help="Read the whole collection where no index serves the query.")
@click.option("--count", "counted", is_flag=True, help="Print how many there are, instead of them.")
def query(
    call: Call,
    name: str,
    conditions: tuple[tuple[str, str, str], ...],
    order: str | None,
    limit: int | None,
    allow_scan: bool,
    counted: bool,
) -> None:
    """Print the documents for which every condition holds, one JSON object a line."""
    with call.cloud() as cloud:
        asked: Query[dict[str, Any]] = cloud.collection(name).query(allow_scan=allow_scan)
        for path, operator, value in conditions:
            asked = asked.where(path, operator, _value(value))
        if order is not None:
            asked = asked.order_by(order.removeprefix("-"), descending=order.startswith("-"))
        if limit is not None:
            asked = asked.limit(limit)
        if counted:
            number = asked.count()
            call.show({"count": number}, str(number))
            return
        for document in asked:
            _show(call, document)


def _object(text: bytes) -> dict[str, Any]:
    """Read a document; `{"$bytes": …}` and the like stand for what JSON has no place for."""
    from portable.document_json import load
    from portable.errors import IntegrityError

    try:
        return load(text)
    except IntegrityError as error:
        raise click.UsageError(error.message.replace("a stored document is damaged", "not a document")) from None


def _value(text: str) -> Any:
    import msgspec

    from portable.document_json import load_value

    try:
        return load_value(msgspec.json.decode(text))
    except ValueError:
        return text


def _show(call: Call, document: Document[dict[str, Any]]) -> None:
    from portable.document_json import dump, dump_value

    if call.as_json:
        call.show(
            {
                "key": document.key,
                "data": dump_value(document.data),
                "revision": document.revision,
                "expires_at": document.expires_at,
            }
        )
    else:
        click.echo(dump(document.data))
