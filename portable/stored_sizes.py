"""How large things are as a service stores them, by the names that `counts` takes in `limits.toml`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec

__all__ = ["DOCUMENT_SIZES", "depth", "message_size", "metadata_size", "numbers", "text_size"]

_ESCAPED = 3
"""What one byte takes that has to be escaped."""

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NOT_HEADER = re.compile("[^\x20-\x24\x26-\x7e]")
_NOT_IDENTIFIER = re.compile("[^A-Za-z0-9_]")


def text_size(text: str, counts: str, escapes: re.Pattern[str] | None = None) -> int:
    """Measure a key, in UTF-8 bytes or in characters, with what `escapes` matches escaped byte by byte."""
    plain, extra = text, 0
    if escapes is not None:
        found = "".join(match[0] for match in escapes.finditer(text))
        if found:
            plain, extra = escapes.sub("", text), _ESCAPED * _utf8(found)
    return extra + (len(plain) if counts == "characters" else _utf8(plain))


def message_size(body: bytes, attributes: Mapping[str, str], key: str | None, counts: str) -> int:
    """Measure a message or record, without what the service's own framing adds."""
    if counts == "body":
        return len(body)
    size = len(body) + (_utf8(key) if key else 0)
    if counts in {"base64", "envelope"}:
        size += len(msgspec.json.encode(attributes)) if attributes else 0
        return _base64(size) if counts == "base64" else size
    size += sum(_utf8(name) + _utf8(value) for name, value in attributes.items())
    if counts == "text" and not _is_xml_text(body):
        size += _base64(len(body)) - len(body)
    return size


def metadata_size(metadata: Mapping[str, str], counts: str) -> int:
    """Measure the names and values of headers or attributes."""
    values = None if counts == "bytes" else _NOT_HEADER
    names = _NOT_IDENTIFIER if counts == "identifier" else values
    return sum(text_size(name, "bytes", names) + text_size(value, "bytes", values) for name, value in metadata.items())


def depth(data: Mapping[str, Any]) -> int:
    """Count the levels of lists and dicts below a document itself."""
    level: list[Any] = [data]
    deepest = -1
    while level:
        deepest += 1
        level = [child for parent in level for child in _children(parent) if isinstance(child, (dict, list, tuple))]
    return deepest


def numbers(data: Mapping[str, Any]) -> Iterator[Decimal]:
    """Give each finite number in a document, exactly as it is written."""
    waiting: list[Any] = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, (dict, list, tuple)):
            waiting.extend(_children(value))
        elif isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
            number = value if isinstance(value, Decimal) else Decimal(repr(value))
            if number.is_finite():
                yield number


def _children(value: Any) -> Any:
    return value.values() if isinstance(value, Mapping) else value


def _utf8(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _base64(size: int) -> int:
    return (size + 2) // 3 * 4


def _is_xml_text(body: bytes) -> bool:
    try:
        return _NOT_XML.search(body.decode()) is None
    except UnicodeDecodeError:
        return False


def _dynamodb_value(value: Any) -> int:
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, (dict, list, tuple)):
        return 3 + len(value) + _dynamodb_fields(value)
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, (int, float, Decimal)):
        sign, digits, _ = Decimal(repr(value) if isinstance(value, float) else value).as_tuple()
        return (len("".join(map(str, digits)).strip("0")) + 1) // 2 + 1 + sign
    return _utf8(value.isoformat() if isinstance(value, datetime) else str(value))


def _dynamodb_fields(value: Any) -> int:
    names = sum(map(_utf8, value)) if isinstance(value, Mapping) else 0
    return names + sum(map(_dynamodb_value, _children(value)))


def _firestore_value(value: Any) -> int:
    if value is None or isinstance(value, bool):
        return 1
    if isinstance(value, (dict, list, tuple)):
        return _firestore_fields(value)
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, (int, float, datetime)):
        return 8
    return _utf8(str(value)) + 1


def _firestore_fields(value: Any) -> int:
    names = sum(_utf8(name) + 1 for name in value) if isinstance(value, Mapping) else 0
    return names + sum(map(_firestore_value, _children(value)))


def _firestore_document(key: str, encoded: bytes, data: Mapping[str, Any]) -> int:
    del encoded
    # 16 bytes are the name's own, 32 the document's; the collection's path is the binding's to know.
    return _utf8(key) + 1 + 16 + _firestore_fields(data) + 32


def _dynamodb_document(key: str, encoded: bytes, data: Mapping[str, Any]) -> int:
    del key, encoded
    return _dynamodb_fields(data)


def _json_document(key: str, encoded: bytes, data: Mapping[str, Any]) -> int:
    del key, data
    return len(encoded)


DOCUMENT_SIZES: dict[str, Callable[[str, bytes, Mapping[str, Any]], int]] = {
    "bytes": _json_document,
    "dynamodb": _dynamodb_document,
    "firestore": _firestore_document,
}
"""By `counts`: the size of the document at a key, given its JSON and its fields."""
