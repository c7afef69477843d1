"""References in bindings: `${env:NAME}`, `${env:NAME:-default}`, `${file:path}`, `${binding:name/key}`, and others.

They are resolved when their resource is bound, not when the file is read, and what they give is shown nowhere: URLs
and options print as they were written. `$${` stands for `${` itself. An adapter adds a scheme by an entry point in
the group `portable.references`: its name is the scheme, its value `"module:function"` a function from what follows
the colon to the secret. `#field` at the end of such a reference takes one field of a secret that is a JSON object; that
part is not the function's to see.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_plus

import msgspec

from portable.config.source import nearest
from portable.errors import ConfigError, PortableError
from portable.urls import Url, is_secret

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "Resolve",
    "check_reference",
    "holds_reference",
    "parse_url",
    "read_binding_entry",
    "read_entry",
    "redacted",
    "redacted_url",
    "resolved",
    "resolver",
    "written_options",
]

Resolve = Callable[[str, str], str]
"""Gives what a reference stands for, from its scheme and its argument."""

_REFERENCE = re.compile(r"\$\$\{|\$\{(?:([a-z][a-z0-9-]*):([^}]*)\})?")
_ENV = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?::-(.*))?", re.DOTALL)
_ENTRY = re.compile(r"(?!\.)[A-Za-z0-9._-]+")
_BUILT_IN = ("env", "file", "binding")
_EXTRAS = {"aws-secret": "aws", "gcp-secret": "gcp", "azure-secret": "azure", "vault": "vault"}
_LARGEST_FILE = 1024 * 1024


def resolver(folder: Path) -> Resolve:
    """Make what resolves the references of one binding, in a config whose relative paths start at `folder`.

    It asks a secret manager once for each secret, so that several fields of one are of the same version.
    """
    secrets: dict[tuple[str, str], str] = {}

    def resolve(scheme: str, argument: str) -> str:
        if scheme == "env":
            return _from_environment(argument)
        if scheme == "file":
            return _read(folder / argument, f"the file of ${{file:{argument}}}")
        if scheme == "binding":
            return read_binding_entry(*_entry_parts(argument))
        name, field = _secret_parts(scheme, argument)
        if (scheme, name) not in secrets:
            secrets[scheme, name] = _from_adapter(scheme, name)
        secret = secrets[scheme, name]
        return secret if field is None else _field(secret, field, f"${{{scheme}:{argument}}}")

    return resolve


def holds_reference(value: Any) -> bool:
    """Tell whether any string in a value holds a reference."""
    if isinstance(value, str):
        return any(match[1] for match in _REFERENCE.finditer(value))
    if isinstance(value, dict):
        return any(map(holds_reference, value.values()))
    return isinstance(value, list) and any(map(holds_reference, value))


def written_options(text: str) -> dict[str, bool]:
    """Name the options that a URL's query writes itself, each with whether its value holds a reference."""
    plain = _without_references(text)
    start = plain.find("?") + 1
    names = {}
    for option in plain[start:].split("&") if start else ():
        name, _, value = text[start : start + len(option)].partition("=")
        if not holds_reference(name):
            names[unquote_plus(name)] = holds_reference(value)
        start += len(option) + 1
    return names


def resolved(value: Any, resolve: Resolve) -> Any:
    """Give a value of a binding's table with the references in all of its strings resolved.

    Raises:
        ConfigError: one of them cannot be; the message says which, and no value.
    """
    if isinstance(value, str):
        return _REFERENCE.sub(lambda match: _replaced(match, resolve), value)
    if isinstance(value, dict):
        return {name: resolved(inner, resolve) for name, inner in value.items()}
    return [resolved(inner, resolve) for inner in value] if isinstance(value, list) else value


def parse_url(text: str, resolve: Resolve) -> Url:
    """Take a URL apart, with its references resolved.

    What a reference gives may hold any character: within the URL it is percent-encoded, so that a password with an
    `@` stays a password. A reference that starts the URL gives scheme and all, and stands as it is.

    Raises:
        ConfigError: it is not a URL, or a reference cannot be resolved; the message holds no value.
    """
    if "${" not in text:
        return Url.parse(text)
    authority = re.match(r"[^/?]*//([^/?]*)", _without_references(text))
    user_ends = authority.start(1) + authority[1].rfind("@") if authority and "@" in authority[1] else 0

    def written(match: re.Match[str]) -> str:
        value = _replaced(match, resolve)
        return value if match.start() == 0 else quote(value, safe="" if match.start() < user_ends else ":,[]")

    whole = _REFERENCE.sub(written, text)
    if not holds_reference(text):
        return Url.parse(whole)
    shown = redacted_url(text)
    try:
        return msgspec.structs.replace(Url.parse(whole), shown=shown)
    except ConfigError:
        raise ConfigError(f"what the references give makes no URL of {shown}") from None


def redacted(name: str, value: Any, *, known: frozenset[str] | None = None) -> Any:
    """Give an option's value for showing: references as written, and nothing of what is a secret by its name.

    With `known`, the names that are options at all, nothing of any other: it may be a secret that was mistyped.
    """
    return _redacted(name, value, hide=known is not None and name not in known)


def _redacted(name: str, value: Any, *, hide: bool) -> Any:
    if isinstance(value, dict):
        return {inner: _redacted(f"{name}.{inner}", of, hide=hide) for inner, of in value.items()}
    if isinstance(value, list):
        return [_redacted(name, inner, hide=hide) for inner in value]
    hide = hide or is_secret(name)
    if isinstance(value, str):
        return _hidden(value) if hide else redacted_url(value)
    return "***" if hide else value


def redacted_url(text: str, *, known: frozenset[str] | None = None) -> str:
    """Give a URL as written, references included, without its password and the values of its secret options.

    Text that is no URL comes back as it is, but for the passwords in defaults of references. With `known`, the names
    that are options at all, no other option shows its value.
    """
    plain = _without_references(text)
    # To the last @, because a password may hold one that should have been escaped.
    secrets = [match.span(1) for match in re.finditer(r"//[^/?@:]*:(.*)@", plain, re.DOTALL)][:1]
    _, _, query = plain[secrets[0][1] if secrets else 0 :].partition("?")
    start = len(plain) - len(query)
    for option in query.split("&"):
        name, equals, _ = option.partition("=")
        if equals and (is_secret(name) or (known is not None and name not in known)):
            secrets.append((start + len(name) + 1, start + len(option)))
        start += len(option) + 1
    shown, done = "", 0
    for begin, end in secrets:
        shown += _REFERENCE.sub(_without_password, text[done:begin]) + _hidden(text[begin:end])
        done = end
    return shown + _REFERENCE.sub(_without_password, text[done:])


def _without_password(match: re.Match[str]) -> str:
    name, separator, default = match[0].partition(":-")
    return f"{name}:-{redacted_url(default[:-1])}}}" if separator else match[0]


def _hidden(secret: str) -> str:
    """Give a secret for showing: the references that it is made of, else stars."""
    if not secret or _REFERENCE.sub("", secret):
        return secret and "***"
    return _REFERENCE.sub(lambda match: re.sub(r":-.*", ":-***}", match[0], flags=re.DOTALL), secret)


def _without_references(text: str) -> str:
    """Blank the references out, keeping every position."""
    return _REFERENCE.sub(lambda match: "_" * len(match[0]), text)


def _replaced(match: re.Match[str], resolve: Resolve) -> str:
    if match[0] == "$${":
        return "${"
    if match[1] is None:
        raise ConfigError(
            "`${` starts no reference; write ${env:NAME}, ${env:NAME:-default}, ${file:path} or ${binding:name/key}, "
            "or $${ for the characters themselves"
        )
    value = resolve(match[1], match[2])
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ConfigError(f"what the {match[1]} reference gives is not UTF-8")
    return value


def check_reference(scheme: str, argument: str) -> None:
    """Check that a reference is one that is resolved somewhere, without resolving it.

    Raises:
        ConfigError: it is not; the message says how it is written, or which package resolves it.
    """
    if scheme == "env":
        _env_parts(argument)
    elif scheme == "binding":
        _entry_parts(argument)
    elif scheme != "file":
        _secret_parts(scheme, argument)
        _function(scheme)


def _env_parts(argument: str) -> tuple[str, str | None]:
    match = _ENV.fullmatch(argument)
    if match is None:
        raise ConfigError("an env reference is written ${env:NAME} or ${env:NAME:-default}")
    return match[1], match[2]


def _entry_parts(argument: str) -> tuple[str, str]:
    name, _, key = argument.partition("/")
    if not _ENTRY.fullmatch(name) or not _ENTRY.fullmatch(key):
        raise ConfigError("a binding reference is written ${binding:name/key}")
    return name, key


def _secret_parts(scheme: str, argument: str) -> tuple[str, str | None]:
    name, separator, field = argument.partition("#")
    if not name or (separator and not field):
        raise ConfigError(f"a reference to a secret is written ${{{scheme}:NAME}}, or ${{{scheme}:NAME#field}}")
    return name, field or None


def _field(secret: str, field: str, reference: str) -> str:
    try:
        fields = msgspec.json.decode(secret)
    except (msgspec.DecodeError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise ConfigError(f"{reference}: the secret is no JSON object, so it has no fields")
    if field not in fields:
        raise ConfigError(f"{reference}: the secret has no field {field!r}")
    value = fields[field]
    if not isinstance(value, (str, int, float)):
        raise ConfigError(f"{reference}: the field is neither text, nor a number, nor a boolean")
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _from_environment(argument: str) -> str:
    name, default = _env_parts(argument)
    value = os.environ.get(name)
    if default is not None:
        return value or default
    if value is None:
        raise ConfigError(f"the environment has no {name}; set it, or write ${{env:{name}:-default}}")
    return value


def read_binding_entry(name: str, key: str) -> str:
    """Read one entry of a servicebinding.io folder: `$SERVICE_BINDING_ROOT/name/key`.

    Raises:
        ConfigError: there is no such entry.
    """
    root = os.environ.get("SERVICE_BINDING_ROOT")
    if not root:
        raise ConfigError(f"$SERVICE_BINDING_ROOT is not set, so there is no binding {name!r}")
    return _read(Path(root, name, key), f"the entry {key!r} of the binding {name!r} under $SERVICE_BINDING_ROOT")


def read_entry(folder: Path, key: str) -> str:
    """Read one entry of the servicebinding.io folder at `folder`.

    Raises:
        ConfigError: there is no such entry.
    """
    return _read(folder / key, f"the entry {key!r} of the binding {folder.name!r}")


def _read(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1).decode()
    except OSError as error:
        raise ConfigError(f"{what} cannot be read: {error.strerror}") from None
    except ValueError:  # not UTF-8, or a path that no file can have
        raise ConfigError(f"{what} is not UTF-8 text, or no path") from None
    if len(content) > _LARGEST_FILE:
        raise ConfigError(f"{what} is larger than 1 MiB, which is no secret")
    return content.rstrip("\r\n")


def _from_adapter(scheme: str, argument: str) -> str:
    resolve = _function(scheme)
    try:
        return str(resolve.load()(argument))
    except PortableError as error:
        error.message = f"${{{scheme}:{argument}}}: {error.message}"
        raise
    except ModuleNotFoundError as error:
        raise ConfigError(f"${{{scheme}:…}} needs the package {error.name!r}{_install(scheme)}") from error
    except Exception as error:  # whatever a vendor raises; its text may hold what must not be shown
        raise ConfigError(f"${{{scheme}:{argument}}} was not resolved: {type(error).__name__}") from error


def _function(scheme: str) -> EntryPoint:
    from importlib.metadata import entry_points  # noqa: PLC0415 (only references to secret managers need it)

    points = entry_points(group="portable.references")
    if scheme in points.names:
        return points[scheme]
    if scheme in _EXTRAS:
        raise ConfigError(f"no installed package resolves ${{{scheme}:…}}{_install(scheme)}")
    known = {*_BUILT_IN, *_EXTRAS, *points.names}
    raise ConfigError(f"nobody resolves ${{{scheme}:…}}{nearest(scheme, known, write='${{{}:…}}')}")


def _install(scheme: str) -> str:
    return f"; install it with: pip install 'portable-cloud[{_EXTRAS[scheme]}]'" if scheme in _EXTRAS else ""
