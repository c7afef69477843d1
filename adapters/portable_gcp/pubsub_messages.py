"""How a message of Pub/Sub carries what it has no place for: `docs/wire-formats/gcp.md`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from portable.messages import Outgoing
from portable.wire import own_attributes

__all__ = ["LARGEST", "packed", "unpacked"]

LARGEST = 9_500_000
"""Bytes of body and attributes together: the service takes ten million, names and all."""

# https://cloud.google.com/pubsub/quotas#resource_limits
_MOST, _LONGEST_NAME, _LONGEST_VALUE = 98, 256, 1024

_ENVELOPE = "portable-envelope"
_EMPTY = "portable-empty"

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode


def packed(message: Outgoing) -> dict[str, Any]:
    """Give a message as the client takes it."""
    body, attributes = message.body, message.attributes or {}
    rest = {name: value for name, value in attributes.items() if not _fits(name, value)}
    if len(attributes) - len(rest) > _MOST:
        rest |= {name: attributes[name] for name in list(own_attributes(attributes))[_MOST // 2 :]}
    native = {name: value for name, value in attributes.items() if name not in rest}
    if rest:
        native[_ENVELOPE] = "1"
        body = _encode(rest) + b"\n" + body
    elif not body and not native:
        # The service takes no message that has nothing at all.
        native[_EMPTY] = "1"
    made: dict[str, Any] = {"data": body, "attributes": native}
    if message.ordering_key is not None:
        made["ordering_key"] = message.ordering_key
    return made


def unpacked(data: bytes, attributes: Mapping[str, str]) -> tuple[bytes, dict[str, str]]:
    """Undo `packed`; what is no envelope of ours stays as it is."""
    found = dict(attributes)
    found.pop(_EMPTY, None)
    if found.pop(_ENVELOPE, None) is not None:
        head, _, body = data.partition(b"\n")
        try:
            return body, {**_decode(head), **found}
        except msgspec.DecodeError:
            pass
    return data, found


def _fits(name: str, value: str) -> bool:
    # Names that start with "goog" are the service's own.
    return (
        0 < len(name.encode()) <= _LONGEST_NAME
        and len(value.encode()) <= _LONGEST_VALUE
        and not name.startswith("goog")
        and "\0" not in name + value
    )
