"""One resource of one profile, with its URL and options resolved: what a driver's `Binding` is made from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import msgspec

from portable.bindings import Options
from portable.config.source import Keys, Source, nearest
from portable.contracts import Contract, read_quantity
from portable.errors import ConfigError
from portable.urls import Url

__all__ = ["Bound", "check_option_names", "read_options"]

O = TypeVar("O", bound=Options)  # noqa: E741 (the one type that is read here)


class Bound(msgspec.Struct, frozen=True, kw_only=True):
    """One resource, as its profile binds it; it prints without its options.

    Attributes:
        resource: its name in the config.
        kind: `"bucket"`, `"queue"` …
        contract: what the application needs.
        url: where it is.
        options: from the URL's query and the binding's table, references resolved.
        physical: its name at the backend.
        create: whether what is missing is made.
        strict: whether undeclared use of capabilities is refused.
        limits: the clouds whose limits it keeps to.
        shared_options: options that came with a URL which serves several kinds; a driver takes those that it has.
        referenced: the names of options whose values came from references, and so are shown nowhere.
        unwritten: the names of options that came out of references themselves, of which the same is true.
        keys: where the binding was written.
        source: where that is.
    """

    resource: str
    kind: str
    contract: Contract
    url: Url
    options: dict[str, Any]
    physical: str
    create: bool
    strict: bool
    limits: tuple[str, ...]
    shared_options: dict[str, Any]
    referenced: frozenset[str]
    unwritten: frozenset[str]
    keys: Keys
    source: Source

    def __repr__(self) -> str:
        """Name the resource and where it is, without secrets."""
        return f"<Bound {self.resource!r} {self.kind} {self.url}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Show the same where `rich` prints, which would list every value."""
        return [("resource", self.resource), ("kind", self.kind), ("url", str(self.url))]

    def error(self, message: str, *inner: str) -> ConfigError:
        """Make the error that says where in the config, and of which resource."""
        error = self.source.error((*self.keys, *inner), message)
        error.resource = self.resource
        return error


def read_options(bound: Bound, options_type: type[O]) -> O:
    """Read a resource's options as its driver's own `Options`.

    Strings, such as those of a URL's query, are read as the numbers, booleans, durations, sizes and lists (separated
    by commas) that the driver wants; relative paths start at the config's folder.

    Raises:
        ConfigError: an option that the driver does not have, or a value that does not fit; the message names the
            resource, the option and the nearest right one.
    """
    check_option_names(bound, options_type)
    fields = {field.encode_name: field for field in msgspec.structs.fields(options_type)}
    given = {name: value for name, value in bound.shared_options.items() if name in fields} | bound.options
    for name, value in given.items():
        if isinstance(value, str) and get_origin(fields[name].type) in {tuple, list, set, frozenset}:
            given[name] = [part.strip() for part in value.split(",") if part.strip()]

    def read(type_: type, value: Any) -> Any:
        if issubclass(type_, Path):
            if not isinstance(value, str):
                raise ValueError("a path is a string")  # noqa: TRY004 (msgspec reports these alone as the value's fault)
            return Path(os.path.normpath(bound.source.folder / value))
        return read_quantity(type_, value)

    try:
        return msgspec.convert(given, options_type, dec_hook=read, strict=False)
    except msgspec.ValidationError as error:
        raise _refusal(bound, options_type, error) from None


def check_option_names(bound: Bound, options_type: type[Options]) -> None:
    """Check that a driver has every option that is given to it.

    Raises:
        ConfigError: it has not; the message names the nearest that it has.
    """
    known = {field.encode_name for field in msgspec.structs.fields(options_type)}
    for name in bound.options:
        if name not in known and name in bound.unwritten:
            raise bound.error(f"what the reference gives has an option that {bound.url.scheme}: {bound.kind}s have not")
        if name not in known:
            # Where there is no config, keys of the contract stand beside the options.
            beside = () if bound.keys else bound.contract.__struct_fields__
            hint = nearest(name, {*known, *beside, "name", "create"})
            raise bound.error(f"{bound.url.scheme}: {bound.kind}s have no option {name!r}{hint}", name)


def _refusal(bound: Bound, options_type: type[Options], error: msgspec.ValidationError) -> ConfigError:
    message, _, place = str(error).partition(" - at `$")
    name = place.strip("`").lstrip(".").partition(".")[0].partition("[")[0]
    quotes = not message.startswith("Object missing")
    if quotes and (name in bound.referenced or (not name and bound.referenced)):
        types = {field.encode_name: field.type for field in msgspec.structs.fields(options_type)}
        return bound.error(f"what the reference gives is not {_described(types.get(name))}", *filter(None, [name]))
    missing = f": {message[:1].lower()}{message[1:]}"
    return bound.error(f"an option of {bound.url.scheme}: {bound.kind}s does not fit{missing}", *filter(None, [name]))


def _described(type_: Any) -> str:
    choices = [repr(choice) for choice in get_args(type_) if isinstance(choice, str)]
    if choices:
        return f"one of {', '.join(choices)}"
    return f"a {type_.__name__.lower()}" if isinstance(type_, type) else "a value that the option takes"
