"""How the values of a cache are stored; `docs/wire-formats/cache.md` says the same for other languages.

A value is stored as its JSON text, so that a counter is a plain decimal and another program reads what we write. Bytes
are stored as they are, unless that could be taken for JSON: then `MARK` stands before them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from portable.errors import IntegrityError, InvalidArgument

__all__ = ["MARK", "JsonOrBytes", "Typed", "value_codec"]

MARK = b"\xc1\x00"
"""Stands before bytes that would else be taken for JSON, or for marked; no UTF-8 text starts like it."""

# What a JSON text can start with: its white space, and the first character of each kind of value.
_JSON_STARTS = frozenset(b' \t\r\n{["-0123456789tfn')
_MARKED_STARTS = _JSON_STARTS | {MARK[0]}
# Values of these types, and no others, come back equal whatever they are.
_PLAIN = frozenset((str, int, bool, type(None)))


def value_codec(type_: Any) -> JsonOrBytes | Typed:
    """Give the codec of a cache: JSON values and bytes where there is no type (or `bytes`), else JSON of the type."""
    return JsonOrBytes() if type_ is None or type_ is bytes else Typed(type_)


class JsonOrBytes:
    """Values of JSON (None, bool, int, float, str, list, dict with str keys) and bytes."""

    def __init__(self) -> None:
        self._to_json = msgspec.json.Encoder().encode
        self._from_json = msgspec.json.Decoder().decode

    def encode(self, value: Any) -> bytes:
        """Give the JSON text, or the bytes.

        Raises:
            InvalidArgument: the value would not come back as it is.
        """
        if type(value) is bytes and value and value[0] not in _MARKED_STARTS:
            return value
        kind = type(value)
        plain = kind in _PLAIN
        if not plain and kind is not dict and isinstance(value, (bytes, bytearray, memoryview)):
            content = bytes(value)
            return MARK + content if _needs_mark(content) else content
        try:
            text = self._to_json(value)
            # JSON has one kind of list, keys that are text, and no NaN: what would come back changed is refused.
            same = plain or self._from_json(text) == value
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidArgument(f"a value of type {type(value).__name__} is not JSON: {error}") from error
        if not same:
            raise InvalidArgument(
                f"the {type(value).__name__} would come back changed: give lists for tuples, text for keys, numbers "
                "that are finite, no bytes or dates inside, or open the cache with type="
            )
        return text

    def decode(self, stored: bytes) -> Any:
        """Give the JSON value, or the bytes; what another program stored that is no JSON comes back as its bytes."""
        if stored and stored[0] in _JSON_STARTS:
            try:
                return self._from_json(stored)
            except (ValueError, RecursionError):
                return stored
        if stored.startswith(MARK) and _needs_mark(marked := stored[len(MARK) :]):
            return marked
        return stored


def _needs_mark(content: bytes) -> bool:
    return (bool(content) and content[0] in _JSON_STARTS) or content.startswith(MARK)


class Typed:
    """Values of one type, as JSON."""

    def __init__(self, type_: Any) -> None:
        self._name = getattr(type_, "__name__", str(type_))
        self._to_json = msgspec.json.Encoder().encode
        try:
            self._from_json = msgspec.json.Decoder(type_).decode
        except TypeError as error:
            raise InvalidArgument(f"type={self._name} cannot be read from JSON: {error}") from error

    def encode(self, value: Any) -> bytes:
        """Give the JSON text of a value that fits the type.

        Raises:
            InvalidArgument: it does not fit.
        """
        try:
            text = self._to_json(value)
            self._from_json(text)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise InvalidArgument(f"the value does not fit type={self._name}: {error}") from error
        return text

    def decode(self, stored: bytes) -> Any:
        """Give the value of the type.

        Raises:
            IntegrityError: what is stored does not fit it.
        """
        try:
            return self._from_json(stored)
        except (ValueError, RecursionError) as error:
            raise IntegrityError(f"what is stored does not fit type={self._name}: {error}") from error
