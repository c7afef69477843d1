"""How a document stands in Cosmos DB: `docs/wire-formats/azure.md`."""

from __future__ import annotations

import json
import math
import secrets
from hashlib import sha256
from typing import Any
from urllib.parse import quote

from portable import document_json
from portable.document_layout import DocumentLayout
from portable.document_order import index_key
from portable.document_places import place_of
from portable.document_writes import DocumentId, Save, Stored
from portable.errors import IntegrityError, LimitExceeded

__all__ = ["LONGEST_INDEXED", "body_of", "item_id", "partition_of", "stored"]

LONGEST_INDEXED = 512
"""Bytes of what an index holds of a document: twice as many characters, which Cosmos DB orders whole."""

LARGEST_REQUEST = 2_000_000
"""Bytes of a request: Cosmos DB's 2 MB. The client sends JSON in ASCII."""

_LONGEST_ID = 250
# A pair of surrogates, six characters each.
_LONGEST_CHARACTER = 12
_LONGEST_PARTITION = 1000
_LONGEST_LIFE = 2**31 - 1


def item_id(key: str) -> str:
    """Give the id of an item in its partition: the key, escaped, or where that is too long its hash."""
    # Neither / \ ? # nor a space at the end, and no % that anybody on the way could decode.
    escaped = quote(key, safe=":@").replace("~", "%7E").replace("%", "~")
    return f"k.{escaped}" if len(escaped) <= _LONGEST_ID else f"h.{sha256(key.encode()).hexdigest()}"


def partition_of(id_: DocumentId) -> str:
    """Give the value of the partition key; what else a container holds starts otherwise."""
    partition = id_[0]
    if len(partition.encode()) <= _LONGEST_PARTITION:
        return f"p{partition}"
    return f"h{sha256(partition.encode()).hexdigest()}"


def body_of(save: Save, layout: DocumentLayout, now: float, revision: str | None = None) -> dict[str, Any]:
    """Give the item of a document that is to be stored, at a new revision, or one that is to be kept.

    Raises:
        LimitExceeded: it is too large, or what an index has to hold of it is too long.
    """
    order = place_of(save.id)
    made: dict[str, Any] = {
        "id": item_id(save.id[1]),
        "pk": partition_of(save.id),
        "data": save.json(),
        "partition": save.id[0],
        "key": save.id[1],
        "order": order.hex(),
        "layout": layout.number,
        "revision": revision or secrets.token_hex(8),
    }
    if save.expires is not None:
        made["expires"] = save.expires.timestamp()
        # Counted from the write. What has expired is hidden by us, and what lives longer than can be said stays.
        life = max(1, math.ceil(save.expires.timestamp() - now) + 1)
        if life <= _LONGEST_LIFE:
            made["ttl"] = life
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
    if len(made["data"]) > LARGEST_REQUEST // _LONGEST_CHARACTER:
        size = len(json.dumps(made))
        if size > LARGEST_REQUEST:
            raise LimitExceeded(
                f"the document comes to {size} bytes as the client of Cosmos DB sends it, and {LARGEST_REQUEST} are "
                "the most; keep large content in a bucket, and its key in the document"
            )
    return made


def stored(item: dict[str, Any] | None, now: float) -> Stored | None:
    """Read an item; None where there is none, or it has expired.

    Raises:
        IntegrityError: it is none of ours.
    """
    if item is None or item.get("expires", math.inf) <= now:
        return None
    try:
        return Stored((item["partition"], item["key"]), document_json.load(item["data"]), item["revision"])
    except KeyError as error:
        raise IntegrityError(f"an item of the container was not written by this library: it has no {error}") from error
