"""How a reference names a secret of a secret manager: `NAME?option=…`, the same at every one of them."""

from __future__ import annotations

from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec

from portable.errors import ConfigError

__all__ = ["take_apart"]

T = TypeVar("T", bound=msgspec.Struct)


def take_apart(written: str, options: type[T]) -> tuple[str, T]:
    """Take apart what a reference says after its scheme.

    Args:
        written: `NAME?option=…&option=…`, percent-encoded as the query of a URL is.
        options: the struct of what may stand behind the name; it forbids unknown fields.

    Raises:
        ConfigError: there is no name, or an option is unknown or written twice.
    """
    name, mark, query = written.partition("?")
    if not name:
        raise ConfigError("the reference names no secret")
    try:
        pairs = parse_qsl(query, keep_blank_values=False, strict_parsing=True) if mark else []
    except ValueError:
        raise ConfigError("what follows the ? of a reference is written option=value&option=value") from None
    given = dict(pairs)
    if len(given) < len(pairs):
        raise ConfigError("an option of the reference stands twice; keep one")
    known = {field.encode_name for field in msgspec.structs.fields(options)}
    for option in given:
        if option not in known:
            raise ConfigError(
                f"a reference of this kind has no option {option!r}; it can be {', '.join(sorted(known))}"
            )
    return name, msgspec.convert(given, options, strict=False)
