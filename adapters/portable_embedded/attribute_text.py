"""Attributes of messages and records as a column of text holds them: a JSON object of strings, or NULL for none."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

__all__ = ["decode_attributes", "encode_attributes"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode


def encode_attributes(attributes: Mapping[str, str] | None) -> str | None:
    """Give attributes as the column holds them."""
    return _encode(attributes).decode() if attributes else None


def decode_attributes(text: str | bytes | None) -> dict[str, str]:
    """Undo `encode_attributes`; of what another program wrote otherwise, give what can be read.

    One row that nobody can read would else end every receiver, again and again.
    """
    if not text:
        return {}
    try:
        return _decode(text)
    except (msgspec.DecodeError, TypeError, UnicodeDecodeError):
        return _foreign(text)


def _foreign(text: str | bytes) -> dict[str, str]:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, TypeError, UnicodeDecodeError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: value if isinstance(value, str) else _encode(value).decode() for name, value in found.items()}
