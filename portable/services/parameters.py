"""What an installation can be told: parameters with a schema, their values, and secrets that are made."""

from __future__ import annotations

import math
import re
import secrets
import string
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from portable.config.source import nearest
from portable.errors import ConfigError

__all__ = ["Generated", "Parameter", "Value", "check_value", "decided", "generate", "read_value"]

Value = str | int | float | bool
_ALPHABET = string.ascii_letters + string.digits
_TYPES: dict[str, tuple[type, ...]] = {"string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,)}


class Generated(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a value is made where none is given: letters and digits.

    Attributes:
        length: how many.
    """

    length: int = 32


class Parameter(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """One parameter: the keywords of JSON Schema that describe one value, and two of ours.

    Attributes:
        type: the value's type.
        title: what a person is asked for.
        description: what it does.
        default: the value where none is given; without it the parameter is required, or generated.
        enum: the values that it can be.
        pattern: a regular expression that the whole of a text has to match.
        min_length: of a text.
        max_length: of a text.
        minimum: of a number.
        maximum: of a number.
        sensitive: whether it is a secret: kept with mode 0600, and never shown unless asked for.
        generated: how it is made where it is not given.
    """

    type: Literal["string", "integer", "number", "boolean"]
    description: str
    title: str | None = None
    default: Value | None = None
    enum: list[Value] | None = None
    pattern: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    sensitive: bool = False
    generated: Generated | None = None


def generate(parameter: Parameter) -> str:
    """Make a secret of letters and digits, which no config format, URL or shell reads in another way."""
    length = parameter.generated.length if parameter.generated is not None else Generated().length
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))


def read_value(name: str, parameter: Parameter, text: str) -> Value:
    """Read a value that was written as text, as on a command line, and check it.

    Raises:
        ConfigError: it does not fit the parameter's schema; a secret is not repeated.
    """
    value: Value = text
    try:
        if parameter.type == "integer":
            value = int(text)
        elif parameter.type == "number":
            value = float(text)
        elif parameter.type == "boolean":
            value = {"true": True, "false": False}[text.lower()]
    except (ValueError, KeyError):
        raise _wrong(name, parameter, text, f"is no {parameter.type}") from None
    check_value(name, parameter, value)
    return value


def check_value(name: str, parameter: Parameter, value: object) -> None:
    """Check a value against its parameter's schema.

    Raises:
        ConfigError: it does not fit; a secret is not repeated.
    """
    if not isinstance(value, _TYPES[parameter.type]) or (isinstance(value, bool) and parameter.type != "boolean"):
        raise _wrong(name, parameter, value, f"is no {parameter.type}")
    if parameter.enum is not None and value not in parameter.enum:
        raise _wrong(name, parameter, value, f"can be {', '.join(map(str, parameter.enum))}")
    if isinstance(value, str):
        _check_text(name, parameter, value)
    elif parameter.type in {"integer", "number"}:
        if not math.isfinite(value):  # type: ignore[arg-type] # a number, by its type above
            raise _wrong(name, parameter, value, "is not finite")
        if parameter.minimum is not None and value < parameter.minimum:  # type: ignore[operator] # the same
            raise _wrong(name, parameter, value, f"must be at least {parameter.minimum:g}")
        if parameter.maximum is not None and value > parameter.maximum:  # type: ignore[operator] # the same
            raise _wrong(name, parameter, value, f"must be at most {parameter.maximum:g}")


def _check_text(name: str, parameter: Parameter, value: str) -> None:
    # A line feed would start a setting of its own in a config file.
    if not value.isprintable():
        raise _wrong(name, parameter, value, "holds a character that cannot be printed")
    if parameter.min_length is not None and len(value) < parameter.min_length:
        raise _wrong(name, parameter, value, f"must have at least {parameter.min_length} characters")
    if parameter.max_length is not None and len(value) > parameter.max_length:
        raise _wrong(name, parameter, value, f"must have at most {parameter.max_length} characters")
    if parameter.pattern is not None and not re.fullmatch(parameter.pattern, value):
        raise _wrong(name, parameter, value, f"must match {parameter.pattern}")


def _wrong(name: str, parameter: Parameter, value: object, why: str) -> ConfigError:
    shown = "the value" if parameter.sensitive else repr(value)
    return ConfigError(f"parameter {name}: {shown} {why} ({parameter.description})")


def decided(
    parameters: Mapping[str, Parameter],
    given: Mapping[str, Value],
    planned: Mapping[str, Any],
    kept: Mapping[str, Value],
) -> dict[str, Value]:
    """Give every parameter its value: the one given, else kept from before, else the plan's, the default, or made.

    Args:
        parameters: the manifest's.
        given: what the user said.
        planned: what the plan says.
        kept: what an earlier installation was told or made.

    Raises:
        ConfigError: a parameter is unknown, wrong, or has no value at all.
    """
    for name in given:
        if name not in parameters:
            raise ConfigError(f"no parameter {name!r}{nearest(name, parameters)}")
    values: dict[str, Value] = {}
    for name, parameter in parameters.items():
        if name in given:
            value: Value | None = given[name]
        elif name in kept:
            value = kept[name]
        else:
            value = planned.get(name, parameter.default)
            if value is None and parameter.generated is not None:
                value = generate(parameter)
        if value is None:
            raise ConfigError(f"parameter {name} has no value ({parameter.description}); give it with --set {name}=…")
        check_value(name, parameter, value)
        values[name] = value
    return values
