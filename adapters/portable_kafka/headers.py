"""Attributes as the headers of a message; `docs/wire-formats/kafka.md` says the same for other programs."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from portable import wire
from portable_kafka.engine import Headers

__all__ = ["attributes_of", "headers_of"]

_encode = msgspec.json.Encoder().encode


def headers_of(attributes: Mapping[str, str] | None) -> Headers | None:
    """Give the headers of attributes: each is one, but for names with a NUL, which are packed."""
    if not attributes:
        return None
    packed = {name: value for name, value in attributes.items() if "\0" in name}
    headers: Headers = [(name, value.encode()) for name, value in attributes.items() if name not in packed]
    if packed:
        headers.append((wire.PACKED, _encode(packed)))
    return headers


def attributes_of(headers: Headers | None) -> dict[str, str]:
    """Give the attributes of headers; of several of one name the last counts, and what is no UTF-8 is made so."""
    if not headers:
        return {}
    attributes = {name: (value or b"").decode(errors="replace") for name, value in headers}
    return wire.unpack_attributes(attributes) if wire.PACKED in attributes else attributes
