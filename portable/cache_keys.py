"""What keys and times of a cache are, and how `@cache.cached(key="user:{id}")` makes its keys."""

from __future__ import annotations

import inspect
import re
import string
from collections.abc import Callable, Mapping
from typing import Any

from portable.errors import InvalidArgument, LimitExceeded
from portable.quantities import LONGEST

__all__ = ["KeyTemplate", "check_key", "check_seconds"]

_CONVERSIONS: dict[str, Callable[[Any], str]] = {"r": repr, "s": str, "a": ascii}
# Characters that hold two fields apart; a letter or digit could as well be part of a value.
_SEPARATOR = re.compile(r"[^\w%]", re.ASCII)


def check_key(key: object, longest: int | None) -> None:
    """Refuse what is no key: a key is a str of at least one character that UTF-8 can carry.

    Args:
        key: what was given.
        longest: bytes of UTF-8, or None.

    Raises:
        InvalidArgument: it is none.
        LimitExceeded: it is too long.
    """
    if not isinstance(key, str):
        raise InvalidArgument(f"a key is a str, not {type(key).__name__}")
    if not key:
        raise InvalidArgument("a key has at least one character")
    try:
        size = len(key.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument(f"the key {key!r} is not valid Unicode text: {error}") from error
    if longest is not None and size > longest:
        raise LimitExceeded(f"the key has {size} bytes of UTF-8, and this cache takes {longest}")


def check_seconds(name: str, seconds: object) -> None:
    """Refuse what is neither None nor a number of seconds above 0.

    Args:
        name: the argument.
        seconds: what was given.

    Raises:
        InvalidArgument: it is neither.
    """
    if seconds is None:
        return
    # NaN fails the comparison.
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 < seconds < LONGEST:
        raise InvalidArgument(f"{name}={seconds!r:.40} is not a number of seconds above 0, up to 3,000 years")


class KeyTemplate:
    """A format string over a function's arguments, such as `"user:{id}"`.

    A single field is filled in as `str()` gives it. Where there are several, a value's `%` and the separators between
    fields are percent-encoded, so that no two calls with different texts share a key.
    """

    def __init__(self, template: str, function: Callable[..., Any]) -> None:
        """Take a template apart.

        Args:
            template: literal text and fields `{argument}`, with a conversion or format where wanted.
            function: whose arguments the fields name.

        Raises:
            InvalidArgument: a field names no argument, or nothing holds two fields apart.
        """
        self._signature = inspect.signature(function)
        try:
            parts = list(string.Formatter().parse(template))
        except ValueError as error:
            raise InvalidArgument(f"key={template!r} is no format string: {error}") from error
        self._template = template
        self._fields = [(literal, name, spec or "", conversion) for literal, name, spec, conversion in parts]
        for _, name, spec, conversion in self._fields:
            if "{" in spec or (conversion is not None and conversion not in _CONVERSIONS):
                raise InvalidArgument(f"key={template!r}: a field takes a conversion !r, !s or !a, and a plain format")
            if name is not None and name not in self._signature.parameters:
                raise InvalidArgument(
                    f"key={template!r} names {name!r}, which is no argument of {function.__qualname__}"
                    f"{self._signature}; a field is the name of an argument"
                )
        separators: set[str] = set()
        for literal in self._between():
            found = _SEPARATOR.findall(literal)
            if not found:
                raise InvalidArgument(f"key={template!r}: hold its fields apart with a character such as ':'")
            separators.update(found)
        self._escaped = re.compile(f"[%{re.escape(''.join(sorted(separators)))}]") if separators else None

    def _between(self) -> list[str]:
        """The text between each field and the next; a doubled brace splits it into several parts."""
        texts: list[str] = []
        text: str | None = None
        for literal, name, _, _ in self._fields:
            text = literal if text is None else text + literal
            if name is not None:
                texts.append(text)
                text = None
        return texts[1:]

    def key(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """Give the key of one call.

        Raises:
            InvalidArgument: an argument does not fit its field's format.
            TypeError: the arguments do not fit the function.
        """
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        pieces: list[str] = []
        for literal, name, spec, conversion in self._fields:
            pieces.append(literal)
            if name is not None:
                pieces.append(self._piece(bound.arguments[name], spec, conversion))
        return "".join(pieces)

    def _piece(self, value: Any, spec: str, conversion: str | None) -> str:
        if conversion is not None:
            value = _CONVERSIONS[conversion](value)
        try:
            text = format(value, spec)
        except (TypeError, ValueError) as error:
            raise InvalidArgument(f"key={self._template!r} cannot take a {type(value).__name__}: {error}") from error
        if self._escaped is None:
            return text
        return self._escaped.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), text)
