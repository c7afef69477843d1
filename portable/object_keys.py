"""What a key, the headers and the metadata of an object may be: the same on every backend, checked before sending."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from portable.errors import InvalidArgument
from portable.objects import Condition, ObjectHeaders

__all__ = ["MAX_KEY_BYTES", "check_key", "check_prefix", "condition", "headers"]

MAX_KEY_BYTES = 1024
"""What every cloud's bucket takes."""

_NO_HEADERS = ObjectHeaders()
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")


def check_key(key: str) -> None:
    """Refuse what is no key: 1 to 1,024 bytes of UTF-8.

    Raises:
        InvalidArgument: it is none; the message says why.
    """
    if not isinstance(key, str):
        raise InvalidArgument(f"a key is a str, not {type(key).__name__}; decode bytes first")
    if not key:
        raise InvalidArgument("the key is empty; a key has 1 to 1,024 bytes of UTF-8")
    length = len(key)
    if not key.isascii():
        length = len(_encoded(key, "the key"))
    if length > MAX_KEY_BYTES:
        raise InvalidArgument(f"the key {key[:40]!r}… has {length} bytes of UTF-8; a key has at most {MAX_KEY_BYTES:,}")


def check_prefix(text: str, what: str) -> None:
    """Refuse a prefix, delimiter or starting point that is no UTF-8 text.

    Raises:
        InvalidArgument: it is none; the message says why.
    """
    if not isinstance(text, str):
        raise InvalidArgument(f"{what} is a str, not {type(text).__name__}")
    _encoded(text, what)


def headers(
    content_type: str | None = None,
    *,
    metadata: Mapping[str, str] | None = None,
    cache_control: str | None = None,
    content_disposition: str | None = None,
    content_encoding: str | None = None,
    content_language: str | None = None,
) -> ObjectHeaders:
    """Gather what is stored beside an object's bytes; names of metadata become lower case.

    Raises:
        InvalidArgument: a header is not printable ASCII, or metadata is not UTF-8 text under distinct names.
    """
    given = (content_type, cache_control, content_disposition, content_encoding, content_language)
    if metadata is None and given == (None, None, None, None, None):
        return _NO_HEADERS
    for name, value in zip(ObjectHeaders.__struct_fields__, given, strict=False):
        if value is not None:
            _check_header(name, value)
    return ObjectHeaders(*given, metadata=_metadata(metadata) if metadata else {})


def condition(if_absent: bool, if_match: str | None) -> Condition | None:  # noqa: FBT001 (as the caller's own caller gave it)
    """Make the condition of a write, or None where there is none.

    Raises:
        InvalidArgument: both are given, which no object can meet, or `if_match` is no etag.
    """
    if if_match is None:
        return Condition(absent=True) if if_absent else None
    if if_absent:
        raise InvalidArgument("if_absent and if_match exclude each other; give one")
    if not isinstance(if_match, str):
        raise InvalidArgument(f"if_match is an etag, such as info.etag, not {type(if_match).__name__}")
    return Condition(etag=if_match)


def _check_header(name: str, value: str) -> None:
    if not isinstance(value, str):
        raise InvalidArgument(f"{name} is a str, not {type(value).__name__}")
    found = _UNPRINTABLE.search(value)
    if found is not None:
        raise InvalidArgument(
            f"{name} holds {found[0]!r}; a header is printable ASCII (a file name of other letters is written "
            f"filename*=UTF-8''…; text of your own belongs into metadata)"
        )


def _metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    result: dict[str, str] = {}
    pairs: Iterable[tuple[object, object]] = metadata.items()
    for name, value in pairs:
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidArgument(f"metadata maps str to str; {name!r} is mapped to {type(value).__name__}")
        if not name:
            raise InvalidArgument("a name of metadata is empty")
        lowered = name.lower()
        if lowered in result:
            raise InvalidArgument(f"metadata names {lowered!r} twice; names that differ only in case are the same name")
        _encoded(name, "a name of metadata")
        _encoded(value, f"the metadata {lowered!r}")
        result[lowered] = value
    return result


def _encoded(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(
            f"{what} is not UTF-8 text: it holds the lone surrogate U+{ord(text[error.start]):04X}"
        ) from None
