"""How a document stands in Firestore: `docs/wire-formats/gcp.md`."""

from __future__ import annotations

import secrets
from hashlib import blake2b, sha256
from typing import Any
from urllib.parse import quote

from google.cloud.firestore_v1 import types

from portable import document_json
from portable.document_layout import DocumentLayout, Fields
from portable.document_order import index_key
from portable.document_places import place_of
from portable.document_writes import DocumentId, Save, Stored
from portable.errors import IntegrityError, LimitExceeded

__all__ = [
    "EXPIRES",
    "LONGEST_INDEXED",
    "ORDER",
    "column",
    "document_id",
    "fields_of",
    "revision_of",
    "stored",
]

DATA, ORDER, LAYOUT, EXPIRES = "data", "order", "layout", "expires"
PARTITION, KEY, NONCE = "partition", "key", "nonce"

LONGEST_INDEXED = 1500
"""Bytes of a value that an index has whole: https://cloud.google.com/firestore/quotas#limits."""

_LONGEST_ID = 1500


def document_id(id_: DocumentId) -> str:
    """Give the name of the document in its collection: readable where that is not too long."""
    readable = ",".join(quote(part, safe="") for part in id_)
    if len(readable) <= _LONGEST_ID:
        return readable
    return "#" + sha256(place_of(id_)).hexdigest()


def column(fields: Fields) -> str:
    """Name the field that holds the documents' keys in an index."""
    text = "\0\0".join("\0".join(path) for path in fields)
    return f"index_{blake2b(text.encode(), digest_size=6).hexdigest()}"


def layout_of(number: int) -> bytes:
    """Give the number of a layout as bytes that sort as it does."""
    return number.to_bytes(4)


def fields_of(save: Save, layout: DocumentLayout) -> dict[str, types.Value]:
    """Give the fields of a document that is to be stored.

    Raises:
        LimitExceeded: what an index has to hold of it is too long.
    """
    order = place_of(save.id)
    made: dict[str, Any] = {
        DATA: {"string_value": save.json()},
        PARTITION: {"string_value": save.id[0]},
        KEY: {"string_value": save.id[1]},
        ORDER: {"bytes_value": order},
        LAYOUT: {"bytes_value": layout_of(layout.number)},
        # Without it a write that changes nothing would leave the revision as it was.
        NONCE: {"bytes_value": secrets.token_bytes(6)},
    }
    if save.expires is not None:
        made[EXPIRES] = {"timestamp_value": save.expires}
    for fields in layout.indexes:
        key = index_key(save.data, fields)
        if key is None:
            continue
        if len(key) + len(order) > LONGEST_INDEXED:
            named = ", ".join(".".join(path) for path in fields)
            raise LimitExceeded(
                f"the index on {named} holds {len(key) + len(order)} bytes of this document and its key, and Firestore "
                f"orders by the first {LONGEST_INDEXED}; shorten the field, or do not declare the index"
            )
        made[column(fields)] = {"bytes_value": key + order}
    return {name: types.Value(value) for name, value in made.items()}


def stored(document: types.Document, now: float) -> Stored | None:
    """Read a document; None where it has expired.

    Raises:
        IntegrityError: it is none of ours.
    """
    # The bare message: the client's own types cost as much as the rest of a read.
    bare: Any = types.Document.pb(document)
    fields = bare.fields
    if EXPIRES in fields:
        expires = fields[EXPIRES].timestamp_value
        if expires.seconds + expires.nanos / 1e9 <= now:
            return None
    if DATA not in fields or KEY not in fields:
        raise IntegrityError(f"the document {document.name} was not written by this library")
    id_ = (fields[PARTITION].string_value, fields[KEY].string_value)
    return Stored(id_, document_json.load(fields[DATA].string_value), _revision(bare.update_time))


def revision_of(time: Any) -> str:
    """Give the text of an update time, which is what a document's revision is."""
    return _revision(time.timestamp_pb())


def _revision(time: Any) -> str:
    return f"{time.seconds}.{time.nanos:09}"
