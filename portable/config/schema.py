"""The JSON Schema of `portable.toml`, from the contracts and the drivers' `Options`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from portable.bindings import Options
from portable.contracts import CONTRACTS
from portable.errors import ConfigError
from portable.quantities import Duration, Size
from portable.registry import adapters, provider

__all__ = ["schema"]

_CREATE = {"enum": ["if_missing", "never"], "description": "Whether what is missing is made on first use."}
_DURATION = {
    "anyOf": [
        {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(ms|s|m|h|d)\s*$"},
        {"type": "number", "minimum": 0},
    ]
}
_SIZE = {
    "anyOf": [
        {"type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*(B|KiB|MiB|GiB|TiB)\s*$"},
        {"type": "integer", "minimum": 0},
    ]
}


def schema() -> dict[str, Any]:
    """Give the schema; bindings know the options of every driver that is installed."""
    definitions: dict[str, Any] = {}
    kinds = []
    for kind, contract in CONTRACTS.items():
        definitions[kind] = _contract(kind, contract)
        kinds.append({"$ref": f"#/$defs/{kind}"})
    definitions["binding"] = _binding()
    definitions["profile"] = _profile()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "portable.toml",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "default_profile": {"type": "string", "description": "The profile in force where nothing else says which."},
            "resources": {
                "type": "object",
                "description": "What the application needs, the same on every cloud.",
                "propertyNames": {"pattern": "^[a-z](-?[a-z0-9]){2,39}$", "maxLength": 40},
                "additionalProperties": {"oneOf": kinds},
            },
            "profiles": {
                "type": "object",
                "description": "Where the resources are.",
                "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9_-]*$"},
                "additionalProperties": {"$ref": "#/$defs/profile"},
            },
        },
        "$defs": definitions,
    }


def _contract(kind: str, contract: type[msgspec.Struct]) -> dict[str, Any]:
    made = _of(contract)
    made["title"] = kind
    made["properties"] = {"kind": {"const": kind}} | made["properties"]
    made["properties"]["needs"] = {
        "type": "array",
        "items": {"enum": list(CONTRACTS[kind].capabilities.features())},
        "description": made["properties"]["needs"].get("description", ""),
    }
    made["required"] = ["kind", *made["required"]]
    return made


def _of(struct: type[msgspec.Struct]) -> dict[str, Any]:
    """Give the schema of a struct, with the descriptions that its docstring gives its fields."""
    described: dict[str, str] = {}
    for ancestor in reversed(struct.__mro__):
        for name, text in re.findall(r"^ {4,8}(\w+): (.+(?:\n {10,}.+)*)", ancestor.__doc__ or "", re.MULTILINE):
            described[name] = " ".join(text.split())
    properties, required = {}, []
    for field in msgspec.structs.fields(struct):
        # Field by field: msgspec cannot write the default of a type that it does not know, such as a duration.
        made = msgspec.json.schema(field.type, schema_hook=_special)
        if field.required:
            required.append(field.encode_name)
        elif field.default is not msgspec.NODEFAULT and field.default is not None:
            made["default"] = msgspec.json.decode(msgspec.json.encode(field.default, enc_hook=_written))
        if field.name in described:
            made["description"] = described[field.name]
        properties[field.encode_name] = made
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _special(type_: type) -> dict[str, Any]:
    if issubclass(type_, Duration):
        return dict(_DURATION)
    if issubclass(type_, Size):
        return dict(_SIZE)
    return {"type": "string"} if issubclass(type_, Path) else {}


def _written(value: Any) -> Any:
    if isinstance(value, Duration):
        return f"{value:g}s"
    return int(value) if isinstance(value, Size) else str(value)


def _binding() -> dict[str, Any]:
    """Give the schema of a binding: a URL, or a table of a URL and its driver's options."""
    schemes = dict(sorted(_options().items()))
    tables = [_table(f"^{re.escape(scheme)}:", options) for scheme, options in schemes.items()]
    known = "|".join(map(re.escape, schemes))
    tables.append(_table(f"^(?!({known}):)" if known else "", None))
    subscription = _table("", {name: one for options in schemes.values() for name, one in options.items()})
    subscription["description"] = "Of a subscription that lives where its topic does."
    del subscription["required"], subscription["properties"]["url"]
    return {"anyOf": [{"type": "string", "minLength": 1}, *tables, subscription]}


def _table(pattern: str, options: dict[str, Any] | None) -> dict[str, Any]:
    url = {"type": "string", "description": "The URL; its query may hold options too."}
    return {
        "type": "object",
        "required": ["url"],
        "additionalProperties": options is None,
        "properties": {
            "url": url | ({"pattern": pattern} if pattern else {}),
            "name": {"type": "string", "description": "The physical name."},
            "create": _CREATE,
            **(options or {}),
        },
    }


def _options() -> dict[str, dict[str, Any]]:
    """Collect the options of the installed drivers, scheme by scheme, whatever their kind."""
    found: dict[str, dict[str, Any]] = {}
    for adapter in adapters():
        for scheme, kinds in adapter.schemes.items():
            for kind in kinds if scheme != "*" else ():
                try:
                    options: type[Options] = provider(scheme, kind).load().Options
                except ConfigError:
                    continue  # its extra is not installed, so its options are not known
                for name, one in _of(options)["properties"].items():
                    aside = {key: one.pop(key) for key in ("description", "default") if key in one}
                    # A reference may stand for any value.
                    found.setdefault(scheme, {})[name] = aside | {"anyOf": [one, {"type": "string"}]}
                found.setdefault(scheme, {})
    return found


def _profile() -> dict[str, Any]:
    binding = {"$ref": "#/$defs/binding"}
    guard = {
        "limits": {
            "type": "array",
            "items": {"type": "string"},
            "description": 'Clouds or services whose limits are kept to, such as ["aws", "gcp", "azure"].',
        },
        "needs": {
            "enum": ["strict", "lenient"],
            "description": '"strict" refuses capabilities that the contract does not declare.',
        },
    }
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "default": {"description": "Where what `bind` does not name is."} | binding,
            "bind": {
                "type": "object",
                "description": "Where each resource is: a URL, or a table of a URL and options.",
                "additionalProperties": binding,
            },
            "extends": {"type": "string", "description": "The profile that this one inherits from."},
            "create": _CREATE,
            "guard": {"type": "object", "additionalProperties": False, "properties": guard},
        },
    }
