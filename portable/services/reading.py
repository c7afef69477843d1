"""A service's folder, read: `service.toml` and what lies beside it, with errors that name the line."""

from __future__ import annotations

import functools
import hashlib
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import inspect

from portable.config.source import Keys, Source, nearest
from portable.errors import ConfigError
from portable.services.manifest import SCHEMA, Manifest

__all__ = ["FILE", "Service", "digest", "read_service"]

FILE = "service.toml"
_LARGEST = 1024 * 1024


class Service(msgspec.Struct, frozen=True):
    """A service of a repository, or the copy of it that an installation keeps.

    Attributes:
        manifest: what its `service.toml` says.
        folder: where that is.
        source: the file's text, for errors that name a line.
        repository: the name of the repository that it is from.
    """

    manifest: Manifest
    folder: Path
    source: Source
    repository: str = "contrib"

    @property
    def name(self) -> str:
        """The service's name."""
        return self.manifest.name

    def template(self, name: str) -> str:
        """Give the template of one of its files.

        Raises:
            ConfigError: it is not there, not text, or lies outside of the service's folder.
        """
        file = self.manifest.files[name]
        if file.text is not None:
            return file.text
        path = self.folder / (file.template or "")
        if not path.resolve().is_relative_to(self.folder.resolve()):
            raise self.source.error(("files", name, "template"), f"{file.template!r} leads out of the service's folder")
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8 text"
            raise self.source.error(("files", name, "template"), f"{file.template!r} cannot be read: {why}") from None


def read_service(folder: Path, *, repository: str = "contrib") -> Service:
    """Read a service's folder.

    Raises:
        ConfigError: there is no `service.toml`, or something in it is not as the schema says.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
        text = content.decode()
        if len(content) > _LARGEST:
            raise ConfigError(f"{path}: larger than 1 MiB, which is no manifest")
        tree = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text (at byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: not TOML: a number is too long, or tables are nested too deep") from None
    source = Source(path, folder, text)
    _check_version(tree, source)
    try:
        manifest = msgspec.convert(tree, Manifest)
    except msgspec.ValidationError as error:
        _explain(tree, source)
        raise ConfigError(f"{path}: {error}") from None
    return Service(manifest, folder, source, repository)


def _check_version(tree: dict[str, Any], source: Source) -> None:
    version = tree.get("schema")
    if isinstance(version, int) and version > SCHEMA:
        raise source.error(
            ("schema",), f"version {version} is newer than this engine ({SCHEMA}); upgrade portable-cloud"
        )


def _explain(tree: dict[str, Any], source: Source) -> None:
    """Raise the first error as people look for it: by its line, its whole key path, and the nearest right key."""
    for keys, message in _faults(tree, _shape(), ()):
        raise source.error(keys, message)


@functools.cache
def _shape() -> inspect.Type:
    return inspect.type_info(Manifest)


def _faults(value: Any, shape: inspect.Type, keys: Keys) -> Iterator[tuple[Keys, str]]:
    match shape, value:
        case inspect.Metadata(), _:
            yield from _faults(value, shape.type, keys)
        case inspect.UnionType(), _:
            for one in shape.types:
                if isinstance(one, inspect.StructType):
                    yield from _faults(value, one, keys)
        case inspect.StructType(), dict():
            yield from _table_faults(value, shape, keys)
        case inspect.DictType(), dict():
            for key, inner in value.items():
                yield from _faults(inner, shape.value_type, (*keys, key))
        case inspect.ListType(), list():
            for number, inner in enumerate(value):
                yield from _faults(inner, shape.item_type, (*keys, str(number)))


def _table_faults(value: dict[str, Any], shape: inspect.StructType, keys: Keys) -> Iterator[tuple[Keys, str]]:
    fields = {field.encode_name: field for field in shape.fields}
    for key, inner in value.items():
        if key not in fields:
            yield (*keys, key), f"no such key{nearest(key, fields)}"
        else:
            yield from _faults(inner, fields[key].type, (*keys, key))
    for name, field in fields.items():
        if field.required and name not in value:
            yield keys, f"the key {name!r} is missing"
    yield from _misfit(value, shape.cls, keys)


def _misfit(value: dict[str, Any], kind: type, keys: Keys) -> Iterator[tuple[Keys, str]]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `")
        inner = path.rstrip("`").lstrip("$").lstrip(".")
        # A key of the table is named by its path, so that the error can point at its line.
        plain = inner.isidentifier() or inner.replace("-", "_").isidentifier()
        yield ((*keys, inner) if plain else keys), message if plain or not inner else f"{message} (at {inner})"


def digest(folder: Path) -> str:
    """Give the SHA-256 of a service's folder: of every file's path, whether it can be run, and content.

    Raises:
        ConfigError: it holds what is no file or folder, such as a link, which could lead out of it.
    """
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*"), key=lambda one: one.relative_to(folder).as_posix()):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise ConfigError(f"{path}: a service's folder holds files and folders only")
        if path.is_file():
            whole.update(f"{name}\0{path.stat().st_mode & 0o100:o}\0".encode())
            whole.update(hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()
