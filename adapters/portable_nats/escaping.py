"""How any text becomes a token of a subject, or a header of a message; `docs/wire-formats/nats.md` says the same."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

import msgspec

__all__ = ["ATTRIBUTES", "quoted", "read_attributes", "token", "unquoted", "written_attributes"]

ATTRIBUTES = "Portable-Attributes"
"""The header with the attributes that cannot be headers of their own, as a JSON object."""

# Names and values that come back as they are; what starts with the first two words is the server's and ours.
_NAME = re.compile(r"(?!(?:Nats-|Portable-|Status$|Description$))[A-Za-z0-9_.-]+")
_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_OURS = ("Nats-", "Portable-")

_ESCAPED = re.compile(rb"[^A-Za-z0-9_-]")

_decode = msgspec.json.Decoder(dict[str, str]).decode
_decode_text = msgspec.json.Decoder(str).decode


def token(text: str) -> str:
    """Give a token for any text that is not empty: what is no letter, digit, - or _ becomes `=XX`, byte by byte."""
    return _ESCAPED.sub(lambda match: b"=%02X" % match[0][0], text.encode()).decode()


def quoted(text: str) -> str:
    """Give any text as a header has room for it: as a JSON string, in ASCII."""
    return json.dumps(text)


def unquoted(header: str) -> str:
    """Undo `quoted`; another program's header stays as it is."""
    try:
        return _decode_text(header)
    except msgspec.DecodeError:
        return header


def written_attributes(attributes: Mapping[str, str] | None) -> dict[str, str] | None:
    """Give the headers of a message for its attributes."""
    if not attributes:
        return None
    headers: dict[str, str] = {}
    others: dict[str, str] = {}
    for name, value in attributes.items():
        plain = _NAME.fullmatch(name) and _VALUE.fullmatch(value)
        (headers if plain else others)[name] = value
    if others:
        headers[ATTRIBUTES] = json.dumps(others)
    return headers


def read_attributes(headers: Mapping[str, str] | None) -> dict[str, str]:
    """Give the attributes of a message from its headers; those of another program are attributes, too."""
    if not headers:
        return {}
    attributes = {name: value for name, value in headers.items() if not name.startswith(_OURS)}
    if (packed := headers.get(ATTRIBUTES)) is not None:
        try:
            attributes.update(_decode(packed))
        except msgspec.DecodeError:
            # Another program's, whatever it means.
            attributes[ATTRIBUTES] = packed
    return attributes
