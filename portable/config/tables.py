"""The tables of `portable.toml`, read and checked: `[resources.NAME]` and `[profiles.NAME]`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal, cast

import msgspec

from portable.config.source import Keys, Source, nearest
from portable.contracts import CONTRACTS, Contract, QueueContract, StreamContract, SubscriptionContract, read_quantity
from portable.errors import ConfigError

__all__ = [
    "Create",
    "Declared",
    "Placed",
    "ProfileTable",
    "Tables",
    "check_contract",
    "check_resource_name",
    "flattened",
    "read_contract",
    "read_create",
    "read_placed",
    "read_tables",
]

Create = Literal["if_missing", "never"]

_NAME = re.compile(r"[a-z](-?[a-z0-9]){2,39}")
_PROFILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_RULE = "3 to 40 characters: lower-case letters, digits and single hyphens, a letter first"


class Declared(msgspec.Struct, frozen=True):
    """One `[resources.NAME]`: what the application needs.

    Attributes:
        kind: the kind.
        contract: the contract.
        written: the keys that the file or the environment set.
    """

    kind: str
    contract: Contract
    written: tuple[str, ...] = ()


class Placed(msgspec.Struct, frozen=True):
    """Where a resource is, as a profile writes it: a URL, or a table of a URL and options.

    Attributes:
        keys: where it was written.
        url: the URL, references unresolved; None where a subscription takes its topic's.
        options: the table's other keys, references unresolved.
        name: the physical name, or None.
        create: whether what is missing is made, or None for the profile's rule.
    """

    keys: Keys
    url: str | None = None
    options: dict[str, Any] = msgspec.field(default_factory=dict)
    name: str | None = None
    create: Create | None = None

    def __repr__(self) -> str:
        """Name the place alone: what is written there may hold passwords."""
        return f"<Placed {'.'.join(self.keys)}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Show the same where `rich` prints, which would list every value."""
        return [("keys", self.keys)]


class ProfileTable(msgspec.Struct, frozen=True):
    """One `[profiles.NAME]`, alone or with what it inherits.

    Attributes:
        bind: resource → where it is.
        default: where what `bind` does not name is.
        create: whether what is missing is made.
        limits: the clouds whose limits are kept to.
        strict: whether undeclared use of capabilities is refused.
        extends: the profile that it inherits from.
        origins: key → where it was written, for `default`, `create`, `guard.limits` and `guard.needs`.
    """

    bind: dict[str, Placed] = msgspec.field(default_factory=dict)
    default: Placed | None = None
    create: Create | None = None
    limits: tuple[str, ...] | None = None
    strict: bool | None = None
    extends: str | None = None
    origins: dict[str, Keys] = msgspec.field(default_factory=dict)


class Tables(msgspec.Struct, frozen=True):
    """The whole file.

    Attributes:
        resources: name → what is declared of it.
        profiles: name → its table, inheritance not applied.
        default_profile: the profile in force where nothing else says which.
    """

    resources: dict[str, Declared]
    profiles: dict[str, ProfileTable]
    default_profile: str | None


def read_tables(tree: dict[str, Any], source: Source) -> Tables:
    """Read a config's whole tree.

    Raises:
        ConfigError: a key, name, kind or value is wrong; the message names file, line, key path and nearest spelling.
    """
    _only(tree, ("default_profile", "resources", "profiles"), (), source)
    resources = {
        name: _read_declared(name, table, source) for name, table in _tables(tree, ("resources",), source).items()
    }
    for name, declared in resources.items():
        _check_neighbours(name, declared, resources, source)
    profiles = {
        name: _read_profile(name, table, resources, source)
        for name, table in _tables(tree, ("profiles",), source).items()
    }
    for name, profile in profiles.items():
        if profile.extends is not None and profile.extends not in profiles:
            raise _unknown(("profiles", name, "extends"), "profile", profile.extends, profiles, source)
        flattened(name, profiles, source)
    default = tree.get("default_profile")
    if default is not None:
        _string(default, ("default_profile",), source)
        if default not in profiles:
            raise _unknown(("default_profile",), "profile", default, profiles, source)
    return Tables(resources, profiles, default)


def flattened(name: str, profiles: dict[str, ProfileTable], source: Source) -> ProfileTable:
    """Give a profile with what it inherits by `extends`; what is nearer wins, binding by binding.

    Raises:
        ConfigError: the profiles extend each other in a circle.
    """
    chain = [name]
    while (parent := profiles[chain[-1]].extends) is not None:
        if parent in chain:
            circle = " → ".join([*chain, parent])
            raise source.error(("profiles", chain[-1], "extends"), f"profiles extend each other in a circle: {circle}")
        chain.append(parent)
    merged: dict[str, Any] = {"bind": {}, "origins": {}}
    for one in reversed(chain):
        table = profiles[one]
        merged["bind"] |= table.bind
        merged["origins"] |= table.origins
        for field in ("default", "create", "limits", "strict"):
            value = getattr(table, field)
            if value is not None:
                merged[field] = value
    return ProfileTable(**merged, extends=profiles[name].extends)


def read_contract(kind: str, table: dict[str, Any], *, keys: Keys, source: Source, lax: bool = False) -> Contract:
    """Read the keys of a contract.

    Args:
        kind: the kind.
        table: its keys, without `kind`.
        keys: where it was written.
        source: where that is.
        lax: whether numbers and booleans may be written as strings, as they are in the environment.

    Raises:
        ConfigError: a key or value is wrong.
    """
    contract_type = CONTRACTS[kind]
    _only(table, contract_type.__struct_fields__, keys, source)
    if kind == "subscription" and "topic" not in table:
        raise source.error(keys, 'a subscription names the topic that feeds it; add topic = "…"')
    try:
        contract = msgspec.convert(table, contract_type, dec_hook=read_quantity, strict=not lax)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at `$")
        inner = tuple(re.findall(r"[A-Za-z_]+", place))
        raise source.error((*keys, *inner), message[:1].lower() + message[1:]) from None
    return check_contract(kind, contract, keys=keys, source=source)


def check_contract(kind: str, contract: Contract, *, keys: Keys, source: Source) -> Contract:
    """Check the needs of a contract against its kind, and add those that its other keys imply.

    Raises:
        ConfigError: a need is no capability of the kind.
    """
    known = contract.capabilities.features()
    for need in contract.needs:
        if need not in known:
            raise _unknown((*keys, "needs"), f"capability of a {kind}", need, known, source)
    if isinstance(contract, QueueContract) and contract.ordered and "ordered" not in contract.needs:
        return msgspec.structs.replace(contract, needs=(*contract.needs, "ordered"))
    return contract


def read_placed(value: Any, keys: Keys, source: Source, *, needs_url: bool = True) -> Placed:
    """Read a binding: a URL, or a table of a URL and options.

    Raises:
        ConfigError: it is neither, or has no URL.
    """
    if isinstance(value, str):
        return Placed(keys, url=value)
    if not isinstance(value, dict):
        raise source.error(keys, 'a binding is a URL, or a table such as { url = "…", region = "…" }')
    options = {name: inner for name, inner in value.items() if name not in {"url", "name", "create"}}
    url, name = value.get("url"), value.get("name")
    if url is None and needs_url:
        raise source.error(keys, "the binding has no url" + (nearest_key(options, "url")))
    for key, given in (("url", url), ("name", name)):
        if given is not None:
            _string(given, (*keys, key), source)
    create = read_create(value["create"], (*keys, "create"), source) if "create" in value else None
    return Placed(keys, url, options, name, create)


def nearest_key(keys: Iterable[str], wanted: str) -> str:
    """Point at the key that may have been meant as the wanted one."""
    near = nearest(wanted, keys)
    return f": is {wanted} written as {near[len('; did you mean ') : -1]}?" if near.startswith("; did") else ""


def read_create(value: Any, keys: Keys, source: Source) -> Create:
    """Read `create`.

    Raises:
        ConfigError: it is neither `"if_missing"` nor `"never"`.
    """
    if isinstance(value, str) and value in {"if_missing", "never"}:
        return cast("Create", value)
    raise source.error(keys, 'create is "if_missing" or "never"')


def check_resource_name(name: object, keys: Keys, source: Source) -> None:
    """Check that a resource's name is valid on every cloud.

    Raises:
        ConfigError: it is not.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > 40:
        raise source.error(keys, f"{name!r} is no resource name; a name has {_RULE}")


def _read_declared(name: str, table: dict[str, Any], source: Source) -> Declared:
    keys = ("resources", name)
    check_resource_name(name, keys, source)
    kind = table.get("kind")
    if kind is None:
        raise source.error(keys, f"the resource has no kind{nearest_key(table, 'kind') or nearest('', CONTRACTS)}")
    _string(kind, (*keys, "kind"), source)
    if kind not in CONTRACTS:
        raise _unknown((*keys, "kind"), "kind", kind, CONTRACTS, source)
    given = {key: value for key, value in table.items() if key != "kind"}
    lax = any(overridden[:2] == keys for overridden in source.variables)
    contract = read_contract(kind, given, keys=keys, source=source, lax=lax)
    return Declared(kind, contract, tuple(given))


def _check_neighbours(name: str, declared: Declared, resources: dict[str, Declared], source: Source) -> None:
    """Check that the resources that a contract names are there, and of the right kind."""
    contract = declared.contract
    wanted: list[tuple[str, str | None, str]] = []
    if isinstance(contract, SubscriptionContract):
        wanted.append(("topic", contract.topic, "topic"))
    if isinstance(contract, QueueContract):
        wanted += [("dead_letter", contract.dead_letter, "queue"), ("offload", contract.offload, "bucket")]
    if isinstance(contract, StreamContract):
        wanted.append(("checkpoint", contract.checkpoint, "collection"))
    for key, other, kind in wanted:
        if other is None:
            continue
        keys = ("resources", name, key)
        of_kind = [one for one, known in resources.items() if known.kind == kind]
        if other not in resources:
            raise _unknown(keys, kind, other, of_kind, source)
        if other not in of_kind:
            raise source.error(keys, f"{other!r} is a {resources[other].kind}, where a {kind} is needed")
        if other == name:
            raise source.error(keys, "a queue cannot be its own dead-letter queue")


def _read_profile(name: str, table: dict[str, Any], resources: dict[str, Declared], source: Source) -> ProfileTable:
    keys = ("profiles", name)
    if not _PROFILE_NAME.fullmatch(name):
        raise source.error(keys, "not a profile name; a name has letters, digits, hyphens and underscores")
    _only(table, ("default", "bind", "extends", "create", "guard"), keys, source)
    origins: dict[str, Keys] = {key: (*keys, key) for key in ("default", "create") if key in table}
    bind = {}
    for resource, value in _table(table.get("bind", {}), (*keys, "bind"), source).items():
        place = (*keys, "bind", resource)
        if resource not in resources:
            raise _unknown(place, "resource", resource, resources, source)
        bind[resource] = read_placed(value, place, source, needs_url=resources[resource].kind != "subscription")
    guard = _table(table.get("guard", {}), (*keys, "guard"), source)
    _only(guard, ("limits", "needs"), (*keys, "guard"), source)
    origins |= {f"guard.{key}": (*keys, "guard", key) for key in guard}
    extends = table.get("extends")
    if extends is not None:
        _string(extends, (*keys, "extends"), source)
    return ProfileTable(
        bind=bind,
        default=_read_default(table["default"], (*keys, "default"), source) if "default" in table else None,
        create=read_create(table["create"], (*keys, "create"), source) if "create" in table else None,
        limits=_read_limits(guard["limits"], (*keys, "guard", "limits"), source) if "limits" in guard else None,
        strict=_read_strict(guard["needs"], (*keys, "guard", "needs"), source) if "needs" in guard else None,
        extends=extends,
        origins=origins,
    )


def _read_default(value: Any, keys: Keys, source: Source) -> Placed:
    placed = read_placed(value, keys, source)
    if placed.name is not None:
        raise source.error((*keys, "name"), "a default has no name: each resource that it covers has its own")
    return placed


def _read_limits(value: Any, keys: Keys, source: Source) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise source.error(keys, 'limits is a list of clouds or services, such as ["aws", "gcp", "azure"]')
    from portable.limits import guard  # noqa: PLC0415 (reads the table of limits, which only a guard needs)

    try:
        guard(value, "bucket")
    except ConfigError as error:
        raise source.error(keys, error.message.removeprefix("guard.limits: ")) from None
    return tuple(value)


def _read_strict(value: Any, keys: Keys, source: Source) -> bool:
    if not isinstance(value, str) or value not in {"strict", "lenient"}:
        raise source.error(keys, 'needs is "strict" (undeclared use is refused) or "lenient" (the default)')
    return value == "strict"


def _only(table: dict[str, Any], known: Iterable[str], keys: Keys, source: Source) -> None:
    for key in table:
        if key not in known:
            raise source.error((*keys, key), f"unknown key{nearest(key, known)}")


def _tables(tree: dict[str, Any], keys: Keys, source: Source) -> dict[str, dict[str, Any]]:
    tables = _table(tree.get(keys[0], {}), keys, source)
    return {name: _table(table, (*keys, name), source) for name, table in tables.items()}


def _table(value: Any, keys: Keys, source: Source) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise source.error(keys, "a table is needed here")
    return value


def _string(value: Any, keys: Keys, source: Source) -> None:
    if not isinstance(value, str) or not value:
        raise source.error(keys, "a string is needed here")


def _unknown(keys: Keys, what: str, name: str, known: Iterable[str], source: Source) -> ConfigError:
    return source.error(keys, f"there is no {what} {name!r}{nearest(name, known)}")
