"""What `portable config explain` shows: each value in force and where it came from, without secrets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import msgspec

from portable.config.places import Place, default_url
from portable.config.profiles import Profile
from portable.config.references import holds_reference, redacted, redacted_url
from portable.config.tables import Placed
from portable.contracts import CONTRACTS
from portable.errors import ConfigError
from portable.quantities import Duration
from portable.registry import provider
from portable.urls import Url

__all__ = ["Explained", "explain"]

_DEFAULT = "default"


class Explained(msgspec.Struct, frozen=True):
    """One value in force.

    Attributes:
        path: its key path, such as `resources.jobs.visibility_timeout`.
        value: the value as JSON can hold it, secrets as `***`, references as written.
        origin: the file and line, the variable of the environment, or `"default"`.
    """

    path: str
    value: Any
    origin: str


def explain(profile: Profile) -> list[Explained]:
    """List every value in force under a profile, in the order of the config."""
    return [*_contracts(profile), *_profile(profile), *_bindings(profile)]


def _contracts(profile: Profile) -> list[Explained]:
    found = []
    for name, declared in profile.resources.items():
        path = f"resources.{name}"
        found.append(Explained(f"{path}.kind", declared.kind, profile.source.origin(("resources", name, "kind"))))
        for key in declared.contract.__struct_fields__:
            value = getattr(declared.contract, key)
            implied = key == "needs" and key not in declared.written and value
            at = "ordered" if implied else key
            written = implied or key in declared.written
            origin = profile.source.origin(("resources", name, at)) if written else _DEFAULT
            found.append(Explained(f"{path}.{key}", _plain(value), origin))
    return found


def _profile(profile: Profile) -> list[Explained]:
    table = profile.table
    values = {
        "default": None if table.default is None else _redacted(table.default.url or "", CONTRACTS),
        "create": table.create or "if_missing where embedded or a service, else never",
        "guard.limits": list(table.limits or ()),
        "guard.needs": "strict" if table.strict else "lenient",
    }
    path = f"profiles.{profile.name}"
    found = [Explained(f"{path}.extends", table.extends, profile.where((*_at(profile), "extends")))]
    for key, value in values.items():
        origin = profile.where(table.origins[key]) if key in table.origins else _DEFAULT
        found.append(Explained(f"{path}.{key}", value, origin))
    if table.default is not None:
        known = _known(table.default.url or "", CONTRACTS)
        found += _options(profile, f"{path}.default", table.default, known)
    return found[0 if table.extends else 1 :]


def _at(profile: Profile) -> tuple[str, str]:
    return ("profiles", profile.name)


def _bindings(profile: Profile) -> list[Explained]:
    found = []
    for name, declared in profile.resources.items():
        path = f"profiles.{profile.name}.bind.{name}"
        try:
            place = profile.place(name, declared.contract)
        except ConfigError:
            found.append(Explained(path, None, "not bound"))
            continue
        origin = profile.where(place.keys)
        if place.own is None or place.own is not place.at:
            origin = profile.where(place.at.keys) + (" (its topic's)" if place.of_topic else " (the default)")
        found.append(Explained(path, _shown(place, declared.kind, name), origin))
        if place.own is not None:
            known = _known(place.at.url or "", [declared.kind])
            found += _options(profile, path, place.own, known)
    return found


def _shown(place: Place, kind: str, name: str) -> str:
    text = place.at.url or ""
    if place.by_default and not holds_reference(text):
        try:
            return str(default_url(Url.parse(text), kind, name))
        except ConfigError:
            return _redacted(text, [kind])
    return _redacted(text, [kind])


def _redacted(url: str, kinds: Iterable[str]) -> str:
    return redacted_url(url, known=_known(url, kinds))


def _known(url: str, kinds: Iterable[str]) -> frozenset[str] | None:
    """Name the options of a URL's drivers; None where there is no driver to ask.

    What a driver does not know may be a secret whose name was mistyped.
    """
    found: set[str] = set()
    for kind in kinds:
        with contextlib.suppress(ConfigError):
            driver = provider(url.partition(":")[0].lower(), kind).load()
            found.update(field.encode_name for field in msgspec.structs.fields(driver.Options))
    return frozenset(found | {"name", "create"}) if found else None


def _options(profile: Profile, path: str, placed: Placed, known: frozenset[str] | None) -> list[Explained]:
    values = {"name": placed.name, "create": placed.create} | placed.options
    return [
        Explained(f"{path}.{key}", _plain(redacted(key, value, known=known)), profile.where((*placed.keys, key)))
        for key, value in values.items()
        if value is not None
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, Duration):
        return f"{value:g}s"
    if isinstance(value, (tuple, list)):
        return [_plain(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
