"""Documents as JSON, for every backend that keeps text.

What JSON has no place for is an object with one field, whose name starts with one `$`: `{"$bytes": base64}`,
`{"$datetime": "2024-05-01T12:00:00.000Z"}`, `{"$decimal": "1.50"}`. A field of the document whose own name starts
with `$` is stored with one `$` more, so nothing that an application stores can be taken for a tag.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from portable.errors import IntegrityError

__all__ = ["dump", "dump_value", "load", "load_all", "load_value"]

# Decimal text is kept as it is; a float that is whole keeps its ".0", so that it comes back as a float.
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict).decode


def dump(data: dict[str, Any], *, special: bool = True) -> str:
    """Give a document in normal form as JSON; `special=False` says that nothing in it needs a tag."""
    return _encode(_tagged(data) if special else data).decode()


def load(text: str | bytes) -> dict[str, Any]:
    """Give the document that a JSON text stands for.

    Raises:
        IntegrityError: the text is no document of ours.
    """
    try:
        data: dict[str, Any] = _decode(text)
        # One character is looked for many times as fast as two, and most documents have none.
        if (b"$" in text and b'"$' in text) if isinstance(text, bytes) else ("$" in text and '"$' in text):
            data = _untagged(data)
    except (msgspec.DecodeError, ValueError, ArithmeticError, TypeError) as error:
        raise IntegrityError(f"a stored document is damaged: {error}") from error
    if type(data) is not dict:
        raise IntegrityError(f"a stored document is damaged: it is a tag for a {type(data).__name__}, not an object")
    return data


def load_all(texts: list[str]) -> list[dict[str, Any]]:
    """Give the documents that JSON texts stand for, as `load` does each, and faster.

    Raises:
        IntegrityError: a text is no document of ours.
    """
    try:
        found: list[dict[str, Any]] = list(map(_decode, texts))
    except (msgspec.DecodeError, ValueError):
        found = []
    if len(found) < len(texts) or "$" in "".join(texts):
        return [load(text) for text in texts]
    return found


def dump_value(value: Any) -> Any:
    """Give one value in the form that JSON can hold."""
    return _tagged(value)


def load_value(value: Any) -> Any:
    """Give the value that a form of `dump_value` stands for.

    Raises:
        ValueError: it stands for none.
    """
    return _untagged(value)


def _tagged(value: Any) -> Any:
    kind = type(value)
    if kind is dict:
        return {f"${name}" if name.startswith("$") else name: _tagged(item) for name, item in value.items()}
    if kind is list:
        return [_tagged(item) for item in value]
    if kind is bytes:
        return {"$bytes": b64encode(value).decode()}
    if kind is datetime:
        return {"$datetime": value.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"}
    if kind is Decimal:
        return {"$decimal": str(value)}
    return value


def _untagged(value: Any) -> Any:
    kind = type(value)
    if kind is list:
        return [_untagged(item) for item in value]
    if kind is not dict:
        return value
    if len(value) == 1:
        ((name, item),) = value.items()
        if name in _TAGS:
            return _TAGS[name](item)
    # Other programs may write fields with one `$` that are no tags; they are read as they are.
    return {name[1:] if name[:2] == "$$" else name: _untagged(item) for name, item in value.items()}


def _read_bytes(text: str) -> bytes:
    return b64decode(text, validate=True)


def _read_datetime(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is UTC else moment.astimezone(UTC)


_TAGS: dict[str, Callable[[Any], Any]] = {"$bytes": _read_bytes, "$datetime": _read_datetime, "$decimal": Decimal}
