"""How a document stands in DynamoDB: `docs/wire-formats/aws.md`."""

from __future__ import annotations

import secrets
from typing import Any

from portable import document_json
from portable.document_layout import DocumentLayout
from portable.document_order import index_key
from portable.document_places import place_of
from portable.document_writes import DocumentId, Save, Stored
from portable.errors import IntegrityError, LimitExceeded

__all__ = [
    "ALL",
    "LONGEST_SORT",
    "ORDER_INDEX",
    "expires_of",
    "index_columns",
    "item_of",
    "key_of",
    "stored",
]

ORDER_INDEX = "portable_order"
"""The index that has every document in the order of their partitions, or without partitions of their keys."""

ALL = b"\x00"
"""The partition of what is ordered as a whole."""

LONGEST_SORT, LONGEST_HASH = 1000, 2000
"""Bytes of a part of an index; DynamoDB takes 1,024 and 2,048, and a bound may be a little longer than a value."""


def key_of(id_: DocumentId, *, partitioned: bool) -> dict[str, Any]:
    """Give the primary key: partition and key, or the key alone; the `d` keeps it from what else a table holds."""
    partition, key = id_
    if partitioned:
        return {"pk": {"S": f"d{partition}"}, "sk": {"S": key}}
    return {"pk": {"S": f"d{key}"}, "sk": {"S": "d"}}


def index_columns(column: str) -> tuple[str, str]:
    """Name the attributes that an index is made of."""
    return f"{column}_hash", f"{column}_sort"


def item_of(save: Save, layout: DocumentLayout, *, partitioned: bool) -> dict[str, Any]:
    """Give the item of a document that is to be stored.

    Raises:
        LimitExceeded: what an index has to hold of it is too long.
    """
    order = place_of(save.id)
    item: dict[str, Any] = {
        **key_of(save.id, partitioned=partitioned),
        "data": {"S": save.json()},
        "document_partition": {"S": save.id[0]},
        "document_key": {"S": save.id[1]},
        "revision": {"S": secrets.token_hex(8)},
        "layout": {"N": str(layout.number)},
        "order_hash": {"B": ALL},
        "order_sort": {"B": save.id[0 if partitioned else 1].encode()},
    }
    if save.expires is not None:
        # Whole seconds, for DynamoDB's own removal of what has expired, and the moment itself.
        item["expires"] = {"N": f"{save.expires.timestamp():.3f}"}
        item["ttl"] = {"N": str(int(save.expires.timestamp()) + 1)}
    for fields, column in layout.columns.items():
        first, last = index_key(save.data, fields[:-1]) if fields[1:] else ALL, index_key(save.data, fields[-1:])
        if first is None or last is None:
            continue
        if len(first) > LONGEST_HASH or len(last) + len(order) > LONGEST_SORT:
            named = ", ".join(".".join(path) for path in fields)
            raise LimitExceeded(
                f"the index on {named} holds {len(last) + len(order)} bytes of this document and its key, and DynamoDB "
                f"orders {LONGEST_SORT} at most; shorten the field, or do not declare the index"
            )
        hash_name, sort_name = index_columns(column)
        item[hash_name], item[sort_name] = {"B": first}, {"B": last + order}
    return item


def expires_of(item: dict[str, Any]) -> float | None:
    """Give when an item is gone, in seconds since the epoch; None for never."""
    return float(item["expires"]["N"]) if "expires" in item else None


def stored(item: dict[str, Any] | None, now: float) -> Stored | None:
    """Read an item; None where there is none, or it has expired.

    Raises:
        IntegrityError: it is none of ours.
    """
    if not item:
        return None
    expires = expires_of(item)
    if expires is not None and expires <= now:
        return None
    try:
        id_ = (item["document_partition"]["S"], item["document_key"]["S"])
        return Stored(id_, document_json.load(item["data"]["S"]), item["revision"]["S"])
    except KeyError as error:
        raise IntegrityError(f"an item of the table was not written by this library: it has no {error}") from error
