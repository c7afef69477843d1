"""How a message of Queue Storage carries bytes and attributes: `docs/wire-formats/azure.md`."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping

import msgspec

__all__ = ["LARGEST", "packed", "unpacked"]

LARGEST = 48_000
"""Bytes of a body that fit whatever they are, with room for what attributes cost beside their text."""

_MARK = "portable1:"
# What XML can carry: https://www.w3.org/TR/xml/#charsets. A carriage return would come back as a line feed.
_PLAIN = re.compile("[\t\n\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, str]).decode


def packed(body: bytes, attributes: Mapping[str, str] | None) -> str:
    """Give the text of a message: the body itself where it is text and stands alone, else an envelope."""
    if not attributes:
        try:
            text = body.decode()
        except UnicodeDecodeError:
            pass
        else:
            if _PLAIN.fullmatch(text) and not text.startswith(_MARK) and text == text.strip():
                return text
    return _MARK + base64.b64encode(_encode(attributes or {}) + b"\n" + body).decode()


def unpacked(text: str) -> tuple[bytes, dict[str, str]]:
    """Undo `packed`; what is no envelope of ours is the body as it is."""
    if text.startswith(_MARK):
        try:
            head, _, body = base64.b64decode(text[len(_MARK) :], validate=True).partition(b"\n")
            return body, _decode(head)
        except (binascii.Error, msgspec.DecodeError):
            pass
    return text.encode(), {}
