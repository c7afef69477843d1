"""Overrides from the environment: `PORTABLE_PROFILES__AWS__BIND__PHOTOS=…`, `PORTABLE_RESOURCES__JOBS__TIMEOUT=…`.

A segment is a key in upper case with `-` as `_`. A value that reads as a TOML array, inline table or quoted string
is one; anything else is taken as it stands, and read as a number or a boolean where the key wants one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from portable.config.source import Keys, Source, nearest
from portable.contracts import CONTRACTS
from portable.errors import ConfigError

__all__ = ["override", "overrides", "selects"]

_SECTIONS = {"PORTABLE_PROFILES": "profiles", "PORTABLE_RESOURCES": "resources"}
_SELECTING = ("PORTABLE_CONFIG", "PORTABLE_PROFILE", "PORTABLE_DEFAULT_PROFILE")
_PROFILE_KEYS = ("default", "bind", "extends", "create", "guard")


def selects(environ: Mapping[str, str]) -> str | None:
    """Name a variable that speaks of a config file, so that its absence is an error; None where there is none."""
    named = (name for name in _SELECTING if environ.get(name))
    return next(named, None) or next((name for name, _ in overrides(environ)), None)


def overrides(environ: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """List the overriding variables, sorted, each with its segments after the section.

    Raises:
        ConfigError: a section is misspelt.
    """
    for variable in sorted(environ):
        section, separator, rest = variable.partition("__")
        if not separator or not section.startswith("PORTABLE_"):
            continue
        if section in _SECTIONS:
            yield variable, rest.split("__")
        elif section.rstrip("S") + "S" in _SECTIONS:
            raise ConfigError(f"${variable}: no such override; did you mean {section.rstrip('S')}S__{rest}?")


def override(tree: dict[str, Any], environ: Mapping[str, str], source: Source) -> None:
    """Put the variables' values into a config's tree, and note in `source` where they came from.

    Raises:
        ConfigError: a variable names a profile, resource or key that there is not.
    """
    if value := environ.get("PORTABLE_DEFAULT_PROFILE"):
        tree["default_profile"] = value
        source.variables["default_profile",] = "PORTABLE_DEFAULT_PROFILE"
    for variable, segments in overrides(environ):
        section = variable.partition("__")[0]
        try:
            keys = _keys(tree, _SECTIONS[section], segments)
        except ConfigError as error:
            raise ConfigError(f"${variable}: {error.message}") from None
        source.variables[keys] = variable
        _place(tree, keys, _value(environ[variable], variable), variable)


def _keys(tree: dict[str, Any], section: str, segments: list[str]) -> Keys:
    """Find the keys that the segments stand for."""
    name = _match(segments[0], _table(tree.get(section)), section[:-1])
    rest = segments[1:]
    if not all(segments) or not rest:
        raise ConfigError(f"name a key after the {section[:-1]}, as in PORTABLE_{section.upper()}__{segments[0]}__KEY")
    entry = _table(_table(tree.get(section)).get(name))
    if section == "resources":
        contract = CONTRACTS.get(str(entry.get("kind")))
        known = {"kind"}.union(*(one.__struct_fields__ for one in ([contract] if contract else CONTRACTS.values())))
        key = _match(rest[0], known, "key")
        return section, name, key, *_inner(_table(entry.get(key)), rest[1:])
    key = _match(rest[0], _PROFILE_KEYS, "key")
    if key == "bind":
        if len(rest) < 2:
            raise ConfigError(f"name the resource too, as in PORTABLE_PROFILES__{segments[0]}__BIND__PHOTOS")
        resource = _match(rest[1], _table(tree.get("resources")), "resource")
        bound = _table(_table(entry.get("bind")).get(resource))
        return section, name, key, resource, *_inner(bound, rest[2:])
    return section, name, key, *_inner(_table(entry.get(key)), rest[1:])


def _match(segment: str, known: Iterable[str], what: str) -> str:
    spelt: dict[str, list[str]] = {}
    for name in known:
        spelt.setdefault(_segment(name), []).append(name)
    found = spelt.get(segment.upper(), [])
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{segment} may be any of {', '.join(found)}; rename all but one")
    raise ConfigError(f"the config has no {what} {segment}{nearest(segment, spelt)}")


def _inner(table: dict[str, Any], segments: list[str]) -> Keys:
    """Follow segments into a table of free keys: those that are there already, else in lower case."""
    keys: list[str] = []
    for segment in segments:
        key = next((name for name in table if _segment(name) == segment.upper()), segment.lower())
        keys.append(key)
        table = _table(table.get(key))
    return tuple(keys)


def _segment(name: str) -> str:
    return name.upper().replace("-", "_")


def _table(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _place(tree: dict[str, Any], keys: Keys, value: Any, variable: str) -> None:
    table = tree
    for depth, key in enumerate(keys[:-1]):
        inner: Any = table.get(key)
        if isinstance(inner, str) and (keys[2], depth) in {("bind", 3), ("default", 2)}:
            inner = {"url": inner}  # the shorthand makes room for an option
        if inner is not None and not isinstance(inner, dict):
            raise ConfigError(f"${variable}: {'.'.join(keys[: depth + 1])} is no table that could hold {keys[-1]}")
        table[key] = inner = dict(inner or {})
        table = inner
    table[keys[-1]] = value


def _value(text: str, variable: str) -> Any:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ConfigError(f"${variable}: the value is not UTF-8") from None
    if text[:1] in tuple("[{\"'"):
        import tomllib  # noqa: PLC0415 (only such values need it)

        try:
            read = tomllib.loads(f"value = {text}")
        except (ValueError, RecursionError):
            return text
        # More than one key means that the text was more than a value.
        return read["value"] if len(read) == 1 else text
    return text
