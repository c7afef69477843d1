"""How a document stands in Cosmos DB: `docs/wire-formats/azure.md`."""

from __future__ import annotations

import math
import re
from hashlib import sha256
from typing import Any

from portable import document_json
from portable.document_layout import DocumentLayout
from portable.document_order import encode, index_key
from portable.document_writes import DocumentId, Save, Stored
from portable.errors import IntegrityError, LimitExceeded

__all__ = ["LONGEST_INDEXED", "body_of", "item_id", "order_of", "partition_of", "stored"]

LONGEST_INDEXED = 512
"""Bytes of what an index holds of a document: twice as many characters, which Cosmos DB orders whole."""

# Neither / \ ? # nor a space at the end, and no % that anybody could decode.
_READABLE = re.compile(r"[A-Za-z0-9_.:@-]{1,250}")


def item_id(key: str) -> str:
    """Give the id of an item in its partition: readable where the key can be one."""
    return f"k.{key}" if _READABLE.fullmatch(key) else f"h.{sha256(key.encode()).hexdigest()}"


def partition_of(id_: DocumentId) -> str:
    """Give the value of the partition key; what else a container holds starts otherwise."""
    return f"p{id_[0]}"


def order_of(id_: DocumentId) -> bytes:
    """Give bytes that sort as ids do."""
    return encode(id_[0]) + encode(id_[1])


def body_of(save: Save, layout: DocumentLayout, now: float) -> dict[str, Any]:
    """Give the item of a document that is to be stored.

    Raises:
        LimitExceeded: what an index has to hold of it is too long.
    """
    order = order_of(save.id)
    made: dict[str, Any] = {
        "id": item_id(save.id[1]),
        "pk": partition_of(save.id),
        "data": save.json(),
        "partition": save.id[0],
        "key": save.id[1],
        "order": order.hex(),
        "layout": layout.number,
    }
    if save.expires is not None:
        made["expires"] = save.expires.timestamp()
        # From the write on; until then, and from when it has expired, it is hidden.
        made["ttl"] = max(1, math.ceil(save.expires.timestamp() - now) + 1)
    for fields, column in layout.columns.items():
        key = index_key(save.data, fields)
        if key is None:
            continue
        if len(key) > LONGEST_INDEXED:
            named = ", ".join(".".join(path) for path in fields)
            raise LimitExceeded(
                f"the index on {named} holds {len(key)} bytes of this document, and {LONGEST_INDEXED} are the most "
                "that Cosmos DB orders for sure; shorten the field, or do not declare the index"
            )
        made[column] = (key + order).hex()
    return made


def stored(item: dict[str, Any] | None, now: float) -> Stored | None:
    """Read an item; None where there is none, or it has expired.

    Raises:
        IntegrityError: it is none of ours.
    """
    if item is None or item.get("expires", math.inf) <= now:
        return None
    try:
        return Stored((item["partition"], item["key"]), document_json.load(item["data"]), item["_etag"])
    except KeyError as error:
        raise IntegrityError(f"an item of the container was not written by this library: it has no {error}") from error
