"""What a document may hold, its dotted paths, and the one order of all values that can be queried.

The types are None, bool, int (64 bits), float (finite), str (valid Unicode), bytes, aware datetime (kept to the
millisecond, in UTC), Decimal (kept exactly, never queried), list and dict (with str keys).

The order of what can be queried, from the smallest: None, False, True, numbers (int and float are one type, compared
exactly), datetimes, strings (by code point, which is also the order of their UTF-8 bytes), bytes. Lists, dicts and
Decimals have no place in it: operators and `order_by` do not see them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import Any, TypeAlias

from portable.errors import InvalidArgument

__all__ = [
    "MISSING",
    "Rank",
    "Scalar",
    "Values",
    "expiry",
    "find",
    "milliseconds",
    "rank",
    "sort_key",
    "split_path",
]

Scalar: TypeAlias = bool | int | float | str | bytes | datetime | None
"""A value that can be queried."""

DEEPEST = 100
_SAFE_INT = 2**53
_MAX_INT = 2**63 - 1
_MIN_INT = -(2**63)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Any = _Missing()
"""What `find` gives where a document has no such field."""


class Rank(IntEnum):
    """The types that can be queried, in their order."""

    NULL = 1
    BOOL = 2
    NUMBER = 3
    DATETIME = 4
    STRING = 5
    BYTES = 6


_RANKS: dict[type, Rank] = {
    type(None): Rank.NULL,
    bool: Rank.BOOL,
    int: Rank.NUMBER,
    float: Rank.NUMBER,
    datetime: Rank.DATETIME,
    str: Rank.STRING,
    bytes: Rank.BYTES,
}


def rank(value: object) -> Rank | None:
    """Give the type's place in the order; None for what cannot be queried."""
    return _RANKS.get(type(value))


def sort_key(value: Scalar) -> tuple[Any, ...]:
    """Give a tuple that compares as the value does."""
    place = _RANKS[type(value)]
    return (place,) if value is None else (place, value)


def milliseconds(moment: datetime) -> int:
    """Give the milliseconds since 1970, rounded down."""
    return (moment - _EPOCH) // _MILLISECOND


def expiry(data: Mapping[str, Any], field: str) -> datetime | None:
    """Give when a stored document expires; never, where the field was no datetime before it became the ttl field."""
    value = data.get(field)
    return value if isinstance(value, datetime) else None


def split_path(path: object) -> tuple[str, ...]:
    """Split a dotted path into the names of its fields.

    Raises:
        InvalidArgument: it is no path.
    """
    if not isinstance(path, str) or not path:
        raise InvalidArgument(f"a path is a dotted string such as 'address.city', not {path!r}")
    parts = tuple(path.split("."))
    if "" in parts:
        raise InvalidArgument(f"the path {path!r} has an empty part; write it like 'address.city'")
    return parts


def find(data: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """Give the value at a path, or `MISSING`."""
    value: Any = data
    for name in path:
        if type(value) is not dict or name not in value:
            return MISSING
        value = value[name]
    return value


class Values:
    """Checks what a caller wants to store, and brings it into the one form that is stored.

    Attributes:
        special: whether something was seen that plain JSON has no place for: bytes, datetime, Decimal, or a field
            whose name starts with `$`.
        big: the first integer beyond ±2⁵³ that was seen, or None.
    """

    __slots__ = ("big", "special")

    def __init__(self) -> None:
        self.special = False
        self.big: int | None = None

    def document(self, data: object) -> dict[str, Any]:
        """Give a copy of a whole document in normal form.

        Raises:
            InvalidArgument: it is no dict, or holds what cannot be stored; the message says where.
        """
        if not isinstance(data, dict):
            raise InvalidArgument(f"a document is a dict with str keys, not {type(data).__name__}")
        return self._fields(data, "", 1)

    def value(self, value: object, where: str) -> Any:
        """Give a copy of one value in normal form; `where` is its path, for the message."""
        return self._value(value, where, 1)

    def scalar(self, value: object, where: str) -> Scalar:
        """Give an operand of a query in normal form.

        Raises:
            InvalidArgument: it cannot be queried.
        """
        normal = self._value(value, where, 1)
        if rank(normal) is None:
            raise InvalidArgument(
                f"{where}: a {type(value).__name__} cannot be queried; compare with None, bool, int, float, str, bytes "
                "or an aware datetime"
            )
        return normal  # type: ignore[no-any-return]  # it has a rank

    def _fields(self, data: dict[Any, Any], where: str, depth: int) -> dict[str, Any]:
        if depth > DEEPEST:
            raise InvalidArgument(f"the document is nested deeper than {DEEPEST} levels, or holds itself")
        normal = {}
        for name, value in data.items():
            if type(name) is not str or not name.isascii():
                name = _name(name, where)  # noqa: PLW2901 (the same name, checked)
            if name.startswith("$"):
                self.special = True
            kind = type(value)
            if (kind is str and value.isascii()) or kind is bool or value is None:
                normal[name] = value
            else:
                normal[name] = self._value(value, f"{where}.{name}" if where else name, depth)
        return normal

    def _value(self, value: Any, where: str, depth: int) -> Any:  # noqa: PLR0911 (one a type, and hot)
        kind = type(value)
        if kind is str:
            return value if value.isascii() else _text(value, where)
        if kind is int:
            if -_SAFE_INT <= value <= _SAFE_INT:
                return value
            return self._big(value, where)
        if kind is bool or value is None:
            return value
        if kind is float:
            if not math.isfinite(value):
                raise InvalidArgument(f"{where}: {value} cannot be stored; use None, or leave the field out")
            return value
        if kind is dict:
            return self._fields(value, where, depth + 1)
        if kind is list:
            if depth >= DEEPEST:
                raise InvalidArgument(f"the document is nested deeper than {DEEPEST} levels, or holds itself")
            return [self._value(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
        return self._special(value, where, depth)

    def _special(self, value: Any, where: str, depth: int) -> Any:
        if isinstance(value, (bytes, bytearray, memoryview)):
            self.special = True
            return bytes(value)
        if isinstance(value, datetime):
            self.special = True
            if value.tzinfo is None or value.utcoffset() is None:
                raise InvalidArgument(f"{where}: a datetime needs a time zone, such as datetime.now(UTC)")
            try:
                moment = value.astimezone(UTC)
            except OverflowError as error:
                raise InvalidArgument(f"{where}: {value} lies outside of the years 1 to 9999 in UTC") from error
            return datetime(*moment.timetuple()[:6], moment.microsecond // 1000 * 1000, tzinfo=UTC)
        if isinstance(value, Decimal):
            if not value.is_finite():
                raise InvalidArgument(f"{where}: Decimal {value} cannot be stored; use None, or leave the field out")
            self.special = True
            return Decimal(value)
        # Subclasses (IntEnum, StrEnum, OrderedDict …) are stored as what they are built on.
        for plain in (str, int, float, dict, list):
            if isinstance(value, plain):
                return self._value(_plain(value, plain), where, depth)
        raise InvalidArgument(
            f"{where}: {type(value).__name__} cannot be stored; documents hold None, bool, int, float, str, bytes, "
            "aware datetime, Decimal, list and dict"
        )

    def _big(self, value: int, where: str) -> int:
        if not _MIN_INT <= value <= _MAX_INT:
            raise InvalidArgument(f"{where}: the integer does not fit 64 bits; store it as a str or a Decimal")
        if self.big is None:
            self.big = value
        return value


def _plain(value: Any, plain: type) -> Any:
    # `str(member)` of an enumeration is its name, and what counts is its value.
    if plain is str:
        return str.__str__(value)
    if plain is int:
        return int.__index__(value)
    return plain(value)


def _text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"{where}: the text holds a lone surrogate and is no valid Unicode") from error
    return value


def _name(name: object, where: str) -> str:
    if not isinstance(name, str):
        raise InvalidArgument(f"{where or 'the document'}: a field's name is a str, not {name!r}")
    return _text(str.__str__(name), f"the name of a field of {where or 'the document'}")
